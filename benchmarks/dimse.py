"""C-STORE and C-FIND beside Orthanc, with DCMTK's tools and one user of our own as peers.

C-STORE with one and with four associations, TCP_NODELAY at both ends; and from a sender with
DCMTK's own defaults, to each receiver as it is when nobody has set anything: Orthanc's responses
then wait for delayed acknowledgements of TCP. C-FIND by UID over one association, TCP_NODELAY at
both ends.
Orthanc syncs each file by default, as the node does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from benchmarks.figures import Row, WrongAnswer, interleaved, per_second
from benchmarks.images import ASSOCIATIONS, Study, send
from benchmarks.orthanc import TITLE, orthanc
from benchmarks.peers import are_there
from benchmarks.place import Place, Server, fresh
from imaging_source.dimse import C_FIND_RQ, MESSAGE_ID, PRIORITY, SOP_CLASS_UID, write_request
from imaging_source.dimse import write_data_set as data_set_pdus
from imaging_source.encoded import Values, encode
from imaging_source.query_retrieve.models import STUDY_ROOT_FIND
from imaging_source.requestor import Peer, Requested
from imaging_source.service import PENDING, SUCCESS

_EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True)
class Scale:
    """Instances of a study, and of one sent with delays; queries."""

    instances: int = 300
    delayed: int = 150
    queries: int = 200
    rounds: int = 5


QUICK = Scale(instances=8, delayed=4, queries=4, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """The rows, where Orthanc and DCMTK are installed."""
    if not are_there("C-STORE and C-FIND beside Orthanc", "Orthanc", "storescu"):
        return
    with (
        fresh("dimse") as place,
        orthanc(place.folder / "orthanc") as prompt,
        orthanc(place.folder / "orthanc-by-default", False) as by_default,
        _served(place) as server,
    ):
        ours = Peer("KOSMOS", "127.0.0.1", server.ports["dicom"])
        theirs = Peer(TITLE, "127.0.0.1", prompt.dicom)
        theirs_by_default = Peer(TITLE, "127.0.0.1", by_default.dicom)
        numbers = {peer: count(1) for peer in (ours, theirs, theirs_by_default)}  # the same studies

        def stored(peer: Peer, instances: int, associations: int, delayed: bool) -> float:
            number = next(numbers[peer])
            study = Study(place.folder / f"{peer.port}-{number}", number, instances)
            return instances / send(study, peer.title, peer.port, associations, delayed=delayed)

        def compared(instances: int, associations: int, delayed: bool = False) -> list[list[float]]:
            other = theirs_by_default if delayed else theirs
            return interleaved(
                scale.rounds,
                lambda: stored(ours, instances, associations, delayed),
                lambda: stored(other, instances, associations, delayed),
            )

        def row(work: str, reach: float, rates: list[list[float]]) -> Row:
            mine, reference = rates
            return per_second(f"{work}, beside Orthanc", mine, reference, reach)

        work = f"C-STORE {scale.instances} x 512 KiB"
        yield row(f"{work}, 1 association", 2.5, compared(scale.instances, 1))
        several = compared(scale.instances, ASSOCIATIONS)
        yield row(f"{work}, {ASSOCIATIONS} associations", 1.8, several)
        delayed = compared(scale.delayed, 1, delayed=True)
        yield row(f"C-STORE {scale.delayed} x 512 KiB, default sender and receivers", 10, delayed)
        found = interleaved(
            scale.rounds,
            lambda: _queries(ours, scale.queries),
            lambda: _queries(theirs, scale.queries),
        )
        yield row("C-FIND of a study by its UID", 1.0, found)


@contextmanager
def _served(place: Place) -> Iterator[Server]:
    """The DICOM process of a node that anybody may query."""
    text = place.config.read_text()
    section = "[imaging_source]\n"
    place.config.write_text(text.replace(section, f"{section}query_titles = ['*']\n", 1))
    with place.serve("dicom") as server:
        yield server


def _queries(peer: Peer, number: int) -> float:
    """Queries per second over one association, each for one study by its UID."""
    keys: Values = {
        0x00080052: ("CS", "STUDY"),
        0x00080020: ("DA", ""),
        0x00100010: ("PN", ""),
        0x00100020: ("LO", ""),
        0x0020000D: ("UI", "1.2.250.1.99.7.100000000001"),
    }
    identifier = encode(keys, _EXPLICIT)
    with Requested(peer, "STORESCU", [(STUDY_ROOT_FIND, _EXPLICIT)]) as asking:
        started = time.perf_counter()
        for message_id in range(1, number + 1):
            _ask(asking, message_id, identifier)
        return number / (time.perf_counter() - started)


def _ask(asking: Requested, message_id: int, identifier: bytes) -> None:
    line = asking.line
    elements = ((SOP_CLASS_UID, STUDY_ROOT_FIND), (MESSAGE_ID, message_id), (PRIORITY, 0))
    request = write_request(1, C_FIND_RQ, elements, has_data_set=True)
    line.send(request + data_set_pdus(1, identifier, line.pdu_bytes))
    matches = 0
    while (command := asking.response_to(C_FIND_RQ).command).status == PENDING:
        matches += 1
    if command.status != SUCCESS or matches != 1:
        raise WrongAnswer(f"{matches} matches, status {command.status:#06x}")
