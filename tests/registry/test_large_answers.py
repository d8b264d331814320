"""Answers of thousands of objects: sent while they are rendered, in little memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from metadata import ebrim
from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from registry import Registry
from registry.schema import document_entry
from soap.endpoint import Endpoint, Operation
from soap.envelope import write_request
from transactions.iti_18 import ITI_18, AdhocQueryRequest, AdhocQueryResponse
from transactions.stored_query import find_documents

KIB = 1024
MIB = 1024 * KIB
MANY = 50_000
STATUS = Path("/proc/self/status")


class Counted(Sequence[bytes]):
    """Fragments that count how many of them have been made."""

    def __init__(self, fragments: Sequence[bytes]) -> None:
        self.fragments = fragments
        self.made = 0

    def __len__(self) -> int:
        return len(self.fragments)

    def __getitem__(self, index: Any) -> Any:
        fragment = self.fragments[index]
        self.made += 1
        return fragment


@dataclass
class Received:
    """What came over the wire, and when: in seconds of this process's own work, since whoever
    shares the machine does not make the registry slower.
    """

    seconds_to_first_byte: float = 0.0
    made_before_first_byte: int = 0
    made: int = 0
    size: int = 0
    references: int = 0
    starts: list[dict[str, Any]] = field(default_factory=list)


def ask(registry: Registry, request: AdhocQueryRequest) -> Received:
    """Send a query through the endpoint and take its answer piece by piece."""
    received = Received()
    counted: list[Counted] = []

    def handle(asked: AdhocQueryRequest, _context: object) -> AdhocQueryResponse:
        response = registry.query(asked)
        counted.append(Counted(response.fragments))
        return replace(response, fragments=counted[0])

    body = b"".join(
        write_request(
            ITI_18.write_request(request).body, action=ITI_18.action, message_id="urn:1", to="x"
        )
    )
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/registry",
        "query_string": b"",
        "headers": [(b"content-type", b"application/soap+xml")],
    }
    started = time.process_time()
    incoming: Iterator[dict[str, Any]] = iter([{"type": "http.request", "body": body}])

    async def receive() -> Any:
        if (message := next(incoming, None)) is None:
            await asyncio.Event().wait()  # the client stays
        return message

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            received.starts.append(message)
            return
        if not received.size:
            received.seconds_to_first_byte = time.process_time() - started
            received.made_before_first_byte = counted[0].made
        received.size += len(message["body"])
        received.references += message["body"].count(b"<rim:ObjectRef ")

    with ThreadPoolExecutor(2) as pool:
        endpoint = Endpoint(
            [Operation(ITI_18, handle)], pool=pool, title="registry", service_name="R"
        )
        asyncio.run(endpoint(scope, receive, send))
    received.made = counted[0].made
    return received


def memory(name: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


@pytest.fixture
def registry(house: Any) -> Registry:
    domain = AffinityDomain(house.domain.assigning_authority, max_results=60_000)
    return Registry(house.database, domain)


@pytest.fixture
def many(house: Any) -> Callable[..., None]:
    """Give the patient so many documents."""

    def make(count: int, fragment: bytes = b"<rim:ExtrinsicObject/>") -> None:
        row = {
            "patient": house.patient,
            "status": "Approved",
            "object_type": "Stable",
            "ebrim": fragment,
        }
        rows = [{**row, "entry_uuid": f"urn:uuid:{number:036}"} for number in range(count)]

        def work(connection: Connection) -> None:
            for start in range(0, count, 10_000):
                connection.execute(insert(document_entry), rows[start : start + 10_000])

        house.database.write(work)

    return make


def test_fifty_thousand_references_flow_in_little_memory(
    house: Any, registry: Registry, many: Callable[..., None]
) -> None:
    if not STATUS.exists():
        pytest.skip("the peak of memory is read from /proc")
    many(MANY)
    request = find_documents(house.patient, return_type="ObjectRef")
    registry.query(find_documents(house.patient, class_code=[house.code("warm")]))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmRSS")
    received = ask(registry, request)
    assert received.references == received.made == MANY
    assert received.made_before_first_byte < MANY * 2 / 3  # two batches are made ahead
    assert received.seconds_to_first_byte < 1
    assert memory("VmHWM") - before <= 64 * MIB


def test_thousands_of_whole_objects_are_in_memory_once(
    house: Any, registry: Registry, many: Callable[..., None]
) -> None:
    if not STATUS.exists():
        pytest.skip("the peak of memory is read from /proc")
    size = 10 * KIB
    many(5_000, b"<rim:ExtrinsicObject>%s</rim:ExtrinsicObject>" % (b"x" * size))
    registry.query(find_documents(house.patient, class_code=[house.code("warm")]))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmRSS")
    received = ask(registry, find_documents(house.patient))
    assert received.size > 5_000 * size
    assert memory("VmHWM") - before <= 1.5 * 5_000 * size


def test_a_large_answer_is_judged_before_its_first_byte(
    house: Any, many: Callable[..., None]
) -> None:
    many(2_000)
    for limit, status in ((2_000, xds.SUCCESS), (1_999, xds.FAILURE)):
        domain = AffinityDomain(house.domain.assigning_authority, max_results=limit)
        response = Registry(house.database, domain).query(find_documents(house.patient))
        assert response.status == status
        assert len(response.fragments) == (2_000 if status == xds.SUCCESS else 0)


def test_a_large_answer_reads_as_a_small_one(house: Any, registry: Registry) -> None:
    draft = house.draft()
    for _ in range(600):
        draft.document()
    house.accept(draft)
    request = find_documents(house.patient)
    response = registry.query(request)
    found = house.answer(request).documents
    assert {one.unique_id for one in found} == {one.unique_id for one in draft.submission.documents}
    assert list(response.fragments[5:7]) == list(response.fragments)[5:7]
    house.feed("A40", "P2", subsumed="P1")
    shown = house.answer(find_documents(house.cx("P2"))).documents
    assert {one.patient_id for one in shown} == {house.cx("P2")}
    assert len(shown) == 600
    whole = registry.query(find_documents(house.cx("P2")))
    message = b"".join(ITI_18.write_response(whole).body)
    assert message.count(b"<rim:ExtrinsicObject ") == 600
    assert len(ebrim.wrap(whole.fragments)) < len(message)
