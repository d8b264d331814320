"""The index: what is stored, told from instances as they arrive.

``add`` is one unit of work inside ``Database.write``; the rest reads. First come, first
kept: an instance that contradicts what is stored is put aside, never mixed in. A rejection note
(``imaging_source.rejection``) takes effect in the transaction that takes it in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from sqlalchemy import (
    Connection,
    RowMapping,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from imaging_source import evicted, rejection, reports, requests
from imaging_source.corrections import is_same_patient
from imaging_source.header import Header
from imaging_source.names import folded
from imaging_source.rejection import Note
from imaging_source.schema import INSTANCE, QUARANTINE, REJECTION, SERIES, STUDY, STUDY_NAME
from imaging_source.shown import IN_ORDER, SHOWN
from manifest.model import ManifestInstance, ManifestSeries, Patient, Study
from storage.statement import Statement

_log = structlog.get_logger("kosmos.imaging_source")

MIGRATIONS = Path(__file__).parent / "migrations"
"""Where ``Database.migrate`` finds this room's schema."""


class Verdict(StrEnum):
    """What became of an instance; the value of a quarantine is its reason."""

    STORED = "stored"
    RESTORED = "restored"
    DUPLICATE = "duplicate"
    OTHER_BYTES = "other-bytes"
    OTHER_PATIENT = "other-patient"
    OTHER_STUDY = "other-study"

    @property
    def is_quarantine(self) -> bool:
        """Whether the instance was put aside."""
        return self not in (Verdict.STORED, Verdict.RESTORED, Verdict.DUPLICATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """An instance whose file is durable; ``sender`` is the AE title it came from.

    ``note`` is what it says, if it is a rejection note.
    """

    header: Header
    transfer_syntax_uid: str
    sha256: str
    size: int
    sender: str
    received_at: float
    note: Note | None = None


class _Known(NamedTuple):
    """What the index knows about the UIDs of an instance; None throughout for what is not there."""

    sha256: str | None
    patient_id: str | None
    issuer_oid: str | None
    accession_number: str | None
    placer_order_number: str | None
    study_of_series: str | None
    rejection: str | None


_UIDS = select(
    bindparam("instance", type_=Text).label("instance"),
    bindparam("study", type_=Text).label("study"),
    bindparam("series", type_=Text).label("series"),
).subquery()

_KNOWN = Statement(
    select(
        INSTANCE.c.sha256,
        STUDY.c.patient_id,
        STUDY.c.issuer_oid,
        STUDY.c.accession_number,
        STUDY.c.placer_order_number,
        SERIES.c.study_instance_uid,
        REJECTION.c.code,
    ).select_from(
        _UIDS.outerjoin(STUDY, STUDY.c.study_instance_uid == _UIDS.c.study)
        .outerjoin(SERIES, SERIES.c.series_instance_uid == _UIDS.c.series)
        .outerjoin(INSTANCE, INSTANCE.c.sop_instance_uid == _UIDS.c.instance)
        .outerjoin(
            REJECTION,
            and_(
                REJECTION.c.sop_instance_uid == _UIDS.c.instance,
                REJECTION.c.study_instance_uid == _UIDS.c.study,
                REJECTION.c.series_instance_uid == _UIDS.c.series,
            ),
        )
    )
)

# The note may have come while we waited for the study: it is looked for when the row is written,
# after the study has been touched, which a note does too before it looks for instances.
_ADD_INSTANCE = Statement(
    insert(INSTANCE).values(
        {column.name: bindparam(column.name, type_=column.type) for column in INSTANCE.columns}
        | {
            "rejection": func.coalesce(
                bindparam("rejection", type_=Text),
                select(REJECTION.c.code)
                .where(
                    REJECTION.c.sop_instance_uid == bindparam("sop_instance_uid"),
                    REJECTION.c.study_instance_uid == bindparam("study_instance_uid"),
                    REJECTION.c.series_instance_uid == bindparam("series_instance_uid"),
                )
                .scalar_subquery(),
            )
        }
    )
)

_TOUCH_STUDY = Statement(
    update(STUDY)
    .where(STUDY.c.study_instance_uid == bindparam("study"))
    .values(revision=STUDY.c.revision + 1, changed_at=bindparam("now"))
)

_LIST = Statement(
    select(
        INSTANCE.c.series_instance_uid,
        INSTANCE.c.sop_class_uid,
        INSTANCE.c.sop_instance_uid,
        INSTANCE.c.instance_number,
        INSTANCE.c.number_of_frames,
    )
    .join(SERIES, SERIES.c.series_instance_uid == INSTANCE.c.series_instance_uid)
    .where(INSTANCE.c.study_instance_uid == bindparam("study"), SHOWN)
    .order_by(*IN_ORDER)
)


def add(connection: Connection, arrived: Arrived) -> Verdict:
    """Take an instance into the index, or say why not.

    The same bytes again change nothing. Other bytes for a known SOP Instance UID, another
    patient for a known study and another study for a known series go to quarantine. What was
    named by a rejection note is kept and not shown, unless its retention had merely expired. Bytes
    that had been evicted are here again.
    """
    header = arrived.header
    uids = {
        "instance": header.sop_instance_uid,
        "study": header.study.study_instance_uid,
        "series": header.series_instance_uid,
    }
    known = _Known(*_KNOWN.rows(connection, uids)[0])
    verdict = _judge(connection, known, arrived)
    if verdict is Verdict.STORED:
        _insert(connection, arrived, known)
    elif verdict is Verdict.RESTORED:
        _restore(connection, arrived)
    elif verdict.is_quarantine:
        _put_aside(connection, arrived, verdict)
    if verdict in (Verdict.DUPLICATE, Verdict.RESTORED):
        evicted.returned(connection, uids["instance"], uids["study"], arrived.received_at)
    elif verdict is Verdict.OTHER_BYTES:
        evicted.hinder(connection, uids["instance"], evicted.Hindrance.OTHER_BYTES)
    return verdict


def describe(
    connection: Connection, study_instance_uid: str
) -> tuple[Study, tuple[ManifestSeries, ...]]:
    """The study and its series with their instances, in series and instance number order.

    Raises sqlalchemy.exc.NoResultFound for a study that is not there.
    """
    found = select(STUDY).where(STUDY.c.study_instance_uid == study_instance_uid)
    row = connection.execute(found).mappings().one()
    listed = _LIST.rows(connection, {"study": study_instance_uid})
    described = _series_of(connection, study_instance_uid)
    series = (
        replace(described[uid], instances=_instances(rows))
        for uid, rows in groupby(listed, key=itemgetter(0))
    )
    return requests.with_further(connection, _study(row)), tuple(series)


def _instances(rows: Iterable[tuple[Any, ...]]) -> tuple[ManifestInstance, ...]:
    """The instances of a series, of at least one row of ``_LIST``."""
    _, *columns = zip(*rows, strict=True)
    return tuple(map(ManifestInstance, *columns))


def _series_of(connection: Connection, study_instance_uid: str) -> dict[str, ManifestSeries]:
    """The series of a study by UID, without their instances."""
    rows = connection.execute(
        select(SERIES).where(SERIES.c.study_instance_uid == study_instance_uid)
    ).mappings()
    return {
        row["series_instance_uid"]: ManifestSeries(
            series_instance_uid=row["series_instance_uid"],
            modality=row["modality"],
            body_part=row["body_part"],
            series_number=row["series_number"],
            description=row["description"],
            date=row["date"] or "",
            time=row["time"] or "",
        )
        for row in rows
    }


def _judge(connection: Connection, known: _Known, arrived: Arrived) -> Verdict:
    study = arrived.header.study
    is_back = known.sha256 is not None and known.rejection == rejection.EXPIRED
    if known.sha256 is not None and not is_back:
        return Verdict.DUPLICATE if known.sha256 == arrived.sha256 else Verdict.OTHER_BYTES
    if _is_stranger(connection, known, study.patient):
        return Verdict.OTHER_PATIENT
    if known.study_of_series not in (None, study.study_instance_uid):
        return Verdict.OTHER_STUDY
    return Verdict.RESTORED if is_back else Verdict.STORED


def _is_stranger(connection: Connection, known: _Known, patient: Patient) -> bool:
    """Whether the study is known, and another patient's.

    An issuer that one device names and another leaves out is no contradiction, and neither is an
    identifier that was merged into the one that is known.
    """
    if known.patient_id is None:
        return False
    if known.patient_id == patient.patient_id:
        return len({known.issuer_oid, patient.issuer_oid} - {""}) > 1
    return not is_same_patient(connection, patient, known.patient_id)


def _insert(connection: Connection, arrived: Arrived, known: _Known) -> None:
    header, note = arrived.header, arrived.note
    if known.patient_id is None:
        connection.execute(insert(STUDY), _study_row(header.study, arrived.received_at))
        connection.execute(insert(STUDY_NAME), _name_row(header.study))
    if known.study_of_series is None:
        connection.execute(insert(SERIES), _series_row(header))
    _touch(connection, arrived)
    hidden = None if note is None else note.code
    _ADD_INSTANCE.run(connection, [{**_instance_row(arrived), "rejection": hidden}])
    reports.note_instance(connection, header.sop_class_uid, header.sop_instance_uid)
    if note is not None:
        misplaced = rejection.reject(connection, note, arrived.received_at)
        if misplaced:
            _log.warning("rejected elsewhere", code="imaging-rejection", count=misplaced)
    if known.patient_id is not None:
        named = (known.accession_number, known.placer_order_number)
        requests.keep(connection, header.study, named)


def _touch(connection: Connection, arrived: Arrived) -> None:
    """Let the study know that it has changed; its row stays locked from then on."""
    study = arrived.header.study.study_instance_uid
    _TOUCH_STUDY.run(connection, [{"study": study, "now": arrived.received_at}])


def _restore(connection: Connection, arrived: Arrived) -> None:
    """Take an instance in as new whose row has stayed behind."""
    uid = arrived.header.sop_instance_uid
    connection.execute(delete(REJECTION).where(REJECTION.c.sop_instance_uid == uid))
    row = update(INSTANCE).where(INSTANCE.c.sop_instance_uid == uid)
    connection.execute(row.values(**_instance_row(arrived), rejection=None))
    _touch(connection, arrived)
    reports.note_instance(connection, arrived.header.sop_class_uid, uid)


def _put_aside(connection: Connection, arrived: Arrived, verdict: Verdict) -> None:
    """Keep an instance out of the index; the same bytes are put aside once."""
    uid = arrived.header.sop_instance_uid
    already = select(QUARANTINE.c.sha256).where(
        QUARANTINE.c.sop_instance_uid == uid, QUARANTINE.c.sha256 == arrived.sha256
    )
    if connection.execute(already).first() is None:
        row = {
            "sop_instance_uid": uid,
            "sha256": arrived.sha256,
            "size": arrived.size,
            "reason": verdict.value,
            "sender": arrived.sender,
            "received_at": arrived.received_at,
        }
        connection.execute(insert(QUARANTINE), row)


def _study_row(study: Study, now: float) -> dict[str, Any]:
    """The study's columns: the attributes of ``Study`` and ``Patient`` under their own names."""
    row = asdict(study)
    del row["further_requests"]  # has a table of its own
    patient = row.pop("patient")
    row |= {"patient_name" if name == "name" else name: text for name, text in patient.items()}
    return row | {"changed_at": now, "revision": 0, "published_revision": 0}


def _name_row(study: Study) -> dict[str, str]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "patient_name": folded(study.patient.name),
        "referring_physician": folded(study.referring_physician),
    }


def _study(row: RowMapping) -> Study:
    return Study(
        study_instance_uid=row["study_instance_uid"],
        patient=Patient(
            patient_id=row["patient_id"],
            issuer=row["issuer"],
            issuer_oid=row["issuer_oid"],
            name=row["patient_name"],
            birth_date=row["birth_date"],
            sex=row["sex"],
        ),
        date=row["date"],
        time=row["time"],
        timezone_offset=row["timezone_offset"],
        description=row["description"],
        study_id=row["study_id"],
        accession_number=row["accession_number"],
        accession_issuer_oid=row["accession_issuer_oid"],
        placer_order_number=row["placer_order_number"],
        placer_issuer_oid=row["placer_issuer_oid"],
        requested_procedure_id=row["requested_procedure_id"],
        referring_physician=row["referring_physician"],
        institution=row["institution"],
        manufacturer=row["manufacturer"],
    )


def _series_row(header: Header) -> dict[str, Any]:
    return {
        "series_instance_uid": header.series_instance_uid,
        "study_instance_uid": header.study.study_instance_uid,
        "modality": header.modality,
        "series_number": header.series_number,
        "description": header.series_description,
        "body_part": header.body_part,
        "date": header.series_date,
        "time": header.series_time,
    }


def _instance_row(arrived: Arrived) -> dict[str, Any]:
    header = arrived.header
    return {
        "sop_instance_uid": header.sop_instance_uid,
        "study_instance_uid": header.study.study_instance_uid,
        "series_instance_uid": header.series_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": arrived.transfer_syntax_uid,
        "sha256": arrived.sha256,
        "size": arrived.size,
        "instance_number": header.instance_number,
        "number_of_frames": header.number_of_frames,
        "received_at": arrived.received_at,
    }
