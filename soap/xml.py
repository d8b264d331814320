"""The one place where XML from outside is parsed (SOAP 1.2 Part 1, 5: no DTD in a message).

Comments and processing instructions are dropped, so that an element's text is whole; DTDs
and therefore entities are refused; encodings are those a health network uses; size, depth,
and the number of elements and attributes are bounded. It does not validate against schemas.
"""

from __future__ import annotations

import ctypes
import re
import threading

from lxml import etree

from soap.faults import MessageError
from soap.limits import MIB, SERVER, Limits

MAX_DEPTH = 256
"""Nesting allowed; libxml2 enforces the same number in documents below LIBXML_TEXT_LIMIT."""

MAX_NAMESPACES = 256
"""Namespace declarations in force at any one place; messages have some ten. Whenever a part of a
tree is written by itself, libxml2 compares each with each: 20,000 take a second, every time."""

LIBXML_TEXT_LIMIT = 10_000_000
"""libxml2 refuses longer texts unless told that the document is huge; it then also allows
2,048 levels, so depth is checked again."""

DECLARATION_LIMIT = 200
"""Bytes within which an XML declaration must end: the longest that says something has 60."""

NAMES_BUDGET = 32 * MIB
"""Bytes parsed in one thread before its dictionary of names is renewed (see _forget_names)."""

ASCII_COMPATIBLE = {
    "utf-8",
    "utf8",
    "us-ascii",
    "ascii",
    "iso-8859-1",
    "iso-8859-15",
    "windows-1252",
}
_DECLARATION = re.compile(rb"""^<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]*)["'][^>]*?\?>""")
# What may come before the root element, up to a document type declaration. It never reaches
# libxml2: told to collect no ids, it opens the external DTD and the parameter entities of one
# though told to load none, and "file:///dev/zero" has no end. Possessive: nothing backtracks.
_DOCTYPE = re.compile(rb"(?:\s++|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_STARTS = {  # with a byte order mark, and by the first character without one
    b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be",
}  # fmt: skip
_TOO_DEEP = etree.XPath("boolean(" + "/*" * (MAX_DEPTH + 1) + ")")


class XMLRefused(MessageError):
    """XML that is not well-formed or that we do not want; the text says why."""


class _PerThread(threading.local):
    """A parser serves one thread at a time, so each thread has its own."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.parsed = 0
        self.ordinary = _parser(huge=False)
        self.huge = _parser(huge=True)


class _Nothing(etree.Resolver):
    """Lets a parser open nothing, should it ever want to."""

    def resolve(self, system_url: str, public_id: str, *context: object) -> None:
        """Refuse."""
        raise XMLRefused("references to other files are not followed")


def _parser(*, huge: bool) -> etree.XMLParser:
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
        huge_tree=huge,
    )
    parser.resolvers.add(_Nothing())
    return parser


_here = _PerThread()


def parse(data: bytes, limits: Limits = SERVER) -> etree._Element:
    """The root element of ``data``.

    Raises XMLRefused for anything that is not well-formed XML 1.0 in UTF-8, UTF-16 or a
    declared Latin encoding, for a DTD, and for anything beyond ``limits``.
    """
    if len(data) > limits.envelope:
        raise XMLRefused(f"the XML is larger than {limits.envelope} bytes")
    data = _ascii_compatible(data)
    _check_counts(data, limits)
    if _DOCTYPE.match(data.removeprefix(_UTF8_BOM)):
        raise XMLRefused("a document type declaration is not allowed")
    huge = len(data) > LIBXML_TEXT_LIMIT
    _count_bytes(len(data))
    try:
        root = etree.fromstring(data, _here.huge if huge else _here.ordinary)
    except etree.XMLSyntaxError as error:
        raise XMLRefused(f"not well-formed XML: {error.msg}") from error
    if root.getroottree().docinfo.internalDTD is not None:  # should one get this far
        raise XMLRefused("a document type declaration is not allowed")
    if data.count(b"xmlns") > MAX_NAMESPACES and _has_too_many_namespaces(root):
        raise XMLRefused(f"more than {MAX_NAMESPACES} namespace declarations in force at once")
    if huge and _TOO_DEEP(root):
        raise XMLRefused(f"elements nest deeper than {MAX_DEPTH} levels")
    return root


def _has_too_many_namespaces(root: etree._Element) -> bool:
    in_force = 0
    for event, _ in etree.iterwalk(root, events=("start-ns", "end-ns")):
        in_force += 1 if event == "start-ns" else -1
        if in_force > MAX_NAMESPACES:
            return True
    return False


def _ascii_compatible(data: bytes) -> bytes:
    """``data`` in an encoding where ``<`` and ``=`` are single bytes, refusing the exotic.

    UTF-7 and EBCDIC, which libxml2 would read, can hide markup from every check by bytes.
    """
    encoding = _UTF16_STARTS.get(data[:2])
    if encoding is not None:
        return _from_utf16(data, encoding)
    head = data.removeprefix(_UTF8_BOM)[:DECLARATION_LIMIT]
    if b"\0" in head[:4] or (head.startswith(b"<?xml") and b"?>" not in head):
        raise XMLRefused("the encoding cannot be told; use UTF-8")
    declared = _DECLARATION.match(head)
    if declared and declared[1].decode("ascii").lower() not in ASCII_COMPATIBLE:
        raise XMLRefused(f"the encoding {declared[1].decode('ascii')} is not supported; use UTF-8")
    return data


def _from_utf16(data: bytes, encoding: str) -> bytes:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise XMLRefused(f"not valid UTF-16: {error.reason}") from error
    return re.sub(r"^\ufeff?<\?xml[^>]*\?>", "", text, count=1).encode("utf-8", "replace")


def _check_counts(data: bytes, limits: Limits) -> None:
    """Refuse by upper bounds: each element has a ``<`` (most have two), each attribute a ``=``."""
    if len(data) <= min(limits.elements, limits.attributes):
        return
    if data.count(b"<") > 2 * limits.elements:
        raise XMLRefused(f"more than {limits.elements} elements")
    if data.count(b"=") > limits.attributes:
        raise XMLRefused(f"more than {limits.attributes} attributes and namespace declarations")


def _count_bytes(size: int) -> None:
    _here.parsed += size
    if _here.parsed > NAMES_BUDGET:
        _forget_names()
        _here.renew()  # a parser brings its dictionary with it


_thread_state = ctypes.pythonapi.PyThreadState_GetDict
_thread_state.restype = ctypes.c_void_p


def _forget_names() -> None:
    """Let lxml start a new dictionary of names in this thread.

    lxml keeps every element and attribute name a thread ever met. Measured: 3 million made-up
    names (150 MB sent) keep 150 MB for ever and make each later parse 35 times slower. Parsed
    trees hold their own reference, so the old dictionary goes when the last of them does;
    other parsers change dictionaries as they do when they change threads.
    """
    state = ctypes.cast(_thread_state(), ctypes.py_object).value
    state.pop("_ParserDictionaryContext", None)
