"""ITI-8: durable identity messages over four MLLP connections.

The reference is an equal commit: the patient's row and the message's, on the bare driver.
The goal, 500 messages a second where 2,000 such commits are possible, is a ratio of 0.25.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from benchmarks.figures import Row, interleaved, per_second
from benchmarks.load import drive, mllp_answer
from benchmarks.place import fresh
from benchmarks.references import Rows, sqlite_commits
from node.migrate import script_location
from storage.database import Database

CONNECTIONS = 4

_ACCEPTED = b"\rMSA|AA|"


@dataclass(frozen=True, slots=True)
class Scale:
    """Messages of one run; seconds of one run of the reference."""

    messages: int = 3_000
    seconds: float = 2.0
    rounds: int = 3


QUICK = Scale(messages=100, seconds=0.1, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """Messages acknowledged per second."""
    numbers = count(1)
    with fresh("feed") as place, place.serve("web") as server:

        def ours() -> float:
            address = ("127.0.0.1", server.ports["mllp"])
            some = [next(numbers) for _ in range(scale.messages)]
            messages = [place.material.adt(place.material.patient(n), f"M{n}") for n in some]
            return drive(address, messages, CONNECTIONS, _is_accepted, mllp_answer).rate

        def reference() -> float:
            path = place.folder / f"reference-{next(numbers)}.db"
            with script_location("registry") as scripts, Database.open(f"sqlite:///{path}") as new:
                new.migrate(scripts)
            some = (next(numbers) for _ in range(scale.messages))
            return sqlite_commits(path, map(_rows, some), scale.seconds)

        rates, commits = interleaved(scale.rounds, ours, reference)
    yield per_second(f"ITI-8 ADT A04, {CONNECTIONS} connections", rates, commits, 0.25)


def _is_accepted(answer: bytes) -> bool:
    return _ACCEPTED in answer


def _rows(number: int) -> Rows:
    patient = f"{number:09d}^^^&1.2.250.1.213.1.4.10&ISO"
    message = {
        "sender": "HIS|HOSPITAL",
        "control_id": f"M{number}",
        "digest": hashlib.sha256(patient.encode()).hexdigest(),
        "received_at": "20260102030405",
        "ack_code": "AA",
        "error_code": "",
        "text": "",
    }
    return {"patient": [{"id": patient, "survivor": patient}], "identity_message": [message]}
