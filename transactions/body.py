"""Reading and writing the XML bodies of the transactions: what every codec needs.

Readers ask for a child or an attribute and get its trimmed text, or ``InvalidBody`` with
the element's name; they never look at prefixes or at the order of children, and take an
empty value where the schema does: its meaning is for the actor to judge. Writers build
bytes by hand: the bodies are small and regular, and most of a large answer is fragments
that were rendered long before.
"""

from __future__ import annotations

import re
from uuid import uuid4

from lxml import etree

from soap.message import ContentError, Incoming, Received
from transactions.transaction import InvalidBody

# What XML calls white space (2.3); str.strip() alone would also eat a no-break space.
SPACE = " \t\r\n"

XOP_NAMESPACE = "http://www.w3.org/2004/08/xop/include"

# What XML 1.0 cannot carry (section 2.2), not even as a character reference.
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)
# Most values have nothing to escape: to look for it takes a fifth of the time.
_SPECIAL_IN_TEXT = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SPECIAL_IN_ATTRIBUTE = re.compile('[&<"\x00-\x1f\ud800-\udfff\ufffe\uffff]')


def escape_text(value: str) -> str:
    """``value`` as element content; characters that XML cannot carry become U+FFFD."""
    if _SPECIAL_IN_TEXT.search(value) is None:
        return value
    return NOT_XML.sub(_REPLACEMENT, value).translate(_TEXT)


def escape_attribute(value: str) -> str:
    """``value`` as the inside of a double-quoted attribute, line breaks kept."""
    if _SPECIAL_IN_ATTRIBUTE.search(value) is None:
        return value
    return NOT_XML.sub(_REPLACEMENT, value).translate(_ATTRIBUTE)


def short_name(tag: str) -> str:
    """The local part of a name in Clark notation, as people know it."""
    return tag.rpartition("}")[2]


def expect_root(element: etree._Element, tag: str) -> etree._Element:
    """``element`` itself when it is a ``tag``; otherwise InvalidBody."""
    if element.tag != tag:
        raise InvalidBody(f"the body is <{element.tag}>, expected <{tag}>")
    return element


def child(parent: etree._Element, tag: str) -> etree._Element:
    """The first child named ``tag`` (Clark notation); InvalidBody when there is none."""
    # iterchildren, unlike find, compiles no path: a quarter of the time on the hot path.
    for found in parent.iterchildren(tag):
        return found
    raise lacking(parent, tag)


def children(parent: etree._Element, tag: str) -> list[etree._Element]:
    """All children named ``tag``, at least one; InvalidBody when there is none."""
    found = list(parent.iterchildren(tag))
    if not found:
        raise lacking(parent, tag)
    return found


def lacking(parent: etree._Element, tag: str) -> InvalidBody:
    """What to raise where ``parent`` has no child named ``tag``."""
    return InvalidBody(f"<{short_name(parent.tag)}> has no <{short_name(tag)}>")


def child_text(parent: etree._Element, tag: str) -> str:
    """The trimmed text of the child ``tag``, possibly empty; InvalidBody when it is absent."""
    return (child(parent, tag).text or "").strip(SPACE)


def child_texts(parent: etree._Element) -> dict[str, str]:
    """The trimmed text of each child by its name, of several of one name that of the first.

    For elements that come by the thousand: to ask for one child after the other takes twice as
    long.
    """
    found: dict[str, str] = {}
    for one in parent:
        found.setdefault(one.tag, (one.text or "").strip(SPACE))
    return found


def optional_text(parent: etree._Element, tag: str) -> str | None:
    """The trimmed text of the child ``tag``, None when it is absent or empty."""
    for found in parent.iterchildren(tag):
        return (found.text or "").strip(SPACE) or None
    return None


def attribute(element: etree._Element, name: str) -> str:
    """The trimmed attribute ``name``, possibly empty; InvalidBody when it is absent."""
    value = element.get(name)
    if value is None:
        raise InvalidBody(f"<{short_name(element.tag)}> has no attribute {name}")
    return value.strip(SPACE)


def content_of(message: Incoming, element: etree._Element) -> Received:
    """The bytes that a Document element stands for; InvalidBody when they cannot be had."""
    try:
        return message.content(element)
    except ContentError as error:
        raise InvalidBody(f"<{short_name(element.tag)}>: {error}") from error


def new_content_ids() -> str:
    """A prefix for the Content-IDs of one message: unique as RFC 2392 wants them."""
    return uuid4().hex


def include(content_id: str) -> str:
    """The xop:Include that stands for the part ``content_id`` (plain ASCII, no escapes)."""
    return f'<xop:Include xmlns:xop="{XOP_NAMESPACE}" href="cid:{content_id}"/>'


def serialised(element: etree._Element) -> bytes:
    """One element of a parsed message as UTF-8, with the namespaces it relies on."""
    return etree.tostring(element, encoding="UTF-8", xml_declaration=False, with_tail=False)
