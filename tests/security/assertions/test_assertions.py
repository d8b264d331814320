"""An assertion says who asks if a known issuer signed just what is read, for here and for now."""

from __future__ import annotations

import base64
import contextlib
import copy
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml.algorithms import SignatureMethod

from conformance.cases.user_assertions import BAD
from conformance.tokens import NAME_ID, unsigned
from metadata.model import Code
from node.migrate import script_location
from security.assertions.conditions import HOLDER_OF_KEY
from security.assertions.issuing import Issuer, Person, written
from security.assertions.profile import AssertionProfile
from security.assertions.refusal import TokenRefused
from security.assertions.seen import Reuse, Seen
from security.assertions.signature import IssuerError, Issuers
from security.assertions.structure import ASSERTION, DS, SAML
from security.pki import Identity
from soap.faults import (
    FAILED_AUTHENTICATION,
    FAILED_CHECK,
    INVALID_SECURITY,
    INVALID_TOKEN,
    MESSAGE_EXPIRED,
    WSSE,
    MessageError,
)
from storage.database import Database
from tests.security.assertions.conftest import (
    ADA,
    AUDIENCE,
    DOCTOR,
    HOUR,
    NAME,
    NURSE,
    TREATMENT,
    Desk,
    envelope,
    make_desk,
    message,
)

XSD = Path(__file__).parents[4] / "shared/standards/saml/sstc-saml-schema-assertion-2.0.xsd"


def refused(desk: Desk, token: str, certificate: str | None = None) -> str:
    """The subcode with which a token is refused."""
    with pytest.raises(TokenRefused) as error:
        desk.verify(token, certificate)
    return error.value.subcode


# -- what is accepted


def test_a_good_assertion_says_who_asks(desk: Desk) -> None:
    claims = desk.verify(desk.token())
    assert (claims.subject, claims.issuer) == ("ada@example", NAME)
    assert claims.roles == (DOCTOR,)
    assert claims.purposes == (TREATMENT,)
    assert claims.audit_name == f"<ada@example@{NAME}>"


def test_attributes_are_united_wherever_they_stand(desk: Desk) -> None:
    person = Person("ada", {"role": [DOCTOR, NURSE], "organization_id": ["urn:oid:1.2", "x"]})
    root = written(desk.draft(person=person), desk.issuer.profile)
    statement = root.find(f"{{{SAML}}}AttributeStatement")
    assert statement is not None
    other = etree.SubElement(root, f"{{{SAML}}}AttributeStatement")
    other.append(copy.deepcopy(statement[0]))
    other[0][0][0].set("code", "999")
    claims = desk.verify(desk.issuer.sign(root))
    assert [role.code for role in claims.roles] == ["221", "222", "999"]
    assert claims.organization_ids == ("urn:oid:1.2", "x")


@pytest.mark.skipif(not XSD.exists(), reason="the schema of SAML is not here")
def test_what_the_issuer_writes_is_valid_saml(desk: Desk) -> None:
    class Local(etree.Resolver):
        def resolve(self, system_url: str, public_id: str, context: Any = None) -> Any:
            name = system_url.rpartition("/")[2]
            found = str(XSD.parent / name)
            return self.resolve_filename(found, context)  # type: ignore[attr-defined]

    parser = etree.XMLParser()
    parser.resolvers.add(Local())
    schema = etree.XMLSchema(etree.parse(str(XSD), parser))
    token = etree.fromstring(desk.token())
    for coded in token.iter("{urn:hl7-org:v3}*"):  # their types are of another schema
        del coded.attrib["{http://www.w3.org/2001/XMLSchema-instance}type"]
    schema.assertValid(token)


def test_a_message_without_assertion_is_nobodys(desk: Desk) -> None:
    assert desk.verifier.verify(envelope(""), None) is None
    assert desk.verifier.verify(message(""), None) is None


def test_holder_of_key_is_bound_to_the_certificate_of_the_connection(
    desk: Desk, pki: dict[str, Identity]
) -> None:
    shown, other = (pki[name].certificate.read_text() for name in ("node", "stranger"))
    holder = base64.b64encode(ssl.PEM_cert_to_DER_cert(shown)).decode()

    def token() -> str:
        return desk.token(confirmation=HOLDER_OF_KEY, holder=holder)

    assert desk.verify(token(), shown).subject == "ada@example"
    assert refused(desk, token(), other) == FAILED_AUTHENTICATION
    assert refused(desk, token()) == FAILED_AUTHENTICATION


# -- when and for whom


def test_an_assertion_holds_from_its_beginning_to_its_end_give_or_take_a_minute(
    desk: Desk,
) -> None:
    token, begin = desk.token(), desk.now
    for late, subcode in (
        (timedelta(seconds=-61), INVALID_TOKEN),
        (timedelta(seconds=-59), None),
        (HOUR + timedelta(seconds=59), None),
        (HOUR + timedelta(seconds=61), MESSAGE_EXPIRED),
    ):
        desk.now = begin + late
        if subcode:
            assert refused(desk, token) == subcode
        else:
            desk.verify(token)


def test_an_assertion_that_was_verified_expires_all_the_same(desk: Desk) -> None:
    token = desk.token()
    desk.verify(token)
    desk.now += 2 * HOUR
    assert refused(desk, token) == MESSAGE_EXPIRED


def test_an_assertion_may_not_hold_for_ever(desk: Desk) -> None:
    assert refused(desk, desk.token(not_on_or_after=desk.now + 13 * HOUR)) == INVALID_TOKEN


@pytest.mark.parametrize("audiences", [[], ["urn:example:elsewhere"]])
def test_an_assertion_for_others_is_refused(desk: Desk, audiences: list[str]) -> None:
    assert refused(desk, desk.token(audiences=audiences)) == FAILED_AUTHENTICATION


def test_every_audience_restriction_must_name_us(desk: Desk) -> None:
    root = written(desk.draft(), desk.issuer.profile)
    conditions = root.find(f"{{{SAML}}}Conditions")
    assert conditions is not None
    conditions.append(copy.deepcopy(conditions[0]))
    conditions[1][0].text = "urn:example:elsewhere"
    assert refused(desk, desk.issuer.sign(root)) == FAILED_AUTHENTICATION


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "1.1"},
        {"authn_context": None},
        {"person": Person("")},
    ],
)
def test_an_assertion_that_lacks_what_it_must_say_is_refused(
    desk: Desk, changes: dict[str, object]
) -> None:
    assert refused(desk, desk.token(**changes)) == INVALID_TOKEN


def test_an_unknown_confirmation_confirms_nothing(desk: Desk) -> None:
    token = desk.token(confirmation="urn:oasis:names:tc:SAML:2.0:cm:sender-vouches")
    assert refused(desk, token) == FAILED_AUTHENTICATION


def test_a_condition_that_is_not_known_may_forbid_anything(desk: Desk) -> None:
    """SAML Core 2.5.1.1: an assertion with one is not valid for who does not understand it."""
    assert refused(desk, with_condition(desk, "Condition")) == INVALID_TOKEN


@pytest.mark.parametrize("name", ["OneTimeUse", "ProxyRestriction"])
def test_conditions_that_xua_ignores_change_nothing(desk: Desk, name: str) -> None:
    token = with_condition(desk, name)
    assert desk.verify(token).subject == desk.verify(token).subject == "ada@example"


def test_an_assertion_ends_with_its_confirmation_also_where_it_was_verified(desk: Desk) -> None:
    root = written(desk.draft(), desk.issuer.profile)
    data = etree.SubElement(_confirmation(root), f"{{{SAML}}}SubjectConfirmationData")
    data.set("NotOnOrAfter", (desk.now + HOUR / 2).isoformat())
    token = desk.issuer.sign(root)
    desk.verify(token)
    desk.now += HOUR / 2 + timedelta(seconds=59)
    desk.verify(token)
    desk.now += timedelta(seconds=1)
    assert refused(desk, token) == MESSAGE_EXPIRED


def _confirmation(root: etree._Element) -> etree._Element:
    found = root.find(f"{{{SAML}}}Subject/{{{SAML}}}SubjectConfirmation")
    assert found is not None
    return found


def with_condition(desk: Desk, name: str) -> str:
    """A good assertion with one more condition."""
    root = written(desk.draft(), desk.issuer.profile)
    conditions = root.find(f"{{{SAML}}}Conditions")
    assert conditions is not None
    etree.SubElement(conditions, f"{{{SAML}}}{name}")
    return desk.issuer.sign(root)


# -- whose signature


def test_an_unknown_issuer_is_not_believed(desk: Desk) -> None:
    assert refused(desk, desk.token(issuer="https://elsewhere")) == FAILED_AUTHENTICATION


def test_an_issuer_that_is_believed_no_more_is_refused_also_where_it_was_verified(
    desk: Desk,
) -> None:
    token = desk.token()
    desk.verify(token)
    desk.verifier.believe(Issuers({}))
    assert refused(desk, token) == FAILED_AUTHENTICATION
    desk.verifier.believe(Issuers({NAME: [desk.issuer.certificate]}))
    desk.verify(token)


def test_the_key_is_that_of_the_configuration_not_that_of_the_token(
    desk: Desk, attacker: Issuer
) -> None:
    token = attacker.sign(written(desk.draft(), desk.issuer.profile))
    assert "X509Certificate" in token
    assert refused(desk, token) == FAILED_CHECK


@pytest.mark.parametrize(
    "method",
    [
        "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
        "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256",
    ],
)
def test_weak_or_confused_algorithms_are_refused(desk: Desk, method: str) -> None:
    def weaken(root: etree._Element) -> None:
        found = next(root.iter(f"{{{DS}}}SignatureMethod"))
        found.set("Algorithm", method)

    assert refused(desk, desk.forged(weaken)) == INVALID_TOKEN


@pytest.mark.parametrize("method", [SignatureMethod.RSA_SHA512, SignatureMethod.SHA256_RSA_MGF1])
def test_other_sound_algorithms_are_accepted(desk: Desk, method: SignatureMethod) -> None:
    token = desk.issuer.sign(written(desk.draft(), desk.issuer.profile), method)
    assert desk.verify(token).subject == "ada@example"


def test_a_signature_says_the_same_wherever_it_is_moved(desk: Desk) -> None:
    """Else a forgery that moves it would be refused for being spoilt, not for what it is."""
    [info] = etree.fromstring(desk.token()).iter(f"{{{DS}}}SignedInfo")
    before = etree.tostring(info, method="c14n", exclusive=True)
    signature = info.getparent()
    assert signature is not None
    etree.Element("elsewhere").append(signature)
    assert etree.tostring(info, method="c14n", exclusive=True) == before


def test_what_was_changed_after_signing_is_refused(desk: Desk) -> None:
    def promote(root: etree._Element) -> None:
        next(root.iter("{urn:hl7-org:v3}Role")).set("code", "admin")

    assert refused(desk, desk.forged(promote)) == FAILED_CHECK


NAMES = {
    "NameID": "ada.evil@example",
    "display_name": "Ada.Evil",
    "role": "doctor.admin",
    "patient": "4711.8^^^&amp;1.2.3&amp;ISO",
    "purpose_of_use": "TREATMENT.NOT",
}
HIDDEN = {
    "comment": "<!--x-->",
    "instruction": "<?x y?>",
    "CDATA": "<![CDATA[]]>",
    "character": "&#x2e;",
    "entity": "&e;",
}


def _hidden_in(desk: Desk, place: str, hidden: str) -> str:
    """A signed assertion with something in the midst of a name, at the dot."""
    whole = NAMES[place].replace("&amp;", "&")
    said: dict[str, list[str | Code]] = {place: [whole]} if place != "NameID" else {}
    token = desk.token(person=Person(NAMES["NameID"] if place == "NameID" else "ada", said))
    before, after = NAMES[place].split(".", 1)
    if hidden == HIDDEN["character"]:
        return token.replace(NAMES[place], f"{before}{hidden}{after}")
    return token.replace(NAMES[place], f"{before}{hidden}.{after}")


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("place", NAMES)
def test_nothing_in_a_name_shortens_it(desk: Desk, place: str, hidden: str) -> None:
    """Either the whole text is read, or the token is refused."""
    if hidden == "entity":  # it would have to be declared, and no document type is read
        with pytest.raises(MessageError):
            desk.verify(_hidden_in(desk, place, HIDDEN[hidden]))
        return
    token, whole = _hidden_in(desk, place, HIDDEN[hidden]), NAMES[place].replace("&amp;", "&")
    claims = desk.verify(token)
    read = {
        "NameID": (claims.subject,),
        "display_name": claims.display_names,
        "patient": claims.patients,
        # Those are codes: a text is none.
        "role": claims.roles,
        "purpose_of_use": claims.purposes,
    }[place]
    assert read == (() if place in ("role", "purpose_of_use") else (whole,))


@pytest.mark.parametrize(
    ("hidden", "reason"),
    [(etree.Comment("x"), None), (etree.ProcessingInstruction("x", "y"), "no key of the issuer")],
    ids=["comment", "instruction"],
)
def test_nothing_that_an_issuer_signs_inside_a_name_shortens_it(
    desk: Desk, hidden: etree._Element, reason: str | None
) -> None:
    """No signature covers a comment; an instruction that was signed is not read, so it breaks."""
    root = written(desk.draft(person=Person("ada")), desk.issuer.profile)
    name = root.find(NAME_ID)
    assert name is not None
    hidden.tail = ".evil"
    name.append(hidden)
    token = desk.issuer.sign(root)
    if reason is None:
        assert desk.verify(token).subject == "ada.evil"
        return
    with pytest.raises(TokenRefused, match=reason):
        desk.verify(token)


def test_nobody_who_is_believed_speaks_under_anothers_name(
    desk: Desk, attacker: Issuer, pki: dict[str, Identity]
) -> None:
    """Two issuers are believed; each by its own key alone."""
    other = "https://idp.example/elsewhere"
    certificates = {NAME: [desk.issuer.certificate], other: [attacker.certificate]}
    desk.verifier.believe(Issuers(certificates))
    draft = desk.draft(issuer=other, person=ADA)
    assert desk.verify(attacker.sign(written(draft, attacker.profile))).issuer == other
    with pytest.raises(TokenRefused, match="no key of the issuer has signed"):
        desk.verify(attacker.sign(written(desk.draft(), attacker.profile)))


def test_a_weak_key_is_not_believed(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    begin = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + HOUR)
    file = tmp_path / "weak.pem"
    file.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    with pytest.raises(IssuerError, match="RSA of 2048 bits"):
        Issuers.read({NAME: file})


REFUSALS = {
    "expired": (MESSAGE_EXPIRED, "has expired"),
    "early": (INVALID_TOKEN, "not valid yet"),
    "long-lived": (INVALID_TOKEN, "may hold for 12:00:00 at most"),
    "unsigned": (INVALID_TOKEN, "not signed"),
    "audience": (FAILED_AUTHENTICATION, "another audience"),
    "issuer": (FAILED_AUTHENTICATION, "issuer of the assertion is not known"),
    "key": (FAILED_CHECK, "no key of the issuer has signed"),
    "weak-key": (FAILED_CHECK, "no key of the issuer has signed"),
    "sha-1": (INVALID_TOKEN, "signature algorithm is not accepted"),
    "digest": (INVALID_TOKEN, "digest algorithm is not accepted"),
    "hmac": (INVALID_TOKEN, "signature algorithm is not accepted"),
    "changed": (FAILED_CHECK, "no key of the issuer has signed"),
    "wrapped-beside": (INVALID_SECURITY, "more than one assertion"),
    "wrapped-behind": (INVALID_SECURITY, "more than one assertion"),
    "wrapped-extension": (INVALID_SECURITY, "more than one assertion"),
    "wrapped-advice": (INVALID_SECURITY, "more than one assertion"),
    "wrapped-signature": (INVALID_SECURITY, "more than one assertion"),
    "wrapped-object": (INVALID_SECURITY, "more than one assertion"),
    "twice-signed": (INVALID_TOKEN, "expected one Signature"),
    "nested": (INVALID_SECURITY, "not in the WS-Security header"),
    "identifier": (INVALID_SECURITY, "an identifier is given to two elements"),
    "reference": (INVALID_TOKEN, "one Reference, to the assertion"),
    "transform": (INVALID_TOKEN, "expected the transforms"),
    "holder": (FAILED_AUTHENTICATION, "no SubjectConfirmation"),
    "confirmation": (FAILED_AUTHENTICATION, "no SubjectConfirmation"),
    "authn-statement": (INVALID_TOKEN, "no AuthnStatement"),
}


@pytest.mark.parametrize("forgery", [name for name in BAD if name != "none"])
def test_every_forgery_of_the_kit_is_refused_for_what_is_wrong_with_it(
    desk: Desk, forgery: str
) -> None:
    subcode, reason = REFUSALS[forgery]
    with pytest.raises(TokenRefused, match=reason) as error:
        desk.verify(BAD[forgery][2](desk.issuer))
    assert error.value.subcode == subcode


# -- where an assertion stands


def test_an_assertion_elsewhere_in_the_message_is_refused(desk: Desk) -> None:
    token = desk.token()
    for letter in (
        message(token, f"<q>{unsigned(desk.issuer)}</q>"),
        envelope(token),
        message("", f"<q>{token}</q>"),
        envelope(message_header(token) * 2),
    ):
        with pytest.raises(TokenRefused) as error:
            desk.verifier.verify(letter, None)
        assert error.value.subcode == INVALID_SECURITY


def message_header(token: str) -> str:
    """The WS-Security header that brings ``token``."""
    return f'<w:Security xmlns:w="{WSSE}">{token}</w:Security>'


def test_a_reference_to_the_whole_message_is_refused(desk: Desk) -> None:
    def point(root: etree._Element) -> None:
        next(root.iter(f"{{{DS}}}Reference")).set("URI", "")

    assert refused(desk, desk.forged(point)) == INVALID_TOKEN


def test_encrypted_and_old_assertions_are_refused(desk: Desk) -> None:
    for token in (
        f'<EncryptedAssertion xmlns="{SAML}"/>',
        '<Assertion xmlns="urn:oasis:names:tc:SAML:1.0:assertion"/>',
    ):
        assert refused(desk, token) == INVALID_TOKEN


def test_a_giant_assertion_is_refused(desk: Desk) -> None:
    person = Person("ada", {"organization": ["x" * 70_000]})
    assert refused(desk, desk.token(person=person)) == INVALID_TOKEN


# -- used again


def test_the_same_node_may_bring_an_assertion_again(desk: Desk, pki: dict[str, Identity]) -> None:
    token, shown = desk.token(), pki["node"].certificate.read_text()
    assert desk.verify(token, shown) == desk.verify(token, shown)


def test_another_node_may_not_bring_it(desk: Desk, pki: dict[str, Identity]) -> None:
    token = desk.token()
    desk.verify(token, pki["node"].certificate.read_text())
    stranger = pki["stranger"].certificate.read_text()
    assert refused(desk, token, stranger) == FAILED_AUTHENTICATION


def test_another_assertion_of_the_same_name_is_a_replay(desk: Desk) -> None:
    desk.verify(desk.token(id="_one"))
    other = desk.token(id="_one", person=Person("bob"))
    assert refused(desk, other) == FAILED_AUTHENTICATION


def test_what_one_process_has_met_another_remembers_after_a_restart(
    desk: Desk,
    pki: dict[str, Identity],
    issuer: Issuer,
    profile: AssertionProfile,
    database: Database,
) -> None:
    token = desk.token()
    desk.verify(token, pki["node"].certificate.read_text())
    again = make_desk(pki, issuer, profile, Seen(database, Reuse.SAME_NODE))
    assert again.verify(token, pki["node"].certificate.read_text()).subject == ADA.subject
    assert refused(again, token, pki["stranger"].certificate.read_text()) == FAILED_AUTHENTICATION


@pytest.fixture
def memories(tmp_path: Path) -> Iterator[list[Database]]:
    """Those of two processes that each have their own."""
    with ExitStack() as stack:
        opened = []
        for name in ("web", "dicom"):
            url = f"sqlite:///{tmp_path}/{name}.db"
            opened.append(stack.enter_context(Database.open(url)))
            with script_location("security.access") as scripts:
                opened[-1].migrate(scripts)
        yield opened


def two_desks(
    memories: list[Database],
    pki: dict[str, Identity],
    issuer: Issuer,
    profile: AssertionProfile,
    reuse: Reuse = Reuse.SAME_NODE,
) -> Iterator[Desk]:
    """Those of two processes, each of which looks into the other's memory."""
    for own, other in (memories, memories[::-1]):
        yield make_desk(pki, issuer, profile, Seen(own, reuse, [other]))


def test_what_one_process_has_met_nobody_else_brings_to_another(
    memories: list[Database],
    pki: dict[str, Identity],
    issuer: Issuer,
    profile: AssertionProfile,
) -> None:
    node, stranger = (pki[name].certificate.read_text() for name in ("node", "stranger"))
    for here, there in permutations(two_desks(memories, pki, issuer, profile)):
        token, name = here.token(), here.token(id="_one")
        here.verify(token, node)
        here.verify(name, node)
        assert refused(there, token, stranger) == FAILED_AUTHENTICATION
        other = there.token(id="_one", person=Person("bob"))
        assert refused(there, other, node) == FAILED_AUTHENTICATION
        # Whoever may bring it still may, at both, also where it is judged anew.
        for desk in two_desks(memories, pki, issuer, profile):
            assert desk.verify(token, node).subject == ADA.subject
        for memory in memories:
            Seen(memory, Reuse.SAME_NODE).forget(here.now + 2 * HOUR)


def test_where_once_is_enough_another_process_does_not_take_it_either(
    memories: list[Database], pki: dict[str, Identity], issuer: Issuer, profile: AssertionProfile
) -> None:
    here, there = two_desks(memories, pki, issuer, profile, Reuse.NEVER)
    token = here.token()
    here.verify(token)
    assert refused(there, token) == FAILED_AUTHENTICATION


def test_of_two_processes_that_meet_an_assertion_at_once_not_both_believe_two_nodes(
    memories: list[Database], pki: dict[str, Identity], issuer: Issuer, profile: AssertionProfile
) -> None:
    desks = [*two_desks(memories, pki, issuer, profile)]
    shown = [pki[name].certificate.read_text() for name in ("node", "stranger")]
    for _ in range(20):
        token, start = desks[0].token(), Barrier(2)
        desks[1].now = desks[0].now

        def bring(desk: Desk, certificate: str, token: str = token, start: Barrier = start) -> bool:
            start.wait()
            with contextlib.suppress(TokenRefused):
                desk.verify(token, certificate)
                return True
            return False

        with ThreadPoolExecutor(2) as pool:
            assert sum(pool.map(bring, desks, shown)) <= 1


def test_where_once_is_enough_it_may_not_come_again(
    pki: dict[str, Identity], issuer: Issuer, profile: AssertionProfile, database: Database
) -> None:
    desk = make_desk(pki, issuer, profile, Seen(database, Reuse.NEVER))
    token = desk.token()
    desk.verify(token)
    assert refused(desk, token) == FAILED_AUTHENTICATION


def test_expired_assertions_are_forgotten(desk: Desk, database: Database) -> None:
    desk.verify(desk.token())
    seen = Seen(database, Reuse.SAME_NODE)
    assert seen.forget(desk.now) == 0
    assert seen.forget(desk.now + 2 * HOUR) == 1


def test_a_verified_assertion_is_remembered_and_a_new_one_is_not(desk: Desk) -> None:
    token = desk.token()
    assert not desk.verifier.remembers(message(token), None)
    desk.verify(token)
    assert desk.verifier.remembers(message(token), None)
    assert AUDIENCE in token
    assert ASSERTION in {one.tag for one in message(token).security[0]}
