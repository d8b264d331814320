"""What a CDA R2 document says of an imaging report (HL7 CDA R2; PS3.20 7 and 8).

Covers the header: identity, patient, who answers for it, the study (documentationOf), the accession
number, the orders it fulfils; and which form the body has. It judges no template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, tzinfo

from lxml import etree

from hl7.demographics import Identifier
from manifest.model import ManifestError
from manifest.report import PDF_MIME_TYPE, Form, Person, Report
from metadata.datatypes import DTM, is_oid
from soap.faults import MessageError
from soap.xml import parse

_HL7 = "urn:hl7-org:v3"
_DICOM = "urn:dicom-org:ps3-20"
_NAMES = {"c": _HL7, "d": _DICOM}
# A time of HL7 v3 that names at least a day, and its zone if it has one.
_TIME = re.compile(r"(\d{8})(\d{2})?(\d{2})?(\d{2})?(?:\.\d+)?([+-]\d{4})?")
_DAY_DIGITS = 8
# ITI TF-3 4.2.3.2.26: a uniqueId has at most 128 characters, an extension at most 16.
_EXTENSION_LIMIT = 16


def read_cda(data: bytes, zone: tzinfo = UTC) -> Report:
    """The report that a CDA document is; ``zone`` is that of times that name none.

    Raises ManifestError for what is none.
    """
    try:
        root = parse(data)
    except MessageError as error:
        raise ManifestError(f"the CDA document cannot be read: {error}") from error
    if root.tag != f"{{{_HL7}}}ClinicalDocument":
        raise ManifestError("the XML document is no ClinicalDocument of CDA")
    accession, issuer = _accession(root)
    return Report(
        form=_form(root),
        title=_text(_find(root, "c:title")),
        language=_attribute(root, "c:languageCode", "code"),
        created=moment(_attribute(root, "c:effectiveTime", "value"), zone),
        author=_author(root),
        study_instance_uid=_study(root),
        accession_number=accession,
        accession_issuer_oid=issuer,
        document_id=_document_id(root),
        patients=(_patient(root),),
    )


def version_set(data: bytes) -> str:
    """What all versions of a document have in common: its setId, else its id; may be empty."""
    root = parse(data)
    for path in ("c:setId", "c:id"):
        name = _attribute(root, path, "root"), _attribute(root, path, "extension")
        if any(name):
            return "^".join(name).rstrip("^")
    return ""


def moment(value: str, zone: tzinfo = UTC) -> str:
    """A time of HL7 as a DTM in UTC, as precise as it is; empty for what is none.

    ``zone`` is that of a time that names none. A day stays the local day.
    """
    found = _TIME.fullmatch(value.strip())
    if found is None:
        return ""
    *parts, offset = found.groups("")
    digits = "".join(parts)
    with suppress(ValueError, OverflowError):
        at = datetime.strptime(f"{digits:0<14}", "%Y%m%d%H%M%S").replace(tzinfo=zone)
        if len(digits) == _DAY_DIGITS:
            return DTM(digits)
        if offset:
            at = at.replace(tzinfo=datetime.strptime(offset, "%z").tzinfo)
        # A half-hour zone turns a whole hour into a minute: nothing coarser than that is cut.
        return DTM(DTM.of(at)[: max(len(digits), 12)])
    return ""


def _form(root: etree._Element) -> Form:
    if root.find("c:component/c:structuredBody", _NAMES) is not None:
        return Form.STRUCTURED
    text = root.find("c:component/c:nonXMLBody/c:text", _NAMES)
    if text is None:
        raise ManifestError("the CDA document has no body")
    media_type = text.get("mediaType", "text/plain")
    if media_type == PDF_MIME_TYPE:
        return Form.WRAPPED_PDF
    if not media_type.startswith("text/"):
        raise ManifestError("the body of the CDA document is neither text nor a PDF")
    return Form.TEXT


def _find(root: etree._Element, path: str) -> etree._Element:
    """The first element at ``path``; one without content where there is none."""
    found = root.find(path, _NAMES)
    return etree.Element("none") if found is None else found


def _text(element: etree._Element) -> str:
    return " ".join("".join(str(part) for part in element.itertext()).split())


def _attribute(root: etree._Element, path: str, name: str) -> str:
    return _find(root, path).get(name, "").strip()


def _ids(root: etree._Element, path: str) -> Iterator[tuple[str, str]]:
    """The root and extension of each identifier at ``path``."""
    for one in root.iterfind(path, _NAMES):
        if one.get("nullFlavor") is None:
            yield one.get("root", "").strip(), one.get("extension", "").strip()


def _patient(root: etree._Element) -> tuple[Identifier, ...]:
    return tuple(
        Identifier(value, authority, "")
        for authority, value in _ids(root, "c:recordTarget/c:patientRole/c:id")
        if authority and value
    )


def _author(root: etree._Element) -> Person:
    """The legal authenticator, else the first author."""
    for path in ("c:legalAuthenticator/c:assignedEntity", "c:author/c:assignedAuthor"):
        found = root.find(path, _NAMES)
        if found is not None:
            return _person(found)
    return Person()


def _person(role: etree._Element) -> Person:
    authority, identifier = next(_ids(role, "c:id"), ("", ""))
    name = _find(role, "c:assignedPerson/c:name")
    family, given = _text(_find(name, "c:family")), _text(_find(name, "c:given"))
    if not family and not len(name):
        family = _text(name)
    return Person(identifier, authority if is_oid(authority) else "", family, given)


def _study(root: etree._Element) -> str:
    """The study that was reported, named as an act of the documentation (PS3.20 8.2.3)."""
    named = (one for one, extension in _ids(root, "c:documentationOf/c:serviceEvent/c:id"))
    return next((one for one in named if is_oid(one)), "")


def _accession(root: etree._Element) -> tuple[str, str]:
    """The accession number of the order fulfilled and the OID of its issuer (PS3.20 8.2.4)."""
    for authority, number in _ids(root, "c:inFulfillmentOf/c:order/d:accessionNumber"):
        if number:
            return number, authority if is_oid(authority) else ""
    return "", ""


def _document_id(root: etree._Element) -> str:
    name, extension = next(_ids(root, "c:id"), ("", ""))
    if not is_oid(name) or len(extension) > _EXTENSION_LIMIT or "^" in extension:
        return ""
    return f"{name}^{extension}" if extension else name
