"""SOAP envelopes, and the registrations, questions and identities that their bodies are."""

from collections.abc import Iterable

from hl7.v3.names import II
from hl7.v3.request import PatientRole, merge
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import HD
from metadata.validation import validate_submission
from soap.envelope import read_envelope, require_addressing, write_request
from soap.faults import InvalidBody, MessageError, SoapFault
from soap.limits import Limits
from soap.message import Incoming
from soap.xml import parse
from tests.fuzz.samples import submission
from tests.fuzz.target import Target
from transactions import iti_18, iti_42, iti_44

_LIMITS = Limits(envelope=64 * 1024, elements=2000, attributes=2000)
_DOMAIN = AffinityDomain(HD.of("1.2.3"))
_HEAD = b'<?xml version="1.0" encoding="%b"?>'


def read(data: bytes) -> None:
    """Read the envelope, then its body as what it says it is; judge a registration."""
    envelope = read_envelope(parse(data, _LIMITS))
    require_addressing(envelope)
    message = Incoming(envelope.body, envelope.action, envelope.message_id)
    if envelope.body.tag == iti_18.ROOT:
        iti_18.read_request(message)
    elif "hl7" in str(envelope.body.tag):
        iti_44.read_request(message)
    else:
        registered = iti_42.read_request(message).submission
        for fault in validate_submission(registered, _DOMAIN):
            fault.error("ITI-42")


def seeds() -> list[bytes]:
    """A message of each transaction, one of them in other encodings too."""
    question = iti_18.AdhocQueryRequest("urn:uuid:1", parameters=[("$a", ["('b')"])])
    patient, gone = PatientRole([II("1.2.3", "1")], "DUPONT", "ANNE"), II("1.2.3", "2")
    registration = _enveloped(
        iti_42.write_request(iti_42.SubmitObjectsRequest.of(submission())).body
    )
    asked = _enveloped(iti_18.write_request(question).body)
    utf_16 = asked.decode().encode("utf-16")
    merged = _enveloped(iti_44.write_request(merge(patient, gone, "1.5", "1.6")).body)
    return [registration, asked, utf_16, _HEAD % b"iso-8859-1" + asked, merged]


def _enveloped(body: Iterable[bytes]) -> bytes:
    return b"".join(write_request(body, action="urn:a", message_id="urn:b", to="urn:c"))


TARGET = Target("envelope", read, (MessageError, SoapFault, InvalidBody), seeds, 25_000)
