"""kosmos load: files and folders of submissions into the registry of a node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree
from sqlalchemy import func, insert, select

from benchmarks.material import Material
from node.config import Settings
from node.config_file import load
from node.load import files_in, sources
from node.migrate import migrate, open_database
from node.wiring.common import affinity_domain
from registry.schema import document_entry, patient
from transactions.iti_42 import SubmitObjectsRequest

Kosmos = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def settings(plain_node: Path) -> Settings:
    """Of a node whose registry knows patient 1."""
    settings = load(plain_node)
    migrate(settings)
    known = str(material(settings).patient(1))
    with open_database(settings.registry, "registry") as database:
        row = {"id": known, "survivor": known}
        database.write(lambda connection: connection.execute(insert(patient), row).close())
    return settings


def material(settings: Settings) -> Material:
    return Material(affinity_domain(settings), settings.repository.unique_id)


def submission(settings: Settings, number: int = 1) -> bytes:
    """One entry for the patient of this number, without a line break."""
    made = material(settings)
    return etree.tostring(SubmitObjectsRequest.of(made.submission(made.patient(number))).element)


def documents(settings: Settings) -> int:
    counted = select(func.count()).select_from(document_entry)
    with (
        open_database(settings.registry, "registry", read_only=True) as database,
        database.read() as connection,
    ):
        return connection.execute(counted).scalar_one()


def test_a_folder_is_loaded_once_however_often_it_is_given(
    kosmos: Kosmos, plain_node: Path, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    (folder / "2024").mkdir(parents=True)
    (folder / "one.xml").write_bytes(submission(settings))
    (folder / "2024" / "many").write_bytes(
        b"\n\n".join(submission(settings) for _ in range(3)) + b"\n"
    )
    told = kosmos("load", folder, "--json", "--config", plain_node)
    assert told.returncode == 0, told.stderr
    counts = {"registered": 4, "entries": 4, "present": 0, "refused": 0, "told": []}
    assert json.loads(told.stdout) == counts
    again = json.loads(kosmos("load", folder, "--json", "--config", plain_node).stdout)
    assert again == {**counts, "registered": 0, "entries": 0, "present": 4}
    assert documents(settings) == 4


def test_what_is_refused_is_named_by_file_and_line(
    kosmos: Kosmos, plain_node: Path, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "export.txt"
    file.write_bytes(b"\n".join([submission(settings), submission(settings, 2), b"<broken>"]))
    told = kosmos("load", file, "--config", plain_node)
    assert told.returncode == 1
    assert f"{file}:2: refused: XDSUnknownPatientId" in told.stderr
    assert f"{file}:3: refused: XDSRegistryMetadataError" in told.stderr
    assert documents(settings) == 1
    data = json.loads(kosmos("load", file, "--json", "--config", plain_node).stdout)
    assert (data["present"], data["refused"]) == (1, 2)
    assert [one["source"] for one in data["told"]] == [f"{file}:2", f"{file}:3"]
    assert data["told"][0]["errors"][0]["severity"] == "Error"


def test_a_running_node_keeps_its_embedded_registry_to_itself(
    kosmos: Kosmos, plain_node: Path, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "one.xml").write_bytes(submission(settings))
    with open_database(settings.registry, "registry"):
        told = kosmos("load", tmp_path / "one.xml", "--config", plain_node)
    assert told.returncode == 1
    assert "one writing process" in told.stderr
    assert documents(settings) == 0


def test_files_come_in_the_order_of_their_names_hidden_ones_not(tmp_path: Path) -> None:
    for name in ("b.xml", "a.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"<x/>\n")
    files = files_in(tmp_path)
    assert [file.name for file in files] == ["a.txt", "b.xml"]
    assert [one.name for one in sources(files)] == [
        f"{tmp_path / 'a.txt'}:1",
        str(tmp_path / "b.xml"),
    ]
