"""The one way from a message to the claims of who asks (ITI-40).

Verifying costs about a millisecond, and the same assertion comes with every call of a session. So
the claims of what was verified are kept, by the very bytes of the assertion and the node that
brought it, until it expires; its time is looked at in every call. Whoever brings the same bytes
again need not have them read: they are cut out of the message before it is parsed, and what stands
in their place must be where an assertion must be.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from lxml import etree

from security.assertions.claims import Claims, read_claims
from security.assertions.conditions import Terms, check_conditions, check_time, fingerprint
from security.assertions.profile import AssertionProfile
from security.assertions.refusal import TokenRefused
from security.assertions.seen import Meeting, Reuse, Seen
from security.assertions.signature import Issuers
from security.assertions.structure import (
    ASSERTION,
    KEPT,
    MOST_BYTES,
    Cutting,
    check_shape,
    find_assertion,
)
from soap.envelope import Envelope
from soap.faults import INVALID_TOKEN, MessageError
from soap.xml import parse

# Assertions kept in a process, some 3 KB each: most of them twice, as they came and as they read.
MOST_KEPT = 10_000

Key = tuple[bytes, str | None]


class Verifier:
    """Verifies assertions by one profile, one set of issuers, one memory; safe for many threads."""

    def __init__(
        self,
        profile: AssertionProfile,
        issuers: Issuers,
        terms: Terms,
        seen: Seen,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._profile = profile
        self._issuers = issuers
        self._terms = terms
        self._seen = seen
        self._clock = clock
        self._kept: OrderedDict[Key, Claims] = OrderedDict()
        self._lock = threading.Lock()

    def believe(self, issuers: Issuers) -> None:
        """Believe these from now on; what was verified by others' keys is verified again."""
        with self._lock:
            self._issuers = issuers
            self._kept.clear()

    def shorten(self, message: bytes, certificate: str | None) -> tuple[bytes, Cutting | None]:
        """An envelope without the assertion it brings, if that need not be read again; and how it
        was cut, which its ``Envelope`` is to know (``cut``)."""
        if self._seen.reuse is Reuse.NEVER:
            return message, None
        cutting = Cutting.of(message)
        if cutting is None or (cutting.digest, certificate) not in self._kept:
            return message, cutting
        return cutting.message, cutting

    def remembers(self, envelope: Envelope, certificate: str | None) -> bool:
        """Whether the message brings an assertion that need not be verified again."""
        try:
            brought = self._brought(envelope, certificate)
        except TokenRefused:
            return False
        return brought is not None and brought[1] in self._kept

    def verify(self, envelope: Envelope, certificate: str | None) -> Claims | None:
        """What the assertion of a message says, brought by the node of ``certificate`` (PEM).

        None where there is no assertion. Raises TokenRefused, and StorageError when it cannot be
        known whether the assertion was used before.
        """
        brought = self._brought(envelope, certificate)
        return None if brought is None else self._known(*brought, certificate, envelope.cut)

    def verify_token(self, token: bytes, certificate: str | None) -> Claims:
        """What an assertion says that comes by itself, as XML. Raises as ``verify`` does."""
        if len(token) > MOST_BYTES:
            raise TokenRefused(INVALID_TOKEN, f"the assertion is larger than {MOST_BYTES} bytes")
        try:
            root = parse(token)
        except MessageError as error:
            raise TokenRefused(INVALID_TOKEN, f"the assertion is {error}") from error
        if [root] != list(root.iter(ASSERTION)):
            raise TokenRefused(INVALID_TOKEN, "expected one SAML 2.0 assertion")
        return self._known(root, _key(root, certificate), certificate)

    def _brought(
        self, envelope: Envelope, certificate: str | None
    ) -> tuple[etree._Element, Key] | None:
        """The assertion of a message and its key, looked for once in each."""
        if envelope.judged is None:
            assertion = find_assertion(envelope)
            if assertion is None:
                envelope.judged = (None,)
            elif assertion.tag == KEPT and envelope.cut is not None:
                envelope.judged = ((assertion, (envelope.cut.digest, certificate)),)
            else:
                envelope.judged = ((assertion, _key(assertion, certificate)),)
        brought: tuple[etree._Element, Key] | None = envelope.judged[0]
        return brought

    def _known(
        self,
        assertion: etree._Element,
        key: Key,
        certificate: str | None,
        cutting: Cutting | None = None,
    ) -> Claims:
        claims = self._kept.get(key)
        if claims is not None:
            check_time(claims, self._terms, self._clock())
            return claims
        if cutting is not None and assertion.tag == KEPT:  # it was forgotten since it was cut out
            return self.verify_token(cutting.token, certificate)
        check_shape(assertion, self._profile)
        believed = self._issuers
        claims = self._verify(etree.tostring(assertion, with_tail=False), certificate)
        if self._seen.reuse is not Reuse.NEVER:
            self._keep(key, claims, believed)
            if cutting is not None and cutting.is_exact():
                self._keep((cutting.digest, certificate), claims, believed)
        return claims

    def _verify(self, assertion: bytes, certificate: str | None) -> Claims:
        if len(assertion) > MOST_BYTES:
            raise TokenRefused(INVALID_TOKEN, f"the assertion is larger than {MOST_BYTES} bytes")
        signed = self._issuers.verify(assertion, self._profile)
        claims = read_claims(signed.element, self._profile)
        now = self._clock()
        held = check_conditions(signed.element, claims, self._terms, certificate, now)
        self._seen.meet(
            Meeting(
                issuer=claims.issuer,
                id=claims.id,
                digest=hashlib.sha256(signed.data).hexdigest(),
                node=fingerprint(certificate) if certificate else "",
                until=claims.not_on_or_after + self._terms.skew,
            )
        )
        return held

    def _keep(self, key: Key, claims: Claims, believed: Issuers) -> None:
        with self._lock:
            if believed is not self._issuers:  # others are believed meanwhile
                return
            self._kept[key] = claims
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)


def _key(assertion: etree._Element, certificate: str | None) -> Key:
    data = etree.tostring(assertion, with_tail=False)
    return hashlib.sha256(data).digest(), certificate
