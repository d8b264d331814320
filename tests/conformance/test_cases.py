"""Every case against the real actors: it passes, and whatever it saw, changed, would fail it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from conformance.bench import Bench, Session
from conformance.case import Case
from conformance.expectation import Expectation, Mismatch, Success, Within
from conformance.rules import NOT_PROVOKED, PREFIX
from conformance.run import all_cases
from conformance.seen import Ack, Answer, Compared, Found, Seen
from hl7.message import Message
from metadata.catalogue import RULES, RegistryError
from metadata.datatypes import new_uuid_urn
from metadata.ebrim import object_ref
from metadata.identifiers import ERROR, FAILURE, PARTIAL_SUCCESS, SUCCESS
from soap.faults import PeerFault
from transactions.registry_response import RegistryResponse

OTHER = RegistryError("XDSKitOther", "another reason", ERROR, "elsewhere")
SUCCEEDED = RegistryResponse(SUCCESS)


def wrong_answers(answer: Answer[Any]) -> Iterator[Seen]:
    """Answers that a wrong peer might have given instead."""
    usual = replace(answer, http_status=200)
    yield replace(usual, response=None, fault=None, problem="garbage")
    yield replace(usual, response=None, fault=PeerFault("KitOther", "?"))
    if answer.fault is not None:
        yield replace(answer, fault=None, response=SUCCEEDED)
        yield replace(usual, fault=None, response=SUCCEEDED)
        yield usual
        return
    response = answer.response
    if response is None:
        return
    if answer.status == SUCCESS:
        yield replace(answer, response=replace(response, status=FAILURE))
        yield replace(answer, response=replace(response, status=PARTIAL_SUCCESS))
        yield replace(answer, response=replace(response, errors=(OTHER,)))
    else:
        yield replace(answer, response=replace(response, status=SUCCESS))
        yield replace(answer, response=replace(response, status=SUCCESS, errors=()))
        yield replace(answer, response=replace(response, errors=()))
        yield replace(answer, response=replace(response, errors=(OTHER,)))
        silent = tuple(replace(error, context="") for error in answer.errors)
        yield replace(answer, response=replace(response, errors=silent))
        other = FAILURE if answer.status == PARTIAL_SUCCESS else PARTIAL_SUCCESS
        yield replace(answer, response=replace(response, status=other))
    if answer.names:
        vague = tuple(replace(error, context="something is wrong") for error in answer.errors)
        yield replace(answer, response=replace(response, errors=vague))
    if answer.location:
        lost = tuple(replace(error, location="") for error in answer.errors)
        yield replace(answer, response=replace(response, errors=lost))


def wrong_found(found: Found) -> Iterator[Seen]:
    """The same with an object too many, or too few, or no answer at all."""
    response = found.answer.response
    assert response is not None
    more = [*response.fragments, object_ref(new_uuid_urn())]
    yield replace(found, answer=replace(found.answer, response=replace(response, fragments=more)))
    if response.fragments:
        fewer = response.fragments[1:]
        fewer_found = replace(found.answer, response=replace(response, fragments=fewer))
        yield replace(found, answer=fewer_found)
    for answer in wrong_answers(found.answer):
        assert isinstance(answer, Answer)
        yield replace(found, answer=answer)


def wrong_acks(ack: Ack) -> Iterator[Seen]:
    """Other acknowledgements, or none."""
    yield Ack(None, "closed")
    assert ack.message is not None
    codes = {"AA", "AE", "AR"} - {ack.code}
    segments = [line for line in ack.message.segments if line[:3] not in ("MSA", "ERR")]
    for code in codes:
        text = "\r".join([*segments, f"MSA|{code}|1", *ack.message.segments[2:]])
        yield Ack(Message.read(text.encode()))


def without_errors(ack: Ack) -> Ack:
    """The same code, with no reason given."""
    assert ack.message is not None
    return Ack(Message.read("\r".join(ack.message.segments[:2]).encode()))


def without_what_is_asked(answer: Answer[Any], expectation: Expectation) -> Iterator[Seen]:
    """The same answer late, or not in MTOM, or with no warning, where that matters."""
    if isinstance(expectation, Within):
        yield replace(answer, seconds=expectation.seconds + 1)
    if isinstance(expectation, Success) and expectation.mtom:
        yield replace(answer, mtom=False)
    if isinstance(expectation, Success) and expectation.warning:
        yield replace(answer, response=SUCCEEDED)


def wrong(seen: Seen, expectation: Expectation) -> Iterator[Seen]:
    """Whatever else might have been seen."""
    if isinstance(seen, Answer):
        yield from wrong_answers(seen)
        yield from without_what_is_asked(seen, expectation)
    elif isinstance(seen, Found):
        yield from wrong_found(seen)
    elif isinstance(seen, Ack):
        yield from wrong_acks(seen)
        if getattr(expectation, "error", ""):
            yield without_errors(seen)
    elif isinstance(seen, Compared):
        yield replace(seen, seen=object())


def accepts(expectation: Expectation, seen: Seen) -> bool:
    try:
        expectation.judge(seen)
    except Mismatch:
        return False
    return True


# Here the standard leaves the peer the choice between an error and an empty Success.
OPEN = {"Q12", "P04"}


def is_the_other_choice(case: Case, seen: Seen) -> bool:
    return (
        case.id in OPEN and isinstance(seen, Answer) and seen.status == SUCCESS and not seen.errors
    )


def tells_its_rule(case: Case, seen: Seen) -> bool:
    """A case of the catalogue breaks the rule it is named after, not one nearby."""
    rule = case.id.removeprefix(PREFIX)
    if case.id == rule or not isinstance(seen, Answer) or seen.fault or not seen.errors:
        return True
    return any(f"[{rule}; " in error.context for error in seen.errors)


@pytest.fixture(scope="session")
def session(system: Any) -> Session:
    return Session(system.targets(), "TEST")


# Those of secure nodes have registries of their own (test_user_assertions).
HERE = [case for case in all_cases() if not case.needs & {"issuer", "secured", "audit_listener"}]


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.id)
def test_a_right_peer_passes_and_any_other_answer_would_fail(case: Case, session: Session) -> None:
    if missing := [need for need in case.needs if not session.targets.gives(need)]:
        pytest.fail(f"the test system lacks {missing}")
    waiting = list(case.expected)
    for seen in case.stimulus(Bench(session)):
        expectation = waiting.pop(0)
        expectation.judge(seen)
        assert tells_its_rule(case, seen)
        for other in wrong(seen, expectation):
            if not is_the_other_choice(case, other):
                what = f"{expectation.describe()} accepts {other.describe()}"
                assert not accepts(expectation, other), what
    assert waiting == []


def test_every_rule_of_the_catalogue_is_broken_or_said_to_be_out_of_reach() -> None:
    broken = {case.id.removeprefix(PREFIX) for case in all_cases() if case.id.startswith(PREFIX)}
    assert broken | NOT_PROVOKED.keys() == RULES.keys()
    assert not broken & NOT_PROVOKED.keys()
    assert all(NOT_PROVOKED.values())
