"""A node that runs out of disk or descriptors: it refuses, nothing is lost, it heals itself."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.error import HTTPError

import pytest

from consumer.errors import Faulted
from hl7.client import MllpClient
from node import feed
from storage.space import TRUSTED_SECONDS
from tests.registry.conftest import Draft
from tests.system import test_reports as reports
from tests.system.conftest import Nodes, await_
from tests.system.test_fault_points import (
    Feeding,
    Merging,
    Registering,
    Reporting,
    Storing,
    StoringByWeb,
    World,
    acknowledged,
    recorded,
    settled,
    subscribe,
)
from transactions.iti_42 import ITI_42
from transactions.registry_response import RegistryResponse

MIB = 1024 * 1024

# A young node takes some 10 MiB; 256 MiB must stay free for anything new, 64 MiB for records.
DISK, LEFT = 320 * MIB, 200 * MIB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exhaustion")


@pytest.fixture(scope="module")
def data(folder: Path) -> Iterator[Path]:
    """The data folder: a file system just above the low-water mark, where we may mount one."""
    (data := folder / "data").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(data)]
    mounted = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode
    yield data
    if mounted:
        subprocess.run(["umount", str(data)], check=True)


@pytest.fixture
def disk(data: Path) -> Path:
    """The data folder, if it is a file system of its own."""
    if not data.is_mount():
        pytest.skip("mounting a small file system needs root")
    return data


@pytest.fixture(scope="module")
def world(data: Path, folder: Path) -> Iterator[World]:
    nodes = Nodes(folder)
    (codes := folder / "no_codes.toml").touch()  # any code is good
    node = nodes.start(
        KOSMOS__NODE__DATA_DIR=str(data),
        KOSMOS__AFFINITY_DOMAIN__CODES=str(codes),
        KOSMOS__IMAGING_SOURCE__REPORTS__PORT="0",
    )
    assert node.announce(reports.PATIENT) == "AA"
    world = World(node, folder, folder, "http://127.0.0.1:9/notifications")
    yield world
    world.client.close()
    nodes.close()


def code(world: World, message: bytes, door: str) -> str:
    """The acknowledgement of a message."""
    host, port = world.node.endpoints[door].split(":")
    with MllpClient(host, int(port)) as client:
        return feed.acknowledgement(client.send(message))[0]


def codes(response: RegistryResponse) -> list[str]:
    return [error.code for error in response.errors]


def test_every_door_refuses_before_the_disk_is_full_reads_go_on_and_room_heals_it(
    world: World, disk: Path
) -> None:
    patient, draft, data = world.provided()
    unique_id = draft.submission.documents[0].unique_id
    registering, feeding, merging = Registering(world), Feeding(world), Merging(world)
    reporting, storing, by_web = Reporting(world), Storing(world), StoringByWeb(world)
    flows = (registering, feeding, merging, reporting, storing, by_web)
    with (disk / "filler").open("wb") as filler:
        room = os.statvfs(disk)
        os.posix_fallocate(filler.fileno(), 0, room.f_bavail * room.f_frsize - LEFT)

    time.sleep(2 * TRUSTED_SECONDS)  # so long room that was found is taken for granted
    response = world.provide(registering.draft, registering.data)
    assert codes(response) == ["XDSRepositoryOutOfResources"]
    (whole := Draft(patient)).document()
    submitted = world.client.call(world.node.endpoints["registry"], ITI_42, whole.request())
    assert codes(submitted) == ["XDSRegistryOutOfResources"]
    assert code(world, feeding.message, "mllp") == "AR"
    assert code(world, merging.message, "mllp") == "AR"
    assert code(world, reporting.message, "reports") == "AR"
    assert world.node.store([storing.image]) == [0xA700]
    with pytest.raises(HTTPError, match="503"):
        by_web.attempt()
    with pytest.raises(Faulted):
        subscribe(world, patient)

    assert world.retrieve(unique_id) == ([data], [])
    assert [one.unique_id for one in world.documents(patient)] == [unique_id]
    for flow in flows:
        flow.look(acknowledged=False)

    (disk / "filler").unlink()
    for flow in flows:
        await_(partial(acknowledged, flow))
        flow.look(acknowledged=True)
        await_(partial(settled, flow))
    assert registering.successes == 1
    trail = disk / "audit" / "web-0.db"
    assert recorded(trail, "ITI-43", str(unique_id)) == [0]


def processes(data: Path) -> dict[int, int]:
    """The processes of the node that serve, and how many descriptors each has open."""
    pids = [int(file.read_text()) for file in (data / "run").glob("*.pid")]
    return {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pids}


@contextmanager
def without_descriptors(data: Path) -> Iterator[None]:
    """Let no process of the node open anything: a new descriptor must be below the limit."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in processes(data)}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    yield
    for pid, limits in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def test_without_descriptors_nothing_is_acknowledged_and_with_them_everything_goes_on(
    world: World, data: Path
) -> None:
    flows = (Registering(world), Feeding(world), Merging(world), Reporting(world))
    images = (Storing(world), StoringByWeb(world))
    before = processes(data)
    with ThreadPoolExecutor(len(flows) + len(images)) as pool:
        with without_descriptors(data):
            attempts = [pool.submit(acknowledged, flow) for flow in (*flows, *images)]
            done, _ = wait(attempts, 1.0)  # what waits to be accepted is served afterwards
            assert done
            assert not any(attempt.result() for attempt in done)
        wait(attempts)
    for flow in (*flows, *images):
        await_(partial(acknowledged, flow))
        flow.look(acknowledged=True)
        await_(partial(settled, flow))
    after = processes(data)
    assert after.keys() == before.keys()
    assert all(after[pid] < before[pid] + 20 for pid in after)
