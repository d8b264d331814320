"""What peers do over DICOM associations, what archives are asked and give, and what peers are told
and tell, to whoever keeps records of it.

A transfer is told twice for each study of an association: when it begins, before its first instance
is acknowledged or sent, and when it has ended, with the number of instances, so that a CT of 300
images is not 300 records. What comes by C-MOVE is told as what is stored. A query of a peer is told
before its first response, one of ours once it was answered, and so is what a peer is told of
instances (N-ACTION of a storage commitment, N-CREATE of a notice). What a peer tells us of them, or
of a performed procedure step, is told before it is acted on and again before it is answered. Where
the ledger cannot record (StorageError), the peer is refused, and nobody is asked or told. Not here:
what a record looks like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, Self

from sqlalchemy import Connection, select

from imaging_source.schema import STUDY
from manifest.model import Study
from storage.operators import among
from storage.statement import Statement

_KNOWN = Statement(
    select(STUDY.c.study_instance_uid, STUDY.c.patient_id, STUDY.c.issuer_oid).where(
        among(STUDY.c.study_instance_uid, "studies")
    )
)

# Studies of one association that are under way; of more the one begun first is told as ended. One
# that lasts for days may bring thousands.
MOST_STUDIES = 64


class Service(Enum):
    """Which way instances travel."""

    STORE = "C-STORE"
    MOVE = "C-MOVE"
    GET = "C-GET"
    FETCH = "C-GET of ours"
    FETCH_BY_WEB = "WADO-RS of ours"


@dataclass(frozen=True, slots=True)
class End:
    """An application entity; ``certificate`` (DER) is how it is known, where it has shown one.

    ``user`` is the person for whom it asks, as the node knows him; None for nobody.
    """

    title: str
    address: str = ""
    certificate: bytes | None = None
    user: Any = None


@dataclass(frozen=True, slots=True)
class About:
    """A study and its patient."""

    study_instance_uid: str = ""
    patient_id: str = ""
    issuer_oid: str = ""

    @classmethod
    def of(cls, study: Study) -> Self:
        """The study that a header tells of."""
        return cls(study.study_instance_uid, study.patient.patient_id, study.patient.issuer_oid)

    @classmethod
    def in_index(cls, connection: Connection, study_instance_uid: str) -> Self:
        """A study as the index knows it; its UID alone where it does not."""
        known = cls.all_in_index(connection, [study_instance_uid])
        return known[0] if known else cls(study_instance_uid)

    @classmethod
    def all_in_index(cls, connection: Connection, studies: Collection[str]) -> list[Self]:
        """Those of some studies that the index knows."""
        return [cls(*row) for row in _KNOWN.rows(connection, {"studies": list(studies)})]


UNKNOWN = About()
"""Of an instance that was not taken, and of what says nothing that is known here."""


@dataclass(slots=True)
class Transfer:
    """The instances of one study, by SOP class: those that arrived, those that did not.

    ``peer`` is who has asked for the association, or the archive that we fetch from;
    ``destination`` who gets what C-MOVE sends.
    """

    service: Service
    peer: End
    destination: End | None
    about: About
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    has_begun: bool = False
    kept: Any = None
    """What the ledger knows it by."""


@dataclass(frozen=True, slots=True)
class Question:
    """What an archive is asked: an identifier in Explicit VR Little Endian by C-FIND, or the path
    and query of QIDO-RS, which has no ``sop_class_uid``.
    """

    asked: bytes
    sop_class_uid: str = ""


class Purpose(Enum):
    """Why one application entity tells another of a study."""

    COMMITMENT = "N-ACTION of a storage commitment"
    AVAILABILITY = "N-CREATE of a notice of availability"
    STEP_BEGUN = "N-CREATE of a performed procedure step"
    STEP_CHANGED = "N-SET of a performed procedure step"


@dataclass(frozen=True, slots=True)
class Mention:
    """A study of which one tells another, with the instances named, in number by SOP class, none
    of which travels, or with the UID of the ``step`` performed."""

    purpose: Purpose
    about: About
    classes: Mapping[str, int] = field(default_factory=dict)
    step: str = ""


Hearing = Callable[[Iterable[Mention]], None]
"""Takes what a peer has said, once it is read and before it is acted on: what is recorded should
this process die at it is durable then. Raises StorageError."""


class Ledger(Protocol):
    """Keeps records."""

    def begins(self, transfer: Transfer) -> None:
        """Record that it begins, durably. Raises StorageError."""

    def ended(self, transfer: Transfer) -> None:
        """Record what it came to, without waiting; never raises."""

    def queried(
        self, asker: End, sop_class_uid: str, syntax: str, identifier: bytes, done: bool
    ) -> None:
        """Record a query, durably. Raises StorageError."""

    def asking(self, archive: End, question: Question) -> AbstractContextManager[None]:
        """Record a query of ours, durably, once it was answered, or has failed in this context.

        Raises StorageError, before it is asked where there is no room.
        """

    def telling(self, peer: End, mention: Mention) -> AbstractContextManager[None]:
        """The same of what we tell a peer of instances."""

    def hearing(self, peer: End, purpose: Purpose) -> AbstractContextManager[Hearing]:
        """Record what a peer tells us, durably, done or refused, when this context ends.

        Raises StorageError, before anything is done where there is no room.
        """


class NoLedger:
    """Where nothing is recorded."""

    def begins(self, transfer: Transfer) -> None:
        """Nothing."""

    def ended(self, transfer: Transfer) -> None:
        """Nothing."""

    def queried(
        self, asker: End, sop_class_uid: str, syntax: str, identifier: bytes, done: bool
    ) -> None:
        """Nothing."""

    def asking(self, archive: End, question: Question) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def telling(self, peer: End, mention: Mention) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def hearing(self, peer: End, purpose: Purpose) -> AbstractContextManager[Hearing]:
        """Nothing."""
        return nullcontext(lambda _mentions: None)


class Transfers:
    """The transfers of one association, or of one retrieval; for one thread."""

    def __init__(
        self, ledger: Ledger, service: Service, peer: End, destination: End | None = None
    ) -> None:
        self._ledger = ledger
        self._made = (service, peer, destination)
        self._open: dict[str, Transfer] = {}

    def begin(self, about: About) -> None:
        """An instance of the study is about to go, or to be acknowledged. Raises StorageError."""
        transfer = self._of(about)
        if not transfer.has_begun:
            self._ledger.begins(transfer)
            transfer.has_begun = True

    def count(self, about: About, sop_class_uid: str, done: bool) -> None:
        """What became of an instance."""
        transfer = self._of(about)
        (transfer.done if done else transfer.failed)[sop_class_uid] += 1

    def close(self) -> None:
        """Nothing more will come."""
        while self._open:
            self._end_first()

    def _of(self, about: About) -> Transfer:
        known = self._open.get(about.study_instance_uid)
        if known is None:
            if len(self._open) >= MOST_STUDIES:
                self._end_first()
            known = self._open[about.study_instance_uid] = Transfer(*self._made, about)
        if not known.about.patient_id:  # of a study that was asked for, until its first image
            known.about = about
        return known

    def _end_first(self) -> None:
        self._ledger.ended(self._open.pop(next(iter(self._open))))


@dataclass(frozen=True, slots=True)
class Records:
    """The ledger with the peer of one association, who ``asks``."""

    ledger: Ledger = field(default_factory=NoLedger)
    asker: End = End("")

    def transfers(self, service: Service, destination: End | None = None) -> Transfers:
        """A new group of transfers."""
        return Transfers(self.ledger, service, self.asker, destination)

    def hearing(self, purpose: Purpose) -> AbstractContextManager[Hearing]:
        """What the peer tells is read, acted on, and recorded at the end: see ``Ledger``."""
        return self.ledger.hearing(self.asker, purpose)
