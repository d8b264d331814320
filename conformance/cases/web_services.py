"""Web services: addressing, MIME, hostile and unusual XML (W01-W04), at every endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from xml.sax.saxutils import escape

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.repository import prepared, sha1
from conformance.expectation import (
    Expectation,
    HttpStatus,
    Same,
    Success,
    any_of,
    failure,
    fault,
    within,
)
from conformance.mime import MixedMessage, Shape
from conformance.seen import Answer, Compared, Seen
from conformance.wire import Post, new_message_id, simple
from metadata.datatypes import new_oid, new_uuid_urn
from soap import mtom
from soap.envelope import ANONYMOUS, security_header
from soap.faults import SOAP12, WSA
from transactions.iti_18 import ITI_18
from transactions.iti_41 import ITI_41
from transactions.iti_42 import ITI_42
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest
from transactions.rad_69 import (
    RAD_69,
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)
from transactions.stored_query import get_associations
from transactions.transaction import Transaction

CASES = Cases(Actor.WEB_SERVICES)

ADDRESSING = "ITI TF-2 V.3.2"
SOAP11 = "http://schemas.xmlsoap.org/soap/envelope/"


@dataclass(frozen=True, slots=True)
class Service:
    """An endpoint, a request that does no harm there, and what it is normally answered."""

    name: str
    exchange: Transaction[Any, Any]
    request: Callable[[], Any]
    normal: Expectation
    other_action: str


def _document_request() -> DocumentRequest:
    return DocumentRequest(new_oid(), new_oid())


def _imaging_request() -> RetrieveImagingDocumentSetRequest:
    series = SeriesRequest(new_oid(), (_document_request(),))
    return RetrieveImagingDocumentSetRequest(
        (StudyRequest(new_oid(), (series,)),), ("1.2.840.10008.1.2.1",)
    )


SERVICES = (
    Service(
        "registry",
        ITI_18,
        lambda: get_associations([new_uuid_urn()]),
        Success(),
        ITI_42.action,
    ),
    Service(
        "repository",
        ITI_43,
        lambda: RetrieveDocumentSetRequest((_document_request(),)),
        failure("XDSUnknownRepositoryId"),
        ITI_41.action,
    ),
    Service(
        "imaging",
        RAD_69,
        _imaging_request,
        failure("XDSUnknownRepositoryId"),
        ITI_43.action,
    ),
)


def body_of(service: Service) -> str:
    """The harmless request as XML."""
    outgoing = service.exchange.write_request(service.request())
    return b"".join(outgoing.body).decode()


def headers(bench: Bench, action: str | None, *, reply_to: bool = True, more: str = "") -> str:
    """Addressing headers, wrong where a case wants them to be, and who asks."""
    text = f"<wsa:MessageID>{new_message_id()}</wsa:MessageID><wsa:To>urn:kit</wsa:To>{more}"
    if action is not None:
        text = f'<wsa:Action soap:mustUnderstand="1">{escape(action)}</wsa:Action>{text}'
    if reply_to:
        text += f"<wsa:ReplyTo><wsa:Address>{ANONYMOUS}</wsa:Address></wsa:ReplyTo>"
    return text + security_header(bench.wire.token())


def enveloped(head: str, body: str, *, namespace: str = SOAP12, before: str = "") -> str:
    """An envelope; ``before`` is what stands before its first tag."""
    return (
        f'{before}<soap:Envelope xmlns:soap="{namespace}" xmlns:wsa="{WSA}">'
        f"<soap:Header>{head}</soap:Header><soap:Body>{body}</soap:Body></soap:Envelope>"
    )


def send(
    bench: Bench, service: Service, envelope: bytes | str, charset: str = "UTF-8"
) -> Answer[Any]:
    """Post an envelope the way the service wants it, simple or as the root of MTOM."""
    data = envelope.encode() if isinstance(envelope, str) else envelope
    action = service.exchange.action
    if service.exchange.mtom:
        package = mtom.package([data], [], action=action)
        post = Post(package.content_type, package.chunks(), package.length)
    else:
        post = simple([data], action, charset)
    return bench.wire.send(bench.targets.endpoint(service.name), post, service.exchange)


def add(
    case_id: str,
    en: str,
    fr: str,
    spec: str,
    expected: Callable[[Service], list[Expectation]],
    stimulus: Callable[[Service, Bench], Iterator[Seen]],
    services: tuple[Service, ...] = SERVICES,
) -> None:
    """Add a case for each service."""
    group, _, variant = case_id.partition("-")
    for service in services:
        CASES.add(
            f"{group}-{service.name}{f'-{variant}' if variant else ''}",
            f"{en} ({service.name})",
            f"{fr} ({service.name})",
            spec=spec,
            needs=service.name,
            expected=expected(service),
            stimulus=partial(stimulus, service),
        )


# --- W01 Addressing ------------------------------------------------------------------------------


def _wrong_action(service: Service, bench: Bench) -> Iterator[Seen]:
    yield send(bench, service, enveloped(headers(bench, "urn:kit:nothing"), body_of(service)))


def _other_action(service: Service, bench: Bench) -> Iterator[Seen]:
    yield send(bench, service, enveloped(headers(bench, service.other_action), body_of(service)))


def _no_action(service: Service, bench: Bench) -> Iterator[Seen]:
    yield send(bench, service, enveloped(headers(bench, None), body_of(service)))


def _no_reply_to(service: Service, bench: Bench) -> Iterator[Seen]:
    head = headers(bench, service.exchange.action, reply_to=False)
    yield send(bench, service, enveloped(head, body_of(service)))


def _alien_header(service: Service, bench: Bench) -> Iterator[Seen]:
    alien = '<kit:Alien xmlns:kit="urn:kit" soap:mustUnderstand="true">?</kit:Alien>'
    head = headers(bench, service.exchange.action, more=alien)
    yield send(bench, service, enveloped(head, body_of(service)))


def _soap_11(service: Service, bench: Bench) -> Iterator[Seen]:
    head = headers(bench, service.exchange.action)
    yield send(bench, service, enveloped(head, body_of(service), namespace=SOAP11))


UNSUPPORTED = fault("Sender", subcode="ActionNotSupported")
_Stimulus = Callable[[Service, Bench], Iterator[Seen]]
_addressing_cases: tuple[tuple[str, str, str, Expectation, _Stimulus], ...] = (
    ("action", "An unknown Action", "Une Action inconnue", UNSUPPORTED, _wrong_action),
    (
        "mismatch",
        "The Action of another transaction than the body's",
        "L'Action d'une autre transaction que celle du corps",
        UNSUPPORTED,
        _other_action,
    ),
    ("no-action", "No Action", "Pas d'Action", fault("Sender"), _no_action),
    (
        "alien",
        "An unknown header that must be understood",
        "Un en-tête inconnu qui doit être compris",
        fault("MustUnderstand"),
        _alien_header,
    ),
    ("soap11", "A SOAP 1.1 envelope", "Une enveloppe SOAP 1.1", fault("VersionMismatch"), _soap_11),
)
for _variant, _en, _fr, _expected, _stimulus in _addressing_cases:
    add(
        f"W01-{_variant}",
        _en,
        _fr,
        ADDRESSING,
        partial(lambda expected, service: [expected], _expected),
        _stimulus,
    )
add(
    "W01-no-reply-to",
    "No ReplyTo: taken as anonymous, or refused",
    "Pas de ReplyTo : tenu pour anonyme, ou refusé",
    ADDRESSING,
    lambda service: [any_of(service.normal, fault("Sender"))],
    _no_reply_to,
)

# --- W02 MIME ------------------------------------------------------------------------------------

SHAPES = {
    "root-last": Shape(root_last=True),
    "start-bare": Shape(start="bare"),
    "no-start": Shape(start=""),
    "unquoted": Shape(quoted=False, boundary="kit-boundary"),
    "odd-boundary": Shape(boundary="kit'()+_,-./:=?boundary"),
    "preamble": Shape(preamble=b"\r\nThis is a multi-part message in MIME format.\r\n"),
    "blank-lines": Shape(preamble=b"\r\n\r\n"),
    "lf": Shape(line_end=b"\n"),
    "lower-case": Shape(lower_case=True),
    "base64": Shape(encoding="base64"),
    "quoted-printable": Shape(encoding="quoted-printable"),
    "percent-cid": Shape(percent=True),
    "chunked": Shape(chunked=True),
    "bom": Shape(byte_order_mark=True),
}
"""What receivers must bear (ITI TF-2 V.8; XOP 1.0; RFC 2046, 2387)."""

SHAPE_WORDS = {
    "root-last": ("the root part last", "la partie racine en dernier"),
    "start-bare": ("start without brackets", "start sans chevrons"),
    "no-start": ("no start", "pas de start"),
    "unquoted": ("parameters without quotes", "paramètres sans guillemets"),
    "odd-boundary": ("a boundary of unusual characters", "une boundary aux caractères inhabituels"),
    "preamble": ("words before the first part", "un texte avant la première partie"),
    "blank-lines": (
        "blank lines before the first part",
        "des lignes vides avant la première partie",
    ),
    "lf": ("lines that end in LF alone", "des lignes terminées par LF seul"),
    "lower-case": ("part headers in lower case", "des en-têtes de partie en minuscules"),
    "base64": ("a document encoded in base64", "un document encodé en base64"),
    "quoted-printable": (
        "a document encoded in quoted-printable",
        "un document encodé en quoted-printable",
    ),
    "percent-cid": ("a cid with percent signs", "un cid encodé par pourcentages"),
    "chunked": ("HTTP chunks", "un corps HTTP en morceaux"),
    "bom": ("a byte order mark", "une marque d'ordre des octets"),
}
"""The same for people."""


def _shaped(shape: Shape, bench: Bench) -> Iterator[Seen]:
    content = b"line\nline\r\n--kit\r\n=3D \x00\xff" + bytes(range(256))
    submission, entry = prepared(bench, content)
    message = MixedMessage(submission, {}, {entry.entry_uuid: content}, shape, bench.wire.token())
    yield bench.wire.send(bench.targets.endpoint("repository"), message.post(), ITI_41)
    stored = bench.stored_entry(entry.entry_uuid)
    yield Compared("hash", sha1(content), (stored.hash or "").lower())


for _variant, _shape in SHAPES.items():
    CASES.add(
        f"W02-{_variant}",
        f"MTOM in an unusual shape: {SHAPE_WORDS[_variant][0]}",
        f"MTOM de forme inhabituelle : {SHAPE_WORDS[_variant][1]}",
        spec="ITI TF-2 V.8",
        needs="repository registry patients",
        expected=[Success(mtom=True), Same("hash in the registry")],
        stimulus=partial(_shaped, _shape),
    )

# --- W03 Hostile XML -----------------------------------------------------------------------------

SECRET = "KIT-SECRET"
LAUGHS = "".join(
    f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' if n else f'<!ENTITY lol0 "{SECRET}">'
    for n in range(10)
)
MILLION = 1_000_000
DEPTH = 20_000


@cache
def _many_attributes() -> str:
    return "<kit " + " ".join(f"a{n}=''" for n in range(MILLION)) + "/>"


def _hostile(how: str, service: Service, bench: Bench) -> Iterator[Seen]:
    head, body = headers(bench, service.exchange.action), body_of(service)
    leak = head.replace("urn:uuid:", "&leak;urn:uuid:", 1)
    hostile: dict[str, Callable[[], str | bytes]] = {
        "entity": lambda: enveloped(leak, body, before=f'<!DOCTYPE x [<!ENTITY leak "{SECRET}">]>'),
        "external": lambda: enveloped(
            leak, body, before='<!DOCTYPE x [<!ENTITY leak SYSTEM "file:///etc/passwd">]>'
        ),
        "bomb": lambda: enveloped(
            leak.replace("leak", "lol9"), body, before=f"<!DOCTYPE x [{LAUGHS}]>"
        ),
        "attributes": lambda: enveloped(head, _many_attributes()),
        "depth": lambda: enveloped(head, "<kit>" * DEPTH + "</kit>" * DEPTH),
        "utf-8": lambda: enveloped(head, body).encode().replace(b"urn:kit", b"urn:\xff\xfe"),
    }
    answer = send(bench, service, hostile[how]())
    yield answer
    leaked = [word for word in (SECRET, "root:") if word.encode() in answer.body]
    yield Compared("leaked", [], leaked)


REFUSED = within(1.0, fault("Sender", "Receiver"), HttpStatus(400))
# Ten megabytes of them, which take their time on the way.
TOO_LARGE = within(5.0, fault("Sender", "Receiver"), HttpStatus(413), HttpStatus(400))
_hostile_cases: tuple[tuple[str, str, str, Expectation], ...] = (
    ("entity", "An internal entity", "Une entité interne", REFUSED),
    ("external", "An entity naming a file", "Une entité nommant un fichier", REFUSED),
    ("bomb", "Entities that expand a billion times", "Des entités en cascade", REFUSED),
    ("attributes", "A million attributes", "Un million d'attributs", TOO_LARGE),
    ("depth", "Elements nested twenty thousand deep", "Vingt mille niveaux d'éléments", REFUSED),
    ("utf-8", "Bytes that are not UTF-8", "Des octets qui ne sont pas de l'UTF-8", REFUSED),
)
for _variant, _en, _fr, _expected in _hostile_cases:
    add(
        f"W03-{_variant}",
        f"{_en}: a fault, quickly, and nothing leaks",
        f"{_fr} : un refus rapide, et rien ne fuit",
        "XML 1.0; SOAP 1.2 Part 1, 5",
        partial(lambda expected, service: [expected, Same("nothing leaked")], _expected),
        partial(_hostile, _variant),
    )

# --- W04 Unusual XML -----------------------------------------------------------------------------


def _unusual(how: str, service: Service, bench: Bench) -> Iterator[Seen]:
    action = service.exchange.action
    usual = enveloped(headers(bench, action), body_of(service))
    unusual: dict[str, Callable[[], str | bytes]] = {
        "prefix": lambda: usual.replace("soap:", "s-1.x:").replace(":soap=", ":s-1.x="),
        "cdata": lambda: usual.replace(f">{action}<", f"><![CDATA[{action}]]><"),
        "space": lambda: usual.replace(f">{action}<", f">\n    {action}\n  <"),
        "comments": lambda: usual.replace("<soap:Body>", "<!-- c --><soap:Body><!-- c -->"),
        "declaration": lambda: '<?xml version="1.0" encoding="utf-8"?>\n' + usual,
        "bom": lambda: b"\xef\xbb\xbf" + usual.encode(),
        "utf-16": lambda: ('<?xml version="1.0" encoding="UTF-16"?>' + usual).encode("utf-16"),
    }
    yield send(bench, service, unusual[how](), "UTF-16" if how == "utf-16" else "UTF-8")


for _variant, _en, _fr in (
    ("prefix", "Unusual namespace prefixes", "Des préfixes inhabituels"),
    ("cdata", "The Action in a CDATA section", "L'Action dans une section CDATA"),
    ("space", "White space around the Action", "Des blancs autour de l'Action"),
    ("comments", "Comments", "Des commentaires"),
    ("declaration", "An XML declaration", "Une déclaration XML"),
    ("bom", "A byte order mark", "Une marque d'ordre des octets"),
    ("utf-16", "UTF-16, so declared", "UTF-16, déclaré comme tel"),
):
    add(
        f"W04-{_variant}",
        f"Accepted: {_en}",
        f"Accepté : {_fr}",
        "ITI TF-2 V.3",
        lambda service: [service.normal],
        partial(_unusual, _variant),
        # In MTOM the charset stands in the root part's headers, which are always UTF-8 here.
        SERVICES[:1] if _variant == "utf-16" else SERVICES,
    )
