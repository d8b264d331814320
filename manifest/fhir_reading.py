"""Reading MADO manifests in their FHIR form, whoever made them (R4 and R5, JSON).

Takes a bundle with exactly one ImagingStudy, its entries in any order and referred to by
fullUrl, by relative reference or contained; what MADO does not define is passed over. Bytes
that are hostile (endless nesting, numbers without end, wrong types) end in ManifestError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from manifest.fhir import ACCESSION, DICOM_UID_SYSTEM, PLACER, VIEWER
from manifest.model import (
    Concept,
    Manifest,
    ManifestError,
    ManifestInstance,
    ManifestSeries,
    Patient,
    PatientIdentifier,
    Request,
    Study,
)

_SEXES = {"male": "M", "female": "F", "other": "O"}
# A number with more digits than any number of a series or instance has.
_DIGITS = 11
_CLOCK = re.compile(r"T([0-9]{2}):([0-9]{2}):([0-9]{2})")

Element = dict[str, Any]


def looks_like_fhir(data: bytes) -> bool:
    """Whether the bytes begin as JSON does."""
    return data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"


def read_fhir(data: bytes) -> Manifest:
    """The manifest that a bundle states.

    Raises ManifestError for bytes that are no bundle, for one without or with several
    studies, and for one that lists nothing.
    """
    bundle = parse_bundle(data)
    if text(bundle, "resourceType") != "Bundle":
        raise ManifestError("the file is not a FHIR bundle")
    return _Bundle(bundle).manifest()


def parse_bundle(data: bytes) -> Element:
    """The JSON object that ``data`` is. Raises ManifestError."""
    try:
        bundle = json.loads(data.decode("utf-8-sig"), parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not readable JSON ({type(error).__name__})") from error
    if not isinstance(bundle, dict):
        raise ManifestError("the file is not a FHIR resource")
    return bundle


def is_of_type(identifier: Element, kind: str) -> bool:
    """Whether an identifier is of a kind of HL7 table 0203."""
    codings = elements(element(identifier, "type"), "coding")
    return any(text(one, "code") == kind for one in codings)


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError("a number beyond any in a manifest")
    return int(digits)


class _Bundle:
    """The resources of a bundle, by what they may be referred to."""

    def __init__(self, bundle: Element) -> None:
        self._bundle = bundle
        self._resources: dict[str, Element] = {}
        self._studies: list[Element] = []
        for entry in elements(bundle, "entry"):
            self._add(entry)

    def _add(self, entry: Element) -> None:
        resource = element(entry, "resource")
        kind, name = text(resource, "resourceType"), text(resource, "id")
        if kind == "ImagingStudy":
            self._studies.append(resource)
        self._resources[text(entry, "fullUrl")] = resource
        self._resources[f"{kind}/{name}"] = resource
        for one in elements(resource, "contained"):
            self._resources[f"#{text(one, 'id')}"] = one

    def manifest(self) -> Manifest:
        """The manifest that the bundle states."""
        if len(self._studies) != 1:
            raise ManifestError(f"the manifest lists {len(self._studies)} studies, not one")
        (study,) = self._studies
        series = tuple(one for one in map(self._series, elements(study, "series")) if one)
        listed = tuple(one for one in series if one.instances)
        if not listed:
            raise ManifestError("the manifest lists no instances")
        requests = self._requests(study)
        patient = self._referred(element(study, "subject"))
        others = [_identifier(one) for one in elements(patient, "identifier")][1:]
        return Manifest(
            sop_instance_uid=_uid(text(element(self._bundle, "identifier"), "value")),
            series_instance_uid="",
            study=self._study(study, requests or [Request()], patient),
            series=listed,
            created=_moment(text(self._bundle, "timestamp")),
            other_patient_ids=tuple(others),
            display_url=self._address(study, VIEWER),
        )

    def _study(self, study: Element, requests: list[Request], patient: Element) -> Study:
        uids = [
            _uid(text(one, "value"))
            for one in elements(study, "identifier")
            if text(one, "system") == DICOM_UID_SYSTEM
        ]
        if len(uids) != 1:
            raise ManifestError("the study needs one identifier that is its Study Instance UID")
        started = text(study, "started")
        request, *further = requests
        date, time = _digits(started)
        return Study(
            study_instance_uid=uids[0],
            patient=_patient(patient),
            date=date,
            time=time,
            timezone_offset=_offset(started),
            description=text(study, "description"),
            accession_number=request.accession_number,
            accession_issuer_oid=request.accession_issuer_oid,
            placer_order_number=request.placer_order_number,
            placer_issuer_oid=request.placer_issuer_oid,
            referring_physician=text(element(study, "referrer"), "display"),
            institution=self._institution(),
            further_requests=tuple(further),
        )

    def _series(self, series: Element) -> ManifestSeries:
        date, time = _digits(text(series, "started"))
        places = [self._referred(one) for one in elements(series, "endpoint")]
        location = next((uid for one in places for uid in _locations(one)), "")
        region = _coding(series, "bodySite")
        return ManifestSeries(
            series_instance_uid=_uid(text(series, "uid")),
            retrieve_location_uid=location,
            retrieve_url=next((url for one in places if (url := _url(one))), ""),
            instances=tuple(map(_instance, elements(series, "instance"))),
            modality=text(_coding(series, "modality"), "code"),
            series_number=_number(series, "number"),
            description=text(series, "description"),
            date=date,
            time=time,
            region=_concept(region) if region else None,
        )

    def _requests(self, study: Element) -> list[Request]:
        """The requests that the study is based on, else the accession numbers that it names."""
        orders = [self._referred(one) for one in elements(study, "basedOn")]
        found = [_request(one) for one in orders if one]
        if not any(one.accession_number for one in found):
            named = [
                _identifier(one)
                for one in elements(study, "identifier")
                if is_of_type(one, ACCESSION)
            ]
            found = [Request(*one) for one in named] or found
        return found

    def _institution(self) -> str:
        found = (
            text(one, "name")
            for one in self._resources.values()
            if text(one, "resourceType") == "Organization"
        )
        return next(found, "")

    def _address(self, study: Element, kind: str) -> str:
        for reference in elements(study, "endpoint"):
            endpoint = self._referred(reference)
            if text(_coding(endpoint, "connectionType"), "code") == kind:
                return text(endpoint, "address")
        return ""

    def _referred(self, reference: Element) -> Element:
        """What a reference means: by fullUrl, or by the end of it (Type/id)."""
        name = text(reference, "reference")
        found = self._resources.get(name)
        if found is None:
            found = self._resources.get("/".join(name.split("/")[-2:]))
        return found or {}


def _instance(instance: Element) -> ManifestInstance:
    sop_class = element(instance, "sopClass")
    return ManifestInstance(
        _uid(text(sop_class, "code")),
        _uid(text(instance, "uid")),
        _number(instance, "number"),
    )


def _request(resource: Element) -> Request:
    accession = _identifier(element(resource, "requisition"))
    placers = [
        _identifier(one) for one in elements(resource, "identifier") if is_of_type(one, PLACER)
    ]
    placer = placers[0] if placers else PatientIdentifier("", "")
    return Request(*accession, *placer)


def _patient(resource: Element) -> Patient:
    identifiers = [_identifier(one) for one in elements(resource, "identifier")]
    first = identifiers[0] if identifiers else PatientIdentifier("", "")
    names = elements(resource, "name")
    return Patient(
        patient_id=first.patient_id,
        issuer_oid=first.issuer_oid,
        name=_name(names[0]) if names else "",
        birth_date=_digits(text(resource, "birthDate"))[0],
        sex=_SEXES.get(text(resource, "gender"), ""),
    )


def _name(name: Element) -> str:
    """family^given^middle^prefix^suffix, or the name as it is written."""
    given = [*_texts(name, "given"), "", ""]
    parts = (
        text(name, "family"),
        given[0],
        " ".join(given[1:]).strip(),
        " ".join(_texts(name, "prefix")),
        " ".join(_texts(name, "suffix")),
    )
    return "^".join(parts).rstrip("^") or text(name, "text")


def _identifier(identifier: Element) -> PatientIdentifier:
    return PatientIdentifier(text(identifier, "value"), _uid(text(identifier, "system")))


def _locations(endpoint: Element) -> Iterator[str]:
    """The Retrieve Location UIDs that an endpoint is called by."""
    for identifier in elements(endpoint, "identifier"):
        value = text(identifier, "value")
        if value.startswith("urn:oid:"):
            yield _uid(value)


def _url(endpoint: Element) -> str:
    address = text(endpoint, "address")
    return address if address.startswith(("http://", "https://")) else ""


def _coding(parent: Element, name: str) -> Element:
    """The first code of an element: a Coding in R4, in R5 a CodeableConcept or a reference to
    one, and some of them repeat."""
    value = parent.get(name)
    value = value[0] if isinstance(value, list) and value else value
    found: Element = value if isinstance(value, dict) else {}
    found = element(found, "concept") or found
    codings = elements(found, "coding")
    return codings[0] if codings else found


def _concept(coding: Element) -> Concept:
    scheme = "SCT" if "snomed" in text(coding, "system") else text(coding, "system")
    return Concept(text(coding, "code"), scheme, text(coding, "display"))


def _digits(moment: str) -> tuple[str, str]:
    """DICOM date and time of a FHIR dateTime, in its own zone; a month alone is no date."""
    date = moment[:10].replace("-", "")
    clock = _CLOCK.match(moment[10:])
    return (date if len(date) == 8 and date.isdigit() else ""), "".join(
        clock.groups() if clock else ()
    )


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _offset(text: str) -> str:
    moment = _moment(text)
    return f"{moment:%z}"[:5] if moment else ""


def _uid(value: str) -> str:
    return value.removeprefix("urn:oid:")


def _number(parent: Element, name: str) -> int | None:
    value = parent.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(parent: Element, name: str) -> str:
    """The string in an element, empty if it is absent or something else."""
    value = parent.get(name)
    return value if isinstance(value, str) else ""


def _texts(parent: Element, name: str) -> list[str]:
    value = parent.get(name)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def element(parent: Element, name: str) -> Element:
    """The object in an element, likewise."""
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def elements(parent: Element, name: str) -> list[Element]:
    """The objects in a repeating element, likewise."""
    value = parent.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
