"""A source may lie in every way that a source can: nothing false is ever taken for complete."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumer.client import Consumer
from consumer.files import Allowance
from consumer.report import Fault, Incomplete
from consumer.ways import WayName
from manifest.kos import Manifest

# importlib mode cannot import a neighbour by name.
_SPEC = importlib.util.spec_from_file_location("liar", Path(__file__).with_name("liar.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
liar = importlib.util.module_from_spec(_SPEC)
sys.modules["liar"] = liar
_SPEC.loader.exec_module(liar)

UID = "1.2.3.4.1.1"
SOURCE = "1.2.3.200"
Part10 = Callable[..., bytes]
Peer = Any  # defined in conftest.py


@pytest.fixture
def one(study: Manifest) -> Manifest:
    """A manifest of one instance."""
    series = replace(study.series[0], instances=study.series[0].instances[:1])
    return replace(study, series=(series,))


def web(consumer: Consumer, base: str, **changes: Any) -> Consumer:
    return replace(consumer, dicomweb={SOURCE: base}, ways=(WayName.WADO,), **changes)


def lies(part10: Part10) -> dict[str, tuple[Any, Fault]]:
    right = part10(UID)
    return {
        "another instance": (liar.Answered(body=part10("1.2.3.4.1.9")), Fault.WRONG_INSTANCE),
        "another's head": (liar.Answered(body=part10(UID, meta="1.2.9")), Fault.WRONG_INSTANCE),
        "another study": (liar.Answered(body=part10(UID, study="1.2.9")), Fault.WRONG_STUDY),
        "another series": (liar.Answered(body=part10(UID, series="1.2.9")), Fault.WRONG_SERIES),
        "another class": (liar.Answered(body=part10(UID, sop_class="1.2.9")), Fault.WRONG_CLASS),
        "another syntax": (liar.Answered(body=part10(UID, syntax="1.2.9")), Fault.WRONG_SYNTAX),
        "truncated": (liar.Answered(body=right[:-100]), Fault.TRUNCATED),
        "truncated part": (liar.related(liar.multipart(right[:-100])), Fault.TRUNCATED),
        "broken off": (liar.Answered(body=right, cut=300), Fault.BROKEN_ANSWER),
        "no part": (liar.related(b"--b0--\r\n"), Fault.BROKEN_ANSWER),
        "wrong boundary": (liar.related(liar.multipart(right, boundary="x")), Fault.BROKEN_ANSWER),
        "no end": (liar.related(liar.multipart(right)[:-8]), Fault.BROKEN_ANSWER),
        "a page": (liar.Answered(content_type="text/html", body=right), Fault.BROKEN_ANSWER),
        "no DICOM": (liar.Answered(body=b"x" * 1000), Fault.NOT_DICOM),
        "nothing": (liar.Answered(), Fault.NOT_DICOM),
        "not there": (liar.Answered(404), Fault.REFUSED),
        "elsewhere": (
            liar.Answered(302, headers={"Location": "http://127.0.0.1:9/"}),
            Fault.REDIRECTED,
        ),
        "range unasked": (
            liar.Answered(206, body=right[9:], headers={"Content-Range": "bytes 9-1/2"}),
            Fault.BROKEN_ANSWER,
        ),
        "endless": (liar.Answered(endless=True), Fault.TOO_LARGE),
    }


@pytest.mark.parametrize("name", lies(lambda *_args, **_more: b""))
def test_a_lie_is_named_and_nothing_false_is_kept(
    name: str, consumer: Consumer, one: Manifest, tmp_path: Path, part10: Part10
) -> None:
    answered, fault = lies(part10)[name]
    with liar.serving(liar.Liar(lambda _path, _headers: answered)) as base:
        asking = web(consumer, base, allowance=Allowance(most_bytes=1_000_000))
        report = asking.fetch_images(one, tmp_path)
        with pytest.raises(Incomplete):
            list(asking.instances(one, tmp_path))
    assert not report.complete
    assert [missing.fault for missing in report.missing] == [fault]
    assert list(tmp_path.rglob("*.dcm")) == []


def test_a_source_that_drips_is_left(consumer: Consumer, one: Manifest, tmp_path: Path) -> None:
    stopped = threading.Event()
    answered = liar.Answered(endless=True, pause=stopped)
    try:
        with liar.serving(liar.Liar(lambda _path, _headers: answered)) as base:
            slow = Allowance(grace=0.1)
            report = web(consumer, base, allowance=slow).fetch_images(one, tmp_path)
    finally:
        stopped.set()
    assert [missing.fault for missing in report.missing] == [Fault.TOO_SLOW]


def test_what_comes_twice_is_kept_once_and_told(
    consumer: Consumer, one: Manifest, tmp_path: Path, part10: Part10
) -> None:
    answered = liar.related(liar.multipart(part10(UID), part10(UID)))
    with liar.serving(liar.Liar(lambda _path, _headers: answered)) as base:
        report = web(consumer, base).fetch_images(one, tmp_path)
    assert report.complete
    assert report.unexpected == (UID,)


def test_a_half_file_is_continued_by_a_range(
    consumer: Consumer, one: Manifest, tmp_path: Path, part10: Part10
) -> None:
    whole = part10(UID, size=100_000)

    def breaking(_path: str, headers: dict[str, str]) -> Any:
        told = {"ETag": '"1"', "Accept-Ranges": "bytes"}
        if "range" not in headers:
            return liar.Answered(body=whole, headers=told, cut=70_000)
        assert headers["if-range"] == '"1"'
        start = int(headers["range"].removeprefix("bytes=").removesuffix("-"))
        told["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        return liar.Answered(206, body=whole[start:], headers=told)

    server = liar.Liar(breaking)
    with liar.serving(server) as base:
        report = web(consumer, base).fetch_images(one, tmp_path)
    assert report.complete
    assert report.fetched[0].read_bytes() == whole
    assert len(server.requests) == 2
    assert [path for path in tmp_path.rglob(".*") if path.name.endswith((".part", ".etag"))] == []


def test_a_half_file_of_what_has_changed_is_fetched_anew(
    consumer: Consumer, one: Manifest, tmp_path: Path, part10: Part10
) -> None:
    whole = part10(UID, size=100_000)
    answers = iter(
        [
            liar.Answered(
                body=whole,
                headers={"ETag": f'"{number}"', "Accept-Ranges": "bytes"},
                cut=50_000 if number == 1 else None,
            )
            for number in (1, 2)
        ]
    )
    server = liar.Liar(lambda _path, _headers: next(answers))
    with liar.serving(server) as base:
        report = web(consumer, base).fetch_images(one, tmp_path)
    assert report.complete
    assert report.fetched[0].read_bytes() == whole


def test_what_one_way_does_not_bring_another_does(
    peer: Peer, consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    good = dict(peer.documents)
    del peer.documents[UID]

    def honest(path: str, _headers: dict[str, str]) -> Any:
        return liar.Answered(body=good[path.rpartition("/")[2]])

    server = liar.Liar(honest)
    with liar.serving(server) as base:
        report = replace(consumer, dicomweb={SOURCE: base}).fetch_images(study, tmp_path)
    assert report.complete
    assert report.ways == {"rad69": 5, "wado": 1}
    assert len(server.requests) == 1


def test_the_retrieve_url_of_the_manifest_is_the_address_where_none_is_configured(
    consumer: Consumer, one: Manifest, tmp_path: Path, part10: Part10
) -> None:
    paths: list[str] = []

    def honest(path: str, _headers: dict[str, str]) -> Any:
        paths.append(path)
        return liar.Answered(body=part10(UID))

    with liar.serving(liar.Liar(honest)) as base:
        series = replace(one.series[0], retrieve_url=f"{base}/rs/studies/1/series/2")
        alone = replace(consumer, imaging_sources={})
        report = alone.fetch_images(replace(one, series=(series,)), tmp_path)
    assert report.complete
    assert paths == [f"/rs/studies/1/series/2/instances/{UID}"]


def test_a_manifest_does_not_choose_whom_we_call(
    consumer: Consumer, one: Manifest, tmp_path: Path, part10: Part10
) -> None:
    stranger = liar.Liar(lambda _path, _headers: liar.Answered(body=part10(UID)))
    with liar.serving(stranger) as base:
        elsewhere = base.replace("127.0.0.1", "localhost")
        series = replace(one.series[0], retrieve_url=f"{elsewhere}/rs/studies/1/series/2")
        alone = replace(consumer, imaging_sources={})
        report = alone.fetch_images(replace(one, series=(series,)), tmp_path)
    assert [missing.fault for missing in report.missing] == [Fault.NO_ADDRESS]
    assert stranger.requests == []


def test_instances_are_yielded_as_they_arrive_and_the_source_waits(
    consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    arriving = consumer.instances(study, tmp_path)
    first = next(arriving)
    assert first.path.exists()
    rest = list(arriving)
    assert len(rest) == 5
    assert list(consumer.instances(study, tmp_path)) == []


def test_whoever_stops_taking_stops_the_fetch(
    consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    arriving = consumer.instances(study, tmp_path)
    next(arriving)
    arriving.close()  # type: ignore[attr-defined]
    assert list(tmp_path.glob(".incoming-*")) == []
    assert consumer.fetch_images(study, tmp_path).complete


def test_a_file_that_was_damaged_on_disk_is_fetched_again(
    consumer: Consumer, study: Manifest, tmp_path: Path
) -> None:
    damaged = consumer.fetch_images(study, tmp_path).fetched[0]
    damaged.write_bytes(damaged.read_bytes()[:-10])
    report = consumer.fetch_images(study, tmp_path)
    assert report.fetched == (damaged,)
    assert len(report.present) == 5
