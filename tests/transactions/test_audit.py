from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from hl7.v3 import request
from hl7.v3.acknowledgement import Acknowledgement
from hl7.v3.names import II
from metadata.catalogue import RegistryError
from metadata.identifiers import PARTIAL_SUCCESS
from metadata.model import Submission
from soap.message import InMemory
from transactions import (
    iti_8,
    iti_9,
    iti_18,
    iti_41,
    iti_42,
    iti_43,
    iti_44,
    iti_51,
    iti_57,
    iti_61,
    iti_62,
    iti_64,
    iti_86,
    iti_92,
    rad_68,
    rad_69,
)
from transactions.audit import (
    Action,
    AuditEvent,
    Coded,
    Node,
    Outcome,
    Participant,
    Scene,
    Side,
    to_xml,
)
from transactions.audit_events import (
    WEB_IMAGING,
    access_changed_event,
    application_event,
    authentication_failed_event,
    clock_event,
    configuration_event,
    emergency_event,
    merge_undone_events,
    trail_pruned_event,
    trail_used_event,
    unread_event,
    web_imaging_event,
)
from transactions.iti_18 import AdhocQueryResponse
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_43 import (
    DocumentRequest,
    RetrievedDocument,
    RetrieveDocumentSetRequest,
    RetrieveDocumentSetResponse,
)
from transactions.iti_62 import RemoveObjectsRequest
from transactions.iti_86 import RemoveDocumentsRequest
from transactions.rad_69 import (
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)
from transactions.registry_response import RegistryResponse
from transactions.stored_query import (
    find_documents,
    find_documents_for_multiple_patients,
    get_documents,
)

SeenFrom = Callable[[Side], Scene]
PATIENT = "MRN-1^^^&1.2.3.4&ISO"
LOCAL = "77^^^&1.2.9&ISO"
ROLE = request.PatientRole([II("1.2.3.4", "MRN-1")], "DUPONT")
MERGED = request.merge(ROLE, II("1.2.3.4", "OLD"), "1.2.5", "1.2.6")
FAILED = RegistryResponse.of([RegistryError("XDSRegistryError", "x")])
TWO_STAYS = RegistryResponse(
    PARTIAL_SUCCESS, (RegistryError("XDSRemoveDocumentsError", "document 1.2.2 stays"),)
)
ONE, TWO, THREE = (DocumentRequest("1.2", f"1.2.{n}", "urn:oid:1.9") for n in (1, 2, 3))


def retrieved(
    *requests: DocumentRequest, errors: Sequence[RegistryError] = ()
) -> RetrieveDocumentSetResponse:
    return RetrieveDocumentSetResponse.of(
        errors, [RetrievedDocument(one, "text/plain", InMemory(b"x")) for one in requests]
    )


@pytest.fixture(scope="session")
def audit_schema(standards: Path) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(standards / "dicom-audit" / "dicom2017c.xsd"))


@pytest.fixture
def written(audit_schema: etree.XMLSchema) -> Callable[[AuditEvent], etree._Element]:
    """The record in its DICOM form, checked against the schema."""

    def write(event: AuditEvent) -> etree._Element:
        message = etree.fromstring(to_xml(event))
        audit_schema.assertValid(message)
        return message

    return write


def all_events(submission: Submission, scene: Scene) -> list[AuditEvent]:
    submit = SubmitObjectsRequest.of(submission)
    provide = ProvideAndRegisterRequest(submit, {})
    study = StudyRequest("1.5", (SeriesRequest("1.6", (ONE, TWO)),))
    images = RetrieveImagingDocumentSetRequest((study,), ("1.2.840.10008.1.2.1",))
    return [
        *iti_18.audit(find_documents(PATIENT), AdhocQueryResponse.of(), scene),
        *iti_51.audit(find_documents_for_multiple_patients(), AdhocQueryResponse.of(), scene),
        *iti_41.audit(provide, RegistryResponse.of(), scene),
        *iti_42.audit(submit, FAILED, scene),
        *iti_61.audit(submit, RegistryResponse.of(), scene),
        *iti_86.audit(RemoveDocumentsRequest((ONE, TWO)), TWO_STAYS, scene),
        *iti_43.audit(RetrieveDocumentSetRequest((ONE, TWO)), retrieved(ONE), scene),
        *iti_57.audit(submit, RegistryResponse.of(), scene),
        *iti_62.audit(RemoveObjectsRequest(["urn:uuid:1", "urn:uuid:2"]), FAILED, scene),
        *iti_92.audit(submit, RegistryResponse.of(), scene),
        *rad_68.audit(provide, None, scene),
        *rad_69.audit(images, retrieved(ONE), scene),
        *iti_8.audit("A40", [PATIENT], "OLD^^^&1.2.3.4&ISO", "MSG1", Outcome.SUCCESS, scene),
        *iti_8.audit("", [], None, "", Outcome.SERIOUS_FAILURE, scene),
        *iti_9.audit([PATIENT, LOCAL], b"QPD|IHE PIX Query", "M3", Outcome.SUCCESS, scene),
        *iti_44.audit(MERGED, Acknowledgement("CA"), scene),
        *iti_64.audit([PATIENT, LOCAL], "OLD^^^&1.2.3.4&ISO", "MSG2", Outcome.SUCCESS, scene),
    ]


@pytest.mark.parametrize("side", Side)
def test_every_record_is_valid(
    side: Side,
    submission: Submission,
    scene: SeenFrom,
    written: Callable[[AuditEvent], etree._Element],
) -> None:
    events = all_events(submission, scene(side))
    assert len(events) == 23
    for event in events:
        message = written(event)
        assert [child.tag for child in message][:2] == ["EventIdentification", "ActiveParticipant"]


def test_what_is_recorded_beside_transactions_is_valid(
    scene: SeenFrom, written: Callable[[AuditEvent], etree._Element]
) -> None:
    here = scene(Side.SERVER)
    events = [
        application_event(True, here),
        configuration_event("ab" * 32, here),
        clock_event("2026-01-02T04:00:00+00:00", here),
        authentication_failed_event("https://here/registry", "the assertion has expired", here),
        emergency_event("<ada@idp>", "unconscious", [PATIENT], here),
        access_changed_event("operator", PATIENT, "opposed", here),
        *merge_undone_events("operator", [PATIENT], "two brothers", Outcome.SUCCESS, here),
        trail_used_event("operator", here),
        trail_pruned_event("operator", "2026-01-01T00:00:00+00:00", here),
        unread_event("ITI-18", "Registry Stored Query", "<AdhocQuery> is missing", here),
        *(
            web_imaging_event(number, ["1.2.3"], b"/studies?x=1", Outcome.SUCCESS, here)
            for number in WEB_IMAGING
        ),
    ]
    types = [written(one).find("EventIdentification/EventTypeCode") for one in events]
    codes = [one.get("csd-code") for one in types if one is not None]
    assert codes == [
        *("110120", "110131", "110129", "110126", "110127", "110135", "110110", "110101", "110132"),
        "ITI-18",
        *WEB_IMAGING,
    ]


def test_both_sides_record_the_same_exchange(submission: Submission, scene: SeenFrom) -> None:
    """The two records differ in what happened to the data, not in what it was about."""
    for ours, theirs in zip(
        all_events(submission, scene(Side.CLIENT)),
        all_events(submission, scene(Side.SERVER)),
        strict=True,
    ):
        assert (ours.type, ours.outcome, ours.objects) == (
            theirs.type,
            theirs.outcome,
            theirs.objects,
        )
        assert ours.participants == theirs.participants


def kind(event: AuditEvent) -> tuple[str, Action]:
    return event.id.code, event.action


@pytest.mark.parametrize(
    ("number", "client", "server"),
    [
        ("ITI-18", ("110112", Action.EXECUTE), ("110112", Action.EXECUTE)),
        ("ITI-51", ("110112", Action.EXECUTE), ("110112", Action.EXECUTE)),
        ("ITI-41", ("110106", Action.READ), ("110107", Action.CREATE)),
        ("ITI-42", ("110106", Action.READ), ("110107", Action.CREATE)),
        ("ITI-43", ("110107", Action.CREATE), ("110106", Action.READ)),
        ("ITI-57", ("110106", Action.UPDATE), ("110107", Action.UPDATE)),
        ("ITI-62", ("110110", Action.DELETE), ("110110", Action.DELETE)),
        ("ITI-92", ("110106", Action.UPDATE), ("110107", Action.UPDATE)),
        ("ITI-61", ("110106", Action.READ), ("110107", Action.CREATE)),
        ("ITI-86", ("110110", Action.DELETE), ("110110", Action.DELETE)),
        ("RAD-68", ("110106", Action.READ), ("110107", Action.CREATE)),
        ("RAD-69", ("110103", Action.CREATE), ("110104", Action.READ)),
    ],
)
def test_each_transaction_has_its_event(
    number: str,
    client: tuple[str, Action],
    server: tuple[str, Action],
    submission: Submission,
    scene: SeenFrom,
) -> None:
    for side, expected in ((Side.CLIENT, client), (Side.SERVER, server)):
        events = [one for one in all_events(submission, scene(side)) if one.type.code == number]
        assert events
        assert {kind(event) for event in events} == {expected}


@pytest.mark.parametrize(
    ("number", "sender"),
    [("ITI-41", 0), ("ITI-18", 0), ("ITI-51", 0), ("ITI-43", 1), ("RAD-69", 1)],
)
def test_the_source_is_who_sends_the_data_and_the_requestor_who_asked(
    number: str, sender: int, submission: Submission, scene: SeenFrom
) -> None:
    events = [e for e in all_events(submission, scene(Side.SERVER)) if e.type.code == number]
    client, server = events[0].participants
    assert client.is_requestor
    assert not server.is_requestor
    roles = [client.roles[0].code, server.roles[0].code]
    assert roles[sender] == "110153"
    assert roles[1 - sender] == "110152"
    assert client.alternative_user_id == "4711"


def test_a_query_is_recorded_with_its_patient_and_its_whole_message(
    scene: SeenFrom, written: Callable[[AuditEvent], etree._Element]
) -> None:
    request = find_documents(PATIENT)
    (event,) = iti_18.audit(request, AdhocQueryResponse.of(), scene(Side.SERVER))
    patient, query = written(event).iter("ParticipantObjectIdentification")
    assert patient.get("ParticipantObjectID") == PATIENT
    assert query.get("ParticipantObjectID") == request.query_id
    assert query.get("ParticipantObjectTypeCodeRole") == "24"
    encoded = query.findtext("ParticipantObjectQuery")
    assert encoded is not None
    assert etree.fromstring(base64.b64decode(encoded)).tag == iti_18.ROOT


def test_a_query_by_id_is_recorded_with_its_community(scene: SeenFrom) -> None:
    request = get_documents(unique_id=["1.2"], home="urn:oid:1.9")
    (event,) = iti_18.audit(request, AdhocQueryResponse.of(), scene(Side.CLIENT))
    (query,) = event.objects
    assert query.details == (
        ("QueryEncoding", "UTF-8"),
        ("urn:ihe:iti:xca:2010:homeCommunityId", "urn:oid:1.9"),
    )


@pytest.mark.parametrize("values", [[], ["unquoted"], ["''"]])
def test_a_query_whose_patient_cannot_be_read_is_recorded_without(
    values: list[str], scene: SeenFrom
) -> None:
    request = replace(find_documents(PATIENT), parameters=[("$XDSDocumentEntryPatientId", values)])
    (event,) = iti_18.audit(request, None, scene(Side.SERVER))
    assert [one.role for one in event.objects] == [24]


def test_outcomes_tell_success_from_failure_and_silence(scene: SeenFrom) -> None:
    request, server = find_documents(PATIENT), scene(Side.SERVER)
    error = RegistryError("XDSRegistryError", "x")
    outcomes = [
        iti_18.audit(request, response, server)[0].outcome
        for response in (
            AdhocQueryResponse.of(),
            AdhocQueryResponse.of([b"<a/>"], [error]),
            AdhocQueryResponse.of([], [error]),
            None,
        )
    ]
    assert outcomes == [0, 4, 8, 12]


def test_a_submission_is_recorded_with_patient_and_submission_set(
    submission: Submission, scene: SeenFrom
) -> None:
    (event,) = iti_42.audit(
        SubmitObjectsRequest.of(submission), RegistryResponse.of(), scene(Side.SERVER)
    )
    patient, submission_set = event.objects
    assert (patient.id, patient.type_code, patient.role) == (PATIENT, 1, 1)
    assert (submission_set.id, submission_set.type_code, submission_set.role) == (
        "1.2.3.4.6",
        2,
        20,
    )
    assert submission_set.id_type.code == "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"


def test_a_removal_is_recorded_with_every_object(
    scene: SeenFrom, written: Callable[[AuditEvent], etree._Element]
) -> None:
    request = RemoveObjectsRequest(["urn:uuid:1", "urn:uuid:2"])
    for_patient = scene(Side.SERVER)._replace(patient_id=PATIENT)
    (event,) = iti_62.audit(request, RegistryResponse.of(), for_patient)
    objects = written(event).findall("ParticipantObjectIdentification")
    assert [
        (one.get("ParticipantObjectID"), one.get("ParticipantObjectTypeCodeRole"))
        for one in objects
    ] == [(PATIENT, "1"), ("urn:uuid:1", "3"), ("urn:uuid:2", "3")]


def test_a_partial_retrieval_leaves_a_success_and_a_failure(scene: SeenFrom) -> None:
    request = RetrieveDocumentSetRequest((ONE, TWO, THREE))
    response = retrieved(ONE, THREE, errors=[RegistryError("XDSDocumentUniqueIdError", "x")])
    good, bad = iti_43.audit(request, response, scene(Side.CLIENT)._replace(patient_id=PATIENT))
    assert (good.outcome, [one.id for one in good.objects]) == (0, [PATIENT, "1.2.1", "1.2.3"])
    assert (bad.outcome, [one.id for one in bad.objects]) == (8, [PATIENT, "1.2.2"])
    assert good.objects[1].details == (
        ("Repository Unique ID", "1.2"),
        ("ihe:homeCommunityID", "urn:oid:1.9"),
    )


def test_a_retrieval_without_any_answer_is_a_major_failure(scene: SeenFrom) -> None:
    (event,) = iti_43.audit(RetrieveDocumentSetRequest((ONE,)), None, scene(Side.CLIENT))
    assert event.outcome is Outcome.MAJOR_FAILURE


def test_images_are_recorded_by_study_with_their_number(
    scene: SeenFrom, written: Callable[[AuditEvent], etree._Element]
) -> None:
    study = StudyRequest("1.5", (SeriesRequest("1.6", (ONE, TWO)), SeriesRequest("1.7", (THREE,))))
    request = RetrieveImagingDocumentSetRequest((study,), ("1.2.840.10008.1.2.1",))
    good, bad = rad_69.audit(request, retrieved(ONE, TWO), scene(Side.SERVER))
    assert [(one.id, one.instances) for one in good.objects] == [("1.5", 2)]
    assert [(one.id, one.instances) for one in bad.objects] == [("1.5", 1)]
    assert written(good).find(".//SOPClass[@NumberOfInstances='2']") is not None


@pytest.mark.parametrize(
    ("event", "subsumed", "actions"),
    [
        ("A01", None, [Action.CREATE]),
        ("A04", None, [Action.CREATE]),
        ("A05", None, [Action.CREATE]),
        ("A08", None, [Action.UPDATE]),
        ("A40", "OLD", [Action.DELETE, Action.UPDATE]),
    ],
)
def test_identity_events_say_what_became_of_the_patient(
    event: str, subsumed: str | None, actions: list[Action], scene: SeenFrom
) -> None:
    hl7 = scene(Side.SERVER)._replace(client=Node("HOSPITAL|ADT"), server=Node("REGION|KOSMOS"))
    records = iti_8.audit(event, [PATIENT], subsumed, "MSG-1", Outcome.SUCCESS, hl7)
    assert [record.action for record in records] == actions
    assert {record.id.code for record in records} == {"110110"}
    assert all(record.objects[0].details == (("MSH-10", "MSG-1"),) for record in records)
    if subsumed:
        assert [record.objects[0].id for record in records] == [subsumed, PATIENT]


def test_details_travel_in_base64_and_odd_characters_survive(
    scene: SeenFrom, written: Callable[[AuditEvent], etree._Element]
) -> None:
    (event,) = iti_8.audit("A01", ['é&<"'], None, "<&é\n", Outcome.SUCCESS, scene(Side.SERVER))
    (item,) = written(event).iter("ParticipantObjectIdentification")
    assert item.get("ParticipantObjectID") == 'é&<"'
    (detail,) = item.iter("ParticipantObjectDetail")
    assert base64.b64decode(detail.get("value", "")).decode() == "<&é\n"


def test_times_are_utc_and_addresses_named_by_kind(
    scene: SeenFrom, written: Callable[[AuditEvent], etree._Element]
) -> None:
    (event,) = iti_18.audit(find_documents(PATIENT), None, scene(Side.CLIENT))
    message = written(event)
    identification = message.find("EventIdentification")
    assert identification is not None
    assert identification.get("EventDateTime") == "2026-01-02T03:04:05.678Z"
    kinds = [one.get("NetworkAccessPointTypeCode") for one in message.iter("ActiveParticipant")]
    assert kinds == ["2", "1"]


def test_what_a_sender_left_nameless_is_recorded_all_the_same(
    submission: Submission, scene: SeenFrom, written: Callable[[AuditEvent], etree._Element]
) -> None:
    submission.submission_sets[0].unique_id = None
    request = SubmitObjectsRequest.of(submission)
    (event,) = iti_42.audit(request, FAILED, scene(Side.SERVER))
    ids = [
        one.get("ParticipantObjectID")
        for one in written(event).iter("ParticipantObjectIdentification")
    ]
    assert "unknown" in ids


def test_people_and_purpose_are_recorded(
    scene: SeenFrom, written: Callable[[AuditEvent], etree._Element]
) -> None:
    nurse = Participant(
        "marie", True, (Coded("N", "1.2", "nurse"),), user_name="marie<m@https://idp.example>"
    )
    treatment = Coded("TREATMENT", "1.2.3", "Treatment")
    seen = scene(Side.SERVER)._replace(users=(nurse,), purpose_of_use=(treatment,), site_id="HUG")
    (event,) = iti_18.audit(find_documents(PATIENT), None, seen)
    message = written(event._replace(outcome_description="no answer"))
    assert message.find("ActiveParticipant[@UserName]") is not None
    assert message.find("EventIdentification/PurposeOfUse") is not None
    assert message.findtext("EventIdentification/EventOutcomeDescription") == "no answer"
    assert message.find("AuditSourceIdentification[@AuditEnterpriseSiteID='HUG']") is not None


def test_an_end_without_address_or_name_is_still_valid(
    scene: SeenFrom, written: Callable[[AuditEvent], etree._Element]
) -> None:
    (event,) = iti_18.audit(
        find_documents(PATIENT), None, scene(Side.SERVER)._replace(client=Node(""))
    )
    participant = written(event).find("ActiveParticipant")
    assert participant is not None
    assert participant.get("UserID") == "unknown"
    assert participant.get("NetworkAccessPointTypeCode") is None


@pytest.mark.parametrize(("patients", "named"), [([PATIENT], 1), ([], 0), ([PATIENT, "B"], 0)])
def test_a_query_across_patients_names_its_patient_if_it_is_one(
    patients: list[str], named: int, scene: SeenFrom
) -> None:
    request = find_documents_for_multiple_patients(patients)
    (event,) = iti_51.audit(request, None, scene(Side.SERVER))
    assert event.type == Coded("ITI-51", "IHE Transactions", "Multi-Patient Stored Query")
    assert len(event.objects) == named + 1
    assert event.objects[-1].id == request.query_id
    assert [one.id for one in event.objects[:-1]] == patients[:named]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request.add(ROLE, "1.2.5", "1.2.6"), [(Action.CREATE, PATIENT)]),
        (request.revise(ROLE, "1.2.5", "1.2.6"), [(Action.UPDATE, PATIENT)]),
        (MERGED, [(Action.DELETE, "OLD^^^&1.2.3.4&ISO"), (Action.UPDATE, PATIENT)]),
    ],
)
def test_an_identity_feed_of_hl7_v3_is_a_patient_record(
    asked: request.IdentityRequest, expected: list[tuple[Action, str]], scene: SeenFrom
) -> None:
    events = iti_44.audit(asked, Acknowledgement("CA"), scene(Side.SERVER))
    assert [(event.action, event.objects[0].id) for event in events] == expected
    for event in events:
        assert event.type == Coded("ITI-44", "IHE Transactions", "Patient Identity Feed")
        assert (event.id.code, event.outcome) == ("110110", Outcome.SUCCESS)
        assert event.objects[0].details == (("II", asked.message_id.root),)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Acknowledgement("CE"), Outcome.SERIOUS_FAILURE),
        (Acknowledgement("CR"), Outcome.SERIOUS_FAILURE),
        (None, Outcome.MAJOR_FAILURE),
    ],
)
def test_a_refused_feed_of_hl7_v3_is_recorded_as_one(
    answer: Acknowledgement | None, outcome: Outcome, scene: SeenFrom
) -> None:
    [event] = iti_44.audit(request.add(ROLE, "1", "2"), answer, scene(Side.CLIENT))
    assert event.outcome == outcome


def test_a_link_change_updates_both_patients(scene: SeenFrom) -> None:
    old = "OLD^^^&1.2.3.4&ISO"
    before, after = iti_64.audit([PATIENT, LOCAL], old, "MSG", Outcome.SUCCESS, scene(Side.SERVER))
    assert [one.id for one in before.objects] == [old]
    assert [one.id for one in after.objects] == [PATIENT, LOCAL]
    assert {event.action for event in (before, after)} == {Action.UPDATE}
    assert before.objects[0].details == (("MSH-10", "MSG"),)


def test_a_partial_removal_leaves_what_is_gone_and_what_is_not(scene: SeenFrom) -> None:
    request = RemoveDocumentsRequest((ONE, TWO))
    gone, kept = iti_86.audit(request, TWO_STAYS, scene(Side.SERVER))
    assert (gone.outcome, [one.id for one in gone.objects]) == (Outcome.SUCCESS, ["1.2.1"])
    assert (kept.outcome, [one.id for one in kept.objects]) == (
        Outcome.SERIOUS_FAILURE,
        ["1.2.2"],
    )
    assert gone.objects[0].details == (("urn:ihe:iti:xds:2007:repositoryUniqueId", "1.2"),)
    located = RegistryResponse(PARTIAL_SUCCESS, (RegistryError("X", "told", location="1.2.1"),))
    assert [
        event.objects[0].id for event in iti_86.audit(request, located, scene(Side.CLIENT))
    ] == [
        "1.2.2",
        "1.2.1",
    ]
    [lost] = iti_86.audit(request, None, scene(Side.CLIENT))
    assert lost.outcome is Outcome.MAJOR_FAILURE


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "other"},
        {"is_requestor": False},
        {"roles": (Coded("1", "s", "m"),)},
        {"roles": (Coded("2", "s", "other"),)},
        {"alternative_user_id": "other"},
        {"user_name": "other"},
        {"address": "10.0.0.2"},
        {"address": "other.host"},
    ],
)
def test_who_differs_in_anything_is_written_as_he_is(
    change: dict[str, object], scene: SeenFrom
) -> None:
    one = Participant("id", True, (Coded("2", "s", "m"),), "alternative", "name", "10.0.0.1")
    seen = scene(Side.SERVER)._replace(users=(one,))
    [event] = iti_18.audit(find_documents(PATIENT), AdhocQueryResponse.of(), seen)
    first = to_xml(event)
    other = one._replace(**change)  # type: ignore[arg-type]
    people = tuple(other if who == one else who for who in event.participants)
    second = to_xml(event._replace(participants=people))
    assert first != second
    assert to_xml(event) == first
