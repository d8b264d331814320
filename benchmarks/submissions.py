"""ITI-42 and ITI-41: durable registrations and documents, eight clients.

A registration stands beside equal commits of one SQLite writer: the same rows into the same
tables, on the bare driver. A document of 100 KB stands beside a file written, synced,
renamed and its folder synced, by eight threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.figures import Row, interleaved, per_second
from benchmarks.load import address_of, drive
from benchmarks.material import provision, registration
from benchmarks.place import Place, Server, fresh
from benchmarks.population import tables
from benchmarks.references import Rows, durable_files, sqlite_commits
from metadata.datatypes import CX
from metadata.identifiers import SUCCESS
from node.migrate import script_location
from registry.registration import prepare
from soap.message import InMemory
from storage.database import Database

CLIENTS = 8

DOCUMENT_BYTES = 100 * 1000

# Patients the submissions are spread over: enough that they rarely meet.
_PATIENTS = 1000

_SUCCESS = b'status="%s"' % SUCCESS.encode()


@dataclass(frozen=True, slots=True)
class Scale:
    """Messages of one run; seconds of one run of a reference."""

    messages: int = 2_000
    seconds: float = 2.0
    rounds: int = 3


QUICK = Scale(messages=100, seconds=0.1, rounds=1)


def measure_registrations(scale: Scale) -> Iterator[Row]:
    """ITI-42 of one entry."""
    with fresh("registration") as place:
        patients = _patients(place)
        with place.serve("web") as server:

            def ours() -> float:
                url = server.url("/registry")
                some = [place.material.submission(next(patients)) for _ in range(scale.messages)]
                return _drive(server, [registration(url, one) for one in some])

            names = count()

            def reference() -> float:
                some = (place.material.submission(next(patients)) for _ in range(scale.messages))
                equal = [tables([prepare(one)]) for one in some]
                return _equal_commits(place.folder / f"{next(names)}.db", equal, scale.seconds)

            rates, commits = interleaved(scale.rounds, ours, reference)
    yield per_second(f"ITI-42, one entry, {CLIENTS} clients", rates, commits, 0.25)


def measure_documents(scale: Scale) -> Iterator[Row]:
    """ITI-41 of one document."""
    with fresh("document") as place:
        patients = _patients(place)
        with place.serve("web") as server:

            def ours() -> float:
                return _drive(server, [_provision(place, server, patients) for _ in messages])

            def reference() -> float:
                return durable_files(place.folder, DOCUMENT_BYTES, CLIENTS, scale.seconds)

            messages = range(scale.messages)
            rates, files = interleaved(scale.rounds, ours, reference)
    work = f"ITI-41, {DOCUMENT_BYTES // 1000} KB document, {CLIENTS} clients"
    yield per_second(work, rates, files, 0.15)


def _provision(place: Place, server: Server, patients: Iterator[CX]) -> bytes:
    document = InMemory(os.urandom(DOCUMENT_BYTES))
    submission = place.material.submission(next(patients), registered=False)
    before, after = provision(server.url("/repository"), submission, document)
    return before + document.data + after


def _patients(place: Place) -> Iterator[CX]:
    """Patients who are known, round and round."""
    place.announce(_PATIENTS)
    return (place.material.patient(number % _PATIENTS + 1) for number in count())


def _drive(server: Server, requests: list[bytes]) -> float:
    address = address_of(server.url(""))
    return drive(address, requests, CLIENTS, lambda answer: _SUCCESS in answer).rate


def _equal_commits(path: Path, transactions: Sequence[Rows], seconds: float) -> float:
    with script_location("registry") as scripts, Database.open(f"sqlite:///{path}") as new:
        new.migrate(scripts)
    return sqlite_commits(path, transactions, seconds)
