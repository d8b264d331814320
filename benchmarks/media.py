"""STOW-RS and a study as a ZIP, beside Orthanc with the same images.

Orthanc runs as for ``benchmarks.dicomweb``. Its archive is compressed, which gains next to nothing
on images and is what it offers; ours is stored. Without Orthanc there are no rows.
"""

from __future__ import annotations

import http.client
import io
import json
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.dicomweb import PLUGIN, orthanc
from benchmarks.figures import MIB, Row, WrongAnswer, growth, interleaved, per_second, throughput
from benchmarks.images import Study
from benchmarks.peers import are_there
from benchmarks.place import Place, Server, fresh

_BOUNDARY = "a-part-of-the-study"
_STOW_TYPE = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'


@dataclass(frozen=True, slots=True)
class Scale:
    """Instances in one request, and in the study that is archived."""

    instances: int = 100
    archived: int = 40
    rounds: int = 3


QUICK = Scale(instances=8, archived=4, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """Each work beside Orthanc, and the memory of the process that takes files in."""
    if not are_there("STOW-RS and ZIP beside Orthanc", "Orthanc", PLUGIN):
        return
    with fresh("media") as place, ExitStack() as stack:
        archived = Study(place.folder / "archived", 1, scale.archived)
        files = list(archived.files())
        stack.enter_context(place.serve("dicom"))
        server = stack.enter_context(place.serve("web"))
        theirs = stack.enter_context(orthanc(place.folder / "orthanc", files))
        ours = f"{server.url('')}/dicomweb"
        yield from _stored(place, server, ours, theirs, scale)
        _store(ours, files)
        yield _archived(ours, theirs, archived, files, scale)


def _stored(place: Place, server: Server, ours: str, theirs: str, scale: Scale) -> Iterator[Row]:
    numbers = count(2)

    def rate(root: str) -> tuple[float, float]:
        number = next(numbers)
        study = Study(place.folder / f"study-{number}", number, scale.instances)
        memory = server.watch_memory()
        return scale.instances / _store(root, list(study.files())), memory.growth()

    mine, other = interleaved(scale.rounds, partial(rate, ours), partial(rate, theirs))
    work = f"STOW-RS of {scale.instances} x 512 KiB"
    rates, their_rates = ([one for one, _ in runs] for runs in (mine, other))
    yield per_second(f"{work}, beside Orthanc", rates, their_rates, 2.2)
    yield growth(f"{work}: memory", [grown for _, grown in mine], 32)


def _store(root: str, files: list[Path]) -> float:
    """Seconds that storing the files in one request takes."""
    head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    parts = b"".join(head + file.read_bytes() + b"\r\n" for file in files)
    body = parts + f"--{_BOUNDARY}--\r\n".encode()
    started = time.perf_counter()
    status, data = _call("POST", f"{root}/studies", body)
    seconds = time.perf_counter() - started
    if status != 200 or data.count(b'"00081155"') != len(files):
        raise WrongAnswer(f"{status} from {root}: not every file was stored")
    return seconds


def _archived(ours: str, theirs: str, study: Study, files: list[Path], scale: Scale) -> Row:
    root = theirs.removesuffix("/dicom-web")
    _, found = _call("POST", f"{root}/tools/lookup", study.uid.encode())
    orthanc_id = json.loads(found)[0]["ID"]

    def seconds(url: str, accept: str) -> float:
        started = time.perf_counter()
        status, data = _call("GET", url, accept=accept)
        taken = time.perf_counter() - started
        if status != 200 or len(zipfile.ZipFile(io.BytesIO(data)).namelist()) != len(files):
            raise WrongAnswer(f"{status} from {url}: not an archive of the study")
        return taken

    mine, other = interleaved(
        scale.rounds,
        partial(seconds, f"{ours}/studies/{study.uid}", "application/zip"),
        partial(seconds, f"{root}/studies/{orthanc_id}/archive", "*/*"),
    )
    size = sum(file.stat().st_size for file in files)
    work = f"ZIP of {len(files)} x 512 KiB, beside Orthanc"
    return throughput(work, size, mine, other, 100)


def _call(
    method: str, url: str, body: bytes | None = None, accept: str = "*/*"
) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, blocksize=MIB)
    headers = {"Accept": accept} | ({"Content-Type": _STOW_TYPE} if body is not None else {})
    connection.request(method, parts.path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data
