"""From one node's trail into another's repository, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from security.audit import sender as sender_module
from security.audit.reading import BadAuditMessage, read_message
from security.audit.receiver import Receiver
from security.audit.schema import RECORD, SENT
from security.audit.sender import Sending, Target
from security.audit.syslog import Sender, frame
from security.audit.trail import Trail
from security.pki import Identity
from security.tls import client_context, server_context
from tests.security.audit.conftest import START, Open, message, record
from tests.security.listeners import event_loop

SENDER = Sender("north", "kosmos", "1")
PATIENCE_SECONDS = 20.0


@contextmanager
def receiving(
    trail: Trail, tls: ssl.SSLContext | None = None, port: int = 0, patience: float = 15.0
) -> Iterator[Receiver]:
    """A repository that puts what it gets into ``trail``."""
    receiver = Receiver(trail, "127.0.0.1", port, tls, patience=patience)
    with event_loop() as loop:
        asyncio.run_coroutine_threadsafe(receiver.start(), loop).result()
        try:
            yield receiver
        finally:
            asyncio.run_coroutine_threadsafe(receiver.stop(), loop).result()


@contextmanager
def sending(trail: Trail, url: str, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Keeps the repository at ``url`` up to date with ``trail``."""
    at_work = Sending(trail, Target.parse(url), SENDER, tls)
    at_work.start()
    try:
        yield
    finally:
        at_work.stop()


def messages(trail: Trail) -> list[bytes]:
    with trail.database.read() as connection:
        return list(connection.scalars(select(RECORD.c.message).order_by(RECORD.c.number)))


def await_count(trail: Trail, count: int) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.02)):
        with trail.database.read() as connection:
            if connection.scalar(select(func.count()).select_from(RECORD)) == count:
                return
        pause.wait(0.02)
    raise AssertionError("waited in vain")


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "_GATHER_SECONDS", 0.02)
    monkeypatch.setattr(sender_module, "FIRST_PAUSE", 0.02)


def some(first: int, count: int) -> list[bytes]:
    return [message(number) for number in range(first, first + count)]


def test_every_record_arrives_once_in_order_over_mutual_tls(
    open_trail: Open, pki: dict[str, Identity]
) -> None:
    ours, theirs = open_trail("web"), open_trail("received")
    node, trust = pki["node"], pki["authority"].certificate
    listening = server_context(node.certificate, node.key, trust)
    calling = client_context(node.certificate, node.key, trust)
    ours.append([record(number) for number in range(250)]).result()
    with (
        receiving(theirs, listening) as receiver,
        sending(ours, f"tls://127.0.0.1:{receiver.port}", calling),
    ):
        await_count(theirs, 250)
        ours.append([record(250)]).result()
        await_count(theirs, 251)
    assert messages(theirs) == some(0, 251)


def test_a_stranger_brings_no_record(open_trail: Open, pki: dict[str, Identity]) -> None:
    theirs = open_trail("received")
    node, stranger = pki["node"], pki["stranger"]
    listening = server_context(node.certificate, node.key, pki["authority"].certificate)
    context = client_context(stranger.certificate, stranger.key, pki["authority"].certificate)
    with receiving(theirs, listening) as receiver:
        plain = socket.create_connection(("127.0.0.1", receiver.port), 5)
        with suppress(ssl.SSLError, ConnectionError), context.wrap_socket(plain) as tls:
            tls.sendall(frame(SENDER.write(message(1), START.isoformat(), False)))
            assert tls.recv(1) == b""
    assert messages(theirs) == []


def test_a_repository_that_was_away_gets_what_it_missed(open_trail: Open) -> None:
    ours, theirs = open_trail("web"), open_trail("received")
    with receiving(theirs) as receiver:
        port = receiver.port
    ours.append([record(1)]).result()
    with sending(ours, f"tcp://127.0.0.1:{port}"):
        ours.append([record(2)]).result()
        with receiving(theirs, port=port):
            await_count(theirs, 2)
    assert messages(theirs) == some(1, 2)


def await_mark(trail: Trail, url: str) -> None:
    """Return when the sender has noted that the first record arrived, which it does afterwards."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    found: list[object] = []
    while found != [(url, 1)]:
        assert time.monotonic() < deadline, found
        with trail.database.read() as connection:
            found = [tuple(row) for row in connection.execute(select(SENT))]


@pytest.mark.parametrize("begun", [b"", b"120 <85>1 2026-"])
def test_a_sender_that_does_not_go_on_is_not_waited_for(open_trail: Open, begun: bytes) -> None:
    with receiving(open_trail("received"), patience=0.2) as receiver:
        sender = socket.create_connection(("127.0.0.1", receiver.port), 5)
        sender.sendall(begun)
        assert sender.recv(1) == b""
        sender.close()


def test_a_message_may_not_come_drop_by_drop(open_trail: Open) -> None:
    with receiving(open_trail("received"), patience=0.3) as receiver:
        sender = socket.create_connection(("127.0.0.1", receiver.port), 5)
        sender.sendall(b"500 <85>")
        with suppress(ConnectionError):
            for _ in range(200):
                sender.sendall(b"1")
                sender.settimeout(0.02)
                with suppress(TimeoutError):
                    assert sender.recv(1) == b""
                    break
        sender.settimeout(5)
        with suppress(ConnectionError):
            assert sender.recv(1) == b""
        sender.close()


def test_a_sender_goes_on_after_a_restart_where_it_was(open_trail: Open) -> None:
    ours, theirs = open_trail("web"), open_trail("received")
    with receiving(theirs) as receiver:
        url = f"tcp://127.0.0.1:{receiver.port}"
        ours.append([record(1)]).result()
        with sending(ours, url):
            await_count(theirs, 1)
            await_mark(ours, url)
        ours.append([record(2)]).result()
        with sending(ours, url):
            await_count(theirs, 2)
    assert messages(theirs) == some(1, 2)


def test_datagrams_are_taken_as_well(open_trail: Open) -> None:
    ours, theirs = open_trail("web"), open_trail("received")
    ours.append([record(1)]).result()
    with receiving(theirs) as receiver, sending(ours, f"udp://127.0.0.1:{receiver.port}"):
        await_count(theirs, 1)


def test_without_udp_nothing_is_taken_by_it(open_trail: Open) -> None:
    theirs = open_trail("received")
    receiver = Receiver(theirs, "127.0.0.1", 0, None, udp=False)
    with event_loop() as loop:
        asyncio.run_coroutine_threadsafe(receiver.start(), loop).result()
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anybody:
                anybody.bind(("127.0.0.1", receiver.port))  # nobody has it
        finally:
            asyncio.run_coroutine_threadsafe(receiver.stop(), loop).result()


def test_what_is_no_audit_message_is_dropped_and_nobody_else_suffers(open_trail: Open) -> None:
    theirs = open_trail("received")
    good = frame(SENDER.write(message(1), START.isoformat(), False))
    with receiving(theirs) as receiver:
        address = ("127.0.0.1", receiver.port)
        with socket.create_connection(address) as other, socket.create_connection(address) as bad:
            other.sendall(good[:20])
            bad.sendall(frame(b"<85>1 - h a - m - <other/>") + good + b"no frame")
            bad.settimeout(PATIENCE_SECONDS)
            assert bad.recv(1) == b""  # closed by the repository
            other.sendall(good[20:])
            await_count(theirs, 2)


@pytest.mark.parametrize("url", ["http://a:1", "tls://", "tcp://a:1/path", "tls://a:99999"])
def test_a_target_is_a_scheme_a_host_and_a_port(url: str) -> None:
    with pytest.raises(ValueError, match=r"tls://host:port|Port"):
        Target.parse(url)


def test_messages_of_rfc_3881_are_read_too(open_trail: Open) -> None:
    old = message(1).replace(b"csd-code=", b"code=").replace(b'Z"', b'"')
    read = read_message(old, START)
    assert (read.type, read.patients, read.users) == ("ITI-18", ("4711",), ("Dr Doe",))
    assert read.when.tzinfo is not None


@given(st.binary(max_size=300))
@settings(max_examples=50)
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        read_message(data, START)
    except BadAuditMessage:
        return


def test_a_message_with_a_document_type_is_refused() -> None:
    hostile = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + message(1)[39:]
    with pytest.raises(BadAuditMessage):
        read_message(hostile, START)
