"""What several processes share: domain, TLS, SOAP client, the registry as others see it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import CX, LocalizedString
from metadata.identifiers import SUCCESS
from metadata.model import Code, DocumentEntry, Submission
from node import codes
from node.config import Settings
from node.config_file import read_secret
from node.config_trust import ListenerTrustSection
from node.config_values import LISTENERS, Listener
from repository.reconciliation import Inventory
from security.access.decision import Choices
from security.access.sight import CONSENT_FORMATS, Sight, facts_of
from security.tls import NodeContext, client_context, renew, server_context
from soap.client import SoapClient
from soap.faults import PeerError, SoapFault
from soap.operation import Exchange
from storage.errors import StorageError
from transactions.iti_18 import ITI_18, OBJECT_REF, AdhocQueryRequest, AdhocQueryResponse
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.iti_57 import ITI_57
from transactions.registry_response import RegistryResponse, RegistryUnavailable
from transactions.stored_query import (
    find_documents,
    get_associations,
    get_documents,
    get_submission_set_and_contents,
    get_submission_sets,
)
from transactions.transaction import Transaction

Request = TypeVar("Request")
Response = TypeVar("Response")

Register = Callable[[SubmitObjectsRequest], RegistryResponse]
Query = Callable[[AdhocQueryRequest], AdhocQueryResponse]

# How a call of another node is recorded: its transaction's number, the address, what makes it (see
# ``Auditor.calling``).
Recording = Callable[[str, str, Callable[[Any], Any]], Callable[[Any], Any]]


def unrecorded(_number: str, _url: str, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Where there is no audit trail."""
    return call


# Those of some documents, by entryUUID and by uniqueId, that somebody may not see, or that the
# registry does not know.
UnseenDocuments = Callable[[Sight, Collection[str], Collection[str]], Collection[str]]


def affinity_domain(settings: Settings) -> AffinityDomain:
    """The domain of ``settings`` with its code sets. Raises ConfigError naming the file."""
    section = settings.affinity_domain
    authority = section.assigning_authority
    if section.namespace:
        authority = f"{section.namespace}&{authority}&ISO"
    agreed: dict[str, Any] = {
        "assigning_authority": authority,
        "unknown_patient": section.unknown_patient,
        "merged_patient": section.merged_patient or section.unknown_patient,
        "extra_metadata": section.extra_metadata,
        "max_results": settings.limits.query_results,
    }
    if section.source_ids:
        agreed["source_ids"] = list(section.source_ids)
    return codes.domain(section.codes, agreed)


def authority_of_images(settings: Settings) -> str:
    """Who issues the patients' numbers in images that do not say so (OID)."""
    own = settings.imaging_source.source_assigning_authority
    return own or settings.affinity_domain.assigning_authority


# Every context of this process, so that all take new files over together.
_contexts: WeakSet[NodeContext] = WeakSet()


def trusted_by(settings: Settings, listener: str = "") -> tuple[Path, Path | None]:
    """Trust and CRL of a listener, or of the node: a trust of its own has CRLs of its own."""
    tls = settings.tls
    own = getattr(tls, listener) if listener else ListenerTrustSection()
    if own.trust is not None:
        return own.trust, own.crl
    return tls.trust, own.crl or tls.crl


def server_tls(settings: Settings, listener: Listener) -> NodeContext | None:
    """The context of listeners; None on a plain node. Raises TlsError, ConfigError."""
    if not settings.tls.enabled:
        return None
    context = server_context(**_files(settings, listener))
    _contexts.add(context)
    return context


def client_tls(settings: Settings) -> NodeContext | None:
    """The context for calling other nodes; None on a plain node. Raises TlsError, ConfigError."""
    if not settings.tls.enabled:
        return None
    context = client_context(**_files(settings), check_host=settings.tls.check_host)
    _contexts.add(context)
    return context


def renew_tls() -> None:
    """Have every context of this process take its files over as they are now; raises TlsError,
    and then all of them stay as they were."""
    renew(_contexts)


def tls_files(settings: Settings) -> list[Path]:
    """The files and folders that make the contexts of a node."""
    tls = settings.tls
    named = [tls.certificate, tls.key]
    for listener in ("", *LISTENERS):
        named += filter(None, trusted_by(settings, listener))
    return list(dict.fromkeys(named))


def _files(settings: Settings, listener: str = "") -> dict[str, Any]:
    tls = settings.tls
    trust, crl = trusted_by(settings, listener)
    return {
        "certificate": tls.certificate,
        "key": tls.key,
        "trust": trust,
        "crl": crl,
        "password": read_secret(tls.key_password_file),
        "minimum": tls.minimum,
    }


class RecordedClient(SoapClient):
    """A client of whose calls ``recording`` makes records."""

    def __init__(self, recording: Recording, **options: Any) -> None:
        super().__init__(**options)
        self._recording = recording

    def call(
        self,
        url: str,
        exchange: Exchange[Request, Response],
        request: Request,
        **options: Any,
    ) -> Response:
        """See ``SoapClient``; also raises what recording raises."""
        call = partial(super().call, url, exchange, **options)
        answer: Response = self._recording(exchange.number, url, call)(request)
        return answer


def soap_client(
    settings: Settings, user: str | None = None, recording: Recording = unrecorded
) -> SoapClient:
    """The client with which this node calls other nodes, in the name of ``user``, or its own.

    Raises TlsError, ConfigError.
    """
    return RecordedClient(
        recording,
        timeout=settings.limits.call_seconds,
        ssl_context=client_tls(settings),
        token=own_assertions(settings, user),
    )


def own_assertions(settings: Settings, user: str | None) -> Callable[[], str]:
    """Assertions about ``user``, or the node itself, where it makes any. Raises ConfigError."""
    if not settings.assertions.own.name or not settings.tls.enabled:
        return str
    from node.wiring.tokens import own_tokens  # a tenth of a second, for nodes that need it

    return own_tokens(settings, user or settings.node.name)


@dataclass(frozen=True, slots=True)
class Asked:
    """The registry as a repository or an imaging source sees it, in process or far away."""

    register: Register
    update: Register
    query: Query
    unseen: UnseenDocuments
    inventory: Inventory | None = None
    """What the registry has, where its database is at hand."""

    @classmethod
    def remote(cls, url: str, client: SoapClient, recording: Recording = unrecorded) -> Asked:
        """The registry at ``url``, each call of which is recorded; where it cannot be reached, or
        the call cannot be recorded, that becomes RegistryUnavailable."""

        def calling(
            transaction: Transaction[Request, Response],
        ) -> Callable[[Request], Response]:
            call = recording(transaction.number, url, partial(client.call, url, transaction))

            def ask(request: Request) -> Response:
                try:
                    response: Response = call(request)
                    return response
                except (PeerError, SoapFault, StorageError, OSError) as error:
                    raise RegistryUnavailable(type(error).__name__) from error

            return ask

        query = calling(ITI_18)
        return cls(calling(ITI_42), calling(ITI_57), query, partial(_unseen_far, query))

    def knows(self, unique_id: str) -> bool:
        """Whether a document is registered; RegistryUnavailable when it cannot say."""
        request = get_documents(unique_id=unique_id, return_type=OBJECT_REF)
        return bool(_answered(self.query, request).fragments)

    def knows_submission(self, unique_id: str) -> bool:
        """Whether a submission set is registered; RegistryUnavailable when it cannot say."""
        request = get_submission_set_and_contents(unique_id=unique_id)
        return bool(_answered(self.query, request).fragments)

    def around(self, entries: Sequence[str]) -> list[str]:
        """Those of ``entries`` that are registered, their associations and submission sets.

        RegistryUnavailable when it cannot say.
        """
        found = self.ask(get_documents(entry_uuid=entries, metadata_level=2)).documents
        held = [one.entry_uuid for one in found]
        if not held:
            return []
        links = self.ask(get_associations(held, metadata_level=2)).associations
        sets = self.ask(get_submission_sets(held)).submission_sets
        return [*held, *(one.entry_uuid for one in (*links, *sets))]

    def entries(self, entry_uuids: Sequence[str]) -> list[DocumentEntry]:
        """Those of some documents, of any patients, that are registered.

        RegistryUnavailable when it cannot say.
        """
        return _of_any_patient(self.query, _by_entry_uuid, entry_uuids)

    def ask(self, request: AdhocQueryRequest) -> Submission:
        """The objects that answer a query; RegistryUnavailable when there is no full answer."""
        return _answered(self.query, request).objects()


def _answered(query: Query, request: AdhocQueryRequest) -> AdhocQueryResponse:
    """The full answer to a query. Raises RegistryUnavailable."""
    try:
        response = query(request)
    except (PeerError, SoapFault) as error:
        raise RegistryUnavailable(type(error).__name__) from error
    if response.status != SUCCESS:
        codes = sorted({error.code for error in response.errors})
        raise RegistryUnavailable(", ".join(codes) or response.status)
    return response


def _by_entry_uuid(names: Sequence[str]) -> AdhocQueryRequest:
    return get_documents(entry_uuid=names)


def _by_unique_id(names: Sequence[str]) -> AdhocQueryRequest:
    return get_documents(unique_id=names)


def _of_any_patient(
    query: Query, asking: Callable[[Sequence[str]], AdhocQueryRequest], names: Sequence[str]
) -> list[DocumentEntry]:
    """The documents of some names. Raises RegistryUnavailable.

    A registry shows in full those of one patient alone (XDSResultNotSinglePatient, ITI TF-2
    3.18.4.1.3): where they are of several, each is asked for by itself.
    """
    try:
        return list(_documents(query, asking(names)))
    except RegistryUnavailable as error:
        if len(names) < 2 or str(error) != _SEVERAL_PATIENTS:
            raise
    return [found for one in names for found in _documents(query, asking([one]))]


def _documents(query: Query, request: AdhocQueryRequest) -> Sequence[DocumentEntry]:
    return _answered(query, request).objects().documents


_SEVERAL_PATIENTS = "XDSResultNotSinglePatient"
_NOWHERE = "urn:uuid:00000000-0000-0000-0000-000000000000"


def _unseen_far(
    query: Query,
    sight: Sight,
    entry_uuids: Collection[str],
    unique_ids: Collection[str],
) -> set[str]:
    """The same of a registry that is asked by ITI-18, in the name of this node.

    Raises RegistryUnavailable and StorageError.
    """
    # Of nothing the same is asked: see ``registry.veil``.
    entry_uuids = entry_uuids if entry_uuids or unique_ids else [_NOWHERE]
    found: list[DocumentEntry] = []
    if entry_uuids:
        found += _of_any_patient(query, _by_entry_uuid, list(entry_uuids))
    if unique_ids:
        found += _of_any_patient(query, _by_unique_id, list(unique_ids))
    choices: dict[str, Choices] = {}
    seen: set[str | None] = set()
    for entry in found:
        patient = CX(str(entry.patient_id)).normalised()
        if patient not in choices:
            acknowledged = _acknowledged(query, patient) if sight.reads_consents else ()
            choices[patient] = sight.choices([patient], acknowledged)
        if sight.sees(choices[patient], facts_of(entry)):
            seen |= {entry.entry_uuid, entry.unique_id}
    if not found:
        sight.choices([""], ())
    return {one for one in (*entry_uuids, *unique_ids) if one not in seen}


def _acknowledged(query: Query, patient: str) -> set[str]:
    """The consent policies that a patient has acknowledged."""
    pairs = (one.split("^^") for one in CONSENT_FORMATS)
    formats = [Code(code, scheme, LocalizedString(code)) for code, scheme in pairs]
    consents = _documents(query, find_documents(patient, format_code=formats))
    return {code.code for consent in consents for code in consent.event_code_list}
