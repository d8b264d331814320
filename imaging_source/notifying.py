"""Telling peers that a published study can be retrieved here (IAN, PS3.4 Annex R, as user).

A row for each study and peer says which revision the peer knows; what is published beyond it is
told, until the peer has taken it. So nothing is to be noted at the moment of publishing, and a
process that dies tells at most once too often. What the peer may not see when it would be told is
not told, nor later, unless it is published anew: a subscriber (ITI-53) is told by the same rule.
Studies that changed longer ago than the days looked at are not told: a peer that is added today
need not hear of years.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby

import structlog
from pydicom.uid import generate_uid
from sqlalchemy import Connection, Row, and_, delete, func, insert, select

from imaging_source.dimse import MESSAGE_ID, N_CREATE_RQ, SOP_CLASS_UID, SOP_INSTANCE_UID
from imaging_source.elements import EXPLICIT_VR_LITTLE_ENDIAN
from imaging_source.encoded import Value, encode
from imaging_source.evicted import INSTANCE_AVAILABILITY, IS_EVICTED, NEARLINE, ONLINE
from imaging_source.housekeeping import DAY_SECONDS
from imaging_source.ledger import About, End, Ledger, Mention, NoLedger, Purpose
from imaging_source.notices import INSTANCE_AVAILABILITY_NOTIFICATION
from imaging_source.references import Reference
from imaging_source.requestor import TROUBLES, Peer, Requested, Unreachable
from imaging_source.schema import INSTANCE, PEER_TOLD, STUDY
from imaging_source.service import SUCCESS, Refused
from imaging_source.shown import SHOWN, Veil, no_veil
from storage.database import Database
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

_RETRIEVE_AE_TITLE = 0x00080054
_REFERENCED_STEPS = 0x00081111
_REFERENCED_SERIES = 0x00081115
_REFERENCED_SOP = 0x00081199
_STUDY_INSTANCE_UID = 0x0020000D
_SERIES_INSTANCE_UID = 0x0020000E

_POLL_SECONDS = 2.0
# Between two attempts: 5 s, then twice as long each time, 15 minutes at most.
_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 900.0
# Longer than a long weekend that a peer is switched off.
_LOOK_BACK_SECONDS = 7 * DAY_SECONDS
# Studies told in one round.
_MOST = 100
_STOP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class _Due:
    """A revision of a study that a peer does not know yet."""

    study_instance_uid: str
    revision: int
    attempts: int


class Notifier:
    """Tells ``peers`` of the studies that are published; ``title`` is where to retrieve them.

    ``ledger`` records each notice, ``veil`` hides studies from peers.
    """

    def __init__(
        self,
        database: Database,
        title: str,
        peers: Mapping[str, Peer],
        clock: Callable[[], float] = time.time,
        ledger: Ledger | None = None,
        veil: Veil = no_veil,
    ) -> None:
        self._database = database
        self._veil = veil
        self._ledger = ledger or NoLedger()
        self._title = title
        self._peers = peers
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)

    def start(self) -> None:
        """Tell from a thread until ``stop``."""
        if self._peers:
            self._thread.start()

    def stop(self) -> None:
        """End the thread after the notice under way, or leave it to the next process."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def run_once(self) -> int:
        """Tell what is due; how many notices were tried. Raises StorageError."""
        tried = 0
        for peer in self._peers.values():
            for due in self._due(peer):
                if self._stopping.is_set():
                    return tried
                self._note(peer, due, self._settle(peer, due))
                tried += 1
        return tried

    def _run(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            try:
                self.run_once()
            except StorageError as error:
                _log.error("notices wait", code="dicom-notices", error=type(error).__name__)

    def _due(self, peer: Peer) -> list[_Due]:
        known = and_(
            PEER_TOLD.c.study_instance_uid == STUDY.c.study_instance_uid,
            PEER_TOLD.c.peer == peer.title,
        )
        revision = func.coalesce(PEER_TOLD.c.revision, 0)
        now = self._clock()
        query = (
            select(
                STUDY.c.study_instance_uid,
                STUDY.c.published_revision,
                func.coalesce(PEER_TOLD.c.attempts, 0),
            )
            .select_from(STUDY.outerjoin(PEER_TOLD, known))
            .where(STUDY.c.changed_at >= now - _LOOK_BACK_SECONDS)
            .where(STUDY.c.published_revision > revision)
            .where(func.coalesce(PEER_TOLD.c.next_attempt_at, 0.0) <= now)
            .limit(_MOST)
        )
        with self._database.read() as connection:
            return [_Due(*row) for row in connection.execute(query)]

    def _settle(self, peer: Peer, due: _Due) -> bool:
        """Whether the peer has taken the notice, or may not see the study and so is not told.

        Raises StorageError where that would leave no record, or nobody knows what it may see.
        """
        try:
            if self._sees(peer, due.study_instance_uid):
                self._tell(peer, due)
        except (*TROUBLES, Refused) as error:
            _log.warning("notice not taken", code="dicom-notices", reason=str(error))
            return False
        return True

    def _sees(self, peer: Peer, study: str) -> bool:
        """Whether the peer may see a study. Raises Refused where the registry cannot say."""
        unseen = self._veil(End(peer.title, peer.host))
        return unseen is None or not unseen([study])

    def _tell(self, peer: Peer, due: _Due) -> None:
        """Have the peer take the notice. Raises one of TROUBLES, and StorageError."""
        with self._database.read() as connection:
            instances = _instances(connection, due.study_instance_uid)
            about = About.in_index(connection, due.study_instance_uid)
        values = self._notice(due, instances)
        classes = Counter(sop_class_uid for _, sop_class_uid, _, _ in instances)
        mention = Mention(Purpose.AVAILABILITY, about, classes)
        sop_class = INSTANCE_AVAILABILITY_NOTIFICATION
        contexts = [(sop_class, EXPLICIT_VR_LITTLE_ENDIAN)]
        elements = (
            (SOP_CLASS_UID, sop_class),
            (MESSAGE_ID, 1),
            (SOP_INSTANCE_UID, str(generate_uid())),
        )
        with Requested(peer, self._title, contexts) as asked:
            if (context_id := asked.line.context_of(sop_class)) is None:
                raise Unreachable(f"{peer.title} takes no notices of availability")
            data_set = encode(values, EXPLICIT_VR_LITTLE_ENDIAN)
            with self._ledger.telling(End(peer.title, peer.host), mention):
                answer = asked.request(context_id, N_CREATE_RQ, elements, data_set).command
                if answer.status != SUCCESS:
                    raise Unreachable(f"{peer.title} answers with status {answer.status:#06x}")

    def _notice(
        self, due: _Due, instances: list[Row[str, str, str, bool]]
    ) -> dict[int, tuple[str, Value]]:
        series = [
            {
                _SERIES_INSTANCE_UID: ("UI", uid),
                _REFERENCED_SOP: (
                    "SQ",
                    [self._item(*one[1:]) for one in rows],
                ),
            }
            for uid, rows in groupby(instances, key=lambda row: row[0])
        ]
        return {
            _STUDY_INSTANCE_UID: ("UI", due.study_instance_uid),
            _REFERENCED_STEPS: ("SQ", []),
            _REFERENCED_SERIES: ("SQ", series),
        }

    def _item(self, sop_class: str, uid: str, evicted: bool) -> dict[int, tuple[str, Value]]:
        return {
            _RETRIEVE_AE_TITLE: ("AE", self._title),
            INSTANCE_AVAILABILITY: ("CS", NEARLINE if evicted else ONLINE),
            **Reference(sop_class, uid).values,
        }

    def _note(self, peer: Peer, due: _Due, taken: bool) -> None:
        pause = min(_FIRST_RETRY_SECONDS * 2 ** min(due.attempts, 10), _LAST_RETRY_SECONDS)
        row = {
            "study_instance_uid": due.study_instance_uid,
            "peer": peer.title,
            "revision": due.revision if taken else 0,
            "attempts": 0 if taken else due.attempts + 1,
            "next_attempt_at": 0.0 if taken else self._clock() + pause,
        }

        def work(connection: Connection) -> None:
            connection.execute(
                delete(PEER_TOLD).where(
                    PEER_TOLD.c.study_instance_uid == due.study_instance_uid,
                    PEER_TOLD.c.peer == peer.title,
                )
            )
            connection.execute(insert(PEER_TOLD), row)

        self._database.write(work)


def _instances(connection: Connection, study: str) -> list[Row[str, str, str, bool]]:
    """Series, class and UID of the instances that are shown, by series; whether each is evicted."""
    query = (
        select(
            INSTANCE.c.series_instance_uid,
            INSTANCE.c.sop_class_uid,
            INSTANCE.c.sop_instance_uid,
            IS_EVICTED,
        )
        .where(INSTANCE.c.study_instance_uid == study, SHOWN)
        .order_by(INSTANCE.c.series_instance_uid, INSTANCE.c.instance_number)
    )
    return list(connection.execute(query))
