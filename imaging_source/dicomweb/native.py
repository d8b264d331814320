"""The Native DICOM Model in XML (PS3.19 Annex A.1), made from DICOM JSON objects.

Answers in XML are multipart/related, one part for each data set (PS3.18 8.7.3.1).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from lxml import etree
from pydicom.datadict import keyword_for_tag

from imaging_source.dicomweb.answer import Answer

XML = "application/dicom+xml"

_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_DEFAULT: Any = {None: _NAMESPACE}
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")

# What XML cannot carry at all (XML 1.0 2.2).
_FORBIDDEN = dict.fromkeys({*range(32), 0xFFFE, 0xFFFF} - {9, 10, 13})


def xml_answer(data_sets: Sequence[Mapping[str, Any]]) -> Answer:
    """All data sets, one part each."""
    boundary = uuid.uuid4().hex
    head = f"\r\n--{boundary}\r\nContent-Type: {XML}\r\n\r\n".encode()
    parts = b"".join(head + native(data_set) for data_set in data_sets)
    content_type = f'multipart/related; type="{XML}"; boundary="{boundary}"'
    return Answer(HTTPStatus.OK, content_type, parts + f"\r\n--{boundary}--\r\n".encode())


def native(data_set: Mapping[str, Any]) -> bytes:
    """One data set as a document."""
    root = etree.Element(f"{{{_NAMESPACE}}}NativeDicomModel", nsmap=_DEFAULT)
    root.set(_SPACE, "preserve")
    _fill(root, data_set)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _fill(parent: etree._Element, data_set: Mapping[str, Any]) -> None:
    for tag, attribute in sorted(data_set.items()):
        element = _add(parent, "DicomAttribute", tag=tag, vr=attribute["vr"])
        if keyword := keyword_for_tag(int(tag, 16)):
            element.set("keyword", keyword)
        if creator := _creator(data_set, tag):
            element.set("privateCreator", creator)
        if "BulkDataURI" in attribute:
            _add(element, "BulkData", uri=attribute["BulkDataURI"])
        elif "InlineBinary" in attribute:
            _add(element, "InlineBinary").text = attribute["InlineBinary"]
        for number, value in enumerate(attribute.get("Value", ()), 1):
            _add_value(element, attribute["vr"], number, value)


def _add_value(element: etree._Element, vr: str, number: int, value: Any) -> None:
    if vr == "SQ":
        _fill(_add(element, "Item", number=str(number)), value)
    elif vr == "PN":
        name = _add(element, "PersonName", number=str(number))
        for group, text in (value or {}).items():
            parts = zip(_NAME_PARTS, _clean(text).split("^"), strict=False)
            group_element = _add(name, group)
            for part, content in parts:
                if content:
                    _add(group_element, part).text = content
    else:
        text = "" if value is None else str(value)
        _add(element, "Value", number=str(number)).text = _clean(text)


def _add(parent: etree._Element, name: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{_NAMESPACE}}}{name}", attributes)


def _creator(data_set: Mapping[str, Any], tag: str) -> str:
    """The creator of a private element's block (PS3.5 7.8.1)."""
    if not int(tag[3], 16) & 1 or tag[4:6] == "00":
        return ""
    values = data_set.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value", ())
    return _clean(str(values[0])) if values else ""


def _clean(text: str) -> str:
    return text.translate(_FORBIDDEN)
