"""``codes.xml``, the code sets as XDS toolkits write them: read and written.

The well-known form of the NIST XDS toolkit::

    <Codes>
      <AssigningAuthority id="1.2.250.1.213.1.4.10"/>
      <CodeType name="classCode" classScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a">
        <Code code="31" display="Imaging" codingScheme="1.2.250.1.213.1.1.4.1"/>
      </CodeType>
      <CodeType name="mimeType"><Code code="text/xml" ext="xml"/></CodeType>
    </Codes>

What is read becomes the mapping of ``AffinityDomain.from_mapping``. A CodeType is known by its
name, or by its classScheme where toolkits name it otherwise; one that XDS does not know is
ignored with a note. The form has no word for policies, sources and sets that are open: a set
that is left out is open. The XML is parsed as if it came from outside (``soap.xml``).
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lxml import etree

from metadata.affinity_domain import CODE_SETS, AffinityDomain, CodeSet, DomainError
from metadata.attributes import KINDS, Carrier
from node.texts import tr
from soap.xml import XMLRefused, parse

# CodeTypes whose codes stand for themselves, and the key of their list.
_LISTS = {"mimeType": "mime_types", "languageCode": "languages"}
_BY_SCHEME = {
    row.key: row.vocabulary for kind in KINDS.values() for row in kind.carried_by(Carrier.CODE)
}
_SCHEMES = {name: scheme for scheme, name in _BY_SCHEME.items()}


def read_xml(data: bytes) -> tuple[dict[str, Any], list[str]]:
    """The mapping that ``data`` describes, and a note on each part that was ignored.

    Raises DomainError naming line, attribute, code and scheme of what cannot be used.
    """
    try:
        root = parse(data)
    except XMLRefused as error:
        raise DomainError(tr("not usable XML: {reason}", reason=error)) from None
    if _name(root) != "Codes":
        raise DomainError(tr("the root element is {name}, not Codes", name=_name(root)))
    settings: dict[str, Any] = {"codes": {}}
    notes: list[str] = []
    authorities = [child.get("id", "") for child in root if _name(child) == "AssigningAuthority"]
    if authorities:
        settings["assigning_authority"] = authorities[0]
    if len(authorities) > 1:
        others = ", ".join(authorities[1:])
        notes.append(tr("only the first AssigningAuthority counts, not {others}", others=others))
    for child in root:
        if _name(child) == "CodeType":
            _read_type(child, settings, notes)
    return settings, notes


def _read_type(element: etree._Element, settings: dict[str, Any], notes: list[str]) -> None:
    given = element.get("name", "")
    name = given if given in CODE_SETS else _BY_SCHEME.get(element.get("classScheme", ""), given)
    codes = [child for child in element if _name(child) == "Code"]
    if name not in CODE_SETS and name not in _LISTS:
        notes.append(tr("CodeType {name} is no attribute of XDS: ignored", name=given or "?"))
    elif not codes:
        raise DomainError(
            tr("{name} has no Code: leave the CodeType out where any code goes", name=given)
        )
    elif name in _LISTS:
        values = settings.setdefault(_LISTS[name], [])
        values += [_required(code, "code", name) for code in codes]
    else:
        schemes = settings["codes"].setdefault(name, {})
        for code in codes:
            scheme = _required(code, "codingScheme", name)
            schemes.setdefault(scheme, []).append(_line(code, name))


def _line(code: etree._Element, name: str) -> str:
    """The code as the mapping writes it; a tab, for a code may hold blanks."""
    return f"{_required(code, 'code', name)}\t{code.get('display', '').strip()}"


def _required(code: etree._Element, attribute: str, name: str) -> str:
    value = code.get(attribute, "").strip()
    if value:
        return value
    told = " ".join(f'{key}="{code.get(key)}"' for key in map(str, code.keys()))
    raise DomainError(
        tr(
            "line {line}: {name}: a Code without {attribute}: <Code {told}/>",
            line=code.sourceline,
            name=name,
            attribute=attribute,
            told=told,
        )
    )


def write_xml(domain: AffinityDomain, authority: str | None) -> bytes:
    """The code sets of ``domain`` as ``codes.xml``; open sets are left out.

    ``authority`` issues the domain's patient ids, where the file is to say so.
    """
    root = etree.Element("Codes")
    if authority:
        etree.SubElement(root, "AssigningAuthority", id=authority)
    for name, codes in domain.code_sets.items():
        if codes is not None:
            _write_type(root, name, _codes(codes))
    if domain.mime_types is not None:
        _write_type(root, "mimeType", map(_mime_type, sorted(domain.mime_types)))
    if domain.languages is not None:
        _write_type(root, "languageCode", ({"code": tag} for tag in sorted(domain.languages)))
    etree.indent(root)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8") + b"\n"


def _write_type(root: etree._Element, name: str, codes: Iterable[Mapping[str, str]]) -> None:
    scheme = {"classScheme": _SCHEMES[name]} if name in _SCHEMES else {}
    element = etree.SubElement(root, "CodeType", {"name": name, **scheme})
    for code in codes:
        etree.SubElement(element, "Code", dict(code))


def _codes(codes: CodeSet) -> Iterator[dict[str, str]]:
    for (scheme, code), display in codes.names.items():
        yield {"code": code, "display": display or code, "codingScheme": scheme}


def _mime_type(mime_type: str) -> dict[str, str]:
    extension = mimetypes.guess_extension(mime_type)
    return {"code": mime_type, **({"ext": extension.lstrip(".")} if extension else {})}


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname
