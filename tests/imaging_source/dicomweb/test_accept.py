"""The header Accept: what is meant by it, and that nothing in it takes long to read."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from imaging_source.dicomweb.accept import wishes
from imaging_source.dicomweb.answer import Refusal

# The most that a head may have.
MOST = 64 * 1024


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ('multipart/related; type="application/dicom"; q=0.5, image/*', ["image/*", "a/dicom"]),
        ('multipart/related ;type = "application/dicom"', ["a/dicom"]),
        ('a/b; c="d,e\\"f", g/h', ["a/b", "g/h"]),
        ('a/b; c="d, g/h', ["a/b"]),
        ("", ["*/*"]),
    ],
)
def test_ranges_are_read_by_falling_preference(accept: str, media: list[str]) -> None:
    assert [one.media.replace("application", "a") for one in wishes(accept)] == media


@pytest.mark.parametrize(
    "piece", ['\\"', '"', " ", ';a="\\"', ";a", "; ", ",", "a/b;", '"\\', ";a ="], ids=repr
)
@pytest.mark.parametrize("start", ["", '"', "a/b", "a/b;", 'a/b;c="'], ids=repr)
def test_a_header_as_long_as_a_head_is_read_or_refused_at_once(start: str, piece: str) -> None:
    for end in ("", "x", '"'):
        began = time.process_time()
        with suppress(Refusal):
            wishes(start + piece * (MOST // len(piece)) + end)
        assert time.process_time() - began < 1
