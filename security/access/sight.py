"""What one user may see: the policy, the patients' choices, and who asks, in one value.

Rooms that show something are given a ``Sight`` with each request; without one (their own work, no
request) they see everything. A choice that cannot be read hides everything: its StorageError goes
up to whoever was asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from metadata.datatypes import CX, XCN
from metadata.identifiers import STUDY_INSTANCE_UID_REFERENCE
from metadata.model import DocumentEntry
from security.access.carried import CarriedChoices
from security.access.decision import Asker, Choices, Facts, Judge, Policy, permitted, spelled
from security.choices.store import ChoiceStore

# Format codes of consent documents: BPPC 1.x and its scanned variant (ITI TF-3 5.1.2.1.1).
CONSENT_FORMATS = (
    "urn:ihe:iti:bppc:2007^^1.3.6.1.4.1.19376.1.2.3",
    "urn:ihe:iti:bppc-sd:2007^^1.3.6.1.4.1.19376.1.2.3",
)


@dataclass(frozen=True, slots=True)
class Sight:
    """The sight of ``asker`` at a moment."""

    policy: Policy
    asker: Asker
    store: ChoiceStore
    carried: CarriedChoices
    now: datetime

    @property
    def reads_consents(self) -> bool:
        """Whether consent documents say anything here."""
        return bool(self.policy.consents)

    def choices(self, patients: Collection[str], acknowledged: Iterable[str]) -> Choices:
        """What holds for a patient, known by ``patients`` (CX), who has acknowledged these consent
        policies in documents that stand. Raises StorageError."""
        kept = self.store.holding(patients, self.now)
        opposed = any(self.policy.consents.get(one, False) for one in acknowledged)
        opposed = opposed or kept.opposed or self.carried.opposed(patients)
        return Choices(opposed, kept.treating, kept.masks)

    def judge(self, choices: Choices, patients: frozenset[str]) -> Judge:
        """Who judges the documents of a patient, known by ``patients``."""
        return Judge(self.policy, self.asker, choices, patients)

    def sees(self, choices: Choices, facts: Facts) -> bool:
        """Whether the document may be shown."""
        return permitted(self.policy, self.asker, choices, facts)


def policies_acknowledged(code: str) -> str:
    """The identifier of a consent policy in an event code ``id^^system`` (BPPC 5.1.2.1.1.1.2)."""
    return code.partition("^^")[0]


@lru_cache(maxsize=4096)  # the authors of a region who are in many documents
def person(name: str) -> str:
    """What an author (XCN) is compared by: his identifier with its authority, where it has one."""
    read = XCN(name)
    authority = str(read.assigning_authority)
    return f"{read.id}^^^{authority}" if read.id and authority else read.id


def facts_of(entry: DocumentEntry) -> Facts:
    """A document as rules see it, by its metadata; masks call it by its uniqueId or its study's."""
    patient = CX(str(entry.patient_id)).normalised() if entry.patient_id else None
    people = (author.person for author in entry.author if author.person is not None)
    return Facts(
        document=entry.unique_id or "",
        patients=frozenset([patient] if patient else ()),
        confidentiality=frozenset(map(spelled, entry.confidentiality_code)),
        authors=frozenset(filter(None, map(person, map(str, people)))),
        studies=frozenset(
            one.id for one in entry.reference_id_list if one.type == STUDY_INSTANCE_UID_REFERENCE
        ),
    )
