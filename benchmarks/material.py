"""What is sent: submissions, documents and identity messages as a region would send them.

Codes come from the code sets of the affinity domain, the first of a set more often than the
last; everything is drawn from a seeded generator, so that two runs do the same work.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any

from benchmarks.load import http_head
from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain, CodeSet
from metadata.datatypes import (
    CX,
    DTM,
    HD,
    OID,
    XCN,
    XON,
    CXi,
    LocalizedString,
    new_oid,
    new_uuid_urn,
)
from metadata.model import Association, Author, Code, DocumentEntry, Submission, SubmissionSet
from soap.envelope import write_request
from soap.message import Content, InMemory, Part
from soap.mtom import package
from soap.operation import Exchange
from transactions.iti_18 import ITI_18, AdhocQueryRequest
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import ITI_42, SubmitObjectsRequest

_SURNAMES = ("MARTIN", "BERNARD", "DUBOIS", "THOMAS", "ROBERT", "PETIT", "LEROY", "MOREAU")
_HOSPITALS = ("CHU de Rennes", "Clinique des Lilas", "CH de Vannes", "Centre d'imagerie du Port")
_DEPARTMENT = HD.of("1.2.250.1.99.3")


class Material:
    """Makes the messages for one node; ``repository`` is its repositoryUniqueId."""

    def __init__(self, domain: AffinityDomain, repository: str, seed: int = 20260101) -> None:
        self._domain = domain
        self._repository = OID(repository)
        self._random = random.Random(seed)
        self._codes = {name: _first_first(codes) for name, codes in domain.code_sets.items()}

    def patient(self, number: int) -> CX:
        """The identifier of the patient with this number."""
        return CX.of(f"{number:09d}", self._domain.assigning_authority.universal_id)

    def submission(self, patient: CX, *, registered: bool = True) -> Submission:
        """One DocumentEntry in its SubmissionSet; with what a repository adds if ``registered``."""
        author = self._author()
        entry = self._entry(patient, author, registered)
        package_ = SubmissionSet(
            entry_uuid=new_uuid_urn(),
            unique_id=new_oid(),
            patient_id=patient,
            title=LocalizedString("Compte rendu d'imagerie", "fr-FR"),
            author=[author],
            content_type_code=self._code("contentTypeCode"),
            source_id=OID("1.2.250.1.213.4.1"),
            submission_time=self._time(),
        )
        member = Association(
            entry_uuid=new_uuid_urn(),
            association_type=xds.HAS_MEMBER,
            source=package_.entry_uuid,
            target=entry.entry_uuid,
            submission_set_status=xds.ORIGINAL,
        )
        return Submission(submission_sets=[package_], documents=[entry], associations=[member])

    def adt(self, patient: str, control_id: str) -> bytes:
        """An ADT A04 that announces ``patient``, framed for MLLP (ITI-8)."""
        segments = (
            rf"MSH|^~\&|HIS|HOSPITAL|KOSMOS|REGION|20260102030405||ADT^A04|{control_id}|P|2.3.1",
            "EVN|A04|20260102030405",
            f"PID|1||{patient}||{self._random.choice(_SURNAMES)}^MARIE||19610304|F|||"
            "12 RUE DES LILAS^^RENNES^^35000^FRA",
            "PV1|1|O",
        )
        return b"\x0b" + "".join(segment + "\r" for segment in segments).encode() + b"\x1c\r"

    def _entry(self, patient: CX, author: Author, registered: bool) -> DocumentEntry:
        time = self._time()
        return DocumentEntry(
            entry_uuid=new_uuid_urn(),
            unique_id=new_oid(),
            patient_id=patient,
            object_type=xds.STABLE,
            mime_type="application/dicom",
            title=LocalizedString("Scanner thoracique sans injection", "fr-FR"),
            author=[author],
            class_code=self._code("classCode"),
            type_code=self._code("typeCode"),
            format_code=self._code("formatCode"),
            healthcare_facility_type_code=self._code("healthcareFacilityTypeCode"),
            practice_setting_code=self._code("practiceSettingCode"),
            confidentiality_code=[self._code("confidentialityCode")],
            event_code_list=[self._code("eventCodeList"), self._code("eventCodeList")],
            creation_time=time,
            service_start_time=time,
            service_stop_time=time,
            language_code="fr-FR",
            reference_id_list=[
                CXi.of(f"{self._random.getrandbits(40)}", xds.ACCESSION_REFERENCE, _DEPARTMENT)
            ],
            source_patient_id=CX(f"{self._random.getrandbits(30)}^^^&1.2.250.1.99.2&ISO"),
            source_patient_info=["PID-5|MARTIN^MARIE^^^^^L", "PID-7|19610304", "PID-8|F"],
            repository_unique_id=self._repository if registered else None,
            hash=f"{self._random.getrandbits(160):040x}" if registered else None,
            size=str(self._random.randrange(5_000, 500_000)) if registered else None,
        )

    def _author(self) -> Author:
        name = self._random.choice(_SURNAMES)
        number = f"{self._random.randrange(10**11):011d}"
        return Author(
            person=XCN(f"{number}^{name}^Claire^^^Dr^^^&1.2.250.1.71.4.2.1&ISO^D^^^RPPS"),
            institution=[XON(f"{self._random.choice(_HOSPITALS)}^^^^^&1.2.250.1.71.4.2.2&ISO")],
            role=["Radiologue"],
            specialty=["Radiodiagnostic"],
        )

    def _code(self, name: str) -> Code:
        return self._random.choice(self._codes[name])

    def _time(self) -> DTM:
        year, day = self._random.randrange(2015, 2026), self._random.randrange(1, 29)
        return DTM(f"{year}{self._random.randrange(1, 13):02d}{day:02d}093000")


def _first_first(codes: CodeSet | None) -> list[Code]:
    """The codes to draw from: the n-th of a set is there once for every n-th of the first."""
    if codes is None:
        return [Code("open", "1.2.250.1.99.9", LocalizedString("Open"))]
    listed = [
        Code(code, scheme, LocalizedString(name or code))
        for (scheme, code), name in codes.names.items()
    ]
    shares = (repeat(code, -(-len(listed) // rank)) for rank, code in enumerate(listed, start=1))
    return list(chain.from_iterable(shares))


def query(url: str, request: AdhocQueryRequest, token: str = "") -> bytes:
    """The HTTP request for a stored query; ``token`` is an assertion of who asks."""
    return _plain(url, ITI_18, request, token)


def registration(url: str, submission: Submission) -> bytes:
    """The HTTP request that registers ``submission``."""
    return _plain(url, ITI_42, SubmitObjectsRequest.of(submission))


def provision(url: str, submission: Submission, document: Content) -> tuple[bytes, bytes]:
    """The HTTP request that provides ``submission`` with its one document: what comes before
    the document's bytes and what comes after them.
    """
    [entry] = submission.documents
    request = ProvideAndRegisterRequest(
        SubmitObjectsRequest.of(submission), {entry.entry_uuid: document}
    )
    stand_in = InMemory(b"")
    outgoing = ITI_41.write_request(request)
    [part] = outgoing.parts
    envelope = _envelope(url, ITI_41, list(outgoing.body))
    empty = package(envelope, [Part(part.content_id, stand_in)], action=ITI_41.action)
    pieces = list(empty.chunks())
    before, after = b"".join(pieces[:-1]), pieces[-1]
    size = len(before) + document.size + len(after)
    return http_head(url, empty.content_type, size) + before, after


def retrieval(url: str, exchange: Exchange[Any, Any], request: object) -> bytes:
    """The HTTP request for documents (ITI-43) or instances (RAD-69): MTOM without parts."""
    envelope = _envelope(url, exchange, exchange.write_request(request).body)
    packed = package(envelope, (), action=exchange.action)
    body = b"".join(packed.chunks())
    return http_head(url, packed.content_type, len(body)) + body


def _plain(url: str, exchange: Exchange[Any, Any], request: object, token: str = "") -> bytes:
    body = b"".join(_envelope(url, exchange, exchange.write_request(request).body, token))
    content_type = f'application/soap+xml; charset=UTF-8; action="{exchange.action}"'
    return http_head(url, content_type, len(body)) + body


def _envelope(
    url: str, exchange: Exchange[Any, Any], body: Iterable[bytes], token: str = ""
) -> list[bytes]:
    message_id = f"urn:uuid:{uuid.uuid4()}"
    return write_request(body, action=exchange.action, message_id=message_id, to=url, token=token)
