from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadata.datatypes import (
    CX,
    DTM,
    HD,
    OID,
    XCN,
    XON,
    XTN,
    CXi,
    LanguageCode,
    LocalizedString,
    Recipient,
    escape,
    is_oid,
    is_uuid_urn,
    new_oid,
    new_uuid_urn,
    unescape,
)
from metadata.identifiers import ACCESSION_REFERENCE, STUDY_INSTANCE_UID_REFERENCE

OIDS = st.lists(st.integers(0, 10**9), min_size=1, max_size=5).map(
    lambda arcs: "1." + ".".join(map(str, arcs))
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)

VALID = [
    CX("PAT-1^^^&1.2.3&ISO"),
    CX("PAT-1^^^&1.2.3&ISO^^"),
    CX(r"a\T\b^^^&1.2.3&ISO"),
    OID("1.2.250.1.213"),
    OID("2.25.0"),
    OID("1." + "1" * 62),
    DTM("2026"),
    DTM("20240229"),
    DTM("20261231235959"),
    XCN("801"),
    XCN("^Martin"),
    XCN("801^Martin^Anne^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"),
    XON("Hospital"),
    XON("Hospital^^^^^^^^^1.2.3.4"),
    XON("Hospital^^^^^&1.2.3&ISO^^^^750"),
    XTN("^^PH^^33^1^55512345"),
    XTN("^NET^Internet^user@example.org"),
    CXi(f"ACC1^^^&1.2.3&ISO^{ACCESSION_REFERENCE}"),
    CXi(f"ACC1^^^NAMESPACE^{ACCESSION_REFERENCE}"),
    CXi(f"1.2.840.1^^^^{STUDY_INSTANCE_UID_REFERENCE}"),
    CXi("urn:uuid:11111111-1111-4111-8111-111111111111^^^^urn:local:type"),
    Recipient("Hospital"),
    Recipient("|801^Martin^Anne"),
    Recipient("||^^PH^^^^123"),
    Recipient("Hospital|^Martin|^NET^Internet^a@b.example"),
    LanguageCode("fr"),
    LanguageCode("fr-CH"),
    LanguageCode("zh-Hant-TW"),
    LanguageCode("sl-rozaj-biske-1994"),
    LanguageCode("de-a-value-x-private"),
    LanguageCode("x-whatever"),
    LanguageCode("i-klingon"),
    LanguageCode("art"),
    LocalizedString("anything at all", "fr-FR"),
    LocalizedString("no language"),
]

INVALID = [
    CX("PAT-1"),
    CX("^^^&1.2.3&ISO"),
    CX("PAT-1^^^NS&1.2.3&ISO"),
    CX("PAT-1^^^1.2.3"),
    CX("PAT-1^^^&1.2.3&DNS"),
    CX("PAT-1^^^&1.02.3&ISO"),
    CX("PAT-1^x^^&1.2.3&ISO"),
    CX("PAT-1^^^&1.2.3&ISO^PI"),
    CX("PAT-1^^^&1.2.3&ISO&more"),
    CX("a&b^^^&1.2.3&ISO"),
    CX("a\\b^^^&1.2.3&ISO"),
    CX(r"a\X41\b^^^&1.2.3&ISO"),
    OID(""),
    OID("1"),
    OID("3.1"),
    OID("1..2"),
    OID("1.02"),
    OID("1.2."),
    OID("1.٣"),
    OID("1." + "1" * 63),
    DTM(""),
    DTM("202"),
    DTM("20261"),
    DTM("20260230"),
    DTM("20261301"),
    DTM("0000"),
    DTM("2026010124"),
    DTM("20260101000060"),
    DTM("20260101120000.5"),
    DTM("20260101120000+0100"),
    DTM("２０２６"),
    DTM("2026\n"),
    XCN("^^Anne"),
    XCN("801^Martin^^^^^^^HOSPITAL"),
    XCN("801^Martin^^^^^^^&1.2.3"),
    XON("^^^^^&1.2.3&ISO^^^^750"),
    XON("Hospital^^^^^^^^^750"),
    XON("Hospital^^^^^&1.2.3&DNS^^^^750"),
    XON("Hospital^L"),
    XON("Hospital^^^^^^^^^^more"),
    XTN("0155512345"),
    XTN("^^PH"),
    XTN("^^PH^user@example.org"),
    XTN("^NET^Internet"),
    CXi("ACC1"),
    CXi(f"ACC1^^^^{ACCESSION_REFERENCE}"),
    CXi(f"ACC1^x^^&1.2.3&ISO^{ACCESSION_REFERENCE}"),
    CXi("ACC1^^^&1.2.3&ISO^"),
    CXi(f"ACC1^^^&1.2.3^{ACCESSION_REFERENCE}"),
    CXi(f"^^^&1.2.3&ISO^{ACCESSION_REFERENCE}"),
    Recipient(""),
    Recipient("||"),
    Recipient("|^^Anne"),
    Recipient("Hospital|^Martin||more"),
    LanguageCode(""),
    LanguageCode("f"),
    LanguageCode("fr_FR"),
    LanguageCode("fr-"),
    LanguageCode("français"),
    LocalizedString("text", "not a tag"),
]


@pytest.mark.parametrize("value", VALID, ids=repr)
def test_a_value_of_the_right_form_has_no_problem(value: CX) -> None:
    assert value.problem() is None


@pytest.mark.parametrize("value", INVALID, ids=repr)
def test_a_value_of_the_wrong_form_says_what_is_expected(value: CX) -> None:
    assert value.problem()


@pytest.mark.parametrize("kind", [CX, OID, DTM, XCN, XON, XTN, CXi, Recipient, LanguageCode])
@given(text=st.text(max_size=40))
def test_any_text_is_kept_exactly_and_judged_without_raising(kind: type[CX], text: str) -> None:
    value = kind(text)
    assert str(value) == text
    assert value.problem() is None or isinstance(value.problem(), str)


@given(NAMES, OIDS)
def test_a_patient_id_gives_back_what_it_was_made_of(identifier: str, authority: str) -> None:
    value = CX.of(identifier, authority)
    assert value.problem() is None
    assert (value.id, value.assigning_authority) == (identifier, HD.of(authority))


@given(st.text())
def test_escaping_is_undone_by_unescaping(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set("^&~|")


@given(st.lists(st.text(st.characters(exclude_characters="^&"), max_size=5), max_size=4))
def test_trailing_empty_components_do_not_distinguish_patient_ids(parts: list[str]) -> None:
    value = CX("^".join(["id", *parts]))
    assert CX(value + "^^").normalised() == CX(value + "&^").normalised() == value.normalised()


def test_normalising_keeps_a_canonical_patient_id_as_it_is() -> None:
    value = CX("id^^^&1.2.3&ISO")
    assert value.normalised() == value
    assert CX("id^^^&1.2.3&ISO&^").normalised() == value


@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),
    st.integers(-14, 14),
)
def test_a_time_survives_in_utc_to_the_second(moment: datetime, hours: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    value = DTM.of(aware)
    assert value.problem() is None
    assert value.precision == 14
    assert value.earliest() == aware.astimezone(UTC).replace(microsecond=0)


@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),
    st.sampled_from([4, 6, 8, 10, 12, 14]),
)
def test_a_shorter_time_means_its_earliest_second(moment: datetime, digits: int) -> None:
    whole = DTM.of(moment.replace(tzinfo=UTC))
    short = DTM(whole[:digits])
    assert short.problem() is None
    assert len(short.padded()) == 14
    assert short.padded() <= whole
    assert DTM(short.padded()).earliest() == short.earliest()


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        DTM.of(datetime(2026, 1, 1))


def test_an_invalid_time_has_no_earliest_moment() -> None:
    with pytest.raises(ValueError, match="DTM"):
        DTM("soon").earliest()


def test_people_and_organisations_show_their_parts() -> None:
    person = XCN(r"801^O\S\Brien^Anne^^^^^^&1.2.3&ISO")
    assert (person.id, person.last_name, person.first_name) == ("801", "O^Brien", "Anne")
    assert person.assigning_authority == HD("", "1.2.3", "ISO")
    place = XON("Hospital^^^^^&1.2.4&ISO^^^^750")
    assert (place.name, place.id, place.assigning_authority) == (
        "Hospital",
        "750",
        HD.of("1.2.4"),
    )


def test_a_recipient_shows_the_parts_that_are_there() -> None:
    recipient = Recipient("Hospital|801^Martin")
    assert recipient.organization == "Hospital"
    assert recipient.person is not None
    assert recipient.person.last_name == "Martin"
    assert recipient.telecom is None


def test_a_telecommunication_is_a_number_or_an_address() -> None:
    assert XTN("^WPN^PH^^33^1^555").number == "555"
    mail = XTN("^NET^Internet^user@example.org")
    assert (mail.use, mail.equipment, mail.address) == ("NET", "Internet", "user@example.org")


@given(NAMES, OIDS)
def test_a_reference_gives_back_what_it_was_made_of(identifier: str, authority: str) -> None:
    value = CXi.of(identifier, ACCESSION_REFERENCE, HD.of(authority))
    assert value.problem() is None
    assert (value.id, value.authority, value.type) == (
        identifier,
        HD.of(authority),
        ACCESSION_REFERENCE,
    )


@given(NAMES, NAMES, NAMES)
def test_a_designator_is_written_as_it_was_read(namespace: str, oid: str, kind: str) -> None:
    authority = HD(namespace, oid, kind)
    assert HD.parse(str(authority)) == authority


def test_only_lower_case_uuid_urns_are_not_symbolic() -> None:
    assert is_uuid_urn("urn:uuid:11111111-1111-4111-8111-11111111111a")
    assert not is_uuid_urn("urn:uuid:11111111-1111-4111-8111-11111111111A")
    assert not is_uuid_urn("Document01")
    assert not is_uuid_urn("urn:uuid:11111111-1111-4111-8111-11111111111a\n")


def test_fresh_identifiers_are_well_formed_and_differ() -> None:
    assert is_uuid_urn(new_uuid_urn())
    assert is_oid(new_oid())
    assert new_oid() != new_oid()


def test_the_language_of_a_text_survives_copying_and_pickling() -> None:
    text = LocalizedString("bonjour", "fr")
    assert copy.deepcopy(text).lang == "fr"
    assert pickle.loads(pickle.dumps(text)).lang == "fr"
    assert text == "bonjour"
