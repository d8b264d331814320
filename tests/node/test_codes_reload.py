"""New code sets for a node that serves: noticed, told, refused."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.config_file import ConfigError, Problem
from node.init import DEFAULT_CODES, NewNode, create
from node.watch import Watch
from tests.waiting import wait_for

Serve = Callable[[Path], Any]
Kosmos = Callable[..., subprocess.CompletedProcess[str]]

TEXT = ("--mime-type", "text/plain")
# A code of the set that ships.
OLD = '"90 Expression personnelle du patient"'


@pytest.fixture
def config(tmp_path: Path, port_base: int) -> Path:
    return create(NewNode(tmp_path / "node", plain=True, port_base=port_base))


@pytest.fixture
def client(config: Path, tmp_path: Path) -> Path:
    """A configuration for commands, with code sets that nobody changes."""
    folder = tmp_path / "client"
    folder.mkdir()
    old = DEFAULT_CODES.read_text("utf-8")
    assert OLD in old
    (folder / "codes.toml").write_text(old.replace(OLD, f'"77 New", {OLD}', 1))
    (folder / "kosmos.toml").write_text(config.read_text())
    return folder / "kosmos.toml"


def test_a_running_node_takes_over_new_codes_and_keeps_the_old_when_they_are_broken(
    config: Path, client: Path, serve: Serve, kosmos: Kosmos
) -> None:
    node, codes = serve(config), config.with_name("codes.toml")
    at = ("--config", client)
    assert kosmos("feed", "--patient", "1", "--name", "A^B", *at).returncode == 0

    def published() -> bool:
        told = kosmos("publish", client, *("--patient", "1", "--class-code", "77", *TEXT), *at)
        assert told.returncode == 0 or "classCode" in told.stderr, told.stderr
        return told.returncode == 0

    assert not published()
    codes.write_bytes(client.with_name("codes.toml").read_bytes())
    wait_for(published, 30)  # noticed without being told
    told = kosmos("admin", "codes", "reload", "--config", config)
    assert told.returncode == 0, told.stderr
    wait_for(lambda: node.log.read_text().count('"event": "reload"') == 1)
    codes.write_text("[codes")
    refused = kosmos("admin", "codes", "reload", "--config", config)
    assert refused.returncode == 3
    assert str(codes) in refused.stderr
    wait_for(lambda: node.log.read_text().count("code sets refused") >= 2)  # web and dicom
    assert published()
    assert node.stop() == 0


class Taken:
    """Counts what a watch takes over; raises ConfigError for a file that says so."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.contents: list[str] = []

    def __call__(self) -> None:
        if self.file.read_text() == "broken":
            raise ConfigError([Problem(str(self.file), "", "broken")])
        self.contents.append(self.file.read_text())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "codes.toml"
    file.write_text("first")
    return file


def change(file: Path, text: str) -> None:
    """Another content under another date, whatever the clock of the file system can tell."""
    date = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(date + 1, date + 1))


def test_a_change_is_taken_over_once_and_only_when_the_file_stands_still(file: Path) -> None:
    taken = Taken(file)
    watch = Watch("code sets", "NODE-CODES", "NODE-CODES-REFUSED", [file], taken)
    watch.look()
    watch.look()
    assert taken.contents == ["first"]
    change(file, "second")
    watch.look()  # still being written, perhaps
    assert taken.contents == ["first"]
    watch.look()
    watch.look()
    assert taken.contents == ["first", "second"]


def test_a_broken_file_is_refused_once_and_a_mended_one_taken(file: Path) -> None:
    taken = Taken(file)
    watch = Watch("code sets", "NODE-CODES", "NODE-CODES-REFUSED", [file], taken)
    watch.look()
    for content in ("broken", "mended"):
        change(file, content)
        watch.look()
        watch.look()
    assert taken.contents == ["first", "mended"]


def test_who_is_told_reads_whether_the_file_has_changed_or_not(file: Path) -> None:
    taken = Taken(file)
    watch = Watch("code sets", "NODE-CODES", "NODE-CODES-REFUSED", [file], taken)
    watch.look()
    for _ in range(2):
        watch.tell()
        watch.look()
    assert taken.contents == ["first"] * 3
