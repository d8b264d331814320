"""An imaging summary as CDA R2: a header, and one section of narrative with a table.

Covers HL7 CDA Release 2 at level 2 (a structuredBody whose section is coded and holds narrative
only). No entries: what a machine wants to know it asks of the registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from lxml import etree

from metadata.model import Code
from repository.summary import COLUMNS, Person, Summary

CDA = "urn:hl7-org:v3"
_ROOT = f'<ClinicalDocument xmlns="{CDA}" classCode="DOCCLIN" moodCode="EVN"/>'

# CDA R2 4.2.1.1: the registered HMD of the release.
_TYPE_ID = {"root": "2.16.840.1.113883.1.3", "extension": "POCD_HD000040"}
_CONFIDENTIALITY = "2.16.840.1.113883.5.25"
_GENDER = "2.16.840.1.113883.5.1"
_LOINC = "2.16.840.1.113883.6.1"
# LOINC 18726-0: Radiology studies (set).
_SECTION_CODE = "18726-0"
# HL7 table 0001 in terms of AdministrativeGender; what it does not have is UN.
_SEXES = {"F": "F", "M": "M"}


def render(summary: Summary, unique_id: str, moment: datetime) -> bytes:
    """The document ``unique_id`` (its ClinicalDocument/id) assembled at ``moment``."""
    document = etree.fromstring(_ROOT)
    _add(document, "typeId", _TYPE_ID)
    root, _, extension = unique_id.partition("^")
    _add(document, "id", {"root": root, **({"extension": extension} if extension else {})})
    _add(document, "code", _coded(summary.type_code))
    _add(document, "title", text=summary.heading)
    time = {"value": moment.strftime("%Y%m%d%H%M%S%z")}
    _add(document, "effectiveTime", time)
    _add(document, "confidentialityCode", _coded(summary.confidentiality))
    _add(document, "languageCode", {"code": summary.language_code})
    _record_target(document, summary.patient)
    _author(document, summary, time)
    custodian = _add(_add(document, "custodian"), "assignedCustodian")
    _organization(_add(custodian, "representedCustodianOrganization"), summary)
    _body(document, summary, moment)
    return etree.tostring(document, xml_declaration=True, encoding="UTF-8")


def _add(
    parent: etree._Element, name: str, attributes: Mapping[str, str] | None = None, text: str = ""
) -> etree._Element:
    element = etree.SubElement(parent, f"{{{CDA}}}{name}", dict(attributes or {}))
    if text:
        element.text = text
    return element


def _coded(code: Code) -> dict[str, str]:
    return {
        "code": code.code,
        "codeSystem": code.scheme,
        "displayName": str(code.display_name or code.code),
    }


def _record_target(document: etree._Element, person: Person) -> None:
    role = _add(_add(document, "recordTarget"), "patientRole")
    _add(role, "id", {"root": person.authority, "extension": person.id})
    patient = _add(role, "patient")
    name = _add(patient, "name")
    if not person.name:
        name.set("nullFlavor", "UNK")
    for part, text in (("family", person.family), ("given", person.given)):
        if text:
            _add(name, part, text=text)
    if person.sex in _SEXES:
        gender = {"code": _SEXES[person.sex], "codeSystem": _GENDER}
    else:
        gender = {"nullFlavor": "UNK"}
    _add(patient, "administrativeGenderCode", gender)
    born = person.birth_date
    known = born.isdigit() and len(born) in (4, 6, 8)
    _add(patient, "birthTime", {"value": born} if known else {"nullFlavor": "UNK"})


def _author(document: etree._Element, summary: Summary, time: Mapping[str, str]) -> None:
    author = _add(document, "author")
    _add(author, "time", time)
    assigned = _add(author, "assignedAuthor")
    _add(assigned, "id", {"root": summary.institution_oid})
    device = _add(assigned, "assignedAuthoringDevice")
    _add(device, "softwareName", text="Kosmos")
    _organization(_add(assigned, "representedOrganization"), summary)


def _organization(element: etree._Element, summary: Summary) -> None:
    _add(element, "id", {"root": summary.institution_oid})
    _add(element, "name", text=summary.institution)


def _body(document: etree._Element, summary: Summary, moment: datetime) -> None:
    body = _add(_add(document, "component"), "structuredBody")
    section = _add(_add(body, "component"), "section")
    code = {"code": _SECTION_CODE, "codeSystem": _LOINC, "displayName": "Radiology studies (set)"}
    _add(section, "code", code)
    _add(section, "title", text=summary.words["exams"])
    narrative = _add(section, "text")
    if summary.exams:
        _table(narrative, summary)
    else:
        _add(narrative, "paragraph", text=summary.words["none"])
    _add(narrative, "paragraph", text=summary.assembled(moment))


def _table(narrative: etree._Element, summary: Summary) -> None:
    table = _add(narrative, "table")
    heading = _add(_add(table, "thead"), "tr")
    for column in COLUMNS:
        _add(heading, "th", text=summary.words[column])
    rows = _add(table, "tbody")
    for exam in summary.exams:
        row = _add(rows, "tr")
        for text in summary.row(exam):
            _add(row, "td", text=text)
