"""RAD-69, the client's side of RAD TF-2 4.69: many instances with one request."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import cast

from consumer.files import CompleteFile
from consumer.plan import Wanted
from consumer.report import Fault
from consumer.ways import Answer, Arrival, Desk, Loss, Remark, WayName
from metadata.catalogue import RegistryError
from metadata.identifiers import SUCCESS, WARNING
from soap.message import Spool
from transactions.iti_43 import DocumentRequest, RetrieveDocumentSetResponse
from transactions.rad_69 import RetrieveImagingDocumentSetRequest, SeriesRequest, StudyRequest

# Instances of one request: about 25 MB of CT, which is what a broken connection costs at
# most; the price of a request (a few milliseconds) vanishes beside it.
BATCH = 50

Retrieve = Callable[
    [str, RetrieveImagingDocumentSetRequest, Callable[[], Spool]], RetrieveDocumentSetResponse
]


class SoapWay:
    """``retrieve`` performs RAD-69 at an address; ``addresses`` are by Retrieve Location UID."""

    name = WayName.RAD69

    def __init__(
        self,
        retrieve: Retrieve,
        addresses: Mapping[str, str],
        transfer_syntaxes: Sequence[str],
        home_community_id: str | None,
    ) -> None:
        self._retrieve = retrieve
        self._addresses = addresses
        self._transfer_syntaxes = tuple(transfer_syntaxes)
        self._home = home_community_id

    def serves(self, wanted: Wanted) -> bool:
        """Whether the source has a RAD-69 address."""
        return wanted.source in self._addresses

    def batches(self, wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
        """Requests of BATCH instances of one source."""
        for _, instances in groupby(wanted, key=lambda one: one.source):
            of_source = list(instances)
            for start in range(0, len(of_source), BATCH):
                yield of_source[start : start + BATCH]

    def fetch(self, batch: Sequence[Wanted], desk: Desk) -> Generator[Answer, None, None]:
        """One request. Raises ConsumerError."""
        url = self._addresses[batch[0].source]
        response = self._retrieve(url, self._request(batch), desk.spool)
        yield from map(Remark, response.errors)
        sent = set()
        for document in response.documents:
            sent.add(document.request.document_unique_id)
            file = cast(CompleteFile, document.content)  # what a PartialFile makes of a part
            yield Arrival(document.request.document_unique_id, file)
        lost = [one.sop_instance_uid for one in batch if one.sop_instance_uid not in sent]
        yield from _explain(lost, response)

    def close(self) -> None:
        """The client is the caller's."""

    def _request(self, batch: Sequence[Wanted]) -> RetrieveImagingDocumentSetRequest:
        series = tuple(
            SeriesRequest(
                uid,
                tuple(
                    DocumentRequest(one.source, one.sop_instance_uid, self._home)
                    for one in instances
                ),
            )
            for uid, instances in groupby(batch, key=lambda one: one.series_instance_uid)
        )
        study = StudyRequest(batch[0].study_instance_uid, series)
        return RetrieveImagingDocumentSetRequest((study,), self._transfer_syntaxes)


def _explain(lost: Iterable[str], response: RetrieveDocumentSetResponse) -> Iterator[Loss]:
    """What was asked for and not sent, each with the error about it if any.

    RAD-69 names the instance in the error's location, gateways in its context.
    """
    located = {one.location: one for one in response.errors if one.severity != WARNING}
    claimed = response.status == SUCCESS
    silent = "the source claims success and did not send it" if claimed else _NOT_SENT
    for uid in lost:
        error = located.get(uid) or _about(uid, response.errors)
        if error:
            yield Loss(uid, Fault.REFUSED, error.code, error)
        else:
            yield Loss(uid, Fault.NOT_SENT, silent)


_NOT_SENT = "the source did not send it"


def _about(uid: str, errors: Iterable[RegistryError]) -> RegistryError | None:
    return next((one for one in errors if uid in one.context), None)
