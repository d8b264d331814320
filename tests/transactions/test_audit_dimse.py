"""The records of DICOM associations: valid, and about the right ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from transactions.audit import Action, AuditEvent, Coded, Node, Outcome, Scene, Side, to_xml
from transactions.audit_dimse import (
    AVAILABILITY_NOTIFICATION,
    RETRIEVED,
    STEP_IN_PROGRESS,
    STORAGE_COMMITMENT,
    STORED,
    Travel,
    begin_event,
    interrupted_event,
    mention_event,
    query_event,
    transferred_events,
)
from transactions.audit_events import study_object

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
OWN, ASKER, THIRD = Node("KOSMOS", "here", "17"), Node("ASKER", "10.0.0.1"), Node("VIEWER", "v")
PATIENT = "P1^^^&1.2.3.4&ISO"


@pytest.fixture
def seen(scene: Callable[[Side], Scene]) -> Scene:
    return scene(Side.SERVER)._replace(client=ASKER, server=OWN)


def ends(event: AuditEvent) -> list[tuple[str, bool, tuple[Coded, ...]]]:
    return [(one.user_id, one.is_requestor, one.roles) for one in event.participants]


def role(code: str) -> tuple[Coded, ...]:
    meaning = {"110153": "Source Role ID", "110152": "Destination Role ID"}[code]
    return (Coded(code, "DCM", meaning),)


def test_a_store_is_recorded_as_begun_and_as_transferred(seen: Scene) -> None:
    travel = Travel(STORED, "1.2.9", PATIENT, ASKER, OWN, Action.CREATE)
    begun = begin_event(travel, seen)
    assert (begun.id.code, begun.type.code, begun.action) == ("110102", "RAD-8", Action.EXECUTE)
    (done,) = transferred_events(travel, {CT: 300}, {}, seen)
    assert (done.id.code, done.action, done.outcome) == (
        "110104",
        Action.CREATE,
        Outcome.SUCCESS,
    )
    expected = [("ASKER", True, role("110153")), ("KOSMOS", False, role("110152"))]
    assert ends(begun) == ends(done) == expected
    assert [one.id for one in done.objects] == [PATIENT, "1.2.9"]
    assert f'<SOPClass UID="{CT}" NumberOfInstances="300"/>'.encode() in to_xml(done)


def test_what_failed_has_a_record_of_its_own(seen: Scene) -> None:
    travel = Travel(RETRIEVED, "1.2.9", PATIENT, OWN, ASKER)
    done, failed = transferred_events(travel, {CT: 2, MR: 1}, {CT: 1}, seen)
    assert (done.outcome, failed.outcome) == (Outcome.SUCCESS, Outcome.SERIOUS_FAILURE)
    assert done.action is Action.READ
    assert ends(done) == [("KOSMOS", False, role("110153")), ("ASKER", True, role("110152"))]
    assert transferred_events(travel, {}, {}, seen) == []


def test_of_a_move_three_took_part(seen: Scene) -> None:
    begun = begin_event(Travel(RETRIEVED, "1.2.9", PATIENT, OWN, THIRD), seen)
    assert ends(begun) == [
        ("KOSMOS", False, role("110153")),
        ("VIEWER", False, role("110152")),
        ("ASKER", True, ()),
    ]


def test_a_query_is_recorded_with_its_identifier(seen: Scene) -> None:
    event = query_event("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.2", b"\0\1", True, seen)
    assert (event.id.code, event.type.code, event.outcome) == ("110112", "RAD-14", Outcome.SUCCESS)
    (asked,) = event.objects
    assert (asked.query, asked.id_type.code) == (b"\0\1", "110181")


def test_instances_that_a_peer_is_told_of_are_accessed_and_not_transferred(seen: Scene) -> None:
    ours = seen._replace(client=OWN, server=ASKER)
    named = study_object("1.2.9", {CT: 2})
    event = mention_event(AVAILABILITY_NOTIFICATION, named, PATIENT, True, ours)
    assert (event.id.code, event.type.code, event.action) == ("110103", "RAD-49", Action.READ)
    assert ends(event) == [("KOSMOS", True, ()), ("ASKER", False, ())]
    assert [one.id for one in event.objects] == [PATIENT, "1.2.9"]
    assert f'<SOPClass UID="{CT}" NumberOfInstances="2"/>'.encode() in to_xml(event)


def test_a_step_is_recorded_by_its_uid(seen: Scene) -> None:
    step = study_object("1.2.9", step="1.2.10")
    event = mention_event(STEP_IN_PROGRESS, step, PATIENT, True, seen)
    assert (event.id.code, event.type.code, event.action) == ("110111", "RAD-6", Action.CREATE)
    assert b'<MPPS UID="1.2.10"/>' in to_xml(event)


def test_every_record_is_valid(seen: Scene, standards: Path) -> None:
    schema = etree.XMLSchema(etree.parse(standards / "dicom-audit" / "dicom2017c.xsd"))
    named, step = study_object("1.2.9", {CT: 2}), study_object("1.2.9", step="1.2.10")
    for travel in (
        Travel(STORED, "1.2.9", PATIENT, ASKER, OWN, Action.CREATE),
        Travel(RETRIEVED, "1.2.9", "", OWN, THIRD),
        Travel(STORED, "", "", ASKER, OWN, Action.CREATE),
    ):
        for event in (
            begin_event(travel, seen),
            interrupted_event(travel, seen),
            *transferred_events(travel, {CT: 2, MR: 1}, {CT: 1}, seen),
            query_event(CT, "1.2", b"x", False, seen),
            mention_event(STORAGE_COMMITMENT, named, "", True, seen),
            mention_event(AVAILABILITY_NOTIFICATION, named, PATIENT, False, seen),
            mention_event(STEP_IN_PROGRESS, step, PATIENT, True, seen),
        ):
            schema.assertValid(etree.fromstring(to_xml(event)))
