"""What associations leave in a ledger: by study, begun before it is acknowledged, counted after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt

from imaging_source.intake import Intake
from imaging_source.ledger import MOST_STUDIES, About, End, Service, Transfers
from imaging_source.negotiation import Titles
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.models import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.receiver import Listening
from imaging_source.requestor import Peer
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from tests.imaging_source.book import Book, about

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
Make = Callable[..., Dataset]


@pytest.fixture
def port(start_receiver: Any, intake: Intake, workers: Workers, tmp_path: Path, book: Book) -> int:
    variants = Variants(tmp_path / "transcoded", workers, 10**9)
    peers = {"NOWHERE": Peer("NOWHERE", "127.0.0.1", 9)}
    retriever = Retriever(intake.database, intake.blobs, "KOSMOS", peers, variants)
    services = query_retrieve(Finder(intake.database, "KOSMOS", 20), retriever)
    titles = Titles(querying=frozenset({"*"}))
    found: int = start_receiver(Listening(port=0, titles=titles, services=services, ledger=book))
    return found


def send(port: int, *images: Dataset) -> list[int]:
    """Store images over one association; the statuses."""
    ae = AE("MODALITY")
    ae.add_requested_context(CT_IMAGE, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")
    statuses = [int(association.send_c_store(one).Status) for one in images]
    association.release()
    return statuses


def ask(port: int, model: str, **keys: str) -> list[int]:
    """The statuses of a C-FIND, C-GET or C-MOVE for a study."""
    ae = AE("ASKER")
    ae.add_requested_context(model, ExplicitVRLittleEndian)
    ae.add_requested_context(CT_IMAGE, ExplicitVRLittleEndian)
    association = ae.associate(
        "127.0.0.1",
        port,
        ae_title="KOSMOS",
        ext_neg=[build_role(CT_IMAGE, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, lambda _event: 0)],
    )
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    if model == STUDY_ROOT_MOVE:
        answers = list(association.send_c_move(identifier, "NOWHERE", model))
    elif model == STUDY_ROOT_GET:
        answers = list(association.send_c_get(identifier, model))
    else:
        answers = list(association.send_c_find(identifier, model))
    association.release()
    return [int(status.Status) for status, _ in answers]


def wait(book: Book, count: int) -> list[tuple[Any, ...]]:
    """All that was told, once it is so much: an association ends after its peer has left."""
    with book.news:
        book.news.wait_for(lambda: len(book.told) >= count, 10)
    return book.told


def test_images_of_two_studies_are_two_records_each(
    port: int, make_instance: Make, book: Book
) -> None:
    other = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    images = [make_instance(**more) for more in ({}, other, {}, other, {})]
    assert send(port, *images) == [0] * 5
    first, second = about(images[0]), about(images[1])
    assert wait(book, 4) == [
        ("begins", Service.STORE, first),
        ("begins", Service.STORE, second),
        ("ended", Service.STORE, first, 3, 0, None),
        ("ended", Service.STORE, second, 2, 0, None),
    ]


def test_what_cannot_be_recorded_is_not_acknowledged(
    port: int, make_instance: Make, book: Book
) -> None:
    book.full = True
    image = make_instance()
    assert send(port, image) == [0xA700]
    assert ask(port, STUDY_ROOT_FIND, StudyInstanceUID=image.StudyInstanceUID) == [0xA700]
    assert ask(port, STUDY_ROOT_GET, StudyInstanceUID=image.StudyInstanceUID) == [0xA700]
    book.full = False
    assert send(port, image) == [0]


def test_a_query_is_recorded_once_however_much_it_finds(
    port: int, make_instance: Make, book: Book
) -> None:
    image = make_instance()
    send(port, image)
    wait(book, 2)
    book.told.clear()
    assert ask(port, STUDY_ROOT_FIND, StudyInstanceUID=image.StudyInstanceUID) == [0xFF00, 0]
    assert ask(port, STUDY_ROOT_FIND, StudyInstanceUID="9.9") == [0]
    told = [("queried", "ASKER", STUDY_ROOT_FIND, True)] * 2
    assert book.told == told


def test_a_retrieval_is_recorded_by_study_whatever_becomes_of_it(
    port: int, make_instance: Make, book: Book
) -> None:
    images = [make_instance() for _ in range(3)]
    send(port, *images)
    wait(book, 2)
    book.told.clear()
    uid = images[0].StudyInstanceUID
    assert ask(port, STUDY_ROOT_GET, StudyInstanceUID=uid)[-1] == 0
    assert ask(port, STUDY_ROOT_MOVE, StudyInstanceUID=uid)[-1] == 0xA702
    assert wait(book, 3) == [
        ("begins", Service.GET, about(images[0])),
        ("ended", Service.GET, about(images[0]), 3, 0, None),
        ("ended", Service.MOVE, about(images[0]), 0, 3, "NOWHERE"),
    ]


def test_of_many_studies_the_first_is_told_as_ended(book: Book) -> None:
    transfers = Transfers(book, Service.STORE, End("ARCHIVE"))
    for number in range(MOST_STUDIES + 1):
        one = About(f"1.2.{number}")
        transfers.begin(one)
        transfers.count(one, CT_IMAGE, True)
    ended = [told[2].study_instance_uid for told in book.told if told[0] == "ended"]
    assert ended == ["1.2.0"]
    transfers.close()
    assert len([told for told in book.told if told[0] == "ended"]) == MOST_STUDIES + 1
