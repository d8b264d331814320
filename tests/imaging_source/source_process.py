"""An imaging source in a process of its own, for tests that kill it.

Usage: ``python source_process.py FOLDER``. Listens on any port and prints it,
publishes at once to a registry that is a folder of files (a submission is registered when
its file exists), and prints each study it has settled. Ends with its standard input.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from lxml import etree

from imaging_source.publisher import Place, Publisher
from imaging_source.receiver import Listening, run
from manifest.entry import PublicationPolicy
from metadata.catalogue import RegistryError
from metadata.datatypes import XON
from metadata.model import Code
from storage.blobs import BlobStore
from storage.database import Database
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.registry_response import RegistryResponse

CODE = Code("1", "1.2.3.5")
POLICY = PublicationPolicy(
    source_id="1.2.3.6",
    assigning_authority="1.2.3.4",
    class_code=CODE,
    type_code=CODE,
    content_type_code=CODE,
    healthcare_facility_type_code=CODE,
    practice_setting_code=CODE,
    confidentiality_code=CODE,
    institution=XON("Hospital"),
)


class FolderRegistry:
    """Registered submissions and received attempts as files."""

    def __init__(self, folder: Path) -> None:
        self.registered = folder / "registered"
        self.attempts = folder / "attempts"
        self.registered.mkdir(exist_ok=True)
        self.attempts.mkdir(exist_ok=True)

    def provide_and_register(self, request: ProvideAndRegisterRequest) -> RegistryResponse:
        metadata = etree.tostring(request.submit.element)
        number = len(list(self.attempts.iterdir()))
        (self.attempts / str(number)).write_bytes(metadata)
        unique_id = request.submit.submission.submission_sets[0].unique_id or ""
        if self.knows(unique_id):
            error = RegistryError("XDSDuplicateUniqueIdInRegistry", unique_id)
            return RegistryResponse.of([error])
        (self.registered / unique_id).write_bytes(metadata)
        return RegistryResponse.of()

    def knows(self, submission_set_unique_id: str) -> bool:
        return (self.registered / submission_set_unique_id).exists()


def wait_for_end(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def tell(port: int) -> None:
    sys.stderr.write(f"port {port}\n")


def main(folder: Path) -> None:
    registry = FolderRegistry(folder)
    stop = threading.Event()
    threading.Thread(target=wait_for_end, args=(stop,), daemon=True).start()
    with Database.open(f"sqlite:///{folder}/imaging.db") as database:
        publisher = Publisher(
            database,
            POLICY,
            Place(repository_unique_id="1.2.3.9"),
            registry.provide_and_register,
            registry.knows,
            quiet_seconds=0.0,
        )
        run(
            database,
            BlobStore(folder / "blobs"),
            Listening(port=0),
            publisher=publisher,
            ready=tell,
            stop=stop,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
