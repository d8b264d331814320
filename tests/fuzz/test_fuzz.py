"""Whatever arrives, a parser reads it or raises what it declares; and every find is kept.

Each target meets the inputs that once did harm, some hundred made by hypothesis, and, where
atheris is installed, thousands that are guided by the code they reach. ``make fuzz`` plays longer.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.play import HAS_GUIDE, NAMES, in_a_child, load, play_blindly
from tests.fuzz.target import CORPORA, Target

# Longer than all targets take together on a machine that does other things too.
SECONDS = 240


def damaged(inputs: list[bytes]) -> st.SearchStrategy[bytes]:
    """An input with a few places changed; or anything at all."""
    change = st.tuples(st.integers(0, 4096), st.integers(0, 8), st.binary(max_size=8))
    return st.binary(max_size=200) | st.builds(
        _changed, st.sampled_from(inputs), st.lists(change, max_size=5)
    )


def _changed(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, instead in changes:
        at = place % (len(data) + 1)
        data = data[:at] + instead + data[at + length :]
    return data


@pytest.fixture(scope="module")
def targets() -> dict[str, Target]:
    return {target.name: target for target in load(NAMES, guided=False)}


@pytest.mark.parametrize("name", NAMES)
def test_an_input_that_once_did_harm_does_none(name: str, targets: dict[str, Target]) -> None:
    for data in targets[name].inputs:
        targets[name].play(data)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_target_understands_is_read(name: str, targets: dict[str, Target]) -> None:
    """Else everything made of it would be refused at its first byte."""
    understood = 0
    for data in targets[name].seeds():
        try:
            targets[name].read(data)
        except targets[name].declared:
            continue
        understood += 1
    assert understood


@pytest.mark.parametrize("name", NAMES)
def test_any_input_is_read_or_refused(name: str, targets: dict[str, Target]) -> None:
    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(damaged(targets[name].inputs))
    def play(data: bytes) -> None:
        targets[name].play(data)

    play()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of every target, played in processes of their own."""
    finds = tmp_path_factory.mktemp("finds")
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz", "--finds", str(finds)]
    root = Path(__file__).parents[2]
    played = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=SECONDS)
    return played.stdout + played.stderr


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.skipif(not HAS_GUIDE, reason="atheris is not installed: hypothesis alone has played")
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_guided_inputs_find_nothing(name: str, told: str) -> None:
    assert f"{name}: ok" in told, told[-5000:]


def test_a_fault_is_found_and_its_input_kept(tmp_path: Path) -> None:
    def read(data: bytes) -> None:
        if len(data) > 12:
            raise KeyError("not declared")
        raise ValueError("declared")

    brittle = Target("brittle", read, (ValueError,), lambda: [b"0123456789"], 1_000)

    assert in_a_child(lambda: play_blindly(brittle, brittle.runs, 0, tmp_path)) == 1
    assert len((tmp_path / "brittle-crash").read_bytes()) > 12


def test_every_target_is_played() -> None:
    modules = Path(__file__).parent.glob("*.py")
    assert {file.stem for file in modules if "\nTARGET = " in file.read_text()} == set(NAMES)


def test_every_kept_input_belongs_to_a_target() -> None:
    assert {folder.name for folder in CORPORA.iterdir() if folder.is_dir()} <= set(NAMES)
