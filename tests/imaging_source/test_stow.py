"""STOW-RS: files in by HTTP, as durable as by C-STORE; each one's fate is told."""

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import urllib3
from lxml import etree
from pydicom.dataset import Dataset
from pydicom.uid import UID
from sqlalchemy import Table, select
from urllib3.response import BaseHTTPResponse

from imaging_source.dicomweb.paths import Retrieval, Scope, resource
from imaging_source.handover import DistantIntake, IndexDoor
from imaging_source.intake import Intake
from imaging_source.schema import INSTANCE, QUARANTINE
from imaging_source.stow import Stow
from soap.limits import MIB, Limits
from soap.server import running_server
from storage.blobs import BlobStore
from storage.database import Database

Make = Callable[..., Dataset]
BOUNDARY = "part-of-the-body"


@pytest.fixture
def door(intake: Intake, tmp_path: Path) -> Iterator[Path]:
    with IndexDoor(intake, tmp_path / "run"):
        yield tmp_path / "run"


@pytest.fixture
def url(blobs: BlobStore, door: Path) -> Iterator[str]:
    with ThreadPoolExecutor(4) as pool:
        stow = Stow(DistantIntake(blobs, door), pool, Limits(message=64 * MIB, idle=5.0))
        with running_server(stow) as base:
            yield f"{base}/dicomweb/studies"


def part10(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def body(*files: bytes, media: str = "application/dicom") -> bytes:
    parts = [
        f"--{BOUNDARY}\r\nContent-Type: {media}\r\n\r\n".encode() + one + b"\r\n" for one in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def post(url: str, data: Any, **headers: str) -> BaseHTTPResponse:
    media = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    given = {"content-type": media} | {key.replace("_", "-"): v for key, v in headers.items()}
    return urllib3.request("POST", url, body=data, headers=given, retries=False, timeout=30.0)


def uids(answer: dict[str, Any], sequence: str) -> list[str]:
    items = answer.get(sequence, {}).get("Value", [])
    return [item["00081155"]["Value"][0] for item in items]


def reasons(answer: dict[str, Any], sequence: str = "00081198") -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer[sequence]["Value"]]


def rows(database: Database, table: Table) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def peak_memory() -> int:
    """Bytes of this process that were resident at most."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) * 1024


def test_files_are_stored_and_each_is_named_in_the_answer(
    url: str, make_instance: Make, database: Database, blobs: BlobStore
) -> None:
    files = [make_instance(InstanceNumber=number) for number in range(3)]

    answer = post(url, body(*map(part10, files)))

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    data = json.loads(answer.data)
    assert uids(data, "00081199") == [one.SOPInstanceUID for one in files]
    study = files[0].StudyInstanceUID
    assert data["00081190"]["Value"][0].endswith(f"/dicomweb/studies/{study}")
    for one, item in zip(files, data["00081199"]["Value"], strict=True):
        (path,) = item["00081190"]["Value"]
        whole = Scope(study, one.SeriesInstanceUID, one.SOPInstanceUID)
        assert resource(path.partition("/dicomweb")[2]) == Retrieval(whole, "")
    found = rows(database, INSTANCE)
    assert {row["sop_instance_uid"] for row in found} == set(uids(data, "00081199"))
    assert all(blobs.open(row["sha256"]).size == row["size"] for row in found)


def test_the_bytes_are_those_that_c_store_would_have_kept(
    url: str, make_instance: Make, store: Callable[..., int], database: Database
) -> None:
    instance = make_instance()
    store(instance)

    assert post(url, body(part10(instance))).status == 200

    assert len(rows(database, INSTANCE)) == 1
    assert rows(database, QUARANTINE) == []


@pytest.mark.parametrize("magic", [b"MZ\x90\0", b"\x7fELF", b"%PDF-1.7", b"#!/bin/sh\n"])
def test_a_program_in_the_preamble_is_not_kept(
    url: str, make_instance: Make, database: Database, blobs: BlobStore, magic: bytes
) -> None:
    file = part10(make_instance())

    assert post(url, body(magic.ljust(128, b"x") + file[128:])).status == 200

    (row,) = rows(database, INSTANCE)
    kept = b"".join(blobs.open(row["sha256"]).chunks())
    assert kept[:132] == bytes(128) + b"DICM"


def test_some_stored_is_202_and_what_is_not_has_its_reason(url: str, make_instance: Make) -> None:
    kept, first = make_instance(), make_instance()
    other = make_instance(SOPInstanceUID=first.SOPInstanceUID, PixelData=b"other bytes!")
    stranger = make_instance(PatientID="P2")

    assert post(url, body(part10(first))).status == 200
    answer = post(url, body(*map(part10, (kept, other, stranger)), b"no DICOM at all"))

    data = json.loads(answer.data)
    assert answer.status == 202
    assert uids(data, "00081199") == [kept.SOPInstanceUID]
    assert uids(data, "00081198") == [first.SOPInstanceUID, stranger.SOPInstanceUID]
    assert reasons(data) == [0x0111, 0x0110]
    assert reasons(data, "0008119A") == [0xC000]


def test_nothing_stored_is_409(url: str, make_instance: Make, database: Database) -> None:
    instance = make_instance()

    answer = post(f"{url}/1.2.3", body(part10(instance)))

    assert answer.status == 409
    assert uids(json.loads(answer.data), "00081198") == [instance.SOPInstanceUID]
    assert rows(database, INSTANCE) == []
    assert post(f"{url}/{instance.StudyInstanceUID}", body(part10(instance))).status == 200


def test_the_answer_comes_as_xml_to_who_asks_for_it(url: str, make_instance: Make) -> None:
    answer = post(url, body(part10(make_instance())), accept="application/dicom+xml")

    assert answer.headers["content-type"] == "application/dicom+xml"
    tags = [one.get("tag") for one in etree.fromstring(answer.data)]
    assert tags == ["00081190", "00081199"]
    assert post(url, body(b""), accept="image/png").status == 406


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"", {}, 400),
        (body(), {}, 400),
        (body(b"x")[:-8], {}, 400),
        (body(b"x"), {"content_type": "application/dicom"}, 415),
        (body(b"x"), {"content_encoding": "gzip"}, 415),
        (body(b"{}", media="application/dicom+json"), {}, 415),
        (body(b"x"), {"content_type": 'multipart/related; type="application/dicom"'}, 400),
        (body(bytes(65 * MIB)), {}, 413),
    ],
    ids=["empty", "no part", "cut", "single", "gzip", "metadata", "no boundary", "too large"],
)
def test_a_request_that_cannot_be_followed_is_refused_as_a_whole(
    url: str, data: bytes, headers: dict[str, str], status: int
) -> None:
    assert post(url, data, **headers).status == status


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:100],
        lambda data: data[:128] + b"DICX" + data[132:],
        lambda data: data[:140] + b"\xff\xff\xff\x7f" + data[144:],
        lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.99"[:20]),
        lambda data: data[:400],
    ],
    ids=["in the head", "no magic", "long meta", "other syntax", "in the data set"],
)
def test_a_broken_file_fails_alone(
    url: str, make_instance: Make, spoil: Callable[[bytes], bytes], database: Database
) -> None:
    good = make_instance()

    answer = post(url, body(spoil(part10(make_instance())), part10(good)))

    assert answer.status in (200, 202)
    stored = uids(json.loads(answer.data), "00081199")
    assert good.SOPInstanceUID in stored
    assert {row["sop_instance_uid"] for row in rows(database, INSTANCE)} == set(stored)


def test_a_deflated_file_is_stored_as_it_is(
    url: str, make_instance: Make, database: Database
) -> None:
    deflated = make_instance()
    deflated.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1.99")

    assert post(url, body(part10(deflated))).status == 200

    (row,) = rows(database, INSTANCE)
    assert row["transfer_syntax_uid"] == "1.2.840.10008.1.2.1.99"


def test_bombs_and_deeply_nested_files_are_survived(
    url: str, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaging_source.data_sets.INFLATED_LIMIT_BYTES", 1024 * 1024)
    bomb = make_instance(PixelData=bytes(8 * 1024 * 1024))
    bomb.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1.99")
    deep = part10(make_instance())
    nest = bytes.fromhex("0800060053510000ffffffff") + bytes.fromhex("feff00e0ffffffff")
    start = deep.index(b"\x08\x00\x16\x00UI", 300)

    answer = post(url, body(part10(bomb), deep[:start] + nest * 5000 + deep[start:]))

    assert answer.status == 409
    assert reasons(json.loads(answer.data)) == [0xC000, 0xC000]


def test_without_the_process_that_writes_the_index_nothing_is_acknowledged(
    blobs: BlobStore, tmp_path: Path, make_instance: Make
) -> None:
    (tmp_path / "run").mkdir()
    with ThreadPoolExecutor(2) as pool:
        stow = Stow(DistantIntake(blobs, tmp_path / "run"), pool, Limits())
        with running_server(stow) as base:
            answer = post(f"{base}/dicomweb/studies", body(part10(make_instance())))

    assert answer.status == 503
    assert answer.headers["retry-after"]
    assert reasons(json.loads(answer.data)) == [0xA700]


def test_a_sender_that_leaves_keeps_no_place(
    url: str, make_instance: Make, blobs: BlobStore, database: Database
) -> None:
    host, port = url.split("/")[2].split(":")
    data = body(part10(make_instance(PixelData=bytes(4 * MIB))))
    with socket.create_connection((host, int(port))) as peer:
        head = "POST /dicomweb/studies HTTP/1.1\r\nhost: x\r\ncontent-length: "
        media = f"multipart/related; type=application/dicom; boundary={BOUNDARY}"
        peer.sendall(f"{head}{len(data)}\r\ncontent-type: {media}\r\n\r\n".encode())
        peer.sendall(data[: 3 * MIB])

    assert post(url, body(part10(make_instance()))).status == 200
    for _ in range(100):
        if not list((blobs.root / "tmp").iterdir()):
            break
        post(url, body(part10(make_instance())))
    assert list((blobs.root / "tmp").iterdir()) == []


def test_curl_stores_a_file(
    url: str, make_instance: Make, tool: Callable[[str], str], tmp_path: Path, database: Database
) -> None:
    (tmp_path / "body").write_bytes(body(part10(make_instance())))
    media = f'content-type: multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    command = [tool("curl"), "-sf", "-H", media, "--data-binary", f"@{tmp_path}/body", url]

    done = subprocess.run(command, capture_output=True, check=True, timeout=30)

    assert "00081199" in json.loads(done.stdout)
    assert len(rows(database, INSTANCE)) == 1


def test_memory_stays_flat_while_a_large_instance_arrives(
    blobs: BlobStore, door: Path, make_instance: Make
) -> None:
    whole = part10(make_instance(PixelData=b"\0\0"))
    size = 512 * MIB
    head = whole[:-6] + (size).to_bytes(4, "little")

    def pieces() -> Iterator[bytes]:
        begin, end = body(b"@").split(b"@")
        yield begin + head
        yield from (bytes(MIB) for _ in range(size // MIB))
        yield end

    with ThreadPoolExecutor(4) as pool:
        stow = Stow(DistantIntake(blobs, door), pool, Limits())
        with running_server(stow) as base:
            assert post(f"{base}/dicomweb/studies", body(part10(make_instance()))).status == 200
            before = peak_memory()
            answer = post(f"{base}/dicomweb/studies", pieces())
            grown = peak_memory() - before

    assert answer.status == 200
    assert grown < 64 * MIB
