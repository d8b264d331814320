"""C-GET and C-MOVE, the user's side of PS3.4 C.4.2 and C.4.3 (RAD-16).

A series that is wanted whole is asked for as such, else its instances by their UIDs. Nothing is
believed of the final status: what has not come is not there. Whoever gives no last answer is asked
once more for what is missing: on a busy machine pynetdicom (3.0.4) leaves one answer in a thousand
associations unread. Instances of SOP classes that pynetdicom does not know come by C-GET alone.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import groupby

from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.uid import UID
from pynetdicom import Association, build_context, build_role

from consumer.applications import SILENCE_SECONDS, Application, Ourselves
from consumer.association import CONNECT_SECONDS, associate, end
from consumer.destination import Destination
from consumer.errors import ConsumerError, NoAnswer
from consumer.plan import Wanted
from consumer.portion import Final, Portion
from consumer.report import Fault
from consumer.ways import Answer, Arrival, Desk, Loss, WayName

STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")

# Instances of one request where no whole series is wanted: as in RAD-69 (consumer.soap_way).
BATCH = 50

# A source that gives no last answer is asked so many times.
ATTEMPTS = 2

# Seconds for a source to heed a C-CANCEL, before the association is ended.
CANCEL_SECONDS = 1.0

# Context IDs are the odd numbers below 256 (PS3.8 9.3.2.2); one is for the request itself.
_STORAGE_CONTEXTS = 127

# The Message ID of the only request of an association.
_REQUEST = 1

# Final statuses of a retrieval (PS3.4 Tables C.4-2, C.4-3; PS3.7 Annex C).
_SUCCESS, _SOME_FAILED, _PENDING = 0x0000, 0xB000, (0xFF00, 0xFF01)
_WORDS = {
    0x0122: "it does not offer this service",
    0x0124: "it does not allow this to us",
    0xA701: "it cannot count the matches",
    0xA702: "it could send nothing",
    0xA801: "it does not know our title",
    0xA900: "it does not understand the request",
    0xFE00: "it has cancelled",
}
_NO_SERVICE = 0x0122

Responses = Iterator[tuple[Dataset, Dataset | None]]


class _DicomWay(ABC):
    """What both have in common. ``peers`` are by Retrieve Location UID; ``silence`` in seconds."""

    name: WayName
    _model: UID
    """The SOP class of the request."""

    def __init__(
        self,
        peers: Mapping[str, Application],
        ourselves: Ourselves,
        transfer_syntaxes: Sequence[str],
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._peers = peers
        self._ourselves = ourselves
        self._transfer_syntaxes = list(transfer_syntaxes)
        self._silence = silence

    def serves(self, wanted: Wanted) -> bool:
        """Whether the source is a configured application entity."""
        return self._peer(wanted) is not None

    def batches(self, wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
        """A whole series, or parts of one, each of no more SOP classes than can be negotiated."""
        most = max(1, _STORAGE_CONTEXTS // len(self._transfer_syntaxes))
        for _, series in groupby(wanted, key=lambda one: (one.source, one.series_instance_uid)):
            instances = list(series)
            classes = _classes(instances)
            if _is_whole(instances) and len(classes) <= most:
                yield instances
                continue
            for first in range(0, len(classes), most):
                few = classes[first : first + most]
                yield from _parts([one for one in instances if one.sop_class_uid in few])

    def fetch(self, batch: Sequence[Wanted], desk: Desk) -> Generator[Answer, None, None]:
        """One request, and a second one if there is no last answer. Raises ConsumerError."""
        peer = self._peer(batch[0])
        assert peer is not None  # ``serves`` was asked before
        left = {one.sop_instance_uid: one for one in batch}
        for _ in range(ATTEMPTS):
            final = yield from self._ask(peer, left, desk)
            if final is not None:
                yield from _losses(left, final)
                return
            if not left or desk.stopping.is_set():
                return
        raise NoAnswer(f"{self.name} brought no answer from {peer.title}")

    def _peer(self, wanted: Wanted) -> Application | None:
        """By the source's identifier; else by the title in the manifest, if one peer has it."""
        if wanted.source in self._peers:
            return self._peers[wanted.source]
        titled = {one for one in self._peers.values() if one.title == wanted.retrieve_ae_title}
        return titled.pop() if len(titled) == 1 else None

    def _ask(
        self, peer: Application, left: dict[str, Wanted], desk: Desk
    ) -> Generator[Answer, None, Final | None]:
        """One request for what is ``left``, until its last answer, or silence."""
        portion = Portion(left, desk)
        wanted = list(left.values())
        with self._associated(peer, _classes(wanted), portion) as association:
            if not association.is_established:
                return Final(_NO_SERVICE) if association.is_rejected else None
            with self._asking(association, _identifier(wanted), portion):
                while (item := portion.take(self._silence)) is not None:
                    if isinstance(item, Final):
                        association.release()
                        return item
                    if isinstance(item, ConsumerError):
                        raise item
                    if isinstance(item, Arrival):
                        del left[item.sop_instance_uid]
                    yield item
        return None

    @contextmanager
    def _asking(
        self, association: Association, identifier: Dataset, portion: Portion
    ) -> Iterator[None]:
        """Ask in a thread of its own; whoever is not heard to the end is told so (C-CANCEL)."""
        ask = partial(self._responses, association, identifier)
        hearing = threading.Thread(target=_hear, args=(ask, portion), daemon=True)
        hearing.start()
        try:
            yield
        finally:
            portion.close()
            if hearing.is_alive() and association.is_established:
                with suppress(RuntimeError, ValueError):
                    association.send_c_cancel(_REQUEST, query_model=self._model)
                hearing.join(CANCEL_SECONDS)
            end(association)
            hearing.join(CONNECT_SECONDS)

    @abstractmethod
    def _associated(
        self, peer: Application, classes: Sequence[str], portion: Portion
    ) -> AbstractContextManager[Association]:
        """An association to ask over; what arrives is handed to ``portion``."""

    @abstractmethod
    def _responses(self, association: Association, identifier: Dataset) -> Responses:
        """What the source answers to the request."""


class GetWay(_DicomWay):
    """C-GET: what is asked for comes over the association that asks."""

    name = WayName.CGET
    _model = STUDY_ROOT_GET

    @contextmanager
    def _associated(
        self, peer: Application, classes: Sequence[str], portion: Portion
    ) -> Iterator[Association]:
        # One transfer syntax in each context, so that the source can send what it has as it is.
        contexts = [
            build_context(one, syntax) for one in classes for syntax in self._transfer_syntaxes
        ]
        yield associate(
            peer,
            self._ourselves.title,
            [build_context(STUDY_ROOT_GET), *contexts[:_STORAGE_CONTEXTS]],
            roles=[build_role(one, scp_role=True) for one in classes],
            make_sink=lambda _association, head: portion.sink(head),
            silence=self._silence,
        )

    def close(self) -> None:
        """Nothing is kept."""

    def _responses(self, association: Association, identifier: Dataset) -> Responses:
        return association.send_c_get(identifier, STUDY_ROOT_GET, _REQUEST)


class MoveWay(_DicomWay):
    """C-MOVE: what is asked for comes over associations that the source asks for."""

    name = WayName.CMOVE
    _model = STUDY_ROOT_MOVE

    def __init__(
        self,
        peers: Mapping[str, Application],
        ourselves: Ourselves,
        transfer_syntaxes: Sequence[str],
        silence: float = SILENCE_SECONDS,
    ) -> None:
        super().__init__(peers, ourselves, transfer_syntaxes, silence)
        applications = list(peers.values())
        self._destination = Destination(ourselves, applications, transfer_syntaxes, silence)

    def serves(self, wanted: Wanted) -> bool:
        """Whether the source is a configured application entity, and there is a port for us."""
        return self._ourselves.port is not None and super().serves(wanted)

    def close(self) -> None:
        """Listen no more."""
        self._destination.close()

    @contextmanager
    def _associated(
        self, peer: Application, classes: Sequence[str], portion: Portion
    ) -> Iterator[Association]:
        with self._destination.expecting(peer, classes, portion):
            yield associate(
                peer,
                self._ourselves.title,
                [build_context(STUDY_ROOT_MOVE)],
                make_sink=lambda _association, head: portion.sink(head),
                silence=self._silence,
            )

    def _responses(self, association: Association, identifier: Dataset) -> Responses:
        title = self._ourselves.title
        return association.send_c_move(identifier, title, STUDY_ROOT_MOVE, _REQUEST)


def _hear(ask: Callable[[], Responses], portion: Portion) -> None:
    """Ask, and hear every response: the last one, or that there is none, ends the portion."""
    try:
        portion.put(_last(ask(), portion))
    except ValueError:  # the context of the service was not accepted
        portion.put(Final(_NO_SERVICE))
    except RuntimeError:  # the association is gone
        portion.put(None)


def _last(responses: Responses, portion: Portion) -> Final | None:
    done = -1
    for response, identifier in responses:
        status = response.get("Status")
        if status is not None and status not in _PENDING:
            return Final(int(status), _failed(identifier))
        if _done(response) != done:  # whoever says "pending" and nothing else is silent
            done = _done(response)
            portion.hear()
    return None


def _done(response: Dataset) -> int:
    """How many sub-operations a response says have been tried."""
    kinds = ("Completed", "Failed", "Warning")
    return sum(int(response.get(f"NumberOf{kind}Suboperations") or 0) for kind in kinds)


def _failed(identifier: Dataset | None) -> frozenset[str]:
    named = None if identifier is None else identifier.get("FailedSOPInstanceUIDList")
    if named is None:
        return frozenset()
    return frozenset([named] if isinstance(named, str) else map(str, named))


def _losses(left: Mapping[str, Wanted], final: Final) -> Iterator[Loss]:
    """What was asked for and did not come, each with what the last answer says of it."""
    for uid in left:
        if final.status == _SUCCESS:
            yield Loss(uid, Fault.NOT_SENT, "the source claims success and did not send it")
        elif final.status == _SOME_FAILED and uid not in final.failed:
            yield Loss(uid, Fault.NOT_SENT, "the source did not send it")
        else:
            words = _WORDS.get(final.status, "it could not send it")
            yield Loss(uid, Fault.REFUSED, f"the source says {final.status:04X}, {words}")


def _classes(wanted: Sequence[Wanted]) -> list[str]:
    return sorted({one.sop_class_uid for one in wanted})


def _is_whole(wanted: Sequence[Wanted]) -> bool:
    return len(wanted) == wanted[0].series_size


def _parts(instances: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
    for start in range(0, len(instances), BATCH):
        yield instances[start : start + BATCH]


def _identifier(wanted: Sequence[Wanted]) -> Dataset:
    """What is asked for (PS3.4 C.4.2.1.4): a series, or instances of one."""
    level = "SERIES" if _is_whole(wanted) else "IMAGE"
    first = wanted[0]
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    _name(identifier, 0x0020000D, first.study_instance_uid)
    _name(identifier, 0x0020000E, first.series_instance_uid)
    if level == "IMAGE":
        _name(identifier, 0x00080018, [one.sop_instance_uid for one in wanted])
    return identifier


def _name(identifier: Dataset, tag: int, value: str | list[str]) -> None:
    """Devices make UIDs that are none; whoever made them knows them by these."""
    identifier.add(DataElement(tag, "UI", value, validation_mode=IGNORE))
