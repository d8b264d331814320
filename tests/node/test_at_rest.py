"""A node whose documents and images are sealed: served as ever, unreadable without its keys."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from pydicom import dcmread
from pydicom.data import get_testdata_file

from imaging_source.requestor import Peer
from node import backup, restore
from node.check import check_all
from node.config_file import ConfigError, load
from node.init import NewNode, create
from node.progress import silent
from node.sealing import new_key, rotate, seal
from node.storescu import find_files, send
from node.texts import tr
from node.wiring.blobs import open_blobs, open_images
from node.wiring.keys import open_keys
from soap.client import SoapClient
from soap.message import InMemory
from storage.keys import add_key
from tests.node.conftest import Node, free_ports
from tests.node.test_backup import Sender
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest
from transactions.rad_69 import (
    RAD_69,
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)

CANARY = b"CANARY-OF-THE-MINE"
DICOM = 'multipart/related; type="application/dicom"'
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
Kosmos = Callable[..., subprocess.CompletedProcess[str]]


class Sealed:
    """A node that served with ``at_rest``, and what it handed over meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.config = create(NewNode(folder / "node", plain=True, port_base=free_ports()))
        enable(self.config)
        new_key(load(self.config))
        self.image = image(folder)
        node = Node(self.config)
        try:
            self.document = self._document(node, folder)
            self.retrieved = self._retrieved(node)
            self._send(node)
            self.images = list(self._images(node))
            self.made = self._made(node)
        finally:
            self.stopped = node.stop()

    def _document(self, node: Node, folder: Path) -> str:
        sender = Sender(node, folder)
        sender.file = folder / f"{CANARY.decode()}.txt"  # its name is its content
        sender.announce()
        sender.submit()
        sender.client.close()
        return sender.accepted[0]

    def _retrieved(self, node: Node) -> bytes:
        wanted = DocumentRequest(load(self.config).repository.unique_id, self.document)
        return self._call(node, "repository", ITI_43, RetrieveDocumentSetRequest((wanted,)))

    def _send(self, node: Node) -> None:
        host, port = node.endpoints["dicom"].partition("@")[2].split(":")
        files = list(find_files([self.image.parent]))
        [answer] = send(files, Peer("KOSMOS", host, int(port)))
        assert answer.status == 0

    def _images(self, node: Node) -> Iterator[bytes]:
        """The pixels by RAD-69, by WADO-RS, and as a frame."""
        dataset = dcmread(self.image)
        here = load(self.config).imaging_source.unique_id
        series = SeriesRequest(
            dataset.SeriesInstanceUID, (DocumentRequest(here, dataset.SOPInstanceUID),)
        )
        study = StudyRequest(dataset.StudyInstanceUID, (series,))
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        asked = RetrieveImagingDocumentSetRequest((study,), (syntax,))
        yield self._call(node, "imaging", RAD_69, asked)
        yield self._get(
            node, "", f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
        )
        yield self._get(node, "/frames/1", 'multipart/related; type="application/octet-stream"')

    def _made(self, node: Node) -> tuple[bytes, bytes]:
        """What workers make of the sealed file: a picture, and a variant that is kept."""
        other = self._get(node, "", f"{DICOM}; transfer-syntax={JPEG_2000_LOSSLESS}")
        return self._get(node, "/rendered", "image/jpeg"), other

    def _call(self, node: Node, where: str, exchange: Any, request: Any) -> bytes:
        client = SoapClient()
        try:
            response = client.call(node.endpoints[where], exchange, request)
            [document] = response.documents
            return b"".join(document.content.chunks())
        finally:
            client.close()

    def _get(self, node: Node, rest: str, accept: str) -> bytes:
        uids = dcmread(self.image, stop_before_pixels=True)
        place = (
            f"{node.endpoints['dicomweb']}/studies/{uids.StudyInstanceUID}/series/"
            f"{uids.SeriesInstanceUID}/instances/{uids.SOPInstanceUID}{rest}"
        )
        answer = urllib3.request("GET", place, headers={"accept": accept}, timeout=30.0)
        assert answer.status == 200, answer.data
        return answer.data


def enable(config: Path) -> None:
    with config.open("a") as file:
        file.write('\n[at_rest]\nenabled = true\nkeys = "../keys"\n')


def image(folder: Path) -> Path:
    """A real image, with the canary in its pixels."""
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.PixelData = CANARY + dataset.PixelData[len(CANARY) :]
    (folder / "image").mkdir()
    dataset.save_as(folder / "image" / "one.dcm")
    return folder / "image" / "one.dcm"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return Sealed(tmp_path_factory.mktemp("served"))


@pytest.fixture
def config(served: Sealed, tmp_path: Path) -> Path:
    """The configuration of a copy of the node, which does not serve."""
    root = served.config.parent.parent
    shutil.copytree(root / "node", tmp_path / "node")
    shutil.copy(root / "keys", tmp_path / "keys")
    return tmp_path / "node" / "kosmos.toml"


def contents(config: Path) -> list[bytes]:
    """Every document and image of a node, in the clear."""
    settings = load(config)
    return sorted(
        b"".join(store.open(blob.sha256).chunks())
        for store in (open_blobs(settings), open_images(settings))
        for blob in store.inventory()
    )


def at_rest(config: Path) -> str:
    [found] = [one for one in check_all(load(config)) if one.subject == "at_rest"]
    return found.text


def test_a_sealed_node_serves_what_it_was_given(served: Sealed) -> None:
    assert CANARY in served.retrieved
    assert all(CANARY in data for data in served.images)
    assert served.made[0][:2] == b"\xff\xd8"
    assert JPEG_2000_LOSSLESS.encode() in served.made[1]
    assert served.stopped == 0


def test_a_stolen_folder_shows_nothing_of_documents_and_images(served: Sealed) -> None:
    files = [path for path in served.config.parent.rglob("*") if path.is_file()]
    names = {
        path.relative_to(served.config.parent).parts[1] for path in files if len(path.name) > 60
    }
    assert names >= {"documents", "images", "transcoded"}
    assert not [path for path in files if CANARY in path.read_bytes()]
    assert sum(CANARY in data for data in contents(served.config)) == 2


def test_no_key_or_another_one_stops_a_start_and_names_it(
    config: Path, tmp_path: Path, kosmos: Kosmos
) -> None:
    used = (tmp_path / "keys").read_text().split()[0]
    (tmp_path / "keys").rename(tmp_path / "away")
    refused = kosmos("serve", "--config", config)
    assert (refused.returncode, "at_rest.keys" in refused.stderr) == (3, True)
    add_key(tmp_path / "keys")
    refused = kosmos("serve", "--config", config)
    assert (refused.returncode, used in refused.stderr) == (3, True)
    text = config.read_text()
    config.write_text(text[: text.index("[at_rest]")])
    with pytest.raises(ConfigError, match=used):
        open_keys(load(config))


def test_rotation_lets_the_old_key_go(config: Path, tmp_path: Path) -> None:
    before = contents(config)
    old = (tmp_path / "keys").read_text()
    new = new_key(load(config))
    done = rotate(load(config), silent)
    assert (done.files, done.changed) == (2, 3)  # and the variant that was made
    assert done.retired == [old.split()[0]]
    (tmp_path / "keys").write_text((tmp_path / "keys").read_text().removeprefix(old))
    open_keys.__globals__["_opened"].cache_clear()  # as another process would begin
    assert contents(config) == before
    assert new in at_rest(config)
    assert rotate(load(config), silent).changed == 0


def test_what_lay_there_before_is_sealed_when_asked_for(config: Path) -> None:
    settings = load(config)
    os.environ["KOSMOS__AT_REST__ENABLED"] = "false"
    try:
        open_blobs(load(config)).keep(InMemory(CANARY))
        assert tr("off: documents and images lie unencrypted") == at_rest(config)
        with pytest.raises(ConfigError):
            seal(load(config), silent)
    finally:
        del os.environ["KOSMOS__AT_REST__ENABLED"]
    assert "kosmos keys seal" in at_rest(config)
    assert seal(settings, silent).changed == 1
    assert "kosmos keys seal" not in at_rest(config)
    assert all(blob.sealed for blob in open_blobs(settings).inventory())


def test_a_backup_is_sealed_too_and_needs_the_keys_to_become_a_node(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup.create(load(config), config, tmp_path / "backups")
    assert not made.alarm
    copied = [path for path in made.folder.rglob("*") if path.is_file()]
    assert [path for path in copied if path.suffix == ".sealed"]
    assert not [path for path in copied if CANARY in path.read_bytes()]
    for name in made.stores:
        command = ["sha256sum", "--check", "--quiet", f"{name}.sha256"]
        assert subprocess.run(command, cwd=made.folder, check=False).returncode == 0
    used = (tmp_path / "keys").read_text().split()[0]

    monkeypatch.setenv("KOSMOS__AT_REST__KEYS", str(tmp_path / "others"))
    add_key(tmp_path / "others")
    with pytest.raises(ConfigError, match=used):
        restore.restore(made.folder, tmp_path / "refused")
    monkeypatch.setenv("KOSMOS__AT_REST__KEYS", str(tmp_path / "keys"))
    restored = restore.restore(made.folder, tmp_path / "anew")
    assert not restored.alarm
    assert contents(restored.config) == contents(config)


def test_a_second_backup_links_what_is_sealed_alike(config: Path, tmp_path: Path) -> None:
    first = backup.create(load(config), config, tmp_path / "backups")
    first.folder.rename(first.folder.with_name("20000101T000000Z"))
    second = backup.create(load(config), config, tmp_path / "backups")
    assert [one.linked for one in second.stores.values()] == [
        one.count for one in second.stores.values()
    ]
    second.folder.rename(second.folder.with_name("20000102T000000Z"))
    new_key(load(config))
    rotate(load(config), silent)
    third = backup.create(load(config), config, tmp_path / "backups")
    assert [one.linked for one in third.stores.values()] == [0, 0]


def test_damage_in_a_sealed_file_is_told_by_the_backup(config: Path, tmp_path: Path) -> None:
    [document] = (config.parent / "data" / "documents").glob("*/*.sealed")
    damaged = bytearray(document.read_bytes())
    damaged[-1] ^= 1
    document.write_bytes(damaged)
    made = backup.create(load(config), config, tmp_path / "backups")
    assert made.stores["documents"].damaged == [document.name.removesuffix(".sealed")]
