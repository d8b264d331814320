"""An assertion that is known by its bytes is cut out of a message before the message is read."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lxml import etree

from security.assertions.claims import Claims
from security.assertions.profile import AssertionProfile
from security.assertions.refusal import TokenRefused
from security.assertions.seen import Reuse, Seen
from security.assertions.signature import Issuers
from security.assertions.structure import KEPT
from security.pki import Identity
from soap.envelope import SECURITY, read_envelope
from soap.faults import MESSAGE_EXPIRED, SOAP12, WSSE
from soap.xml import parse
from storage.database import Database
from tests.security.assertions.conftest import HOUR, Desk, make_desk

FOREIGN = '<a:Assertion xmlns:a="urn:test">junk</a:Assertion>'


def written(headers: str, body: str = "<q/>") -> bytes:
    """A message as it travels."""
    return (
        f'<s:Envelope xmlns:s="{SOAP12}" xmlns:w="{WSSE}"><s:Header>{headers}</s:Header>'
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def secured(inner: str) -> bytes:
    """A message with this in its WS-Security header."""
    return written(f"<w:Security>{inner}</w:Security>")


def bring(desk: Desk, message: bytes, certificate: str | None = None) -> Claims | None:
    """Whom a message is of, as an endpoint finds out."""
    left, cut = desk.verifier.shorten(message, certificate)
    envelope = read_envelope(parse(left), understood=(SECURITY,))
    envelope.cut = cut
    return desk.verifier.verify(envelope, certificate)


def is_cut(desk: Desk, message: bytes, certificate: str | None = None) -> bool:
    """Whether something is taken out of a message before it is read."""
    return desk.verifier.shorten(message, certificate)[0] != message


def refused(desk: Desk, message: bytes) -> str:
    """Why a message is refused."""
    with pytest.raises(TokenRefused) as error:
        bring(desk, message)
    return error.value.reason


def test_the_same_bytes_are_read_once_and_mean_the_same(desk: Desk) -> None:
    first, again = (secured(token) for token in (desk.token(id="_one"), desk.token(id="_two")))
    assert not is_cut(desk, first)
    claims = bring(desk, first)
    assert claims is not None
    assert is_cut(desk, first)
    assert bring(desk, first) is claims
    assert not is_cut(desk, again)


def test_it_is_cut_out_wherever_the_message_says_something_else(desk: Desk) -> None:
    token = desk.token()
    claims = bring(desk, secured(token))
    other = written(f"<x:H xmlns:x='urn:x'/><w:Security>\n{token} </w:Security>", "<r>1</r>")
    left, _ = desk.verifier.shorten(other, None)
    assert b"<r>1</r>" in left
    assert b"ada@example" not in left
    assert bring(desk, other) is claims


def test_a_byte_that_differs_is_read_and_refused(desk: Desk) -> None:
    token = desk.token()
    bring(desk, secured(token))
    forged = secured(token.replace("ada@example", "bob@example"))
    assert not is_cut(desk, forged)
    assert "no key of the issuer" in refused(desk, forged)


def test_another_node_that_brings_it_has_it_read(desk: Desk, pki: dict[str, Identity]) -> None:
    message = secured(desk.token())
    shown = pki["node"].certificate.read_text()
    bring(desk, message, shown)
    assert is_cut(desk, message, shown)
    assert not is_cut(desk, message, pki["stranger"].certificate.read_text())
    assert not is_cut(desk, message)


def test_what_is_cut_out_must_be_where_an_assertion_must_be(desk: Desk) -> None:
    token = desk.token()
    bring(desk, secured(token))
    for message, reason in (
        (written("", token), "not in the WS-Security header"),
        (written(token), "not in the WS-Security header"),
        (secured(f"<x>{token}</x>"), "not in the WS-Security header"),
        (secured(token + token), "more than one assertion"),
        (written(f"<w:Security>{token}</w:Security><w:Security/>"), "more than one WS-Security"),
    ):
        assert is_cut(desk, message)
        assert reason in refused(desk, message)


def test_what_is_cut_out_of_a_comment_is_nobodys(desk: Desk) -> None:
    token = desk.token()
    bring(desk, secured(token))
    assert bring(desk, secured(f"<!-- {token} -->")) is None


def test_a_decoy_beside_the_assertion_does_not_become_known(desk: Desk) -> None:
    token = desk.token()
    for decoy in (
        f"<!-- {FOREIGN} -->{token}",
        f"<![CDATA[{FOREIGN}]]>{token}",
        f"<x y='&lt;'>{FOREIGN}</x>{token}",
    ):
        assert bring(desk, secured(decoy)) is not None
        assert not is_cut(desk, secured(FOREIGN))
        assert bring(desk, secured(FOREIGN)) is None


def test_an_assertion_with_a_comment_in_it_is_read_each_time(desk: Desk) -> None:
    token = desk.token().replace("<", "<!-- </saml2:Assertion> --><", 2)[
        len("<!-- </saml2:Assertion> -->") :
    ]
    message = secured(token)
    claims = bring(desk, message)
    assert claims is not None
    assert not is_cut(desk, message)
    assert bring(desk, message) == claims


def test_the_beginning_of_an_assertion_does_not_become_known(desk: Desk) -> None:
    head, tag, tail = desk.token().partition("<saml2:Issuer>")
    assert tag
    apart = f"{head}<!-- </saml2:Assertion><saml2:Assertion> -->{tag}{tail}"
    others = "".join(f" xmlns:{one}='urn:test'" for one in ("saml2", "xsi", "xsd"))
    message = secured(apart).replace(b"<s:Header", b"<s:Header" + others.encode())
    assert bring(desk, message) is not None
    assert not is_cut(desk, message)


def test_one_that_has_expired_is_refused_also_when_it_is_known(desk: Desk) -> None:
    message = secured(desk.token())
    bring(desk, message)
    desk.now += HOUR + timedelta(minutes=2)
    assert is_cut(desk, message)
    with pytest.raises(TokenRefused) as error:
        bring(desk, message)
    assert error.value.subcode == MESSAGE_EXPIRED


def test_whoever_is_believed_no_more_is_refused_although_it_was_cut_out(desk: Desk) -> None:
    message = secured(desk.token())
    bring(desk, message)
    left, cut = desk.verifier.shorten(message, None)
    envelope = read_envelope(parse(left), understood=(SECURITY,))
    envelope.cut = cut
    desk.verifier.believe(Issuers({}))
    with pytest.raises(TokenRefused, match="issuer of the assertion is not known"):
        desk.verifier.verify(envelope, None)
    assert not is_cut(desk, message)


def test_who_writes_what_stands_for_an_assertion_is_nobody(desk: Desk) -> None:
    token = desk.token()
    bring(desk, secured(token))
    name = etree.QName(KEPT)
    place = f'<{name.localname} xmlns="{name.namespace}"/>'
    assert "not signed" in refused(desk, secured(place))
    assert "more than one" in refused(desk, secured(place + token))
    strange = token.replace("ada@example", "bob@example")
    assert "no key" in refused(desk, secured(f"<!-- {strange} -->{place}"))


def test_where_none_may_come_again_nothing_is_cut_out(
    pki: dict[str, Identity], profile: AssertionProfile, database: Database, desk: Desk
) -> None:
    strict = make_desk(pki, desk.issuer, profile, Seen(database, Reuse.NEVER))
    message = secured(strict.token())
    bring(strict, message)
    assert not is_cut(strict, message)
    assert "used before" in refused(strict, message)


def test_an_assertion_larger_than_any_is_not_looked_for(desk: Desk) -> None:
    message = secured(desk.token().replace("ada@example", "a" * 70_000))
    assert desk.verifier.shorten(message, None) == (message, None)
