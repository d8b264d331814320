"""Killed between two steps, then started again: nothing is lost, nothing is doubled.

Every other point, and what else can happen there, is in ``test_fault_points``.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlopen

import pytest
from pydicom.data import get_testdata_file

from manifest.kos import Manifest
from tests.system.conftest import Nodes, RunningNode, await_

# CR studies of one patient, as pydicom's wheel carries them.
STUDIES = "dicomdirtests/77654033"
PATIENT = "77654033"


@pytest.fixture(scope="module")
def images() -> Path:
    """A folder of real images of one patient: two studies, seven images."""
    readme = get_testdata_file("dicomdirtests/README.txt") or get_testdata_file("CT_small.dcm")
    assert readme is not None
    folder = Path(str(readme)).parent
    return (folder if folder.name == "dicomdirtests" else folder / "dicomdirtests") / PATIENT


def manifests(node: RunningNode) -> list[Manifest]:
    """The manifests of the patient's studies that may be seen now."""
    us = node.consumer()
    return [us.open_manifest(entry) for entry in us.find_documents(node.patient(PATIENT))]


def assert_everything_is_there_once(node: RunningNode, images: Path, folder: Path) -> None:
    """Two studies, one manifest each, every image as it was sent."""
    found = manifests(node)
    assert len(found) == len({one.study.study_instance_uid for one in found}) == 2
    us = node.consumer()
    reports = [us.fetch_images(one, folder) for one in found]
    assert all(report.complete for report in reports)
    fetched = sorted(pixels(path) for report in reports for path in report.fetched)
    assert fetched == sorted(pixels(path) for path in images.rglob("*") if path.is_file())


def pixels(path: Path) -> bytes:
    """What identifies an image: its data set's last bytes are its pixels."""
    return path.read_bytes()[-1024:]


@pytest.mark.parametrize("point", ["registry.before_commit", "publisher.after_send"])
def test_a_kill_on_the_way_to_the_registry_loses_and_doubles_nothing(
    point: str,
    nodes: Nodes,
    images: Path,
    tmp_path: Path,
) -> None:
    node = nodes.start(fault=f"{point}:kill")
    assert node.announce(PATIENT) == "AA"
    assert set(node.store([images])) == {0}
    node.await_log("process died")
    node.stop()

    node = nodes.start()

    await_(lambda: len(manifests(node)) == 2)
    assert_everything_is_there_once(node, images, tmp_path / "fetched")


def test_images_acknowledged_before_a_kill_are_published_after_it(
    nodes: Nodes,
    images: Path,
    tmp_path: Path,
) -> None:
    node = nodes.start(fault="imaging.stored:kill")
    assert node.announce(PATIENT) == "AA"
    assert None in node.store([images])  # the first is stored, its answer never comes
    node.await_log("process died")
    node.stop()

    node = nodes.start()
    assert set(node.store([images])) == {0}  # the sender tries again, with everything

    await_(lambda: len(manifests(node)) == 2)
    assert_everything_is_there_once(node, images, tmp_path / "fetched")


def test_what_a_kill_left_undescribed_is_described_after_it(nodes: Nodes, images: Path) -> None:
    node = nodes.start(fault="imaging.described:kill")
    node.store([images])
    node.await_log("process died")
    node.stop()

    node = nodes.start()

    studies = json.loads(asked(f"{node.endpoints['dicomweb']}/studies"))
    for study in studies:
        [url] = study["00081190"]["Value"]
        instances = json.loads(asked(f"{url}/metadata"))
        assert len(instances) == study["00201208"]["Value"][0]
    assert studies


def asked(url: str) -> bytes:
    """What the node answers to a GET."""
    with urlopen(url) as answer:
        body: bytes = answer.read()
    return body


def test_a_node_asked_to_stop_stops_cleanly(nodes: Nodes) -> None:
    assert nodes.start().stop() == 0
