"""What is hidden from a user is in no answer of the registry, on either engine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest

from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import XCN, CXi, LocalizedString
from metadata.model import Author, Code, DocumentEntry, Submission
from node.migrate import script_location
from registry import Registry
from security.access.carried import CarriedChoices
from security.access.decision import Asker, Policy
from security.access.sight import Sight
from security.choices.schema import MASK, OPPOSED, TREATING
from security.choices.store import Choice, ChoiceStore
from storage.database import Database
from storage.errors import DatabaseUnavailable
from tests.registry.conftest import House
from transactions.iti_18 import OBJECT_REF, AdhocQueryRequest
from transactions.stored_query import (
    find_documents,
    find_folders,
    find_submission_sets,
    get_all,
    get_associations,
    get_documents,
    get_documents_and_associations,
    get_folder_and_contents,
    get_folders_for_document,
    get_related_documents,
    get_submission_set_and_contents,
    get_submission_sets,
)

LEVELS = "2.16.840.1.113883.5.25"
N, V = (Code(level, LEVELS, LocalizedString(level)) for level in "NV")
DOCTOR = Asker(groups=frozenset({"professional"}), names=frozenset({"ada^^^&1.9&ISO"}))
NOW = datetime(2026, 3, 2, tzinfo=UTC)
CONSENT = Code("urn:ihe:iti:bppc:2007", "1.3.6.1.4.1.19376.1.2.3", LocalizedString("BPPC"))


@pytest.fixture
def carried(tmp_path: Path) -> Iterator[CarriedChoices]:
    with Database.open(f"sqlite:///{tmp_path}/access.db") as database:
        with script_location("security.access") as scripts:
            database.migrate(scripts)
        yield CarriedChoices(database)


@pytest.fixture
def choices(tmp_path: Path) -> Iterator[ChoiceStore]:
    with Database.open(f"sqlite:///{tmp_path}/choices.db") as database:
        with script_location("security.choices") as scripts:
            database.migrate(scripts)
        yield ChoiceStore(database)


class Doctor:
    """Asks the registry with the sight of a doctor."""

    def __init__(
        self, house: House, choices: ChoiceStore, carried: CarriedChoices, policy: Policy
    ) -> None:
        self.house = house
        self.choices = choices
        self.carried = carried
        self.sight = Sight(policy, DOCTOR, choices, carried, NOW)

    def asks(self, request: AdhocQueryRequest) -> Submission:
        response = self.house.registry.query(request, self.sight)
        assert response.status == xds.SUCCESS, response.errors
        return response.objects()

    def finds(self) -> set[str]:
        """The entryUUIDs of the documents found of P1."""
        return {one.entry_uuid for one in self.asks(find_documents(self.house.patient)).documents}

    def told(self, kind: str, subject: str = "", audience: str = "", until: str = "") -> None:
        """P1 has chosen."""
        choice = Choice(str(self.house.patient), kind, subject, audience, until, "op", "", "")
        self.choices.say(choice)


@pytest.fixture
def doctor(house: House, choices: ChoiceStore, carried: CarriedChoices) -> Doctor:
    return Doctor(house, choices, carried, Policy.read())


def seen(house: House) -> DocumentEntry:
    return house.registered(confidentiality_code=[N])


def hidden(house: House) -> DocumentEntry:
    return house.registered(confidentiality_code=[V])


def test_a_hidden_document_is_in_no_list(house: House, doctor: Doctor) -> None:
    shown, _ = seen(house), hidden(house)
    assert doctor.finds() == {shown.entry_uuid}


def test_it_is_not_had_by_its_identifiers(house: House, doctor: Doctor) -> None:
    one = hidden(house)
    by_uuid = get_documents(entry_uuid=[one.entry_uuid])
    by_uid = get_documents(unique_id=[one.unique_id or ""])
    for request in (by_uuid, by_uid, get_documents_and_associations(entry_uuid=[one.entry_uuid])):
        assert doctor.asks(request) == Submission()


def test_an_answer_of_references_hides_it_too(house: House, doctor: Doctor) -> None:
    shown, _ = seen(house), hidden(house)
    request = find_documents(house.patient, return_type=OBJECT_REF)
    fragments = house.registry.query(request, doctor.sight).fragments
    assert len(fragments) == 1
    assert shown.entry_uuid.encode() in fragments[0]


def test_a_set_that_holds_nothing_else_is_hidden_with_its_associations(
    house: House, doctor: Doctor
) -> None:
    one = hidden(house)
    [own] = house.answer(get_submission_sets([one.entry_uuid])).submission_sets
    assert doctor.asks(find_submission_sets(house.patient)) == Submission()
    assert (
        doctor.asks(get_submission_set_and_contents(unique_id=own.unique_id or "")) == Submission()
    )
    assert doctor.asks(get_submission_sets([one.entry_uuid])) == Submission()
    assert doctor.asks(get_associations([own.entry_uuid])) == Submission()
    assert doctor.asks(get_all(house.patient)) == Submission()


def test_a_set_shows_the_members_that_are_seen(house: House, doctor: Doctor) -> None:
    draft = house.draft()
    shown = draft.document(confidentiality_code=[N])
    draft.document(confidentiality_code=[V])
    house.accept(draft)
    got = doctor.asks(get_submission_set_and_contents(unique_id=draft.set.unique_id or ""))
    assert [one.unique_id for one in got.documents] == [shown.unique_id]
    assert [one.target for one in got.associations] == [got.documents[0].entry_uuid]
    everything = doctor.asks(get_all(house.patient))
    assert len(everything.submission_sets) == len(everything.associations) == 1


def test_a_folder_of_hidden_documents_is_hidden(house: House, doctor: Doctor) -> None:
    draft = house.draft()
    inside, outside = (
        draft.document(confidentiality_code=[V]),
        draft.document(confidentiality_code=[N]),
    )
    folder = draft.folder()
    draft.file(inside.entry_uuid, folder.entry_uuid)
    house.accept(draft)
    assert doctor.asks(find_folders(house.patient)) == Submission()
    assert doctor.asks(get_folder_and_contents(unique_id=folder.unique_id or "")) == Submission()
    one = house.document(inside.unique_id)
    assert doctor.asks(get_folders_for_document(entry_uuid=one.entry_uuid)) == Submission()
    contents = doctor.asks(get_submission_set_and_contents(unique_id=draft.set.unique_id or ""))
    assert [one.unique_id for one in contents.documents] == [outside.unique_id]
    assert contents.folders == []
    assert len(contents.associations) == 1


def test_a_related_document_that_is_hidden_is_not_related(house: House, doctor: Doctor) -> None:
    one = seen(house)
    draft = house.draft()
    addendum = draft.document(confidentiality_code=[V])
    draft.link(xds.APND, addendum.entry_uuid, one.entry_uuid)
    house.accept(draft)
    assert doctor.asks(get_related_documents([xds.APND], entry_uuid=one.entry_uuid)) == Submission()
    assert {
        link.association_type
        for link in doctor.asks(get_associations([one.entry_uuid])).associations
    } == {xds.HAS_MEMBER}


def test_the_author_sees_his_own(house: House, doctor: Doctor) -> None:
    mine = house.registered(
        confidentiality_code=[V], author=[Author(person=XCN("ada^Lovelace^Ada^^^^^^&1.9&ISO"))]
    )
    house.registered(
        confidentiality_code=[V], author=[Author(person=XCN("ada^Other^Ada^^^^^^&1.8&ISO"))]
    )
    assert doctor.finds() == {mine.entry_uuid}


def test_who_treats_sees_more_until_it_ends(house: House, doctor: Doctor) -> None:
    one = hidden(house)
    doctor.told(TREATING, "ada^^^&1.9&ISO", until=(NOW + timedelta(days=1)).isoformat())
    assert doctor.finds() == {one.entry_uuid}
    doctor.told(TREATING, "ada^^^&1.9&ISO", until=NOW.isoformat())
    assert doctor.finds() == set()


def test_a_patient_who_is_opposed_is_seen_by_nobody(house: House, doctor: Doctor) -> None:
    seen(house)
    doctor.told(OPPOSED)
    assert doctor.finds() == set()
    assert doctor.choices.take_back(str(house.patient), OPPOSED)
    assert len(doctor.finds()) == 1


def test_an_opposition_that_a_message_carried_holds_until_another_takes_it_back(
    house: House, doctor: Doctor
) -> None:
    seen(house)
    doctor.carried.keep([str(house.patient)], True, "HOSPITAL|HIS", NOW)
    assert doctor.finds() == set()
    doctor.carried.keep([str(house.patient)], False, "HOSPITAL|HIS", NOW)
    assert len(doctor.finds()) == 1


@pytest.mark.parametrize(
    ("first", "then", "is_opposed"),
    [
        ((True, "20261101100000"), (False, "20261101095959"), True),
        ((True, "20261101100000"), (False, "20261101100000"), False),
        ((True, ""), (False, ""), False),
        ((True, "20261101100000"), (False, ""), True),
        ((False, "20261101100000"), (True, "20261101090000"), True),
    ],
)
def test_a_message_that_comes_late_takes_back_no_opposition_that_is_newer(
    carried: CarriedChoices, first: tuple[bool, str], then: tuple[bool, str], is_opposed: bool
) -> None:
    for opposed, said_at in (first, then):
        carried.keep(["P1"], opposed, "HOSPITAL|HIS", NOW, said_at)
    assert carried.opposed(["P1"]) is is_opposed
    carried.keep(["P1"], False, "ANOTHER|HIS", NOW, "20200101")
    assert not carried.opposed(["P1"])


def test_a_consent_document_speaks_while_it_stands(
    house: House, choices: ChoiceStore, carried: CarriedChoices, tmp_path: Path
) -> None:
    shipped = (resources.files("security.access") / "policy.toml").read_text()
    file = tmp_path / "policy.toml"
    file.write_text(shipped.replace("[consents]", '[consents]\n"1.2.3.9" = "opposed"'))
    doctor = Doctor(house, choices, carried, Policy.read(file))
    one = seen(house)
    assert doctor.finds() == {one.entry_uuid}
    opposition = Code("1.2.3.9", "1.2.3", LocalizedString("Opposition"))
    draft = house.draft()
    draft.document(
        "consent", confidentiality_code=[N], format_code=CONSENT, event_code_list=[opposition]
    )
    house.accept(draft)
    assert doctor.finds() == set()
    [consent] = [
        found
        for found in house.answer(find_documents(house.patient)).documents
        if found.format_code == CONSENT
    ]
    agreed = house.draft()
    agreed.document("again", confidentiality_code=[N], format_code=CONSENT, event_code_list=[])
    agreed.link(xds.RPLC, "again", consent.entry_uuid)
    house.accept(agreed)
    assert one.entry_uuid in doctor.finds()


def test_a_mask_covers_what_replaces_the_document(house: House, doctor: Doctor) -> None:
    one = seen(house)
    doctor.told(MASK, one.unique_id or "", "professional")
    assert doctor.finds() == set()
    draft = house.draft()
    draft.document("new", confidentiality_code=[N])
    draft.link(xds.RPLC, "new", one.entry_uuid)
    house.accept(draft)
    assert len(house.answer(find_documents(house.patient)).documents) == 1
    assert doctor.finds() == set()


def test_a_mask_of_a_study_covers_all_that_is_told_of_it(house: House, doctor: Doctor) -> None:
    study = CXi.of("1.2.840.1", xds.STUDY_INSTANCE_UID_REFERENCE)
    manifest, report = (
        house.registered(confidentiality_code=[N], reference_id_list=[study]) for _ in range(2)
    )
    other = house.registered(
        confidentiality_code=[N],
        reference_id_list=[CXi.of("1.2.840.2", xds.STUDY_INSTANCE_UID_REFERENCE)],
    )
    assert doctor.finds() == {manifest.entry_uuid, report.entry_uuid, other.entry_uuid}
    doctor.told(MASK, "1.2.840.1", "professional")
    assert doctor.finds() == {other.entry_uuid}
    house.feed("A40", "P2", "P1")
    assert {one.entry_uuid for one in doctor.asks(find_documents(house.cx("P2"))).documents} == {
        other.entry_uuid
    }


def test_choices_outlive_a_merge(house: House, doctor: Doctor) -> None:
    seen(house)
    doctor.told(OPPOSED)
    house.feed("A40", "P2", "P1")
    assert len(house.answer(find_documents(house.cx("P2"))).documents) == 1
    assert doctor.asks(find_documents(house.cx("P2"))) == Submission()


def test_what_is_hidden_does_not_count_among_too_many(
    house: House, domain: AffinityDomain, doctor: Doctor
) -> None:
    shown = {seen(house).entry_uuid for _ in range(2)}
    for _ in range(3):
        hidden(house)
    domain = AffinityDomain(domain.assigning_authority, max_results=2)
    response = Registry(house.database, domain).query(find_documents(house.patient), doctor.sight)
    assert {one.entry_uuid for one in response.objects().documents} == shown


def test_where_choices_cannot_be_read_nothing_is_shown(
    house: House, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(house)

    def away(*_: object) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(ChoiceStore, "holding", away)
    response = house.registry.query(find_documents(house.patient), doctor.sight)
    assert (response.status, list(response.fragments)) == (xds.FAILURE, [])


def test_unseen_tells_what_is_hidden_and_what_is_not_there(house: House, doctor: Doctor) -> None:
    shown, secret = seen(house), hidden(house)
    names = [shown.unique_id or "", secret.unique_id or "", "1.2.3.404"]
    assert house.registry.unseen(doctor.sight, unique_ids=names) == set(names[1:])
    entries = [shown.entry_uuid, secret.entry_uuid]
    assert house.registry.unseen(doctor.sight, entries) == {secret.entry_uuid}
