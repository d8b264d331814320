"""Names of HL7 v3 that requests and acknowledgements share, and the nodes made of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from lxml import etree

NAMESPACE = "urn:hl7-org:v3"
NS = f"{{{NAMESPACE}}}"

ADD = "PRPA_IN201301UV02"
REVISE = "PRPA_IN201302UV02"
MERGE = "PRPA_IN201304UV02"
ACKNOWLEDGEMENT = "MCCI_IN000002UV01"

INTERACTIONS = "2.16.840.1.113883.1.6"
"""OID of HL7's interaction ids (ITI TF-2 O.1.1)."""

TRIGGERS = "2.16.840.1.113883.1.18"
"""OID of HL7's trigger event ids (ITI TF-2 O.2.1)."""

TABLE_0357 = "2.16.840.1.113883.12.357"
"""OID of HL7 table 0357, whose codes ITI-8 and ITI-44 share (ITI TF-2 3.44.4.1.3)."""


class II(NamedTuple):
    """An instance identifier: ``root`` an OID or UUID, ``extension`` unique below it."""

    root: str = ""
    extension: str = ""
    authority_name: str = ""

    def __str__(self) -> str:
        return f"{self.extension}@{self.root}" if self.extension else self.root


SPACE = " \t\r\n"
"""What XML calls white space (2.3)."""

NONE = II()
"""No identifier."""


def path(steps: str) -> str:
    """``a/b`` as ElementTree wants it, each step in HL7's namespace."""
    return "/".join(f"{NS}{step}" for step in steps.split("/"))


def read_id(element: etree._Element | None) -> II:
    """The identifier in an ``id`` element; empty where there is none."""
    if element is None or element.get("nullFlavor"):
        return NONE
    names = ("root", "extension", "assigningAuthorityName")
    return II(*((element.get(name) or "").strip(SPACE) for name in names))


def node(parent: etree._Element, tag: str, text: str = "", **attributes: str) -> etree._Element:
    """A new child of ``parent``; attributes without a value are left out."""
    given = {name: value for name, value in attributes.items() if value}
    made = etree.SubElement(parent, f"{NS}{tag}", given)
    made.text = text or None
    return made


def id_node(parent: etree._Element, identifier: II) -> etree._Element:
    """An ``id``; one without a value says so (NI, no information)."""
    root, extension, authority = identifier
    null_flavor = "" if root or extension else "NI"
    attributes = {"root": root, "extension": extension, "assigningAuthorityName": authority}
    return node(parent, "id", nullFlavor=null_flavor, **attributes)


def transmission(
    interaction: str, accept: str, sender: II, receiver: II, message_id: II | None, now: datetime
) -> etree._Element:
    """A message with its transmission wrapper (MCCI_MT000100UV01, MCCI_MT000200UV01)."""
    root = etree.fromstring(f'<{interaction} xmlns="{NAMESPACE}" ITSVersion="XML_1.0"/>')
    id_node(root, message_id or II(str(uuid4())))
    node(root, "creationTime", value=now.astimezone(UTC).strftime("%Y%m%d%H%M%S"))
    node(root, "interactionId", root=INTERACTIONS, extension=interaction)
    for name, code in (
        ("processingCode", "P"),
        ("processingModeCode", "T"),
        ("acceptAckCode", accept),
    ):
        node(root, name, code=code)
    for role, type_code, device_id in (("receiver", "RCV", receiver), ("sender", "SND", sender)):
        device = node(
            node(root, role, typeCode=type_code),
            "device",
            classCode="DEV",
            determinerCode="INSTANCE",
        )
        id_node(device, device_id)
    return root


def serialised(element: etree._Element) -> bytes:
    """``element`` in UTF-8 without an XML declaration, as a SOAP body holds it."""
    return etree.tostring(element, encoding="UTF-8", xml_declaration=False, with_tail=False)
