"""Withdrawing the manifest of a study that has no image left to show.

Covers the option Remove Imaging Document (RAD TF-1 18.2.5): the entry goes by Remove Metadata
(ITI-62), with every earlier one of the study, or where the registry does not allow it is
deprecated without a successor (Update Document Set, ITI-57). The document itself stays in its
repository, where nothing refers to it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lxml import etree

from imaging_source.outbox import Kind, Publication
from metadata.identifiers import APPROVED, DEPRECATED
from metadata.model import Submission, SubmissionSet
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_57 import change_status
from transactions.iti_62 import RemoveObjectsRequest
from transactions.registry_response import RegistryResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """How entries are withdrawn, and by whom.

    ``update`` and ``remove`` send ITI-57 and ITI-62 and return the answer; ``around`` asks the
    registry for all that must go with some entries: those of them that it still has, their
    associations and submission sets. Whatever they raise means "outcome unknown".
    """

    kind: Kind
    update: Callable[[SubmitObjectsRequest], RegistryResponse]
    remove: Callable[[RemoveObjectsRequest], RegistryResponse]
    around: Callable[[Sequence[str]], Sequence[str]]

    def message(self, entries: Sequence[Sequence[str]], submission_set: SubmissionSet) -> bytes:
        """What the row keeps: ``entries`` are the study's, those in force last."""
        if self.kind is Kind.REMOVAL:
            return " ".join(name for names in entries for name in names).encode()
        return etree.tostring(_deprecation(entries[-1], submission_set).element)

    def send(self, publication: Publication) -> RegistryResponse:
        """Do what the row says; once more is harmless."""
        if publication.kind is Kind.DEPRECATION:
            return self.update(SubmitObjectsRequest(etree.fromstring(publication.metadata)))
        going = self.around(_entries(publication))
        return self.remove(RemoveObjectsRequest(going)) if going else RegistryResponse.of()

    def is_done(self, publication: Publication) -> bool:
        """Whether the registry no longer has what a removal names."""
        return not self.around(_entries(publication))


def _deprecation(names: Sequence[str], submission_set: SubmissionSet) -> SubmitObjectsRequest:
    """The request that deprecates every family of a manifest at once."""
    changes = [
        change
        for name in names
        for change in change_status(
            name, APPROVED, DEPRECATED, submission_set
        ).submission.associations
    ]
    named = [replace(one, entry_uuid=f"change{n}") for n, one in enumerate(changes)]
    return SubmitObjectsRequest.of(Submission([submission_set], associations=named))


def _entries(publication: Publication) -> list[str]:
    return publication.metadata.decode().split()
