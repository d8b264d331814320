"""Users behind associations: pynetdicom negotiates, and what is wrong is refused."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation

from imaging_source.guard import ProtocolError
from imaging_source.intake import Intake
from imaging_source.ledger import End
from imaging_source.negotiation import user_information
from imaging_source.receiver import Listening, Receiver
from imaging_source.users import UserRefused, identity_of
from storage.errors import DatabaseBusy

Start = Callable[..., int]
ECHO = "1.2.840.10008.1.1"


@pytest.fixture
def start(intake: Intake) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda **terms: stack.enter_context(Receiver(intake, Listening(port=0, **terms))).port


def associate(port: int, *items: UserIdentityNegotiation) -> Any:
    ae = AE("ASKER")
    ae.add_requested_context(ECHO)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS", ext_neg=list(items))
    if association.is_established:
        association.release()
    return association


def item(kind: int, primary: bytes, response: bool = True) -> UserIdentityNegotiation:
    made = UserIdentityNegotiation()
    made.user_identity_type, made.primary_field = kind, primary
    made.positive_response_requested = response
    if kind == 2:
        made.secondary_field = b"secret"
    return made


def rejected(port: int, *items: UserIdentityNegotiation) -> tuple[int, ...]:
    """Result, source and reason of the A-ASSOCIATE-RJ that a request with these items gets."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT_NAME)
    primitive.calling_ae_title, primitive.called_ae_title = "ASKER", "KOSMOS"
    context = build_context(ECHO)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    primitive.user_information = [*user_information(16_384), *items]
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(bytes(A_ASSOCIATE_RQ(primitive).encode()))
        with connection.makefile("rb") as answers:
            answer = answers.read(10)
    assert answer[0] == 3
    return tuple(answer[7:])


def test_an_assertion_is_judged_with_who_brings_it_and_answered_where_that_is_asked_for(
    start: Start,
) -> None:
    judged: list[tuple[End, bytes]] = []

    def identify(peer: End, assertion: bytes) -> str | None:
        judged.append((peer, assertion))
        return "ada" if assertion else None

    port = start(identify=identify)
    answered = associate(port, item(4, b"<Assertion/>"))
    assert b"status:Success" in answered.acceptor.user_identity.server_response
    silent = item(4, b"<Assertion/>", False)
    assert associate(port, silent).acceptor.user_identity is None
    assert [one for _, one in judged] == [b"<Assertion/>"] * 2
    assert {(peer.title, peer.address) for peer, _ in judged} == {("ASKER", "127.0.0.1")}


@pytest.mark.parametrize("kind", [1, 2, 3, 5])
def test_another_kind_of_identity_proves_nothing_and_is_not_confirmed(
    start: Start, kind: int
) -> None:
    judged: list[bytes] = []
    port = start(identify=lambda _peer, assertion: judged.append(assertion))
    association = associate(port, item(kind, b"somebody"))
    assert not association.is_rejected
    assert not association.is_aborted
    assert association.acceptor.user_identity is None
    assert judged == [b""]


def test_where_nobody_judges_no_user_is_confirmed(start: Start) -> None:
    association = associate(start(), item(4, b"<Assertion/>"))
    assert not association.is_rejected
    assert not association.is_aborted
    assert association.acceptor.user_identity is None


@pytest.mark.parametrize(
    ("error", "told"),
    [(UserRefused("expired"), (1, 1, 1)), (DatabaseBusy("locked"), (2, 3, 1))],
)
def test_who_is_not_proved_gets_no_association(
    start: Start, error: Exception, told: tuple[int, int, int]
) -> None:
    def refuse(_peer: End, _assertion: bytes) -> None:
        raise error

    assert rejected(start(identify=refuse), item(4, b"<Assertion/>")) == told


def test_an_association_is_for_one_user() -> None:
    class Request:
        user_information = (item(4, b"a"), item(4, b"b"))

    with pytest.raises(ProtocolError, match="more than one"):
        identity_of(Request())  # type: ignore[arg-type]
