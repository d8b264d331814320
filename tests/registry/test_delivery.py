"""Delivery: at least once, in order, each consumer by itself, over real sockets where it counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from registry import MIGRATIONS
from registry.subscriptions import outbox, records
from registry.subscriptions.broker import Broker
from registry.subscriptions.consumers import Consumers
from registry.subscriptions.notifier import (
    LAST_RETRY_SECONDS,
    LEASE_SECONDS,
    REFUSALS,
    Notifier,
    pause_after,
)
from registry.subscriptions.outbox import Claim
from registry.subscriptions.tables import notification
from soap.client import SoapClient
from soap.endpoint import CallContext, Endpoint, Operation
from soap.faults import SENDER, PeerFault, PeerUnreachable, SoapFault
from soap.server import Router, running_server
from storage.database import Database
from transactions.iti_42 import write_request
from transactions.iti_52 import SubscribeRequest, TopicExpression, id_in
from transactions.iti_53 import ITI_53, Notify
from transactions.stored_query import encode
from transactions.subscription_filters import DOCUMENT_FILTER
from transactions.wsn import Topic

ROOT = Path(__file__).parents[2]
MANAGER = "http://127.0.0.1:1/subscriptions"
GIVE_UP = 3600.0

# The whole life of a process that delivers what is due.
DELIVER = """
import sys
from registry.subscriptions.notifier import Notifier
from soap.client import SoapClient
from storage.database import Database
from transactions.iti_53 import ITI_53

client = SoapClient(timeout=10)
with Database.open(sys.argv[1]) as database:
    send = lambda address, notify: client.send(address, ITI_53, notify)
    Notifier(database, send, "http://127.0.0.1:1/s", give_up_seconds=1e9).run_once()
"""

# The whole life of a process that registers what it reads on standard input.
REGISTER = """
import sys
from lxml import etree
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import HD
from registry import Registry
from storage.database import Database
from transactions.iti_42 import SubmitObjectsRequest

with Database.open(sys.argv[1]) as database:
    registry = Registry(database, AffinityDomain(HD.of(sys.argv[2])))
    registry.register(SubmitObjectsRequest(etree.fromstring(sys.stdin.buffer.read())))
"""


class Line:
    """Where notifications go in most tests: up, down or refusing, by address."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.troubles: dict[str, Exception] = {}

    def __call__(self, address: str, notify: Notify) -> None:
        if address in self.troubles:
            raise self.troubles[address]
        for document in notify.objects().documents:
            self.sent.append((address, document.unique_id or ""))


class Office:
    """Broker and notifiers over the house's database."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.line = Line()
        self.outcomes: list[str] = []
        self.notifier = self.another()

    def another(self, database: Database | None = None) -> Notifier:
        """A notifier; with a database of its own, one of another node."""
        return Notifier(
            database or self.house.database,
            lambda address, notify: self.line(address, notify),
            MANAGER,
            give_up_seconds=GIVE_UP,
            report=self.outcomes.append,
            clock=lambda: self.house.clock.now.timestamp(),
        )

    def subscribe(self, consumer: str) -> str:
        broker = Broker(
            self.house.database,
            MANAGER,
            Consumers(loopback=True),
            longest=timedelta(days=1),
            most=100,
            clock=self.house.clock,
        )
        query = encode(DOCUMENT_FILTER, {"patient_id": self.house.patient})
        topic = TopicExpression(Topic.FULL_DOCUMENT_ENTRY)
        return id_in(broker.subscribe(SubscribeRequest(consumer, [topic], [query])).subscription)

    def registered(self) -> str:
        return self.house.registered().unique_id or ""

    def later(self, seconds: float) -> None:
        self.house.clock.now += timedelta(seconds=seconds)


@pytest.fixture
def office(house: Any) -> Office:
    return Office(house)


ONE, TWO = "http://127.0.0.1:1/one", "http://127.0.0.1:2/two"
DOWN = PeerUnreachable("down")


def test_what_was_not_accepted_is_sent_again_in_order(office: Office) -> None:
    office.subscribe(ONE)
    ids = [office.registered() for _ in range(3)]
    office.line.troubles[ONE] = DOWN
    office.notifier.run_once()
    assert office.line.sent == []
    office.line.troubles.clear()
    office.notifier.run_once()
    assert office.line.sent == []  # the pause is not over
    office.later(pause_longest(1))
    office.notifier.run_once()
    assert office.line.sent == [(ONE, one) for one in ids]
    assert office.outcomes == ["failed", "sent", "sent", "sent"]
    office.notifier.run_once()
    assert len(office.line.sent) == 3


def pause_longest(attempts: int) -> float:
    return max(pause_after(attempts) for _ in range(200)) * 1.3


def test_a_consumer_that_is_down_delays_only_its_own(office: Office) -> None:
    office.subscribe(ONE)
    office.subscribe(TWO)
    office.line.troubles[ONE] = DOWN
    ids = [office.registered() for _ in range(2)]
    office.notifier.run_once()
    assert office.line.sent == [(TWO, one) for one in ids]


def test_pauses_double_up_to_a_limit_and_differ() -> None:
    assert 1.5 <= pause_after(1) <= 2.5
    assert 3.0 <= pause_after(2) <= 5.0
    assert all(pause_after(n) <= LAST_RETRY_SECONDS * 1.25 for n in (10, 1000))
    assert len({pause_after(5) for _ in range(10)}) > 1


def test_what_waits_too_long_becomes_a_dead_letter_and_the_next_goes_on(
    office: Office, house: Any
) -> None:
    identifier = office.subscribe(ONE)
    lost = office.registered()
    office.line.troubles[ONE] = DOWN
    office.later(GIVE_UP)
    late = office.registered()
    office.notifier.run_once()
    (dead,) = records.dead_letters(house.database)
    assert (dead.subscription, dead.error) == (identifier, "PeerUnreachable: down")
    office.line.troubles.clear()
    office.later(LAST_RETRY_SECONDS)
    office.notifier.run_once()
    assert office.line.sent == [(ONE, late)]
    (record,) = records.subscriptions(house.database)
    assert (record.waiting, record.dead) == (0, 1)
    assert records.retry(house.database, identifier, house.clock.now) == 1
    office.notifier.run_once()
    assert office.line.sent[1:] == [(ONE, lost)]
    assert records.dead_letters(house.database) == []
    assert office.outcomes == ["failed", "dead", "failed", "sent", "sent"]


def test_what_a_consumer_refuses_for_good_is_given_up_sooner(office: Office, house: Any) -> None:
    office.subscribe(ONE)
    office.registered()
    office.line.troubles[ONE] = PeerFault(SENDER, "not for me")
    for _ in range(REFUSALS):
        assert records.dead_letters(house.database) == []
        office.notifier.run_once()
        office.later(120)
    assert len(records.dead_letters(house.database)) == 1


def test_retrying_hurries_what_waits(office: Office, house: Any) -> None:
    identifier = office.subscribe(ONE)
    one = office.registered()
    office.line.troubles[ONE] = DOWN
    office.notifier.run_once()
    office.line.troubles.clear()
    assert records.retry(house.database, identifier, house.clock.now) == 0
    office.notifier.run_once()
    assert office.line.sent == [(ONE, one)]


def test_a_subscription_is_claimed_once_until_its_lease_ends(office: Office, house: Any) -> None:
    identifier = office.subscribe(ONE)
    office.registered()
    now, until = 1000, 2000

    def claim(owner: str, at: int) -> bool:
        return bool(
            house.database.write(lambda c: outbox.claim(c, Claim(identifier, owner), at, until))
        )

    assert claim("a", now)
    assert not claim("b", now)
    house.database.write(lambda c: outbox.extend(c, [Claim(identifier, "b")], 9000))
    assert claim("b", until)
    with house.database.read() as connection:  # who lost the lease gets nothing more to send
        assert outbox.next_of(connection, Claim(identifier, "a")) is None
        assert outbox.next_of(connection, Claim(identifier, "b")) is not None


def test_many_notifiers_send_everything_once_and_in_order(office: Office, house: Any) -> None:
    """One after the other on SQLite, at once on PostgreSQL, as several nodes would."""
    office.subscribe(ONE)
    office.subscribe(TWO)
    ids = [office.registered() for _ in range(8)]
    notifiers = [office.another() for _ in range(6)]
    with ThreadPoolExecutor(len(notifiers)) as pool:
        for done in [pool.submit(one.run_once) for one in notifiers]:
            done.result()
    for consumer in (ONE, TWO):
        assert [one for to, one in office.line.sent if to == consumer] == ids


def test_what_a_dead_notifier_held_is_delivered_when_its_lease_ends(
    office: Office, house: Any
) -> None:
    identifier = office.subscribe(ONE)
    one = office.registered()
    now = int(house.clock.now.timestamp() * 1000)
    until = now + int(LEASE_SECONDS * 1000)
    house.database.write(lambda c: outbox.claim(c, Claim(identifier, "dead"), now, until))
    office.notifier.run_once()
    assert office.line.sent == []
    office.later(LEASE_SECONDS)
    office.notifier.run_once()
    assert office.line.sent == [(ONE, one)]


def test_a_restarted_node_does_not_wait_for_its_own_lease(office: Office, house: Any) -> None:
    """Where nobody else can hold one; elsewhere the lease has to end."""
    identifier = office.subscribe(ONE)
    office.registered()
    now = int(house.clock.now.timestamp() * 1000)
    house.database.write(lambda c: outbox.claim(c, Claim(identifier, "dead"), now, now + 60_000))
    office.notifier.start()
    office.notifier.stop()
    with house.database.read() as connection:
        due = outbox.due(connection, now, 10)
        waits = outbox.count_waiting(connection)
    alone = house.database.backend == "sqlite"
    assert (bool(due) or waits == 0) is alone


def test_removing_a_subscription_drops_what_waits(office: Office, house: Any) -> None:
    identifier = office.subscribe(ONE)
    office.registered()
    assert records.remove(house.database, identifier)
    assert not records.remove(house.database, identifier)
    office.notifier.run_once()
    assert office.line.sent == []
    with house.database.read() as connection:
        assert connection.execute(select(notification)).all() == []


# --- with threads and sockets -------------------------------------------------------------------


class Recipient:
    """A consumer on a real socket."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.arrived = threading.Condition()
        self.fault: SoapFault | None = None
        self.wait: Callable[[], object] = lambda: None

    def handle(self, notify: Notify, _context: CallContext) -> None:
        self.wait()
        if self.fault is not None:
            raise self.fault
        with self.arrived:
            self.received += [one.unique_id or "" for one in notify.objects().documents]
            self.arrived.notify_all()

    def has(self, count: int) -> list[str]:
        """What has arrived, once it is so many."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= count, 20)
            return list(self.received)


@pytest.fixture
def recipients() -> Iterator[tuple[str, Recipient, Recipient]]:
    """The base URL of a server, and its consumers at /one and /two."""
    one, two = Recipient(), Recipient()
    with ThreadPoolExecutor(4) as pool:
        routes = {
            path: Endpoint(
                [Operation(ITI_53, recipient.handle)], pool=pool, title="r", service_name="R"
            )
            for path, recipient in (("/one", one), ("/two", two))
        }
        with running_server(Router(routes)) as base:
            yield base, one, two


def test_the_notifier_delivers_by_itself_while_a_consumer_hangs(
    office: Office, house: Any, recipients: tuple[str, Recipient, Recipient]
) -> None:
    base, hanging, quick = recipients
    freed = threading.Event()
    hanging.wait = lambda: freed.wait(20)
    office.subscribe(f"{base}/one")
    office.subscribe(f"{base.replace('127.0.0.1', 'localhost')}/two")
    ids = [office.registered() for _ in range(3)]
    client = SoapClient(timeout=30)
    notifier = Notifier(
        house.database,
        lambda address, notify: client.send(address, ITI_53, notify),
        MANAGER,
        give_up_seconds=GIVE_UP,
        clock=lambda: house.clock.now.timestamp(),
    )
    notifier.start()
    try:
        assert quick.has(3) == ids
        assert hanging.received == []
        freed.set()
        assert hanging.has(3) == ids
    finally:
        freed.set()
        notifier.stop()
        client.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database that can be closed, so that another process may be its writer."""
    with Database.open(database_url) as database:
        database.migrate(MIGRATIONS)
        yield database


def kill_at(point: str, house: Any, program: str, given: bytes = b"") -> None:
    """Run ``program`` over the house's database until it reaches ``point``, where it dies."""
    house.database.close()
    url = house.database.url.render_as_string(hide_password=False)
    authority = house.domain.assigning_authority.universal_id
    killed = subprocess.run(
        [sys.executable, "-c", program, url, authority],
        input=given,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KOSMOS_FAULT": f"{point}:kill"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def test_a_registration_killed_before_its_commit_tells_nobody(
    office: Office, house: Any, database_url: str
) -> None:
    office.subscribe(ONE)
    draft = house.draft()
    unique_id = draft.document().unique_id
    message = b"".join(write_request(draft.request()).body)
    kill_at("registry.before_commit", house, REGISTER, message)
    with Database.open(database_url) as database:
        office.another(database).run_once()
        assert office.line.sent == []
        type(house)(database, house.domain, house.clock).accept(draft)
        office.another(database).run_once()
        assert office.line.sent == [(ONE, unique_id)]


@pytest.mark.parametrize(("point", "received"), [("before_send", 0), ("after_send", 1)])
def test_a_notifier_killed_in_the_middle_loses_nothing(
    point: str,
    received: int,
    office: Office,
    house: Any,
    database_url: str,
    recipients: tuple[str, Recipient, Recipient],
) -> None:
    base, recipient, _ = recipients
    office.subscribe(f"{base}/one")
    ids = [office.registered(), office.registered()]
    kill_at(f"notifier.{point}", house, DELIVER)
    assert recipient.received == ids[:received]
    client = SoapClient(timeout=10)
    with Database.open(database_url) as database:
        notifier = Notifier(
            database,
            lambda address, notify: client.send(address, ITI_53, notify),
            MANAGER,
            give_up_seconds=1e9,
            clock=lambda: 4_000_000_000.0,  # long after the lease has ended
        )
        notifier.run_once()
        assert recipient.received == ids[:received] + ids
        with database.read() as connection:
            assert connection.execute(select(notification)).all() == []
    client.close()


# --- where notifications may go -----------------------------------------------------------------

ALLOWED = Consumers(("https://a.example/hooks", "http://b.example:8080"))


@pytest.mark.parametrize(
    "address",
    [
        "https://a.example/hooks",
        "https://a.example/hooks/1?x=y",
        "https://a.example:443/hooks/",
        "HTTPS://A.example/hooks/1",
        "http://b.example:8080",
        "http://b.example:8080/anything",
    ],
)
def test_addresses_below_a_prefix_are_allowed(address: str) -> None:
    assert ALLOWED.allow(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://a.example/hooks",
        "https://a.example/hooksandmore",
        "https://a.example/",
        "https://a.example/hooks/../admin",
        "https://a.example/hooks/%2e%2e/admin",
        "https://a.example.evil.example/hooks",
        "https://a.example@evil.example/hooks",
        "https://a.example:444/hooks",
        "https://evil.example/https://a.example/hooks",
        "https://a.example\\@evil.example/hooks",
        "http://b.example/",
        "http://b.example:8080#@evil.example",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "gopher://b.example:8080/",
        "//a.example/hooks",
        "http://b.example:80800/",
        "https://a.example/hooks\r\nHost: evil",
        "https://a.example/hooks/é",
        "https://a.example/hooks/" + "x" * 3000,
        "",
    ],
)
def test_any_other_address_is_not(address: str) -> None:
    assert not ALLOWED.allow(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_a_test_node_may_notify_this_machine(host: str) -> None:
    assert Consumers(loopback=True).allow(f"http://{host}:9/x")
    assert not Consumers().allow(f"http://{host}:9/x")


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "localhost.evil.example", "2130706433"])
def test_loopback_is_loopback_alone(host: str) -> None:
    assert not Consumers(loopback=True).allow(f"http://{host}/")
