"""What every process of a node does around its work: settings, signals, logs, a last word.

An error that ends a process becomes one line of its log, without a traceback, and an exit code
that the supervisor hands on.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from node import logs
from node.config import Settings
from node.config_file import ConfigError, load
from node.lifeline import Lifeline
from node.texts import use

log = structlog.get_logger(__name__)

# As for commands (node.cli.exits): 1 failed, 3 configuration.
FAILED, CONFIGURATION = 1, 3

# Objects made between two looks for garbage: of a call's some hundred all go without the collector,
# whose looks at Python's 700 took a fiftieth of the time of a stored query.
COLLECT_EVERY = 10_000

Work = Callable[[Settings, Lifeline], None]


def enter(
    module: str, name: str, config: Path, line: socket.socket, given: Mapping[str, Any]
) -> None:
    """Be the process ``name``: the function ``main`` of ``module``, with what it was given."""
    gc.enable()  # off since node.preload
    gc.set_threshold(COLLECT_EVERY)
    with contextlib.suppress(OSError):  # what ps and top show; Linux alone has it
        Path("/proc/self/comm").write_text(f"kosmos {name}")
    importlib.import_module(module).main(config, line, **given)


def run_process(name: str, config: Path, line: socket.socket, work: Work) -> None:
    """Read the configuration, then do ``work`` until it returns."""
    # Ctrl-C goes to every process of the terminal; the supervisor says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Reloads what can be: for who has nothing to reload, and until that is known, nothing.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        settings = load(config)
    except ConfigError as error:
        sys.exit(_refused(error))
    use(settings.node.language or "en")
    logs.configure(name, settings.node.log_format, settings.node.log_level)
    try:
        work(settings, Lifeline(line))
    except ConfigError as error:
        sys.exit(_refused(error))
    except Exception as error:
        log.critical("process cannot go on", code="NODE-FAILED", exc_info=error)
        sys.exit(FAILED)


def _refused(error: ConfigError) -> int:
    sys.stderr.write(f"kosmos: {error}\n")
    return CONFIGURATION
