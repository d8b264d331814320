"""Who is to be told of what has been registered: subscriptions compared with new objects.

Covers ITI TF-2 3.53.4.1.1. Runs inside the transaction that registers, so a notification is
decided, and kept, by the commit that acknowledges. When nobody has subscribed it costs one
look-up. Objects are rendered for a subscriber alone, when there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, bindparam, insert, literal, select

from metadata import ebrim
from metadata.datatypes import DTM
from metadata.model import Author, Code, DocumentEntry, Folder, SubmissionSet
from registry.schema import patient
from registry.subscriptions.tables import HELD, WAITING, notification, subscription
from storage.operators import glob
from storage.statement import Statement
from transactions.query_catalogue import Kind
from transactions.query_decoding import DecodedQuery
from transactions.subscription_terms import read_filter
from transactions.wsn import Topic

_log = structlog.get_logger("kosmos.subscriptions")

Described = DocumentEntry | SubmissionSet | Folder

_ASKED = patient.alias("asked")
# Everybody whom today's survivor of the patient stands for, the patient itself included.
_CHAIN = (
    select(patient.c.id)
    .join_from(_ASKED, patient, patient.c.survivor == _ASKED.c.survivor)
    .where(_ASKED.c.id == bindparam("patient"))
    .union_all(select(literal("")))  # and those who asked for every patient
)
_LIVE = Statement(
    select(
        subscription.c.id, subscription.c.topic, subscription.c.filter, subscription.c.pull_point
    ).where(subscription.c.patient.in_(_CHAIN), subscription.c.expires_at > bindparam("now"))
)
_ENQUEUE = Statement(
    insert(notification).values(
        {
            name: bindparam(name)
            for name in (
                *("subscription", "topic", "producer", "state"),
                *("created_at", "error", "objects", "pull_point"),
            )
        }
    )
)


class _Live(NamedTuple):
    """A subscription that has not ended."""

    id: str
    topic: str
    filter: str
    pull_point: str | None


def announce(
    connection: Connection,
    patient_id: str,
    objects: Sequence[Described],
    now: DTM,
    producer: str = "",
) -> None:
    """Enqueue the notifications that the new or changed ``objects`` of one patient call for.

    To be called in the transaction that writes them, with the objects as they are registered.
    ``producer`` tells who published them: ``urn:oid:`` and the sourceId of their submission.
    """
    found = _LIVE.rows(connection, {"patient": patient_id, "now": now.padded()})
    rows = [
        {
            "subscription": live.id,
            "topic": live.topic,
            "producer": producer,
            "state": HELD if live.pull_point else WAITING,
            "pull_point": live.pull_point,
            "error": "",
            "created_at": now.padded(),
            "objects": content,
        }
        for live in map(_Live._make, found)
        for content in _contents(live, objects)
    ]
    if rows:
        _ENQUEUE.run(connection, rows)


def source_of(submission_set: SubmissionSet) -> str:
    """The address of the producer of a submission (ITI TF-2 3.54.4.1.2)."""
    return f"urn:oid:{submission_set.source_id}"


def meets(obj: Described, decoded: DecodedQuery) -> bool:
    """Whether ``obj`` has the attributes that a filter asks for; the patient is not looked at."""
    codes = all(
        not codes_of(obj, key).isdisjoint(group)
        for key, groups in decoded.code_criteria.items()
        for group in groups
    )
    kinds = {parameter.key: parameter.kind for parameter in decoded.query.parameters}
    return codes and all(
        _compare(kinds[key], texts_of(obj, key), group)
        for key, groups in decoded.text_criteria.items()
        if kinds[key] is not Kind.PATIENT
        for group in groups
    )


def codes_of(obj: Described, attribute: str) -> set[Code]:
    """The codes of an attribute that has one or several."""
    value: Code | list[Code] | None = getattr(obj, attribute)
    if isinstance(value, Code):
        return {value}
    return set(value or ())


def texts_of(obj: Described, attribute: str) -> list[str]:
    """The texts of an attribute; of authors, the persons."""
    value: Any = getattr(obj, attribute)
    if isinstance(value, str):
        return [value]
    return [text for one in value or () if (text := _text(one))]


def _text(value: str | Author) -> str:
    return (value.person or "") if isinstance(value, Author) else value


def _compare(kind: Kind, texts: Iterable[str], group: Sequence[str]) -> bool:
    if kind is not Kind.LIKE:
        return not set(texts).isdisjoint(group)
    patterns = [glob(pattern) for pattern in group]
    return any(fnmatchcase(text, pattern) for text in texts for pattern in patterns)


def _contents(live: _Live, objects: Iterable[Described]) -> Iterator[bytes]:
    """What each notification for ``live`` holds: all documents in one, packages one by one."""
    try:
        kind, render = _TOPICS[Topic(live.topic)]
        decoded = read_filter(live.filter)
    except ValueError as error:  # one row of another version must not stop every registration
        _log.error("subscription unreadable", code="SUBSCRIPTION-UNREADABLE", exc_info=error)
        return
    fragments = [render(obj) for obj in objects if isinstance(obj, kind) and meets(obj, decoded)]
    if kind is DocumentEntry:
        fragments = [b"".join(fragments)] if fragments else []
    yield from fragments


def _reference(obj: Described) -> bytes:
    return ebrim.object_ref(obj.entry_uuid, obj.home_community_id)


_TOPICS: Mapping[Topic, tuple[type[Described], Callable[[Described], bytes]]] = {
    Topic.FULL_DOCUMENT_ENTRY: (DocumentEntry, ebrim.write_object),
    Topic.MINIMAL_DOCUMENT_ENTRY: (DocumentEntry, _reference),
    Topic.SUBMISSION_SET_METADATA: (SubmissionSet, ebrim.write_object),
    Topic.FOLDER_METADATA: (Folder, ebrim.write_object),
}
