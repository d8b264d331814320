"""A data set that ends inside an element is found out, however it is written; padding is not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from imaging_source.data_sets import InMemory
from imaging_source.elements import Truncated, Unreadable
from imaging_source.extent import prove_end
from imaging_source.intake import Intake, Status
from imaging_source.part10 import read_meta
from imaging_source.syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    INFLATED,
    RLE_LOSSLESS,
)

# Not through pydicom.data, which would fetch what is not there.
SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
Make = Callable[..., Dataset]
Encode = Callable[[Dataset], bytes]
SYNTAXES = [
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    RLE_LOSSLESS,
]


def written(dataset: Dataset, syntax: str) -> bytes:
    """The data set with a nested sequence of undefined length, and pixels as ``syntax`` has it."""
    inner, outer = Dataset(), Dataset()
    inner.is_undefined_length_sequence_item = True
    inner.CodeValue = "1"
    outer.PurposeOfReferenceCodeSequence = [inner]
    dataset.ReferencedImageSequence = [outer]
    dataset["ReferencedImageSequence"].is_undefined_length = True
    if syntax == RLE_LOSSLESS:
        dataset.PixelData = encapsulate([b"\1\2" * 100, b"\3\4" * 100])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
    buffer = BytesIO()
    implicit = syntax == IMPLICIT_VR_LITTLE_ENDIAN
    little = syntax != EXPLICIT_VR_BIG_ENDIAN
    dcmwrite(buffer, Dataset(dataset), implicit_vr=implicit, little_endian=little)
    return buffer.getvalue()


def is_whole(data: bytes, syntax: str) -> bool:
    try:
        prove_end(InMemory(data), 0, syntax)
    except Truncated:
        return False
    return True


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_wherever_a_data_set_breaks_off_within_an_element_it_is_not_whole(
    make_instance: Make, syntax: str
) -> None:
    data = written(make_instance(), syntax)

    ends = [length for length in range(1, len(data)) if is_whole(data[:length], syntax)]

    assert is_whole(data, syntax)
    # Between two elements nothing tells that another one was to come.
    assert len(ends) < 30
    assert max(ends) < len(data) - 200  # the pixels


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("padding", [b"\0", bytes(7), bytes(10), bytes(3000)])
def test_zeros_behind_the_last_element_do_no_harm(
    make_instance: Make, syntax: str, padding: bytes
) -> None:
    assert is_whole(written(make_instance(), syntax) + padding, syntax)


def test_what_follows_the_pixels_is_whole_too_or_no_element(make_instance: Make) -> None:
    data = written(make_instance(), EXPLICIT_VR_LITTLE_ENDIAN)
    padding = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 500)

    assert is_whole(data + padding + bytes(500), EXPLICIT_VR_LITTLE_ENDIAN)
    assert not is_whole(data + padding + bytes(10), EXPLICIT_VR_LITTLE_ENDIAN)
    assert is_whole(data + b"no element at all", EXPLICIT_VR_LITTLE_ENDIAN)


def test_samples_of_others_are_whole_unless_they_are_truncated() -> None:
    found = {}
    for path in SAMPLES.glob("*.dcm"):
        data = path.read_bytes()
        with suppress(Unreadable):
            meta = read_meta(data)
            if meta.transfer_syntax_uid not in INFLATED:
                found[path.name] = is_whole(data[meta.end :], meta.transfer_syntax_uid)

    assert len(found) > 50
    assert {name for name, whole in found.items() if not whole} == {
        "MR_truncated.dcm",
        "rtplan_truncated.dcm",
    }


def test_an_instance_that_is_cut_off_is_refused_and_a_whole_one_is_taken_then(
    intake: Intake, make_instance: Make, encode: Encode
) -> None:
    instance = make_instance()
    data = encode(instance)

    def stored(data: bytes) -> tuple[int, str]:
        arrival = intake.begin(
            instance.SOPClassUID, instance.SOPInstanceUID, EXPLICIT_VR_LITTLE_ENDIAN, "AE"
        )
        arrival.write(memoryview(data))
        outcome = arrival.finish()
        return outcome.status, outcome.comment

    assert stored(data[:-1]) == (
        Status.CANNOT_UNDERSTAND,
        "the data set ends inside an element",
    )
    assert stored(data) == (Status.SUCCESS, "")
