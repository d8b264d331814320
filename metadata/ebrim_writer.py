"""Writing the model as canonical ebRIM 3.0 (ITI TF-3 4.2.1 to 4.2.3; ebRIM 3.0 schema).

Canonical means: prefix ``rim:`` declared by whoever embeds the fragment, children in the
schema's order, attributes of one carrier in the order of ``metadata.attributes``, package
nodes inside the package, ``objectType`` always present, no white space between elements.

Fragments are put together as text and encoded once: they are rendered when an object is
registered and then only copied (no XML tree is built here; that would cost ten times more).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from metadata.attributes import AUTHOR_SLOTS, KINDS, Attribute, Carrier, Kind
from metadata.datatypes import LocalizedString, is_uuid_urn
from metadata.identifiers import CLASSIFICATION_OBJECT, EXTERNAL_IDENTIFIER_OBJECT
from metadata.model import AnyObject, Author, Code, Submission

# Children need ids of their own (ebRIM schema). They are derived from the parent's UUID by
# XOR-ing its last 48 bits with a different odd multiple of 2^48 / golden ratio, so that the
# same object always renders to the same bytes and no two children share an id.
_GOLDEN = 0x9E3779B97F4B
_LAST_48_BITS = 0xFFFFFFFFFFFF
_UUID_PREFIX = len("urn:uuid:00000000-0000-0000-0000-")

# Contents of codes that are rendered once: more than an affinity domain has codes in daily use.
REMEMBERED_CODES = 2048

# Characters that XML 1.0 cannot carry at all; lone surrogates are refused by the encoder.
_CONTROLS = bytes(code for code in range(0x20) if code not in (0x09, 0x0A, 0x0D))
_FFFE, _FFFF = "\ufffe".encode(), "\uffff".encode()


def write_object(obj: AnyObject) -> bytes:
    """One object as a fragment, without the declaration of ``rim:``.

    Raises ValueError for text that XML cannot carry (control characters, U+FFFE, U+FFFF).
    """
    fragment = "".join(_object(obj, _WRITERS[type(obj)])).encode()
    if (
        len(fragment.translate(None, _CONTROLS)) != len(fragment)
        or _FFFE in fragment
        or _FFFF in fragment
    ):
        raise ValueError("the metadata holds a character that XML cannot carry")
    return fragment


def write_objects(submission: Submission) -> list[bytes]:
    """Every object of the submission as a fragment, then its bare references."""
    fragments = [write_object(obj) for obj in submission.objects()]
    return fragments + [object_ref(reference) for reference in submission.object_refs]


def object_ref(uuid: str, home: str | None = None) -> bytes:
    """A bare reference to an object, with its homeCommunityId if it has one."""
    homed = f' home="{quote(home)}"' if home else ""
    return f'<rim:ObjectRef id="{quote(uuid)}"{homed}/>'.encode()


# --- Escaping ------------------------------------------------------------------------------------


def text(value: str) -> str:
    """``value`` as element content."""
    # Most values hold nothing to escape; asking is four times faster than a regular expression.
    if "&" in value:
        value = value.replace("&", "&amp;")
    if "<" in value:
        value = value.replace("<", "&lt;")
    if ">" in value:
        value = value.replace(">", "&gt;")
    if "\r" in value:
        value = value.replace("\r", "&#13;")
    return value


def quote(value: str) -> str:
    """``value`` as the content of a double-quoted attribute."""
    value = text(value)
    if '"' in value:
        value = value.replace('"', "&quot;")
    if "\n" in value:
        value = value.replace("\n", "&#10;")
    if "\t" in value:
        value = value.replace("\t", "&#9;")
    return value


# --- Pieces --------------------------------------------------------------------------------------


class _Identity:
    """The ids of one object and of the Classifications and ExternalIdentifiers inside it."""

    def __init__(self, identity: str) -> None:
        self.quoted = quote(identity)
        self._count = 0
        self._prefix = identity[:_UUID_PREFIX]
        # The children of a symbolic object are symbolic too.
        self._last = int(identity[_UUID_PREFIX:], 16) if is_uuid_urn(identity) else -1

    def child(self) -> str:
        """The quoted id of the next child."""
        self._count += 1
        if self._last < 0:
            return f"{self.quoted}-{self._count}"
        derived = self._last ^ (self._count * _GOLDEN & _LAST_48_BITS)
        return f"{self._prefix}{derived:012x}"


def _slot(name: str, values: Sequence[str]) -> str:
    """A Slot; ``name`` is quoted already."""
    body = "</rim:Value><rim:Value>".join(map(text, values))
    value = f"<rim:Value>{body}</rim:Value>" if values else ""
    return f'<rim:Slot name="{name}"><rim:ValueList>{value}</rim:ValueList></rim:Slot>'


def _localized(element: str, value: str) -> str:
    lang = getattr(value, "lang", None)
    tagged = f' xml:lang="{quote(lang)}"' if lang is not None else ""
    return f'<rim:{element}><rim:LocalizedString{tagged} value="{quote(value)}"/></rim:{element}>'


def _classification(identity: _Identity, selector: str, content: str) -> str:
    head = (
        f'<rim:Classification id="{identity.child()}" objectType="{CLASSIFICATION_OBJECT}" '
        f'classifiedObject="{identity.quoted}" {selector}'
    )
    return f"{head}>{content}</rim:Classification>" if content else f"{head}/>"


def _node(identity: _Identity, node: str) -> str:
    return _classification(identity, f'classificationNode="{node}"', "")


def _code(identity: _Identity, scheme: str, code: Code) -> str:
    selector = f'classificationScheme="{scheme}" nodeRepresentation="{quote(code.code)}"'
    name = code.display_name
    content = _code_content(code.scheme, str(name), getattr(name, "lang", None))
    return _classification(identity, selector, content)


@lru_cache(REMEMBERED_CODES)
def _code_content(scheme: str, name: str, lang: str | None) -> str:
    """What stands inside the Classification of a code."""
    shown = _localized("Name", LocalizedString(name, lang)) if name else ""
    return _slot("codingScheme", [scheme]) + shown


def _author(identity: _Identity, scheme: str, author: Author) -> str:
    slots = []
    for attribute in AUTHOR_SLOTS.values():
        value = getattr(author, attribute.field)
        if value:
            slots.append(_slot(attribute.key, value if attribute.many else [value]))
    selector = f'classificationScheme="{scheme}" nodeRepresentation=""'
    return _classification(identity, selector, "".join(slots))


def _identifier(identity: _Identity, attribute: Attribute, value: str) -> str:
    return (
        f'<rim:ExternalIdentifier id="{identity.child()}" '
        f'objectType="{EXTERNAL_IDENTIFIER_OBJECT}" registryObject="{identity.quoted}" '
        f'identificationScheme="{attribute.key}" value="{quote(value)}">'
        f'<rim:Name><rim:LocalizedString value="{attribute.identifier_name}"/></rim:Name>'
        "</rim:ExternalIdentifier>"
    )


# --- One object ----------------------------------------------------------------------------------

_Piece = Callable[[Any, _Identity], str]


def _piece(attribute: Attribute) -> _Piece:
    """A function that renders ``attribute`` of an object, given a value that is not empty."""
    key, many = attribute.key, attribute.many
    match attribute.carrier:
        case Carrier.SLOT if many:
            return lambda value, identity: _slot(key, value)
        case Carrier.SLOT:
            return lambda value, identity: _slot(key, (value,))
        case Carrier.NAME:
            return lambda value, identity: _localized("Name", value)
        case Carrier.DESCRIPTION:
            return lambda value, identity: _localized("Description", value)
        case Carrier.VERSION:
            return lambda value, identity: f'<rim:VersionInfo versionName="{quote(value)}"/>'
        case Carrier.NODE:
            return lambda value, identity: _node(identity, key)
        case Carrier.AUTHOR:
            return lambda value, identity: "".join(_author(identity, key, one) for one in value)
        case Carrier.CODE if many:
            return lambda value, identity: "".join(_code(identity, key, one) for one in value)
        case Carrier.CODE:
            return lambda value, identity: _code(identity, key, value)
        case _:
            return lambda value, identity: _identifier(identity, attribute, value)


class _Writer:
    """The table of one kind, arranged for writing: (field, piece) in the schema's order."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.fixed_type = f' objectType="{kind.object_type}"' if kind.object_type else ""
        self.xml = [(row.field, f' {row.key}="') for row in kind.carried_by(Carrier.XML)]
        self.slots = self._pieces(Carrier.SLOT)
        self.texts = self._pieces(Carrier.NAME, Carrier.DESCRIPTION, Carrier.VERSION)
        self.classifications = self._pieces(Carrier.NODE, Carrier.AUTHOR, Carrier.CODE)
        self.identifiers = self._pieces(Carrier.IDENTIFIER)

    def _pieces(self, *carriers: Carrier) -> list[tuple[str, _Piece]]:
        """The pieces of each carrier in turn: Name must come before Description."""
        rows = [row for carrier in carriers for row in self.kind.carried_by(carrier)]
        return [(row.field, _piece(row)) for row in rows]


_WRITERS = {model: _Writer(kind) for model, kind in KINDS.items()}


def _object(obj: AnyObject, writer: _Writer) -> list[str]:
    identity = _Identity(obj.entry_uuid)
    out = [f"<rim:{writer.kind.element}", writer.fixed_type]
    for field, opening in writer.xml:
        value = getattr(obj, field)
        if value:
            out += (opening, quote(value), '"')
    out.append(">")
    _render(obj, writer.slots, identity, out)
    out += [_slot(quote(name), values) for name, values in obj.extra_slots.items()]
    _render(obj, writer.texts, identity, out)
    if writer.kind.node:
        out.append(_node(identity, writer.kind.node))
    _render(obj, writer.classifications, identity, out)
    _render(obj, writer.identifiers, identity, out)
    out.append(f"</rim:{writer.kind.element}>")
    return out


def _render(
    obj: AnyObject, pieces: list[tuple[str, _Piece]], identity: _Identity, out: list[str]
) -> None:
    for field, piece in pieces:
        value = getattr(obj, field)
        # An empty title is a title; empty lists and False are nothing to write.
        if value is not None and value is not False and value != []:
            out.append(piece(value, identity))
