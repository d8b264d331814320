"""A repository killed (SIGKILL) at each of its fault points, started again, asked again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from repository import Repository
from repository.reconciliation import Reconciliation
from storage.blobs import BlobStore
from storage.database import Database
from storage.space import LowWaterMark
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_43 import DocumentRequest, RetrieveDocumentSetRequest
from transactions.registry_response import RegistryResponse

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("provide_once.py")
FAULT_POINTS = ["repository.kept", "repository.stored", "repository.registered"]


def provide(folder: Path, fault: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, folder],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KOSMOS_FAULT": fault},
        capture_output=True,
        text=True,
        check=False,
    )


def registered(folder: Path) -> bool:
    return (folder / "registered").exists()


def look(folder: Path) -> tuple[list[bytes], Reconciliation, int]:
    """What a restarted repository serves, finds when reconciling, and keeps afterwards."""

    def no_submission(_: SubmitObjectsRequest) -> RegistryResponse:
        raise AssertionError("nothing is to be registered")

    blobs = BlobStore(folder / "blobs", LowWaterMark(minimum_free_bytes=0))
    with Database.open(f"sqlite:///{folder / 'repository.db'}") as database:
        repository = Repository(database, blobs, "1.2.3.4", no_submission)
        report = repository.reconcile(lambda _: registered(folder), grace_seconds=0, sweep=True)
        wanted = (DocumentRequest("1.2.3.4", "1.1"),)
        served = repository.retrieve(RetrieveDocumentSetRequest(wanted))
        documents = [b"".join(document.content.chunks()) for document in served.documents]
    return documents, report, len(list(blobs.inventory()))


def sent_again(folder: Path, lost_answer: bool) -> None:
    again = provide(folder)
    assert again.returncode == 0, again.stderr
    # The standard wants a duplicate reported even to a sender who never saw the success.
    assert json.loads(again.stdout) == (["XDSDuplicateUniqueIdInRegistry"] if lost_answer else [])
    documents, report, blobs = look(folder)
    assert (documents, blobs, report.alarm) == ([b"the document"], 1, False)
    assert report.confirmed == (["1.1"] if lost_answer else [])
    assert (report.removed, report.unreferenced) == ([], [])


def never_sent_again(folder: Path, lost_answer: bool) -> None:
    documents, report, blobs = look(folder)
    if lost_answer:
        assert (documents, blobs, report.confirmed) == ([b"the document"], 1, ["1.1"])
    else:
        assert (documents, blobs, report.swept) == ([], 0, 1)
    assert not report.alarm


@pytest.mark.parametrize("point", FAULT_POINTS)
def test_a_killed_submission_is_settled_whether_it_is_sent_again_or_not(
    tmp_path: Path, point: str
) -> None:
    killed, copy = tmp_path / "killed", tmp_path / "copy"
    killed.mkdir()
    assert provide(killed, f"{point}:kill").returncode == -signal.SIGKILL
    lost_answer = registered(killed)
    assert lost_answer == (point == "repository.registered")
    shutil.copytree(killed, copy)
    sent_again(killed, lost_answer)
    never_sent_again(copy, lost_answer)
