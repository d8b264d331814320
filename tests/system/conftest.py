"""A whole node, run as a person runs it, by ``kosmos serve``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from consumer.client import Consumer
from hl7.client import MllpClient
from imaging_source.requestor import Peer
from metadata.datatypes import CX
from node import feed
from node.init import NewNode, create
from node.storescu import find_files, send
from tests import nursery

T = TypeVar("T")

# Longer than any machine needs; a test that waits so long has failed.
PATIENCE_SECONDS = 60.0

KOSMOS = (sys.executable, "-m", "node.cli")


def await_(look: Callable[[], T | None]) -> T:
    """What ``look`` returns once it is no longer None or False."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        pause.wait(0.05)
    raise AssertionError("waited in vain")


@dataclass
class RunningNode:
    """A node that serves; ``endpoints`` as its line ``ready`` named them."""

    config: Path
    process: subprocess.Popen[str] | nursery.Process
    endpoints: dict[str, str]
    lines: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """What its configuration file says."""
        return tomllib.loads(self.config.read_text())

    def patient(self, identifier: str) -> str:
        """A patient identifier of its affinity domain."""
        return CX.of(identifier, self.settings["affinity_domain"]["assigning_authority"])

    def consumer(self) -> Consumer:
        """A consumer that knows this node alone."""
        return Consumer(
            self.endpoints["registry"],
            {self.settings["repository"]["unique_id"]: self.endpoints["repository"]},
            {self.settings["imaging_source"]["unique_id"]: self.endpoints["imaging"]},
        )

    def announce(self, identifier: str) -> str:
        """Announce a patient by ITI-8; the acknowledgement code."""
        authority = self.settings["affinity_domain"]["assigning_authority"]
        host, port = self.endpoints["mllp"].split(":")
        with MllpClient(host, int(port)) as client:
            answer = client.send(feed.announce(feed.Person(identifier, "DOE^JANE"), authority))
        return feed.acknowledgement(answer)[0]

    def store(self, files: Iterable[Path]) -> list[int | None]:
        """Send images by C-STORE; the status of each, None where no answer came."""
        host, port = self.endpoints["dicom"].partition("@")[2].split(":")
        answers = send(find_files(files), Peer("KOSMOS", host, int(port)))
        return [answer.status for answer in answers]

    def logged(self, event: str) -> bool:
        """Whether a line of the log tells of ``event``."""
        return any(f'"event": "{event}"' in line for line in list(self.lines))

    def await_log(self, event: str) -> None:
        """Wait until the log tells of ``event``."""
        await_(lambda: self.logged(event))

    def stop(self) -> int:
        """End it as an operator would; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


class Nodes:
    """Starts one node's processes, again and again on the same folder."""

    plain = True
    forked = True
    """Whether their code is read before they start (see ``nursery``), where that can be."""

    def __init__(self, folder: Path, port_base: int = 0) -> None:
        self.config = folder / "node" / "kosmos.toml"
        self.program: Sequence[str] = KOSMOS
        self.running: list[RunningNode] = []
        create(NewNode(self.config.parent, plain=self.plain, port_base=port_base))

    def start(self, fault: str = "", **overrides: str) -> RunningNode:
        """Serve; ``fault`` names a fault point and what happens there."""
        environment = {
            **os.environ,
            "KOSMOS_FAULT": fault,
            "KOSMOS__IMAGING_SOURCE__QUIET_SECONDS": "0.5",
            **overrides,
        }
        node = RunningNode(self.config, self._process(fault, environment), {})
        threading.Thread(target=self._read, args=(node,), daemon=True).start()
        self.running.append(node)
        line = await_(lambda: _ready(node))
        node.endpoints = dict(word.split("=", 1) for word in line.split()[1:])
        return node

    def _process(
        self, fault: str, environment: dict[str, str]
    ) -> subprocess.Popen[str] | nursery.Process:
        arguments = ["serve", "--config", str(self.config)]
        if self.forked and not fault and self.program is KOSMOS:
            return nursery.Process(arguments, environment)
        return subprocess.Popen(  # what happens at fault points is decided when code is read
            [*self.program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def _read(self, node: RunningNode) -> None:
        assert node.process.stdout is not None
        with node.process.stdout as lines:
            node.lines.extend(iter(lines.readline, ""))

    def close(self) -> None:
        """Leave nothing running; what was logged is shown when the test fails."""
        sys.stdout.writelines(line for node in self.running for line in node.lines)
        for node in self.running:
            if node.process.poll() is None:
                node.stop()


def _ready(node: RunningNode) -> str | None:
    return next((line for line in list(node.lines) if line.startswith("ready ")), None)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.close()
