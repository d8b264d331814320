"""Association negotiation of a storage provider (PS3.8 7.1, PS3.7 D.3), on pynetdicom's codecs.

Accepted are Verification, every storage SOP class and transfer syntax that pynetdicom knows, and
what else the provider offers this peer. Who may retrieve may take the role of
a storage provider (C-GET, PS3.7 D.3.3.4), and an archive that of the provider of storage
commitment. The assertion of a user is handed on to be judged. Extended negotiation is not
offered; one operation at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from pydicom import config
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES, APPLICATION_CONTEXT_NAME
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RP
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor

from imaging_source.elements import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from imaging_source.guard import AbortReason, ProtocolError
from imaging_source.syntaxes import INFLATED
from imaging_source.users import identity_of, positive_response
from manifest.encoding import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

VERIFICATION = "1.2.840.10008.1.1"

STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
SYNTAXES = sorted(
    ALL_TRANSFER_SYNTAXES,
    key=lambda uid: (uid != EXPLICIT_VR_LITTLE_ENDIAN, uid in INFLATED),
)
# How the data sets of other services are written: there are no pixels to compress.
PLAIN_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)

# Context IDs are the odd numbers below 256 (PS3.8 9.3.2.2).
_CONTEXT_LIMIT = 128

# The parts of an A-ASSOCIATE-RQ (PS3.8 9.3.2, PS3.7 D.3.3): what comes before its items, and
# the types of items and of user information that there are.
_FIXED_BYTES = 68
_CALLED, _CALLING = slice(4, 20), slice(20, 36)
_ITEM_HEAD = struct.Struct(">BxH")
_CONTEXT_HEAD_BYTES = 4
_PRESENTATION_CONTEXT, _TRANSFER_SYNTAX, _USER_INFORMATION = 0x20, 0x40, 0x50
_ITEMS = frozenset({0x10, _PRESENTATION_CONTEXT, _USER_INFORMATION})
_USER_ITEMS = range(0x51, 0x5A)
_USER_IDENTITY = 0x58

# A device asks for the same every time, and 128 contexts take 14 ms to negotiate: that many answers
# are remembered, to requests of this size (128 contexts with two syntaxes each), some 2 MB in all.
_REMEMBERED = 32
_USUAL_BYTES = 16 * 1024

# A UID that is none is judged by whoever acts on it. pydicom would warn of each, and keep the
# text of every warning for as long as the process lives.
config.settings.reading_validation_mode = config.IGNORE

# What pynetdicom lets through when the bytes are no A-ASSOCIATE-RQ.
UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21), and it in words."""

    result: int
    source: int
    reason: int
    words: str

    def encode(self) -> bytes:
        """The PDU."""
        primitive = A_ASSOCIATE()
        primitive.result = self.result
        primitive.result_source = self.source
        primitive.diagnostic = self.reason
        return _bytes(A_ASSOCIATE_RJ(primitive))


NOT_THIS_USER = Rejection(1, 1, 1, "user not accepted")
"""No reason is given: there is none for users among those of the standard (PS3.7 D.3.3.7)."""
APPLICATION_CONTEXT_UNKNOWN = Rejection(1, 1, 2, "application context unknown")
CALLING_AE_TITLE_UNKNOWN = Rejection(1, 1, 3, "calling AE title not accepted")
CALLED_AE_TITLE_UNKNOWN = Rejection(1, 1, 7, "called AE title is not ours")
PROTOCOL_VERSION_UNKNOWN = Rejection(1, 2, 2, "protocol version unknown")
TEMPORARY_CONGESTION = Rejection(2, 3, 1, "too busy")
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2, "too many associations")


@dataclass(frozen=True, slots=True)
class Titles:
    """Whom the provider answers to, and whom it listens to; no ``calling`` means anybody.

    With ``any_called`` the name by which it is called is not checked. Of those listened to,
    ``querying`` may query and retrieve; ``*`` stands for all of them.
    """

    called: str = "KOSMOS"
    calling: frozenset[str] = frozenset()
    any_called: bool = False
    querying: frozenset[str] = frozenset()

    def may_query(self, calling: str) -> bool:
        """Whether what is stored may be shown to ``calling``."""
        return calling in self.querying or "*" in self.querying


@dataclass(frozen=True, slots=True)
class Offer:
    """The SOP classes that a provider offers besides Verification and Storage.

    ``shown`` are those that show what is stored: see ``Titles.may_query``. Of the ``reported`` a
    peer may be the provider: it reports to us what we have asked for.
    """

    classes: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset()
    reported: frozenset[str] = frozenset()


NOTHING_MORE = Offer()


@dataclass(frozen=True, slots=True)
class Accepted:
    """An established association: its answer and its accepted contexts by ID.

    ``assertion`` is that of the user for whom it is asked for, empty where there is none;
    ``confirming`` the answer that tells that he was accepted, where that is asked for.
    """

    pdu: bytes
    calling_ae_title: str
    contexts: Mapping[int, Context] = field(default_factory=dict)
    peer_pdu_bytes: int = 0
    assertion: bytes = b""
    confirming: bytes = b""


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context; whether we may send requests in it too (PS3.7 D.3.3.4)."""

    abstract_syntax: str
    transfer_syntax: str
    we_may_request: bool = False


def negotiate(
    content: memoryview, titles: Titles, pdu_bytes: int, offer: Offer = NOTHING_MORE
) -> Accepted | Rejection:
    """The answer to the A-ASSOCIATE-RQ whose content (without its head) is given.

    Raises ProtocolError for bytes that are none.
    """
    asked = bytes(content)
    usual = len(asked) <= _USUAL_BYTES and not _brings_identity(asked)
    return (_remembered if usual else _negotiated)(asked, titles, pdu_bytes, offer)


def titles_in(content: memoryview) -> tuple[str, str]:
    """The called and the calling title of an A-ASSOCIATE-RQ, for a person to read."""
    called, calling = bytes(content[_CALLED]), bytes(content[_CALLING])
    return called.decode("ascii", "replace").strip(), calling.decode("ascii", "replace").strip()


def release_response() -> bytes:
    """The A-RELEASE-RP PDU."""
    return _bytes(A_RELEASE_RP())


def abort(reason: AbortReason) -> bytes:
    """The A-ABORT PDU of the service provider."""
    pdu = A_ABORT_RQ()
    pdu.source = 2
    pdu.reason_diagnostic = int(reason)
    return _bytes(pdu)


def _negotiated(
    content: bytes, titles: Titles, pdu_bytes: int, offer: Offer
) -> Accepted | Rejection:
    request, version = _read(content)
    if not version & 1:
        return PROTOCOL_VERSION_UNKNOWN
    if request.application_context_name != APPLICATION_CONTEXT_NAME:
        return APPLICATION_CONTEXT_UNKNOWN
    called = (request.called_ae_title or "").strip()
    calling = (request.calling_ae_title or "").strip()
    if not titles.any_called and called != titles.called:
        return CALLED_AE_TITLE_UNKNOWN
    if titles.calling and calling not in titles.calling:
        return CALLING_AE_TITLE_UNKNOWN
    querying = titles.may_query(calling)
    classes = offer.classes | offer.shown if querying else offer.classes
    return _accept(request, calling, pdu_bytes, _Rules(classes, querying, offer.reported))


_remembered = lru_cache(_REMEMBERED)(_negotiated)


def _brings_identity(content: bytes) -> bool:
    """Whether a request names its user; of one that cannot be read it is not known."""
    try:
        return any(
            any(_items(item[_ITEM_HEAD.size :], {_USER_IDENTITY}))
            for _, item in _items(content[_FIXED_BYTES:], {_USER_INFORMATION})
        )
    except struct.error:
        return True


def _read(content: bytes) -> tuple[A_ASSOCIATE, int]:
    pdu = A_ASSOCIATE_RQ()
    try:
        known = _without_unknown_items(content)
        pdu.decode(struct.pack(">BBI", 1, 0, len(known)) + known)
        request = pdu.to_primitive()
        contexts = request.presentation_context_definition_list
    except UNREADABLE as error:
        text = f"the A-ASSOCIATE-RQ cannot be read ({type(error).__name__})"
        raise ProtocolError(AbortReason.INVALID_PARAMETER, text) from error
    ids = {context.context_id for context in contexts}
    if len(ids) != len(contexts) or len(contexts) > _CONTEXT_LIMIT:
        text = f"{len(contexts)} presentation contexts with {len(ids)} IDs"
        raise ProtocolError(AbortReason.INVALID_PARAMETER, text)
    if not all(context.abstract_syntax for context in contexts):
        text = "a presentation context without its abstract syntax"
        raise ProtocolError(AbortReason.INVALID_PARAMETER, text)
    return request, pdu.protocol_version


def _without_unknown_items(content: bytes) -> bytes:
    """The A-ASSOCIATE-RQ with the items that pynetdicom knows: others shall be ignored.

    Also without the presentation contexts that propose no transfer syntax: there is nothing
    about them to negotiate.
    """
    items = []
    for kind, item in _items(content[_FIXED_BYTES:], _ITEMS):
        if kind == _USER_INFORMATION:
            inner = b"".join(one for _, one in _items(item[_ITEM_HEAD.size :], _USER_ITEMS))
            items.append(_ITEM_HEAD.pack(kind, len(inner)) + inner)
        elif kind != _PRESENTATION_CONTEXT or _proposes_a_syntax(item):
            items.append(item)
    return content[:_FIXED_BYTES] + b"".join(items)


def _proposes_a_syntax(context: bytes) -> bool:
    return any(_items(context[_ITEM_HEAD.size + _CONTEXT_HEAD_BYTES :], {_TRANSFER_SYNTAX}))


def _items(data: bytes, wanted: Container[int]) -> Iterator[tuple[int, bytes]]:
    """The items in ``data`` whose type is ``wanted``, heads included."""
    position = 0
    while position < len(data):
        kind, length = _ITEM_HEAD.unpack_from(data, position)
        end = position + _ITEM_HEAD.size + length
        if kind in wanted:
            yield kind, data[position:end]
        position = end


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is accepted of a peer: see ``Offer``."""

    offered: frozenset[str]
    is_querying: bool
    reported: frozenset[str]


def _accept(request: A_ASSOCIATE, calling: str, pdu_bytes: int, rules: _Rules) -> Accepted:
    roles = {
        item.sop_class_uid: (item.scu_role, item.scp_role)
        for item in request.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.sop_class_uid
    }
    requested = request.presentation_context_definition_list
    classes = {context.abstract_syntax for context in requested if context.abstract_syntax}
    supported = [context for uid in classes if (context := _supported(uid, rules))]
    results, role_items = negotiate_as_acceptor(requested, supported, roles)
    answer = A_ASSOCIATE()
    answer.application_context_name = UID(APPLICATION_CONTEXT_NAME)
    answer.calling_ae_title = request.calling_ae_title
    answer.called_ae_title = request.called_ae_title
    answer.result = 0
    answer.result_source = 1
    answer.presentation_context_definition_results_list = results
    answer.user_information = [*user_information(pdu_bytes), *role_items]
    accepted = {
        context.context_id: Context(
            str(context.abstract_syntax), str(context.transfer_syntax[0]), bool(context.as_scu)
        )
        for context in results
        if context.result == 0 and context.context_id is not None
    }
    plain = _bytes(A_ASSOCIATE_AC(answer))
    asked, assertion, confirming = identity_of(request), b"", b""
    if asked is not None:
        assertion = asked.primary_field or b""
        if asked.positive_response_requested:
            answer.user_information = [*answer.user_information, positive_response()]
            confirming = _bytes(A_ASSOCIATE_AC(answer))
    return Accepted(plain, calling, accepted, longest_pdu(request), assertion, confirming)


def longest_pdu(primitive: A_ASSOCIATE) -> int:
    """The Maximum Length that a peer has announced (PS3.8 D.1), 0 for none."""
    items = primitive.user_information
    found = (one for one in items if isinstance(one, MaximumLengthNotification))
    return next((one.maximum_length_received or 0 for one in found), 0)


def user_information(
    pdu_bytes: int,
) -> list[
    MaximumLengthNotification
    | ImplementationClassUIDNotification
    | ImplementationVersionNameNotification
]:
    """What this application says of itself and of the PDUs it takes (PS3.7 D.3.3)."""
    length = MaximumLengthNotification()
    length.maximum_length_received = pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [length, implementation, version]


@lru_cache(maxsize=512)
def _supported(abstract_syntax: UID, rules: _Rules) -> PresentationContext | None:
    """What is accepted of a SOP class; where a peer offers a choice, plain explicit VR first,
    what is deflated last."""
    if abstract_syntax == VERIFICATION:
        return build_context(abstract_syntax, SYNTAXES)
    if abstract_syntax in STORAGE:
        context = build_context(abstract_syntax, SYNTAXES)
        both_ways = rules.is_querying
    elif abstract_syntax in rules.offered:
        context = build_context(abstract_syntax, list(PLAIN_SYNTAXES))
        both_ways = abstract_syntax in rules.reported
    else:
        return None
    if both_ways:
        context.scu_role = context.scp_role = True
    return context


def _bytes(pdu: A_ASSOCIATE_AC | A_ASSOCIATE_RJ | A_RELEASE_RP | A_ABORT_RQ) -> bytes:
    return bytes(pdu.encode())
