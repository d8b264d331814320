"""DICOM associations as the kit makes and takes them: storing, asking, moving, getting (RAD-16).

Built on pynetdicom, another implementation than any actor of this house. Nothing is raised for
what a peer does: no association, an abort and silence are the status ``NOTHING``.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from pydicom.dataset import Dataset
from pynetdicom import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    Association,
    build_context,
    build_role,
    evt,
)
from pynetdicom.presentation import PresentationContext

from conformance.evidence import Exchange, Record, Side, now

PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"

CALLING = "KOSMOS_KIT"
"""The title under which the kit asks, where no other is given."""

NOTHING = -1
"""Where no status came: no association, or it broke."""

Take = Callable[[Dataset], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entity:
    """An application entity: how it is called, and where it is."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Entity:
        """The entity written ``AE@HOST:PORT``; raises ValueError otherwise."""
        title, at, place = text.rpartition("@")
        host, _, port = place.rpartition(":")
        if not (title and at and host and port.isdigit()):
            raise ValueError(f"{text!r} is not AE@HOST:PORT")
        return cls(title, host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation ended: its last status, what it found or brought, what it counted."""

    status: int
    data_sets: list[Dataset] = field(default_factory=list)
    completed: int = 0
    failed: int = 0

    @property
    def kind(self) -> str:
        """What the status means (PS3.7 Annex C)."""
        return kind_of(self.status)


def kind_of(status: int) -> str:
    """Success, Warning, Cancel, Pending or Failure; empty where nothing came."""
    if status == NOTHING:
        return ""
    if status in (0xFF00, 0xFF01):
        return "Pending"
    warning = status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116)
    return {0x0000: "Success", 0xFE00: "Cancel"}.get(status, "Warning" if warning else "Failure")


class Dimse:
    """Asks one application entity, an association for each operation; records what was said."""

    def __init__(
        self,
        peer: Entity,
        timeout: float,
        record: Record | None = None,
        calling: str = CALLING,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._peer = peer
        self._timeout = timeout
        self._record = record or Record()
        self._calling = calling
        self._tls = tls

    def store(self, images: Sequence[Dataset]) -> list[int]:
        """C-STORE each of ``images`` as it is encoded; the statuses, in order."""
        wanted = dict.fromkeys((one.SOPClassUID, _syntax(one)) for one in images)
        contexts = [build_context(sop_class, syntax) for sop_class, syntax in wanted]

        def work(association: Association) -> list[int]:
            return [_stored(association, image) for image in images]

        statuses = self._associated("C-STORE", f"{len(images)} instances", contexts, work)
        return statuses or [NOTHING] * len(images)

    def find(self, model: str, identifier: Dataset) -> Outcome:
        """C-FIND: the matches and the last status."""

        def work(association: Association) -> Outcome:
            answers = list(association.send_c_find(identifier, model))
            found = [one for _, one in answers if one is not None]
            return Outcome(_status(answers[-1][0]) if answers else NOTHING, found)

        told = self._associated("C-FIND", str(identifier), [build_context(model)], work)
        return told or Outcome(NOTHING)

    def move(self, identifier: Dataset, destination: str) -> Outcome:
        """C-MOVE to the application entity called ``destination``."""

        def work(association: Association) -> Outcome:
            return _retrieved(association.send_c_move(identifier, destination, STUDY_MOVE), [])

        said = f"to {destination}\n{identifier}"
        told = self._associated("C-MOVE", said, [build_context(STUDY_MOVE)], work)
        return told or Outcome(NOTHING)

    def get(self, identifier: Dataset, classes: Sequence[str]) -> Outcome:
        """C-GET what is of these SOP classes; ``data_sets`` are the instances that came."""
        came: list[Dataset] = []
        contexts = [build_context(one, ALL_TRANSFER_SYNTAXES) for one in classes]

        def work(association: Association) -> Outcome:
            came.clear()
            return _retrieved(association.send_c_get(identifier, STUDY_GET), came)

        said = f"{len(classes)} SOP classes\n{identifier}"
        contexts.append(build_context(STUDY_GET))
        told = self._associated(
            *("C-GET", said, contexts, work), came=came.append, provided=list(classes)
        )
        return told or Outcome(NOTHING)

    def _associated(
        self,
        name: str,
        said: str,
        contexts: list[PresentationContext],
        work: Callable[[Association], T],
        *,
        came: Take | None = None,
        provided: Sequence[str] = (),
    ) -> T | None:
        """What ``work`` makes of an association; None where there is none, or it breaks.

        Asked once more where no answer came: once in a thousand associations on a busy machine
        pynetdicom (3.0.4) leaves an answer unread that stands in its socket, and all that is asked
        here may be asked twice.
        """
        told = self._attempt(name, said, contexts, work, came, provided)
        if _is_silence(told):
            told = self._attempt(name, said, contexts, work, came, provided)
        return told

    def _attempt(
        self,
        name: str,
        said: str,
        contexts: list[PresentationContext],
        work: Callable[[Association], T],
        came: Take | None,
        provided: Sequence[str],
    ) -> T | None:
        started, clock = now(), time.monotonic()
        told, problem = None, ""
        association = self._associate(contexts, came, provided)
        if association.is_established:
            try:
                told = work(association)
            except (ValueError, RuntimeError) as error:
                problem = f"{type(error).__name__}: {error}"
            finally:
                association.release()
        else:
            problem = "no association"
        seconds = time.monotonic() - clock
        answer = None if told is None else Side(f"{name}-RSP", {}, _words(told), 0)
        sent = Side(f"{name}-RQ", {}, said, 0)
        self._record.add(
            Exchange(
                f"RAD-16 {name}", f"dicom://{self._peer}", started, seconds, sent, answer, problem
            )
        )
        return told

    def _associate(
        self, contexts: list[PresentationContext], came: Take | None, provided: Sequence[str]
    ) -> Association:
        user = AE(self._calling)
        user.connection_timeout = user.acse_timeout = user.dimse_timeout = self._timeout
        handlers: list[evt.EventHandlerType] = [(evt.EVT_CONN_OPEN, _no_delay)]
        if came is not None:
            handlers.append((evt.EVT_C_STORE, _taking, [came]))
        return user.associate(
            self._peer.host,
            self._peer.port,
            contexts=contexts,
            ae_title=self._peer.title,
            ext_neg=[build_role(one, scp_role=True) for one in provided],
            evt_handlers=handlers,
            tls_args=None if self._tls is None else (self._tls, self._peer.host),
        )


@contextmanager
def receiving(port: int, title: str, take: Take) -> Iterator[None]:
    """Be a storage provider at ``port`` meanwhile; ``take`` gets each instance that comes."""
    provider = AE(title)
    for context in AllStoragePresentationContexts:
        provider.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_CONN_OPEN, _no_delay),
        (evt.EVT_C_STORE, _taking, [take]),
    ]
    server = provider.start_server(("0.0.0.0", port), block=False, evt_handlers=handlers)
    assert server is not None  # it does not block
    try:
        yield
    finally:
        server.shutdown()


def asked(level: str, **keys: object) -> Dataset:
    """The identifier of a query or retrieval; a key without value is only asked for."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def _retrieved(answers: Iterator[tuple[Dataset, Dataset | None]], came: list[Dataset]) -> Outcome:
    statuses = [status for status, _ in answers]
    last = statuses[-1] if statuses else Dataset()
    completed = int(last.get("NumberOfCompletedSuboperations") or 0)
    failed = int(last.get("NumberOfFailedSuboperations") or 0)
    return Outcome(_status(last), came, completed, failed)


def _stored(association: Association, image: Dataset) -> int:
    if not association.is_established:
        return NOTHING
    return _status(association.send_c_store(image))


def _is_silence(told: object) -> bool:
    """Whether an association was made, and then no answer came."""
    if isinstance(told, Outcome):
        return told.status == NOTHING
    return isinstance(told, list) and NOTHING in told


def _status(answer: Dataset) -> int:
    status = answer.get("Status")
    return NOTHING if status is None else int(status)


def _syntax(image: Dataset) -> str:
    return str(image.file_meta.TransferSyntaxUID)


def _taking(event: evt.Event, take: Take) -> int:
    image = event.dataset
    image.file_meta = event.file_meta
    take(image)
    return 0x0000


def _words(told: object) -> str:
    if isinstance(told, Outcome):
        found = "\n\n".join(str(one) for one in told.data_sets[:10])
        return f"status {told.status:04X}, {len(told.data_sets)} data sets\n{found}"
    return str(told)


def _no_delay(event: evt.Event) -> None:
    """Without this every message waits 40 ms for a delayed acknowledgement of TCP."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
