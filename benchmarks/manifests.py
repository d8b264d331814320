"""Manifests: those of a study of 3,000 instances, from the index to bytes.

The reference is pydicom as it is usually used: data sets built item by item, then written.
Both must make the same bytes, so the reference is also the proof of ours.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian
from sqlalchemy import Connection

from benchmarks.figures import Row, WrongAnswer, interleaved
from imaging_source.header import Header
from imaging_source.index import MIGRATIONS, Arrived, add, describe
from manifest.concepts import NO_UNITS, Known
from manifest.encoding import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from manifest.key_object import value_type
from manifest.kos import write_kos
from manifest.mado import modalities, regions, write_mado
from manifest.model import (
    KEY_OBJECT_SELECTION,
    MANIFEST,
    Concept,
    Manifest,
    ManifestInstance,
    ManifestSeries,
    Patient,
    Study,
)
from node.process import COLLECT_EVERY
from storage.database import Database

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.250.1.99.9"
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scale:
    """Series of the study, and instances of each."""

    series: int = 10
    instances: int = 300
    rounds: int = 3


QUICK = Scale(series=2, instances=20, rounds=1)


def measure(scale: Scale) -> Iterator[Row]:
    """XDS-I.b and MADO manifests from the index, beside pydicom without it."""
    with (
        TemporaryDirectory() as folder,
        Database.open(f"sqlite:///{Path(folder) / 'imaging.db'}") as database,
    ):
        database.migrate(MIGRATIONS)
        _fill(database, scale)
        count = scale.series * scale.instances
        # Limits in ms for 3,000 instances: a study must not wait for its manifest.
        for name, write, plain, limit, reach in (
            ("KOS", write_kos, _plain_kos, 20.0, 20.0),
            ("MADO KOS", write_mado, _plain_mado, 100.0, 20.0),
        ):
            ours, theirs = _measure(database, write, plain, scale.rounds)
            work = f"{name} of {count} instances"
            here, there = (f"{1000 * seconds:,.1f} ms" for seconds in (ours, theirs))
            yield Row(f"{work} beside pydicom", here, there, theirs / ours, reach)
            yield Row(f"{work}: time", here, "", 1000 * ours, limit, at_most=True, unit=" ms")


def _measure(
    database: Database,
    write: Callable[[Manifest], bytes],
    plain: Callable[[Manifest], bytes],
    rounds: int,
) -> tuple[float, float]:
    """Seconds of both ways, the median of each."""
    manifest = _described(database)
    if write(manifest) != plain(manifest):
        raise WrongAnswer("the manifest is not what pydicom writes")
    usual = gc.get_threshold()
    gc.set_threshold(COLLECT_EVERY)  # as the processes of a node have it
    try:
        ours, theirs = interleaved(
            rounds,
            lambda: _seconds(lambda: write(_described(database))),
            lambda: _seconds(lambda: plain(manifest)),
        )
    finally:
        gc.set_threshold(*usual)
    return median(ours), median(theirs)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _fill(database: Database, scale: Scale) -> None:
    study = Study(
        study_instance_uid=STUDY,
        patient=Patient(patient_id="P1", name="Durand^Anne"),
        date="20260102",
        time="030405",
        description="Thorax",
        accession_number="A1",
    )
    headers = (
        Header(
            sop_class_uid=CT_IMAGE,
            sop_instance_uid=f"{STUDY}.{series}.{number}",
            series_instance_uid=f"{STUDY}.{series}",
            study=study,
            modality="CT",
            series_number=series,
            series_description="Axial",
            body_part="CHEST",
            series_date="20260102",
            series_time="030405",
            instance_number=number,
            number_of_frames=1,
        )
        for series in range(1, scale.series + 1)
        for number in range(1, scale.instances + 1)
    )

    def work(connection: Connection) -> None:
        for header in headers:
            add(connection, _arrived(header))

    database.write(work)


def _arrived(header: Header) -> Arrived:
    return Arrived(
        header=header,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        sha256=header.sop_instance_uid,
        size=1,
        sender="BENCH",
        received_at=0.0,
    )


def _described(database: Database) -> Manifest:
    with database.read() as connection:
        study, series = describe(connection, STUDY)
    located = (
        replace(one, retrieve_location_uid="1.2.250.1.9", retrieve_ae_title="KOSMOS")
        for one in series
    )
    return Manifest(
        sop_instance_uid="2.25.1",
        series_instance_uid="2.25.2",
        study=study,
        series=tuple(located),
        created=CREATED,
    )


# --- the plain way


def _plain_kos(manifest: Manifest) -> bytes:
    return _plain(manifest, MANIFEST, [])


def _plain_mado(manifest: Manifest) -> bytes:
    library = _container(
        Known.IMAGE_LIBRARY,
        [_coded(Known.MODALITY, one) for one in modalities(manifest)]
        + [_coded(Known.TARGET_REGION, one) for one in regions(manifest)]
        + [_counted(Known.SERIES_COUNT, len(manifest.series))]
        + [_group(one) for one in manifest.series],
    )
    return _plain(manifest, Known.TITLE.written, [library])


def _plain(manifest: Manifest, title: Concept, further: list[Dataset]) -> bytes:
    study, date, moment = manifest.study, f"{CREATED:%Y%m%d}", f"{CREATED:%H%M%S}"
    dataset = _dataset(
        SpecificCharacterSet="ISO_IR 192",
        InstanceCreationDate=date,
        InstanceCreationTime=moment,
        SOPClassUID=KEY_OBJECT_SELECTION,
        SOPInstanceUID=manifest.sop_instance_uid,
        StudyDate=study.date,
        ContentDate=date,
        StudyTime=study.time,
        ContentTime=moment,
        AccessionNumber=study.accession_number,
        Modality="KO",
        Manufacturer="",
        ReferringPhysicianName="",
        TimezoneOffsetFromUTC="+0000",
        StudyDescription=study.description,
        ReferencedPerformedProcedureStepSequence=Sequence(),
        PatientName=study.patient.name,
        PatientID=study.patient.patient_id,
        PatientBirthDate="",
        PatientSex="",
        StudyInstanceUID=study.study_instance_uid,
        SeriesInstanceUID=manifest.series_instance_uid,
        StudyID="",
        SeriesNumber=59,
        InstanceNumber=1,
        ValueType="CONTAINER",
        ConceptNameCodeSequence=_code(title),
        ContinuityOfContent="SEPARATE",
        ReferencedRequestSequence=Sequence([_request(study)]),
        CurrentRequestedProcedureEvidenceSequence=Sequence([_evidence(manifest)]),
        ContentTemplateSequence=Sequence(
            [_dataset(MappingResource="DCMR", TemplateIdentifier="2010")]
        ),
        ContentSequence=Sequence(
            [_pointer(one) for series in manifest.series for one in series.instances] + further
        ),
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(KEY_OBJECT_SELECTION)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(manifest.sop_instance_uid)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _dataset(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _code(concept: Concept) -> Sequence:
    code, scheme, meaning = concept
    return Sequence([_dataset(CodeValue=code, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def _request(study: Study) -> Dataset:
    return _dataset(
        AccessionNumber=study.accession_number,
        ReferencedStudySequence=Sequence(),
        StudyInstanceUID=study.study_instance_uid,
        RequestedProcedureDescription=study.description,
        RequestedProcedureCodeSequence=Sequence(),
        RequestedProcedureID="",
        PlacerOrderNumberImagingServiceRequest="",
        FillerOrderNumberImagingServiceRequest="",
    )


def _evidence(manifest: Manifest) -> Dataset:
    series = (
        _dataset(
            RetrieveAETitle=one.retrieve_ae_title,
            ReferencedSOPSequence=Sequence([_reference(two) for two in one.instances]),
            SeriesInstanceUID=one.series_instance_uid,
            RetrieveLocationUID=one.retrieve_location_uid,
        )
        for one in manifest.series
    )
    return _dataset(
        ReferencedSeriesSequence=Sequence(series), StudyInstanceUID=manifest.study_instance_uid
    )


def _reference(instance: ManifestInstance) -> Dataset:
    return _dataset(
        ReferencedSOPClassUID=instance.sop_class_uid,
        ReferencedSOPInstanceUID=instance.sop_instance_uid,
    )


def _pointer(instance: ManifestInstance) -> Dataset:
    return _dataset(
        ReferencedSOPSequence=Sequence([_reference(instance)]),
        RelationshipType="CONTAINS",
        ValueType=value_type(instance.sop_class_uid),
    )


def _group(series: ManifestSeries) -> Dataset:
    return _container(
        Known.IMAGE_LIBRARY_GROUP,
        [
            _coded(Known.MODALITY, Concept(series.modality, "DCM", series.modality)),
            _said("UIDREF", Known.SERIES_UID, UID=series.series_instance_uid),
            _said("TEXT", Known.SERIES_DESCRIPTION, TextValue=series.description),
            _said("DATE", Known.SERIES_DATE, Date=series.date),
            _said("TIME", Known.SERIES_TIME, Time=series.time),
            _said("TEXT", Known.SERIES_NUMBER, TextValue=str(series.series_number)),
            _counted(Known.INSTANCE_COUNT, len(series.instances)),
            *(_entry(one) for one in series.instances),
        ],
    )


def _entry(instance: ManifestInstance) -> Dataset:
    entry = _pointer(instance)
    number = str(instance.instance_number)
    entry.ContentSequence = Sequence([_said("TEXT", Known.INSTANCE_NUMBER, TextValue=number)])
    return entry


def _container(known: Known, items: list[Dataset]) -> Dataset:
    return _dataset(
        RelationshipType="CONTAINS",
        ValueType="CONTAINER",
        ConceptNameCodeSequence=_code(known.written),
        ContinuityOfContent="SEPARATE",
        ContentSequence=Sequence(items),
    )


def _said(kind: str, known: Known, **value: object) -> Dataset:
    return _dataset(
        RelationshipType="HAS ACQ CONTEXT",
        ValueType=kind,
        ConceptNameCodeSequence=_code(known.written),
        **value,
    )


def _coded(known: Known, concept: Concept) -> Dataset:
    return _said("CODE", known, ConceptCodeSequence=_code(concept))


def _counted(known: Known, count: int) -> Dataset:
    value = _dataset(MeasurementUnitsCodeSequence=_code(NO_UNITS), NumericValue=str(count))
    return _said("NUM", known, MeasuredValueSequence=Sequence([value]))
