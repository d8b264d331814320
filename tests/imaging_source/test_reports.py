"""Reports among the images: published beside the manifest, replaced, taken back, never misfiled."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select

from hl7.demographics import Demographics, Identifier
from imaging_source import report_overview, reports
from imaging_source.completeness import Signal
from imaging_source.corrections import Authorities, correct
from imaging_source.identity import Crossing, Unidentified
from imaging_source.intake import Intake
from imaging_source.outbox import Kind
from imaging_source.publisher import Place, Publisher
from imaging_source.rejection import SAFETY
from imaging_source.report_matching import NO_PATIENT, OTHER_PATIENT, SEVERAL_STUDIES
from imaging_source.report_overview import Stage
from imaging_source.reporting import Reporting, keep
from imaging_source.reports import ENCAPSULATED_CDA, ENCAPSULATED_PDF, Status, Taken, Version
from imaging_source.schema import COMPLETION
from imaging_source.withdrawal import Withdrawal
from manifest.entry import PublicationPolicy
from manifest.report import Form, Report
from metadata.identifiers import (
    ACCESSION_REFERENCE,
    IHE_FORMAT_SCHEME,
    STUDY_INSTANCE_UID_REFERENCE,
)
from metadata.model import Code
from node.wiring.sights import Sights, unseen_by
from security.access.carried import CarriedChoices
from security.access.decision import Policy
from security.access.emergencies import Emergencies
from security.choices.store import ChoiceStore
from storage.blobs import BlobStore
from storage.database import Database
from tests.imaging_source.reports_kit import PDF, Registry, cda

Make = Callable[..., Dataset]
Store = Callable[..., int]

DOMAIN = "1.2.3.4"


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def publisher(
    database: Database,
    blobs: BlobStore,
    policy: PublicationPolicy,
    registry: Registry,
    clock: Any,
) -> Publisher:
    withdrawal = Withdrawal(
        kind=Kind.DEPRECATION,
        update=registry.update,
        remove=registry.remove,
        around=registry.around,
    )
    reporting = Reporting(
        database,
        blobs,
        replace(policy, type_code=Code("18748-4", "2.16.840.1.113883.6.1")),
        Authorities(frozenset({DOMAIN})),
        withdrawal=withdrawal,
        clock=clock,
    )
    return Publisher(
        database,
        policy,
        Place(repository_unique_id="1.2.250.1.9.9", ae_title="KOSMOS"),
        registry.provide_and_register,
        registry.knows,
        withdrawal=withdrawal,
        reporting=reporting,
        quiet_seconds=30,
        clock=clock,
    )


@pytest.fixture
def make_document(make_instance: Make) -> Make:
    """An instance that holds a document; keywords set attributes."""

    def make(document: bytes = PDF, **attributes: object) -> Dataset:
        is_pdf = document.startswith(b"%PDF")
        made = make_instance(
            SOPClassUID=ENCAPSULATED_PDF if is_pdf else ENCAPSULATED_CDA,
            SeriesInstanceUID=generate_uid(),
            Modality="DOC",
            DocumentTitle="Compte rendu",
            ContentDate="20240115",
            ContentTime="101500",
            EncapsulatedDocument=document + b"\0" * (len(document) % 2),
            EncapsulatedDocumentLength=len(document),
            **attributes,
        )
        del made.PixelData
        return made

    return make


def version(
    blobs: BlobStore,
    clock: Any,
    *,
    document: bytes = PDF,
    status: Status = Status.FINAL,
    **said: Any,
) -> Version:
    """A version as it comes by HL7."""
    kept = keep(blobs, document)
    named = {"patients": ((Identifier("P1", DOMAIN, ""),),)} | said
    return Version(
        sender="RIS|HOSPITAL",
        numbers=("R1",),
        status=status,
        issued_at="",
        report=Report(form=Form.PDF, **named),
        sha256=kept.sha256,
        size=kept.size,
        received_at=clock(),
    )


def take_in(database: Database, one: Version) -> Taken:
    return database.write(lambda connection: reports.take_in(connection, one))


def overview(database: Database) -> list[tuple[Stage, str]]:
    with database.read() as connection:
        return [(one.stage, one.reason) for one in report_overview.reports(connection)]


def test_a_pdf_among_the_images_is_published_beside_their_manifest(
    publisher: Publisher, registry: Registry, store: Store, make_document: Make, clock: Any
) -> None:
    document = make_document(AccessionNumber="A7")
    assert store(document) == 0x0000
    clock.now += 60
    publisher.run_once()

    (entry,) = registry.reports()
    assert registry.documents[entry.entry_uuid] == PDF
    assert len(registry.entries) == 2  # the manifest is the other
    assert (entry.mime_type, entry.title) == ("application/pdf", "Compte rendu")
    assert entry.format_code is not None
    assert (entry.format_code.code, entry.format_code.scheme) == (
        "urn:ihe:rad:PDF",
        IHE_FORMAT_SCHEME,
    )
    assert entry.type_code == Code("18748-4", "2.16.840.1.113883.6.1")
    assert entry.service_start_time == "20240115083000"
    assert entry.creation_time == "20240115101500"
    assert {(one.id, one.type) for one in entry.reference_id_list} == {
        ("A7", ACCESSION_REFERENCE),
        (document.StudyInstanceUID, STUDY_INSTANCE_UID_REFERENCE),
    }
    clock.now += 60
    assert publisher.run_once() == 0


def test_whoever_may_not_see_a_report_does_not_get_it_among_the_images(
    publisher: Publisher,
    registry: Registry,
    database: Database,
    blobs: BlobStore,
    store: Store,
    make_instance: Make,
    make_document: Make,
    clock: Any,
) -> None:
    """A mask may hide the report alone; its instance is a copy of it, so the study is hidden."""
    image = make_instance()
    document = make_document(StudyInstanceUID=image.StudyInstanceUID)
    assert [store(one) for one in (image, document)] == [0, 0]
    other = PDF + b"\n% by HL7"
    take_in(
        database,
        version(blobs, clock, document=other, study_instance_uid=image.StudyInstanceUID),
    )
    clock.now += 60
    publisher.run_once()
    named = {registry.documents[one.entry_uuid]: one.entry_uuid for one in registry.reports()}
    study = str(image.StudyInstanceUID)

    assert unseen(database, {named[other]}, study) == set()
    assert unseen(database, {named[PDF]}, study) == {study}
    assert unseen(database, {named[PDF]}, "2.999") == {"2.999"}


def unseen(database: Database, hidden: Collection[str], *studies: str) -> Collection[str]:
    """Which of some studies are shown to nobody from whom these documents are hidden."""
    policy = Policy.read()
    emergencies = Emergencies(database, policy, print)
    sights = Sights(policy, ChoiceStore(database), CarriedChoices(database), emergencies)
    return unseen_by(None, sights, lambda _sight, _entries, _names: hidden, database)(studies)


def test_a_deflated_document_is_published_like_any_other(
    publisher: Publisher,
    registry: Registry,
    intake: Intake,
    make_document: Make,
    encode: Callable[[Dataset], bytes],
    clock: Any,
) -> None:
    document = make_document()
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflate.compress(encode(document)) + deflate.flush()
    uids = document.SOPClassUID, document.SOPInstanceUID
    arrival = intake.begin(*uids, "1.2.840.10008.1.2.1.99", "MODALITY")
    arrival.write(memoryview(data))
    assert arrival.finish().status == 0
    clock.now += 60
    publisher.run_once()

    (entry,) = registry.reports()
    assert registry.documents[entry.entry_uuid] == PDF


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ("<structuredBody/>", Form.STRUCTURED),
        ("<nonXMLBody><text>normal</text></nonXMLBody>", Form.TEXT),
        ('<nonXMLBody><text mediaType="application/pdf"/></nonXMLBody>', Form.WRAPPED_PDF),
    ],
)
def test_a_cda_document_is_published_in_its_form_and_by_its_own_identifier(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_document: Make,
    body: str,
    form: Form,
) -> None:
    document = cda(body=body)
    store(make_document(document))
    publisher.run_once()
    (entry,) = registry.reports()
    assert registry.documents[entry.entry_uuid] == document
    assert (entry.format_code or Code("", "")).code == form
    assert (entry.mime_type, entry.unique_id) == ("text/xml", "2.999.1")
    assert (entry.title, entry.language_code) == ("Scanner thoracique, é&è", "fr-FR")
    assert entry.creation_time == "20240115083000"
    assert entry.author[0].person == "801^Curie^Marie^^^^^^&1.2.250.1.71.4.2.1&ISO"
    assert entry.legal_authenticator == entry.author[0].person


def test_a_later_version_of_a_cda_document_replaces_the_one_before(
    publisher: Publisher, registry: Registry, store: Store, make_document: Make, make_note: Make
) -> None:
    first = make_document(cda())
    store(first)
    publisher.run_once()
    store(make_document(cda(document="2.999.2", at="20240116093000+0100")))
    publisher.run_once()
    (entry,) = registry.in_force()
    assert (entry.unique_id, len(registry.reports())) == ("2.999.2", 2)

    store(make_document(cda(document="2.999.0", at="20240114093000+0100")))
    store(make_note(SAFETY, first))  # an older version: what is in force stays
    publisher.run_once()
    assert [one.unique_id for one in registry.in_force()] == ["2.999.2"]


def test_a_rejected_document_is_taken_back(
    publisher: Publisher, registry: Registry, store: Store, make_document: Make, make_note: Make
) -> None:
    document = make_document()
    store(document)
    publisher.run_once()
    assert len(registry.in_force()) == 1
    store(make_note(SAFETY, document))
    publisher.run_once()
    assert registry.in_force() == []


def test_a_document_that_is_not_verified_waits_for_the_one_that_is(
    publisher: Publisher, registry: Registry, store: Store, make_document: Make, database: Database
) -> None:
    store(make_document(VerificationFlag="UNVERIFIED"))
    publisher.run_once()
    assert registry.reports() == []
    assert overview(database) == [(Stage.PRELIMINARY, "")]


@pytest.mark.parametrize("content", [b"", b"no pdf at all", b"<ClinicalDocument>", b"<a"])
def test_a_document_that_is_none_stays_an_image_like_any_other(
    publisher: Publisher, registry: Registry, store: Store, make_document: Make, content: bytes
) -> None:
    assert store(make_document(content)) == 0x0000
    publisher.run_once()
    assert registry.reports() == []


def test_a_report_waits_for_its_study_and_goes_when_that_is_published(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> None:
    image = make_instance(AccessionNumber="A7")
    assert take_in(database, version(blobs, clock, accession_number="A7")) is Taken.NEW
    for _ in range(12):
        publisher.run_once()
        clock.now += 900
    assert overview(database) == [(Stage.WAITING, "its study is not here yet")]
    store(image)
    clock.now += 60
    publisher.run_once()
    publisher.run_once()
    (entry,) = registry.reports()
    assert image.StudyInstanceUID in {one.id for one in entry.reference_id_list}
    assert overview(database) == [(Stage.PUBLISHED, "")]


def test_the_same_version_again_changes_nothing_and_another_replaces(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> None:
    image = make_instance()
    store(image)
    study = {"study_instance_uid": image.StudyInstanceUID}
    first = version(blobs, clock, **study)
    take_in(database, first)
    publisher.run_once()
    assert take_in(database, first) is Taken.UNCHANGED
    early = replace(first, status=Status.PRELIMINARY)
    assert take_in(database, early) is Taken.UNCHANGED
    other = replace(version(blobs, clock, document=PDF + b"2", **study), numbers=("R2", "R1"))
    assert take_in(database, other) is Taken.CHANGED
    publisher.run_once()
    assert len(registry.reports()) == 2
    assert [registry.documents[one.entry_uuid] for one in registry.in_force()] == [PDF + b"2"]

    gone = replace(other, numbers=("R2",), status=Status.WITHDRAWN, report=None, sha256="")
    assert take_in(database, gone) is Taken.CHANGED
    publisher.run_once()
    assert registry.in_force() == []
    assert overview(database) == [(Stage.WITHDRAWN, "")]
    assert take_in(database, other) is Taken.CHANGED  # signed again
    publisher.run_once()
    assert len(registry.in_force()) == 1


def test_a_report_of_another_patient_is_put_aside_until_a_person_has_seen_to_it(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> None:
    image = make_instance(AccessionNumber="A7")
    store(image)
    for number, patients in enumerate(
        [
            ((Identifier("P2", DOMAIN, ""),),),
            ((Identifier("P1", DOMAIN, ""),), (Identifier("P2", DOMAIN, ""),)),
            ((Identifier("P1", "9.9.9", ""),),),
        ]
    ):
        said = version(blobs, clock, accession_number="A7", patients=patients)
        take_in(database, replace(said, numbers=(f"R{number}",)))
    publisher.run_once()
    assert registry.reports() == []
    reasons = sorted(overview(database), key=lambda one: one[1])
    expected = sorted([OTHER_PATIENT, OTHER_PATIENT, NO_PATIENT])
    assert reasons == [(Stage.QUARANTINE, one) for one in expected]

    with database.read() as connection:
        (aside, *_) = report_overview.reports(connection, Stage.QUARANTINE)
    assert database.write(lambda connection: reports.retry(connection, aside.report_uid))
    publisher.run_once()
    assert len(overview(database)) == 3
    assert registry.reports() == []


def test_a_number_that_several_studies_have_decides_nothing(
    publisher: Publisher,
    store: Store,
    make_instance: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> None:
    for _ in range(2):
        uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
        store(make_instance(AccessionNumber="A7", **uids))
    take_in(database, version(blobs, clock, accession_number="A7"))
    publisher.run_once()
    assert overview(database) == [(Stage.QUARANTINE, SEVERAL_STUDIES)]


def test_a_signed_report_makes_its_study_complete(
    publisher: Publisher,
    store: Store,
    make_instance: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> None:
    image = make_instance()
    store(image)
    take_in(database, version(blobs, clock, study_instance_uid=image.StudyInstanceUID))
    publisher.run_once()
    with database.read() as connection:
        told = connection.execute(select(COMPLETION)).mappings().all()
    assert [(one["study_instance_uid"], one["signal"]) for one in told] == [
        (image.StudyInstanceUID, Signal.REPORT)
    ]


class Numbers:
    """A cross-reference of one department's numbers."""

    def find(self, patient_id: str, authority: str) -> str:
        if (patient_id, authority) != ("P1", "9.9.9"):
            raise Unidentified("nobody knows this patient")
        return "D1"


@pytest.mark.parametrize(
    ("named", "stage"), [("D1", Stage.SENDING), ("D2", Stage.QUARANTINE), ("P1", Stage.QUARANTINE)]
)
def test_a_departments_patient_is_known_by_the_domains_identifier(
    database: Database,
    blobs: BlobStore,
    policy: PublicationPolicy,
    store: Store,
    make_instance: Make,
    clock: Any,
    named: str,
    stage: Stage,
) -> None:
    image = make_instance()
    store(image)
    reporting = Reporting(
        database,
        blobs,
        policy,
        Authorities(frozenset({"9.9.9"})),
        crossing=Crossing(Numbers(), "9.9.9", frozenset({DOMAIN})),
        clock=clock,
    )
    patients = ((Identifier(named, DOMAIN, ""),),)
    said = version(blobs, clock, study_instance_uid=image.StudyInstanceUID, patients=patients)
    take_in(database, said)
    reporting.make_ready()
    assert [found for found, _ in overview(database)] == [stage]


def test_a_lost_document_is_a_failure_that_holds_nobody_up(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> None:
    image = make_instance()
    store(image)
    lost = version(blobs, clock, study_instance_uid=image.StudyInstanceUID)
    blobs.delete(lost.sha256)
    take_in(database, lost)
    clock.now += 60
    publisher.run_once()
    assert len(registry.entries) == 1  # the manifest
    assert overview(database) == [(Stage.FAILED, "BlobMissing")]
    kept = keep(blobs, PDF)
    with database.read() as connection:
        (failed,) = report_overview.reports(connection, Stage.FAILED)
    assert kept.sha256 == lost.sha256
    assert database.write(lambda connection: reports.retry(connection, failed.report_uid))
    publisher.run_once()
    assert overview(database) == [(Stage.PUBLISHED, "")]


# --- the same report by two ways ------------------------------------------------------------------


@pytest.mark.parametrize("instance_first", [True, False])
@pytest.mark.parametrize("document", [PDF, cda()], ids=["pdf", "cda"])
def test_a_report_that_comes_as_an_instance_and_by_hl7_is_one_document(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_document: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
    document: bytes,
    instance_first: bool,
) -> None:
    instance = make_document(document, AccessionNumber="A7")
    said = version(blobs, clock, document=document, accession_number="A7")
    if instance_first:
        store(instance)
        publisher.run_once()
        take_in(database, said)
    else:
        take_in(database, said)
        store(instance)
    publisher.run_once()
    publisher.run_once()
    assert len(registry.reports()) == 1
    assert overview(database) == [(Stage.PUBLISHED, "")]
    assert take_in(database, said) is Taken.UNCHANGED
    store(instance)
    publisher.run_once()
    assert len(registry.reports()) == 1


def test_a_cda_is_known_by_its_identifier_whatever_its_bytes(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_document: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> None:
    instance = make_document(cda())
    store(instance)
    publisher.run_once()
    uids = {"study_instance_uid": instance.StudyInstanceUID, "document_id": "2.999.1"}
    take_in(database, version(blobs, clock, document=cda() + b"\n", **uids))
    publisher.run_once()
    assert len(registry.reports()) == 1


@pytest.fixture
def joined(
    publisher: Publisher,
    store: Store,
    make_document: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> tuple[Dataset, Version]:
    """A report that came by both ways, published once."""
    instance = make_document()
    store(instance)
    publisher.run_once()
    said = version(blobs, clock, study_instance_uid=instance.StudyInstanceUID)
    take_in(database, replace(said, issued_at="20240116090000"))
    publisher.run_once()
    return instance, said


def test_a_correction_that_comes_by_both_ways_replaces_once(
    joined: tuple[Dataset, Version],
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_document: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> None:
    instance, _ = joined
    uid = instance.StudyInstanceUID
    corrected = version(blobs, clock, document=PDF + b"2", study_instance_uid=uid)
    assert take_in(database, corrected) is Taken.CHANGED
    publisher.run_once()
    store(make_document(PDF + b"2"))
    publisher.run_once()
    assert take_in(database, corrected) is Taken.UNCHANGED
    assert len(registry.reports()) == 2
    assert [registry.documents[one.entry_uuid] for one in registry.in_force()] == [PDF + b"2"]
    assert overview(database) == [(Stage.PUBLISHED, "")]


def test_either_way_takes_a_report_back(
    joined: tuple[Dataset, Version],
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_note: Make,
    database: Database,
) -> None:
    instance, said = joined
    gone = replace(said, status=Status.WITHDRAWN, report=None, sha256="")
    assert take_in(database, gone) is Taken.CHANGED
    publisher.run_once()
    assert registry.in_force() == []
    assert take_in(database, said) is Taken.CHANGED  # signed again
    publisher.run_once()
    assert len(registry.in_force()) == 1
    store(make_note(SAFETY, instance))
    publisher.run_once()
    assert registry.in_force() == []


@pytest.mark.parametrize(("issued_at", "count"), [("20240114", 0), ("20240118", 1)])
def test_what_was_taken_back_comes_back_by_another_way_only_if_that_is_later(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
    issued_at: str,
    count: int,
) -> None:
    image = make_instance()
    store(image)
    said = version(blobs, clock, study_instance_uid=image.StudyInstanceUID)
    take_in(database, replace(said, issued_at="20240115"))
    publisher.run_once()
    gone = replace(said, status=Status.WITHDRAWN, report=None, sha256="", issued_at="20240116")
    take_in(database, gone)
    publisher.run_once()
    take_in(database, replace(said, sender="DMS|HOSPITAL", issued_at=issued_at))
    publisher.run_once()
    publisher.run_once()
    assert len(registry.in_force()) == count
    assert len(overview(database)) == 1


def test_the_same_bytes_about_another_study_or_from_the_same_sender_are_another_report(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_document: Make,
    make_instance: Make,
    database: Database,
    blobs: BlobStore,
    clock: Any,
) -> None:
    store(make_document())
    store(make_document(SOPInstanceUID=generate_uid()))
    other = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    store(other)
    take_in(database, version(blobs, clock, study_instance_uid=other.StudyInstanceUID))
    clock.now += 60
    publisher.run_once()
    assert len(registry.in_force()) == 3


# --- a corrected patient --------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{"survivor": "P1"}, {"survivor": "P2"}], ids=["A08", "A40"])
def test_a_corrected_patient_replaces_the_reports_too(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_document: Make,
    database: Database,
    clock: Any,
    said: dict[str, str],
) -> None:
    store(make_document())
    clock.now += 60
    publisher.run_once()
    survivor = said["survivor"]
    demographics = Demographics(
        identifiers=(Identifier(survivor, DOMAIN, ""),),
        merged=(Identifier("P1", DOMAIN, ""),) if survivor != "P1" else (),
        name="Martin^Anne",
    )
    authorities = Authorities(frozenset({DOMAIN}))
    for _ in range(2):  # once more changes nothing
        database.write(lambda one: correct(one, demographics, authorities, clock()))
    publisher.run_once()
    publisher.run_once()
    first, second = registry.reports()
    assert registry.in_force() == [second]
    assert registry.documents[second.entry_uuid] == registry.documents[first.entry_uuid] == PDF
    assert second.unique_id != first.unique_id
    assert str(second.patient_id).startswith(f"{survivor}^^^")
    assert "PID-5|Martin^Anne" in second.source_patient_info
    assert str(second.source_patient_id).startswith(survivor)
    assert overview(database) == [(Stage.PUBLISHED, "")]
