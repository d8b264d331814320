"""Imaging Document Source: Retrieve Imaging Document Set (I01)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import Same, Success, failure, partial
from conformance.seen import Answer, Compared, Seen
from conformance.source import Source, digests
from conformance.targets import Study
from metadata.datatypes import new_oid
from transactions.iti_43 import DocumentRequest, RetrieveDocumentSetResponse
from transactions.rad_69 import (
    RAD_69,
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)

CASES = Cases(Actor.IMAGING, "imaging")

SPEC = "RAD TF-2 4.69"
UNKNOWN_DOCUMENT = "XDSDocumentUniqueIdError"
EXPLICIT_LITTLE, IMPLICIT_LITTLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
COMMON = (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
)
"""Transfer syntaxes in which images are commonly kept."""

UNHEARD_OF = "2.25.404"


def ask(
    bench: Bench,
    instances: list[tuple[Study, str]],
    syntaxes: tuple[str, ...] = COMMON,
) -> Answer[RetrieveDocumentSetResponse]:
    """RAD-69 for instances, each of a repository."""
    studies = tuple(
        StudyRequest(
            study.study_instance_uid,
            (
                SeriesRequest(
                    study.series_instance_uid,
                    (DocumentRequest(repository, study.sop_instance_uid),),
                ),
            ),
        )
        for study, repository in instances
    )
    request = RetrieveImagingDocumentSetRequest(studies, syntaxes)
    return bench.wire.call(bench.targets.endpoint("imaging"), RAD_69, request)


def place_of(image: Dataset) -> Study:
    """Where an image is."""
    return Study(image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)


def nobodys() -> Study:
    """A study that no source holds."""
    return Study(new_oid(), new_oid(), new_oid())


def known(bench: Bench) -> tuple[Study, str]:
    """An image the source holds, as the operator or the kit itself knows, and its repository."""
    repository = bench.targets.imaging_unique_id
    assert repository is not None
    return bench.targets.study or place_of(Source(bench).held()[0]), repository


@CASES.case(
    "I01-instance",
    "An instance the source does not hold",
    "Une instance que la source ne détient pas",
    spec=SPEC,
    needs="imaging_unique_id",
    expected=[failure(UNKNOWN_DOCUMENT, about="the instance"), Same("the answer in MTOM")],
)
def _unknown_instance(bench: Bench) -> Iterator[Seen]:
    study = nobodys()
    answer = ask(bench, [(study, bench.targets.imaging_unique_id or "")])
    yield answer.located(study.sop_instance_uid)
    yield Compared("MTOM", True, answer.mtom)


@CASES.case(
    "I01-repository",
    "An instance asked of another repository",
    "Une instance demandée à un autre entrepôt",
    spec=SPEC,
    expected=[failure("XDSUnknownRepositoryId", about="the instance"), Same("the answer in MTOM")],
)
def _unknown_repository(bench: Bench) -> Iterator[Seen]:
    study = nobodys()
    answer = ask(bench, [(study, new_oid())])
    yield answer.located(study.sop_instance_uid)
    yield Compared("MTOM", True, answer.mtom)


@CASES.case(
    "I01-known",
    "A known instance is handed over as DICOM",
    "Une instance connue est remise en DICOM",
    spec=SPEC,
    needs="imaging_unique_id study",
    expected=[Success(mtom=True), Same("one DICOM object")],
)
def _known_instance(bench: Bench) -> Iterator[Seen]:
    answer = ask(bench, [known(bench)])
    yield answer
    documents = answer.response.documents if answer.response else ()
    heads = [b"".join(document.content.chunks())[128:132] for document in documents]
    yield Compared("DICOM prefixes", [b"DICM"], heads)


@CASES.case(
    "I01-partial",
    "One known and one unknown instance",
    "Une instance connue et une inconnue",
    spec=SPEC,
    needs="imaging_unique_id study",
    expected=[partial(UNKNOWN_DOCUMENT, about="the instance"), Same("the known instance alone")],
)
def _partly_known(bench: Bench) -> Iterator[Seen]:
    study, repository = known(bench)
    unknown = nobodys()
    answer = ask(bench, [(study, repository), (unknown, repository)])
    yield answer.located(unknown.sop_instance_uid)
    documents = answer.response.documents if answer.response else ()
    ids = [document.request.document_unique_id for document in documents]
    yield Compared("instances", [study.sop_instance_uid], ids)


@CASES.case(
    "I01-syntax",
    "A known instance in a transfer syntax nobody has",
    "Une instance connue dans une syntaxe de transfert inexistante",
    spec=SPEC,
    needs="imaging_unique_id study",
    expected=[failure("XDSRepositoryError", UNKNOWN_DOCUMENT, about="the instance")],
)
def _unknown_syntax(bench: Bench) -> Iterator[Seen]:
    study, repository = known(bench)
    answer = ask(bench, [(study, repository)], (UNHEARD_OF,))
    yield answer.located(study.sop_instance_uid)


def _misplaced(level: str, en: str, fr: str) -> None:
    """A known instance that the request says to be where it is not."""

    def stimulus(bench: Bench) -> Iterator[Seen]:
        study, repository = known(bench)
        asked = replace(study, **{f"{level}_instance_uid": new_oid()})
        yield ask(bench, [(asked, repository)]).located(study.sop_instance_uid)

    CASES.add(
        f"I01-other-{level}",
        en,
        fr,
        spec=SPEC,
        needs="imaging_unique_id study",
        expected=[failure(UNKNOWN_DOCUMENT, about="the instance")],
        stimulus=stimulus,
    )


_misplaced("study", "A known instance of another study", "Une instance connue d'un autre examen")
_misplaced("series", "A known instance of another series", "Une instance connue d'une autre série")


@CASES.case(
    "I01-both",
    "An instance of this repository and one of another",
    "Une instance de cet entrepôt et une d'un autre",
    spec=SPEC,
    needs="imaging_unique_id study",
    expected=[
        partial("XDSUnknownRepositoryId", about="the instance"),
        Same("the known instance alone"),
    ],
)
def _of_two_repositories(bench: Bench) -> Iterator[Seen]:
    study, repository = known(bench)
    elsewhere = nobodys()
    answer = ask(bench, [(study, repository), (elsewhere, new_oid())])
    yield answer.located(elsewhere.sop_instance_uid)
    documents = answer.response.documents if answer.response else ()
    ids = [document.request.document_unique_id for document in documents]
    yield Compared("instances", [study.sop_instance_uid], ids)


@CASES.case(
    "I01-pixels",
    "A whole study of several series, with its pixels",
    "Un examen entier de plusieurs séries, avec ses pixels",
    spec=SPEC,
    needs="imaging_unique_id images",
    expected=[Success(mtom=True), Same("every instance")],
)
def _whole_study(bench: Bench) -> Iterator[Seen]:
    held = Source(bench).held()
    repository = bench.targets.imaging_unique_id or ""
    answer = ask(bench, [(place_of(image), repository) for image in held])
    yield answer
    documents = answer.response.documents if answer.response else ()
    files = [b"".join(document.content.chunks()) for document in documents]
    came = digests([dcmread(BytesIO(file)) for file in files])
    yield Compared("pixels", digests(held), came)
