"""Reports beside manifests on a whole node: in by MLLP and C-STORE, found, replaced, fetched."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from hl7.client import MllpClient, MllpError
from hl7.message import build
from metadata.datatypes import HD, CXi
from metadata.identifiers import (
    ACCESSION_REFERENCE,
    APPROVED,
    DEPRECATED,
    STUDY_INSTANCE_UID_REFERENCE,
)
from metadata.model import DocumentEntry
from node import feed
from tests.imaging_source.reports_kit import PDF, cda
from tests.system.conftest import KOSMOS, Nodes, RunningNode, await_

PATIENT = "RE-1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
LISTENING = {"KOSMOS__IMAGING_SOURCE__REPORTS__PORT": "0"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """One node for the tests that leave each other's studies alone."""
    nodes = Nodes(tmp_path_factory.mktemp("reports"))
    started = nodes.start(**LISTENING)
    assert started.announce(PATIENT) == "AA"
    yield started
    nodes.close()


def image(folder: Path, study: str, accession: str, **attributes: object) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT_IMAGE, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, generate_uid()
    dataset.PatientID, dataset.PatientName, dataset.Modality = PATIENT, "DOE^JANE", "CT"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20240115", "083000", accession
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def authority(node: RunningNode) -> str:
    return str(node.settings["affinity_domain"]["assigning_authority"])


def mdm(node: RunningNode, event: str, numbers: tuple[str, str], document: bytes) -> bytes:
    """A message about the document that the first of ``numbers`` names."""
    identifier = (PATIENT, "", "", ("", authority(node), "ISO"))
    header = ("MSH", "RIS", "H", "K", "K", "20240115120000", "", ("MDM", event), numbers[0], "P")
    txa = ("TXA", "1", *[""] * 10, *numbers, "", "", "", "LA")
    data = ("", "Application", "XML", "Base64", base64.b64encode(document).decode())
    obx = ("OBX", "1", "ED", "R", "", data, "", "", "", "", "", "F")
    return build([(*header, "2.5"), ("PID", "", "", identifier), txa, *([obx] if document else [])])


def say(node: RunningNode, message: bytes) -> str:
    """Send a report; the acknowledgement code."""
    host, port = node.endpoints["reports"].split(":")
    with MllpClient(host, int(port)) as client:
        return feed.acknowledgement(client.send(message))[0]


def found(node: RunningNode, study: str, accession: str) -> dict[str, DocumentEntry]:
    """What is found by the study's UID and by its accession number alike, by media type."""
    us, patient = node.consumer(), node.patient(PATIENT)
    by_study = CXi.of(study, STUDY_INSTANCE_UID_REFERENCE)
    by_accession = CXi.of(accession, ACCESSION_REFERENCE, HD.of(authority(node)))
    named = {one.entry_uuid for one in us.find_by_reference(patient, [by_accession])}
    entries = us.find_by_reference(patient, [by_study])
    return {one.mime_type or "": one for one in entries if one.entry_uuid in named}


def both(
    node: RunningNode, study: str, accession: str, report: str
) -> Callable[[], dict[str, DocumentEntry] | None]:
    """Look for a manifest and a report of this media type."""

    def look() -> dict[str, DocumentEntry] | None:
        entries = found(node, study, accession)
        return entries if entries.keys() == {"application/dicom", report} else None

    return look


def test_a_report_is_found_beside_its_manifest_and_replaced(
    node: RunningNode, tmp_path: Path
) -> None:
    study, accession = generate_uid(), "RA-1"
    by_image = f'<id root="{authority(node)}" extension="{PATIENT}"/>'
    first = cda(patient=by_image, study=study, document=generate_uid())
    before = recorded(node)
    assert say(node, mdm(node, "T02", ("D1", ""), first)) == "AA"
    assert recorded(node) == [*before, 0]
    assert node.store([image(tmp_path, study, accession)]) == [0]

    entries = await_(both(node, study, accession, "text/xml"))
    report = entries["text/xml"]
    us = node.consumer()
    assert us.fetch_document(report) == first
    assert us.open_manifest(entries["application/dicom"]).study_instance_uid == study
    assert report.legal_authenticator is not None
    assert report.legal_authenticator.last_name == "Curie"

    second = cda(patient=by_image, study=study, document=generate_uid(), body="<structuredBody />")
    assert say(node, mdm(node, "T10", ("D2", "D1"), second)) == "AA"

    def replaced() -> DocumentEntry | None:
        # Neither is there for who asks while one takes the other's place.
        now = found(node, study, accession).get("text/xml")
        return None if now is None or now.entry_uuid == report.entry_uuid else now

    new = await_(replaced)
    assert us.fetch_document(new) == second


def test_a_pdf_by_c_store_is_found_like_its_images(node: RunningNode, tmp_path: Path) -> None:
    study, accession = generate_uid(), "RA-2"
    held = {
        "SOPClassUID": ENCAPSULATED_PDF,
        "Modality": "DOC",
        "EncapsulatedDocument": PDF + b"\0" * (len(PDF) % 2),
        "EncapsulatedDocumentLength": len(PDF),
    }
    sent = [image(tmp_path, study, accession), image(tmp_path, study, accession, **held)]
    assert node.store(sent) == [0, 0]
    entries = await_(both(node, study, accession, "application/pdf"))
    assert node.consumer().fetch_document(entries["application/pdf"]) == PDF


def test_a_strangers_report_is_shown_to_the_operator_and_to_nobody_else(
    node: RunningNode, tmp_path: Path
) -> None:
    study, accession = generate_uid(), "RA-3"
    assert node.store([image(tmp_path, study, accession)]) == [0]
    stranger = f'<id root="{authority(node)}" extension="SOMEBODY"/>'
    wrong = cda(patient=stranger, study=study, document=generate_uid())
    assert say(node, mdm(node, "T02", ("D3", ""), wrong)) == "AA"

    def aside() -> list[dict[str, str]]:
        command = [*KOSMOS, "reports", "list", "--stage", "quarantine", "--json"]
        told = subprocess.run(
            [*command, "--config", str(node.config)], capture_output=True, text=True, check=True
        )
        return list(json.loads(told.stdout))

    (one,) = await_(aside)
    assert (one["study_instance_uid"], one["reason"]) == (
        study,
        "the report is about another patient than its study",
    )
    entries = await_(lambda: found(node, study, accession))
    assert entries.keys() == {"application/dicom"}


def recorded(node: RunningNode) -> list[int]:
    """The outcomes of the reports that are in the audit trail."""
    trail = node.config.parent / "data" / "audit" / "dicom.db"
    with closing(sqlite3.connect(f"file:{trail}?mode=ro", uri=True)) as connection:
        query = "SELECT outcome FROM audit_record WHERE type = 'RAD-28' ORDER BY number"
        return [outcome for (outcome,) in connection.execute(query)]


def test_what_cannot_be_read_is_refused_for_good(node: RunningNode) -> None:
    before = recorded(node)
    assert say(node, mdm(node, "T02", ("D4", ""), b"GIF89a")) == "AE"
    assert say(node, mdm(node, "T02", ("D4", ""), b"<ClinicalDocument/>")) == "AE"
    assert say(node, mdm(node, "T99", ("D4", ""), PDF)) == "AR"
    assert say(node, b"nonsense") == "AE"
    assert recorded(node) == [*before, 8, 8, 8, 8]


def test_killed_at_every_step_a_report_is_published_once(nodes: Nodes, tmp_path: Path) -> None:
    study, accession = generate_uid(), "RA-5"
    first = nodes.start(fault="reports.kept:kill", **LISTENING)
    assert first.announce(PATIENT) == "AA"
    assert first.store([image(tmp_path, study, accession)]) == [0]
    by_image = f'<id root="{authority(first)}" extension="{PATIENT}"/>'
    document = cda(patient=by_image, study=study, document=generate_uid())
    message = mdm(first, "T02", ("D5", ""), document)
    with pytest.raises(MllpError):
        say(first, message)
    first.await_log("process died")
    first.stop()

    second = nodes.start(fault="reports.taken:kill", **LISTENING)
    with pytest.raises(MllpError):
        say(second, message)
    second.await_log("process died")
    second.stop()

    third = nodes.start(fault="reporting.made:kill", **LISTENING)
    third.await_log("process died")
    third.stop()

    last = nodes.start(**LISTENING)
    assert say(last, message) == "AA"  # the sender, which heard nothing, tries again
    await_(both(last, study, accession, "text/xml"))
    statuses = [APPROVED, DEPRECATED]
    entries = last.consumer().find_documents(last.patient(PATIENT), status=statuses)
    assert [one.mime_type for one in entries].count("text/xml") == 1
