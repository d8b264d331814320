"""What is said of a patient stays in databases, documents, images and the audit trail; no log,
metric, process list or temporary file repeats a word of it, accepted or refused.
"""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from hl7.client import MllpClient
from metadata.datatypes import CX, LocalizedString
from metadata.model import Code
from node import feed
from node.config_file import load
from node.documents import Description, provide
from node.wiring.common import affinity_domain
from soap.client import SoapClient
from tests.system.conftest import Nodes, RunningNode, await_
from tests.system.foreign import run
from transactions import stored_query
from transactions.iti_18 import ITI_18, AdhocQueryRequest
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import ITI_42
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest
from transactions.rad_69 import (
    RAD_69,
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)

# Words that nothing else would say.
FAMILY, GIVEN = "Quetzalcoatlus", "Zephirine"
PATIENT, STRANGER = "KANARI4711", "KANARI4712"
BORN = "18710318"
TITLE, STUDY, ACCESSION = "Papageientitel", "Wellensittichstudie", "NYMPHEN0815"
CONTENT = "Kakadubefund"
CANARIES = (FAMILY, GIVEN, "KANARI471", BORN, TITLE, STUDY, ACCESSION, CONTENT)
# Where these words belong.
KEPT = (
    "*.db",
    "*.db-wal",
    "*.db-shm",
    "audit/*.db*",
    "documents/[0-9a-f][0-9a-f]/*",
    "images/[0-9a-f][0-9a-f]/*",
)
CODE = Code(TITLE, STUDY, LocalizedString(TITLE))
SYNTAX = "1.2.840.10008.1.2.1"


class Flow(NamedTuple):
    """What the node said and left behind after everything was sent to it."""

    folder: Path
    temporary: Path
    log: str
    metrics: str
    processes: str


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    temporary = tmp_path_factory.mktemp("temporary")
    nodes = Nodes(tmp_path_factory.mktemp("leak"))
    nodes.forked = False  # its command line is looked at
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TMPDIR", str(temporary))
            environment.setenv("KOSMOS__NODE__LOG_LEVEL", "debug")
            node = nodes.start()
        accepted(node, tmp_path_factory.mktemp("sent"))
        refused(node, tmp_path_factory.mktemp("refused"))
        with urllib.request.urlopen(f"{node.endpoints['admin']}/metrics") as answer:
            metrics = answer.read().decode()
        # The node's processes: all that have its folder on their command line or in their names.
        processes = run("ps", "-ww", "-eo", "args").stdout
        found = sorted(path for path in temporary.rglob("*") if path.is_file())
        assert not leaks_in(found)
        node.stop()
        lines = node.process.stdout
        assert lines is not None
        await_(lambda: lines.closed)
        data = node.config.parent / "data"
        yield Flow(data, temporary, "".join(node.lines), metrics, processes)
    finally:
        nodes.close()


# -- what is sent


def accepted(node: RunningNode, folder: Path) -> None:
    """Feed, publish, submit, find, fetch: all that a patient's study goes through."""
    authority = node.settings["affinity_domain"]["assigning_authority"]
    person = feed.Person(PATIENT, f"{FAMILY}^{GIVEN}", BORN, "F")
    assert hl7(node, feed.announce(person, authority)).startswith(b"MSH")
    store(node, image(folder))
    client = SoapClient()
    submitted = client.call(node.endpoints["repository"], ITI_41, document(node, PATIENT, folder))
    assert submitted.errors == ()
    client.close()
    consumer = node.consumer()
    patient = node.patient(PATIENT)
    await_(lambda: len(consumer.find_documents(patient)) == 2)
    for entry in consumer.find_documents(patient):
        consumer.fetch_document(entry)
        if entry.mime_type != "text/plain":
            assert consumer.fetch_images(consumer.open_manifest(entry), folder / "back").complete


def refused(node: RunningNode, folder: Path) -> None:
    """Messages that say the same and cannot be accepted, at every door."""
    for message in broken_feeds(node):
        hl7(node, message)
    refused_transactions(node, folder)
    for path, content_type, body in broken_calls():
        call(node, path, content_type, body)
    store(node, image(folder, StudyInstanceUID=""))
    store(node, image(folder, SeriesInstanceUID=f"1.2.{FAMILY}"))
    # A study in two states, and one that is odd in whatever can be odd.
    store(node, image(folder, StudyInstanceUID="1.2.3.4"))
    other = {"StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.5"}
    odd = {"StudyDate": GIVEN, "PatientSex": TITLE, "SpecificCharacterSet": STUDY}
    store(node, image(folder, **other, **odd, AccessionNumber=FAMILY * 10))
    # Whether it can be published or not, the publisher has read it.
    await_(lambda: sum(map(told_of_publishing, node.lines)) > 1)
    host, port = node.endpoints["dicom"].partition("@")[2].split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"\x01{FAMILY}^{GIVEN}".encode())


def broken_feeds(node: RunningNode) -> Iterator[bytes]:
    """Identity messages that are refused, each for another reason."""
    good = feed.announce(feed.Person(PATIENT, f"{FAMILY}^{GIVEN}", BORN), "1.2.3.4")
    yield good  # of a domain that is not ours
    yield good.replace(b"ADT^A04", b"ADT^A99")
    yield good.replace(b"|2.3.1|", b"|9.9|")
    yield good.replace(b"\r", b"\n")
    # Without its header: any field may be taken for the control id.
    pid = "|".join(["PID", *[f"{FAMILY}^{GIVEN}"] * 30]).encode()
    yield pid
    yield pid + b"\r" + good
    yield b"MSH|^~\\&|A\n" + pid
    yield FAMILY.encode("utf-16")
    authority = node.settings["affinity_domain"]["assigning_authority"]
    yield feed.merge(feed.Person(PATIENT, FAMILY, BORN), PATIENT, authority)
    yield feed.merge(feed.Person(STRANGER, FAMILY, BORN), FAMILY, authority)


def refused_transactions(node: RunningNode, folder: Path) -> None:
    """Each SOAP transaction with content that its actor refuses."""
    client = SoapClient()
    registry, repository = node.endpoints["registry"], node.endpoints["repository"]
    stranger = document(node, STRANGER, folder)
    assert client.call(repository, ITI_41, stranger).errors
    assert client.call(registry, ITI_42, stranger.submit).errors
    missing = ProvideAndRegisterRequest(document(node, PATIENT, folder).submit, {})
    assert client.call(repository, ITI_41, missing).errors
    by_patient = stored_query.find_documents(node.patient(STRANGER), class_code=[CODE])
    client.call(registry, ITI_18, by_patient)
    unquoted = [("$XDSDocumentEntryPatientId", [f"{PATIENT} {FAMILY}"]), (f"${TITLE}", [STUDY])]
    wrong = AdhocQueryRequest(stored_query.find_documents("x").query_id, "LeafClass", unquoted)
    assert client.call(registry, ITI_18, wrong).errors
    assert client.call(registry, ITI_18, AdhocQueryRequest(f"urn:uuid:{FAMILY}")).errors
    lost = DocumentRequest(node.settings["repository"]["unique_id"], f"1.2^{FAMILY}")
    assert client.call(repository, ITI_43, RetrieveDocumentSetRequest((lost,))).errors
    study = StudyRequest(FAMILY, (SeriesRequest(GIVEN, (lost,)),))
    images = RetrieveImagingDocumentSetRequest((study,), (SYNTAX, TITLE))
    assert client.call(node.endpoints["imaging"], RAD_69, images).errors
    client.close()


def broken_calls() -> Iterator[tuple[str, str, str]]:
    """Path, type and body of requests that are no message at all."""
    xml = f"<{FAMILY} {GIVEN}='{PATIENT}'>{TITLE}"
    soap = "application/soap+xml"
    yield "/registry", soap, xml
    yield "/registry", soap, f"<!DOCTYPE {FAMILY} [<!ENTITY {GIVEN} '{TITLE}'>]>{xml}"
    envelope = (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header>%s'
        f"</s:Header><s:Body><{FAMILY}>{PATIENT}</{FAMILY}></s:Body></s:Envelope>"
    )
    yield "/registry", soap, envelope % ""
    yield "/registry", soap, envelope % f'<{GIVEN} s:mustUnderstand="1">{BORN}</{GIVEN}>'
    action = f"<a:Action>{FAMILY}</a:Action><a:MessageID>urn:uuid:1</a:MessageID>"
    yield "/registry", soap, envelope % action
    yield "/registry", f"text/{FAMILY}", FAMILY
    yield "/repository", f'multipart/related; boundary="{FAMILY}"', f"--{FAMILY}\r\n{TITLE}: {BORN}"
    yield f"/{FAMILY}?{GIVEN}={BORN}", soap, xml
    yield f"/registry?{GIVEN}={BORN}", soap, xml


def hl7(node: RunningNode, message: bytes) -> bytes:
    host, port = node.endpoints["mllp"].split(":")
    with MllpClient(host, int(port)) as client:
        return client.send(message)


def call(node: RunningNode, path: str, content_type: str, body: str) -> None:
    """A request by POST that the node refuses."""
    url = node.endpoints["registry"].removesuffix("/registry") + path
    headers = {"Content-Type": content_type}
    request = urllib.request.Request(url, body.encode(), headers)
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(request)
    told.value.close()


def image(folder: Path, **changes: str) -> Path:
    """An image of the patient, with ``changes`` made to it."""
    path = folder / f"{'-'.join(changes) or 'image'}.dcm"
    data_set = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    data_set.PatientName, data_set.PatientID = f"{FAMILY}^{GIVEN}", PATIENT
    data_set.PatientBirthDate = BORN
    data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data_set.StudyDescription, data_set.AccessionNumber = STUDY, ACCESSION
    data_set.save_as(path)
    for keyword, value in changes.items():
        # By DCMTK, which writes what it is told.
        assert run("dcmodify", "-nb", "-m", f"{keyword}={value}", path).returncode == 0
    return path


def store(node: RunningNode, file: Path) -> None:
    host, port = node.endpoints["dicom"].partition("@")[2].split(":")
    run("storescu", "-aec", "KOSMOS", host, port, file)


def document(node: RunningNode, patient: str, folder: Path) -> ProvideAndRegisterRequest:
    """A submission of a text for ``patient``."""
    file = folder / "befund.txt"
    file.write_text(CONTENT)
    settings = load(node.config)
    description = Description(
        patient_id=CX(node.patient(patient)),
        title=TITLE,
        class_code="10",
        type_code="18748-4",
        format_code="urn:ihe:iti:xds:2017:mimeTypeSufficient",
    )
    return provide(file, description, settings, affinity_domain(settings))[1]


def told_of_publishing(line: str) -> bool:
    return '"code": "publisher-' in line


# -- what is looked for


def leaks(text: str) -> list[str]:
    """The words of the patient in ``text``, however they are written."""
    return [word for word in CANARIES if word.lower() in text.lower()]


def leaks_in(files: list[Path]) -> dict[str, list[str]]:
    """The words of the patient by the file that has them, in its name or in its bytes."""
    told = {str(path): leaks(f"{path} {path.read_bytes().decode('latin-1')}") for path in files}
    return {name: words for name, words in told.items() if words}


def where_they_belong(folder: Path) -> set[Path]:
    return {path for pattern in KEPT for path in folder.glob(pattern)}


def test_the_flow_carried_every_word_of_the_patient(flow: Flow) -> None:
    found = leaks_in(sorted(where_they_belong(flow.folder)))

    # All but the birth date, which no one here keeps beside the image, are in several places.
    assert {word for words in found.values() for word in words} == set(CANARIES)


def test_no_log_line_tells_of_the_patient(flow: Flow) -> None:
    telling = [line for line in flow.log.splitlines() if leaks(line)]

    assert telling == []
    # And the log did tell of what happened.
    for said in ('"ack": "AA"', '"ack": "AE"', '"ack": "AR"', '"outcome": "sender"'):
        assert said in flow.log


def test_no_metric_tells_of_the_patient(flow: Flow) -> None:
    assert leaks(flow.metrics) == []
    assert 'kosmos_calls_total{outcome="sender",transaction="unknown"}' in flow.metrics


def test_no_command_line_tells_of_the_patient(flow: Flow) -> None:
    assert leaks(flow.processes) == []
    assert str(flow.folder.parent) in flow.processes


def test_no_other_file_tells_of_the_patient(flow: Flow) -> None:
    everything = {path for path in flow.folder.parent.rglob("*") if path.is_file()}

    assert leaks_in(sorted(everything - where_they_belong(flow.folder))) == {}


def test_nothing_of_the_patient_is_left_among_temporary_files(flow: Flow) -> None:
    left = [path for path in flow.temporary.rglob("*") if path.is_file()]
    left += [
        path for name in ("documents", "images") for path in (flow.folder / name / "tmp").iterdir()
    ]

    assert left == []
