"""ebRIM that is well-formed and wrong: the bytes say what is changed in a good registration.

Three bytes are one change: of which element, what is done to it, and with what.
"""

from collections.abc import Callable
from copy import deepcopy

from lxml import etree

from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import HD
from metadata.ebrim import write_objects
from metadata.validation import validate_submission
from soap.faults import InvalidBody
from tests.fuzz.samples import submission
from tests.fuzz.target import Target
from transactions.iti_42 import SubmitObjectsRequest

_DOMAIN = AffinityDomain(HD.of("1.2.3"))
_GOOD = SubmitObjectsRequest.of(submission()).element
_VALUES = (
    *("", " ", "\u00a0", "x", "'", '&<>"', "%_", "^", "|", "\ud7ff\ufffd", "a" * 300, "9" * 5000),
    *("-1", "\u0661", "2026", "99999999999999", "1.2.3", "urn:uuid:", "urn:uuid:" + "a" * 36),
    *("true", "fr-FR", "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved", "file:///etc/passwd"),
)

_Change = Callable[[etree._Element, list[etree._Element], int], None]


def _attribute(element: etree._Element, _: list[etree._Element], what: int) -> None:
    if element.attrib:
        name = sorted(map(str, element.attrib))[what % len(element.attrib)]
        element.set(name, _VALUES[what % len(_VALUES)])


def _text(element: etree._Element, _: list[etree._Element], what: int) -> None:
    element.text = _VALUES[what % len(_VALUES)]


def _move(element: etree._Element, others: list[etree._Element], what: int) -> None:
    other = others[what % len(others)]
    if element not in other.iterancestors() and element is not other:
        other.append(element)


def _copy(element: etree._Element, others: list[etree._Element], what: int) -> None:
    others[what % len(others)].append(deepcopy(element))


def _borrow(element: etree._Element, others: list[etree._Element], what: int) -> None:
    element.attrib.update(others[what % len(others)].attrib)


def _rename(element: etree._Element, others: list[etree._Element], what: int) -> None:
    element.tag = others[what % len(others)].tag


def _empty(element: etree._Element, _: list[etree._Element], __: int) -> None:
    element.clear()


_CHANGES: tuple[_Change, ...] = (_attribute, _text, _move, _copy, _borrow, _rename, _empty)


def read(data: bytes) -> None:
    """Change the good registration, then read, judge and write what it has become."""
    root = deepcopy(_GOOD)
    for place in range(0, min(len(data), 60) - 2, 3):
        elements = list(root.iterdescendants())
        which, how, what = data[place : place + 3]
        if 0 < len(elements) < 1000:  # copies of copies
            _CHANGES[how % len(_CHANGES)](elements[which % len(elements)], elements, what)
    registered = SubmitObjectsRequest(root).submission
    for fault in validate_submission(registered, _DOMAIN):
        fault.error("ITI-42")
    list(write_objects(registered))


def seeds() -> list[bytes]:
    """No change; one of each kind; many."""
    return [b"", *(bytes([7 * how, how, 3 * how]) for how in range(7)), bytes(range(60))]


TARGET = Target("ebrim", read, (InvalidBody,), seeds, 4_000)
