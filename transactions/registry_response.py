"""rs:RegistryResponse: the answer to every submission, and the error list of every answer.

Covers ITI TF-3 4.2.4 (success and error reporting): the status that follows from the errors,
RegistryErrorList with its highestSeverity, and a tolerant reader for what peers send. The
errors themselves (which code when, with what context) come from ``metadata.catalogue``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lxml import etree

from metadata import catalogue as rules
from metadata.catalogue import Fault, RegistryError
from metadata.identifiers import ERROR, FAILURE, PARTIAL_SUCCESS, RS, SUCCESS, WARNING
from soap.message import Incoming, Outgoing
from transactions.body import SPACE, attribute, escape_attribute, expect_root
from transactions.transaction import InvalidBody

REGISTRY_RESPONSE = f"{{{RS}}}RegistryResponse"
_ERROR_LIST = f"{{{RS}}}RegistryErrorList"
_ERROR = f"{{{RS}}}RegistryError"

# Peers take the prefix of one status for another's (PartialSuccess lives under urn:ihe:iti:2007,
# the other two do not) and the framework's own samples print "Approved": the last word decides.
# "Unavailable" is ebRS 3.0's third status, without results.
_STATUS_BY_LAST_WORD = {
    "success": SUCCESS,
    "approved": SUCCESS,
    "partialsuccess": PARTIAL_SUCCESS,
    "failure": FAILURE,
    "unavailable": FAILURE,
}


class RegistryUnavailable(Exception):
    """The registry could not be reached, or what it did with the submission is unknown."""


@dataclass(frozen=True, slots=True)
class RegistryResponse:
    """The outcome of a submission: Success (warnings at most) or Failure."""

    status: str
    errors: tuple[RegistryError, ...] = ()

    @classmethod
    def of(cls, errors: Iterable[RegistryError] = ()) -> RegistryResponse:
        """The response with these errors, the status following from them."""
        listed = tuple(errors)
        return cls(status_of(listed), listed)


def status_of(errors: Iterable[RegistryError], results: bool = False) -> str:
    """The response status that ``errors`` lead to (ITI TF-3 4.2.4.2).

    Warnings never change it. With an error, it is PartialSuccess where ``results`` are
    returned all the same (queries, retrievals), Failure otherwise (all submissions).
    """
    if all(error.severity == WARNING for error in errors):
        return SUCCESS
    return PARTIAL_SUCCESS if results else FAILURE


def failure(transaction: str, problem: str) -> RegistryResponse:
    """The Failure of ``transaction`` ("ITI-42") for a body that could not be read."""
    error = Fault(rules.BODY_UNREADABLE, transaction, problem=problem).error(transaction)
    # No single document is at fault, so there is none to name as the error's location.
    return RegistryResponse.of([replace(error, location="")])


def read_status(element: etree._Element) -> str:
    """The status attribute as one of the three URIs; InvalidBody for any other."""
    status = attribute(element, "status")
    try:
        return _STATUS_BY_LAST_WORD[status.rpartition(":")[2].lower()]
    except KeyError:
        raise InvalidBody(f"unknown response status {status[:128]!r}") from None


def read_errors(element: etree._Element) -> tuple[RegistryError, ...]:
    """The errors listed in a response of any kind; none when there is no list."""
    return tuple(_read_error(error) for error in element.iterfind(f"{_ERROR_LIST}/{_ERROR}"))


def write_errors(errors: Iterable[RegistryError]) -> bytes:
    """rs:RegistryErrorList, nothing without errors; the prefix ``rs`` is bound above it."""
    listed = tuple(errors)
    if not listed:
        return b""
    highest = WARNING if status_of(listed) == SUCCESS else ERROR
    rendered = "".join(map(_write_error, listed))
    return (
        f'<rs:RegistryErrorList highestSeverity="{highest}">{rendered}</rs:RegistryErrorList>'
    ).encode()


def read_registry_response(element: etree._Element) -> RegistryResponse:
    """The response that an rs:RegistryResponse element states."""
    expect_root(element, REGISTRY_RESPONSE)
    return RegistryResponse(read_status(element), read_errors(element))


def write_registry_response(status: str, errors: Iterable[RegistryError]) -> bytes:
    """A self-contained rs:RegistryResponse."""
    return b"".join(
        (
            f'<rs:RegistryResponse xmlns:rs="{RS}" status="{status}">'.encode(),
            write_errors(errors),
            b"</rs:RegistryResponse>",
        )
    )


def read_response(message: Incoming) -> RegistryResponse:
    """Read the response message of a submission transaction."""
    return read_registry_response(message.body)


def write_response(response: RegistryResponse) -> Outgoing:
    """Write the response message of a submission transaction."""
    return Outgoing([write_registry_response(response.status, response.errors)])


def _read_error(element: etree._Element) -> RegistryError:
    """One error; only its code is needed, everything else has a sensible default.

    ``location`` is often missing and ``codeContext`` sometimes moved to the element's text.
    """
    severity = element.get("severity", ERROR).strip(SPACE)
    return RegistryError(
        code=attribute(element, "errorCode"),
        context=element.get("codeContext", "").strip(SPACE) or (element.text or "").strip(SPACE),
        severity=WARNING if severity.lower().endswith("warning") else ERROR,
        location=element.get("location", "").strip(SPACE),
    )


def _write_error(error: RegistryError) -> str:
    """One error: codeContext is never empty (ITI TF-3 4.2.4.1), location only if known."""
    location = f' location="{escape_attribute(error.location)}"' if error.location else ""
    return (
        f'<rs:RegistryError errorCode="{escape_attribute(error.code)}"'
        f' codeContext="{escape_attribute(error.context or error.code)}"'
        f' severity="{error.severity}"{location}/>'
    )
