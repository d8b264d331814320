"""What must come back, with its reason: each kind of expectation judges what was seen.

``judge`` raises Mismatch, saying what was expected and what was seen instead. ``describe`` is
what the list of cases and the report show, in the standard's own terms and, between them, in
the reader's language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from conformance.french import say
from conformance.seen import Ack, Answer, Compared, Found, Seen
from conformance.text import Language
from metadata.catalogue import RegistryError
from metadata.identifiers import FAILURE, PARTIAL_SUCCESS, SUCCESS, WARNING
from soap.faults import WSSE


class Mismatch(Exception):
    """What was seen is not what was expected."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen {seen}")
        self.expected = expected
        self.seen = seen


class Expectation(Protocol):
    """What must come back."""

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""


@dataclass(frozen=True, slots=True)
class Success:
    """Status Success without errors; ``warning`` is a code that must be among the warnings,
    ``mtom`` asks for an MTOM answer."""

    warning: str = ""
    mtom: bool = False

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        words = ["Success"]
        if self.warning:
            words += [say("with warning", language), self.warning]
        if self.mtom:
            words.append(say("in MTOM", language))
        return " ".join(words)

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        answer = _answer(self, seen)
        _check(self, seen, answer.status == SUCCESS and not _severe(answer))
        _check(self, seen, not self.warning or self.warning in [e.code for e in answer.errors])
        _check(self, seen, answer.mtom or not self.mtom)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error with one of these codes, explained, and the right status.

    ``names`` are words of which the codeContext must have one. ``about`` tells people what it
    must name of what the stimulus made up (``Answer.naming``), or be located at
    (``Answer.located``). Nothing may be handed over with a Failure.
    """

    codes: tuple[str, ...]
    names: tuple[str, ...] = ()
    status: str = FAILURE
    about: str = ""

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        either = f" {say('or', language)} "
        text = f"{self.status.rpartition(':')[2]} {either.join(self.codes)}"
        named = [either.join(self.names), say(self.about, language) if self.about else ""]
        if any(named):
            and_ = f" {say('and', language)} "
            text += f", {say('naming', language)} {and_.join(filter(None, named))}"
        return text

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        answer = _answer(self, seen)
        assert bool(self.about) == bool(answer.names or answer.location), "announced and asked for"
        _check(self, seen, answer.status == self.status)
        matching = [error for error in _severe(answer) if error.code in self.codes]
        _check(self, seen, any(self._explains(error, answer) for error in matching))
        handed_over = _handed_over(answer)
        _check(self, seen, handed_over in (None, self.status == PARTIAL_SUCCESS))

    def _explains(self, error: RegistryError, answer: Answer[object]) -> bool:
        context = error.context.lower()
        return (
            bool(context)
            and (not self.names or any(name.lower() in context for name in self.names))
            and answer.names.lower() in context
            and (not answer.location or answer.location == error.location)
        )


def failure(*codes: str, names: str = "", about: str = "") -> Refusal:
    """Failure with one of ``codes``; ``names`` are words of which one must be named."""
    return Refusal(codes, tuple(names.split()), about=about)


def partial(*codes: str, about: str = "") -> Refusal:
    """PartialSuccess with one of ``codes`` and something handed over."""
    return Refusal(codes, (), PARTIAL_SUCCESS, about)


@dataclass(frozen=True, slots=True)
class Fault:
    """A SOAP 1.2 fault with an HTTP error status; ``subcode`` is a local name."""

    codes: tuple[str, ...]
    subcode: str = ""

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        either = f" {say('or', language)} "
        text = f"{say('SOAP fault', language)} {either.join(self.codes)}"
        if self.subcode:
            text += f" ({self.subcode})"
        return text

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        _check(self, seen, isinstance(seen, Answer))
        assert isinstance(seen, Answer)
        _check(self, seen, seen.fault is not None and seen.fault.code in self.codes)
        assert seen.fault is not None
        subcode = (seen.fault.subcode or "").rpartition("}")[2]
        _check(self, seen, not self.subcode or subcode == self.subcode)
        _check(self, seen, 400 <= seen.http_status < 600)


def fault(*codes: str, subcode: str = "") -> Fault:
    """A SOAP fault with one of ``codes``."""
    return Fault(codes, subcode)


@dataclass(frozen=True, slots=True)
class SecurityFault:
    """A SOAP 1.2 fault with a subcode of WS-Security (WSS SOAP Message Security 1.1, 12)."""

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        return f"{say('SOAP fault', language)} WS-Security"

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        _check(self, seen, isinstance(seen, Answer) and seen.fault is not None)
        assert isinstance(seen, Answer)
        assert seen.fault is not None
        _check(self, seen, (seen.fault.subcode or "").startswith(f"{{{WSSE}}}"))
        _check(self, seen, 400 <= seen.http_status < 600)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The connection ends before anything is answered over HTTP."""

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        return say("no answer", language)

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        _check(self, seen, isinstance(seen, Answer) and seen.http_status == 0)


@dataclass(frozen=True, slots=True)
class NotificationFault:
    """A SOAP fault of WS-BaseNotification: ``name`` is its subcode or stands in its detail."""

    name: str

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        return f"{say('SOAP fault', language)} {self.name}"

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        _check(self, seen, isinstance(seen, Answer) and seen.fault is not None)
        assert isinstance(seen, Answer)
        assert seen.fault is not None
        subcode = (seen.fault.subcode or "").rpartition("}")[2]
        # Elsewhere a detail is told by its element, whatever the prefix.
        in_detail = re.search(rf"<([\w.-]+:)?{self.name}\b".encode(), seen.fault.detail)
        _check(self, seen, subcode == self.name or in_detail is not None)
        _check(self, seen, 400 <= seen.http_status < 600)


@dataclass(frozen=True, slots=True)
class HttpStatus:
    """An HTTP status and no success of any kind."""

    status: int

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        return f"HTTP {self.status}"

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        _check(self, seen, isinstance(seen, Answer) and seen.http_status == self.status)
        assert isinstance(seen, Answer)
        _check(self, seen, seen.response is None)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of several outcomes that the standard leaves open."""

    options: tuple[Expectation, ...]

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        either = f" {say('or', language)} "
        return either.join(option.describe(language) for option in self.options)

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        for option in self.options:
            try:
                option.judge(seen)
            except Mismatch:
                continue
            return
        raise Mismatch(self.describe(), seen.describe())


def any_of(*options: Expectation) -> AnyOf:
    """One of these."""
    return AnyOf(options)


@dataclass(frozen=True, slots=True)
class Within:
    """One of several outcomes, ``seconds`` after the request at the latest."""

    seconds: float
    outcome: AnyOf

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        return f"{self.outcome.describe(language)}, {say('within', language)} {self.seconds:g} s"

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        self.outcome.judge(seen)
        assert isinstance(seen, Answer)
        if seen.seconds > self.seconds:
            raise Mismatch(self.describe(), f"{seen.describe()}, after {seen.seconds:.1f} s")


def within(seconds: float, *options: Expectation) -> Within:
    """One of these, in time."""
    return Within(seconds, any_of(*options))


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An HL7 v2 acknowledgement with this MSA-1 and, if given, this ERR code."""

    code: str
    error: str = ""

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        error = f" {say('with', language)} ERR {self.error}" if self.error else ""
        return f"ACK {self.code}{error}"

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        _check(self, seen, isinstance(seen, Ack) and seen.code == self.code)
        assert isinstance(seen, Ack)
        _check(self, seen, not self.error or self.error in seen.error_codes)


@dataclass(frozen=True, slots=True)
class Exactly:
    """Success, and exactly the objects that fit."""

    what: str = "the objects that fit"

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        return f"Success, {say('exactly', language)} {say(self.what, language)}"

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        _check(self, seen, isinstance(seen, Found))
        assert isinstance(seen, Found)
        Success().judge(seen.answer)
        if seen.seen() != seen.expected:
            raise Mismatch(f"Success, exactly {seen.label(seen.expected)}", seen.describe())


@dataclass(frozen=True, slots=True)
class Same:
    """Two values that must be equal."""

    what: str

    def describe(self, language: Language = "en") -> str:
        """In the standard's terms."""
        return say(self.what, language)

    def judge(self, seen: Seen) -> None:
        """Raises Mismatch."""
        _check(self, seen, isinstance(seen, Compared))
        assert isinstance(seen, Compared)
        if seen.expected != seen.seen:
            raise Mismatch(f"{seen.what} {seen.expected!r}", seen.describe())


def _answer(expectation: Expectation, seen: Seen) -> Answer[object]:
    if isinstance(seen, Answer) and seen.response is not None:
        return seen
    raise Mismatch(expectation.describe(), seen.describe())


def _check(expectation: Expectation, seen: Seen, holds: bool) -> None:
    if not holds:
        raise Mismatch(expectation.describe(), seen.describe())


def _severe(answer: Answer[object]) -> list[RegistryError]:
    return [error for error in answer.errors if error.severity != WARNING]


def _handed_over(answer: Answer[object]) -> bool | None:
    """Whether objects or documents came with the answer; None where none ever do."""
    carried = [getattr(answer.response, name, None) for name in ("fragments", "documents")]
    found = [some for some in carried if some is not None]
    return any(found) if found else None
