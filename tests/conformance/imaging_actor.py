"""An imaging source for the kit, in process: every door, and a publisher that does not wait."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file

from conformance.targets import Study
from imaging_source.dicomweb import DicomWeb
from imaging_source.dicomweb.wado_uri import WadoUri
from imaging_source.intake import Intake
from imaging_source.negotiation import Titles
from imaging_source.publisher import Place, Publisher
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.receiver import Listening, Receiver
from imaging_source.requestor import Peer
from imaging_source.retrieve import ImagingSource
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from manifest.entry import PublicationPolicy
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import XON, LocalizedString, new_oid
from metadata.model import Code
from soap.asgi import Application
from storage.blobs import BlobStore
from storage.database import Database
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.registry_response import RegistryResponse

TITLE, DESTINATION = "KOSMOS", "KIT"
SOURCE = new_oid()
"""Under which the manifests are submitted."""

# A study is stored in one association of milliseconds.
QUIET_SECONDS = 0.3
MOST_MATCHES = 100

Provide = Callable[[ProvideAndRegisterRequest], RegistryResponse]


class ImagingActor:
    """The actor over ``database`` and files below ``folder``; ends with ``stack``."""

    def __init__(self, database: Database, folder: Path, stack: ExitStack) -> None:
        self.unique_id = new_oid()
        self._database = database
        self._stack = stack
        self._blobs = BlobStore(folder / "images")
        intake = Intake(database, self._blobs)
        self.study = _stored(intake)
        self.retrieve = ImagingSource(database, self._blobs, self.unique_id).retrieve
        self.destination = Peer(DESTINATION, "127.0.0.1", _free_port())
        self.move_to = f"{DESTINATION}@127.0.0.1:{self.destination.port}"
        finder = Finder(database, TITLE, MOST_MATCHES)
        workers = Workers()
        stack.callback(workers.close)
        self._variants = Variants(folder / "transcoded", workers, 10**9)
        peers = {DESTINATION: self.destination}
        retriever = Retriever(database, self._blobs, TITLE, peers, self._variants)
        titles = Titles(querying=frozenset({DESTINATION}))
        here = Listening(port=0, titles=titles, services=query_retrieve(finder, retriever))
        self.port = stack.enter_context(Receiver(intake, here)).port

    def mounts(self, pool: ThreadPoolExecutor) -> dict[str, Application]:
        """DICOMweb and WADO-URI."""
        blobs, variants = self._blobs, self._variants
        return {
            "/dicomweb": DicomWeb(self._database, blobs, pool, variants=variants),
            "/wado": WadoUri(self._database, blobs, pool, variants),
        }

    def publish(self, domain: AffinityDomain, provide: Provide, repository_id: str) -> None:
        """Send manifests from now on."""

        def code(name: str) -> Code:
            allowed = domain.code_sets.get(name)
            assert allowed is not None
            [(scheme, value), text] = next(iter(allowed.names.items()))
            return Code(value, scheme, LocalizedString(text))

        policy = PublicationPolicy(
            source_id=SOURCE,
            assigning_authority=domain.assigning_authority.universal_id,
            class_code=code("classCode"),
            type_code=code("typeCode"),
            content_type_code=code("contentTypeCode"),
            healthcare_facility_type_code=code("healthcareFacilityTypeCode"),
            practice_setting_code=code("practiceSettingCode"),
            confidentiality_code=code("confidentialityCode"),
            institution=XON("Hospital"),
            language_code="fr-FR",
        )
        publisher = Publisher(
            self._database,
            policy,
            Place(repository_unique_id=self.unique_id),
            provide,
            lambda _unique_id: False,
            quiet_seconds=QUIET_SECONDS,
        )
        publisher.start()
        self._stack.callback(publisher.stop)


def _stored(intake: Intake) -> Study:
    """Put one image into the source."""
    path = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    image = dcmread(path)
    arrival = intake.begin(
        image.SOPClassUID, image.SOPInstanceUID, image.file_meta.TransferSyntaxUID, "KIT"
    )
    data = path.read_bytes()
    # The data set follows preamble, prefix and file meta group, whose length the latter states.
    start = 144 + image.file_meta.FileMetaInformationGroupLength
    arrival.write(memoryview(data)[start:])
    outcome = arrival.finish()
    assert outcome.status == 0, outcome
    return Study(image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)


def _free_port() -> int:
    """A port nobody listens on, nor will: below those that systems give to connections."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with suppress(OSError), socket.create_server(("0.0.0.0", port)):
            return port
