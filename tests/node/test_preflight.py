"""What ``kosmos serve`` refuses before anything starts: one line that names the key or the file."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from node.init import NewNode, create

Kosmos = Callable[..., subprocess.CompletedProcess[str]]


def only_line(told: subprocess.CompletedProcess[str]) -> str:
    """What it said: nothing has started if it said no more."""
    (line,) = told.stderr.splitlines()
    return line


def test_every_port_that_is_taken_is_named_with_its_key(kosmos: Kosmos, plain_node: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as feed,
        socket.create_server(("127.0.0.1", 0)) as images,
    ):
        mllp, dicom = feed.getsockname()[1], images.getsockname()[1]
        text = plain_node.read_text()
        text = text.replace("[imaging_source]", f"[imaging_source]\nport = {dicom}")
        plain_node.write_text(text + f"\n[mllp]\nport = {mllp}\n")
        told = kosmos("serve", "--config", plain_node)
    assert told.returncode == 1
    assert only_line(told) == (
        f"kosmos: cannot listen at 127.0.0.1:{mllp} (mllp.port: taken),"
        f" 127.0.0.1:{dicom} (imaging_source.port: taken)"
    )


def test_a_port_cannot_be_that_of_two_listeners(
    kosmos: Kosmos, plain_node: Path, port_base: int
) -> None:
    text = plain_node.read_text()
    both = f"http_port = {port_base}\nadmin_port = {port_base}"
    plain_node.write_text(text.replace("[node]", f"[node]\n{both}", 1))
    told = kosmos("serve", "--config", plain_node)
    assert told.returncode == 1
    assert f"127.0.0.1:{port_base} (node.admin_port: taken)" in only_line(told)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('codes = "codes.toml"', 'codes = "nowhere.toml"', "nowhere.toml"),
        ('data_dir = "data"', 'data_dir = "kosmos.toml/data"', "node.data_dir"),
        ('data_dir = "data"', 'data_dir = "/proc/nowhere"', "node.data_dir"),
    ],
)
def test_a_place_that_cannot_be_used_is_named(
    old: str, new: str, named: str, kosmos: Kosmos, plain_node: Path
) -> None:
    plain_node.write_text(plain_node.read_text().replace(old, new))
    told = kosmos("serve", "--config", plain_node)
    assert told.returncode == 3
    assert named in only_line(told)


@pytest.mark.parametrize("file", ["node.pem", "node.key", "ca.pem", "issuer.pem", "issuer.key"])
def test_a_missing_file_of_a_secure_node_is_named(
    file: str, kosmos: Kosmos, tmp_path: Path
) -> None:
    config = create(NewNode(tmp_path / "node", port_base=0))
    (config.parent / "pki" / file).unlink()
    told = kosmos("serve", "--config", config)
    assert told.returncode == 3
    assert file in only_line(told)


def test_a_missing_policy_is_named(kosmos: Kosmos, tmp_path: Path) -> None:
    config = create(NewNode(tmp_path / "node", port_base=0))
    config.write_text(config.read_text() + '\n[policy]\nfile = "nowhere.toml"\n')
    told = kosmos("serve", "--config", config)
    assert told.returncode == 3
    assert "policy.file" in only_line(told)
