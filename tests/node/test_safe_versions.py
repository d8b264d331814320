"""No library with a known hole: not here, not in what setup.cfg allows, not under a node."""

from __future__ import annotations

import configparser
import re
import sqlite3
from importlib.metadata import requires
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.cli.app import app
from node.config_file import ConfigError
from node.safe_versions import SQLITE, Floor, floors, installed, is_below, refuse_outdated

ROOT = Path(__file__).parents[2]


def allowed() -> dict[str, str]:
    """The lowest release of each library that an install may bring, by setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    wanted = parser["options"]["install_requires"]
    lines = re.findall(r"^([\w-]+)(?:\[\w+\])? >= ([\w.]+)", wanted, re.MULTILINE)
    return {name.lower(): minimum for name, minimum in lines}


def test_nothing_installed_has_a_known_hole() -> None:
    refuse_outdated()


@pytest.mark.parametrize("floor", floors(), ids=lambda floor: floor.name)
def test_no_release_that_an_install_may_bring_has_a_known_hole(floor: Floor) -> None:
    lowest = allowed().get(floor.name)
    if lowest is None:  # brought by another library, or by Python
        brought = [line.partition(";")[0].lower() for line in requires("uvicorn") or ()]
        assert floor.name == SQLITE or any(line.startswith(floor.name) for line in brought)
        return
    assert not is_below(lowest, floor.minimum)


def test_every_floor_is_of_something_installed_and_names_its_advisory() -> None:
    for floor in floors():
        assert installed(floor.name), floor.name
        assert re.fullmatch(r"CVE-\d{4}-\d{4,}|GHSA(-[0-9a-z]{4}){3}", floor.advisory)
        assert floor.about
    named = [floor.name for floor in floors()]
    assert named == sorted(named)
    assert {"h11", "lxml", "pydicom", SQLITE} <= set(named)


@pytest.mark.parametrize(
    ("release", "minimum", "below"),
    [
        ("3.39.1", "3.39.2", True),
        ("3.40.1", "3.39.2", False),
        ("6.1", "6.1.0", False),
        ("6.1.0rc1", "6.1", False),
        ("9.10", "9.9", False),
        ("0.14.0", "0.16", True),
        ("unknown", "1", True),
    ],
)
def test_releases_are_compared_by_their_numbers(release: str, minimum: str, below: bool) -> None:
    assert is_below(release, minimum) is below


@pytest.mark.parametrize("name", [floor.name for floor in floors()])
def test_a_library_with_a_known_hole_is_named_with_its_remedy(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: 0.1 has a known hole .*; install") as refusal:
        refuse_outdated(lambda one: "0.1" if one == name else installed(one))
    assert len(refusal.value.problems) == 1


def test_what_is_not_installed_has_no_hole() -> None:
    refuse_outdated(lambda _: None)


@pytest.mark.parametrize("verb", ["serve", "check"])
def test_no_node_starts_on_one(
    verb: str, plain_node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.39.1")

    ended = CliRunner().invoke(app, [verb, "--config", str(plain_node)])

    assert ended.exit_code != 0
    told = ended.output or str(ended.exception)
    assert "3.39.1 has a known hole (CVE-2022-35737); install 3.39.2 or newer" in " ".join(
        told.split()
    )
