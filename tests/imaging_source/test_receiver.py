"""The storage provider as its peers see it: well-behaved ones, DCMTK's among them."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom import data as pydicom_data
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from sqlalchemy import select
from structlog.testing import capture_logs

from imaging_source.guard import Limits
from imaging_source.intake import Intake
from imaging_source.negotiation import Titles
from imaging_source.receiver import Listening, Receiver
from imaging_source.requestor import Peer
from imaging_source.schema import INSTANCE, QUARANTINE
from node.storescu import find_files
from node.storescu import send as send_files
from security.pki import create_authority, issue
from security.tls import client_context, server_context
from storage.blobs import BlobStore
from storage.database import Database

DATA = Path(pydicom_data.__file__).parent
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
Make = Callable[..., Dataset]
Send = Callable[..., list[int]]
Start = Callable[[Listening], int]


def instances(database: Database) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(INSTANCE)).mappings()]


def test_a_verification_is_answered(port: int) -> None:
    ae = AE()
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")

    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert association.is_released


def test_an_extended_negotiation_is_passed_over_as_not_supported(port: int) -> None:
    """What is not answered is not supported (PS3.7 D.3.3.5.2): the association holds without it."""
    offered = SOPClassExtendedNegotiation()
    offered.sop_class_uid = VERIFICATION
    offered.service_class_application_information = b"\1\1"
    ae = AE()
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS", ext_neg=[offered])

    assert association.acceptor.sop_class_extended == {}
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_every_instance_of_an_association_is_stored(
    port: int, send: Send, make_instance: Make, database: Database
) -> None:
    assert send(port, *(make_instance() for _ in range(5))) == [0] * 5
    assert len(instances(database)) == 5


def test_the_bytes_of_every_transfer_syntax_arrive_unchanged(
    port: int,
    send: Send,
    database: Database,
    blobs: BlobStore,
    test_file: Callable[[str], Path],
    read_file: Callable[[Path], Dataset],
    raw_data_set: Callable[[Path], bytes],
) -> None:
    names = ["MR_small_implicit.dcm", "ExplVR_BigEnd.dcm", "JPEG2000.dcm", "CT_small.dcm"]
    sent = {}
    for name in names:
        path = test_file(name)
        dataset = read_file(path)
        assert send(port, dataset) == [0]
        sent[dataset.SOPInstanceUID] = (dataset.file_meta.TransferSyntaxUID, dataset.PixelData)
    assert len(names) == len(sent)

    for row in instances(database):
        stored = read_file(blobs.open(row["sha256"]).path)
        syntax, pixels = sent.pop(row["sop_instance_uid"])
        assert row["transfer_syntax_uid"] == stored.file_meta.TransferSyntaxUID == syntax
        assert stored.PixelData == pixels
    assert sent == {}


def test_four_associations_at_once_lose_nothing(
    port: int, send: Send, make_instance: Make, database: Database
) -> None:
    batches = [[make_instance() for _ in range(10)] for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda batch: send(port, *batch), batches))

    assert statuses == [[0] * 10] * 4
    sent = {one.SOPInstanceUID for batch in batches for one in batch}
    assert {row["sop_instance_uid"] for row in instances(database)} == sent


def test_two_senders_of_one_instance_with_different_bytes_leave_the_first(
    port: int, send: Send, make_instance: Make, database: Database
) -> None:
    first = make_instance()
    others = [
        make_instance(SOPInstanceUID=first.SOPInstanceUID, PixelData=bytes([n]) * 8)
        for n in range(6)
    ]
    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(status for (status,) in pool.map(lambda one: send(port, one), others))

    assert statuses == [0x0000] + [0xB000] * 5
    assert len(instances(database)) == 1
    with database.read() as connection:
        assert len(connection.execute(select(QUARANTINE)).all()) == 5


def test_the_wrong_called_title_is_rejected(port: int, tool: Callable[[str], str]) -> None:
    command = [tool("echoscu"), "-aec", "SOMEONE", "127.0.0.1", str(port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr


def test_the_log_tells_who_was_turned_away_and_what_was_refused(
    port: int, tool: Callable[[str], str], send: Send, make_instance: Make
) -> None:
    command = [tool("echoscu"), "-aet", "CT1", "-aec", "SOMEONE", "127.0.0.1", str(port)]
    broken = make_instance(StudyInstanceUID="")
    with capture_logs() as logged:
        subprocess.run(command, capture_output=True, check=False)
        send(port, broken)

    told = {one["code"]: one for one in logged if "code" in one}
    assert told["dicom-rejected"]["reason"] == "called AE title is not ours"
    assert told["dicom-rejected"]["called"] == "SOMEONE"
    assert told["dicom-rejected"]["calling"] == "CT1"
    refused = told["imaging-refused"]
    assert (refused["status"], refused["sender"]) == ("C000", "MODALITY")
    assert refused["reason"] == "Study Instance UID is missing"


def test_an_unknown_calling_title_is_rejected(
    start_receiver: Start, send: Send, make_instance: Make, tool: Callable[[str], str]
) -> None:
    port = start_receiver(Listening(port=0, titles=Titles(calling=frozenset({"MODALITY"}))))
    command = [tool("echoscu"), "-aet", "STRANGER", "-aec", "KOSMOS", "127.0.0.1", str(port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "Calling AE Title Not Recognized" in done.stdout + done.stderr
    assert send(port, make_instance()) == [0]


def test_any_called_title_will_do_where_configured(
    start_receiver: Start, send: Send, make_instance: Make
) -> None:
    port = start_receiver(Listening(port=0, titles=Titles(any_called=True)))

    assert send(port, make_instance(), called="WHATEVER") == [0]


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([DeflatedExplicitVRLittleEndian], DeflatedExplicitVRLittleEndian),
        ([JPEG2000], JPEG2000),
        ([ExplicitVRBigEndian], ExplicitVRBigEndian),
    ],
)
def test_of_the_syntaxes_offered_the_plainest_is_taken(
    port: int, offered: list[str], taken: str
) -> None:
    ae = AE()
    ae.add_requested_context(CT_IMAGE, offered)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")

    assert association.accepted_contexts[0].transfer_syntax == [taken]
    association.release()


def test_more_associations_than_allowed_are_turned_away_for_now(start_receiver: Start) -> None:
    port = start_receiver(Listening(port=0, limits=Limits(associations=2)))
    ae = AE()
    ae.add_requested_context(VERIFICATION)
    first, second, third = (ae.associate("127.0.0.1", port, ae_title="KOSMOS") for _ in range(3))

    assert first.is_established
    assert second.is_established
    assert third.is_rejected
    rejection = third.acceptor.primitive
    assert rejection is not None
    assert (rejection.result, rejection.result_source, rejection.diagnostic) == (2, 3, 2)
    first.release()
    second.release()


def test_dcmtk_sends_whole_studies(
    port: int,
    tool: Callable[[str], str],
    dicom_tree: list[Path],
    database: Database,
    blobs: BlobStore,
    read_file: Callable[[Path], Dataset],
) -> None:
    command = [tool("storescu"), "-aec", "KOSMOS", "127.0.0.1", str(port), *map(str, dicom_tree)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"TCP_NODELAY": "1"}
    )

    assert done.returncode == 0, done.stderr
    stored = {row["sop_instance_uid"]: row for row in instances(database)}
    for path in dicom_tree:
        original = read_file(path)
        row = stored[original.SOPInstanceUID]
        copy = read_file(blobs.open(row["sha256"]).path)
        assert copy.PixelData == original.PixelData
    assert {row["study_instance_uid"] for row in stored.values()} == {
        read_file(path).StudyInstanceUID for path in dicom_tree
    }


def test_a_stopped_receiver_lets_an_association_finish(intake: Intake, make_instance: Make) -> None:
    receiver = Receiver(intake, Listening(port=0))
    port = receiver.port
    ae = AE()
    ae.add_requested_context(CT_IMAGE, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(receiver.stop, 10.0)
        assert association.send_c_store(make_instance()).Status == 0x0000
        association.release()
        stopped.result(timeout=10)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


def test_tls_is_spoken_where_configured(
    start_receiver: Start,
    connect: Callable[[int], Any],
    association_request: bytes,
    make_instance: Make,
    tmp_path: Path,
    database: Database,
) -> None:
    authority = create_authority(tmp_path, "Authority")
    node = issue(tmp_path, authority, "node", ["127.0.0.1"])
    tls = server_context(node.certificate, node.key, authority.certificate)
    port = start_receiver(Listening(port=0, tls=tls))
    ae = AE()
    ae.add_requested_context(CT_IMAGE, ExplicitVRLittleEndian)
    ours = client_context(node.certificate, node.key, authority.certificate)

    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS", tls_args=(ours, "127.0.0.1"))
    assert association.send_c_store(make_instance()).Status == 0x0000
    association.release()

    assert len(instances(database)) == 1
    plain = connect(port)
    plain.send(association_request)
    assert plain.read_pdu()[0] != 2  # no A-ASSOCIATE-AC without TLS


def test_real_files_of_every_kind_are_answered_and_none_does_harm(
    port: int, send: Send, make_instance: Make, database: Database
) -> None:
    """Those that pydicom brings: odd, broken on purpose, of every transfer syntax."""
    files = [one for one in find_files([DATA]) if one.size < 100_000]
    answers = send_files(files, Peer("KOSMOS", "127.0.0.1", port))
    assert all(one.status is not None for one in answers)
    stored = {one.file.sop_instance_uid for one in answers if one.ok}
    assert {one["sop_instance_uid"] for one in instances(database)} == stored
    assert len(stored) > 50
    assert send(port, make_instance()) == [0]
