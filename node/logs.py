"""Logs: one JSON object a line for machines, a coloured line for a person on a terminal.

Every event carries the node's process and, within a call, its correlation id (wsa:MessageID,
MSH-10). Health data never gets here: events name ids of messages and counts, an exception is
logged by class and place without its text, and libraries whose messages quote data sets are
silent, Python's own warnings included. structlog and ``logging`` meet in one formatter: a line
costs about 20 us, so that every call can have one.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn, TextIO

import structlog
from structlog.contextvars import get_contextvars
from structlog.typing import EventDict, WrappedLogger

# These print message bodies or a line a request when left to themselves.
QUIET_LIBRARIES = ("urllib3", "uvicorn", "asyncio", "alembic")
# The warnings and errors of these quote the values of data elements: a name, a patient ID.
SILENT_LIBRARIES = ("pynetdicom", "pydicom")
# What every LogRecord has; the rest of its attributes were given as ``extra``.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
# Under this name a structlog event travels in its LogRecord, whatever its keys are called.
FIELDS = "kosmos_fields"


def configure(process: str, style: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Send all logs of this process, ours and the libraries', to ``stream``.

    ``style`` is ``json``, ``console`` or ``auto`` (console on a terminal), ``level`` the least
    severe name that is written.
    """
    console = style == "console" or (style == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ConsoleFormatter(process) if console else JsonFormatter(process))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # A listener that cannot write its log still serves; it does not print about it either.
    logging.raiseExceptions = False
    # No line tells thread, process or source line: looking them up took a third of a line's time.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in SILENT_LIBRARIES:
        # Above CRITICAL, the level that ``logging`` knows as the last one.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    if not sys.warnoptions:  # pydicom warns of a value by quoting it; -W brings it back
        warnings.simplefilter("ignore")
    threading.excepthook = _tell_end_of_thread
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _into_record,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def hush() -> None:
    """Write nothing: a command tells its outcome itself, and its output is for scripts to read."""
    logging.getLogger().addHandler(logging.NullHandler())
    structlog.configure(processors=[_drop])


def _drop(_logger: WrappedLogger, _method: str, _event: EventDict) -> NoReturn:
    raise structlog.DropEvent


def event_of(record: logging.LogRecord, process: str) -> dict[str, Any]:
    """What a line says: time, level, process, event, the context's and the event's own fields."""
    fields = getattr(record, FIELDS, None)
    if fields is None:
        fields = {key: value for key, value in vars(record).items() if key not in STANDARD}
    event: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "process": process,
        "logger": record.name,
        "event": _message_of(record),
        **get_contextvars(),
        **fields,
    }
    error = _error_of(event.pop("exc_info", None) or record.exc_info)
    return event if error is None else {**event, **describe(error)}


def describe(error: BaseException) -> dict[str, Any]:
    """What was raised and where, without the exception's text: it may quote a patient.

    An OSError's reason comes from the operating system and is kept.
    """
    chain = list(_chain(error))
    frames = traceback.extract_tb(error.__traceback__)
    told: dict[str, Any] = {
        "exception": " from ".join(type(link).__qualname__ for link in chain),
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    reasons = [link.strerror for link in chain if isinstance(link, OSError) and link.strerror]
    return {**told, "reason": reasons[0]} if reasons else told


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process
        # json.dumps would make an encoder for every line: a third of a line's time.
        self._encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``."""
        return self._encode(event_of(record, self._process))


class ConsoleFormatter(logging.Formatter):
    """A line for a person."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process
        self._render = structlog.dev.ConsoleRenderer(timestamp_key="time")

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``."""
        return self._render(None, record.levelname, event_of(record, self._process))


def _into_record(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> tuple[tuple[str], dict[str, Any]]:
    # The arguments of a call of ``logging``.
    return (str(event.pop("event", "")),), {"extra": {FIELDS: event}}


def _message_of(record: logging.LogRecord) -> str:
    """The message; of asyncio's only the first line, for the others show what was raised."""
    message = record.getMessage()
    return message.partition("\n")[0] if record.name == "asyncio" else message


def _tell_end_of_thread(end: threading.ExceptHookArgs) -> None:
    """Log what a thread died of; left to itself it would print the exception with its text."""
    name = end.thread.name if end.thread else ""
    log = structlog.get_logger("kosmos.node")
    log.critical("thread ended", code="NODE-THREAD", thread=name, exc_info=end.exc_value)


def _error_of(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    if isinstance(exc_info, BaseException):
        return exc_info
    return sys.exception() if exc_info is True else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
