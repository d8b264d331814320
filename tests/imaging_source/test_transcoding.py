"""Transcoding: bit for bit the same pixels, by our decoders and by foreign ones; bounded."""

import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, generate_uid

from imaging_source import syntaxes
from imaging_source.parts import Part
from imaging_source.pixels import Image, Pixels, UnreadablePixels
from imaging_source.transcoding import transcode
from imaging_source.variants import NoVariant, Variants
from imaging_source.workers import Workers, WorkFailed
from storage.files import FileContent

EXPLICIT = syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
PICTURES = [one for one in syntaxes.MADE if one != syntaxes.DEFLATED]


@st.composite
def images(draw: st.DrawFn) -> Dataset:
    """An image with pixels of any kind that is transcoded."""
    bits = draw(st.sampled_from([8, 16]))
    signed = draw(st.booleans())
    samples = draw(st.sampled_from([1, 3])) if not signed else 1
    frames, rows, columns = (draw(st.integers(1, most)) for most in (3, 20, 20))
    seed = draw(st.integers(0, 2**32 - 1))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    high = draw(st.sampled_from([high, max(low + 2, high // 16)]))
    values = np.random.default_rng(seed).integers(low, high, (frames, rows, columns, samples))
    return image(values, bits, signed=signed, planar=draw(st.booleans()))


def image(values: Pixels, bits: int, *, signed: bool = False, planar: bool = False) -> Dataset:
    frames, rows, columns, samples = values.shape
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = generate_uid()
    dataset.PatientName = "Durand^Anne"
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    dataset.NumberOfFrames = frames
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(signed)
    if samples == 3:
        dataset.PlanarConfiguration = int(planar)
        values = values.transpose(0, 3, 1, 2) if planar else values
    data = values.astype(f"<{'i' if signed else 'u'}{bits // 8}").tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    return dataset


def pixels(path: Path, syntax: str) -> list[Pixels]:
    with Image(path, syntax) as opened:
        return [frame.copy() for frame in opened.frames()]


def same(one: list[Pixels], other: list[Pixels]) -> bool:
    alike = zip(one, other, strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in alike)


@pytest.mark.parametrize("wanted", PICTURES)
def test_there_and_back_no_bit_is_lost(
    wanted: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("images")

    @settings(deadline=None, max_examples=40)
    @given(images())
    def holds(dataset: Dataset) -> None:
        for name in ("stored", "made", "back"):
            (folder / name).unlink(missing_ok=True)
        dataset.save_as(folder / "stored", enforce_file_format=True)
        transcode(str(folder / "stored"), EXPLICIT, wanted, str(folder / "made"))
        transcode(str(folder / "made"), wanted, EXPLICIT, str(folder / "back"))

        before = pixels(folder / "stored", EXPLICIT)
        assert same(before, pixels(folder / "made", wanted))
        assert same(before, pixels(folder / "back", EXPLICIT))
        back = dcmread(folder / "back")
        assert back.file_meta.TransferSyntaxUID == EXPLICIT
        assert back.PatientName == "Durand^Anne"
        if dataset.get("PlanarConfiguration", 0) == 0:
            assert back.PixelData == dataset.PixelData

    holds()


@pytest.mark.parametrize(
    ("program", "syntax"),
    [("dcmdrle", syntaxes.RLE_LOSSLESS), ("dcmdjpls", syntaxes.JPEG_LS_LOSSLESS)],
)
def test_a_foreign_decoder_finds_the_same_pixels(
    program: str, syntax: str, tool: Callable[[str], str], tmp_path: Path
) -> None:
    values = np.random.default_rng(7).integers(0, 4096, (2, 33, 21, 1))
    dataset = image(values, 16)
    dataset.save_as(tmp_path / "stored", enforce_file_format=True)
    transcode(str(tmp_path / "stored"), EXPLICIT, syntax, str(tmp_path / "made"))

    arguments = [tool(program), str(tmp_path / "made"), str(tmp_path / "decoded")]
    subprocess.run(arguments, check=True, timeout=30)

    assert dcmread(tmp_path / "decoded").PixelData == dataset.PixelData


@pytest.mark.filterwarnings("ignore")  # values that pydicom does not like
@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "rtdose_expb.dcm",
        "examples_palette.dcm",
    ],
)
def test_what_modalities_send_can_be_had_without_compression(
    name: str, test_file: Callable[[str], Path], tmp_path: Path
) -> None:
    stored = str(dcmread(test_file(name)).file_meta.TransferSyntaxUID)
    before = pixels(test_file(name), stored)

    transcode(str(test_file(name)), stored, EXPLICIT, str(tmp_path / "made"))

    made = dcmread(tmp_path / "made")
    assert np.array_equal(made.pixel_array.reshape(np.array(before).shape), np.array(before))
    if name.startswith("MR_small"):  # all of one image
        assert np.array_equal(made.pixel_array, dcmread(test_file("MR_small.dcm")).pixel_array)


def test_an_object_without_pixels_changes_its_encoding_alone(
    make_instance: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = make_instance()
    del dataset.PixelData
    dataset.save_as(tmp_path / "stored", enforce_file_format=True)

    for syntax in (syntaxes.IMPLICIT_VR_LITTLE_ENDIAN, syntaxes.DEFLATED):
        transcode(str(tmp_path / "stored"), EXPLICIT, syntax, str(tmp_path / syntax))
        made = dcmread(tmp_path / syntax)
        assert made.file_meta.TransferSyntaxUID == syntax
        assert made == dataset

    with pytest.raises(UnreadablePixels):
        transcode(str(tmp_path / "stored"), EXPLICIT, syntaxes.RLE_LOSSLESS, str(tmp_path / "no"))


def test_a_frame_that_claims_another_size_is_not_decoded(tmp_path: Path) -> None:
    image(np.zeros((1, 8, 8, 1)), 8).save_as(tmp_path / "stored", enforce_file_format=True)
    transcode(
        str(tmp_path / "stored"), EXPLICIT, syntaxes.JPEG_2000_LOSSLESS, str(tmp_path / "made")
    )
    data = (tmp_path / "made").read_bytes()
    huge = data.replace(struct.pack(">II", 8, 8), struct.pack(">II", 60_000, 60_000))
    assert huge != data
    (tmp_path / "huge").write_bytes(huge)

    with pytest.raises(UnreadablePixels, match="another size"):
        pixels(tmp_path / "huge", syntaxes.JPEG_2000_LOSSLESS)


def test_hostile_images_cost_their_own_job(
    workers: Workers, tmp_path: Path, make_instance: Callable[..., Dataset]
) -> None:
    deep = Dataset()
    for _ in range(5000):
        outer = Dataset()
        outer.add_new(0x00080006, "SQ", Sequence([]))
        outer[0x00080006].value.append(deep)
        deep = outer
    nested = struct.pack("<HH2sHI", 0x0008, 0x0006, b"SQ", 0, 0xFFFFFFFF)
    nested += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    good = image(np.zeros((1, 8, 8, 1)), 8)
    good.save_as(tmp_path / "good", enforce_file_format=True)
    whole = (tmp_path / "good").read_bytes()
    bomb = zlib.compressobj(9, wbits=-15)
    hostile = {
        "deep": whole[:132] + nested * 5000,
        "truncated": whole[:-10],
        "empty": b"",
        "meta": whole[:130] + b"XXXX" + whole[134:],
        "bomb": b"".join(bomb.compress(bytes(1_000_000)) for _ in range(500)) + bomb.flush(),
    }
    for name, data in hostile.items():
        (tmp_path / name).write_bytes(data)
        syntax = syntaxes.RLE_LOSSLESS
        with pytest.raises(WorkFailed):
            workers.run("transcode", str(tmp_path / name), EXPLICIT, syntax, str(tmp_path / "no"))
        (tmp_path / "no").unlink(missing_ok=True)

    arguments = (str(tmp_path / "good"), EXPLICIT, syntaxes.RLE_LOSSLESS, str(tmp_path / "made"))
    assert workers.run("transcode", *arguments) == b""


def test_a_worker_that_dies_is_followed_by_another(workers: Workers, tmp_path: Path) -> None:
    image(np.zeros((1, 8, 8, 1)), 8).save_as(tmp_path / "good", enforce_file_format=True)
    arguments = (str(tmp_path / "good"), EXPLICIT, syntaxes.RLE_LOSSLESS)
    workers.run("transcode", *arguments, str(tmp_path / "one"))
    (worker,) = workers._idle

    worker.process.kill()
    worker.process.wait()

    workers.run("transcode", *arguments, str(tmp_path / "two"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def stored(path: Path, address: str) -> Part:
    """A part as the pre-flight of any door makes it."""
    row = {"sha256": address, "transfer_syntax_uid": EXPLICIT}
    return Part(row, FileContent(path, path.stat().st_size))


def test_a_variant_is_made_once_and_the_oldest_goes_when_room_is_needed(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaging_source.variants.IN_USE_SECONDS", -1.0)
    image(np.zeros((1, 64, 64, 1)), 8).save_as(tmp_path / "stored", enforce_file_format=True)
    variants = Variants(tmp_path / "cache", workers, limit=10_000)

    def made(address: str) -> Path:
        wanted = {syntaxes.IMPLICIT_VR_LITTLE_ENDIAN}
        content = variants.part(stored(tmp_path / "stored", address), wanted).content
        assert isinstance(content, FileContent)
        return Path(content.path)

    first = made("a" * 64)
    inode = first.stat().st_ino
    assert made("a" * 64).stat().st_ino == inode
    made("b" * 64)
    assert first.exists()
    made("c" * 64)

    names = sorted(path.name[0] for path in (tmp_path / "cache").iterdir())
    assert names == ["b", "c"]


def test_what_is_in_use_is_not_removed_for_something_new(workers: Workers, tmp_path: Path) -> None:
    image(np.zeros((1, 64, 64, 1)), 8).save_as(tmp_path / "stored", enforce_file_format=True)
    variants = Variants(tmp_path / "cache", workers, limit=5000)
    wanted = {syntaxes.IMPLICIT_VR_LITTLE_ENDIAN}
    variants.part(stored(tmp_path / "stored", "a" * 64), wanted)

    with pytest.raises(NoVariant):
        variants.part(stored(tmp_path / "stored", "b" * 64), wanted)

    assert [path.name[0] for path in (tmp_path / "cache").iterdir()] == ["a"]
