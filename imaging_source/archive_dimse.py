"""An archive that is asked by C-FIND and fetched from by C-MOVE (PS3.4 C.4.1, C.4.2, as user)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice

from imaging_source.archives import Held
from imaging_source.dimse import (
    C_FIND_RQ,
    C_MOVE_RQ,
    MESSAGE_ID,
    MOVE_DESTINATION,
    PRIORITY,
    SOP_CLASS_UID,
    write_data_set,
    write_request,
)
from imaging_source.elements import EXPLICIT_VR_LITTLE_ENDIAN, Elements, Encoding
from imaging_source.encoded import Values, encode
from imaging_source.guard import Limits
from imaging_source.header import is_uid
from imaging_source.query_retrieve.models import (
    QUERY_RETRIEVE_LEVEL,
    STUDY_INSTANCE_UID,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
)
from imaging_source.references import texts_of
from imaging_source.requestor import Peer, Requested, Unreachable
from imaging_source.service import SUCCESS

_STUDY_DATE = 0x00080020
_INSTANCES = 0x00201208
_SERIES_INSTANCE_UID = 0x0020000E
_SOP_INSTANCE_UID = 0x00080018
_PENDING = (0xFF00, 0xFF01)
_MEDIUM = 0

# An archive that reads from tape says nothing for minutes between two instances.
_LIMITS = Limits(idle_seconds=600.0)
# Answers of one query: more than any study has instances, or any archive studies in some days.
_MOST_ANSWERS = 200_000


class _Failed(Unreachable):
    """A query was answered with a status of failure; the association is as good as before."""


class DimseArchive:
    """The archive ``peer``, which knows us as ``own_title`` and where we listen."""

    def __init__(self, peer: Peer, own_title: str) -> None:
        self._peer = peer
        self._own_title = own_title

    @property
    def title(self) -> str:
        """See ``Archive``."""
        return self._peer.title

    @property
    def address(self) -> str:
        """See ``Archive``."""
        return f"{self._peer.host}:{self._peer.port}"

    @contextmanager
    def asking(self) -> Iterator[_Asking]:
        """See ``Archive``: one association for all questions."""
        with self._ask(STUDY_ROOT_FIND) as asked:
            yield _Asking(asked)

    def fetch(self, study: str) -> None:
        """See ``Archive``: it arrives at the receiver, on associations of the archive."""
        identifier: Values = {
            QUERY_RETRIEVE_LEVEL: ("CS", "STUDY"),
            STUDY_INSTANCE_UID: ("UI", study),
        }
        with self._ask(STUDY_ROOT_MOVE) as asked:
            destination = (MOVE_DESTINATION, self._own_title)
            _send(asked, C_MOVE_RQ, STUDY_ROOT_MOVE, identifier, destination)
            for _ in _answers(asked, C_MOVE_RQ):
                pass

    def _ask(self, sop_class: str) -> Requested:
        contexts = [(sop_class, EXPLICIT_VR_LITTLE_ENDIAN)]
        asked = Requested(self._peer, self._own_title, contexts, limits=_LIMITS)
        if not asked.line.contexts:
            with asked:
                raise Unreachable(f"{self.title} does not offer query and retrieve")
        return asked


class _Asking:
    """Questions on one association."""

    def __init__(self, asked: Requested) -> None:
        self._asked = asked

    def studies(self, first: str) -> list[Held]:
        """See ``Asking``."""
        identifier: Values = {
            QUERY_RETRIEVE_LEVEL: ("CS", "STUDY"),
            _STUDY_DATE: ("DA", f"{first}-"),
            STUDY_INSTANCE_UID: ("UI", ""),
            _INSTANCES: ("IS", ""),
        }
        found = map(_held, _found(self._asked, identifier))
        return [one for one in found if one is not None]

    def instances(self, study: str) -> set[str]:
        """See ``Asking``.

        Asked for at once, which many archives answer; else series by series, which all of them
        must (PS3.4 C.4.1.2.1). None where it refuses both.
        """
        of_study = {STUDY_INSTANCE_UID: study}
        with suppress(_Failed):
            if found := _uids(self._asked, "IMAGE", of_study, _SOP_INSTANCE_UID):
                return found
        found = set()
        with suppress(_Failed):
            for series in _uids(self._asked, "SERIES", of_study, _SERIES_INSTANCE_UID):
                of_series = {**of_study, _SERIES_INSTANCE_UID: series}
                found |= _uids(self._asked, "IMAGE", of_series, _SOP_INSTANCE_UID)
        return found


def _send(
    asked: Requested, field: int, sop_class: str, identifier: Values, *more: tuple[int, str]
) -> None:
    line = asked.line
    elements: tuple[tuple[int, str | int], ...] = (
        (SOP_CLASS_UID, sop_class),
        (MESSAGE_ID, 1),
        (PRIORITY, _MEDIUM),
        *more,
    )
    (context_id,) = line.contexts
    data_set = encode(identifier, EXPLICIT_VR_LITTLE_ENDIAN)
    request = write_request(context_id, field, elements, has_data_set=True)
    line.send(request + write_data_set(context_id, data_set, line.pdu_bytes))


def _answers(asked: Requested, field: int) -> Iterator[bytes]:
    """The data sets of the pending responses; _Failed when the last one tells of failure."""
    while (message := asked.response_to(field)).command.status in _PENDING:
        yield message.data_set
    if message.command.status != SUCCESS:
        text = f"{asked.line.name} answers with status {message.command.status:#06x}"
        raise _Failed(text)


def _found(asked: Requested, identifier: Values) -> list[bytes]:
    """The matches of a query; Unreachable when there is no end of them."""
    _send(asked, C_FIND_RQ, STUDY_ROOT_FIND, identifier)
    found = list(islice(_answers(asked, C_FIND_RQ), _MOST_ANSWERS))
    if len(found) == _MOST_ANSWERS:
        raise Unreachable(f"{asked.line.name} has more than {_MOST_ANSWERS} answers to a query")
    return found


def _uids(asked: Requested, level: str, above: Mapping[int, str], wanted: int) -> set[str]:
    """The unique keys of a level below those ``above``."""
    identifier: Values = {
        QUERY_RETRIEVE_LEVEL: ("CS", level),
        wanted: ("UI", ""),
        **{tag: ("UI", uid) for tag, uid in above.items()},
    }
    told = (texts_of(Elements(one, Encoding.EXPLICIT), wanted) for one in _found(asked, identifier))
    return {uid for (uid,) in told if is_uid(uid)}


def _held(data: bytes) -> Held | None:
    uid, count = texts_of(Elements(data, Encoding.EXPLICIT), STUDY_INSTANCE_UID, _INSTANCES)
    return Held(uid, int(count) if count.isdecimal() else None) if is_uid(uid) else None
