"""Reading manifests, whoever made them.

Takes any DICOM Key Object Selection document, in any order of elements and items: XDS-I.b
(RAD TF-3 4.68), key image notes, MADO with its descriptions, provisional codes or final; and
MADO in its FHIR form (``manifest.fhir_reading``). What neither defines is passed over. A file
that is hostile (deflated bombs, endless nesting, broken lengths) ends in ManifestError.
"""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO

from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from manifest.encoding import EXPLICIT_VR_LITTLE_ENDIAN, part10_head
from manifest.fhir_reading import looks_like_fhir, read_fhir
from manifest.library import Library, read_library, text_of
from manifest.model import (
    KEY_OBJECT_SELECTION,
    PRIVATE_CREATOR,
    Manifest,
    ManifestError,
    ManifestInstance,
    ManifestSeries,
    Patient,
    PatientIdentifier,
    Request,
    Study,
)

_DEFLATED = b"1.2.840.10008.1.2.1.99"

# A manifest of 100,000 instances has some 28 MB: what inflates to more is a bomb.
INFLATED_LIMIT_BYTES = 64 * 1024 * 1024

# Where a Part 10 file says how long its meta information is: 128 + "DICM" + (0002,0000).
_GROUP_LENGTH_AT = 140

_OFFSET = re.compile(r"([+-])([0-9]{2})([0-9]{2})")

# What pydicom lets through when it meets bytes that are not DICOM.
_UNREADABLE = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OSError,
    NotImplementedError,
    RecursionError,
    struct.error,
    zlib.error,
)

_warnings_lock = threading.Lock()


def read_manifest(data: bytes) -> Manifest:
    """The manifest that a document of any family states.

    Raises ManifestError for bytes that are no manifest, for one that lists nothing, and for
    one that lists several studies (RAD TF-3 4.68: a manifest is about one).
    """
    if len(data) > INFLATED_LIMIT_BYTES:
        raise ManifestError(f"the manifest has more than {INFLATED_LIMIT_BYTES} bytes")
    if looks_like_fhir(data):
        return read_fhir(data)
    with readable():
        dataset = open_key_object(data)
        if dataset.get("SOPClassUID") != KEY_OBJECT_SELECTION:
            raise ManifestError("the file is not a Key Object Selection document")
        return _manifest(dataset)


def open_key_object(data: bytes) -> Dataset:
    """The data set of a DICOM file, whose values are decoded as they are asked for."""
    return dcmread(BytesIO(_inflated(data)), force=True, stop_before_pixels=True)


@contextmanager
def readable() -> Iterator[None]:
    """Whatever DICOM cannot be read in this block becomes a ManifestError."""
    try:
        with _quietly():
            yield
    except ManifestError:
        raise
    except _UNREADABLE as error:
        # The error's own text may quote the patient: only its kind is told.
        raise ManifestError(f"not a readable DICOM file ({type(error).__name__})") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """pydicom's warnings quote values, health data among them: they must not reach a log."""
    log = logging.getLogger("pydicom")
    with _warnings_lock, warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        was_disabled, log.disabled = log.disabled, True
        try:
            yield
        finally:
            log.disabled = was_disabled


def _inflated(data: bytes) -> bytes:
    """``data`` with a deflated data set (PS3.5 A.5) inflated, within INFLATED_LIMIT_BYTES."""
    if _DEFLATED not in data:
        return data
    (length,) = struct.unpack_from("<I", data, _GROUP_LENGTH_AT)
    start = _GROUP_LENGTH_AT + 4 + length
    if data[128:132] != b"DICM" or _DEFLATED not in data[:start]:
        raise ManifestError("a deflated file must say so in its meta information")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(data[start:], INFLATED_LIMIT_BYTES)
    if inflater.unconsumed_tail:
        raise ManifestError(f"the manifest inflates to more than {INFLATED_LIMIT_BYTES} bytes")
    return part10_head(KEY_OBJECT_SELECTION, "0", EXPLICIT_VR_LITTLE_ENDIAN) + body


def _manifest(dataset: Dataset) -> Manifest:
    evidence = list(dataset.get("CurrentRequestedProcedureEvidenceSequence") or ())
    studies = {text_of(item, "StudyInstanceUID") for item in evidence}
    if len(studies) > 1:
        raise ManifestError(f"the manifest lists {len(studies)} studies, not one")
    series = _all_series(evidence)
    if not series:
        raise ManifestError("the manifest lists no instances")
    study = _study(dataset, studies.pop())
    library = read_library(dataset)
    return Manifest(
        sop_instance_uid=text_of(dataset, "SOPInstanceUID"),
        series_instance_uid=text_of(dataset, "SeriesInstanceUID"),
        study=study,
        series=tuple(map(library.describe, series)),
        created=_moment(dataset),
        other_patient_ids=_other_ids(dataset),
        display_url=_display_url(dataset),
        remarks=tuple(_remarks(dataset, study, series, library)),
    )


def _remarks(
    dataset: Dataset, study: Study, series: tuple[ManifestSeries, ...], library: Library
) -> Iterator[str]:
    if text_of(dataset, "StudyInstanceUID") != study.study_instance_uid:
        yield "the manifest is filed in another study"
    listed = {instance.sop_instance_uid for one in series for instance in one.instances}
    beyond = len(library.referenced - listed)
    if beyond:
        yield f"the content tree names {beyond} instances that the evidence does not list"


def _other_ids(dataset: Dataset) -> tuple[PatientIdentifier, ...]:
    return tuple(
        PatientIdentifier(
            text_of(item, "PatientID"), _authority(item, "IssuerOfPatientIDQualifiersSequence")
        )
        for item in dataset.get("OtherPatientIDsSequence") or ()
    )


def _display_url(dataset: Dataset) -> str:
    """Display URI of MADO, in the block of group 000D that its creator has reserved."""
    try:
        value = dataset.private_block(0x000D, PRIVATE_CREATOR)[0x01].value
    except KeyError:
        return ""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ")


def _all_series(evidence: list[Dataset]) -> tuple[ManifestSeries, ...]:
    """The series of all evidence items; a series told in two parts is put together."""
    found: dict[str, ManifestSeries] = {}
    for item in evidence:
        for read in map(_series, item.get("ReferencedSeriesSequence") or ()):
            uid = read.series_instance_uid
            known = found.get(uid)
            parts = read.instances if known is None else (*known.instances, *read.instances)
            found[uid] = replace(known or read, instances=parts)
    return tuple(series for series in found.values() if series.instances)


def _series(item: Dataset) -> ManifestSeries:
    return ManifestSeries(
        series_instance_uid=text_of(item, "SeriesInstanceUID"),
        retrieve_location_uid=text_of(item, "RetrieveLocationUID"),
        retrieve_ae_title=text_of(item, "RetrieveAETitle"),
        retrieve_url=text_of(item, "RetrieveURL"),
        instances=tuple(
            ManifestInstance(
                text_of(reference, "ReferencedSOPClassUID"),
                text_of(reference, "ReferencedSOPInstanceUID"),
            )
            for reference in item.get("ReferencedSOPSequence") or ()
        ),
        modality=text_of(item, "Modality"),
    )


def _study(dataset: Dataset, study_instance_uid: str) -> Study:
    requests = _requests(dataset)
    request = requests[0] if requests else Request()
    return Study(
        study_instance_uid=study_instance_uid,
        patient=_patient(dataset),
        date=text_of(dataset, "StudyDate"),
        time=text_of(dataset, "StudyTime"),
        timezone_offset=text_of(dataset, "TimezoneOffsetFromUTC"),
        description=text_of(dataset, "StudyDescription"),
        study_id=text_of(dataset, "StudyID"),
        accession_number=text_of(dataset, "AccessionNumber") or request.accession_number,
        accession_issuer_oid=_authority(dataset, "IssuerOfAccessionNumberSequence")
        or request.accession_issuer_oid,
        placer_order_number=request.placer_order_number,
        placer_issuer_oid=request.placer_issuer_oid,
        requested_procedure_id=request.requested_procedure_id,
        referring_physician=text_of(dataset, "ReferringPhysicianName"),
        institution=text_of(dataset, "InstitutionName"),
        manufacturer=text_of(dataset, "Manufacturer"),
        further_requests=requests[1:],
    )


def _requests(dataset: Dataset) -> tuple[Request, ...]:
    return tuple(
        Request(
            text_of(item, "AccessionNumber"),
            _authority(item, "IssuerOfAccessionNumberSequence"),
            text_of(item, "PlacerOrderNumberImagingServiceRequest"),
            _authority(item, "OrderPlacerIdentifierSequence"),
            text_of(item, "RequestedProcedureID"),
        )
        for item in dataset.get("ReferencedRequestSequence") or ()
    )


def _patient(dataset: Dataset) -> Patient:
    return Patient(
        patient_id=text_of(dataset, "PatientID"),
        issuer=text_of(dataset, "IssuerOfPatientID"),
        issuer_oid=_authority(dataset, "IssuerOfPatientIDQualifiersSequence"),
        name=text_of(dataset, "PatientName"),
        birth_date=text_of(dataset, "PatientBirthDate"),
        sex=text_of(dataset, "PatientSex"),
    )


def _first(dataset: Dataset, keyword: str) -> Dataset:
    items = dataset.get(keyword)
    return items[0] if items else Dataset()


def _authority(dataset: Dataset, keyword: str) -> str:
    return text_of(_first(dataset, keyword), "UniversalEntityID")


def _moment(dataset: Dataset) -> datetime | None:
    """When the content was made; UTC is assumed of a manifest that names no time zone."""
    digits = text_of(dataset, "ContentDate") + text_of(dataset, "ContentTime").partition(".")[0]
    offset = _OFFSET.fullmatch(text_of(dataset, "TimezoneOffsetFromUTC"))
    zone = UTC
    if offset:
        size = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        zone = timezone(-size if offset[1] == "-" else size)
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=zone)
    except ValueError:
        return None
