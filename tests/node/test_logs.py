"""What a log line holds, and what it never holds."""

import asyncio
import contextlib
import gc
import io
import json
import logging
import threading
import time
import warnings
from typing import Any

import pytest
import structlog

from node import logs
from soap.service import Ended

PATIENT = "DUPONT^JEANNE"


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_tells_time_process_and_event(stream: io.StringIO) -> None:
    structlog.get_logger("room").info("study published", images=3)
    (line,) = lines(stream)
    assert line["event"] == "study published"
    assert line["images"] == 3
    assert (line["process"], line["level"], line["logger"]) == ("web-0", "info", "room")
    assert line["time"].endswith("+00:00")


def test_the_correlation_id_reaches_logs_of_both_kinds(stream: io.StringIO) -> None:
    with logs.within_call("urn:uuid:1"):
        structlog.get_logger("ours").info("one")
        logging.getLogger("library").warning("two %s", "words", extra={"peer": "10.0.0.1"})
    assert [line["correlation_id"] for line in lines(stream)] == ["urn:uuid:1"] * 2
    assert lines(stream)[1]["event"] == "two words"
    assert lines(stream)[1]["peer"] == "10.0.0.1"


def test_every_call_has_a_line(stream: io.StringIO) -> None:
    logs.tell_calls([Ended("urn:ihe:a", "ok", 1.5, 0.00234, 1, 2, 'urn:"uuid":1', "10.0.0.1")])
    (line,) = lines(stream)
    assert line == {
        "time": "1970-01-01T00:00:01.500+00:00",
        "level": "info",
        "process": "web-0",
        "logger": "soap.call",
        "event": "call",
        "action": "urn:ihe:a",
        "outcome": "ok",
        "correlation_id": 'urn:"uuid":1',
        "peer": "10.0.0.1",
        "milliseconds": 2.3,
    }


@pytest.mark.parametrize(("level", "count"), [("info", 2), ("warning", 0)])
@pytest.mark.parametrize("style", ["json", "console"])
def test_the_line_of_a_call_follows_style_and_level(
    stream: io.StringIO, style: str, level: str, count: int
) -> None:
    logs.configure("web-0", style, level, stream)
    logs.tell_calls([Ended("urn:ihe:a", "ok", 1.5, 0.1, 1, 2, "urn:uuid:1", "10.0.0.1")] * 2)
    text = stream.getvalue()
    assert text.count("urn:uuid:1") == text.count("\n") == count
    assert text.startswith("{") is (style == "json" and count > 0)


def test_a_line_that_cannot_be_written_stops_nobody(stream: io.StringIO) -> None:
    stream.close()
    logs.tell_calls([Ended("urn:ihe:a", "ok", 1.5, 0.1, 1, 2)])


def test_an_exception_is_told_without_its_text(stream: io.StringIO) -> None:
    try:
        try:
            raise KeyError(PATIENT)
        except KeyError as error:
            raise ValueError(f"no such patient {PATIENT}") from error
    except ValueError:
        structlog.get_logger("ours").exception("call failed")
        logging.getLogger("library").exception("call failed")
    assert PATIENT not in stream.getvalue()
    for line in lines(stream):
        assert line["exception"] == "ValueError from KeyError"
        assert "test_logs.py" in line["trace"][-1]


def test_dicom_libraries_quote_nothing(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    for library in ("pydicom", "pynetdicom", "pynetdicom.acse", "pydicom.charset"):
        logging.getLogger(library).critical("Invalid value for VR DA: %r", PATIENT)
    warnings.warn(f"Invalid value for VR PN: {PATIENT}", UserWarning, stacklevel=1)
    assert stream.getvalue() == ""
    assert capsys.readouterr().err == ""


def test_a_thread_that_dies_is_told_without_the_text_of_its_error(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    def die() -> None:
        raise ValueError(PATIENT)

    thread = threading.Thread(target=die, name="publisher")
    thread.start()
    thread.join()
    (line,) = lines(stream)
    assert (line["code"], line["thread"], line["exception"]) == (
        "NODE-THREAD",
        "publisher",
        "ValueError",
    )
    assert PATIENT not in stream.getvalue()
    assert capsys.readouterr().err == ""


def test_a_task_that_nobody_awaited_is_told_without_the_text_of_its_error(
    stream: io.StringIO,
) -> None:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        future = loop.create_future()
        future.set_exception(ValueError(PATIENT))
        del future
        gc.collect()
    (line,) = lines(stream)
    assert line["event"] == "Future exception was never retrieved"
    assert PATIENT not in stream.getvalue()


def test_the_reason_of_the_operating_system_is_kept(stream: io.StringIO) -> None:
    error = PermissionError(13, "Permission denied", "/data/x")
    structlog.get_logger("ours").error("cannot write", exc_info=error)
    assert lines(stream)[0]["reason"] == "Permission denied"


def test_keys_that_logging_reserves_for_itself_may_be_used(stream: io.StringIO) -> None:
    structlog.get_logger("ours").info("50 % done", name="x", args=1, module="y")
    (line,) = lines(stream)
    assert (line["event"], line["name"], line["args"]) == ("50 % done", "x", 1)


def test_what_is_less_severe_than_asked_is_not_written(stream: io.StringIO) -> None:
    structlog.get_logger("ours").debug("detail")
    logging.getLogger("pynetdicom.assoc").info("data set")
    assert stream.getvalue() == ""


def test_a_person_gets_lines_and_not_json() -> None:
    record = logging.makeLogRecord({"msg": "hello", "levelname": "INFO", "created": time.time()})
    text = logs.ConsoleFormatter("web-0").format(record)
    assert "hello" in text
    assert not text.startswith("{")
