"""RAD-69: each instance asked for is handed over as stored or named in exactly one error."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from imaging_source.index import describe
from imaging_source.retrieve import ImagingSource
from imaging_source.schema import INSTANCE
from imaging_source.syntaxes import RLE_LOSSLESS
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from metadata.identifiers import ERROR, FAILURE, PARTIAL_SUCCESS, SUCCESS
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import BlobStoreBusy, DatabaseBusy
from transactions.iti_43 import DocumentRequest, RetrieveDocumentSetResponse
from transactions.rad_69 import (
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)

HERE = "1.2.250.1.9.9"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
Make = Callable[..., Dataset]
Store = Callable[..., int]


@pytest.fixture
def source(database: Database, blobs: BlobStore) -> ImagingSource:
    return ImagingSource(database, blobs, HERE)


def asking(
    *instances: Dataset,
    repository: str = HERE,
    study: str | None = None,
    series: str | None = None,
    syntaxes: tuple[str, ...] = (EXPLICIT,),
) -> RetrieveImagingDocumentSetRequest:
    return RetrieveImagingDocumentSetRequest(
        tuple(
            StudyRequest(
                one.StudyInstanceUID if study is None else study,
                (
                    SeriesRequest(
                        one.SeriesInstanceUID if series is None else series,
                        (DocumentRequest(repository, one.SOPInstanceUID),),
                    ),
                ),
            )
            for one in instances
        ),
        syntaxes,
    )


def codes(response: RetrieveDocumentSetResponse) -> list[tuple[str, str]]:
    assert all(error.severity == ERROR for error in response.errors)
    return [(error.code, error.location) for error in response.errors]


def test_instances_are_handed_over_as_they_are_stored(
    source: ImagingSource,
    store: Store,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
    tmp_path: Path,
) -> None:
    first, second = make_instance(), make_instance()
    store(first)
    store(second)

    response = source.retrieve(asking(second, first))

    assert response.status == SUCCESS
    assert response.errors == ()
    assert [one.request.document_unique_id for one in response.documents] == [
        second.SOPInstanceUID,
        first.SOPInstanceUID,
    ]
    assert {one.mime_type for one in response.documents} == {"application/dicom"}
    data = b"".join(response.documents[1].content.chunks())
    assert len(data) == response.documents[1].content.size
    assert data.endswith(encode(first))
    (tmp_path / "image.dcm").write_bytes(data)
    assert dcmread(tmp_path / "image.dcm").SOPInstanceUID == first.SOPInstanceUID


def test_an_unknown_instance_is_named_and_the_others_are_handed_over(
    source: ImagingSource, store: Store, make_instance: Make
) -> None:
    known, unknown = make_instance(), make_instance()
    store(known)

    response = source.retrieve(asking(unknown, known))

    assert response.status == PARTIAL_SUCCESS
    assert codes(response) == [("XDSDocumentUniqueIdError", unknown.SOPInstanceUID)]
    assert len(response.documents) == 1


def test_a_rejected_instance_is_unknown(
    source: ImagingSource, store: Store, make_instance: Make, database: Database
) -> None:
    rejected = make_instance()
    store(rejected)
    uid = rejected.SOPInstanceUID
    statement = update(INSTANCE).where(INSTANCE.c.sop_instance_uid == uid)
    database.write(lambda connection: connection.execute(statement.values(rejection="113001")))

    response = source.retrieve(asking(rejected))

    assert codes(response) == [("XDSDocumentUniqueIdError", uid)]
    with database.read() as connection:
        assert describe(connection, rejected.StudyInstanceUID)[1] == ()


def test_nothing_found_is_a_failure(source: ImagingSource, make_instance: Make) -> None:
    response = source.retrieve(asking(make_instance(), make_instance()))

    assert response.status == FAILURE
    assert len(response.errors) == 2
    assert response.documents == ()


def test_another_repository_is_not_served_here(
    source: ImagingSource, store: Store, make_instance: Make
) -> None:
    instance = make_instance()
    store(instance)

    response = source.retrieve(asking(instance, repository="1.2.3"))

    assert codes(response) == [("XDSUnknownRepositoryId", instance.SOPInstanceUID)]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"study": "1.2.3"}, "XDSDocumentUniqueIdError"),
        ({"series": "1.2.3"}, "XDSDocumentUniqueIdError"),
        ({"study": ""}, "XDSIRequestError"),
        ({"series": ""}, "XDSIRequestError"),
    ],
)
def test_an_instance_of_another_series_or_study_or_of_none_is_not_handed_over(
    source: ImagingSource, store: Store, make_instance: Make, wrong: dict[str, str], code: str
) -> None:
    instance = make_instance()
    store(instance)

    response = source.retrieve(
        asking(instance, study=wrong.get("study"), series=wrong.get("series"))
    )

    assert response.status == FAILURE
    assert codes(response) == [(code, instance.SOPInstanceUID)]


def test_a_transfer_syntax_that_is_not_at_hand_is_an_error_of_that_instance(
    source: ImagingSource, store: Store, make_instance: Make
) -> None:
    instance = make_instance()
    store(instance)

    response = source.retrieve(asking(instance, syntaxes=(IMPLICIT,)))

    assert codes(response) == [("XDSRepositoryError", instance.SOPInstanceUID)]
    assert EXPLICIT in response.errors[0].context
    assert source.retrieve(asking(instance, syntaxes=(IMPLICIT, EXPLICIT))).status == SUCCESS


def test_a_transfer_syntax_that_can_be_made_is_handed_over(
    database: Database,
    blobs: BlobStore,
    store: Store,
    make_instance: Make,
    tmp_path: Path,
    workers: Workers,
) -> None:
    source = ImagingSource(database, blobs, HERE, Variants(tmp_path / "v", workers, 10**9))
    images = [make_instance(Rows=8, Columns=16, BitsAllocated=16) for _ in range(3)]
    for one in images:
        store(one)

    response = source.retrieve(asking(*images, syntaxes=(RLE_LOSSLESS, "1.2.3")))

    assert response.status == SUCCESS
    for one, document in zip(images, response.documents, strict=True):
        data = b"".join(document.content.chunks())
        assert len(data) == document.content.size
        made = dcmread(BytesIO(data))
        assert (made.SOPInstanceUID, made.file_meta.TransferSyntaxUID) == (
            one.SOPInstanceUID,
            RLE_LOSSLESS,
        )
    assert codes(source.retrieve(asking(images[0], syntaxes=("1.2.3",)))) == [
        ("XDSRepositoryError", images[0].SOPInstanceUID)
    ]


def test_a_file_that_is_gone_or_cut_is_found_before_the_answer_begins(
    source: ImagingSource,
    store: Store,
    make_instance: Make,
    database: Database,
    blobs: BlobStore,
) -> None:
    gone, cut, whole = make_instance(), make_instance(), make_instance()
    for instance in (gone, cut, whole):
        store(instance)
    with database.read() as connection:
        paths = {
            row["sop_instance_uid"]: blobs.open(row["sha256"]).path
            for row in connection.execute(select(INSTANCE)).mappings()
        }
    paths[gone.SOPInstanceUID].unlink()
    os_truncate(paths[cut.SOPInstanceUID])

    response = source.retrieve(asking(gone, cut, whole))

    assert response.status == PARTIAL_SUCCESS
    assert codes(response) == [
        ("XDSDocumentUniqueIdError", gone.SOPInstanceUID),
        ("XDSDocumentUniqueIdError", cut.SOPInstanceUID),
    ]


def test_a_file_that_cannot_be_opened_now_is_told_as_busy(
    source: ImagingSource,
    store: Store,
    make_instance: Make,
    blobs: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise BlobStoreBusy("too many open files")

    store(instance := make_instance())
    monkeypatch.setattr(type(blobs), "content", fail)
    response = source.retrieve(asking(instance))
    assert codes(response) == [("XDSRepositoryBusy", instance.SOPInstanceUID)]


def os_truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(100)


def test_three_thousand_instances_are_looked_up_in_one_request(
    source: ImagingSource, store: Store, make_instance: Make
) -> None:
    known = make_instance()
    store(known)
    documents = [DocumentRequest(HERE, f"1.2.3.{number}") for number in range(3000)]
    documents.append(DocumentRequest(HERE, known.SOPInstanceUID))
    series = SeriesRequest(known.SeriesInstanceUID, tuple(documents))
    request = RetrieveImagingDocumentSetRequest(
        (StudyRequest(known.StudyInstanceUID, (series,)),), (EXPLICIT,)
    )

    response = source.retrieve(request)

    assert len(response.errors) == 3000
    assert len(response.documents) == 1


def test_a_process_that_only_reads_can_serve(
    tmp_path: Path, blobs: BlobStore, store: Store, make_instance: Make
) -> None:
    instance = make_instance()
    store(instance)
    with Database.open(f"sqlite:///{tmp_path}/imaging.db", read_only=True) as reader:
        response = ImagingSource(reader, blobs, HERE).retrieve(asking(instance))

    assert response.status == SUCCESS


def test_a_busy_index_is_told_as_busy(
    source: ImagingSource,
    make_instance: Make,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def busy() -> None:
        raise DatabaseBusy("locked")

    monkeypatch.setattr(database, "read", busy)

    response = source.retrieve(asking(make_instance()))

    assert response.status == FAILURE
    assert codes(response) == [("XDSRepositoryBusy", "")]
