"""Files sent to storage providers that nobody here wrote, well-behaved and not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, evt

from imaging_source.requestor import Peer
from node.demo.studies import sample_folder
from node.storescu import AssociationFailed, DicomFile, find_files, send

Handle = Callable[[evt.Event], int]


def request(event: evt.Event) -> Any:
    return event.request


@contextmanager
def providing(
    handle: Handle, sop_class: str = CTImageStorage, called: str = "ARCHIVE"
) -> Iterator[Peer]:
    """A storage provider of pynetdicom, ARCHIVE, that answers with the status of ``handle``."""
    ae = AE("ARCHIVE")
    ae.require_called_aet = True
    ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)]
    )
    assert server is not None
    try:
        yield Peer(called, "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


@pytest.fixture
def files(tmp_path: Path) -> list[DicomFile]:
    """Three images of CT."""
    image = dcmread(sample_folder() / "CT_small.dcm")
    for number in range(3):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    return list(find_files([tmp_path]))


def test_what_is_sent_arrives_as_it_lies_on_disk_and_is_answered_one_by_one(
    files: list[DicomFile],
) -> None:
    arrived: list[bytes] = []

    def handle(event: evt.Event) -> int:
        arrived.append(request(event).DataSet.getvalue())
        return 0xB000 if len(arrived) == 2 else 0x0000

    told: list[int | None] = []
    with providing(handle) as peer:
        answers = send(files, peer, on_stored=lambda one: told.append(one.status))
    assert [one.status for one in answers] == told == [0, 0xB000, 0]
    assert all(one.ok for one in answers)
    assert all(
        file.path.read_bytes().endswith(data) for file, data in zip(files, arrived, strict=True)
    )


def test_what_follows_a_provider_that_breaks_off_has_no_answer(files: list[DicomFile]) -> None:
    def handle(event: evt.Event) -> int:
        if request(event).AffectedSOPInstanceUID == files[1].sop_instance_uid:
            event.assoc.abort()
        return 0x0000

    with providing(handle) as peer:
        answers = send(files, peer)
    assert [one.file for one in answers] == files
    assert [one.status for one in answers] == [0, None, None]


def test_a_class_that_the_provider_does_not_take_has_no_answer(files: list[DicomFile]) -> None:
    with providing(lambda event: 0x0000, sop_class=MRImageStorage) as peer:
        assert [one.status for one in send(files, peer)] == [None, None, None]


def test_a_file_that_cannot_be_read_any_more_ends_the_association(files: list[DicomFile]) -> None:
    files[1].path.unlink()
    stored: list[str] = []

    def handle(event: evt.Event) -> int:
        stored.append(request(event).AffectedSOPInstanceUID)
        return 0x0000

    with providing(handle) as peer:
        answers = send(files, peer)
    assert [one.status for one in answers] == [0, None, None]
    assert stored == [files[0].sop_instance_uid]


def test_a_provider_that_rejects_us_and_nobody_at_all_are_told_apart(
    files: list[DicomFile],
) -> None:
    with (
        providing(lambda event: 0x0000, called="ANOTHER") as peer,
        pytest.raises(AssociationFailed, match="rejects us") as rejected,
    ):
        send(files, peer)
    with pytest.raises(AssociationFailed, match="nothing answers") as away:
        send(files, peer)
    assert (rejected.value.unreachable, away.value.unreachable) == (False, True)
