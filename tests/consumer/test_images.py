from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumer import crew, journal, soap_way
from consumer.client import Consumer
from consumer.errors import Faulted, NotWritten, UnknownSource
from consumer.report import Fault, Progress
from manifest.kos import Manifest, ManifestInstance, ManifestSeries
from metadata.catalogue import RegistryError
from metadata.identifiers import ERROR, WARNING
from metadata.model import DocumentEntry
from soap.faults import RECEIVER, SoapFault
from soap.message import InMemory
from transactions.iti_43 import DocumentRequest, RetrievedDocument, RetrieveDocumentSetResponse
from transactions.rad_69 import RetrieveImagingDocumentSetRequest

Peer = Any  # defined in conftest.py, which importlib mode cannot import by name
CT = "1.2.840.10008.5.1.4.1.1.2"


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != journal.NAME
    }


def all_targets(manifest: Manifest) -> set[str]:
    return {
        f"{manifest.study_instance_uid}/{series.series_instance_uid}/{one.sop_instance_uid}.dcm"
        for series in manifest.series
        for one in series.instances
    }


def uids(peer: Peer) -> list[list[str]]:
    """The instances asked for, call by call."""
    return [[one.document_unique_id for one in call.documents()] for call in peer.retrievals]


def test_every_image_lands_in_its_place_byte_for_byte(
    peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    report = consumer.fetch_images(study, tmp_path / "new" / "images")
    assert report.complete
    assert files(tmp_path / "new" / "images") == all_targets(study)
    assert len(report.fetched) == 6
    assert all(path.read_bytes() == peer.documents[path.stem] for path in report.fetched)
    assert report.bytes == sum(map(len, peer.documents.values()))
    assert report.seconds > 0
    assert (report.present, report.missing, report.unexpected, report.errors) == ((), (), (), ())


def test_the_request_names_every_series_and_what_the_consumer_can_read(
    peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    consumer.fetch_images(
        study, tmp_path, transfer_syntaxes=["1.2.840.10008.1.2.1"], home="urn:oid:1"
    )
    (request,) = peer.retrievals
    assert request.transfer_syntaxes == ("1.2.840.10008.1.2.1",)
    (asked,) = request.studies
    assert asked.study_instance_uid == study.study_instance_uid
    assert [one.series_instance_uid for one in asked.series] == [
        one.series_instance_uid for one in study.series
    ]
    assert asked.series[0].documents[0] == DocumentRequest("1.2.3.200", "1.2.3.4.1.1", "urn:oid:1")


def test_progress_is_told_image_by_image(
    consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    told: list[Progress] = []
    report = consumer.fetch_images(study, tmp_path, progress=told.append)
    assert [(one.instances, one.total) for one in told] == [(n, 6) for n in range(1, 7)]
    assert told[-1].bytes == report.bytes


def test_a_large_study_is_asked_for_in_batches(
    peer: Peer,
    consumer: Consumer,
    study: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(soap_way, "BATCH", 4)
    monkeypatch.setattr(crew, "PARALLEL", 1)
    assert consumer.fetch_images(study, tmp_path).complete
    assert [len(call) for call in uids(peer)] == [4, 2]
    assert [len(call.studies[0].series) for call in peer.retrievals] == [2, 1]


def test_what_is_there_already_is_not_fetched_again(
    peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    first = peer.documents.pop("1.2.3.4.1.2")
    assert not consumer.fetch_images(study, tmp_path).complete
    peer.documents["1.2.3.4.1.2"] = first
    report = consumer.fetch_images(study, tmp_path)
    assert report.complete
    assert uids(peer)[1] == ["1.2.3.4.1.2"]
    assert [path.stem for path in report.fetched] == ["1.2.3.4.1.2"]
    assert len(report.present) == 5
    assert consumer.fetch_images(study, tmp_path).fetched == ()
    assert len(peer.retrievals) == 2


def test_what_is_missing_is_reported_with_the_sources_reason(
    peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    for uid in ("1.2.3.4.1.1", "1.2.3.4.1.2", "1.2.3.4.2.3"):
        del peer.documents[uid]
    located = RegistryError("XDSDocumentUniqueIdError", "unknown", ERROR, "1.2.3.4.1.1")
    gateway = RegistryError("XDSRepositoryError", "no 1.2.3.4.1.2 here", ERROR, "urn:oid:1.9")
    warning = RegistryError("XDSRepositoryError", "slow", WARNING, "1.2.3.4.2.3")
    peer.errors = [located, gateway, warning]
    report = consumer.fetch_images(study, tmp_path)
    assert not report.complete
    assert [(one.sop_instance_uid, one.reason, one.error) for one in report.missing] == [
        ("1.2.3.4.1.1", "XDSDocumentUniqueIdError", located),
        ("1.2.3.4.1.2", "XDSRepositoryError", gateway),
        ("1.2.3.4.2.3", "the source did not send it", None),
    ]
    assert report.missing[0].series_instance_uid == "1.2.3.4.1"
    assert report.errors == (located, gateway, warning)
    assert len(report.fetched) == 3


def test_what_nobody_asked_for_is_reported_and_thrown_away(
    peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path, part10: Callable[..., bytes]
) -> None:
    def generous(request: RetrieveImagingDocumentSetRequest) -> RetrieveDocumentSetResponse:
        response: RetrieveDocumentSetResponse = peer.hand_over(tuple(request.documents()))
        extra = RetrievedDocument(
            DocumentRequest("1.2.3.200", "1.2.666"),
            "application/dicom",
            InMemory(part10("1.2.666")),
        )
        return replace(response, documents=(extra, *response.documents, response.documents[0]))

    peer.answer_images = generous
    report = consumer.fetch_images(study, tmp_path)
    assert report.complete
    assert report.unexpected == ("1.2.666", "1.2.3.4.1.1")
    assert files(tmp_path) == all_targets(study)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM\x08\0\x05\0CS\x02\0ab"],
)
def test_what_is_not_the_dicom_instance_asked_for_is_not_kept(
    content: bytes, peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    peer.documents["1.2.3.4.1.1"] = content
    report = consumer.fetch_images(study, tmp_path)
    (missing,) = report.missing
    assert missing.sop_instance_uid == "1.2.3.4.1.1"
    assert missing.fault in (Fault.NOT_DICOM, Fault.TRUNCATED)
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize(
    "uid", ["..", ".", "", "../../etc/passwd", "1.2/3", "...", ".1", "1" * 65, "1.2\n", "é"]
)
def test_a_manifest_cannot_name_files_outside_the_folder(
    uid: str, peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    bad_instance = ManifestSeries(
        series_instance_uid="1.2.3.4.9",
        retrieve_location_uid="1.2.3.200",
        instances=(ManifestInstance(CT, uid),),
    )
    bad_series = replace(study.series[0], series_instance_uid=uid)
    manifest = replace(study, series=(bad_instance, bad_series, study.series[1]))
    report = consumer.fetch_images(manifest, tmp_path / "images")
    assert len(report.missing) == 4
    assert {one.reason for one in report.missing} == {"the manifest names it by an invalid UID"}
    assert len(report.fetched) == 3
    assert files(tmp_path) == {f"images/1.2.3.4/1.2.3.4.2/1.2.3.4.2.{n}.dcm" for n in (1, 2, 3)}


def test_a_study_with_an_invalid_uid_asks_nobody(
    peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    manifest = replace(study, study=replace(study.study, study_instance_uid=".."))
    report = consumer.fetch_images(manifest, tmp_path / "images")
    assert len(report.missing) == 6
    assert peer.retrievals == []
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("uid", ["1.2.3.", "1..2", "1.02"])
def test_a_uid_with_a_dot_or_a_zero_too_many_is_fetched_all_the_same(
    uid: str,
    peer: Peer,
    consumer: Consumer,
    study: Manifest,
    tmp_path: Path,
    part10: Callable[..., bytes],
) -> None:
    for one in study.series[0].instances:
        peer.documents[one.sop_instance_uid] = part10(one.sop_instance_uid, series=uid)
    wanted = replace(study.series[0], series_instance_uid=uid)

    report = consumer.fetch_images(replace(study, series=(wanted,)), tmp_path / "images")

    assert report.complete
    assert all(path.parent.name == uid for path in report.fetched)


def test_an_instance_listed_twice_is_fetched_once(
    peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    manifest = replace(study, series=(study.series[0], study.series[0]))
    report = consumer.fetch_images(manifest, tmp_path)
    assert report.complete
    assert [len(call) for call in uids(peer)] == [3]


def test_a_source_without_address_spoils_only_its_own_images(
    consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    elsewhere = replace(study.series[0], retrieve_location_uid="1.2.999")
    unsaid = ManifestSeries(
        series_instance_uid="1.2.3.4.3", instances=(ManifestInstance(CT, "1.2.3.4.3.1"),)
    )
    manifest = replace(study, series=(elsewhere, unsaid, study.series[1]))
    report = consumer.fetch_images(manifest, tmp_path)
    assert len(report.fetched) == 3
    assert len(report.missing) == 4
    assert {one.reason for one in report.missing} == {
        "no address is configured for the imaging source 1.2.999",
        "no address is configured for the imaging source (unnamed)",
    }
    assert all(isinstance(failure, UnknownSource) for failure in report.failures)


def test_a_call_that_fails_is_reported_and_the_next_run_goes_on_from_there(
    peer: Peer,
    consumer: Consumer,
    study: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(soap_way, "BATCH", 2)
    monkeypatch.setattr(crew, "PARALLEL", 1)

    def tired(request: RetrieveImagingDocumentSetRequest) -> RetrieveDocumentSetResponse:
        if len(peer.retrievals) == 2:
            raise SoapFault(RECEIVER, "busy", status=503)
        response: RetrieveDocumentSetResponse = peer.hand_over(tuple(request.documents()))
        return response

    peer.answer_images = tired
    report = consumer.fetch_images(study, tmp_path)
    assert len(report.fetched) == 2
    assert len(report.missing) == 4
    (failure,) = report.failures
    assert isinstance(failure, Faulted)
    assert len(peer.retrievals) == 2
    assert consumer.fetch_images(study, tmp_path).complete
    assert files(tmp_path) == all_targets(study)


@pytest.mark.parametrize(("blocked", "fetched"), [("1.2.3.4.1", 0), ("1.2.3.4.2", 3)])
def test_a_disk_that_cannot_be_written_is_not_blamed_on_the_source(
    blocked: str, fetched: int, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    series = tmp_path / "1.2.3.4" / blocked
    series.parent.mkdir()
    series.write_bytes(b"a file where a folder should be")
    report = consumer.fetch_images(study, tmp_path)
    (failure,) = report.failures
    assert isinstance(failure, NotWritten)
    assert len(report.fetched) == fetched
    assert len(report.missing) == 6 - fetched


def test_an_instance_in_two_series_is_fetched_for_the_first(
    consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    doubled = replace(study.series[1], instances=study.series[0].instances)
    report = consumer.fetch_images(replace(study, series=(study.series[0], doubled)), tmp_path)
    assert len(report.fetched) == 3
    assert [(one.series_instance_uid, one.reason) for one in report.missing] == [
        ("1.2.3.4.2", "the manifest lists it in series 1.2.3.4.1 too")
    ] * 3


def test_a_doubled_instance_is_missing_twice_when_its_source_is_unknown(
    consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    first = replace(study.series[0], retrieve_location_uid="1.2.999")
    doubled = replace(first, series_instance_uid="1.2.3.4.3")
    report = consumer.fetch_images(replace(study, series=(first, doubled)), tmp_path)
    assert len(report.missing) == 6
    assert report.fetched == ()


def test_nothing_remains_of_what_was_on_its_way(
    peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    peer.documents["1.2.3.4.1.1"] = b"not DICOM"
    consumer.fetch_images(study, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.3.4"]


def test_the_example_of_the_documentation_runs(
    peer: Peer,
    consumer: Consumer,
    kos: bytes,
    entry_of: Callable[[str, bytes], DocumentEntry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = Path(__file__).parents[2] / "docs" / "consumer.md"
    example = page.read_text().split("```python\n")[1].split("```")[0]
    peer.entries = [entry_of("1.2.3.9", kos)]
    peer.documents["1.2.3.9"] = kos
    del peer.documents["1.2.3.4.1.2"]
    names = {"consumer": consumer, "patient_id": "MRN-1^^^&1.2.3.4&ISO", "folder": tmp_path}
    exec(example, names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith("1.2.3.4.1.2 not-sent")
