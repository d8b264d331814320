"""What others tell of studies: performed procedure steps (MPPS) and availability (IAN).

Covers the provider's side of PS3.4 F.7 (N-CREATE, N-SET) and of PS3.4 R.3 (N-CREATE). Kept is
what tells that a study is complete, or that an archive has it: ``is_performed`` and
``available`` read it, and completeness is told. Not here: N-GET of a step, and telling others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from pydicom.uid import generate_uid
from sqlalchemy import Connection, bindparam, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from imaging_source.completeness import Signal, tell
from imaging_source.dimse import N_CREATE_RQ, N_SET_RQ
from imaging_source.elements import Elements, encoding_of
from imaging_source.evicted import INSTANCE_AVAILABILITY
from imaging_source.header import is_uid, read_patient
from imaging_source.ledger import UNKNOWN, About, Mention, Purpose
from imaging_source.negotiation import Offer
from imaging_source.references import REFERENCED_SOP_CLASS_UID, items_of, texts_of
from imaging_source.schema import AVAILABILITY, AVAILABLE_INSTANCE, PERFORMED_STEP
from imaging_source.service import PROCESSING_FAILURE, SUCCESS, Exchange, Refused, Services
from storage.database import Database
from storage.faultpoints import reach

MODALITY_PERFORMED_PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
INSTANCE_AVAILABILITY_NOTIFICATION = "1.2.840.10008.5.1.4.33"

_STUDY_INSTANCE_UID = 0x0020000D
_STATUS = 0x00400252
_SCHEDULED_STEPS = 0x00400270
_REFERENCED_SERIES = 0x00081115
_REFERENCED_SOP = 0x00081199
_SOP_INSTANCE_UID = 0x00081155
_RETRIEVE_AE_TITLE = 0x00080054

# Statuses of an answer (PS3.7 Annex C).
_INVALID_VALUE = 0x0106
_DUPLICATE_INSTANCE = 0x0111
_NO_SUCH_INSTANCE = 0x0112
_INVALID_INSTANCE = 0x0117
_MISSING_ATTRIBUTE = 0x0120

_NOTE_AVAILABILITY = text(
    "INSERT INTO availability (study_instance_uid, sender, retrieve_ae_title, instances, told_at)"
    " VALUES (:study, :sender, :place, 0, :now) ON CONFLICT (study_instance_uid, sender)"
    " DO UPDATE SET retrieve_ae_title = excluded.retrieve_ae_title, told_at = excluded.told_at"
)


class Step(StrEnum):
    """The status of a performed procedure step (PS3.3 C.4.14)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True, slots=True)
class Available:
    """Instances of a study that ``sender`` says can be retrieved from ``retrieve_ae_title``."""

    study_instance_uid: str
    sender: str
    retrieve_ae_title: str
    instances: int
    told_at: float


def is_performed(connection: Connection, study_instance_uid: str) -> bool | None:
    """Whether every step known of a study has ended; None when none is known."""
    query = select(PERFORMED_STEP.c.status)
    found = query.where(PERFORMED_STEP.c.study_instance_uid == study_instance_uid)
    states = set(connection.execute(found).scalars())
    return Step.IN_PROGRESS not in states if states else None


def available(connection: Connection, since: float) -> list[Available]:
    """What was told to be available from ``since`` on, the oldest first."""
    columns = (AVAILABILITY.c[name] for name in Available.__slots__)
    query = select(*columns).where(AVAILABILITY.c.told_at >= since)
    return [Available(*row) for row in connection.execute(query.order_by(AVAILABILITY.c.told_at))]


class _Told(NamedTuple):
    """What a notice says of an instance."""

    sop_class_uid: str
    sop_instance_uid: str
    retrieve_ae_title: str
    availability: str


_TOLD_OF = REFERENCED_SOP_CLASS_UID, _SOP_INSTANCE_UID, _RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY


class Notices:
    """Takes notices in."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    @property
    def services(self) -> Services:
        """The services as the provider offers them, to everybody who may store."""
        step, notification = MODALITY_PERFORMED_PROCEDURE_STEP, INSTANCE_AVAILABILITY_NOTIFICATION
        handlers = {
            (step, N_CREATE_RQ): self.begin_step,
            (step, N_SET_RQ): self.change_step,
            (notification, N_CREATE_RQ): self.note_availability,
        }
        return Services(Offer(frozenset({step, notification})), handlers)

    def begin_step(self, exchange: Exchange) -> None:
        """Handle the N-CREATE of a performed procedure step."""
        with exchange.records.hearing(Purpose.STEP_BEGUN) as heard:
            elements = _elements(exchange)
            studies = _scheduled(elements)
            uid = _created(exchange)
            heard(_of_the_patient(elements, studies, uid))
            _require_uid(uid)
            if _status(elements) is not Step.IN_PROGRESS:
                raise Refused(_INVALID_VALUE, "a step begins IN PROGRESS (0040,0252)")
            if not studies:
                raise Refused(_MISSING_ATTRIBUTE, "no Study Instance UID in (0040,0270)")
            self._begin(uid, studies, exchange.line.name)
            reach("imaging.told")
        exchange.respond(SUCCESS)

    def _begin(self, uid: str, studies: Sequence[str], sender: str) -> None:
        """Note a step that begins; Refused where it is known."""
        now = self._clock()

        def work(connection: Connection) -> None:
            if _studies_of(connection, uid):
                raise Refused(_DUPLICATE_INSTANCE, "this step is known")
            row = {"sop_instance_uid": uid, "status": Step.IN_PROGRESS, "sender": sender}
            times = {"created_at": now, "changed_at": now}
            rows = [{**row, **times, "study_instance_uid": study} for study in studies]
            connection.execute(insert(PERFORMED_STEP), rows)

        try:
            self._database.write(work)
        except IntegrityError as error:
            raise Refused(_DUPLICATE_INSTANCE, "this step is begun at this moment") from error

    def change_step(self, exchange: Exchange) -> None:
        """Handle the N-SET of a performed procedure step."""
        uid = exchange.request.sop_instance_uid
        with exchange.records.hearing(Purpose.STEP_CHANGED) as heard:
            with self._database.read() as connection:
                studies = _studies_of(connection, uid)
                known = [About.in_index(connection, study) for study in studies] or [UNKNOWN]
            heard(_of_step(Purpose.STEP_CHANGED, about, uid) for about in known)
            self._change(uid, _status(_elements(exchange)))
            reach("imaging.told")
        exchange.respond(SUCCESS)

    def _change(self, uid: str, status: Step | None) -> None:
        """Note how a step goes on, and that its studies are complete; Refused where it may not."""
        now = self._clock()

        def work(connection: Connection) -> None:
            studies = _studies_of(connection, uid)
            if not studies:
                raise Refused(_NO_SUCH_INSTANCE, "this step is not known")
            _hold_steps(connection, studies)
            this = PERFORMED_STEP.c.sop_instance_uid == uid
            ended = update(PERFORMED_STEP).where(this, PERFORMED_STEP.c.status == Step.IN_PROGRESS)
            values = {"changed_at": now} | ({"status": status} if status else {})
            if not connection.execute(ended.values(values)).rowcount:
                raise Refused(PROCESSING_FAILURE, "the step has ended and may not be changed")
            for study in studies:
                if is_performed(connection, study):
                    tell(connection, study, Signal.MPPS, now)

        self._database.write(work)

    def note_availability(self, exchange: Exchange) -> None:
        """Handle the N-CREATE of an instance availability notification."""
        with exchange.records.hearing(Purpose.AVAILABILITY) as heard:
            elements = _elements(exchange)
            _require_uid(_created(exchange))
            (study,) = texts_of(elements, _STUDY_INSTANCE_UID)
            if not is_uid(study):
                raise Refused(_MISSING_ATTRIBUTE, "Study Instance UID (0020,000D) is missing")
            instances = [_Told(*texts_of(item, *_TOLD_OF)) for item in _named(elements)]
            with self._database.read() as connection:
                about = About.in_index(connection, study)
            classes = Counter(one.sop_class_uid for one in instances)
            heard([Mention(Purpose.AVAILABILITY, about, classes)])
            if not all(is_uid(one.sop_instance_uid) for one in instances):
                text = "Referenced SOP Instance UID (0008,1155) is missing"
                raise Refused(_MISSING_ATTRIBUTE, text)
            self._note(study, instances, exchange.line.name)
            reach("imaging.told")
        exchange.respond(SUCCESS)

    def _note(self, study: str, instances: Sequence[_Told], sender: str) -> None:
        """Note what is available of a study."""
        online = {
            one.sop_instance_uid: one.retrieve_ae_title
            for one in instances
            if one.availability != "UNAVAILABLE"
        }
        named = {one.sop_instance_uid for one in instances}
        now = self._clock()
        place = next(filter(None, online.values()), sender)
        row = {"study": study, "sender": sender, "place": place, "now": now}

        def work(connection: Connection) -> None:
            connection.execute(_NOTE_AVAILABILITY, row)  # first: the next notice waits for this one
            count = _add_up(connection, study, sender, named, online)
            if online:
                tell(connection, study, Signal.IAN, now, count)

        self._database.write(work)


def _add_up(
    connection: Connection, study: str, sender: str, named: Iterable[str], online: Iterable[str]
) -> int:
    """Add a notice to what its sender told of the study; how many instances it has in all, which
    is noted too.

    A notice need not tell of the whole study: an archive may send one for each procedure step.
    """
    table = AVAILABLE_INSTANCE.c
    known = table.study_instance_uid == study, table.sender == sender
    if forgotten := [{"uid": uid} for uid in sorted(named)]:
        this = table.sop_instance_uid == bindparam("uid")
        connection.execute(delete(AVAILABLE_INSTANCE).where(*known, this), forgotten)
    key = {"study_instance_uid": study, "sender": sender}
    if added := [key | {"sop_instance_uid": uid} for uid in sorted(online)]:
        connection.execute(insert(AVAILABLE_INSTANCE), added)
    query = select(func.count()).select_from(AVAILABLE_INSTANCE).where(*known)
    count = int(connection.execute(query).scalar_one())
    whole = AVAILABILITY.c.study_instance_uid == study, AVAILABILITY.c.sender == sender
    connection.execute(update(AVAILABILITY).where(*whole).values(instances=count))
    return count


def _elements(exchange: Exchange) -> Elements:
    return Elements(exchange.data_set, encoding_of(exchange.context.transfer_syntax))


def _scheduled(elements: Elements) -> list[str]:
    """The studies of the scheduled steps that one step performs."""
    steps = items_of(elements, _SCHEDULED_STEPS)
    found = (texts_of(item, _STUDY_INSTANCE_UID)[0] for item in steps)
    return sorted({study for study in found if is_uid(study)})


def _of_the_patient(elements: Elements, studies: Iterable[str], uid: str) -> list[Mention]:
    """What the step ``uid`` that begins says of its studies, which may be none, and of its
    patient."""
    patient = read_patient(elements)
    whose = patient.patient_id, patient.issuer_oid
    about = [About(study, *whose) for study in [*studies] or [""]]
    return [_of_step(Purpose.STEP_BEGUN, one, uid) for one in about]


def _of_step(purpose: Purpose, about: About, uid: str) -> Mention:
    """A step of a study; what is no UID is not repeated."""
    return Mention(purpose, about, step=uid if is_uid(uid) else "")


def _named(elements: Elements) -> Iterator[Elements]:
    """The items of a notice, one for each instance."""
    for series in items_of(elements, _REFERENCED_SERIES):
        yield from items_of(series, _REFERENCED_SOP)


def _created(exchange: Exchange) -> str:
    """The UID of what is created: the user's, or one of ours that the response tells."""
    uid = exchange.request.sop_instance_uid or str(generate_uid())
    exchange.request = replace(exchange.request, sop_instance_uid=uid)
    return uid


def _require_uid(uid: str) -> None:
    if not is_uid(uid):
        raise Refused(_INVALID_INSTANCE, "Affected SOP Instance UID is not a UID")


def _status(elements: Elements) -> Step | None:
    """The status that is given; Refused for one that there is not."""
    (text,) = texts_of(elements, _STATUS)
    try:
        return Step(text) if text else None
    except ValueError:
        raise Refused(_INVALID_VALUE, "no such status of a step (0040,0252)") from None


def _hold_steps(connection: Connection, studies: Iterable[str]) -> None:
    """Have whoever ends another step of these studies wait: one of two that end at once is the
    last, and sees that it is. In one order for all."""
    columns = PERFORMED_STEP.c.sop_instance_uid, PERFORMED_STEP.c.study_instance_uid
    query = select(*columns).where(PERFORMED_STEP.c.study_instance_uid.in_(studies))
    connection.execute(query.order_by(*columns).with_for_update()).close()


def _studies_of(connection: Connection, uid: str) -> list[str]:
    query = select(PERFORMED_STEP.c.study_instance_uid)
    found = query.where(PERFORMED_STEP.c.sop_instance_uid == uid)
    return list(connection.execute(found).scalars())
