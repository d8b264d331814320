"""Images from a sender, and manifests for readers, that nobody here wrote: DCMTK, dicom3tools."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from manifest.kos import Manifest, read_manifest
from metadata.model import DocumentEntry
from tests.system.conftest import Nodes, RunningNode, await_
from tests.system.foreign import run

FOLDER, PATIENT = "98892003", "98890234"
# The patient of CT_small.dcm.
LATER_PATIENT = "1CT1"


@pytest.fixture(scope="module")
def images() -> dict[str, Path]:
    """The MR images of one patient that pydicom carries, by SOP Instance UID."""
    folder = Path(pydicom.__path__[0]) / "data" / "test_files" / "dicomdirtests" / FOLDER
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(pydicom.dcmread(path).SOPInstanceUID): path for path in files}


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, images: dict[str, Path]
) -> Iterator[RunningNode]:
    """A node that has been sent the images by ``storescu``."""
    nodes = Nodes(tmp_path_factory.mktemp("dcmtk"))
    try:
        node = nodes.start()
        assert node.announce(PATIENT) == "AA"
        assert accepted(send(node, images)) == len(images)
        yield node
    finally:
        nodes.close()


def send(node: RunningNode, images: dict[str, Path]) -> subprocess.CompletedProcess[str]:
    """Send images by ``storescu``."""
    host, port = node.endpoints["dicom"].partition("@")[2].split(":")
    return run("storescu", "-v", "-aec", "KOSMOS", host, port, *images.values())


def accepted(sent: subprocess.CompletedProcess[str]) -> int:
    """How many images were answered with success."""
    return sent.stdout.count("Received Store Response (Success)")


@pytest.fixture(scope="module")
def entries(node: RunningNode, images: dict[str, Path]) -> list[DocumentEntry]:
    """The entries of the published manifests, one for each study."""
    studies = {pydicom.dcmread(path).StudyInstanceUID for path in images.values()}

    def all_published() -> list[DocumentEntry]:
        found = node.consumer().find_documents(node.patient(PATIENT))
        return list(found) if len(found) >= len(studies) else []

    return await_(all_published)


@pytest.fixture(scope="module")
def manifests(
    node: RunningNode, entries: list[DocumentEntry], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """The manifests as files, fetched by ITI-43."""
    folder = tmp_path_factory.mktemp("manifests")
    consumer = node.consumer()
    return [
        consumer.save_document(entry, folder / f"{number}.dcm")
        for number, entry in enumerate(entries)
    ]


@pytest.fixture(scope="module")
def opened(manifests: list[Path]) -> list[Manifest]:
    return [read_manifest(path.read_bytes()) for path in manifests]


def test_every_image_sent_is_in_exactly_one_manifest(
    opened: list[Manifest], images: dict[str, Path]
) -> None:
    listed = [
        instance.sop_instance_uid
        for manifest in opened
        for series in manifest.series
        for instance in series.instances
    ]

    assert sorted(listed) == sorted(images)


def test_dsrdump_reads_the_manifest(manifests: list[Path], images: dict[str, Path]) -> None:
    read = [run("dsrdump", path) for path in manifests]

    assert [one.returncode for one in read] == [0] * len(manifests)
    told = "".join(one.stdout for one in read)
    assert "Manifest" in told
    complaints = [line for line in told.splitlines() if line[:2] in ("E:", "W:")]
    # It says of itself that it does not check UTF-8 values and templates; it has no complaint.
    assert [
        line for line in complaints if "not support" not in line and "not yet" not in line
    ] == []
    assert told.count("<contains IMAGE:") == len(images)


def test_dciodvfy_finds_no_error_in_the_manifest(manifests: list[Path]) -> None:
    for path in manifests:
        told = run("dciodvfy", path)

        assert told.returncode == 0, told.stdout
        assert "KeyObjectSelectionDocument" in told.stdout
        assert "Error" not in told.stdout


def test_rad_69_gives_back_the_data_sets_that_were_sent(
    node: RunningNode, opened: list[Manifest], images: dict[str, Path], tmp_path: Path
) -> None:
    reports = [node.consumer().fetch_images(one, tmp_path) for one in opened]

    assert all(report.complete for report in reports)
    fetched = [pydicom.dcmread(path) for path in tmp_path.rglob("*.dcm")]
    assert len(fetched) == len(images)
    for data_set in fetched:
        sent = pydicom.dcmread(images[str(data_set.SOPInstanceUID)])
        assert data_set == sent
        assert data_set.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID


def test_the_same_images_sent_again_publish_nothing_new(
    node: RunningNode, entries: list[DocumentEntry], images: dict[str, Path]
) -> None:
    assert accepted(send(node, images)) == len(images)
    # A study that came later is published later: what is not there then, will not come.
    assert node.announce(LATER_PATIENT) == "AA"
    later = Path(str(get_testdata_file("CT_small.dcm")))
    assert accepted(send(node, {"": later})) == 1
    consumer = node.consumer()
    await_(lambda: consumer.find_documents(node.patient(LATER_PATIENT)))

    found = consumer.find_documents(node.patient(PATIENT))

    assert {one.unique_id for one in found} == {one.unique_id for one in entries}
