"""Corrected demographics (PIR): the index follows the hospital's ADT feed.

Covers what RAD TF-2 4.12 asks of an image manager: on ADT^A08 the studies of a patient that are
here get the name, birth date and sex that the message states; on ADT^A40 those of the subsumed
identifier become the survivor's, and so do those that arrive under it later. The revision of a
study that changed grows, so that its manifest is replaced, and so are its reports. Files stay as
they were received: ``imaging_source.coercion`` corrects what leaves.

A study that arrives after an A08 carries what its modality knew then, and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, insert, select, update

from hl7.demographics import Demographics, Identifier
from imaging_source.names import folded
from imaging_source.reports import reissue
from imaging_source.schema import CORRECTION, MERGED_PATIENT, STUDY, STUDY_NAME
from manifest.model import Patient
from storage.statement import in_portions

_NOTHING: dict[str, None] = dict.fromkeys(("patient_id", "patient_name", "birth_date", "sex"))

_SUBSUMED = (
    STUDY.c.patient_id == MERGED_PATIENT.c.patient_id,
    STUDY.c.issuer_oid == MERGED_PATIENT.c.issuer_oid,
)


@dataclass(frozen=True, slots=True)
class Correction:
    """What a study's images must say on the way out; None leaves what they say."""

    patient_id: str | None
    patient_name: str | None
    birth_date: str | None
    sex: str | None
    corrected_at: float
    source: str


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who issues the patient identifiers of this source.

    ``own`` are the OIDs that mean the same numbers as an image that names no issuer;
    ``namespace`` is the HL7 namespace for which a feed may leave the OID out.
    """

    own: frozenset[str]
    namespace: str = ""

    def issuers(self, identifier: Identifier) -> tuple[str, ...]:
        """The issuers that images may name for this identifier's authority."""
        authority = identifier.authority
        is_own = authority in self.own if authority else identifier.namespace == self.namespace
        if is_own:
            return tuple(sorted(self.own | {""}))
        return (authority,) if authority else ()


def correct(
    connection: Connection, said: Demographics, authorities: Authorities, now: float
) -> int:
    """Let ``said`` take effect; how many studies it changed. Once more changes nothing."""
    keys = [(one.value, authorities.issuers(one)) for one in said.identifiers]
    for gone in said.merged:
        issuers = authorities.issuers(gone)
        survivor = next((value for value, others in keys if others == issuers), None)
        if issuers and survivor not in (None, gone.value):
            _merge(connection, gone.value, str(survivor), issuers, now)
    changed = adopt(connection, now, said.source)
    for value, issuers in keys:
        found = _studies(connection, STUDY.c.patient_id == value, STUDY.c.issuer_oid.in_(issuers))
        changed += sum(_restate(connection, study, said, now) for study in found)
    return changed


def adopt(connection: Connection, now: float, source: str = "") -> int:
    """Give studies under a subsumed identifier to its survivor; how many there were."""
    subsumed = _studies(connection, *_SUBSUMED)
    for study in subsumed:
        survivor = _survivor(connection, study["patient_id"], study["issuer_oid"])
        _change(connection, study, {"patient_id": survivor}, now, source)
    return len(subsumed)


def are_astray(connection: Connection) -> bool:
    """Whether a study that waits to be published is under a subsumed identifier."""
    query = (
        select(STUDY.c.study_instance_uid)
        .where(STUDY.c.revision > STUDY.c.published_revision, *_SUBSUMED)
        .limit(1)
    )
    return connection.execute(query).first() is not None


def is_same_patient(connection: Connection, arriving: Patient, known_id: str) -> bool:
    """Whether the patient of an arriving image has been merged into the one that is known."""
    return _survivor(connection, arriving.patient_id, arriving.issuer_oid) == known_id


def corrections_of(connection: Connection, studies: Iterable[str]) -> Mapping[str, Correction]:
    """What is to be coerced in the images of ``studies``, by Study Instance UID."""
    found: dict[str, Correction] = {}
    for portion in in_portions(sorted(set(studies))):
        part = CORRECTION.c.study_instance_uid.in_(portion)
        for row in connection.execute(select(CORRECTION).where(part)):
            uid, *values = row
            found[uid] = Correction(*values)
    return found


def _merge(
    connection: Connection, gone: str, survivor: str, issuers: tuple[str, ...], now: float
) -> None:
    """Note that ``gone`` is ``survivor``, and what had become ``gone`` is too."""
    columns = MERGED_PATIENT.c
    here = columns.issuer_oid.in_(issuers)
    # An identifier that survives stands for itself again, whatever was said before.
    connection.execute(delete(MERGED_PATIENT).where(here, columns.patient_id.in_([gone, survivor])))
    earlier = update(MERGED_PATIENT).where(here, columns.surviving_id == gone)
    connection.execute(earlier.values(surviving_id=survivor))
    rows = [
        {"patient_id": gone, "issuer_oid": one, "surviving_id": survivor, "merged_at": now}
        for one in issuers
    ]
    connection.execute(insert(MERGED_PATIENT), rows)


def _survivor(connection: Connection, patient_id: str, issuer_oid: str) -> str | None:
    found = select(MERGED_PATIENT.c.surviving_id).where(
        MERGED_PATIENT.c.patient_id == patient_id, MERGED_PATIENT.c.issuer_oid == issuer_oid
    )
    return connection.execute(found).scalar_one_or_none()


def _studies(connection: Connection, *where: ColumnElement[bool]) -> list[RowMapping]:
    """The studies, locked in the order of their UIDs."""
    query = select(STUDY).where(*where).order_by(STUDY.c.study_instance_uid)
    return list(connection.execute(query.with_for_update(of=STUDY)).mappings())


def _restate(connection: Connection, study: RowMapping, said: Demographics, now: float) -> bool:
    stated = {"patient_name": said.name, "birth_date": said.birth_date, "sex": said.sex}
    values = {name: value for name, value in stated.items() if value is not None}
    different = {name: value for name, value in values.items() if study[name] != value}
    if different:
        _change(connection, study, different, now, said.source)
    return bool(different)


def _change(
    connection: Connection, study: RowMapping, values: dict[str, Any], now: float, source: str
) -> None:
    """Correct the study's row, and let its images follow on the way out."""
    uid = study["study_instance_uid"]
    connection.execute(
        update(STUDY)
        .where(STUDY.c.study_instance_uid == uid)
        .values(**values, revision=STUDY.c.revision + 1, changed_at=now)
    )
    if "patient_name" in values:
        compared = update(STUDY_NAME).where(STUDY_NAME.c.study_instance_uid == uid)
        connection.execute(compared.values(patient_name=folded(values["patient_name"])))
    reissue(connection, uid, now)
    before = corrections_of(connection, [uid]).get(uid)
    said = values | {"corrected_at": now, "source": source}
    if before is None:
        connection.execute(insert(CORRECTION), {"study_instance_uid": uid, **_NOTHING, **said})
    else:
        said["source"] = source or before.source
        row = update(CORRECTION).where(CORRECTION.c.study_instance_uid == uid)
        connection.execute(row.values(**said))
