"""Foreign clients of DICOMweb read what we answer: dicomweb-client (MIT) and curl."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset

Make = Callable[..., Dataset]
Store = Callable[..., int]


@pytest.fixture
def foreign(web: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api = pytest.importorskip("dicomweb_client.api", reason="dicomweb-client is not installed")
        return api.DICOMwebClient(web.root)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dicomweb_client_finds_and_retrieves(
    foreign: Any, web: Any, make_instance: Make, store: Store, describe_all: Callable[[], int]
) -> None:
    frame = bytes(range(32))
    attributes = {"Rows": 4, "Columns": 4, "BitsAllocated": 16, "SamplesPerPixel": 1}
    attributes |= {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0}
    pixels = {"NumberOfFrames": 2, "PixelData": frame * 2}
    instance = make_instance(**attributes, **pixels, PhotometricInterpretation="MONOCHROME2")
    store(instance)
    describe_all()
    study, series = instance.StudyInstanceUID, instance.SeriesInstanceUID
    uids = (study, series, instance.SOPInstanceUID)

    [hit] = foreign.search_for_studies(search_filters={"PatientID": "P1"}, fields=["PatientAge"])
    assert Dataset.from_json(hit).StudyInstanceUID == study
    assert foreign.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    assert len(foreign.search_for_series(study)) == 1
    assert len(foreign.search_for_instances(study, series)) == 1
    [found] = foreign.retrieve_study_metadata(study)
    assert found["00080018"]["Value"] == [instance.SOPInstanceUID]
    [retrieved] = foreign.retrieve_study(study)
    assert retrieved.PixelData == instance.PixelData
    assert foreign.retrieve_instance(*uids).PatientID == "P1"
    assert foreign.retrieve_instance_frames(*uids, frame_numbers=[2]) == [frame]
    # This client leaves the port out of its Host header, so that no URL in an answer has it.
    _, _, path = found["7FE00010"]["BulkDataURI"].partition("/dicomweb")
    assert foreign.retrieve_bulkdata(f"{web.root}{path}")[0] == frame * 2


def test_curl_resumes_a_download(
    web: Any, make_instance: Make, store: Store, tool: Callable[[str], str], tmp_path: Any
) -> None:
    instance = make_instance(PixelData=bytes(range(256)) * 400)
    store(instance)
    url = f"{web.root}/studies/{instance.StudyInstanceUID}/series/{instance.SeriesInstanceUID}"
    url = f"{url}/instances/{instance.SOPInstanceUID}"
    command = [tool("curl"), "-sS", "--fail", "-H", "Accept: application/dicom", url]
    whole = subprocess.run(command, check=True, capture_output=True).stdout
    part = tmp_path / "image.dcm"
    part.write_bytes(whole[:5000])
    subprocess.run([*command, "-C", "-", "-o", str(part)], check=True)
    assert part.read_bytes() == whole
