"""Run as a program by ``test_crash.py``: provide one document, print the answer.

The registry is a file: one line for each SubmissionSet, synced before it answers, refusing
a SubmissionSet it has seen, as ITI TF-2 3.42.4.1.3.3.7 says.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from metadata.catalogue import RegistryError
from metadata.model import DocumentEntry, Submission, SubmissionSet
from repository import MIGRATIONS, Repository
from soap.message import InMemory
from storage.blobs import BlobStore
from storage.database import Database
from storage.space import LowWaterMark
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse


def register(folder: Path, request: SubmitObjectsRequest) -> RegistryResponse:
    unique_id = str(request.submission.submission_sets[0].unique_id)
    with open(folder / "registered", "a+", encoding="ascii") as file:
        file.seek(0)
        if unique_id in file.read().split():
            return RegistryResponse.of([RegistryError("XDSDuplicateUniqueIdInRegistry", unique_id)])
        file.write(f"{unique_id}\n")
        file.flush()
        os.fsync(file.fileno())
    return RegistryResponse.of()


def main(folder: Path) -> None:
    entry = DocumentEntry(entry_uuid="Document", unique_id="1.1", mime_type="text/plain")
    submission_set = SubmissionSet(entry_uuid="SubmissionSet", unique_id="1.9")
    submission = Submission(submission_sets=[submission_set], documents=[entry])
    request = ProvideAndRegisterRequest(
        SubmitObjectsRequest.of(submission), {"Document": InMemory(b"the document")}
    )
    blobs = BlobStore(folder / "blobs", LowWaterMark(minimum_free_bytes=0))
    with Database.open(f"sqlite:///{folder / 'repository.db'}") as database:
        database.migrate(MIGRATIONS)
        repository = Repository(
            database, blobs, "1.2.3.4", lambda submitted: register(folder, submitted)
        )
        response = repository.provide_and_register(request)
    print(json.dumps([error.code for error in response.errors]))  # noqa: T201 - for the parent


if __name__ == "__main__":
    main(Path(sys.argv[1]))
