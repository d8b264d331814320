from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumer.client import Consumer
from consumer.errors import (
    DocumentDiffers,
    DocumentMissing,
    Faulted,
    NoAnswer,
    NotAManifest,
    NotWritten,
    Refused,
    UnknownSource,
)
from manifest.fhir import write_fhir
from manifest.kos import Manifest
from manifest.mado import write_mado
from metadata.catalogue import RegistryError
from metadata.datatypes import OID
from metadata.identifiers import APND, DEPRECATED, EMPTY_SHA1, ERROR, RPLC, WARNING
from metadata.model import DocumentEntry, Folder
from soap.client import SoapClient
from transactions.iti_43 import DocumentRequest
from transactions.query_decoding import DecodedQuery, decode

Peer = Any  # defined in conftest.py, which importlib mode cannot import by name
EntryOf = Callable[[str, bytes], DocumentEntry]
PATIENT = "MRN-1^^^&1.2.3.4&ISO"
AN_ERROR = RegistryError("XDSRegistryError", "patient MRN-1", ERROR)


def meaning(peer: Peer) -> DecodedQuery:
    """What the last query asked for."""
    query = decode(peer.queries[-1])
    assert isinstance(query, DecodedQuery)
    return query


def test_documents_are_found_by_patient_and_filters(
    peer: Peer, consumer: Consumer, entry_of: EntryOf
) -> None:
    peer.entries = [entry_of("1.2.3", b"x")]
    (found,) = consumer.find_documents(PATIENT, creation_time_from="2026")
    assert found.unique_id == "1.2.3"
    assert meaning(peer).patient_id == PATIENT
    assert meaning(peer).time("creation_time_from") == "2026"


def test_documents_are_found_by_reference(peer: Peer, consumer: Consumer) -> None:
    assert (
        consumer.find_by_reference(PATIENT, ["1.2.3^^^^urn:ihe:iti:xds:2016:studyInstanceUID"])
        == []
    )
    assert meaning(peer).query.name == "FindDocumentsByReferenceId"


def test_documents_are_got_by_their_ids(peer: Peer, consumer: Consumer, entry_of: EntryOf) -> None:
    peer.entries = [entry_of("1.2.3", b"x")]
    assert len(consumer.get_documents(unique_id=["1.2.3"], home="urn:oid:1.9")) == 1
    assert meaning(peer).texts("unique_id") == ("1.2.3",)
    assert meaning(peer).home == "urn:oid:1.9"


def test_folders_are_found_by_patient_and_filters(peer: Peer, consumer: Consumer) -> None:
    peer.folders = [Folder("urn:uuid:f", unique_id="1.2.3")]
    peer.errors = [AN_ERROR]
    found = consumer.find_folders(PATIENT, last_update_time_from="2026")
    assert [folder.unique_id for folder in found] == ["1.2.3"]
    assert found.errors == (AN_ERROR,)
    assert meaning(peer).query.name == "FindFolders"
    assert meaning(peer).time("last_update_time_from") == "2026"


def test_everything_of_a_patient_is_had_at_once(
    peer: Peer, consumer: Consumer, entry_of: EntryOf
) -> None:
    peer.entries, peer.folders = [entry_of("1.2.3", b"x")], [Folder("urn:uuid:f")]
    found = consumer.get_all(PATIENT, folder_status=[DEPRECATED])
    assert (len(found.objects.documents), len(found.objects.folders)) == (1, 1)
    assert found.errors == ()
    assert meaning(peer).query.name == "GetAll"
    assert meaning(peer).texts("folder_status") == (DEPRECATED,)


def test_related_documents_are_the_others(
    peer: Peer, consumer: Consumer, entry_of: EntryOf
) -> None:
    start, other = (
        entry_of("1.2.3", b"x"),
        replace(entry_of("1.2.4", b"y"), entry_uuid="urn:uuid:y"),
    )
    start = replace(start, home_community_id="urn:oid:1.9")
    peer.entries = [start, other]
    assert [one.unique_id for one in consumer.related_documents(start)] == ["1.2.4"]
    assert meaning(peer).texts("entry_uuid") == (start.entry_uuid,)
    assert RPLC in meaning(peer).texts("association_types")
    assert meaning(peer).home == "urn:oid:1.9"
    consumer.related_documents(start, [APND])
    assert meaning(peer).texts("association_types") == (APND,)


def test_errors_beside_results_are_kept(peer: Peer, consumer: Consumer, entry_of: EntryOf) -> None:
    peer.entries = [entry_of("1.2.3", b"x")]
    peer.errors = [AN_ERROR]
    found = consumer.find_documents(PATIENT)
    assert len(found) == 1
    assert found.errors == (AN_ERROR,)


def test_a_refused_query_raises_with_the_registrys_errors_and_no_patient_in_its_text(
    peer: Peer, consumer: Consumer
) -> None:
    peer.errors = [AN_ERROR]
    with pytest.raises(Refused, match=r"^ITI-18 was refused: XDSRegistryError$") as caught:
        consumer.find_documents(PATIENT)
    assert caught.value.errors == (AN_ERROR,)


def test_a_document_is_fetched_and_checked(
    peer: Peer, consumer: Consumer, entry_of: EntryOf
) -> None:
    peer.documents["1.2.3"] = b"content"
    assert consumer.fetch_document(entry_of("1.2.3", b"content")) == b"content"


def test_a_document_is_saved_in_place_of_another(
    peer: Peer, consumer: Consumer, entry_of: EntryOf, tmp_path: Path
) -> None:
    content = b"content" * 300_000
    peer.documents["1.2.3"] = content
    target = tmp_path / "document"
    target.write_bytes(b"old")
    assert consumer.save_document(entry_of("1.2.3", content), target) == target
    assert target.read_bytes() == content
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("attribute", ["size", "hash"])
def test_a_damaged_document_is_neither_returned_nor_saved(
    attribute: str, peer: Peer, consumer: Consumer, entry_of: EntryOf, tmp_path: Path
) -> None:
    peer.documents["1.2.3"] = b"content!" if attribute == "size" else b"Content"
    entry = entry_of("1.2.3", b"content")
    with pytest.raises(DocumentDiffers, match=attribute) as caught:
        consumer.fetch_document(entry)
    assert caught.value.attribute == attribute
    with pytest.raises(DocumentDiffers):
        consumer.save_document(entry, tmp_path / "document")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("hash_", "size"), [(None, None), (EMPTY_SHA1, "0")])
def test_documents_made_on_demand_have_nothing_to_check(
    hash_: str | None, size: str | None, peer: Peer, consumer: Consumer, entry_of: EntryOf
) -> None:
    peer.documents["1.2.3"] = b"made now"
    entry = replace(entry_of("1.2.3", b""), hash=hash_, size=size)
    assert consumer.fetch_document(entry) == b"made now"


def test_a_document_the_repository_refuses_raises_its_errors(
    peer: Peer, consumer: Consumer, entry_of: EntryOf
) -> None:
    peer.errors = [RegistryError("XDSDocumentUniqueIdError", "unknown", ERROR, "1.2.3")]
    with pytest.raises(Refused, match="ITI-43 was refused: XDSDocumentUniqueIdError"):
        consumer.fetch_document(entry_of("1.2.3", b"x"))


def test_a_success_without_the_document_is_an_error(consumer: Consumer, entry_of: EntryOf) -> None:
    with pytest.raises(DocumentMissing, match=r"1\.2\.3"):
        consumer.fetch_document(entry_of("1.2.3", b"x"))


def test_documents_nobody_asked_for_are_thrown_away(
    peer: Peer,
    consumer: Consumer,
    entry_of: EntryOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer.documents = {"1.2.3": b"x", "1.2.4": b"y"}
    others = tuple(DocumentRequest("1.2.3.100", uid) for uid in ("1.2.4", "1.2.3", "1.2.3"))
    hand_over = peer.hand_over
    monkeypatch.setattr(peer, "hand_over", lambda _requests: hand_over(others))
    consumer.save_document(entry_of("1.2.3", b"x"), tmp_path / "document")
    assert [path.name for path in tmp_path.iterdir()] == ["document"]


def test_a_warning_does_not_hide_the_document(
    peer: Peer, consumer: Consumer, entry_of: EntryOf
) -> None:
    peer.documents["1.2.3"] = b"x"
    peer.errors = [RegistryError("XDSRepositoryError", "slow", WARNING, "1.2.3")]
    assert consumer.fetch_document(entry_of("1.2.3", b"x")) == b"x"


def test_an_unknown_repository_is_named(consumer: Consumer, entry_of: EntryOf) -> None:
    entry = replace(entry_of("1.2.3", b"x"), repository_unique_id=OID("1.2.999"))
    with pytest.raises(UnknownSource, match=r"repository 1\.2\.999"):
        consumer.fetch_document(entry)


def test_a_folder_that_is_not_there_is_named(
    peer: Peer, consumer: Consumer, entry_of: EntryOf, tmp_path: Path
) -> None:
    peer.documents["1.2.3"] = b"x"
    with pytest.raises(NotWritten, match="nowhere"):
        consumer.save_document(entry_of("1.2.3", b"x"), tmp_path / "nowhere" / "document")


def test_an_unreachable_registry_gives_no_answer(client: SoapClient) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, so that nobody listens there
        consumer = Consumer(f"http://127.0.0.1:{closed.getsockname()[1]}", {}, client=client)
        with pytest.raises(NoAnswer, match="ITI-18"):
            consumer.find_documents(PATIENT)


def test_a_soap_fault_is_told_apart(peer: Peer, consumer: Consumer) -> None:
    peer.entries = ["not an entry"]  # the handler breaks, the server answers with a fault
    with pytest.raises(Faulted, match="Receiver"):
        consumer.find_documents(PATIENT)


def test_a_manifest_is_opened(
    peer: Peer, consumer: Consumer, entry_of: EntryOf, study: Manifest, kos: bytes
) -> None:
    peer.documents[study.sop_instance_uid] = kos
    opened = consumer.open_manifest(entry_of(study.sop_instance_uid, kos))
    assert opened.series == study.series
    assert opened.study_instance_uid == study.study_instance_uid


@pytest.mark.parametrize("write", [write_mado, write_fhir])
def test_a_manifest_of_another_family_is_opened_and_its_images_fetched(
    peer: Peer,
    consumer: Consumer,
    entry_of: EntryOf,
    study: Manifest,
    tmp_path: Path,
    write: Callable[[Manifest], bytes],
) -> None:
    data = write(study)
    peer.documents[study.sop_instance_uid] = data

    opened = consumer.open_manifest(entry_of(study.sop_instance_uid, data))
    report = consumer.fetch_images(opened, tmp_path)

    assert report.complete
    assert len(report.fetched) == study.instance_count


def test_another_document_is_no_manifest(peer: Peer, consumer: Consumer, entry_of: EntryOf) -> None:
    peer.documents["1.2.3"] = b"%PDF"
    with pytest.raises(NotAManifest, match=r"1\.2\.3"):
        consumer.open_manifest(entry_of("1.2.3", b"%PDF"))
