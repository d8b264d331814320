"""The nodes of the demonstration: one with every actor, one small repository beside it.

The small repository registers its documents at a port where nobody listens until the
conformance kit does: some cases need a registry that answers what the kit wants. Notifications
go to another such port, images that are moved (C-MOVE) to a third; reports come in at a fourth.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from conformance.dimse import CALLING
from conformance.material import SOURCE_ID
from metadata.datatypes import new_oid
from node.config import PID_FOLDER, Settings
from node.config_file import load
from node.endpoints import Endpoints
from node.init import NewNode, create
from node.texts import tr
from node.wiring.common import client_tls

# Ports of one node: HTTP to DICOM. Blocks are looked for below the ports that systems give out.
BLOCK, FIRST_PORT, LAST_PORT = 5, 18080, 28080
# The title of whoever takes what is moved.
MOVE_TITLE = "DEMO"
# A study of the demonstration is complete when its sender is done: no need to wait longer.
QUIET_SECONDS = 1
STOP_SECONDS = 30.0

SMALL_REPOSITORY = """\
# A repository whose registry is the simulator of the conformance kit.

[node]
name = "repository-facing-simulator"
port_base = {base}
home_community_id = "{home}"
log_format = "json"

[affinity_domain]
assigning_authority = "{authority}"

[repository]
unique_id = "{repository}"
registry = "http://127.0.0.1:{simulator}/registry"

[tls]
enabled = false
"""


# Languages and folder codes, which the sets that ship leave open, and who may submit.
CLOSED_DOMAIN = """\
languages = ["fr-FR", "en"]
source_ids = {sources}

{codes}
[codes.codeList]
"2.25.99" = ["IMAGING Imaging", "FOLLOWUP Follow-up"]
"""


# Whoever runs the demonstration is a doctor (ISCO-08), who may see what doctors may.
DOCTOR = (
    '{ code = "221", scheme = "2.16.840.1.113883.2.9.6.2.7", display_name = "Medical doctors" }'
)

# The kit may query under its own title too.
SOURCE = """\
[imaging_source]
quiet_seconds = {quiet}
query_titles = ["{kit}"]"""

MORE_PORTS = """
[subscriptions]
consumers = ["http://127.0.0.1:{listener}/"]

[imaging_source.peers]
{title} = "dicom://127.0.0.1:{move}"

[imaging_source.reports]
port = {reports}
"""

# The supervisor writes the new process id once the new process accepts.
CRASH_SCRIPT = """\
old=$(cat '{pid}')
kill -9 "$old"
while [ "$(cat '{pid}')" = "$old" ]; do sleep 0.1; done
"""


class NodeFailed(Exception):
    """A node of the demonstration did not start; the text names its log."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The running nodes and where everything is."""

    folder: Path
    config: Path
    settings: Settings
    endpoints: Endpoints
    tls: ssl.SSLContext | None
    """With which the nodes are called; None where they are plain."""
    simulated_repository: str
    simulator_port: int
    listener_port: int
    """Where the kit may be notified."""
    move_port: int
    """Where MOVE_TITLE takes what is moved to it."""
    crash: Path
    """A script that kills the small repository and returns when it is back."""
    restart: Path
    """The same for the node with every actor."""


@contextlib.contextmanager
def set_up(folder: Path, database: str | None = None, *, plain: bool = True) -> Iterator[Stage]:
    """Make both nodes below ``folder``, start them, stop them at the end. Raises NodeFailed.

    Where they are not ``plain``, whoever calls the first one shows a certificate, and an assertion
    of who he is; the small one is the kit's, which needs it plain. ``database`` is the URL of an
    empty PostgreSQL database that stands in for files.
    """
    base, small_base, simulator, listener, move, reports = _free_ports()
    config = create(NewNode(folder / "node", plain=plain, port_base=base, database=database))
    _adapt(config, listener, move, reports, plain=plain)
    settings = load(config)
    small = folder / "repository"
    small.mkdir()
    small_config = small / "kosmos.toml"
    small_config.write_text(
        SMALL_REPOSITORY.format(
            base=small_base,
            home=settings.node.home_community_id,
            authority=settings.affinity_domain.assigning_authority,
            repository=new_oid(),
            simulator=simulator,
        )
    )
    with ExitStack() as stack:
        nodes = [stack.enter_context(_serving(file)) for file in (config, small_config)]
        for node in nodes:
            node.wait_until_ready()
            # At the end both are told to stop before either is waited for.
            stack.callback(node.process.terminate)
        yield Stage(
            folder,
            config,
            settings,
            Endpoints.of(settings),
            client_tls(settings),
            f"http://127.0.0.1:{small_base}/repository",
            simulator,
            listener,
            move,
            _crash_script(small),
            _crash_script(config.parent),
        )


def _adapt(config: Path, listener: int, move: int, reports: int, *, plain: bool) -> None:
    """Publish soon, know us, have a domain that leaves nothing open.

    What a domain leaves open cannot be refused: some cases of the kit would have nothing to see.
    """
    made = load(config)
    text = config.read_text()
    text = text.replace("[imaging_source]", SOURCE.format(quiet=QUIET_SECONDS, kit=CALLING))
    text = text.replace("[affinity_domain]", '[affinity_domain]\nnamespace = "KOSMOS"')
    if not plain:
        # A test bed on this machine alone, as a plain one is.
        text = text.replace('host = "0.0.0.0"', 'host = "127.0.0.1"')
        for room in ("[registry]", "[repository]"):
            text = text.replace(room, f"{room}\nadministration = true")
        text = text.replace("[assertions.own]", f"[assertions.own]\nrole = {DOCTOR}")
    ports = MORE_PORTS.format(listener=listener, title=MOVE_TITLE, move=move, reports=reports)
    config.write_text(text + ports)
    # The kit, the two sources of this node, and whoever submits a document by its verbs.
    sources = (
        SOURCE_ID,
        made.repository.unique_id,
        made.imaging_source.unique_id,
        made.node.home_community_id,
    )
    codes = config.with_name("codes.toml")
    closed = CLOSED_DOMAIN.format(codes=codes.read_text(), sources=json.dumps(sources))
    codes.write_text(closed)


def _crash_script(node: Path) -> Path:
    script = node / "crash.sh"
    pid = node / "data" / PID_FOLDER / "web-0.pid"
    script.write_text(CRASH_SCRIPT.format(pid=pid))
    return script


@dataclass(frozen=True, slots=True)
class _Node:
    process: subprocess.Popen[str]
    log: Path

    def wait_until_ready(self) -> None:
        """Return when the node says ``ready``. Raises NodeFailed when it ends instead."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ready "):
                return
        raise NodeFailed(tr("a node did not start; its log is {file}", file=self.log))


@contextlib.contextmanager
def _serving(config: Path) -> Iterator[_Node]:
    log = config.with_name("node.log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "node.cli", "serve", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            # Ctrl-C is for the demonstration, which then stops its nodes.
            start_new_session=True,
        )
    try:
        yield _Node(process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


def _free_ports() -> tuple[int, int, int, int, int, int]:
    """A block of ports for each node, one each for simulator, listener, moves, reports.

    Raises NodeFailed.
    """
    width = 2 * BLOCK + 4
    starts = list(range(FIRST_PORT, LAST_PORT, width))
    # Two demonstrations that start together must not find the same ports free.
    first = secrets.randbelow(len(starts))
    for base in starts[first:] + starts[:first]:
        if all(_is_free(port) for port in range(base, base + width)):
            more = base + 2 * BLOCK
            return base, base + BLOCK, more, more + 1, more + 2, more + 3
    raise NodeFailed(tr("no free ports between {a} and {b}", a=FIRST_PORT, b=LAST_PORT))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
