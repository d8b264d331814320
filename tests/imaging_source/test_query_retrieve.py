"""Query and retrieve as peers see them: pynetdicom's and DCMTK's users on both engines."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, Association, build_role, evt
from sqlalchemy import insert, update

from benchmarks.peers import free_port, running
from imaging_source.dimse import (
    C_CANCEL_RQ,
    C_FIND_RQ,
    MESSAGE_ID,
    PRIORITY,
    SOP_CLASS_UID,
    write_data_set,
    write_request,
)
from imaging_source.encoded import Values, encode
from imaging_source.guard import PeerGone
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.line import DATA_SET_LIMIT_BYTES, Line
from imaging_source.negotiation import Titles
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.models import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.receiver import Listening, Receiver
from imaging_source.requestor import Peer, Requested
from imaging_source.schema import CORRECTION, INSTANCE
from imaging_source.shown import Veil, no_veil
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from security.pki import create_authority, issue
from security.tls import client_context, server_context
from storage.blobs import BlobStore
from storage.database import Database

IMPLICIT, EXPLICIT = str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
Make = Callable[..., Dataset]
Store = Callable[..., int]
MOST = 20


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


class Offering(Protocol):
    """Starts a provider of query and retrieve that may move to these peers, and hides what
    the veil says; its port."""

    def __call__(
        self, *destinations: Peer, querying: str = "*", veil: Veil = no_veil, **listening: Any
    ) -> int: ...


@pytest.fixture
def offering(intake: Intake, workers: Workers, tmp_path: Path) -> Iterator[Offering]:
    with ExitStack() as started:

        def start(
            *destinations: Peer, querying: str = "*", veil: Veil = no_veil, **listening: Any
        ) -> int:
            finder = Finder(intake.database, "KOSMOS", MOST, veil)
            peers = {peer.title: peer for peer in destinations}
            variants = Variants(tmp_path / "transcoded", workers, 10**9)
            retriever = Retriever(intake.database, intake.blobs, "KOSMOS", peers, variants, veil)
            here = Listening(
                port=0,
                titles=Titles(querying=frozenset({querying})),
                services=query_retrieve(finder, retriever),
                **listening,
            )
            return started.enter_context(Receiver(intake, here)).port

        yield start


@pytest.fixture
def provider(offering: Offering) -> int:
    return offering()


@contextmanager
def associated(port: int, *classes: str, syntax: str = ExplicitVRLittleEndian) -> Iterator[Any]:
    ae = AE("ASKER")
    for one in classes:
        ae.add_requested_context(one, syntax)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")
    assert association.is_established
    yield association
    association.release()


def asked(level: str, **keys: object) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def find(
    port: int,
    identifier: Dataset,
    model: str = STUDY_ROOT_FIND,
    syntax: str = ExplicitVRLittleEndian,
) -> tuple[list[Dataset], int]:
    """The matches and the final status."""
    with associated(port, model, syntax=syntax) as association:
        answers = list(association.send_c_find(identifier, model))
    return [found for _, found in answers if found is not None], int(answers[-1][0].Status)


@pytest.fixture
def studies(store: Store, make_instance: Make) -> dict[str, Dataset]:
    """One study of one CT instance each for three patients."""

    def made(patient_id: str, name: str, date: str, time: str, **more: object) -> Dataset:
        instance = make_instance(
            PatientID=patient_id,
            PatientName=name,
            StudyDate=date,
            StudyTime=time,
            StudyInstanceUID=generate_uid(),
            SeriesInstanceUID=generate_uid(),
            AccessionNumber=f"ACC-{patient_id}",
            SpecificCharacterSet="ISO_IR 192",
            InstanceNumber="1",
            **more,
        )
        assert store(instance) == 0
        return instance

    return {
        "P1": made("P1", "Durand^Anne", "20240115", "083000", SeriesNumber="1"),
        "P2": made("P2", "DURANT^Émile", "20240220", "0930", Modality="MR"),
        "P3": made("P3", "Yamada^Tarou=山田^太郎", "20231231", "235959.5", StudyDescription="a_b"),
    }


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"P1", "P2", "P3"}),
        ({"PatientName": "*"}, {"P1", "P2", "P3"}),
        ({"PatientName": "durand^anne"}, {"P1"}),
        ({"PatientName": "DURAN?^*"}, {"P1", "P2"}),
        ({"PatientName": "durant^émile"}, {"P2"}),
        ({"PatientName": "*É*"}, {"P2"}),
        ({"PatientName": "durand"}, set()),
        ({"PatientName": "山田*"}, {"P3"}),
        ({"PatientName": "Yamada^Tarou^^"}, {"P3"}),
        ({"PatientID": "P1"}, {"P1"}),
        ({"PatientID": "p1"}, set()),
        ({"PatientID": "P*"}, {"P1", "P2", "P3"}),
        ({"PatientID": "p*"}, set()),
        ({"PatientID": "P%"}, set()),
        ({"StudyDescription": "a_*"}, {"P3"}),
        ({"StudyDescription": "?_?"}, {"P3"}),
        ({"StudyDate": "20240115"}, {"P1"}),
        ({"StudyDate": "20240101-"}, {"P1", "P2"}),
        ({"StudyDate": "-20240115"}, {"P1", "P3"}),
        ({"StudyDate": "20240116-20240220"}, {"P2"}),
        ({"StudyTime": "0830"}, {"P1"}),
        ({"StudyTime": "0800-0930"}, {"P1", "P2"}),
        ({"StudyTime": "093000-"}, {"P2", "P3"}),
        ({"StudyTime": "-09"}, {"P1", "P2"}),
        ({"AccessionNumber": "ACC-P2"}, {"P2"}),
        ({"ModalitiesInStudy": "MR"}, {"P2"}),
        ({"ModalitiesInStudy": "C*"}, {"P1", "P3"}),
        ({"ModalitiesInStudy": ["MR", "CT"]}, {"P1", "P2", "P3"}),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")  # of a pattern
def test_a_study_is_found_by_its_keys(
    provider: int, studies: dict[str, Dataset], keys: dict[str, object], expected: set[str]
) -> None:
    patient = keys.get("PatientID", "")
    identifier = asked("STUDY", SpecificCharacterSet="ISO_IR 192", **{**keys, "PatientID": patient})
    matches, status = find(provider, identifier)

    assert status == 0x0000
    assert {str(one.PatientID) for one in matches} == expected


def test_a_list_of_uids_finds_each_of_them(provider: int, studies: dict[str, Dataset]) -> None:
    uids = [studies["P1"].StudyInstanceUID, studies["P3"].StudyInstanceUID, "1.2.3"]
    matches, _ = find(provider, asked("STUDY", StudyInstanceUID=uids))

    assert {one.StudyInstanceUID for one in matches} == set(uids[:2])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_what_is_asked_for_is_told_and_nothing_else(
    provider: int, studies: dict[str, Dataset], syntax: str
) -> None:
    keys = {
        "PatientName": "Yam*",
        "StudyInstanceUID": "",
        "ModalitiesInStudy": "",
        "SOPClassesInStudy": "",
        "NumberOfStudyRelatedInstances": "",
        "NumberOfStudyRelatedSeries": "",
        "NumberOfPatientRelatedStudies": "",
        "RetrieveAETitle": "",
        "InstanceAvailability": "",
        "OtherPatientIDs": "",
    }
    ((match,), _) = find(provider, asked("STUDY", **keys), syntax=syntax)

    expected = {
        "SpecificCharacterSet": "ISO_IR 192",
        "QueryRetrieveLevel": "STUDY",
        "PatientName": "Yamada^Tarou=山田^太郎",
        "StudyInstanceUID": studies["P3"].StudyInstanceUID,
        "ModalitiesInStudy": "CT",
        "SOPClassesInStudy": CT_IMAGE,
        "NumberOfStudyRelatedInstances": 1,
        "NumberOfStudyRelatedSeries": 1,
        "NumberOfPatientRelatedStudies": 1,
        "RetrieveAETitle": "KOSMOS",
        "InstanceAvailability": "ONLINE",
    }
    assert {element.keyword: element.value for element in match} == expected


def test_each_level_is_answered_below_the_one_above(
    provider: int, store: Store, make_instance: Make
) -> None:
    first = make_instance(SeriesNumber="7", InstanceNumber="2", NumberOfFrames="3")
    second = make_instance(SeriesInstanceUID=generate_uid(), Modality="SR")
    assert store(first) == store(second) == 0
    study = first.StudyInstanceUID
    below = {"PatientID": "P1", "StudyInstanceUID": study}

    patients, _ = find(provider, asked("PATIENT", PatientName=""), PATIENT_ROOT_FIND)
    series, _ = find(
        provider,
        asked("SERIES", **below, SeriesNumber="7", NumberOfSeriesRelatedInstances=""),
        PATIENT_ROOT_FIND,
    )
    images, _ = find(
        provider,
        asked(
            "IMAGE",
            **below,
            SeriesInstanceUID=first.SeriesInstanceUID,
            InstanceNumber="2",
            NumberOfFrames="",
            AvailableTransferSyntaxUID="",
        ),
        PATIENT_ROOT_FIND,
    )

    assert [(one.PatientID, one.PatientName) for one in patients] == [("P1", "Durand^Anne")]
    assert [(one.SeriesInstanceUID, one.NumberOfSeriesRelatedInstances) for one in series] == [
        (first.SeriesInstanceUID, 1)
    ]
    (image,) = images
    assert image.SOPInstanceUID == first.SOPInstanceUID
    assert (image.NumberOfFrames, image.AvailableTransferSyntaxUID) == (3, ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    ("identifier", "status"),
    [
        (asked("SERIES", SeriesInstanceUID=""), 0xA900),
        (asked("IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID=""), 0xA900),
        (asked("PATIENT", PatientID=""), 0xA900),  # not a level of the Study Root
        (asked("WHATEVER", PatientID=""), 0xA900),
        (asked("SERIES", StudyInstanceUID="1.2", SeriesNumber="1"), 0x0000),
    ],
)
def test_a_query_that_the_model_does_not_have_is_refused(
    provider: int, identifier: Dataset, status: int
) -> None:
    assert find(provider, identifier) == ([], status)


def test_what_was_rejected_is_not_found(
    provider: int, database: Database, store: Store, make_instance: Make
) -> None:
    kept, rejected = make_instance(), make_instance()
    alone = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    for one in (kept, rejected, alone):
        assert store(one) == 0
    gone = [rejected.SOPInstanceUID, alone.SOPInstanceUID]
    reject = update(INSTANCE).where(INSTANCE.c.sop_instance_uid.in_(gone))
    database.write(lambda connection: connection.execute(reject.values(rejection="113001")))

    counted = asked("STUDY", NumberOfStudyRelatedInstances="", NumberOfPatientRelatedStudies="")
    ((study,), _) = find(provider, counted)
    assert study.StudyInstanceUID == kept.StudyInstanceUID
    assert study.NumberOfStudyRelatedInstances == study.NumberOfPatientRelatedStudies == 1
    series = {
        "StudyInstanceUID": kept.StudyInstanceUID,
        "SeriesInstanceUID": kept.SeriesInstanceUID,
    }
    images, _ = find(provider, asked("IMAGE", **series))
    assert [one.SOPInstanceUID for one in images] == [kept.SOPInstanceUID]


def test_too_many_matches_are_refused_and_not_cut(
    provider: int, store: Store, make_instance: Make
) -> None:
    for _ in range(MOST + 1):
        assert (
            store(make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid()))
            == 0
        )

    assert find(provider, asked("STUDY", PatientID="P1")) == ([], 0xA700)


@pytest.fixture
def veiled(offering: Offering, studies: dict[str, Dataset]) -> int:
    """A provider that hides the study of P2 from ASKER."""
    hidden = {str(studies["P2"].StudyInstanceUID)}
    return offering(veil=lambda asker: hidden.intersection if asker.title == "ASKER" else None)


@pytest.mark.parametrize(
    ("level", "model"), [("PATIENT", PATIENT_ROOT_FIND), ("STUDY", STUDY_ROOT_FIND)]
)
def test_what_is_hidden_from_whoever_asks_is_not_found(veiled: int, level: str, model: str) -> None:
    matches, status = find(veiled, asked(level, PatientID=""), model)
    assert status == 0x0000
    assert {str(one.PatientID) for one in matches} == {"P1", "P3"}


def test_below_a_hidden_study_is_nothing(veiled: int, studies: dict[str, Dataset]) -> None:
    for patient, expected in (("P1", 1), ("P2", 0)):
        study = studies[patient].StudyInstanceUID
        matches, status = find(
            veiled, asked("SERIES", StudyInstanceUID=study, SeriesInstanceUID="")
        )
        assert (len(matches), status) == (expected, 0x0000)


def test_a_patient_of_whom_a_study_is_hidden_is_told_once_and_without_their_number(
    offering: Offering, store: Store, make_instance: Make
) -> None:
    uids = [generate_uid() for _ in range(3)]
    for uid in uids:
        of_study = {"StudyInstanceUID": uid, "SeriesInstanceUID": generate_uid()}
        assert store(make_instance(PatientID="P9", **of_study)) == 0
    keys = asked("PATIENT", PatientID="P9", NumberOfPatientRelatedStudies="")
    [told], _ = find(offering(), keys, PATIENT_ROOT_FIND)
    assert told.NumberOfPatientRelatedStudies == 3
    veiled = offering(veil=lambda _title: {uids[0]}.intersection)
    [told], _ = find(veiled, keys, PATIENT_ROOT_FIND)
    assert not told.get("NumberOfPatientRelatedStudies")


def test_matches_that_are_hidden_do_not_make_them_too_many(
    offering: Offering, store: Store, make_instance: Make
) -> None:
    uids = [generate_uid() for _ in range(MOST + 1)]
    for uid in uids:
        assert store(make_instance(StudyInstanceUID=uid, SeriesInstanceUID=generate_uid())) == 0
    keys = asked("STUDY", StudyInstanceUID="")
    assert find(offering(), keys)[1] == 0xA700
    matches, status = find(offering(veil=lambda _title: {uids[0]}.intersection), keys)
    assert (len(matches), status) == (MOST, 0x0000)


@pytest.mark.parametrize(("patient", "got"), [("P1", 1), ("P2", 0)])
def test_what_is_hidden_from_whoever_asks_is_not_got(
    veiled: int, studies: dict[str, Dataset], patient: str, got: int
) -> None:
    ae = AE("ASKER")
    ae.add_requested_context(STUDY_ROOT_GET)
    ae.add_requested_context(CT_IMAGE)
    association = ae.associate(
        "127.0.0.1",
        veiled,
        ae_title="KOSMOS",
        ext_neg=[build_role(CT_IMAGE, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, lambda _event: 0x0000)],
    )
    identifier = asked("STUDY", StudyInstanceUID=studies[patient].StudyInstanceUID)
    *_, (response, _) = association.send_c_get(identifier, STUDY_ROOT_GET)
    association.release()

    assert (response.Status, counts(response)) == (0x0000, (0, got, 0, 0))


def test_a_stranger_may_store_but_not_query(
    offering: Offering, send: Any, make_instance: Make
) -> None:
    port = offering(querying="SOMEONE")
    ae = AE("ASKER")
    ae.add_requested_context(STUDY_ROOT_FIND)
    ae.add_requested_context(CT_IMAGE)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")

    assert [one.abstract_syntax for one in association.rejected_contexts] == [STUDY_ROOT_FIND]
    association.release()
    assert send(port, make_instance()) == [0]


class Destination:
    """A storage provider of pynetdicom's that keeps what it gets; ``taken`` gives its statuses."""

    def __init__(
        self, taken: Callable[[], int] = lambda: 0x0000, tls: ssl.SSLContext | None = None
    ) -> None:
        self.received: list[Dataset] = []
        self._taken = taken
        ae = AE("DEST")
        for context in AllStoragePresentationContexts:
            assert context.abstract_syntax is not None
            ae.add_supported_context(context.abstract_syntax, ExplicitVRLittleEndian)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._take)]
        server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls
        )
        assert server is not None
        self.server = server

    def peer(self, tls: ssl.SSLContext | None = None) -> Peer:
        return Peer("DEST", "127.0.0.1", self.server.server_address[1], tls)

    def _take(self, event: Any) -> int:
        self.received.append(event.dataset)
        return self._taken()


@pytest.fixture
def destination() -> Iterator[Destination]:
    running = Destination()
    yield running
    running.server.shutdown()


def move(
    port: int, identifier: Dataset, title: str = "DEST", model: str = STUDY_ROOT_MOVE
) -> tuple[Dataset, Dataset | None]:
    """The final response and its identifier."""
    with associated(port, model) as association:
        *_, (response, failed) = association.send_c_move(identifier, title, model)
    return response, failed


def counts(response: Dataset) -> tuple[int, int, int, int]:
    return (
        response.NumberOfRemainingSuboperations,
        response.NumberOfCompletedSuboperations,
        response.NumberOfFailedSuboperations,
        response.NumberOfWarningSuboperations,
    )


def test_a_study_is_moved_to_a_peer(
    offering: Offering, destination: Destination, store: Store, make_instance: Make
) -> None:
    sent = [make_instance(InstanceNumber=str(number)) for number in range(5)]
    for one in sent:
        assert store(one) == 0
    port = offering(destination.peer())

    response, _ = move(port, asked("STUDY", StudyInstanceUID=sent[0].StudyInstanceUID))

    assert (response.Status, counts(response)) == (0x0000, (0, 5, 0, 0))
    assert [one.SOPInstanceUID for one in destination.received] == [
        one.SOPInstanceUID for one in sent
    ]
    assert all(one.PixelData == sent[0].PixelData for one in destination.received)


def test_single_instances_are_moved_by_their_uids(
    offering: Offering, destination: Destination, store: Store, make_instance: Make
) -> None:
    one, other, third = (make_instance() for _ in range(3))
    for each in (one, other, third):
        assert store(each) == 0
    identifier = asked(
        "IMAGE",
        PatientID="P1",
        StudyInstanceUID=one.StudyInstanceUID,
        SeriesInstanceUID=one.SeriesInstanceUID,
        SOPInstanceUID=[one.SOPInstanceUID, third.SOPInstanceUID],
    )

    response, _ = move(offering(destination.peer()), identifier, model=PATIENT_ROOT_MOVE)

    assert response.NumberOfCompletedSuboperations == 2
    received = {each.SOPInstanceUID for each in destination.received}
    assert received == {one.SOPInstanceUID, third.SOPInstanceUID}


def test_what_was_rejected_is_not_moved(
    offering: Offering,
    destination: Destination,
    database: Database,
    store: Store,
    make_instance: Make,
) -> None:
    rejected = make_instance()
    assert store(rejected) == 0
    hide = update(INSTANCE).values(rejection="113037")
    database.write(lambda connection: connection.execute(hide))

    identifier = asked("STUDY", StudyInstanceUID=rejected.StudyInstanceUID)
    response, _ = move(offering(destination.peer()), identifier)

    assert (response.Status, counts(response)) == (0x0000, (0, 0, 0, 0))
    assert destination.received == []


def test_what_was_corrected_leaves_corrected(
    offering: Offering,
    destination: Destination,
    database: Database,
    store: Store,
    make_instance: Make,
) -> None:
    one = make_instance()
    assert store(one) == 0
    row = {
        "study_instance_uid": one.StudyInstanceUID,
        "patient_name": "Durand^Annette",
        "corrected_at": 1_700_000_000.0,
        "source": "test",
    }
    database.write(lambda connection: connection.execute(insert(CORRECTION), row).close())

    identifier = asked("STUDY", StudyInstanceUID=one.StudyInstanceUID)
    response, _ = move(offering(destination.peer()), identifier)

    assert response.Status == 0x0000
    (received,) = destination.received
    assert received.PatientName == "Durand^Annette"
    assert received.PixelData == one.PixelData


@pytest.mark.parametrize(
    ("title", "identifier", "status"),
    [
        ("NOWHERE", asked("STUDY", StudyInstanceUID="1.2"), 0xA801),
        ("DEST", asked("STUDY"), 0xA900),
        ("DEST", asked("SERIES", SeriesInstanceUID="1.2"), 0xA900),
    ],
)
def test_a_move_that_cannot_be_done_is_refused(
    offering: Offering, destination: Destination, title: str, identifier: Dataset, status: int
) -> None:
    response, _ = move(offering(destination.peer()), identifier, title)

    assert response.Status == status
    assert response.ErrorComment


def test_a_destination_that_is_away_fails_every_instance_by_name(
    offering: Offering, store: Store, make_instance: Make
) -> None:
    sent = [make_instance() for _ in range(3)]
    for one in sent:
        assert store(one) == 0
    with socket.create_server(("127.0.0.1", 0)) as closed:
        away = Peer("DEST", "127.0.0.1", closed.getsockname()[1])
    identifier = asked("STUDY", StudyInstanceUID=sent[0].StudyInstanceUID)

    response, failed = move(offering(away), identifier)

    assert (response.Status, counts(response)) == (0xA702, (0, 0, 3, 0))
    assert failed is not None
    assert set(failed.FailedSOPInstanceUIDList) == {one.SOPInstanceUID for one in sent}


def test_an_instance_that_cannot_be_made_in_a_syntax_of_the_destination_fails_alone(
    offering: Offering,
    destination: Destination,
    intake: Intake,
    store: Store,
    make_instance: Make,
) -> None:
    plain, compressed = make_instance(), make_instance()
    assert store(plain) == store(compressed) == 0
    jpeg = update(INSTANCE).where(INSTANCE.c.sop_instance_uid == compressed.SOPInstanceUID)
    intake.database.write(
        lambda connection: connection.execute(
            jpeg.values(transfer_syntax_uid="1.2.840.10008.1.2.4.70")
        )
    )

    identifier = asked("STUDY", StudyInstanceUID=plain.StudyInstanceUID)
    response, failed = move(offering(destination.peer()), identifier)

    assert (response.Status, counts(response)) == (0xB000, (0, 1, 1, 0))
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList == compressed.SOPInstanceUID


@pytest.mark.parametrize(("option", "syntax"), [("+xi", IMPLICIT), ("+xe", EXPLICIT)])
def test_a_destination_that_takes_no_compression_gets_the_same_pixels(
    offering: Offering,
    send: Callable[..., list[int]],
    tool: Callable[[str], str],
    test_file: Callable[[str], Path],
    tmp_path: Path,
    option: str,
    syntax: str,
) -> None:
    """Of DCMTK's receiver: JPEG 2000 is stored, little endian is taken."""
    compressed = dcmread(test_file("MR_small_jp2klossless.dcm"))
    storescp = Path(tool("dcmqrscp")).with_name("storescp")  # pynetdicom has one of that name too
    with receiving(str(storescp), option, tmp_path / "got") as destination:
        port = offering(destination)
        assert send(port, compressed) == [0]
        identifier = asked("STUDY", StudyInstanceUID=compressed.StudyInstanceUID)
        response, _ = move(port, identifier)

    assert (response.Status, counts(response)) == (0x0000, (0, 1, 0, 0))
    (received,) = map(dcmread, (tmp_path / "got").iterdir())
    assert received.file_meta.TransferSyntaxUID == syntax
    assert received.SOPInstanceUID == compressed.SOPInstanceUID
    assert received.pixel_array.tobytes() == compressed.pixel_array.tobytes()


@contextmanager
def receiving(program: str, option: str, folder: Path) -> Iterator[Peer]:
    """DCMTK's storage provider with this option, keeping what it gets in ``folder``."""
    folder.mkdir()
    port = free_port()
    command = [program, option, "-aet", "DEST", "-od", str(folder), str(port)]
    with running(command, folder.with_suffix(".log"), port):
        yield Peer("DEST", "127.0.0.1", port)


def test_who_gets_without_compression_gets_the_same_pixels_and_what_was_corrected(
    provider: int,
    database: Database,
    send: Callable[..., list[int]],
    test_file: Callable[[str], Path],
) -> None:
    compressed = dcmread(test_file("MR_small_jp2klossless.dcm"))
    assert send(provider, compressed) == [0]
    row = {
        "study_instance_uid": compressed.StudyInstanceUID,
        "patient_name": "Durand^Annette",
        "corrected_at": 1_700_000_000.0,
        "source": "test",
    }
    database.write(lambda connection: connection.execute(insert(CORRECTION), row).close())
    received: list[Dataset] = []

    def take(event: Any) -> int:
        received.append(event.dataset)
        return 0x0000

    ae = AE("ASKER")
    ae.add_requested_context(STUDY_ROOT_GET)
    ae.add_requested_context(compressed.SOPClassUID, ImplicitVRLittleEndian)
    association = ae.associate(
        "127.0.0.1",
        provider,
        ae_title="KOSMOS",
        ext_neg=[build_role(compressed.SOPClassUID, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    identifier = asked("STUDY", StudyInstanceUID=compressed.StudyInstanceUID)
    *_, (response, _) = association.send_c_get(identifier, STUDY_ROOT_GET)
    association.release()

    assert (response.Status, counts(response)) == (0x0000, (0, 1, 0, 0))
    (got,) = received
    assert got.PatientName == "Durand^Annette"
    assert got.PixelData == compressed.pixel_array.tobytes()


def test_a_file_that_is_gone_fails_alone(
    offering: Offering,
    destination: Destination,
    blobs: BlobStore,
    store: Store,
    make_instance: Make,
) -> None:
    kept = make_instance(PixelData=b"\1" * 512)
    assert store(kept) == 0
    held = {blob.sha256 for blob in blobs.inventory()}
    lost = make_instance(PixelData=b"\2" * 512)
    assert store(lost) == 0
    for blob in [one for one in blobs.inventory() if one.sha256 not in held]:
        blobs.delete(blob.sha256)

    identifier = asked("STUDY", StudyInstanceUID=kept.StudyInstanceUID)
    response, _ = move(offering(destination.peer()), identifier)

    assert (response.Status, counts(response)) == (0xB000, (0, 1, 1, 0))


def test_a_move_is_told_to_stop(offering: Offering, store: Store, make_instance: Make) -> None:
    """The destination makes the asker cancel with the first instance that it gets."""
    for _ in range(4):
        assert store(make_instance()) == 0
    asking: list[Association] = []

    def taken() -> int:
        if asking:
            asking.pop().send_c_cancel(1, query_model=STUDY_ROOT_MOVE)
        return 0x0000

    destination = Destination(taken)
    port = offering(destination.peer())
    identifier = asked("STUDY", StudyInstanceUID=make_instance().StudyInstanceUID)
    with associated(port, STUDY_ROOT_MOVE) as association:
        asking.append(association)
        *_, (response, _) = association.send_c_move(identifier, "DEST", STUDY_ROOT_MOVE)
    destination.server.shutdown()

    assert response.Status == 0xFE00
    # The asker's thread sends it a moment later: another instance may leave before.
    assert 1 <= response.NumberOfRemainingSuboperations <= 3


def test_a_study_is_got_on_the_association_that_asks(
    provider: int, store: Store, make_instance: Make
) -> None:
    sent = [make_instance(InstanceNumber=str(number)) for number in range(3)]
    for one in sent:
        assert store(one) == 0
    received: list[Dataset] = []

    def take(event: Any) -> int:
        received.append(event.dataset)
        return 0xB000 if len(received) == 1 else 0x0000

    ae = AE("ASKER")
    ae.add_requested_context(STUDY_ROOT_GET)
    ae.add_requested_context(CT_IMAGE, ExplicitVRLittleEndian)
    association = ae.associate(
        "127.0.0.1",
        provider,
        ae_title="KOSMOS",
        ext_neg=[build_role(CT_IMAGE, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    identifier = asked("STUDY", StudyInstanceUID=sent[0].StudyInstanceUID)
    *_, (response, _) = association.send_c_get(identifier, STUDY_ROOT_GET)
    association.release()

    assert (response.Status, counts(response)) == (0xB000, (0, 2, 0, 1))
    assert [one.SOPInstanceUID for one in received] == [one.SOPInstanceUID for one in sent]


def test_who_does_not_take_the_role_of_a_provider_gets_nothing(
    provider: int, store: Store, make_instance: Make
) -> None:
    one = make_instance()
    assert store(one) == 0
    with associated(provider, STUDY_ROOT_GET, CT_IMAGE) as association:
        identifier = asked("STUDY", StudyInstanceUID=one.StudyInstanceUID)
        *_, (response, failed) = association.send_c_get(identifier, STUDY_ROOT_GET)

    assert (response.Status, counts(response)) == (0xA702, (0, 0, 1, 0))
    assert failed.FailedSOPInstanceUIDList == one.SOPInstanceUID


def test_instances_move_over_tls(
    offering: Offering, intake: Intake, store: Store, make_instance: Make, tmp_path: Path
) -> None:
    one = make_instance(PixelData=b"\1\2" * 400_000)
    assert store(one) == 0
    authority = create_authority(tmp_path, "Authority")
    node = issue(tmp_path, authority, "node", ["127.0.0.1"])
    there = server_context(node.certificate, node.key, authority.certificate)
    ours = client_context(node.certificate, node.key, authority.certificate)
    destination = Destination(tls=there)
    port = offering(destination.peer(ours))

    response, _ = move(port, asked("STUDY", StudyInstanceUID=one.StudyInstanceUID))
    destination.server.shutdown()

    assert response.Status == 0x0000
    assert destination.received[0].PixelData == one.PixelData


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={"TCP_NODELAY": "1"},
    )


def test_dcmtk_finds_moves_and_gets(
    offering: Offering,
    destination: Destination,
    tool: Callable[[str], str],
    dicom_tree: list[Path],
    read_file: Callable[[Path], Dataset],
    tmp_path: Path,
) -> None:
    port = str(offering(destination.peer()))
    ours = ("-aec", "KOSMOS", "127.0.0.1", port)
    assert run(tool("storescu"), *ours, *map(str, dicom_tree)).returncode == 0
    study = read_file(dicom_tree[0]).StudyInstanceUID
    instances = [path for path in dicom_tree if read_file(path).StudyInstanceUID == study]
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")

    found = run(tool("findscu"), "-S", *ours, *keys, "-k", "NumberOfStudyRelatedInstances")
    assert f"[{len(instances)}" in found.stdout + found.stderr

    done = run(tool("movescu"), "-S", "-aet", "ASKER", "-aem", "DEST", *ours, *keys)
    assert done.returncode == 0, done.stderr
    assert run(tool("getscu"), "-S", "-od", str(tmp_path), *ours, *keys).returncode == 0
    expected = {read_file(path).PixelData for path in instances}
    assert {one.PixelData for one in destination.received} == expected
    got = [path for path in tmp_path.iterdir() if path.is_file() and "1.3.6.1" in path.name]
    assert {read_file(path).PixelData for path in got} == expected


def a_query(line: Line, data_set: bytes) -> None:
    elements = ((SOP_CLASS_UID, STUDY_ROOT_FIND), (MESSAGE_ID, 1), (PRIORITY, 0))
    request = write_request(1, C_FIND_RQ, elements, has_data_set=True)
    line.send(request + write_data_set(1, data_set, line.pdu_bytes))


@pytest.fixture
def asker(provider: int) -> Iterator[Line]:
    contexts = [(STUDY_ROOT_FIND, ExplicitVRLittleEndian)]
    with Requested(Peer("KOSMOS", "127.0.0.1", provider), "ASKER", contexts) as requested:
        yield requested.line


def test_an_identifier_that_has_no_end_is_cut_off(asker: Line) -> None:
    def ask_for_too_much() -> None:
        a_query(asker, bytes(DATA_SET_LIMIT_BYTES + 1))
        asker.read()

    with pytest.raises(PeerGone):
        ask_for_too_much()


@pytest.mark.parametrize("data_set", [b"", b"\x08", b"\xff" * 40, b"\x08\0\x52\0CS\xff\xffSTUDY "])
def test_an_identifier_that_is_no_data_set_gets_an_answer(asker: Line, data_set: bytes) -> None:
    a_query(asker, data_set)

    assert asker.read().command.status in (0xA900, 0xC000)


def test_a_cancel_that_comes_too_late_changes_nothing(
    asker: Line, studies: dict[str, Dataset]
) -> None:
    keys: Values = {0x00080052: ("CS", "STUDY"), 0x00100020: ("LO", "P1")}
    for _ in range(2):
        a_query(asker, encode(keys, ExplicitVRLittleEndian))
        assert [asker.read().command.status for _ in range(2)] == [0xFF00, 0x0000]
        asker.send(write_request(1, C_CANCEL_RQ, [(0x00000120, 1)], has_data_set=False))


def test_a_query_is_told_to_stop_before_it_answers(
    asker: Line, studies: dict[str, Dataset]
) -> None:
    keys: Values = {0x00080052: ("CS", "STUDY")}
    elements = ((SOP_CLASS_UID, STUDY_ROOT_FIND), (MESSAGE_ID, 1), (PRIORITY, 0))
    request = write_request(1, C_FIND_RQ, elements, has_data_set=True)
    cancel = write_request(1, C_CANCEL_RQ, [(0x00000120, 1)], has_data_set=False)
    data_set = write_data_set(1, encode(keys, ExplicitVRLittleEndian), asker.pdu_bytes)
    asker.send(request + data_set + cancel)

    statuses = [asker.read().command.status]
    while statuses[-1] == 0xFF00:
        statuses.append(asker.read().command.status)
    assert statuses[-1] in (0xFE00, 0x0000)  # the cancel may arrive after the last match
