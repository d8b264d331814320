"""Delivery: notifications go from the outbox to their consumers (ITI-53).

At least once: a notification leaves the outbox after its consumer has accepted it, so a crash
in between repeats it. In order: a subscription is served by one thread of one node at a time,
and a notification that is not accepted holds up those behind it, of that subscription alone.
A consumer that fails is tried again after a pause that doubles; what it refuses for good, or
does not take for too long, becomes a dead letter. One consumer is sent one message at a time,
so one that hangs keeps one thread of this process and nobody else.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import structlog

from metadata.datatypes import DTM
from registry.subscriptions import outbox
from registry.subscriptions.outbox import Claim, Due, Waiting
from soap.faults import SENDER, PeerError, PeerFault
from storage.database import Database
from storage.errors import StorageError
from storage.faultpoints import reach
from transactions.iti_52 import address_of
from transactions.iti_53 import Notification, Notify

_log = structlog.get_logger("kosmos.subscriptions")

SENT, FAILED, DEAD = "sent", "failed", "dead"

# A look at an empty index takes some 50 microseconds; who is told waits for half of this.
_POLL_SECONDS = 0.2
# Consumers served at once, each by a thread that mostly waits.
_THREADS = 32
# Subscriptions looked at in one round: those of a consumer that is being served are passed over.
_ROUND = 500
# A notifier that died is followed by another after this time, for which whoever is to be told
# waits; a living one extends it in thirds, and bears a database that stands still for as long.
LEASE_SECONDS = 15.0
# Between two attempts: 2 s, then twice as long each time, 15 minutes at most.
FIRST_RETRY_SECONDS = 2.0
LAST_RETRY_SECONDS = 900.0
# Spread of the pauses, so that many subscriptions do not return to a consumer all at once.
_JITTER = 0.25
# Our own: whoever seeds the common one counts on nobody else drawing from it.
_dice = random.Random()
# A consumer's Sender fault blames the message: sending it again may help where the consumer
# was misconfigured, for about a minute; then those behind it have waited long enough.
REFUSALS = 6
# How often the number of what waits is told.
_COUNT_SECONDS = 10.0
# How far a pull point may grow beyond its bound: by what is registered in a minute.
_TRIM_SECONDS = 60.0


class _Rhythm:
    """Asked often, and due once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = 0.0

    def is_due(self) -> bool:
        """Whether it is time again."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class Notifier:
    """Delivers the notifications of one registry, together with those of other nodes.

    ``send`` delivers one message to an address and returns when it is accepted; what it raises
    (PeerError) means that it may not have been. ``manager`` is the address of this broker.
    ``give_up_seconds`` is how long a notification may wait before it becomes a dead letter.
    ``report`` is told each outcome (``sent``, ``failed``, ``dead``), ``count`` how many wait.
    ``trim`` is done now and then.
    """

    def __init__(
        self,
        database: Database,
        send: Callable[[str, Notify], None],
        manager: str,
        *,
        give_up_seconds: float,
        report: Callable[[str], None] = lambda _outcome: None,
        count: Callable[[int], None] = lambda _waiting: None,
        trim: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._send = send
        self._manager = manager
        self._give_up = timedelta(seconds=give_up_seconds)
        self._report = report
        self._count = count
        self._trim = trim
        self._clock = clock
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, "notifier")
        self._thread: threading.Thread | None = None
        self._served: dict[str, Claim] = {}  # by consumer
        self._extending, self._counting = _Rhythm(LEASE_SECONDS / 3), _Rhythm(_COUNT_SECONDS)
        self._trimming = _Rhythm(_TRIM_SECONDS)

    def start(self) -> None:
        """Deliver from threads until ``stop``.

        An embedded database has one writing process: leases in it are those of one that died.
        Raises StorageError.
        """
        if self._database.backend == "sqlite":
            self._database.write(outbox.free)
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the messages under way; the next process, or another node, goes on."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def run_once(self) -> None:
        """Serve every subscription that is due, one after the other, in this thread."""
        with self._database.read() as connection:
            found = outbox.due(connection, self._now(), _ROUND)
        for one in found:
            if claimed := self._claim(one):
                self._serve(claimed)

    def _run(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            try:
                self._dispatch()
                self._keep_leases()
                self._tell_count()
                self._keep_small()
            except StorageError as error:
                _log.error("delivery waits", code="NOTIFIER-STORAGE", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - a thread that ended would deliver nothing
                _log.error("delivery waits", code="NOTIFIER-FAILED", exc_info=error)

    # --- from subscriptions to threads

    def _dispatch(self) -> None:
        with self._database.read() as connection:
            found = outbox.due(connection, self._now(), _ROUND)
        for one in found:
            consumer = _place(one.consumer)
            if consumer in self._served or len(self._served) == _THREADS:
                continue
            if claimed := self._claim(one):
                self._served[consumer] = claimed
                self._pool.submit(self._serve_for, consumer, claimed)

    def _claim(self, one: Due) -> Claim | None:
        claimed, now = Claim(one.subscription, str(uuid4())), self._now()
        until = now + _milliseconds(LEASE_SECONDS)
        won = self._database.write(lambda connection: outbox.claim(connection, claimed, now, until))
        return claimed if won else None

    def _serve_for(self, consumer: str, claimed: Claim) -> None:
        try:
            self._serve(claimed)
        except StorageError as error:  # the lease ends by itself
            _log.error("delivery waits", code="NOTIFIER-STORAGE", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - told here: nobody waits for the thread
            _log.error("delivery waits", code="NOTIFIER-FAILED", exc_info=error)
        finally:
            del self._served[consumer]

    def _keep_leases(self) -> None:
        if self._extending.is_due():
            claims = list(self._served.values())
            self._database.write(partial(outbox.extend, claims=claims, until=self._lease()))

    def _tell_count(self) -> None:
        if self._counting.is_due():
            with self._database.read() as connection:
                self._count(outbox.count_waiting(connection))

    def _keep_small(self) -> None:
        if self._trimming.is_due():
            self._trim()

    # --- one subscription

    def _serve(self, claimed: Claim) -> None:
        """Deliver what waits for one subscription, until one notification is not accepted."""
        while not self._stopping.is_set():
            with self._database.read() as connection:
                waiting = outbox.next_of(connection, claimed)
            if waiting is None or not self._deliver(claimed, waiting):
                break
        self._database.write(lambda connection: outbox.release(connection, claimed))

    def _deliver(self, claimed: Claim, waiting: Waiting) -> bool:
        """Whether to go on with the next notification."""
        reach("notifier.before_send")
        try:
            self._send(waiting.consumer, self._message(claimed, waiting))
        except PeerError as error:
            return self._failed(claimed, waiting, error)
        reach("notifier.after_send")
        until = self._lease()
        self._database.write(
            lambda connection: outbox.settle(connection, claimed, waiting.number, until)
        )
        self._report(SENT)
        return True

    def _failed(self, claimed: Claim, waiting: Waiting, error: PeerError) -> bool:
        attempts, reason = waiting.attempts + 1, type(error).__name__
        self._report(FAILED)
        if self._is_hopeless(waiting, attempts, error):
            _log.error("notification given up", code="NOTIFIER-DEAD", error=reason)
            until = self._lease()
            self._database.write(
                lambda connection: outbox.bury(
                    connection, claimed, waiting.number, f"{reason}: {error}", until
                )
            )
            self._report(DEAD)
            return True
        _log.warning("not delivered", code="NOTIFIER-FAILED", error=reason, attempts=attempts)
        pause = _milliseconds(pause_after(attempts))
        self._database.write(
            lambda connection: outbox.postpone(connection, claimed, attempts, self._now() + pause)
        )
        return False

    def _is_hopeless(self, waiting: Waiting, attempts: int, error: PeerError) -> bool:
        now = datetime.fromtimestamp(self._clock(), UTC)
        if DTM(waiting.created_at).earliest() + self._give_up <= now:
            return True
        refused = isinstance(error, PeerFault) and error.code == SENDER
        return refused and attempts >= REFUSALS

    def _message(self, claimed: Claim, waiting: Waiting) -> Notify:
        return Notify(
            [
                Notification(
                    fragments=[waiting.objects],
                    topic=waiting.topic,
                    subscription=address_of(self._manager, claimed.subscription),
                    producer=waiting.producer or self._manager,
                )
            ]
        )

    def _now(self) -> int:
        return _milliseconds(self._clock())

    def _lease(self) -> int:
        return self._now() + _milliseconds(LEASE_SECONDS)


def pause_after(attempts: int) -> float:
    """Seconds until the next attempt, after so many that failed."""
    doublings = min(attempts - 1, 16)  # more would only make a larger number
    wait: float = min(FIRST_RETRY_SECONDS * 2**doublings, LAST_RETRY_SECONDS)
    return wait * _dice.uniform(1 - _JITTER, 1 + _JITTER)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _place(address: str) -> str:
    """The consumer behind an address: scheme, host and port."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.lower()}"
