"""Associations that we ask for: to send what a peer wants to have (PS3.8 7.1, PS3.7 D.3).

The requestor's half, on the same guard and line as the acceptor's. pynetdicom's codecs write
the request and read its answer.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from pydicom.uid import UID
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, A_RELEASE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context

from imaging_source.dimse import (
    RESPONSE,
    write_data_set,
    write_request,
)
from imaging_source.elements import Unreadable
from imaging_source.guard import (
    ANSWER,
    AbortReason,
    Limits,
    PduReader,
    PduType,
    PeerGone,
    ProtocolError,
)
from imaging_source.line import Line, Message
from imaging_source.negotiation import UNREADABLE, Context, longest_pdu, user_information

T = TypeVar("T")

# Context IDs are the odd numbers below 256 (PS3.8 9.3.2.2).
MOST_CONTEXTS = 128

# A peer on the same continent answers within a second; one that is down never does.
CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another application entity: how it is called, where it is, how it is spoken to."""

    title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Unreachable(Exception):
    """There is no association with the peer: nobody answers, or the answer is no."""


class Rejected(Unreachable):
    """The answer is no."""


TROUBLES = (Unreachable, PeerGone, ProtocolError, Unreadable)
"""What goes wrong between a peer and us: it is away, leaves, or says what makes no sense."""


class Requested:
    """An association that we have asked for; a context manager that releases it at the end."""

    def __init__(
        self,
        peer: Peer,
        calling: str,
        contexts: Collection[tuple[str, str]],
        *,
        provided: Collection[str] = (),
        limits: Limits | None = None,
    ) -> None:
        """Ask ``peer`` for ``contexts``, each a SOP class in one transfer syntax; 128 at most.

        Of the classes ``provided`` we are the provider, and the peer is the user.

        Raises Unreachable, which is Rejected where the peer says no.
        """
        self._limits = limits or Limits()
        self._socket = _connect(peer)
        try:
            self._reader = PduReader(self._socket, self._limits, ANSWER)
            self.line = Line(self._socket, self._reader, self._limits)
            self._associate(peer, calling, contexts, provided)
        except (PeerGone, ProtocolError, Unreadable) as error:
            self._socket.close()
            raise Unreachable(f"{peer.title} does not associate: {error}") from error
        except BaseException:
            self._socket.close()
            raise

    def request(
        self,
        context_id: int,
        field: int,
        elements: Iterable[tuple[int, str | int]],
        data_set: bytes | None = None,
    ) -> Message:
        """Send a request with a small data set and wait for its response.

        Raises PeerGone, ProtocolError and Unreadable.
        """
        request = write_request(context_id, field, elements, data_set is not None)
        if data_set is not None:
            request += write_data_set(context_id, data_set, self.line.pdu_bytes)
        self.line.send(request)
        return self.response_to(field)

    def response_to(self, field: int) -> Message:
        """The next message, which must be the response to a request with this command field."""
        message = self.line.read()
        if message.command.field != field | RESPONSE:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "not the response that was due")
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._socket, suppress(PeerGone, ProtocolError, OSError):
            if error is None:
                self.line.send(bytes(A_RELEASE_RQ().encode()))
                self._reader.read()
            else:
                self.line.abort(AbortReason.NOT_SPECIFIED)

    def _associate(
        self,
        peer: Peer,
        calling: str,
        contexts: Collection[tuple[str, str]],
        provided: Collection[str],
    ) -> None:
        proposed = [_proposed(number, one) for number, one in enumerate(contexts)]
        said = [*user_information(self._limits.pdu_bytes), *map(_provider_role, provided)]
        self.line.send(_request(peer, calling, proposed, said))
        kind, content = self._reader.read()
        if kind != PduType.ASSOCIATE_AC:
            raise Rejected(f"{peer.title} rejects the association")
        answer = _read_answer(content)
        asked = {2 * number + 1: one for number, one in enumerate(contexts)}
        accepted = {
            one.context_id: Context(*asked[one.context_id], we_may_request=True)
            for one in answer.presentation_context_definition_results_list
            if one.result == 0 and one.context_id in asked
        }
        self.line.established(peer.title, accepted, longest_pdu(answer))


def in_groups(
    items: Iterable[T], contexts_of: Callable[[T], Collection[tuple[str, str]]]
) -> Iterator[list[T]]:
    """The items in groups that one association can carry, with all that ``contexts_of`` each."""
    group: list[T] = []
    contexts: set[tuple[str, str]] = set()
    for item in items:
        wanted = contexts_of(item)
        if len(contexts.union(wanted)) > MOST_CONTEXTS:
            yield group
            group, contexts = [], set()
        contexts.update(wanted)
        group.append(item)
    if group:
        yield group


def _connect(peer: Peer) -> socket.socket:
    try:
        connection = socket.create_connection((peer.host, peer.port), CONNECT_SECONDS)
        # Without it each request waits 40 ms for the peer's delayed acknowledgement.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if peer.tls is None:
            return connection
        return peer.tls.wrap_socket(connection, server_hostname=peer.host)
    except OSError as error:
        raise Unreachable(f"{peer.title} is not reached: {type(error).__name__}") from error


def _proposed(number: int, context: tuple[str, str]) -> PresentationContext:
    sop_class_uid, syntax = context
    proposed = build_context(sop_class_uid, syntax)
    proposed.context_id = 2 * number + 1
    return proposed


def _provider_role(sop_class_uid: str) -> SCP_SCU_RoleSelectionNegotiation:
    """That we, who ask for the association, are the provider of a class (PS3.7 D.3.3.4)."""
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = UID(sop_class_uid)
    role.scu_role, role.scp_role = False, True
    return role


def _request(
    peer: Peer, calling: str, proposed: list[PresentationContext], said: list[Any]
) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT_NAME)
    primitive.calling_ae_title = calling
    primitive.called_ae_title = peer.title
    primitive.presentation_context_definition_list = proposed
    primitive.user_information = said
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def _read_answer(content: memoryview) -> A_ASSOCIATE:
    pdu = A_ASSOCIATE_AC()
    try:
        pdu.decode(struct.pack(">BBI", PduType.ASSOCIATE_AC, 0, len(content)) + bytes(content))
        return pdu.to_primitive()
    except UNREADABLE as error:
        text = f"the A-ASSOCIATE-AC cannot be read ({type(error).__name__})"
        raise ProtocolError(AbortReason.INVALID_PARAMETER, text) from error
