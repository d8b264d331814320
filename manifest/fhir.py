"""The MADO manifest as a FHIR bundle: an ImagingStudy and what it refers to.

Covers the FHIR form of IHE RAD MADO in releases R4 and R5, as JSON: a collection of one
ImagingStudy with its Patient, the Organization that made the images, a ServiceRequest for
each request and an Endpoint for each place of retrieval, whose identifier is the Retrieve
Location UID. The references between them are UUIDs made from the study's UID, so the same
manifest is always the same bytes. The number of frames is not written: ImagingStudy has no
element for it. ``manifest.fhir_reading`` is its counterpart.
"""

from __future__ import annotations

import json
from typing import Any, Literal
from uuid import NAMESPACE_OID, uuid5

from manifest.model import (
    Concept,
    Manifest,
    ManifestError,
    ManifestInstance,
    ManifestSeries,
    Patient,
    Request,
)
from manifest.moments import local_time

Release = Literal["R4", "R5"]

URI_SYSTEM = "urn:ietf:rfc:3986"
DICOM_UID_SYSTEM = "urn:dicom:uid"
DCM_SYSTEM = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED_SYSTEM = "http://snomed.info/sct"
IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
CONNECTION_TYPES = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
ACCESSION, PLACER = "ACSN", "PLAC"
WADO_RS, XDS, VIEWER = "dicom-wado-rs", "ihe-xds", "ihe-iid"
"""Kinds of endpoint: WADO-RS, RAD-69 by Retrieve Location UID, a viewer (IHE IID)."""

_GENDERS = {"M": "male", "F": "female", "O": "other"}

Resource = dict[str, Any]


def write_fhir(manifest: Manifest, release: Release = "R4") -> bytes:
    """``manifest`` as a bundle in JSON, UTF-8.

    Raises ManifestError for one without instances or time of creation.
    """
    if manifest.created is None or not manifest.instance_count:
        raise ManifestError("a manifest needs its time of creation and an instance")
    resources = _Resources(manifest, release).all()
    bundle = {
        "resourceType": "Bundle",
        "identifier": {"system": URI_SYSTEM, "value": _oid(manifest.sop_instance_uid)},
        "type": "collection",
        "timestamp": manifest.created.isoformat(timespec="seconds"),
        "entry": [{"fullUrl": url, "resource": one} for url, one in resources.items()],
    }
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode()


class _Resources:
    """The resources of one bundle, which refer to each other by ``fullUrl``."""

    def __init__(self, manifest: Manifest, release: Release) -> None:
        self._manifest = manifest
        self._release = release
        self._places = {
            place: self._url(f"endpoint {place}") for place in map(_place, manifest.series)
        }
        self._requests = {
            self._url(f"request {number}"): request
            for number, request in enumerate(manifest.study.requests)
            if request != Request()
        }
        self._subject = {"reference": self._url("patient")}

    def all(self) -> dict[str, Resource]:
        """The resources by ``fullUrl``, the study first."""
        institution = self._manifest.study.institution
        resources = {
            self._url("study"): self._study(),
            self._url("patient"): self._patient(),
            self._url("institution"): {"resourceType": "Organization", "name": institution},
            **{url: self._request(request) for url, request in self._requests.items()},
            **{url: self._endpoint(*place) for place, url in self._places.items()},
            self._url("viewer"): self._endpoint("", self._manifest.display_url, VIEWER),
        }
        absent = {"institution": institution, "viewer": self._manifest.display_url}
        for name in (name for name, known in absent.items() if not known):
            del resources[self._url(name)]
        return resources

    def _url(self, name: str) -> str:
        return f"urn:uuid:{uuid5(NAMESPACE_OID, f'{self._manifest.study_instance_uid} {name}')}"

    def _study(self) -> Resource:
        manifest, study = self._manifest, self._manifest.study
        modalities = sorted({series.modality for series in manifest.series} - {""})
        places = [*self._places.values()]
        if manifest.display_url:
            places.append(self._url("viewer"))
        return _known(
            resourceType="ImagingStudy",
            identifier=[
                {"system": DICOM_UID_SYSTEM, "value": _oid(manifest.study_instance_uid)},
                *(_accession(one) for one in manifest.study.requests if one.accession_number),
            ],
            status="available",
            modality=[self._modality(one) for one in modalities],
            subject=self._subject,
            started=self._moment(study.date, study.time),
            basedOn=[{"reference": url} for url in self._requests],
            referrer=_known(display=study.referring_physician.partition("=")[0].replace("^", " ")),
            endpoint=[{"reference": url} for url in places],
            numberOfSeries=len(manifest.series),
            numberOfInstances=manifest.instance_count,
            description=study.description,
            series=[self._series(one) for one in manifest.series],
        )

    def _series(self, series: ManifestSeries) -> Resource:
        return _known(
            uid=series.series_instance_uid,
            number=_unsigned(series.series_number),
            modality=self._modality(series.modality or "OT"),
            description=series.description,
            numberOfInstances=len(series.instances),
            endpoint=[{"reference": self._places[_place(series)]}],
            bodySite=self._region(series.region),
            started=self._moment(series.date, series.time),
            instance=[_instance(one) for one in series.instances],
        )

    def _modality(self, code: str) -> Resource:
        coding = {"system": DCM_SYSTEM, "code": code}
        return coding if self._release == "R4" else {"coding": [coding]}

    def _region(self, region: Concept | None) -> Resource:
        if region is None:
            return {}
        coding = {"system": SNOMED_SYSTEM, "code": region.code, "display": region.meaning}
        return coding if self._release == "R4" else {"concept": {"coding": [coding]}}

    def _moment(self, date: str, time: str) -> str:
        """A FHIR dateTime: with the zone, or the date alone where no minute is known."""
        found = local_time(date, time)
        if found is None or self._manifest.created is None:
            return ""
        moment, digits = found
        if digits < 12:
            return moment.date().isoformat()
        return moment.replace(tzinfo=self._manifest.created.tzinfo).isoformat(timespec="seconds")

    def _patient(self) -> Resource:
        patient = self._manifest.patient
        own = (patient.patient_id, patient.issuer_oid)
        return _known(
            resourceType="Patient",
            identifier=[_identifier(*one) for one in (own, *self._manifest.other_patient_ids)],
            name=[_name(patient)] if patient.name else [],
            gender=_GENDERS.get(patient.sex, "unknown"),
            birthDate=self._moment(patient.birth_date, ""),
        )

    def _request(self, request: Request) -> Resource:
        placer = _identifier(request.placer_order_number, request.placer_issuer_oid, PLACER)
        return _known(
            resourceType="ServiceRequest",
            identifier=[placer] if request.placer_order_number else [],
            requisition=_accession(request) if request.accession_number else {},
            status="completed",
            intent="order",
            subject=self._subject,
        )

    def _endpoint(self, location: str, url: str, kind: str = "") -> Resource:
        kind = kind or (WADO_RS if url else XDS)
        connection = {"system": CONNECTION_TYPES, "code": kind}
        payload = {"text": "DICOM"}
        is_r4 = self._release == "R4"
        return _known(
            resourceType="Endpoint",
            identifier=[{"system": URI_SYSTEM, "value": _oid(location)}] if location else [],
            status="active",
            connectionType=connection if is_r4 else [{"coding": [connection]}],
            payloadType=[payload] if is_r4 else [],
            payload=[] if is_r4 else [{"type": [payload]}],
            address=url or _oid(location),
        )


def _known(**elements: Any) -> Resource:
    """The elements that have a value: FHIR allows no empty ones."""
    return {name: value for name, value in elements.items() if value not in ("", None, [], {})}


def _place(series: ManifestSeries) -> tuple[str, str]:
    return series.retrieve_location_uid, series.retrieve_url


def _instance(instance: ManifestInstance) -> Resource:
    told: Resource = {
        "uid": instance.sop_instance_uid,
        "sopClass": {"system": URI_SYSTEM, "code": _oid(instance.sop_class_uid)},
    }
    number = _unsigned(instance.instance_number)
    return told if number is None else {**told, "number": number}


def _unsigned(number: int | None) -> int | None:
    """FHIR counts from zero; DICOM's numbers may be negative."""
    return number if number is not None and number >= 0 else None


def _accession(request: Request) -> Resource:
    return _identifier(request.accession_number, request.accession_issuer_oid, ACCESSION)


def _identifier(value: str, authority: str, kind: str = "") -> Resource:
    return _known(
        type={"coding": [{"system": IDENTIFIER_TYPES, "code": kind}]} if kind else {},
        system=_oid(authority) if authority else "",
        value=value,
    )


def _name(patient: Patient) -> Resource:
    """DICOM's family^given^middle^prefix^suffix, of its first (alphabetic) writing."""
    parts = [*patient.name.partition("=")[0].split("^"), "", "", "", "", ""]
    return _known(
        family=parts[0],
        given=[part for part in parts[1:3] if part],
        prefix=[part for part in parts[3:4] if part],
        suffix=[part for part in parts[4:5] if part],
    )


def _oid(uid: str) -> str:
    return f"urn:oid:{uid}"
