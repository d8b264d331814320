"""The steps of the demonstration: announce, send, publish, find, open, fetch, compare, correct.

Everything goes over the wire: HL7 over MLLP, DICOM, SOAP, DICOMweb. What is compared is the data
set of each image, byte for byte (``studies.dataset_digest``). What follows is in ``correction``
and in ``report``.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from consumer.client import Consumer
from consumer.errors import ConsumerError, Refused
from hl7.client import MllpClient, MllpError
from imaging_source.requestor import Peer
from manifest.flavours import is_manifest
from manifest.kos import Manifest
from metadata.datatypes import CX
from metadata.identifiers import STUDY_INSTANCE_UID_REFERENCE
from metadata.model import DocumentEntry
from node import feed
from node.cli.output import table
from node.demo.correction import correct
from node.demo.display import Display, Step, StepFailed
from node.demo.report import report
from node.demo.stage import Stage
from node.demo.studies import dataset_digest, patients_of
from node.operator import operator_name
from node.storescu import AssociationFailed, DicomFile, send
from node.texts import tr
from node.wiring.audit import trail_folder
from node.wiring.commands import consuming
from security.audit.chain import Verifier
from security.audit.search import Wanted, find
from security.audit.trail import Record
from security.audit.verification import trails, verify

# Publication follows a second of quiet; on a slow disk with hundreds of studies it takes longer.
PUBLICATION_SECONDS = 120.0
POLL_SECONDS = 0.2
# The demonstration leaves some hundreds; a study of a person's own may have thousands of images.
MOST_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many images came back, and how many of them unchanged."""

    sent: int
    fetched: int
    identical: int

    @property
    def ok(self) -> bool:
        """Whether every image sent came back unchanged."""
        return self.sent == self.fetched == self.identical > 0

    def __str__(self) -> str:
        """The line everybody waits for."""
        return tr(
            "{fetched} images fetched, {identical} identical",
            fetched=self.fetched,
            identical=self.identical,
        )


def perform(stage: Stage, files: list[DicomFile], console: Console) -> Verdict:
    """Run every step, showing each. Raises StepFailed."""
    display = Display(console)
    display.title(
        tr(
            "The main job of IHE XDS-I.b, on this machine, over real sockets: {count} images of "
            "{patients} patients.",
            count=len(files),
            patients=len(patients_of(files)),
        )
    )
    with consuming(stage.settings, operator_name()) as us:
        _announce(display, stage, files)
        _store(display, stage, files)
        _publish(display, stage, us, files)
        entries = _find(display, stage, us, files)
        manifests = _open(display, us, entries)
        folder = stage.folder / "fetched"
        fetched = _fetch(display, us, manifests, folder)
        verdict = _compare(display, files, fetched)
        if verdict.ok:
            try:
                report(display, stage, us, correct(display, stage, us, files))
            except ConsumerError as error:
                raise StepFailed(_words(error)) from error
            console.print(_prove(display, stage))
    console.print(_summary(files, manifests))
    display.verdict(str(verdict), verdict.ok)
    return verdict


def _prove(display: Display, stage: Stage) -> object:
    """What was recorded of all this, and that it is whole."""
    folder, name = trail_folder(stage.settings), stage.settings.node.name
    with display.step("ITI-20", tr("What the audit trail has of it")) as step:
        proved = [verify(file, name, Verifier.of(folder)) for file in trails(folder)]
        broken = [one.source for one in proved if one.fault]
        if broken:
            raise StepFailed(tr("the audit trail is not what was written"))
        count = sum(one.records for one in proved)
        step.result = tr("{count} records, each in its place", count=count)
    return _recorded(stage)


def _recorded(stage: Stage) -> object:
    """The records by transaction: how many, of which patients and users, how they ended."""
    by_type: defaultdict[str, list[Record]] = defaultdict(list)
    for one in find(trails(trail_folder(stage.settings)), Wanted(), MOST_RECORDS):
        by_type[one.record.type].append(one.record)
    rows = [
        (
            name,
            len(records),
            len({patient for record in records for patient in record.patients}),
            ", ".join(sorted({user for record in records for user in _people(record)})),
            sum(record.outcome != 0 for record in records),
        )
        for name, records in sorted(by_type.items())
    ]
    headings = [tr("transaction"), tr("records"), tr("patients"), tr("users"), tr("failed")]
    return table(headings, rows)


def _people(record: Record) -> list[str]:
    """Whom a record names by an assertion (``<user@issuer>``)."""
    return [user for user in record.users if "<" in user]


def _announce(display: Display, stage: Stage, files: list[DicomFile]) -> None:
    authority = stage.settings.affinity_domain.assigning_authority
    with display.step("ITI-8", "Patient Identity Feed") as step:
        people = patients_of(files)
        place = _address(stage.endpoints.mllps if stage.tls else stage.endpoints.mllp)
        with MllpClient(*place, ssl_context=stage.tls) as client:
            for patient in people:
                person = feed.Person(patient.identifier, patient.name)
                message = feed.announce(person, authority)
                step.bytes += len(message)
                _expect_accepted(client, message)
        step.result = tr("{count} patients announced (ADT^A04)", count=len(people))


def _expect_accepted(client: MllpClient, message: bytes) -> None:
    try:
        code, text = feed.acknowledgement(client.send(message))
    except MllpError as error:
        raise StepFailed(str(error)) from error
    if code != "AA":
        raise StepFailed(f"{code}: {text}")


def _store(display: Display, stage: Stage, files: list[DicomFile]) -> None:
    with display.step("C-STORE", tr("DICOM Storage")) as step:
        host, port = _address(stage.endpoints.dicom)
        provider = Peer(stage.settings.imaging_source.ae_title, host, port, stage.tls)
        try:
            answers = send(files, provider)
        except AssociationFailed as error:
            raise StepFailed(str(error)) from error
        refused = [answer.file.path.name for answer in answers if not answer.ok]
        if refused:
            raise StepFailed(tr("not stored: {names}", names=", ".join(refused)))
        step.bytes = sum(file.size for file in files)
        syntaxes = len({file.transfer_syntax_uid for file in files})
        step.result = tr(
            "{count} images, {syntaxes} transfer syntaxes", count=len(files), syntaxes=syntaxes
        )


def _publish(display: Display, stage: Stage, us: Consumer, files: list[DicomFile]) -> None:
    """Wait until the source has published every study with every image."""
    wanted = Counter(file.study_instance_uid for file in files)
    with display.step("RAD-68", "Provide and Register Imaging Set") as step:
        deadline = time.monotonic() + PUBLICATION_SECONDS
        published: Counter[str] = Counter()
        while not wanted <= published:
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(wanted - published))
                raise StepFailed(tr("not published: {studies}", studies=missing))
            time.sleep(POLL_SECONDS)
            entries = _entries(stage, us, files)
            published = Counter({study: _images(us, entry) for study, entry in entries.items()})
        step.bytes = sum(int(entry.size or 0) for entry in entries.values())
        step.result = tr("{count} manifests published by the source", count=len(wanted))


def _images(us: Consumer, entry: DocumentEntry) -> int:
    try:
        return sum(len(series.instances) for series in us.open_manifest(entry).series)
    except ConsumerError as error:
        raise StepFailed(_words(error)) from error


def _find(
    display: Display, stage: Stage, us: Consumer, files: list[DicomFile]
) -> list[DocumentEntry]:
    with display.step("ITI-18", "Registry Stored Query") as step:
        found = list(_entries(stage, us, files).values())
        patients = len(patients_of(files))
        step.result = tr(
            "{count} documents of {patients} patients", count=len(found), patients=patients
        )
    return found


def _entries(stage: Stage, us: Consumer, files: list[DicomFile]) -> dict[str, DocumentEntry]:
    """The manifests of the patients, by the study they refer to (FindDocuments)."""
    authority = stage.settings.affinity_domain.assigning_authority
    found: dict[str, DocumentEntry] = {}
    for patient in patients_of(files):
        try:
            entries = us.find_documents(str(CX.of(patient.identifier, authority)))
        except ConsumerError as error:
            raise StepFailed(_words(error)) from error
        for entry in filter(is_manifest, entries):
            for reference in entry.reference_id_list:
                if reference.type == STUDY_INSTANCE_UID_REFERENCE:
                    found[reference.id] = entry
    return found


def _open(display: Display, us: Consumer, entries: list[DocumentEntry]) -> list[Manifest]:
    with display.step("ITI-43", "Retrieve Document Set") as step:
        try:
            manifests = [us.open_manifest(entry) for entry in entries]
        except ConsumerError as error:
            raise StepFailed(_words(error)) from error
        step.bytes = sum(int(entry.size or 0) for entry in entries)
        images = sum(len(series.instances) for one in manifests for series in one.series)
        step.result = tr(
            "{count} manifests naming {images} images", count=len(manifests), images=images
        )
    return manifests


def _fetch(
    display: Display, us: Consumer, manifests: Iterable[Manifest], folder: Path
) -> dict[str, Path]:
    """The files fetched, by SOP Instance UID."""
    with display.step("RAD-69", "Retrieve Imaging Document Set") as step:
        fetched: dict[str, Path] = {}
        folder.mkdir()
        for manifest in manifests:
            report = us.fetch_images(manifest, folder)
            if not report.complete:
                raise StepFailed(", ".join({missing.reason for missing in report.missing}))
            fetched |= {path.stem: path for path in report.fetched}
            step.bytes += report.bytes
        step.result = tr("{count} images in {folder}", count=len(fetched), folder=folder.name)
    return fetched


def _compare(display: Display, files: list[DicomFile], fetched: dict[str, Path]) -> Verdict:
    with display.step("", tr("Compare data sets by SHA-256")) as step:
        identical = sum(_same(file, fetched.get(file.sop_instance_uid), step) for file in files)
        step.result = tr("{identical} of {sent} identical", identical=identical, sent=len(files))
    return Verdict(len(files), len(fetched), identical)


def _same(file: DicomFile, fetched: Path | None, step: Step) -> bool:
    if fetched is None:
        return False
    step.bytes += file.size
    return dataset_digest(file.path) == dataset_digest(fetched)


def _summary(files: list[DicomFile], manifests: list[Manifest]) -> object:
    by_study = {manifest.study.study_instance_uid: manifest for manifest in manifests}
    rows = []
    for uid, manifest in by_study.items():
        own = [file for file in files if file.study_instance_uid == uid]
        modalities = "/".join(sorted({file.modality for file in own}))
        images = sum(len(series.instances) for series in manifest.series)
        rows.append((own[0].patient_id, modalities, len(manifest.series), images, uid))
    headings = [tr("patient"), tr("modality"), tr("series"), tr("images"), tr("study")]
    return table(headings, sorted(rows))


def _words(error: ConsumerError) -> str:
    codes = [one.code for one in error.errors] if isinstance(error, Refused) else []
    return " ".join([str(error), *codes])


def _address(place: str | None) -> tuple[str, int]:
    assert place is not None  # the node of the demonstration has every actor
    host, _, port = place.rpartition(":")
    return host, int(port)
