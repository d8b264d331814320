"""Logs: one JSON object a line for machines, a coloured line for a person on a terminal.

Every event carries the node's process and, within a call, its correlation id (wsa:MessageID,
MSH-10). Health data never gets here: events name ids of messages and counts, an exception is
logged by class and place without its text, and libraries whose messages quote data sets are
silent, Python's own warnings included. structlog and ``logging`` meet in one formatter; the line
that every call has is written past both, which took a tenth of the time of a stored query.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from json.encoder import encode_basestring as quoted
from types import MappingProxyType
from typing import Any, NoReturn, TextIO

import structlog
from structlog.contextvars import get_contextvars
from structlog.typing import EventDict, WrappedLogger

from soap.service import Ended

# These print message bodies or a line a request when left to themselves.
QUIET_LIBRARIES = ("urllib3", "uvicorn", "asyncio", "alembic")
# The warnings and errors of these quote the values of data elements: a name, a patient ID.
SILENT_LIBRARIES = ("pynetdicom", "pydicom")
# What every LogRecord has; the rest of its attributes were given as ``extra``.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
# Under this name a structlog event travels in its LogRecord, whatever its keys are called.
FIELDS = "kosmos_fields"

# What every line within a call says.
_call: ContextVar[Mapping[str, str]] = ContextVar("call", default=MappingProxyType({}))
_calls = logging.getLogger("soap.call")
# What writes the lines of calls for machines; None where a person reads, or nobody.
_call_lines: CallLines | None = None


def configure(process: str, style: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Send all logs of this process, ours and the libraries', to ``stream``.

    ``style`` is ``json``, ``console`` or ``auto`` (console on a terminal), ``level`` the least
    severe name that is written.
    """
    global _call_lines
    console = style == "console" or (style == "auto" and stream.isatty())
    _call_lines = None if console else CallLines(process, stream)
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


def tell_calls(calls: Sequence[Ended]) -> None:
    """Write a line for each of the calls that have ended."""
    if not _calls.isEnabledFor(logging.INFO):
        return
    if _call_lines is not None:
        _call_lines.write(calls)
        return
    for call in calls:
        facts = {
            "action": call.action,
            "outcome": call.outcome,
            "correlation_id": call.correlation_id,
            "peer": call.peer,
            "milliseconds": round(call.seconds * 1000, 1),
        }
        _calls.info("call", extra={FIELDS: facts})


class CallLines:
    """The lines of calls, as ``JsonFormatter`` would write them."""

    def __init__(self, process: str, stream: TextIO) -> None:
        self._stream = stream
        self._who = f'"level": "info", "process": {quoted(process)}, "logger": "{_calls.name}"'

    def write(self, calls: Iterable[Ended]) -> None:
        """Write them; a stream that cannot be written to is no reason not to serve."""
        with suppress(OSError, ValueError):  # ValueError: of a stream that was closed
            self._stream.write("".join(map(self._line, calls)))
            self._stream.flush()

    def _line(self, call: Ended) -> str:
        return (
            f'{{"time": "{_time(call.at)}", {self._who}, "event": "call", '
            f'"action": {quoted(call.action)}, "outcome": "{call.outcome}", '
            f'"correlation_id": {quoted(call.correlation_id)}, "peer": {quoted(call.peer)}, '
            f'"milliseconds": {call.seconds * 1000:.1f}}}\n'
        )


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


class within_call:
    """What is logged within names the call. A class: it is entered thousands of times a second."""

    __slots__ = ("_correlation_id", "_token")

    def __init__(self, correlation_id: str) -> None:
        self._correlation_id = correlation_id

    def __enter__(self) -> None:
        self._token = _call.set({"correlation_id": self._correlation_id})

    def __exit__(self, *_error: object) -> None:
        _call.reset(self._token)


def event_of(record: logging.LogRecord, process: str) -> dict[str, Any]:
    """What a line says: time, level, process, event, the context's and the event's own fields."""
    fields = getattr(record, FIELDS, None)
    if fields is None:
        fields = {key: value for key, value in vars(record).items() if key not in STANDARD}
    event: dict[str, Any] = {
        "time": _time(record.created),
        "level": record.levelname.lower(),
        "process": process,
        "logger": record.name,
        "event": _message_of(record),
        **get_contextvars(),
        **_call.get(),
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
