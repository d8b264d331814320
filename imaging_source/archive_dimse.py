"""An archive that is asked by C-FIND, or fetched from by C-MOVE (PS3.4 C.4.1, C.4.2, as user).

Fetching by C-GET is ``archive_get``, on what both have in common here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice

from imaging_source.archives import Held
from imaging_source.dimse import (
    C_FIND_RQ,
    C_MOVE_RQ,
    MEDIUM,
    MESSAGE_ID,
    MOVE_DESTINATION,
    PRIORITY,
    SOP_CLASS_UID,
    Command,
    write_data_set,
    write_request,
)
from imaging_source.elements import EXPLICIT_VR_LITTLE_ENDIAN, Elements, Encoding
from imaging_source.encoded import Values, encode
from imaging_source.evicted import INSTANCE_AVAILABILITY, ONLINE
from imaging_source.guard import Limits
from imaging_source.header import is_uid
from imaging_source.ledger import End, Ledger, NoLedger, Question
from imaging_source.query_retrieve.models import (
    QUERY_RETRIEVE_LEVEL,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
)
from imaging_source.references import texts_of
from imaging_source.requestor import Peer, Requested, Unreachable
from imaging_source.service import SUCCESS

_STUDY_DATE = 0x00080020
_INSTANCES = 0x00201208
_SOP_CLASS_UID = 0x00080016
PENDING = (0xFF00, 0xFF01)

# An archive that reads from tape says nothing for minutes between two instances.
_LIMITS = Limits(idle_seconds=600.0)
# Answers of one query: more than any study has instances, or any archive studies in some days.
_MOST_ANSWERS = 200_000


class _Failed(Unreachable):
    """A query was answered with a status of failure; the association is as good as before."""


class NotOffered(Unreachable):
    """The archive answers, and does not offer the service."""


class FindUser:
    """Asks the archive ``peer``, which knows us as ``own_title``; ``ledger`` records what."""

    def __init__(self, peer: Peer, own_title: str, ledger: Ledger | None = None) -> None:
        self._peer = peer
        self._own_title = own_title
        self._ledger = ledger or NoLedger()

    @property
    def address(self) -> str:
        """See ``Questions``."""
        return f"{self._peer.host}:{self._peer.port}"

    @contextmanager
    def asking(self) -> Iterator[_Asking]:
        """See ``Questions``: one association for all questions."""
        with associated(self._peer, self._own_title, STUDY_ROOT_FIND, "C-FIND") as asked:
            yield _Asking(asked, self._ledger, End(self._peer.title, self._peer.host))


class MoveUser:
    """Fetches from the archive ``peer``, which knows us as ``own_title`` and where we listen."""

    def __init__(self, peer: Peer, own_title: str) -> None:
        self._peer = peer
        self._own_title = own_title

    def fetch(self, study: str) -> None:
        """See ``Supply``: it arrives at the receiver, on associations of the archive."""
        with associated(self._peer, self._own_title, STUDY_ROOT_MOVE, "C-MOVE") as asked:
            destination = (MOVE_DESTINATION, self._own_title)
            send(asked, C_MOVE_RQ, STUDY_ROOT_MOVE, the_study(study), destination)
            for _ in _answers(asked, C_MOVE_RQ):
                pass


def associated(
    peer: Peer,
    own_title: str,
    sop_class: str,
    service: str,
    storage: Sequence[tuple[str, str]] = (),
) -> Requested:
    """An association to ask for what is named ``service``.

    ``storage`` are the classes, each in one transfer syntax, whose instances may come on it.
    Raises Unreachable, NotOffered.
    """
    contexts = [(sop_class, EXPLICIT_VR_LITTLE_ENDIAN), *storage]
    provided = sorted({one for one, _ in storage})
    asked = Requested(peer, own_title, contexts, provided=provided, limits=_LIMITS)
    if asked.line.context_of(sop_class) is None:
        with asked:
            raise NotOffered(f"{peer.title} does not offer {service}")
    return asked


def the_study(study: str) -> Values:
    """The identifier of a request for all of a study (PS3.4 C.4.2.1.4.1)."""
    return {QUERY_RETRIEVE_LEVEL: ("CS", "STUDY"), STUDY_INSTANCE_UID: ("UI", study)}


class _Asking:
    """Questions on one association; all raise StorageError where they cannot be recorded."""

    def __init__(self, asked: Requested, ledger: Ledger, archive: End) -> None:
        self._asked = asked
        self._ledger = ledger
        self._archive = archive

    def studies(self, first: str) -> list[Held]:
        """See ``Asking``."""
        identifier: Values = {
            QUERY_RETRIEVE_LEVEL: ("CS", "STUDY"),
            _STUDY_DATE: ("DA", f"{first}-"),
            STUDY_INSTANCE_UID: ("UI", ""),
            _INSTANCES: ("IS", ""),
        }
        found = map(_held, self._found(identifier))
        return [one for one in found if one is not None]

    def instances(self, study: str) -> set[str]:
        """See ``Asking``; none where it refuses."""
        return {uid for (uid,) in self._images(study, SOP_INSTANCE_UID)}

    def online(self, study: str) -> set[str]:
        """See ``Asking``; none where it refuses."""
        told = self._images(study, SOP_INSTANCE_UID, INSTANCE_AVAILABILITY)
        return {uid for uid, where in told if where in ("", ONLINE)}

    def classes(self, study: str) -> dict[str, str]:
        """The SOP classes of the instances of a study; empty where it does not tell."""
        return dict(self._images(study, SOP_INSTANCE_UID, _SOP_CLASS_UID))

    def _images(self, study: str, *wanted: int) -> list[list[str]]:
        """What the archive tells of each instance.

        Asked for at once, which many archives answer; else series by series, which all of them
        must (PS3.4 C.4.1.2.1). None where it refuses both.
        """
        of_study = {STUDY_INSTANCE_UID: study}
        with suppress(_Failed):
            if found := self._rows("IMAGE", of_study, *wanted):
                return found
        found = []
        with suppress(_Failed):
            for (series,) in self._rows("SERIES", of_study, SERIES_INSTANCE_UID):
                of_series = {**of_study, SERIES_INSTANCE_UID: series}
                found += self._rows("IMAGE", of_series, *wanted)
        return found

    def _rows(self, level: str, above: Mapping[int, str], *wanted: int) -> list[list[str]]:
        """What is ``wanted`` of each entity of a level below those ``above``; first its unique
        key."""
        identifier: Values = {
            QUERY_RETRIEVE_LEVEL: ("CS", level),
            **{tag: ("CS" if tag == INSTANCE_AVAILABILITY else "UI", "") for tag in wanted},
            **{tag: ("UI", uid) for tag, uid in above.items()},
        }
        found = self._found(identifier)
        rows = (texts_of(Elements(one, Encoding.EXPLICIT), *wanted) for one in found)
        return [row for row in rows if is_uid(row[0])]

    def _found(self, identifier: Values) -> list[bytes]:
        """The matches of a query; Unreachable when there is no end of them."""
        asked = self._asked
        question = Question(encode(identifier, EXPLICIT_VR_LITTLE_ENDIAN), STUDY_ROOT_FIND)
        with self._ledger.asking(self._archive, question):
            send(asked, C_FIND_RQ, STUDY_ROOT_FIND, identifier)
            found = list(islice(_answers(asked, C_FIND_RQ), _MOST_ANSWERS))
        if len(found) == _MOST_ANSWERS:
            raise Unreachable(f"{asked.line.name} has more than {_MOST_ANSWERS} answers to a query")
        return found


def send(
    asked: Requested, field: int, sop_class: str, identifier: Values, *more: tuple[int, str]
) -> None:
    """Send a request for what ``identifier`` says."""
    line = asked.line
    elements: tuple[tuple[int, str | int], ...] = (
        (SOP_CLASS_UID, sop_class),
        (MESSAGE_ID, 1),
        (PRIORITY, MEDIUM),
        *more,
    )
    context_id = line.context_of(sop_class)
    assert context_id is not None  # ``associated`` has seen it
    data_set = encode(identifier, EXPLICIT_VR_LITTLE_ENDIAN)
    request = write_request(context_id, field, elements, has_data_set=True)
    line.send(request + write_data_set(context_id, data_set, line.pdu_bytes))


def _answers(asked: Requested, field: int) -> Iterator[bytes]:
    """The data sets of the pending responses; _Failed when the last one tells of failure."""
    while (message := asked.response_to(field)).command.status in PENDING:
        yield message.data_set
    if message.command.status != SUCCESS:
        raise _Failed(f"{asked.line.name} answers with {told(message.command)}")


def told(final: Command) -> str:
    """What the last response says: its status, and how many instances are affected."""
    if (counts := final.counts) is None:
        return f"status {final.status:#06x}"
    all_of_them = counts.remaining + counts.completed + counts.failed + counts.warning
    return f"status {final.status:#06x}, {counts.completed} of {all_of_them} instances sent"


def _held(data: bytes) -> Held | None:
    uid, count = texts_of(Elements(data, Encoding.EXPLICIT), STUDY_INSTANCE_UID, _INSTANCES)
    return Held(uid, int(count) if count.isdecimal() else None) if is_uid(uid) else None
