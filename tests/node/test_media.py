"""Export and import by the command, STOW-RS and pictures: of a node that serves or rests."""

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3
from pydicom import dcmread

from node.demo.studies import sample_folder

Kosmos = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def medium() -> Path:
    """A folder of a medium that others made: three studies of one patient, seven images."""
    return sample_folder() / "dicomdirtests" / "77654033"


def test_what_is_imported_can_be_exported_and_imported_elsewhere(
    kosmos: Kosmos, plain_node: Path, medium: Path, tmp_path: Path
) -> None:
    taken = kosmos("import", medium, "--config", plain_node, "--json")
    assert taken.returncode == 0, taken.stderr
    done = json.loads(taken.stdout)
    assert done["counts"]["stored"] == 7
    study = done["studies"][0]

    made = kosmos("export", study, tmp_path / "cd.zip", "--config", plain_node, "--json")
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(tmp_path / "cd.zip") as archive:
        assert len(archive.namelist()) == json.loads(made.stdout)["files"]
    again = kosmos("import", tmp_path / "cd.zip", "--config", plain_node, "--json")
    counts = json.loads(again.stdout)["counts"]
    assert set(counts) == {"duplicate", "not DICOM"}

    folder = kosmos("export", study, tmp_path / "cd", "--config", plain_node)
    assert folder.returncode == 0, folder.stderr
    assert (tmp_path / "cd" / "DICOMDIR").exists()
    unknown = kosmos("export", "1.2.3", tmp_path / "no", "--config", plain_node)
    assert unknown.returncode == 1
    assert "1.2.3" in unknown.stderr


def test_what_is_imported_twice_under_another_identity_is_the_same(
    kosmos: Kosmos, plain_node: Path, medium: Path
) -> None:
    verb = ("import", medium, "--patient", "P-7", "--config", plain_node, "--json")
    first = kosmos(*verb)
    assert json.loads(first.stdout)["counts"]["stored"] == 7, first.stderr
    again = kosmos(*verb)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["counts"]["duplicate"] == 7


def test_a_serving_node_takes_media_and_files_by_http_and_shows_them(
    kosmos: Kosmos, plain_node: Path, serve: Callable[..., object], medium: Path
) -> None:
    node: object = serve(plain_node)
    places = node.endpoints  # type: ignore[attr-defined]
    file = next(path for path in sorted(medium.rglob("*")) if path.is_file())
    web = places["dicomweb"]
    head = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
    stored = urllib3.request(
        "POST",
        f"{web}/studies",
        body=head + file.read_bytes() + b"\r\n--b--\r\n",
        headers={"content-type": 'multipart/related; type="application/dicom"; boundary=b'},
    )
    assert stored.status == 200, stored.data

    taken = kosmos("import", medium, "--config", plain_node, "--json")
    assert taken.returncode == 0, taken.stderr
    assert json.loads(taken.stdout)["counts"]["stored"] == 6

    image = dcmread(file)
    study = f"{web}/studies/{image.StudyInstanceUID}"
    instance = f"{study}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
    picture = urllib3.request("GET", f"{instance}/rendered", headers={"accept": "image/png"})
    assert (picture.status, picture.data[:4]) == (200, b"\x89PNG")
    uids = {
        "requestType": "WADO",
        "studyUID": image.StudyInstanceUID,
        "seriesUID": image.SeriesInstanceUID,
        "objectUID": image.SOPInstanceUID,
    }
    shown = urllib3.request("GET", web.replace("/dicomweb", "/wado"), fields=uids)
    assert (shown.status, shown.headers["content-type"]) == (200, "image/jpeg")
    archive = urllib3.request("GET", study, headers={"accept": "application/zip"})
    assert archive.data[:4] == b"PK\3\4"
