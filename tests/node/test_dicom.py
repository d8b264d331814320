"""The DICOM services of a running node, as its peers and its keeper see them."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from sqlalchemy import Text, insert, select

from imaging_source.archives import Bounds
from imaging_source.ledger import NoLedger
from imaging_source.notices import MODALITY_PERFORMED_PROCEDURE_STEP
from imaging_source.schema import PEER_TOLD, STUDY
from imaging_source.shown import Veil, no_veil
from metadata.datatypes import CX
from node.config_file import ConfigError, load
from node.init import TEST_AUTHORITY, NewNode, create
from node.migrate import migrate, open_database
from node.operator import operator_name
from node.wiring.dicom import dicom_services, staying_archives
from node.wiring.pictures import open_variants
from storage.database import Database
from tests.waiting import wait_for

Serve = Callable[[Path], Any]
Kosmos = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program of DCMTK."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        command = [path, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )

    return run


def test_a_peer_queries_a_node_and_a_stranger_does_not(
    tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos, tool: Any
) -> None:
    config = create(NewNode(tmp_path / "node", plain=True, port_base=port_base))
    # The node is its own archive: what it has is not missing there.
    itself = (
        f'peers = {{ ASKER = "dicom://127.0.0.1:9", KOSMOS = "dicom://127.0.0.1:{port_base + 4}" }}'
    )
    archive = '[{ title = "KOSMOS", pull = "c-get", commit = true, mode = "archive" }]'
    keys = f"{itself}\narchives = {archive}\narchive_days = 36500"
    config.write_text(config.read_text().replace("[imaging_source]", f"[imaging_source]\n{keys}"))
    serve(config)
    here = ("-aec", "KOSMOS", "127.0.0.1", str(port_base + 4))
    image = get_testdata_file("CT_small.dcm")
    assert tool("storescu", *here, str(image)).returncode == 0
    with socket.create_connection(("127.0.0.1", port_base + 4)) as nonsense:
        nonsense.sendall(b"GET / HTTP/1.1\r\n")
        assert nonsense.recv(1) == b"\x07"  # A-ABORT

    query = ("-S", *here, "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=1CT1")
    found = tool("findscu", "-aet", "ASKER", *query)
    assert "[1CT1]" in found.stdout + found.stderr
    refused = tool("findscu", "-aet", "STRANGER", *query)
    assert "No Acceptable Presentation Contexts" in refused.stdout + refused.stderr

    with closing(sqlite3.connect(config.parent / "data" / "imaging.db")) as index, index:
        uids = "sop_instance_uid, study_instance_uid"
        into = f"INSERT INTO evicted ({uids}, evicted_at)"
        index.execute(f"{into} SELECT {uids}, 0.0 FROM instance")
    told = kosmos("archives", "--config", config, "--json")
    assert told.returncode == 0, told.stderr
    said = json.loads(told.stdout)
    assert said["evicted"] == {"instances": 1, "hindered": 0}
    (archive,) = said["archives"]
    assert (archive["answers"], archive["studies"], archive["missing"]) == (True, 1, 0)
    assert archive["mode"] == "archive"
    assert archive["commitment"].keys() == {"asked", "committed", "refused"}
    shown = kosmos("archives", "--config", config).stdout
    assert "KOSMOS" in shown
    assert "images with archives alone: 1, in vain asked for: 0" in shown

    asked = json.loads(kosmos("audit", "find", "--config", config, "--json").stdout)
    by_operator = [one for one in asked if one["trail"] == "client-0"]
    assert {one["transaction"] for one in by_operator} == {"RAD-14"}
    assert all(operator_name() in one["users"] for one in by_operator)
    [alert] = [one for one in asked if one["transaction"] == "not-understood"]
    assert (alert["trail"], alert["outcome"], alert["users"][0]) == ("dicom", 8, "127.0.0.1")

    recorded = kosmos(
        "audit", "find", "--patient", CX.of("1CT1", TEST_AUTHORITY), "--config", config, "--json"
    )
    assert recorded.returncode == 0, recorded.stderr
    kinds = [(one["transaction"], one["action"]) for one in json.loads(recorded.stdout)]
    assert {("RAD-8", "E"), ("RAD-8", "C")} <= set(kinds)


def performs(port: int, study: str, patient: str) -> None:
    """A modality begins a step of a study and completes it (MPPS)."""
    ae, scheduled, step, end = AE("MODALITY"), Dataset(), Dataset(), Dataset()
    ae.add_requested_context(MODALITY_PERFORMED_PROCEDURE_STEP)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")
    scheduled.StudyInstanceUID = study
    step.PatientID, step.ScheduledStepAttributesSequence = patient, [scheduled]
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    end.PerformedProcedureStepStatus = "COMPLETED"
    named = (MODALITY_PERFORMED_PROCEDURE_STEP, generate_uid())
    assert association.send_n_create(step, *named)[0].Status == 0x0000
    assert association.send_n_set(end, *named)[0].Status == 0x0000
    association.release()


def test_what_a_node_and_its_peers_tell_one_another_is_recorded_with_the_patient(
    tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos, tool: Any
) -> None:
    config = create(NewNode(tmp_path / "node", plain=True, port_base=port_base))
    # The node is its own archive, and the peer that is told.
    keys = f"""[imaging_source]
peers = {{ KOSMOS = "dicom://127.0.0.1:{port_base + 4}" }}
archives = [{{ title = "KOSMOS", commit = true }}]
archive_days = 36500
archive_seconds = 0.2
notified = ["KOSMOS"]"""
    config.write_text(config.read_text().replace("[imaging_source]", keys))
    serve(config)
    image = str(get_testdata_file("CT_small.dcm"))
    assert (
        tool("storescu", "-aec", "KOSMOS", "127.0.0.1", f"{port_base + 4}", image).returncode == 0
    )
    with closing(sqlite3.connect(config.parent / "data" / "imaging.db")) as index, index:
        index.execute("UPDATE study SET published_revision = revision")
    performs(port_base + 4, str(dcmread(image).StudyInstanceUID), "1CT1")

    def recorded() -> Counter[tuple[str, str, int]]:
        patient = ("--patient", CX.of("1CT1", TEST_AUTHORITY))
        found = kosmos("audit", "find", *patient, "--config", config, "--json")
        told = [
            (one["transaction"], one["action"], one["outcome"]) for one in json.loads(found.stdout)
        ]
        return Counter(one for one in told if one[0] != "RAD-8")

    # What the node tells itself has two records: who tells, and who is told.
    both = {("RAD-10", "R", 0): 2, ("RAD-49", "R", 0): 2}
    wait_for(lambda: recorded() == both | {("RAD-6", "C", 0): 1, ("RAD-7", "U", 0): 1})


@pytest.mark.parametrize(("veil", "tried"), [(no_veil, 1), (lambda _asker: set, 0)])
def test_whom_a_node_notifies_of_what_its_policy_says(
    plain_node: Path, veil: Veil, tried: int
) -> None:
    keys = 'peers = { VIEWER = "dicom://127.0.0.1:9" }\nnotified = ["VIEWER"]'
    text = plain_node.read_text()
    plain_node.write_text(text.replace("[imaging_source]", f"[imaging_source]\n{keys}"))
    settings = load(plain_node)
    migrate(settings)
    with ExitStack() as stack:
        index = stack.enter_context(open_database(settings.imaging_source, "imaging_source"))
        needed = {
            one.name: "" if isinstance(one.type, Text) else 0
            for one in STUDY.columns
            if not one.nullable
        }
        row = {"study_instance_uid": "1.2.3", "published_revision": 1, "changed_at": time.time()}
        index.write(lambda one: one.execute(insert(STUDY), needed | row).close())
        variants = open_variants(settings, stack)
        services = dicom_services(settings, index, variants, NoLedger(), veil)
        assert services.notifier.run_once() == 1
        with index.read() as connection:
            assert connection.execute(select(PEER_TOLD.c.attempts)).scalar_one() == tried


def test_an_archive_that_does_not_answer_is_told_by_name(plain_node: Path, kosmos: Kosmos) -> None:
    assert kosmos("archives", "--config", plain_node).returncode != 0
    keys = '[imaging_source]\npeers = { PACS = "dicom://127.0.0.1:9" }\narchives = ["PACS"]'
    plain_node.write_text(plain_node.read_text().replace("[imaging_source]", keys))
    assert kosmos("migrate", "--config", plain_node).returncode == 0

    told = kosmos("archives", "--config", plain_node)
    assert told.returncode != 0
    assert "PACS does not answer" in told.stderr


def archives(**modes: str) -> str:
    """Archives with an address and the keys given, by title."""
    tables = (f'{{ title = "{one}", url = "http://127.0.0.1:9"{of}}}' for one, of in modes.items())
    return f"archives = [{', '.join(tables)}]"


ARCHIVE = archives(PACS="")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ('archives = ["PACS"]', "PACS is not one of the peers"),
        ('peers = { PACS = "dicoms://10.0.0.1:104" }', "PACS needs tls.enabled"),
        ('peers = { PACS = "dicom://10.0.0.1:99999" }', "no port below 65536"),
        ('mode = "proxy"', "proxy needs an archive that stays"),
        ('mode = "proxy"\n' + archives(PACS=', mode = "archive"'), "proxy needs an archive"),
        (f'mode = "cache"\n{ARCHIVE}', "PACS in mode cache needs cache_days"),
        (archives(OLD="", NEW=', mode = "cache"'), "NEW in mode cache needs cache_days"),
        (archives(OLD="", NEW=", cache_days = 9"), "cache_days of NEW needs mode cache"),
        (f"cache_gib = 10\n{ARCHIVE}", "need an archive in mode cache"),
        ("cache_days = 9\n" + archives(PACS=', mode = "proxy"'), "need an archive in mode cache"),
        (archives(OLD="", KOSMOS=', mode = "proxy"'), "KOSMOS is this node"),
        (
            'mode = "proxy"\narchives = [{ title = "KOSMOS", url = "http://127.0.0.1:9" }]',
            "no archive of its own",
        ),
        *(
            (f'mode = "proxy"\nport = 4242\n{archive}', "no archive of its own")
            for archive in (
                'peers = { PACS = "dicom://127.0.0.1:4242" }\narchives = ["PACS"]',
                'archives = [{ title = "PACS", url = "http://localhost:8080/dicomweb" }]',
                'archives = [{ title = "PACS", url = "https://node.example/dicomweb" }]',
            )
        ),
        ('peers = { PACS = "http://10.0.0.1:104" }', "peers"),
    ],
)
def test_a_peer_that_cannot_be_meant_is_refused(plain_node: Path, keys: str, text: str) -> None:
    new = f"[imaging_source]\n{keys}"
    said = plain_node.read_text().replace("[imaging_source]", new)
    said = said.replace("[node]", '[node]\nhttp_port = 8080\npublic_url = "https://node.example"')
    plain_node.write_text(said)
    with pytest.raises(ConfigError) as caught:
        load(plain_node)
    assert text in " ".join(str(problem) for problem in caught.value.problems)


def test_an_archive_beside_this_node_is_not_this_node(plain_node: Path) -> None:
    new = f'[imaging_source]\nmode = "proxy"\nport = 4242\n{ARCHIVE}'
    plain_node.write_text(plain_node.read_text().replace("[imaging_source]", new))
    assert load(plain_node).imaging_source.mode == "proxy"


GIB_10 = 10 * 2**30


@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        (archives(OLD="", NEW=""), {"OLD": None, "NEW": None}),
        (
            'mode = "cache"\ncache_days = 90\ncache_gib = 10\n'
            + archives(OLD=', mode = "archive"', NEW="", OTHER=", cache_days = 30"),
            {"OLD": None, "NEW": Bounds(90, GIB_10), "OTHER": Bounds(30, GIB_10)},
        ),
        (
            archives(KOSMOS="", NEW=', mode = "cache", cache_days = 30', FAR=', mode = "proxy"'),
            {"KOSMOS": None, "NEW": Bounds(30), "FAR": Bounds(0)},
        ),
        (
            'mode = "proxy"\n' + archives(OLD=', mode = "archive"', NEW=""),
            {"OLD": None, "NEW": Bounds(0)},
        ),
    ],
)
def test_what_is_kept_of_an_archive_is_said_by_its_mode_or_by_the_nodes(
    plain_node: Path, tmp_path: Path, keys: str, kept: dict[str, Bounds | None]
) -> None:
    new = f"[imaging_source]\n{keys}"
    plain_node.write_text(plain_node.read_text().replace("[imaging_source]", new))
    settings = load(plain_node)
    with Database.open(f"sqlite:///{tmp_path / 'index.db'}") as database:
        found = staying_archives(settings, database)
    assert {one.title: one.bounds for one in found} == kept
    assert settings.imaging_source.lets_go is any(kept.values())
