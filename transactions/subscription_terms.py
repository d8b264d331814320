"""What a Subscribe means, or the fault it deserves: topic, filter, time of its end.

Covers ITI TF-2 3.52.4.1.3 and 3.52.5. A parameter that a filter does not have is refused, not
passed over as in a query: passing over it would tell the subscriber more than was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from metadata.datatypes import CX
from transactions import wsn
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_52 import ADHOC_QUERY, FILTER, SubscribeRequest, TopicExpression
from transactions.query_catalogue import StoredQuery
from transactions.query_decoding import DecodedQuery, decode_as
from transactions.subscription_filters import FILTERS, TOPIC_FILTERS
from transactions.wsn import SIMPLE_DIALECT, Topic

# A QName (XML Namespaces 7), as far as topics need one: no wildcard and no path.
_QNAME = re.compile(r"(?:[^\W\d][\w.-]*:)?[^\W\d][\w.-]*")
_PREFIX = "ihe:"

# xs:duration without a sign. A year has 365 days and a month 30 (XML Schema leaves both open
# until added to a date): nobody counts on the hour at which a year's subscription ends.
_DURATION = re.compile(
    r"P(?=.)(?:(\d{1,6})Y)?(?:(\d{1,6})M)?(?:(\d{1,6})D)?"
    r"(?:T(?=.)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?"
)
_SECONDS = (365 * 86_400, 30 * 86_400, 86_400, 3600, 60, 1)

# Filters read and kept ready, so that a registration need not parse them again: a filter
# weighs about 2 KiB.
_READY = 4096


@dataclass(frozen=True, slots=True)
class Terms:
    """A right subscription: ``patient`` is normalised, and empty for one across patients."""

    topic: Topic
    patient: str
    filter: str
    expires: datetime


def terms_of(request: SubscribeRequest, now: datetime, longest: timedelta) -> Terms:
    """What ``request`` means at ``now``; raises the fault (SoapFault) it deserves.

    A subscription that names no end lasts for ``longest``, and none may last longer.
    """
    if request.policies:
        raise wsn.unrecognized_policy("no subscription policy is known here", *request.policies)
    if request.other_filters:
        reason = "a filter is one wsnt:TopicExpression and one rim:AdhocQuery"
        raise wsn.invalid_filter(reason, *request.other_filters)
    if len(request.topics) != 1 or len(request.queries) != 1:
        reason = (
            "expected exactly one wsnt:TopicExpression and one rim:AdhocQuery in wsnt:Filter, "
            f"found {len(request.topics)} and {len(request.queries)}"
        )
        raise wsn.invalid_filter(reason, FILTER)
    topic = _topic(request.topics[0])
    decoded = _judged(request.queries[0], topic)
    patient_id = decoded.patient_id
    patient = "" if patient_id is None else str(patient_id.normalised())
    expires = _expires(request.termination, now, longest)
    return Terms(topic, patient, write_filter(request.queries[0]), expires)


def write_filter(query: AdhocQueryRequest) -> str:
    """A filter as it is kept: the id and the slots as they were sent."""
    slots = [[name, list(values)] for name, values in query.parameters]
    return json.dumps([query.query_id.lower(), slots], ensure_ascii=False, separators=(",", ":"))


@lru_cache(_READY)
def read_filter(text: str) -> DecodedQuery:
    """What a filter of ``write_filter`` means; raises ValueError for one that is not right."""
    query_id, slots = json.loads(text)
    request = AdhocQueryRequest(query_id, parameters=[(name, values) for name, values in slots])
    known = FILTERS.get(query_id)
    decoded = known and decode_as(known, request)
    if not isinstance(decoded, DecodedQuery):
        raise ValueError("not a filter that was judged before it was kept")
    return decoded


def _topic(expression: TopicExpression) -> Topic:
    if expression.dialect != SIMPLE_DIALECT:
        reason = f"the dialect of the topic must be {SIMPLE_DIALECT}"
        raise wsn.fault(wsn.DIALECT_UNKNOWN, reason)
    if _QNAME.fullmatch(expression.text) is None:
        reason = "a topic of the dialect Simple is a QName such as ihe:FullDocumentEntry"
        raise wsn.fault(wsn.INVALID_TOPIC, reason)
    name = expression.text.rpartition(":")[2]
    known = expression.text.startswith(_PREFIX) or expression.namespace == wsn.IHE_TOPICS
    if not known or _PREFIX + name not in set(Topic):
        reason = f"the topics are {', '.join(Topic)}, not {expression.text[:80]!r}"
        raise wsn.fault(wsn.TOPIC_NOT_SUPPORTED, reason)
    return Topic(_PREFIX + name)


def _judged(query: AdhocQueryRequest, topic: Topic) -> DecodedQuery:
    """The filter's meaning; raises InvalidFilterFault with everything that is wrong with it."""
    known = FILTERS.get(query.query_id.lower())
    if known is None or known.id not in TOPIC_FILTERS[topic]:
        expected = " or ".join(sorted(TOPIC_FILTERS[topic]))
        reason = f"the filter beside the topic {topic} must be {expected}, not {query.query_id!r}"
        raise wsn.invalid_filter(reason, ADHOC_QUERY)
    decoded = decode_as(known, query)
    problems = _unknown_slots(known, query)
    if not isinstance(decoded, DecodedQuery):
        problems += [fault.error("ITI-18").context for fault in decoded]
    elif (patient_id := decoded.patient_id) is not None and (problem := CX.problem(patient_id)):
        problems.append(f"the patient: {problem}")
    if problems or not isinstance(decoded, DecodedQuery):
        raise wsn.invalid_filter("; ".join(problems), ADHOC_QUERY)
    return decoded


def _unknown_slots(known: StoredQuery, query: AdhocQueryRequest) -> list[str]:
    slots = {parameter.slot for parameter in known.parameters}
    return [
        f"the {known.name} has no parameter {name}"
        for name, _ in query.parameters
        if name not in slots
    ]


def _expires(termination: str, now: datetime, longest: timedelta) -> datetime:
    latest = now + longest
    if not termination:
        return latest
    moment = _moment(termination, now)
    if moment is None or not now < moment <= latest:
        reason = "the termination time must be an xs:dateTime or xs:duration within the bounds"
        raise wsn.unacceptable_time(reason, now, latest)
    return moment


def _moment(termination: str, now: datetime) -> datetime | None:
    """The moment that an xs:dateTime (UTC when it names no zone) or xs:duration means."""
    try:
        if match := _DURATION.fullmatch(termination):
            return now + timedelta(seconds=_seconds(match.groups(default="0")))
        moment = datetime.fromisoformat(termination)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _seconds(parts: Sequence[str]) -> float:
    return sum(float(part) * seconds for part, seconds in zip(parts, _SECONDS, strict=True))
