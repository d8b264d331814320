from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from consumer.client import Consumer
from manifest.kos import Manifest, ManifestInstance, ManifestSeries, write_kos
from manifest.model import Patient, Study
from metadata import ebrim
from metadata.catalogue import RegistryError
from metadata.datatypes import CX, OID
from metadata.identifiers import APPROVED, STABLE
from metadata.model import DocumentEntry, Folder, Submission
from soap.client import SoapClient
from soap.endpoint import Endpoint
from soap.message import InMemory
from soap.operation import CallContext, Operation
from soap.server import running_server
from transactions.iti_18 import ITI_18, AdhocQueryRequest, AdhocQueryResponse
from transactions.iti_43 import (
    ITI_43,
    DocumentRequest,
    RetrievedDocument,
    RetrieveDocumentSetRequest,
    RetrieveDocumentSetResponse,
)
from transactions.rad_69 import RAD_69, RetrieveImagingDocumentSetRequest

REPOSITORY = "1.2.3.100"
SOURCE = "1.2.3.200"
STUDY = "1.2.3.4"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def _part10(
    uid: str,
    size: int = 1000,
    *,
    study: str = STUDY,
    series: str = "",
    sop_class: str = CT,
    syntax: str = EXPLICIT,
    meta: str = "",
) -> bytes:
    """A DICOM file (PS3.10 7.1) that says what it is, and bytes that stand for its pixels."""
    head = element(2, 1, b"OB", b"\0\1") + element(2, 3, b"UI", (meta or uid).encode())
    head += element(2, 0x10, b"UI", syntax.encode())
    body = element(8, 0x16, b"UI", sop_class.encode()) + element(8, 0x18, b"UI", uid.encode())
    body += element(0x20, 0xD, b"UI", study.encode())
    body += element(0x20, 0xE, b"UI", (series or uid.rpartition(".")[0]).encode())
    body += element(0x28, 0x10, b"US", b"\1\0")
    return b"\0" * 128 + b"DICM" + head + body + element(0x7FE0, 0x10, b"OB", b"p" * size)


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """An element in explicit VR little endian (PS3.5 7.1.2)."""
    value += b"\0" * (len(value) % 2)
    long = struct.pack("<2xL", len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", group, number) + vr + long + value


@dataclass
class Peer:
    """A registry, a repository and an imaging source that answer what a test tells them."""

    entries: list[DocumentEntry] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    errors: list[RegistryError] = field(default_factory=list)
    queries: list[AdhocQueryRequest] = field(default_factory=list)
    retrievals: list[RetrieveImagingDocumentSetRequest] = field(default_factory=list)
    answer_images: (
        Callable[[RetrieveImagingDocumentSetRequest], RetrieveDocumentSetResponse] | None
    ) = None

    def query(self, request: AdhocQueryRequest, _context: CallContext) -> AdhocQueryResponse:
        self.queries.append(request)
        fragments = ebrim.write_objects(Submission(documents=self.entries, folders=self.folders))
        return AdhocQueryResponse.of(fragments, self.errors)

    def retrieve(
        self, request: RetrieveDocumentSetRequest, _context: CallContext
    ) -> RetrieveDocumentSetResponse:
        return self.hand_over(request.documents)

    def images(
        self, request: RetrieveImagingDocumentSetRequest, _context: CallContext
    ) -> RetrieveDocumentSetResponse:
        self.retrievals.append(request)
        if self.answer_images is not None:
            return self.answer_images(request)
        return self.hand_over(tuple(request.documents()))

    def hand_over(self, requests: tuple[DocumentRequest, ...]) -> RetrieveDocumentSetResponse:
        """What is there, and the errors that were set."""
        return RetrieveDocumentSetResponse.of(
            self.errors,
            [
                RetrievedDocument(
                    one, "application/dicom", InMemory(self.documents[one.document_unique_id])
                )
                for one in requests
                if one.document_unique_id in self.documents
            ],
        )


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def url(peer: Peer) -> Iterator[str]:
    """The address of the peer, which serves all three transactions there."""
    with ThreadPoolExecutor(2) as pool:
        endpoint = Endpoint(
            [
                Operation(ITI_18, peer.query, inline=True),
                Operation(ITI_43, peer.retrieve),
                Operation(RAD_69, peer.images),
            ],
            pool=pool,
            title="Peer",
            service_name="Peer",
        )
        with running_server(endpoint) as address:
            yield address


@pytest.fixture
def client() -> Iterator[SoapClient]:
    client = SoapClient(timeout=10)
    yield client
    client.close()


@pytest.fixture
def consumer(url: str, client: SoapClient) -> Consumer:
    return Consumer(url, {REPOSITORY: url}, {SOURCE: url}, client)


@pytest.fixture
def entry_of() -> Callable[[str, bytes], DocumentEntry]:
    """The entry that describes a document truly."""

    def make(unique_id: str, data: bytes) -> DocumentEntry:
        return DocumentEntry(
            entry_uuid="urn:uuid:00000000-0000-4000-8000-000000000001",
            object_type=STABLE,
            availability_status=APPROVED,
            unique_id=unique_id,
            mime_type="application/dicom",
            patient_id=CX.of("MRN-1", "1.2.3.4"),
            repository_unique_id=OID(REPOSITORY),
            hash=hashlib.sha1(data, usedforsecurity=False).hexdigest().upper(),
            size=str(len(data)),
        )

    return make


@pytest.fixture
def study(peer: Peer) -> Manifest:
    """A study of two series with three instances each, which the peer can deliver."""
    series = []
    for number in (1, 2):
        uids = [f"{STUDY}.{number}.{instance}" for instance in (1, 2, 3)]
        peer.documents |= {uid: _part10(uid) for uid in uids}
        series.append(
            ManifestSeries(
                series_instance_uid=f"{STUDY}.{number}",
                retrieve_location_uid=SOURCE,
                retrieve_ae_title="KOSMOS",
                instances=tuple(ManifestInstance(CT, uid) for uid in uids),
            )
        )
    return Manifest(
        sop_instance_uid="1.2.3.9",
        series_instance_uid="1.2.3.8",
        study=Study(study_instance_uid=STUDY, patient=Patient(patient_id="MRN-1")),
        series=tuple(series),
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


@pytest.fixture
def kos(study: Manifest) -> bytes:
    return write_kos(study)


@pytest.fixture(scope="session")
def part10() -> Callable[..., bytes]:
    """Makes the beginning of a DICOM file."""
    return _part10
