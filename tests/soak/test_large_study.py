"""A study of two gigabytes: it goes in and comes out in pieces, and is never held."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.images import Study, send
from benchmarks.peers import are_there
from benchmarks.place import Memory
from tests.soak.conftest import at_most, serving
from tests.system.conftest import Nodes, RunningNode, await_
from tests.system.test_hostile_input import dicom
from tests.system.test_life_cycle import lists

pytestmark = pytest.mark.timeout(1800)

# Of 668 KB each.
INSTANCES, EDGE = 3000, 578
# What two cores take for it, and somewhat less where less was asked for.
FULL_SECONDS = 120.0
# The patient of the benchmarks' studies.
PATIENT = "123456"
MOST_MIB = 200


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    nodes = Nodes(tmp_path)
    yield nodes.start()
    nodes.close()
    shutil.rmtree(tmp_path)  # six gigabytes


def test_a_study_of_two_gigabytes_costs_no_process_200_mib_on_its_way_in_and_out(
    node: RunningNode, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """3,000 instances come by C-STORE, are published, and are retrieved by RAD-69, all of them."""
    if not are_there("A study by four associations", "storescu"):
        pytest.skip("storescu is not installed (Debian: dcmtk)")
    assert node.announce(PATIENT) == "AA"
    pids = serving(node)
    instances = int(INSTANCES * at_most(FULL_SECONDS) / FULL_SECONDS)
    study = Study(tmp_path / "sent", 1, instances, EDGE)

    coming = {name: Memory([pid]) for name, pid in pids.items()}
    inwards = send(study, "KOSMOS", dicom(node)[1])
    manifest = await_(lists(node, instances, PATIENT))
    taken = {name: round(memory.growth()) for name, memory in coming.items()}

    going = {name: Memory([pid]) for name, pid in pids.items()}
    started = time.monotonic()
    report = node.consumer().fetch_images(manifest, tmp_path / "fetched")
    outwards = time.monotonic() - started
    given = {name: round(memory.growth()) for name, memory in going.items()}

    size = sum(os.path.getsize(file) for file in study.files())
    tell(
        f"{instances} instances, {size / 1e9:.2f} GB: in {inwards:.0f} s, MiB {taken};"
        f" out {outwards:.0f} s, MiB {given}"
    )
    assert report.complete
    assert {path.stem for path in report.fetched} == {*study.uids}
    pixels = next(study.files()).read_bytes()[-2 * EDGE * EDGE :]
    assert all(path.read_bytes().endswith(pixels) for path in report.fetched)
    assert max(*taken.values(), *given.values()) < MOST_MIB
