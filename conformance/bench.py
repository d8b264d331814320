"""What a stimulus works with: the transactions, patients, and made-up metadata of a run.

Methods named for a transaction return what was seen, whatever it is. Methods in the past
tense (``registered``, ``provided``) are preparation: they raise Mismatch unless all went
well, since without it nothing can be judged.
"""

from __future__ import annotations

import itertools
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from conformance import material
from conformance.auditing import AuditRepository
from conformance.evidence import Exchange, Record, Side, now
from conformance.expectation import Acknowledged, Mismatch, Success
from conformance.identity_v3 import ADD, MERGE, exchange_of, message_of
from conformance.seen import Ack, Answer, Found
from conformance.targets import NotRun, Targets
from conformance.text import Text
from conformance.tokens import good_tokens
from conformance.wire import Wire
from hl7.client import MllpClient, MllpError
from hl7.errors import InvalidMessage
from hl7.message import FieldValue, Message, Repetition, build
from metadata.datatypes import CX
from metadata.model import Association, DocumentEntry, Folder, Submission
from soap.message import Content, InMemory
from transactions.iti_18 import ITI_18, AdhocQueryRequest, AdhocQueryResponse
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.iti_43 import (
    ITI_43,
    DocumentRequest,
    RetrieveDocumentSetRequest,
    RetrieveDocumentSetResponse,
)
from transactions.iti_51 import ITI_51
from transactions.query_catalogue import MULTI_PATIENT_QUERIES
from transactions.registry_response import RegistryResponse
from transactions.stored_query import get_documents
from transactions.transaction import Transaction

# Between two looks at what a peer does in its own time: a manifest follows after seconds.
_POLL_SECONDS = 0.2

T = TypeVar("T")
Request = TypeVar("Request")
Response = TypeVar("Response")


class Session:
    """What the cases of one run share: the targets, the patients made up so far, a store."""

    def __init__(self, targets: Targets, run_id: str) -> None:
        self.targets = targets
        self.run_id = run_id
        self._numbers = itertools.count(1)
        self._shared: dict[str, Any] = {}
        self._stack = ExitStack()

    def identifier(self) -> str:
        """A patient identifier that no other run and no other case uses."""
        return f"KC{self.run_id}-{next(self._numbers)}"

    def audit_repository(self) -> AuditRepository:
        """The kit's audit record repository, which listens from its first use until ``close``.

        Raises NotRun where it cannot.
        """
        return self.shared("audit repository", self._open_repository)

    def _open_repository(self) -> AuditRepository:
        host, port = self.targets.audit_address()
        repository = AuditRepository(host, port, self.targets.audit_tls)
        try:
            repository.start()
        except OSError as error:
            words = f"{self.targets.audit_listener}: {error}"
            raise NotRun(Text(words, words)) from None
        self._stack.callback(repository.close)
        return repository

    def close(self) -> None:
        """Listen nowhere any more."""
        self._stack.close()

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once a run; if it fails, it fails for every case."""
        if key not in self._shared:
            try:
                self._shared[key] = make()
            except (Mismatch, NotRun) as error:
                self._shared[key] = error
        found = self._shared[key]
        if isinstance(found, Mismatch | NotRun):
            raise found
        result: T = found
        return result


class Bench:
    """The work bench of one case."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.targets = session.targets
        self.record = Record()
        self.wire = Wire(
            self.record,
            self.targets.timeout,
            self.targets.ssl_context,
            good_tokens(self.targets.issuer),
        )

    def awaited(self, look: Callable[[], T], good: Callable[[T], bool]) -> T:
        """What ``look`` sees, once that is ``good`` or the time of the targets is over."""
        deadline = time.monotonic() + self.targets.timeout
        while not good(seen := look()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return seen

    # --- Patients ---------------------------------------------------------------------------

    def patient(self) -> CX:
        """A patient the registry knows: announced now where there is a feed."""
        return self.patients(1)[0]

    def patients(self, count: int) -> list[CX]:
        """Different patients the registry knows."""
        if not self.targets.gives("feed"):
            if len(self.targets.patients) < count:
                raise NotRun(Text(f"needs {count} patients", f"il faut {count} patients"))
            return [self.targets.cx(one) for one in self.targets.patients[:count]]
        return [self.announced(self.unknown_patient()) for _ in range(count)]

    def unknown_patient(self) -> CX:
        """A patient nobody has heard of."""
        return self.targets.cx(self.session.identifier())

    def announced(self, patient: CX) -> CX:
        """``patient``, once the registry has been told of it, by whichever feed there is."""
        if self.targets.mllp is None:
            self._fed_v3(ADD, patient)
        else:
            ack = self.feed(self.adt("A04", patient.id))
            must(Acknowledged("AA"), ack, "announcing a test patient")
        return patient

    def merged(self, survivor: CX, subsumed: CX) -> None:
        """Merge ``subsumed`` into ``survivor``, by whichever feed there is."""
        if self.targets.mllp is None:
            self._fed_v3(MERGE, survivor, subsumed)
        else:
            ack = self.feed(self.merge(survivor.id, subsumed.id))
            must(Acknowledged("AA"), ack, "merging two test patients")

    def _fed_v3(self, number: str, patient: CX, subsumed: CX | None = None) -> None:
        answer = self.feed_v3(number, message_of(number, patient, subsumed))
        if answer.response != "CA":
            raise Mismatch("acknowledgement CA (feeding a test patient)", answer.describe())

    def adt(self, event: str, identifier: str, **fields: FieldValue) -> bytes:
        """An ADT message about ``identifier``; ``fields`` such as ``MSH_9`` replace fields."""
        return self._message(event, self._pid(identifier), fields, [["PV1", "", "O"]])

    def merge(self, survivor: str, subsumed: str, **fields: FieldValue) -> bytes:
        """An ADT^A40 message; ``fields`` such as ``MRG_1`` replace fields."""
        return self._message(
            "A40", self._pid(survivor), fields, [["MRG", self._identifier(subsumed)]]
        )

    def link_change(self, new: str, previous: str, local: CX, **fields: FieldValue) -> bytes:
        """An ADT^A43 message: ``local`` goes from one patient to another; ``fields`` as above."""
        foreign = (local.id, "", "", ("", local.assigning_authority.universal_id, "ISO"))
        pid = self._pid(new)
        pid[3] = [self._identifier(new), foreign]
        return self._message("A43", pid, fields, [["MRG", self._identifier(previous)]])

    def _pid(self, identifier: str) -> list[FieldValue]:
        name = ("TEST", "CONFORMANCE")
        return ["PID", "1", "", self._identifier(identifier), "", name, "", "19800101", "F"]

    def _identifier(self, identifier: str) -> Repetition:
        return (identifier, "", "", ("", self.targets.assigning_authority, "ISO"))

    def _message(
        self,
        event: str,
        pid: list[FieldValue],
        fields: Mapping[str, FieldValue],
        more: list[list[FieldValue]],
    ) -> bytes:
        structure = {"A40": "ADT_A39", "A43": "ADT_A43"}.get(event, "ADT_A01")
        time_stamp = now().strftime("%Y%m%d%H%M%S")
        header: list[FieldValue] = [
            *("MSH", "KIT", "KOSMOS", "SUT", "SUT", time_stamp, ""),
            *(("ADT", event, structure), self.session.identifier(), "P", "2.3.1"),
        ]
        segments: list[list[FieldValue]] = [header, ["EVN", event, time_stamp], pid, *more]
        for name, value in fields.items():
            segment, _, number = name.partition("_")
            position = int(number) - (2 if segment == "MSH" else 0)
            next(one for one in segments if one[0] == segment)[position] = value
        return build(segments)

    def feed(self, message: bytes) -> Ack:
        """ITI-8: send a message over MLLP, return what it was answered."""
        host, port = self.targets.mllp_address()
        context = self.targets.ssl_context if self.targets.mllp_tls else None
        client = MllpClient(host, port, timeout=self.targets.timeout, ssl_context=context)
        started, clock = now(), time.monotonic()
        answer, problem = b"", ""
        try:
            with client:
                answer = client.send(message)
        except MllpError as error:
            problem = f"no answer: {error}"
        self.note_mllp(started_at=started, clock=clock, sent=message, got=answer, problem=problem)
        return Ack(None, problem) if problem else read_ack(answer)

    def feed_v3(self, number: str, message: str) -> Answer[str]:
        """ITI-44: send a message as an interaction; the answer is the acknowledgement's code."""
        return self.wire.call(self.targets.endpoint("identity_v3"), exchange_of(number), message)

    def note_mllp(
        self, *, started_at: Any, clock: float, sent: bytes, got: bytes, problem: str = ""
    ) -> None:
        """Record an exchange over MLLP."""
        self.record.add(
            Exchange(
                "ITI-8 Patient Identity Feed",
                f"mllp://{self.targets.mllp}",
                started_at,
                time.monotonic() - clock,
                _hl7_side("MLLP", sent),
                _hl7_side("MLLP", got) if got else None,
                problem,
            )
        )

    # --- Metadata ---------------------------------------------------------------------------

    def entry(self, patient: CX, content: bytes = material.TEXT, **changes: Any) -> DocumentEntry:
        """A DocumentEntry that is right but for ``changes``."""
        return material.document_entry(self.targets, patient, content, **changes)

    def folder(self, patient: CX, **changes: Any) -> Folder:
        """A Folder that is right but for ``changes``."""
        return material.folder(self.targets, patient, **changes)

    def submission(
        self,
        patient: CX,
        *documents: DocumentEntry,
        folders: list[Folder] | None = None,
        associations: list[Association] | None = None,
        references: list[str] | None = None,
        **changes: Any,
    ) -> Submission:
        """A submission of these; ``changes`` replace attributes of its SubmissionSet."""
        return material.submission(
            self.targets,
            patient,
            *documents,
            folders=folders or (),
            associations=associations or (),
            references=references or (),
            **changes,
        )

    # --- Registry ---------------------------------------------------------------------------

    def register(self, submission: Submission | SubmitObjectsRequest) -> Answer[RegistryResponse]:
        """ITI-42."""
        request = submission
        if isinstance(request, Submission):
            request = SubmitObjectsRequest.of(request)
        return self.ask(ITI_42, request)

    def registered(self, submission: Submission) -> Submission:
        """The submission, once the registry has accepted it."""
        must(Success(), self.register(submission), "registering test metadata")
        return submission

    def registered_entry(self, patient: CX, **changes: Any) -> DocumentEntry:
        """A DocumentEntry, once the registry has accepted it."""
        entry = self.entry(patient, **changes)
        self.registered(self.submission(patient, entry))
        return entry

    def query(self, request: AdhocQueryRequest) -> Answer[AdhocQueryResponse]:
        """ITI-18, or ITI-51 for the queries it has of its own."""
        return self.ask(ITI_51 if request.query_id in MULTI_PATIENT_QUERIES else ITI_18, request)

    def ask(self, exchange: Transaction[Request, Response], request: Request) -> Answer[Response]:
        """Any transaction with the registry."""
        return self.wire.call(self.targets.endpoint("registry"), exchange, request)

    def found(
        self, request: AdhocQueryRequest, *expected: str, labels: Mapping[str, str] | None = None
    ) -> Found:
        """ITI-18, beside the ids its answer must hold.

        The operator's own patients may have other objects; then those of ``labels`` count.
        """
        ids, names = frozenset(expected), labels or {}
        among = ids | names.keys() if names and not self.targets.gives("feed") else None
        return Found(self.query(request), ids, names, among)

    def objects(self, request: AdhocQueryRequest) -> Submission:
        """The objects a query finds; it must succeed."""
        answer = self.query(request)
        must(Success(), answer, "asking the registry")
        assert answer.response is not None
        return answer.response.objects()

    def stored_entry(self, entry_uuid: str) -> DocumentEntry:
        """A DocumentEntry as the registry has it."""
        documents = self.objects(get_documents(entry_uuid=[entry_uuid])).documents
        if len(documents) != 1:
            raise Mismatch(f"one DocumentEntry {entry_uuid}", f"{len(documents)} of them")
        return documents[0]

    @staticmethod
    def next_second() -> None:
        """Wait until the clock shows another second: what XDS times can tell apart."""
        time.sleep(1.1)

    # --- Repository -------------------------------------------------------------------------

    def provide(
        self, submission: Submission, documents: Mapping[str, bytes | Content]
    ) -> Answer[RegistryResponse]:
        """ITI-41; ``documents`` by the entryUUID they belong to."""
        contents = {
            uuid: InMemory(content) if isinstance(content, bytes) else content
            for uuid, content in documents.items()
        }
        request = ProvideAndRegisterRequest(SubmitObjectsRequest.of(submission), contents)
        return self.wire.call(self.targets.endpoint("repository"), ITI_41, request)

    def provided_entry(
        self, patient: CX, content: bytes = material.TEXT, **changes: Any
    ) -> DocumentEntry:
        """A DocumentEntry, once the repository has accepted it with its document."""
        entry = material.changed(material.provided(self.entry(patient, content)), changes)
        answer = self.provide(self.submission(patient, entry), {entry.entry_uuid: content})
        must(Success(), answer, "providing a test document")
        return entry

    def retrieve(self, *requests: DocumentRequest) -> Answer[RetrieveDocumentSetResponse]:
        """ITI-43."""
        return self.wire.call(
            self.targets.endpoint("repository"), ITI_43, RetrieveDocumentSetRequest(requests)
        )

    def retrieve_ids(self, *unique_ids: str | None) -> Answer[RetrieveDocumentSetResponse]:
        """ITI-43 for documents of the repository under test."""
        own = self.repository_unique_id()
        return self.retrieve(*(DocumentRequest(own, unique_id or "") for unique_id in unique_ids))

    def repository_unique_id(self) -> str:
        """The repositoryUniqueId: as configured, or as it stands in a document provided."""
        return self.targets.repository_unique_id or self.session.shared(
            "repositoryUniqueId", self._discovered
        )

    def _discovered(self) -> str:
        if self.targets.registry is None:
            raise NotRun(
                Text(
                    "needs --repository-id OID, or --registry URL to learn it from",
                    "il faut --repository-id OID, ou --registry URL pour l'apprendre",
                )
            )
        entry = self.provided_entry(self.patient())
        found = self.stored_entry(entry.entry_uuid).repository_unique_id
        if not found:
            raise Mismatch("a DocumentEntry with repositoryUniqueId", "one without")
        return str(found)

    def connecting_as(self, client: ssl.SSLContext) -> Bench:
        """The same bench and record, with another client's TLS."""
        other = self.pointed_at(ssl_context=client)
        other.wire = Wire(self.record, self.targets.timeout, client, self.wire.token)
        return other

    def asking(self, token: Callable[[], str]) -> Bench:
        """The same bench and record, for somebody else who asks."""
        other = self.pointed_at()
        other.wire = Wire(self.record, self.targets.timeout, self.targets.ssl_context, token)
        return other

    def pointed_at(self, **changes: Any) -> Bench:
        """The same bench and record, with other targets."""
        other = Bench(self.session)
        other.targets = replace(self.targets, **changes)
        other.record = self.record
        other.wire = self.wire
        return other


def read_ack(answer: bytes) -> Ack:
    """The acknowledgement in ``answer``."""
    try:
        return Ack(Message.read(answer))
    except InvalidMessage as error:
        return Ack(None, f"no HL7 v2 message: {error}")


def must(expectation: Any, seen: Any, doing: str) -> None:
    """Raise Mismatch, saying at what, unless ``seen`` is as expected."""
    try:
        expectation.judge(seen)
    except Mismatch as mismatch:
        raise Mismatch(f"{mismatch.expected} ({doing})", mismatch.seen) from None


def _hl7_side(line: str, data: bytes) -> Side:
    return Side(line, {}, data.decode("utf-8", "replace").replace("\r", "\n"), len(data))
