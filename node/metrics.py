"""What the node counts, for Prometheus: no label ever holds an identifier of a person or document.

The processes of a node count in files of one folder (PROMETHEUS_MULTIPROC_DIR, set by the
supervisor), so that the admin port of one process tells of all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from soap.service import Ended, Observe

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From an indexed query (1 ms) to a study of gigabytes.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# The label of a call that was for none of our transactions.
UNKNOWN = "unknown"

CALLS = Counter(
    "kosmos_calls_total",
    "Calls by SOAP and DICOMweb, by IHE transaction and how they ended on the wire.",
    ["transaction", "outcome"],
)
SECONDS = Histogram(
    "kosmos_call_seconds",
    "Time from a call's first byte to its answer's last.",
    ["transaction"],
    buckets=BUCKETS,
)
BYTES = Counter("kosmos_bytes_total", "Bytes of messages.", ["transaction", "direction"])
RESPONSES = Counter(
    "kosmos_responses_total",
    "Answers of the actors, by IHE transaction and response status.",
    ["transaction", "status"],
)
HL7_MESSAGES = Counter(
    "kosmos_hl7_messages_total", "HL7 messages answered, by acknowledgement code.", ["ack"]
)
NOTIFICATIONS = Counter(
    "kosmos_notifications_total",
    "Attempts to notify subscribers (ITI-53), by outcome: sent, failed; dead when given up, "
    "dropped where nobody fetches them.",
    ["outcome"],
)
WAITING = Gauge(
    "kosmos_notifications_waiting",
    "Notifications in the outbox.",
    multiprocess_mode="mostrecent",
)
STUDIES = Gauge(
    "kosmos_studies_waiting",
    "Studies that are not as the registry has them, by what they wait for.",
    ["stage"],
    multiprocess_mode="mostrecent",
)
QUARANTINE = Gauge(
    "kosmos_quarantine",
    "Instances that were kept and not taken in, for they contradict what was here.",
    multiprocess_mode="mostrecent",
)
EVICTED = Gauge(
    "kosmos_evicted",
    "Instances that are with their archive alone: all, and those that did not come back.",
    ["which"],
    multiprocess_mode="mostrecent",
)
RECALLS = Counter(
    "kosmos_recalls_total",
    "Studies fetched again from an archive, by outcome: whole, part, failed.",
    ["outcome"],
)
BUILD = Gauge(
    "kosmos_build_info",
    "1, labelled with the version.",
    ["version"],
    multiprocess_mode="mostrecent",
)


def observer(exchanges: Iterable[Any]) -> Observe:
    """Counts the calls of one endpoint (``soap.endpoint.Endpoint(observe=...)``)."""
    return observing({exchange.action: exchange.number for exchange in exchanges})


def observing(numbers: Mapping[str, str]) -> Observe:
    """Counts what is told by action, under the number of its transaction."""

    @cache  # both labels come from short lists, and finding a counter costs more than counting
    def counters(action: str, outcome: str) -> tuple[Counter, Histogram, Counter, Counter]:
        number = numbers.get(action, UNKNOWN)
        received, sent = BYTES.labels(number, "in"), BYTES.labels(number, "out")
        return CALLS.labels(number, outcome), SECONDS.labels(number), received, sent

    def observe(call: Ended) -> None:
        calls, duration, bytes_in, bytes_out = counters(call.action, call.outcome)
        calls.inc()
        duration.observe(call.seconds)
        bytes_in.inc(call.received)
        bytes_out.inc(call.sent)

    return observe


def response_counter(number: str) -> Callable[[str], None]:
    """Counts the answers of one transaction, given their status URI."""

    @cache  # three statuses
    def counter(status: str) -> Counter:
        return RESPONSES.labels(number, status.rpartition(":")[2])

    return lambda status: counter(status).inc()


def exposition() -> bytes:
    """Every figure of the node in the text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # their gap
    return generate_latest(registry)
