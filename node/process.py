"""What every process of a node does around its work: settings, signals, logs, a last word.

An error that ends a process becomes one line of its log, without a traceback, and an exit code
that the supervisor hands on.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from node import logs
from node.config import Settings
from node.config_file import ConfigError, load
from node.lifeline import Lifeline
from node.texts import use

log = structlog.get_logger(__name__)

# As for commands (node.cli.exits): 1 failed, 3 configuration.
FAILED, CONFIGURATION = 1, 3

Work = Callable[[Settings, argparse.Namespace, Lifeline], None]


def run_process(name: str, arguments: argparse.ArgumentParser, work: Work) -> None:
    """Read the arguments and the configuration, then do ``work`` until it returns."""
    arguments.add_argument("config", type=Path)
    arguments.add_argument("--lifeline", type=int, required=True)
    given = arguments.parse_args()
    # Ctrl-C goes to every process of the terminal; the supervisor says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Reloads what can be: for who has nothing to reload, and until that is known, nothing.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        settings = load(given.config)
    except ConfigError as error:
        sys.exit(_refused(error))
    use(settings.node.language or "en")
    logs.configure(name, settings.node.log_format, settings.node.log_level)
    try:
        work(settings, given, Lifeline(given.lifeline))
    except ConfigError as error:
        sys.exit(_refused(error))
    except Exception as error:
        log.critical("process cannot go on", code="NODE-FAILED", exc_info=error)
        sys.exit(FAILED)


def _refused(error: ConfigError) -> int:
    sys.stderr.write(f"kosmos: {error}\n")
    return CONFIGURATION
