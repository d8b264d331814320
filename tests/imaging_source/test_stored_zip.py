"""A ZIP made while it is sent: read by others, its length known, beyond 4 GiB too."""

import io
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecodecs import deflate_crc32

from imaging_source.coercion import Coerced
from imaging_source.stored_zip import Entry, archive, length
from soap.message import InMemory, length_of, read
from storage.files import FileContent

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=20)


@dataclass
class Zeros:
    """Content of any size that takes no room."""

    size: int

    def chunks(self) -> Iterator[bytes]:
        piece = bytes(16 * 1024 * 1024)
        for start in range(0, self.size, len(piece)):
            yield piece[: self.size - start]


@given(st.dictionaries(NAMES, st.binary(max_size=200), max_size=6), st.floats(0, 4e9))
def test_a_foreign_reader_finds_every_file(files: dict[str, bytes], at: float) -> None:
    entries = [Entry(name, InMemory(data), at) for name, data in files.items()]

    made = b"".join(read(archive(entries)))

    assert len(made) == length(entries)
    with zipfile.ZipFile(io.BytesIO(made)) as opened:
        assert opened.testzip() is None
        assert {one.orig_filename: opened.read(one) for one in opened.infolist()} == files


def test_unzip_tells_the_archive_whole(tmp_path: Path, tool: Callable[[str], str]) -> None:
    entries = [Entry(f"SE{n}/IM{n}.dcm", InMemory(bytes(n))) for n in range(1000)]
    (tmp_path / "made.zip").write_bytes(b"".join(read(archive(entries))))

    subprocess.run([tool("unzip"), "-tq", str(tmp_path / "made.zip")], check=True, timeout=30)


def test_an_entry_and_an_archive_beyond_4_gib_are_read(tmp_path: Path) -> None:
    large = 4 * 1024**3 + 5
    entries = [Entry("a", Zeros(large)), Entry("b", InMemory(b"last"))]
    path, size = tmp_path / "made.zip", 0
    with path.open("wb") as file:
        for piece in read(archive(entries)):
            size += len(piece)
            if len(piece) > 1024:
                file.seek(len(piece), 1)  # a hole
            else:
                file.write(piece)

    assert size == length(entries)
    with zipfile.ZipFile(path) as opened:
        assert opened.getinfo("a").file_size == large
        assert opened.read("b") == b"last"


def test_more_files_than_a_plain_archive_holds() -> None:
    entries = [Entry(str(number), InMemory(b"")) for number in range(70_000)]
    made = b"".join(read(archive(entries)))
    assert len(made) == length(entries)
    assert len(zipfile.ZipFile(io.BytesIO(made)).namelist()) == 70_000


@dataclass
class Torn:
    """Content that does not have the bytes it says."""

    size: int

    def chunks(self) -> Iterator[bytes]:
        yield b"abc"


def test_content_that_is_not_of_its_size_breaks_off() -> None:
    for size in (2, 4):
        with pytest.raises(ValueError, match="changed"):
            list(archive([Entry("a", Torn(size))]))


def test_a_file_is_left_to_the_kernel_and_what_is_not_as_it_lies_is_read(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "image").write_bytes(data)
    file = FileContent.at(tmp_path / "image")
    corrected = Coerced(file, len(data) - 6, (b"name", (10, len(data))))
    entries = [Entry("plain", file), Entry("corrected", corrected)]

    pieces, made = [], b""
    for piece in archive(entries):
        pieces.append(piece)
        made += b"".join(read([piece]))

    left = [length_of(piece) for piece in pieces if not isinstance(piece, bytes)]
    assert left == [len(data), len(data) - 10]
    with zipfile.ZipFile(io.BytesIO(made)) as opened:
        assert opened.testzip() is None
        assert opened.read("plain") == data
        assert opened.read("corrected") == b"name" + data[10:]


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_the_crc_of_pieces_is_that_of_all_of_them(pieces: list[bytes]) -> None:
    running = 0
    for piece in pieces:
        running = deflate_crc32(piece, running)
    assert running == zlib.crc32(b"".join(pieces))
