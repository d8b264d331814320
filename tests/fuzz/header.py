"""DICOM data sets: the header that is indexed, the head of a file, a rejection note."""

from io import BytesIO

from pydicom import Dataset, dcmread, dcmwrite

from imaging_source.elements import Unreadable
from imaging_source.header import read_header
from imaging_source.part10 import read_meta
from imaging_source.rejection import read_note
from manifest.kos import write_kos
from tests.fuzz.samples import manifest
from tests.fuzz.target import Target

_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


def read(data: bytes) -> None:
    """As a file; without its first byte, which chooses the syntax, as a data set."""
    try:
        read_meta(data)
    except Unreadable:
        choice = data[0] if data else 0
        read_note(data[1:], _SYNTAXES[choice % 3])
        read_header(data[1:], _SYNTAXES[choice % 3], choice > 127)


def seeds() -> list[bytes]:
    """A file, and its data set in every encoding."""
    file = write_kos(manifest())
    bare = Dataset(dict(dcmread(BytesIO(file)).items()))
    found = [file, b"\1" + file[_start(file) :]]
    for place, (implicit, little) in ((0, (True, True)), (2, (False, False))):
        stream = BytesIO()
        dcmwrite(stream, bare, implicit_vr=implicit, little_endian=little)
        found.append(bytes([place]) + stream.getvalue())
    return found


def _start(file: bytes) -> int:
    return 144 + int.from_bytes(file[140:144], "little")


TARGET = Target("header", read, (Unreadable,), seeds, 7_500)
