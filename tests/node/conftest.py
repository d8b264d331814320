"""Configuration files of nodes, running nodes, and the command, as a person has them."""

import io
import logging
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import structlog
import urllib3

from node import cli, logs, texts
from node.config import ENVIRONMENT_PREFIX
from node.init import NewNode, create
from tests import nursery

MINIMAL = """\
[node]
home_community_id = "1.2.3.4"

[affinity_domain]
assigning_authority = "1.2.3.5"

[registry]

[repository]
unique_id = "1.2.3.6"

[imaging_source]
unique_id = "1.2.3.7"

[tls]
enabled = false
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests gets into them."""
    for variable in list(os.environ):
        if variable.startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(variable)


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Writes the minimal file with ``old`` replaced by ``new``; the file's path."""

    def write(old: str = "", new: str = "") -> Path:
        assert old in MINIMAL
        file = tmp_path / "kosmos.toml"
        file.write_text(MINIMAL.replace(old, new, 1) if old else MINIMAL + new)
        return file

    return write


@pytest.fixture
def plain_node(tmp_path: Path) -> Path:
    """The configuration file of a fresh plain node on ports of the system's choice."""
    return create(NewNode(tmp_path / "node", plain=True, port_base=0))


class Node:
    """A node served by the real command, in processes of its own."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.log = config.with_name("node.log")
        with self.log.open("w") as log:
            self.process = nursery.Process(["serve", "--config", str(config)], stderr=log)
        self.ready_line = self.process.stdout.readline().strip()
        self.endpoints = dict(part.split("=", 1) for part in self.ready_line.split()[1:])

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.terminate()
        self.process.communicate(timeout=30)
        return self.process.wait()

    def child(self, name: str) -> int:
        """The process id of one of its processes."""
        return int((self.config.parent / "data" / "run" / f"{name}.pid").read_text())

    def get(self, url: str) -> tuple[int, str]:
        """Status and body of a plain GET."""
        answer = urllib3.request("GET", url, retries=False, timeout=10.0)
        return answer.status, answer.data.decode()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Node]]:
    """Starts nodes and stops what is still running at the end."""
    nodes: list[Node] = []

    def start(config: Path) -> Node:
        nodes.append(Node(config))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            node.stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One plain node for the tests of a module that leave it as it is."""
    folder = tmp_path_factory.mktemp("running") / "node"
    config = create(NewNode(folder, plain=True, port_base=free_ports()))
    quick = config.read_text().replace("[imaging_source]", "[imaging_source]\nquiet_seconds = 0.2")
    config.write_text(quick)
    node = Node(config)
    yield node
    assert node.stop() == 0, node.log.read_text()


def free_ports() -> int:
    """The first of five ports in a row that nobody uses, another one for each worker's test."""
    while True:
        # Below the demonstration's ports (18080) and those the system gives out (32768).
        base = 10000 + 5 * secrets.randbelow(1600)
        try:
            for port in range(base, base + 5):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return base


@pytest.fixture
def port_base() -> int:
    """A free block of ports for a node."""
    return free_ports()


@pytest.fixture
def kosmos(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs the command in this process, for its imports cost a second; exit code and output."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        given = [str(argument) for argument in arguments]
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as context, redirect_stdout(out), redirect_stderr(err):
            for name, value in ({"LC_ALL": "C"} | environment).items():
                context.setenv(name, value)
            with pytest.raises(SystemExit) as left:
                cli.main(given)
        code = left.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(given, code, out.getvalue(), err.getvalue())

    yield run
    texts.use("en")
    structlog.reset_defaults()


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What this process logs for machines, as a served one would."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    written = io.StringIO()
    logs.configure("web-0", "json", "info", written)
    yield written
    root.handlers[:], root.level = before
    structlog.reset_defaults()
