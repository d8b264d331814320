from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file

from consumer.errors import NotWritten
from consumer.files import PartialFile
from consumer.instance import Identity, NotWhole, identify

# Of those in pydicom's own wheel: uncompressed, JPEG 2000, RLE, another transfer syntax.
NAMES = ["CT_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"]


def test_a_file_appears_under_its_name_when_it_is_complete(tmp_path: Path) -> None:
    spool = PartialFile(tmp_path)
    spool.write(b"one")
    spool.write(b"two")
    complete = spool.finish()
    target = tmp_path / "new" / "name"
    assert not target.exists()
    complete.keep(target)
    complete.discard()
    assert target.read_bytes() == b"onetwo"
    assert complete.size == 6
    assert b"".join(complete.chunks()) == b"onetwo"
    assert complete.sha1 == hashlib.sha1(b"onetwo").hexdigest()
    assert complete.sha256 == hashlib.sha256(b"onetwo").hexdigest()


def test_content_comes_in_pieces_of_a_mebibyte_at_most(tmp_path: Path) -> None:
    spool = PartialFile(tmp_path)
    spool.write(b"x" * 2_500_000)
    assert [len(chunk) for chunk in spool.finish().chunks()] == [1 << 20, 1 << 20, 402_848]


def test_nothing_remains_of_what_was_given_up(tmp_path: Path) -> None:
    given_up = PartialFile(tmp_path)
    given_up.write(b"x")
    given_up.abort()
    discarded = PartialFile(tmp_path).finish()
    discarded.discard()
    discarded.discard()
    assert list(tmp_path.iterdir()) == []


def full(*_args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_while_bytes_arrive_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = PartialFile(tmp_path)
    spool.write(b"x")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotWritten, match="No space left"):
        spool.finish()
    spool.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_more_names_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = PartialFile(tmp_path).finish()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(NotWritten, match="No space left"):
        complete.keep(tmp_path / "name")
    complete.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_bytes_is_told_as_such(tmp_path: Path) -> None:
    spool = PartialFile(tmp_path)
    device = os.open("/dev/full", os.O_WRONLY)
    os.dup2(device, spool._file.fileno())
    os.close(device)
    with pytest.raises(NotWritten, match="No space left"):
        spool.write(b"x" * 1_000_000)
    spool.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_dicom_file_says_which_instance_it_is(name: str) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    expected = dcmread(path)
    assert identify(path) == Identity(
        expected.SOPClassUID,
        expected.SOPInstanceUID,
        expected.StudyInstanceUID,
        expected.SeriesInstanceUID,
        expected.file_meta.TransferSyntaxUID,
        expected.file_meta.MediaStorageSOPInstanceUID,
    )


@given(st.binary(max_size=300))
def test_whatever_bytes_come_are_looked_at_without_harm(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    for data in (noise, b"\0" * 128 + b"DICM" + noise):
        path.write_bytes(data)
        with pytest.raises(NotWhole):
            identify(path)


def test_an_image_cut_off_anywhere_behind_its_rows_is_not_whole(
    tmp_path: Path, part10: Callable[..., bytes]
) -> None:
    path, whole = tmp_path / "image", part10("1.2.3", size=4)
    path.write_bytes(whole)
    identify(path)
    rows = whole.index(b"\x28\0\x10\0US")
    for end in range(rows + 1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(NotWhole):
            identify(path)
