"""The study that is corrected: one image rejected, one added, and what everybody sees of it then.

The rejection note (IOCM, 113001 DCM) and the new image come by C-STORE like all others; the
source then publishes a manifest that replaces the one before (RPLC). The corrected study is
fetched in three ways, and all must bring the same pixels.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from conformance.dimse import Dimse, Entity, asked, receiving
from conformance.images import another, part10, pixel_digest, rejection_note
from consumer.client import Consumer
from consumer.ways import WayName
from imaging_source.requestor import Peer
from manifest.flavours import is_manifest
from manifest.kos import Manifest
from metadata.datatypes import CX, CXi
from metadata.identifiers import APPROVED, DEPRECATED, RPLC, STUDY_INSTANCE_UID_REFERENCE
from metadata.model import DocumentEntry
from node.demo.display import Display, Step, StepFailed
from node.demo.stage import MOVE_TITLE, Stage
from node.storescu import AssociationFailed, DicomFile, read, send
from node.texts import tr

# Why the image goes: Rejected for Quality Reasons (PS3.16 CID 7011).
QUALITY = "113001"

# A correction is published after a second of quiet; on a slow, busy disk it takes longer.
REPLACED_SECONDS = 60.0
POLL_SECONDS = 0.2

Pixels = dict[str, str]
"""SHA-256 of the pixels by SOP Instance UID."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The files of a study: the images that stay, the note about the one that goes, the new one."""

    kept: list[DicomFile]
    note: DicomFile
    added: DicomFile

    @property
    def uids(self) -> set[str]:
        """The instances of the corrected study."""
        return {file.sop_instance_uid for file in (*self.kept, self.added)}


def correct(display: Display, stage: Stage, us: Consumer, files: list[DicomFile]) -> DicomFile:
    """Correct one of the studies of ``files`` and show what becomes of it; the image added.

    Raises StepFailed and ConsumerError.
    """
    correction = _prepare(files, stage.folder)
    _send(display, stage, correction)
    entry = _replaced(display, stage, us, correction)
    _versions(display, us, entry)
    manifest, folder = us.open_manifest(entry), stage.folder / "corrected"
    ways = [
        _by_soap(display, us, manifest, folder),
        _by_web(display, us, manifest, folder),
        _by_move(display, stage, correction),
    ]
    _compare(display, correction, ways)
    return correction.added


def _prepare(files: list[DicomFile], folder: Path) -> Correction:
    """Of the smallest study of three images or more, the last one goes; of none, the largest."""
    sizes = Counter(file.study_instance_uid for file in files)
    study = min(sizes, key=lambda uid: (sizes[uid] < 3, abs(sizes[uid] - 3)))
    *kept, rejected = (file for file in files if file.study_instance_uid == study)
    image = dcmread(rejected.path)
    return Correction(
        kept,
        _written(rejection_note(QUALITY, [image]), folder / "rejection.dcm"),
        _written(another(image), folder / "added.dcm"),
    )


def _written(made: FileDataset, path: Path) -> DicomFile:
    path.write_bytes(part10(made))
    file = read(path)
    assert file is not None  # it has just been made
    return file


def _send(display: Display, stage: Stage, correction: Correction) -> None:
    with display.step("C-STORE", tr("Rejection note and a new image")) as step:
        source = _source(stage)
        provider = Peer(source.title, source.host, source.port, stage.tls)
        try:
            answers = send([correction.note, correction.added], provider)
        except AssociationFailed as error:
            raise StepFailed(str(error)) from error
        if not all(answer.ok for answer in answers):
            raise StepFailed(tr("not stored: {names}", names=QUALITY))
        step.bytes = sum(answer.file.size for answer in answers)
        step.result = tr("1 image rejected for its quality ({code}), 1 added", code=QUALITY)


def _replaced(
    display: Display, stage: Stage, us: Consumer, correction: Correction
) -> DocumentEntry:
    """The entry of the manifest that names the corrected study, once there is one."""
    with display.step("RAD-68", tr("A new manifest replaces the old")) as step:
        deadline = time.monotonic() + REPLACED_SECONDS
        while time.monotonic() < deadline:
            for entry in _manifests(stage, us, correction):
                if _named(us.open_manifest(entry)) == correction.uids:
                    step.bytes = int(entry.size or 0)
                    step.result = tr("{images} images named", images=len(correction.uids))
                    return entry
            time.sleep(POLL_SECONDS)
        raise StepFailed(tr("not published: {studies}", studies=correction.note.study_instance_uid))


def _manifests(stage: Stage, us: Consumer, correction: Correction) -> list[DocumentEntry]:
    authority = stage.settings.affinity_domain.assigning_authority
    study = CXi.of(correction.note.study_instance_uid, STUDY_INSTANCE_UID_REFERENCE)
    patient = str(CX.of(correction.note.patient_id, authority))
    return list(filter(is_manifest, us.find_by_reference(patient, [str(study)])))


def _named(manifest: Manifest) -> set[str]:
    return {one.sop_instance_uid for series in manifest.series for one in series.instances}


def _versions(display: Display, us: Consumer, entry: DocumentEntry) -> None:
    with display.step("ITI-18", tr("Both versions in the registry")) as step:
        replaced = us.related_documents(entry, [RPLC])
        statuses = [one.availability_status for one in (entry, *replaced)]
        if statuses != [APPROVED, DEPRECATED]:
            raise StepFailed(", ".join(map(str, statuses)))
        step.result = " -- RPLC --> ".join(str(one).rpartition(":")[2] for one in statuses)


def _by_soap(display: Display, us: Consumer, manifest: Manifest, folder: Path) -> Pixels:
    with display.step("RAD-69", tr("The corrected study by SOAP")) as step:
        return _by(WayName.RAD69, us, manifest, folder, step)


def _by_web(display: Display, us: Consumer, manifest: Manifest, folder: Path) -> Pixels:
    with display.step("RAD-107", tr("The same by DICOMweb")) as step:
        return _by(WayName.WADO, us, manifest, folder, step)


def _by(way: WayName, us: Consumer, manifest: Manifest, folder: Path, step: Step) -> Pixels:
    """What the manifest lists, fetched in one way alone."""
    report = replace(us, ways=[way]).fetch_images(manifest, folder / way)
    if not report.complete:
        raise StepFailed(", ".join({missing.reason for missing in report.missing}))
    step.bytes = report.bytes
    step.result = tr("{count} images", count=len(report.fetched))
    return {path.stem: pixel_digest(dcmread(path)) for path in report.fetched}


def _by_move(display: Display, stage: Stage, correction: Correction) -> Pixels:
    """C-MOVE to a storage provider of the demonstration."""
    pixels = Pixels()

    def take(image: Dataset) -> None:
        pixels[str(image.SOPInstanceUID)] = pixel_digest(image)

    with display.step("C-MOVE", tr("The same by DICOM")) as step:
        asker = Dimse(_source(stage), REPLACED_SECONDS, calling=MOVE_TITLE, tls=stage.tls)
        wanted = asked("STUDY", StudyInstanceUID=correction.note.study_instance_uid)
        with receiving(stage.move_port, MOVE_TITLE, take):
            outcome = asker.move(wanted, MOVE_TITLE)
        if outcome.kind != "Success":
            raise StepFailed(f"status {outcome.status:04X}")
        step.result = tr("{count} images", count=len(pixels))
    return pixels


def _compare(display: Display, correction: Correction, ways: list[Pixels]) -> None:
    with display.step("", tr("Compare pixels by SHA-256")) as step:
        first, *others = ways
        if first.keys() != correction.uids or any(one != first for one in others):
            raise StepFailed(tr("the three ways do not bring the same"))
        step.result = tr("{count} images, three ways, equal pixels", count=len(first))


def _source(stage: Stage) -> Entity:
    return Entity.parse(f"{stage.endpoints.ae_title}@{stage.endpoints.dicom}")
