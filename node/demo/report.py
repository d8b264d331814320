"""The report beside the images: in by HL7 (ORU^R01 with a PDF), published, found, fetched.

The department says which study it is about and that it is final; the imaging source publishes it
beside the study's manifest, under the same study.
"""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

from consumer.client import Consumer
from hl7.client import MllpClient, MllpError
from hl7.message import FieldValue, build
from metadata.datatypes import CX, CXi, new_oid
from metadata.identifiers import STUDY_INSTANCE_UID_REFERENCE
from metadata.model import DocumentEntry
from node import feed
from node.demo.display import Display, StepFailed
from node.demo.stage import Stage
from node.storescu import DicomFile
from node.texts import tr

# It is published at once; on a slow, busy disk it takes longer.
PUBLISHED_SECONDS = 60.0
POLL_SECONDS = 0.1
PDF = "application/pdf"


def report(display: Display, stage: Stage, us: Consumer, file: DicomFile) -> None:
    """Report on the study of ``file`` and show the report beside it. Raises StepFailed."""
    document = _document(tr("Nothing abnormal."))
    with display.step("ORU^R01", tr("A report on the study by HL7")) as step:
        message = _message(stage, file, document)
        step.bytes, step.result = len(message), _accepted(stage, message)
    with display.step("ITI-18", tr("The report beside the manifest")) as step:
        entries = _both(stage, us, file)
        step.result = ", ".join(sorted(entries))
    with display.step("ITI-43", tr("The report as it was written")) as step:
        fetched = us.fetch_document(entries[PDF])
        step.bytes = len(fetched)
        if fetched != document:
            raise StepFailed(tr("the report is another"))
        step.result = tr("the same bytes")


def _accepted(stage: Stage, message: bytes) -> str:
    host, _, port = (stage.endpoints.reports or "").rpartition(":")
    try:
        with MllpClient(host, int(port), ssl_context=stage.tls) as client:
            code, text = feed.acknowledgement(client.send(message))
    except MllpError as error:
        raise StepFailed(str(error)) from error
    if code != "AA":
        raise StepFailed(f"{code}: {text}")
    return code


def _both(stage: Stage, us: Consumer, file: DicomFile) -> dict[str, DocumentEntry]:
    """Manifest and report of the study by media type, once both are there."""
    authority = stage.settings.affinity_domain.assigning_authority
    patient = str(CX.of(file.patient_id, authority))
    study = CXi.of(file.study_instance_uid, STUDY_INSTANCE_UID_REFERENCE)
    deadline = time.monotonic() + PUBLISHED_SECONDS
    while time.monotonic() < deadline:
        found = {one.mime_type or "": one for one in us.find_by_reference(patient, [str(study)])}
        if PDF in found and len(found) > 1:
            return found
        time.sleep(POLL_SECONDS)
    raise StepFailed(tr("not published: {studies}", studies=file.study_instance_uid))


def _message(stage: Stage, file: DicomFile, document: bytes) -> bytes:
    """A final result (OBR-25, OBX-11) that names its study as RAD-28 does (ZDS-1)."""
    authority = stage.settings.affinity_domain.assigning_authority
    now, title = datetime.now(UTC).strftime("%Y%m%d%H%M%S"), tr("Imaging report")
    order: list[FieldValue] = ["OBR", "1", "", (new_oid(), "DEMO"), ("REPORT", title), *[""] * 28]
    order[25], order[32] = "F", (("801", "CURIE", "MARIE"),)
    encoded = ("", "Application", "PDF", "Base64", base64.b64encode(document).decode())
    return build(
        [
            [
                "MSH",
                "DEMO",
                "DEMO",
                "KOSMOS",
                "KOSMOS",
                now,
                "",
                ("ORU", "R01"),
                now,
                "P",
                "2.5",
                *[""] * 5,
                "UNICODE UTF-8",
            ],
            ["PID", "", "", [(file.patient_id, "", "", ("", authority, "ISO"))]],
            order,
            ["OBX", "1", "ED", ("PDF", title), "", encoded, *[""] * 5, "F"],
            ["ZDS", (file.study_instance_uid, "DEMO", "Application", "DICOM")],
        ]
    )


def _document(text: str) -> bytes:
    """A PDF of one page with one line (ISO 32000-1 7.5)."""
    shown = f"BT /F1 24 Tf 72 720 Td ({text}) Tj ET".encode("latin-1", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 5 0 R"
        b" /Resources << /Font << /F1 4 0 R >> >> >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown),
    ]
    body, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(b"%010d 00000 n \n" % len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(places) + 1, b"".join(places))
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return body + table + end % (len(places) + 1, len(body))
