"""The metadata of a corrected image are those of the image as it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from imaging_source.corrections import Correction
from imaging_source.dicomweb.metadata import corrected
from tests.imaging_source.test_coercion import MARRIED, NOTHING, result


def said(image: Dataset) -> dict[str, Any]:
    """Its metadata, the pixels aside; of what is empty only that it is there (PS3.18 F.2.5)."""
    attributes = image.to_json_dict()
    attributes.pop("7FE00010", None)
    return attributes


@pytest.mark.parametrize(
    "correction", [MARRIED, replace(NOTHING, patient_id="P2"), replace(NOTHING, sex="")]
)
@pytest.mark.parametrize("earlier", [[], ["PACS"]])
def test_they_tell_what_is_so_and_what_was(
    tmp_path: Path,
    make_instance: Callable[..., Dataset],
    correction: Correction,
    earlier: list[str],
) -> None:
    image = make_instance(PatientSex="O")
    if earlier:
        item = Dataset()
        item.ModifyingSystem = earlier[0]
        image.OriginalAttributesSequence = Sequence([item])

    assert corrected(said(image), correction) == said(result(tmp_path, image, correction))


@pytest.mark.parametrize("correction", [NOTHING, replace(NOTHING, patient_id="P1")])
def test_those_of_an_image_that_says_so_already_are_its_own(
    make_instance: Callable[..., Dataset], correction: Correction
) -> None:
    attributes = said(make_instance())
    assert corrected(attributes, correction) is attributes
