"""What becomes of published studies: images rejected, patients corrected; senders are DCMTK's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from hl7.client import MllpClient
from hl7.message import build
from manifest.kos import Manifest
from manifest.model import KEY_OBJECT_SELECTION
from metadata.identifiers import APPROVED, DEPRECATED
from metadata.model import DocumentEntry
from node import feed
from tests.system.conftest import Nodes, RunningNode, await_
from tests.system.foreign import run

PATIENT, SURVIVOR = "LC-1", "LC-2"
STUDY, SERIES = generate_uid(), generate_uid()
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SAFETY, EXPIRED = "113037", "113039"


def written(folder: Path, dataset: Dataset) -> Path:
    """The data set as a file to send, with what every one of these has."""
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = STUDY
    dataset.PatientID, dataset.PatientName = PATIENT, "DOE^JANE"
    dataset.StudyDate, dataset.StudyTime = "20240115", "083000"
    dataset.StudyDescription = "Thorax"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def image(folder: Path) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SeriesInstanceUID, dataset.Modality = CT_IMAGE, SERIES, "CT"
    dataset.PixelData = b"\1\2\3\4" * 1024
    dataset["PixelData"].VR = "OW"
    return written(folder, dataset)


def item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def note(folder: Path, code: str, *rejected: Path) -> Path:
    """A rejection note about the images in these files."""
    references = [
        item(ReferencedSOPClassUID=CT_IMAGE, ReferencedSOPInstanceUID=one.stem) for one in rejected
    ]
    series = item(SeriesInstanceUID=SERIES, ReferencedSOPSequence=references)
    study = item(StudyInstanceUID=STUDY, ReferencedSeriesSequence=[series])
    title = item(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning="Rejected")
    dataset = item(
        SOPClassUID=KEY_OBJECT_SELECTION,
        SeriesInstanceUID=generate_uid(),
        Modality="KO",
        ConceptNameCodeSequence=[title],
        CurrentRequestedProcedureEvidenceSequence=[study],
    )
    return written(folder, dataset)


def storescu(node: RunningNode, *files: Path) -> None:
    """Send files with DCMTK; all are accepted."""
    host, port = node.endpoints["dicom"].partition("@")[2].split(":")
    sent = run("storescu", "-aec", "KOSMOS", "-R", host, port, *files)
    assert sent.returncode == 0, sent.stdout


def entries(node: RunningNode, patient: str = PATIENT) -> list[DocumentEntry]:
    """The patient's manifests of either status."""
    statuses = [APPROVED, DEPRECATED]
    return node.consumer().find_documents(node.patient(patient), status=statuses)


def manifest(node: RunningNode, patient: str = PATIENT) -> Manifest | None:
    """The manifest in force, if there is one."""
    us = node.consumer()
    found = us.find_documents(node.patient(patient))
    assert len(found) <= 1
    return us.open_manifest(found[0]) if found else None


def lists(node: RunningNode, count: int, patient: str = PATIENT) -> Callable[[], Manifest | None]:
    """Look for a manifest with ``count`` instances."""

    def look() -> Manifest | None:
        found = manifest(node, patient)
        return found if found is not None and found.instance_count == count else None

    return look


def names(node: RunningNode, name: str, patient: str) -> Callable[[], Manifest | None]:
    """Look for a manifest of a patient of this name."""

    def look() -> Manifest | None:
        found = manifest(node, patient)
        return found if found is not None and found.patient.name == name else None

    return look


def say(node: RunningNode, message: bytes) -> str:
    """Send an identity message; the acknowledgement code."""
    host, port = node.endpoints["mllp"].split(":")
    with MllpClient(host, int(port)) as client:
        return feed.acknowledgement(client.send(message))[0]


def authority(node: RunningNode) -> str:
    return str(node.settings["affinity_domain"]["assigning_authority"])


def corrected(node: RunningNode, name: tuple[str, str]) -> bytes:
    """ADT^A08: the patient has another name."""
    identifier = (PATIENT, "", "", ("", authority(node), "ISO"))
    header = ("MSH", "ADT", "H", "K", "K", "20240101", "", ("ADT", "A08"), "A08-1", "P", "2.3.1")
    return build([header, ("PID", "", "", identifier, "", name, "", "19700203", "F")])


@pytest.mark.parametrize(("withdrawal", "left"), [("deprecate", [DEPRECATED] * 3), ("remove", [])])
def test_rejected_images_leave_the_manifest_and_the_last_one_takes_it_along(
    nodes: Nodes, tmp_path: Path, withdrawal: str, left: list[str]
) -> None:
    node = nodes.start(KOSMOS__IMAGING_SOURCE__WITHDRAWAL=withdrawal)
    node.announce(PATIENT)
    first, second = image(tmp_path), image(tmp_path)
    storescu(node, first, second)
    before = await_(lists(node, 2))

    storescu(node, note(tmp_path, SAFETY, first))
    now = await_(lists(node, 1))
    (series,) = now.series
    assert [one.sop_instance_uid for one in series.instances] == [second.stem]
    report = node.consumer().fetch_images(before, tmp_path / "fetched")
    assert not report.complete
    assert [path.stem for path in report.fetched] == [second.stem]

    third = image(tmp_path)
    storescu(node, third)
    await_(lists(node, 2))
    storescu(node, note(tmp_path, EXPIRED, second, third))
    await_(lambda: manifest(node) is None)
    await_(lambda: [one.availability_status for one in entries(node)] == left)

    storescu(node, third)  # what had merely expired is taken in as new
    await_(lists(node, 1))


def test_a_corrected_patient_is_right_in_the_manifest_and_in_every_image(
    nodes: Nodes, tmp_path: Path
) -> None:
    node = nodes.start()
    node.announce(PATIENT)
    node.announce(SURVIVOR)
    sent = image(tmp_path)
    storescu(node, sent)
    await_(lists(node, 1))

    assert say(node, corrected(node, ("ROE", "JANE"))) == "AA"
    renamed = await_(names(node, "ROE^JANE", PATIENT))
    assert renamed.patient.birth_date == "19700203"

    person = feed.Person(SURVIVOR, "ROE^JOAN", "19700203", "F")
    assert say(node, feed.merge(person, PATIENT, authority(node))) == "AA"
    merged = await_(names(node, "ROE^JOAN", SURVIVOR))
    assert merged.patient.patient_id == SURVIVOR

    (fetched,) = node.consumer().fetch_images(merged, tmp_path / "fetched").fetched
    leaving, before = dcmread(fetched), dcmread(sent)
    assert (leaving.PatientID, leaving.PatientName) == (SURVIVOR, "ROE^JOAN")
    assert leaving.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientID == PATIENT
    assert leaving.PixelData == before.PixelData


@pytest.mark.parametrize(
    ("withdrawal", "point"),
    [
        ("deprecate", "publisher.before_send"),
        ("deprecate", "publisher.after_send"),
        ("remove", "publisher.after_send"),
    ],
)
def test_a_kill_while_a_manifest_is_withdrawn_withdraws_it_all_the_same(
    nodes: Nodes, tmp_path: Path, point: str, withdrawal: str
) -> None:
    setting = {"KOSMOS__IMAGING_SOURCE__WITHDRAWAL": withdrawal}
    node = nodes.start(**setting)
    node.announce(PATIENT)
    sent = image(tmp_path)
    storescu(node, sent)
    await_(lists(node, 1))
    node.stop()

    node = nodes.start(fault=f"{point}:kill", **setting)
    storescu(node, note(tmp_path, SAFETY, sent))
    node.await_log("process died")
    node.stop()

    node = nodes.start(**setting)
    await_(lambda: manifest(node) is None)
    assert len(entries(node)) == (1 if withdrawal == "deprecate" else 0)


def test_a_correction_that_was_acknowledged_outlives_a_kill(nodes: Nodes, tmp_path: Path) -> None:
    node = nodes.start(fault="imaging.corrected:kill")
    node.announce(PATIENT)
    storescu(node, image(tmp_path))
    await_(lists(node, 1))
    assert say(node, corrected(node, ("ROE", "JANE"))) == "AA"
    node.await_log("process died")
    node.stop()

    node = nodes.start()
    await_(names(node, "ROE^JANE", PATIENT))
    assert len(entries(node)) == 2
