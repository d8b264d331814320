"""Who may see a document: the table that ships, and how a table is read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadata.datatypes import CXi, LocalizedString
from metadata.identifiers import ACCESSION_REFERENCE, STUDY_INSTANCE_UID_REFERENCE
from metadata.model import Code, DocumentEntry
from security.access import decision
from security.access.decision import Asker, Choices, Facts, Judge, Policy, PolicyError, permitted
from security.access.sight import facts_of
from security.assertions.claims import Claims

SHIPPED = (resources.files("security.access") / "policy.toml").read_text()
POLICY = Policy.read()
PATIENT, OTHER = "P1^^^&1.2&ISO", "P2^^^&1.2&ISO"
N, R, V = (f"{level}^^2.16.840.1.113883.5.25" for level in "NRV")
MASKED, UNSEEN_BY_PATIENT, UNSEEN_BY_GUARDIAN = (
    f"{code}^^1.2.250.1.213.1.1.4.13"
    for code in ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX")
)
DOCTOR = Asker(groups=frozenset({"professional"}), names=frozenset({"ada"}))
SELF = Asker(groups=frozenset({"patient"}), patients=frozenset({PATIENT}))
GUARDIAN = Asker(groups=frozenset({"guardian"}), patients=frozenset({PATIENT}))
CLERK = Asker(groups=frozenset({"user"}))
NODE = Asker()
HURRIED = replace(DOCTOR, emergency=True)
NOTHING = Choices()
OPPOSED = Choices(opposed=True)
TREATED = Choices(treating=frozenset({"ada"}))
HIDDEN = Choices(masks={"1.2.3": frozenset({"professional"})})


def document(*codes: str, authors: tuple[str, ...] = ()) -> Facts:
    return Facts("1.2.3", frozenset({PATIENT}), frozenset(codes), frozenset(authors))


@pytest.mark.parametrize(
    ("asker", "choices", "facts", "seen"),
    [
        (DOCTOR, NOTHING, document(N), True),
        (DOCTOR, NOTHING, document(R), True),
        (DOCTOR, NOTHING, document(V), False),
        (DOCTOR, NOTHING, document(N, V), False),  # the strictest code counts
        (DOCTOR, NOTHING, document(), False),
        (DOCTOR, NOTHING, document("X^^1.2"), False),
        (DOCTOR, TREATED, document(V), True),
        (DOCTOR, NOTHING, document(V, authors=("ada",)), True),
        (DOCTOR, NOTHING, document(N, MASKED), False),
        (DOCTOR, TREATED, document(N, MASKED), False),
        (DOCTOR, NOTHING, document(N, MASKED, authors=("ada",)), True),
        (DOCTOR, NOTHING, document(N, UNSEEN_BY_PATIENT), True),
        (DOCTOR, HIDDEN, document(N), False),
        (DOCTOR, OPPOSED, document(N), False),
        (DOCTOR, OPPOSED, document(N, authors=("ada",)), True),
        (replace(DOCTOR, patients=frozenset({OTHER})), NOTHING, document(N), False),
        (replace(DOCTOR, patients=frozenset({PATIENT})), NOTHING, document(N), True),
        (HURRIED, OPPOSED, document(V, MASKED), True),
        (replace(HURRIED, patients=frozenset({OTHER})), NOTHING, document(N), False),
        (SELF, NOTHING, document(V), True),
        (SELF, OPPOSED, document(N), True),
        (SELF, NOTHING, document(N, UNSEEN_BY_PATIENT), False),
        (SELF, NOTHING, document(N, UNSEEN_BY_GUARDIAN), True),
        (replace(SELF, patients=frozenset({OTHER})), NOTHING, document(N), False),
        (replace(SELF, patients=frozenset()), NOTHING, document(N), False),
        (GUARDIAN, NOTHING, document(N), True),
        (GUARDIAN, NOTHING, document(N, UNSEEN_BY_GUARDIAN), False),
        (CLERK, NOTHING, document(N), True),
        (CLERK, NOTHING, document(R), False),
        (CLERK, NOTHING, document(N, MASKED), False),
        (NODE, NOTHING, document(N), True),
        (NODE, NOTHING, document(R), False),
        (NODE, OPPOSED, document(N), False),
    ],
)
def test_the_policy_that_ships(asker: Asker, choices: Choices, facts: Facts, seen: bool) -> None:
    assert permitted(POLICY, asker, choices, facts) is seen


_GROUPS = st.frozensets(st.sampled_from(["professional", "patient", "guardian", "user", "node"]))
_CODES = st.frozensets(st.sampled_from([N, R, V, MASKED, UNSEEN_BY_PATIENT, "X^^1"]))
_NAMES = st.frozensets(st.sampled_from(["ada", "bob"]))


@given(_GROUPS, _CODES, _NAMES, st.booleans())
def test_a_mask_more_never_shows_more(
    groups: frozenset[str], codes: frozenset[str], names: frozenset[str], opposed: bool
) -> None:
    asker = Asker(groups=groups, names=names)
    masked = Choices(opposed=opposed, masks={"1.2.3": groups})
    plain = Choices(opposed=opposed)
    if permitted(POLICY, asker, masked, document(*codes)):
        assert permitted(POLICY, asker, plain, document(*codes))


def plainly(asker: Asker, choices: Choices, facts: Facts) -> bool:
    """The rules that ship read one by one, every condition of each."""
    groups = [*POLICY.masks.items(), (facts.document, choices.masks.get(facts.document, ()))]
    hides = [of for code, of in groups if code in (facts.document, *facts.confidentiality)]
    mine = bool(asker.patients & facts.patients)
    so = {
        "author": bool(asker.names & facts.authors),
        "emergency": asker.emergency,
        "masked": any(asker.groups & set(of) for of in hides),
        "opposed": choices.opposed,
        "other_patient": bool(asker.patients) and not mine,
        "own": mine,
        "treating": bool(asker.names & choices.treating),
    }
    levels = facts.confidentiality - POLICY.masks.keys()
    for rule in POLICY.rules:
        holds = [so[flag] is wanted for flag, wanted in rule.flags.items()]
        holds += [bool(named & getattr(asker, key)) for key, named in rule.lists.items()]
        if rule.levels is not None:
            holds.append(bool(levels) and levels <= rule.levels)
        if all(holds):
            return rule.permits
    return False


_ASKERS = st.builds(
    Asker,
    groups=_GROUPS,
    names=_NAMES,
    patients=st.frozensets(st.sampled_from([PATIENT, OTHER])),
    emergency=st.booleans(),
)
_CHOICES = st.builds(
    Choices,
    st.booleans(),
    _NAMES,
    st.dictionaries(st.sampled_from(["1.2.3", "1.2.4"]), _GROUPS, max_size=2),
)
_DOCUMENTS = st.builds(
    Facts, st.sampled_from(["1.2.3", "1.2.4"]), st.just(frozenset({PATIENT})), _CODES, _NAMES
)


@given(_ASKERS, _CHOICES, st.lists(_DOCUMENTS, min_size=1, max_size=5))
def test_one_judge_of_all_documents_of_a_patient_judges_each_by_every_rule(
    asker: Asker, choices: Choices, documents: list[Facts]
) -> None:
    judge = Judge(POLICY, asker, choices, frozenset({PATIENT}))
    for facts in documents:
        assert judge.permits(facts) is plainly(asker, choices, facts)


def test_what_was_decided_ends_with_its_policy() -> None:
    assert permitted(POLICY, DOCTOR, NOTHING, document(N))
    assert not permitted(replace(POLICY, rules=()), DOCTOR, NOTHING, document(N))
    assert permitted(POLICY, DOCTOR, NOTHING, document(N))


def test_however_many_cases_come_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "_MOST_DECIDED", 3)
    policy = Policy.read()
    for number in range(10):
        facts = document(N, f"{number}^^1.2")
        assert not permitted(policy, DOCTOR, NOTHING, facts)
        assert permitted(policy, DOCTOR, NOTHING, document(N))
        assert len(policy.decided) <= 3


def test_a_mask_of_a_study_hides_every_document_that_refers_to_it() -> None:
    entry = DocumentEntry(
        entry_uuid="urn:uuid:1",
        unique_id="1.2.3",
        confidentiality_code=[Code("N", "2.16.840.1.113883.5.25", LocalizedString("N"))],
        reference_id_list=[
            CXi.of("1.2.840.1", STUDY_INSTANCE_UID_REFERENCE),
            CXi.of("A-1", ACCESSION_REFERENCE),
        ],
    )
    facts = facts_of(entry)
    for name, seen in (("1.2.840.1", False), ("1.2.3", False), ("A-1", True), ("1.2.840.2", True)):
        choices = Choices(masks={name: frozenset({"professional"})})
        assert permitted(POLICY, DOCTOR, choices, facts) is seen


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('decision = "deny"', 'decision = "perhaps"', "rule 1: decision is permit or deny"),
        ("author = true", 'author = "true"', "rule 2: author are true or false"),
        ("masked = true", "mask = true", "rule 4: unknown condition mask"),
        ('groups = ["patient", "guardian"]', 'groups = "patient"', "rule 5: groups are lists"),
        ("[consents]", "[consent]", "unknown key consent"),
        ("minutes = 60", "", "minutes"),
        ("[consents]", '[consents]\n"1.2" = "maybe"', "maybe"),
        ("[groups]", "[groups", "policy.toml"),
    ],
)
def test_a_fault_in_a_policy_is_told_with_its_file(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    file = tmp_path / "policy.toml"
    assert old in SHIPPED
    file.write_text(SHIPPED.replace(old, new, 1))
    with pytest.raises(PolicyError, match=told):
        Policy.read(file)


@pytest.mark.parametrize(
    ("named", "known"),
    [
        ("P1^^^&1.2&ISO", PATIENT),
        ("P1^^^HOSPITAL&1.2&ISO", PATIENT),
        ("P1^^^&1.2&ISO^NH", PATIENT),
        ("P1^^^&1.3&ISO", "P1^^^&1.3&ISO"),
        ("P1^^^HOSPITAL", "P1^^^HOSPITAL"),
        ("P1", "P1"),
    ],
)
def test_a_patient_of_an_assertion_is_known_by_number_and_authority(named: str, known: str) -> None:
    """Issuers add the namespace, or the kind of identifier, as that of the French INS (NH)."""
    now = datetime.now(UTC)
    claims = Claims("_1", "issuer", "ada", now, now, patients=(named,))
    assert POLICY.asker(claims).patients == {known}
