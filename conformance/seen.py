"""What a case has seen: answers, acknowledgements, comparisons. ``expectation`` judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from lxml import etree

from hl7.message import Message
from metadata.catalogue import RegistryError
from soap.faults import PeerFault
from soap.message import Incoming
from transactions.iti_18 import AdhocQueryResponse

Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Answer(Generic[Response]):
    """What came back over HTTP: a response, a SOAP fault, or a ``problem`` that is neither.

    ``names`` and ``location`` are what an error must name in its codeContext and location;
    the stimulus adds them, since it alone knows the ids it made up.
    """

    http_status: int
    headers: Mapping[str, str]
    seconds: float
    response: Response | None = None
    fault: PeerFault | None = None
    problem: str = ""
    message: Incoming | None = None
    envelope: etree._Element | None = None
    mtom: bool = False
    body: bytes = b""
    names: str = ""
    location: str = ""

    def naming(self, value: str) -> Answer[Response]:
        """The same; an error must name ``value``."""
        return replace(self, names=value)

    def located(self, value: str) -> Answer[Response]:
        """The same; an error's location must be ``value``."""
        return replace(self, location=value)

    @property
    def status(self) -> str:
        """The response's status URI, empty without a response."""
        return str(getattr(self.response, "status", ""))

    @property
    def errors(self) -> tuple[RegistryError, ...]:
        """The response's errors and warnings."""
        errors: tuple[RegistryError, ...] = getattr(self.response, "errors", ())
        return errors

    def describe(self) -> str:
        """What was seen, in one line."""
        if self.fault is not None:
            subcode = f" {self.fault.subcode}" if self.fault.subcode else ""
            code = f"SOAP fault {self.fault.code}{subcode}"
            return f"HTTP {self.http_status}, {code}: {self.fault.reason}"
        if self.response is None:
            return f"HTTP {self.http_status}: {self.problem}"
        parts = [self.status.rpartition(":")[2] or "a response"]
        parts += [_describe_error(error) for error in self.errors]
        return "; ".join(parts)


def _describe_error(error: RegistryError) -> str:
    location = f" at {error.location}" if error.location else ""
    return f"{error.code}{location}: {error.context}"


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to an HL7 v2 message, or the ``problem`` of having none."""

    message: Message | None
    problem: str = ""

    @property
    def code(self) -> str:
        """MSA-1."""
        return self.message["MSA-1"] if self.message else ""

    @property
    def error_codes(self) -> list[str]:
        """ERR-3.1 of every ERR segment; older layouts have the code in ERR-1.4."""
        if self.message is None:
            return []
        return [
            self.message[f"ERR[{n}]-3.1"] or self.message[f"ERR[{n}]-1.4"]
            for n in range(1, self.message.count("ERR") + 1)
        ]

    def describe(self) -> str:
        """What was seen, in one line."""
        if self.message is None:
            return self.problem
        return " ".join([self.code or "no MSA", *self.error_codes])


@dataclass(frozen=True, slots=True)
class Found:
    """A query's answer beside the ids it must hold; ``labels`` make ids readable.

    ``among`` are the ids that count, where a patient may have objects the kit knows nothing of.
    """

    answer: Answer[AdhocQueryResponse]
    expected: frozenset[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    among: frozenset[str] | None = None

    def seen(self) -> frozenset[str]:
        """The ids of all objects and references in the answer."""
        response = self.answer.response
        if response is None:
            return frozenset()
        objects = response.objects()
        found = frozenset(obj.entry_uuid for obj in objects.objects()) | set(objects.object_refs)
        return found if self.among is None else found & self.among

    def label(self, ids: frozenset[str]) -> str:
        """Ids as people know them, in order."""
        return ", ".join(sorted(self.labels.get(one, one) for one in ids)) or "nothing"

    def describe(self) -> str:
        """What was seen, in one line."""
        return f"{self.answer.describe()}; found {self.label(self.seen())}"


@dataclass(frozen=True, slots=True)
class Compared:
    """Two values that must be equal, and what they are."""

    what: str
    expected: object
    seen: object

    def describe(self) -> str:
        """What was seen, in one line."""
        return f"{self.what}: {_short(self.seen)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else text[:300] + "…"


Seen = Answer[Any] | Ack | Found | Compared
