"""Document Registry: which nodes may connect at all (S01, ITI-19).

A right registry answers the kit and nobody whom it does not know. The kit is answered first: a
registry that answers nobody is not secure but absent.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import NoAnswer, Success
from conformance.seen import Seen
from conformance.tokens import somebody_else
from metadata.datatypes import new_uuid_urn
from transactions.stored_query import get_associations

CASES = Cases(Actor.USER_ASSERTIONS, "registry secured")


def nobody() -> ssl.SSLContext:
    """A client without a certificate, who talks to anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def stranger() -> ssl.SSLContext:
    """A client with a certificate of no authority that anybody knows."""
    context = nobody()
    key, certificate = somebody_else()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with TemporaryDirectory() as folder:
        file = Path(folder) / "stranger.pem"
        file.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
        context.load_cert_chain(file)
    return context


def _met(client: Callable[[], ssl.SSLContext], bench: Bench) -> Iterator[Seen]:
    request = get_associations([new_uuid_urn()])
    yield bench.query(request)
    yield bench.connecting_as(client()).query(request)


for _name, _en, _fr, _client in (
    ("none", "A client without certificate", "Un client sans certificat", nobody),
    (
        "stranger",
        "A client with a certificate of an unknown authority",
        "Un client avec un certificat d'une autorité inconnue",
        stranger,
    ),
):
    CASES.add(
        f"S01-{_name}",
        _en,
        _fr,
        spec="ITI TF-2 3.19.6",
        expected=[Success(), NoAnswer()],
        stimulus=partial(_met, _client),
    )
