"""A tree of XML changed as bytes say: well-formed, and wrong in any way that can be thought of.

Three bytes are one change: of which element, what is done to it, and with what.
"""

from collections.abc import Callable
from copy import deepcopy

from lxml import etree

# Copies of copies grow without bound.
_MOST_ELEMENTS = 1000
_MOST_CHANGES = 20

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


def changed(good: etree._Element, data: bytes) -> etree._Element:
    """A copy of ``good``, changed."""
    root = deepcopy(good)
    for place in range(0, min(len(data), 3 * _MOST_CHANGES) - 2, 3):
        elements = list(root.iterdescendants())
        which, how, what = data[place : place + 3]
        if 0 < len(elements) < _MOST_ELEMENTS:
            _CHANGES[how % len(_CHANGES)](elements[which % len(elements)], elements, what)
    return root


def scripts() -> list[bytes]:
    """No change; one of each kind; many."""
    kinds = range(len(_CHANGES))
    return [b"", *(bytes([7 * how, how, 3 * how]) for how in kinds), bytes(range(60))]
