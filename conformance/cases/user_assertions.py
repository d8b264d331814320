"""Document Registry: who asks, by assertions good and forged (S02).

Each case asks a query that finds nothing, so that nothing but the assertion decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.secure_nodes import DAY, issued
from conformance.expectation import Expectation, SecurityFault, Success, any_of, fault
from conformance.seen import Answer, Seen
from conformance.tokens import (
    DOCTOR,
    NURSE,
    USER,
    behind,
    bereft,
    beside,
    by_old_means,
    by_the_public_key,
    changed,
    held,
    in_advice,
    in_extension,
    in_object,
    interrupted,
    nested,
    of_a_part,
    of_a_weak_key,
    of_another_holder,
    of_another_key,
    of_something_else,
    signed,
    twice_signed,
    unsigned,
    with_a_namesake,
)
from conformance.wire import Post, post_of
from metadata.datatypes import new_uuid_urn
from security.assertions.issuing import Issuer
from transactions.iti_18 import ITI_18, AdhocQueryResponse
from transactions.stored_query import get_associations

CASES = Cases(Actor.USER_ASSERTIONS, "registry issuer")

SPEC = "ITI TF-2 3.40.4.1.3"

# Longer than any two clocks of a domain differ.
LONG = timedelta(hours=3)

# Longer than anybody is logged in.
FOR_EVER = timedelta(days=3650)

SENDER_VOUCHES = "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"

TWO_ROLES = replace(USER, attributes={**USER.attributes, "role": [DOCTOR, NURSE]})


def _ask(bench: Bench, token: str) -> Answer[AdhocQueryResponse]:
    request = get_associations([new_uuid_urn()])
    return bench.wire.call(bench.targets.endpoint("registry"), ITI_18, request, token=token)


def _issuer(bench: Bench) -> Issuer:
    assert bench.targets.issuer is not None
    return bench.targets.issuer


def _asked(make: Callable[[Issuer], str], bench: Bench) -> Iterator[Seen]:
    yield _ask(bench, make(_issuer(bench)))


def _add(name: str, en: str, fr: str, make: Callable[[Issuer], str], expected: Expectation) -> None:
    stimulus = partial(_asked, make)
    CASES.add(f"S02-{name}", en, fr, spec=SPEC, expected=[expected], stimulus=stimulus)


GOOD: dict[str, tuple[str, str, Callable[[Issuer], str]]] = {
    "good": ("A good assertion", "Une bonne assertion", signed),
    "two-roles": (
        "An assertion with two roles",
        "Une assertion à deux rôles",
        lambda issuer: signed(issuer, TWO_ROLES),
    ),
}

BAD: dict[str, tuple[str, str, Callable[[Issuer], str]]] = {
    "none": ("No assertion", "Aucune assertion", lambda issuer: ""),
    "expired": ("An expired assertion", "Une assertion expirée", lambda one: held(one, -LONG)),
    "early": (
        "An assertion that does not hold yet",
        "Une assertion pas encore valide",
        lambda issuer: held(issuer, LONG),
    ),
    "long-lived": (
        "An assertion that holds for ten years",
        "Une assertion valable dix ans",
        lambda issuer: held(issuer, timedelta(), FOR_EVER),
    ),
    "unsigned": ("An assertion without signature", "Une assertion sans signature", unsigned),
    "audience": (
        "An assertion for another audience",
        "Une assertion pour une autre audience",
        lambda issuer: signed(issuer, audiences=["urn:kit:elsewhere"]),
    ),
    "issuer": (
        "An assertion of an unknown issuer",
        "Une assertion d'un émetteur inconnu",
        lambda issuer: signed(issuer, issuer="urn:kit:nobody"),
    ),
    "key": (
        "An assertion signed with a key of somebody else under the issuer's name",
        "Une assertion signée avec la clé d'un autre sous le nom de l'émetteur",
        of_another_key,
    ),
    "weak-key": (
        "An assertion signed with an RSA key of 1024 bits, certified by the issuer's key",
        "Une assertion signée avec une clé RSA de 1024 bits, certifiée par la clé de l'émetteur",
        of_a_weak_key,
    ),
    "sha-1": (
        "An assertion signed by SHA-1",
        "Une assertion signée par SHA-1",
        partial(by_old_means, method=True),
    ),
    "digest": (
        "An assertion whose digest is SHA-1",
        "Une assertion dont l'empreinte est SHA-1",
        partial(by_old_means, method=False),
    ),
    "hmac": (
        "An assertion signed with the issuer's public key as a secret (HMAC)",
        "Une assertion signée avec la clé publique de l'émetteur pour secret (HMAC)",
        by_the_public_key,
    ),
    "changed": (
        "An assertion changed after it was signed",
        "Une assertion modifiée après sa signature",
        changed,
    ),
    "wrapped-beside": (
        "A forged assertion in front of a signed one",
        "Une assertion forgée devant une assertion signée",
        beside,
    ),
    "wrapped-behind": (
        "A forged assertion behind a signed one",
        "Une assertion forgée derrière une assertion signée",
        behind,
    ),
    "wrapped-extension": (
        "A forged assertion inside another element, in front of a signed one",
        "Une assertion forgée dans un autre élément, devant une assertion signée",
        in_extension,
    ),
    "wrapped-advice": (
        "A signed assertion in the Advice of a forged one",
        "Une assertion signée dans l'Advice d'une assertion forgée",
        in_advice,
    ),
    "wrapped-signature": (
        "A forged assertion with the signature of the one behind it",
        "Une assertion forgée munie de la signature de celle qui la suit",
        bereft,
    ),
    "wrapped-object": (
        "A signed assertion inside the signature of a forged one",
        "Une assertion signée dans la signature d'une assertion forgée",
        in_object,
    ),
    "twice-signed": (
        "An assertion that holds its Signature twice",
        "Une assertion qui contient deux fois sa signature",
        twice_signed,
    ),
    "nested": (
        "A good assertion inside another element of the WS-Security header",
        "Une bonne assertion dans un autre élément de l'en-tête WS-Security",
        nested,
    ),
    "identifier": (
        "A good assertion behind another element with the same identifier",
        "Une bonne assertion derrière un autre élément de même identifiant",
        with_a_namesake,
    ),
    "reference": (
        "An assertion whose signature is that of a Timestamp",
        "Une assertion dont la signature est celle d'un Timestamp",
        of_something_else,
    ),
    "transform": (
        "An assertion whose signature leaves out its attributes, by an XPath Transform",
        "Une assertion dont la signature omet les attributs, par un Transform XPath",
        of_a_part,
    ),
    "holder": (
        "An assertion bound to the key of somebody else (holder-of-key)",
        "Une assertion liée à la clé d'un autre (holder-of-key)",
        of_another_holder,
    ),
    "confirmation": (
        "An assertion that is neither bearer nor holder-of-key",
        "Une assertion ni bearer ni holder-of-key",
        lambda issuer: signed(issuer, confirmation=SENDER_VOUCHES),
    ),
    "authn-statement": (
        "An assertion without AuthnStatement",
        "Une assertion sans AuthnStatement",
        lambda issuer: signed(issuer, authn_context=None),
    ),
}

for _name, (_en, _fr, _make) in GOOD.items():
    _add(_name, _en, _fr, _make, Success())

for _name, (_en, _fr, _make) in BAD.items():
    _add(_name, _en, _fr, _make, SecurityFault())

# What no signature covers, what SOAP 1.2 does not want (Part 1, 5), and what is the same text.
INTERRUPTED: dict[str, tuple[str, str, Callable[[Issuer], str], Expectation]] = {
    "comment": (
        "A comment in the NameID of an assertion",
        "Un commentaire dans le NameID d'une assertion",
        partial(interrupted, "<!--.-->."),
        any_of(Success(), SecurityFault()),
    ),
    "instruction": (
        "A processing instruction in the NameID of an assertion",
        "Une instruction de traitement dans le NameID d'une assertion",
        partial(interrupted, "<?kit .?>."),
        any_of(Success(), SecurityFault(), fault("Sender")),
    ),
    "cdata": (
        "A CDATA section in the NameID of an assertion",
        "Une section CDATA dans le NameID d'une assertion",
        partial(interrupted, "<![CDATA[.]]>"),
        any_of(Success(), SecurityFault()),
    ),
}

# Which name was read is not to be seen from outside, but in the audit trail: see there.
for _name, (_en, _fr, _make, _expected) in INTERRUPTED.items():
    _add(_name, _en, _fr, _make, _expected)


@CASES.case(
    "S02-outside",
    "A good assertion in the header, outside of WS-Security",
    "Une bonne assertion dans l'en-tête, hors de WS-Security",
    spec=SPEC,
    expected=[SecurityFault()],
)
def _outside(bench: Bench) -> Iterator[Seen]:
    url, end = bench.targets.endpoint("registry"), b"</soap:Header>"
    post = post_of(ITI_18, ITI_18.write_request(get_associations([new_uuid_urn()])), url)
    body = b"".join(post.body).replace(end, signed(_issuer(bench)).encode() + end)
    yield bench.wire.send(url, Post.of(post.content_type, body), ITI_18)


@CASES.case(
    "S02-again",
    "The same assertion twice from the same node",
    "La même assertion deux fois depuis le même nœud",
    spec=SPEC,
    expected=[Success(), Success()],
)
def _again(bench: Bench) -> Iterator[Seen]:
    token = signed(_issuer(bench))
    yield _ask(bench, token)
    yield _ask(bench, token)


@CASES.case(
    "S02-same-id",
    "Two assertions of the same issuer with the same ID",
    "Deux assertions du même émetteur avec le même ID",
    spec="SAML Core 1.3.4; ITI TF-2 3.40.4.1.3",
    expected=[Success(), SecurityFault()],
)
def _same_id(bench: Bench) -> Iterator[Seen]:
    first = _issuer(bench).draft(USER)
    for person in (USER, TWO_ROLES):
        yield _ask(bench, signed(_issuer(bench), person, id=first.id))


@CASES.case(
    "S02-replay",
    "An assertion that another node has brought before",
    "Une assertion déjà apportée par un autre nœud",
    spec=SPEC,
    needs="secured authority",
    expected=[Success(), Success(), SecurityFault()],
)
def _replay(bench: Bench) -> Iterator[Seen]:
    """The other node is answered to an assertion of its own: so it may connect and ask."""
    other = bench.connecting_as(issued(-DAY / 2, bench))
    token = signed(_issuer(bench))
    yield _ask(bench, token)
    yield _ask(other, signed(_issuer(bench)))
    yield _ask(other, token)
