"""What of the registry one user may see.

A document that is hidden from a user is in no answer: not as an object, a reference, a member, nor
at the end of an association; nor is a SubmissionSet or Folder that holds nothing else, nor an
association that tells of one. What is hidden is not counted either. A registry that is asked
without a ``Sight`` shows everything.

What is not registered is judged as if it were: by the same statements, so that the time of an
answer does not tell of what is hidden. That is so of what is named, and of a patient who has
nothing. It is not of a patient with masks, each of which takes statements of its own, or with
several identifiers; nor of what only links lead to.

Judging takes one statement in the registry for the documents of an answer and their patients (two
where consent documents count), and one for the choices of each patient in the stores of both kinds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from sqlalchemy import Connection, Text, bindparam, func, literal_column, select, union_all

from metadata.datatypes import CXi
from metadata.identifiers import HAS_MEMBER, REPLACEMENTS, STUDY_INSTANCE_UID_REFERENCE
from registry.links import Link, linked_to
from registry.lookup import (
    NOWHERE,
    Located,
    keys_of,
    locate,
    locate_unique_ids,
    patients_around,
    rows_at,
)
from registry.schema import (
    APPROVED,
    ASSOCIATION,
    AUTHOR,
    CONFIDENTIALITY,
    DOCUMENT,
    EVENT,
    REFERENCE,
    association,
    attribute_value,
    document_entry,
    patient,
)
from security.access.decision import NOBODY, Choices, Facts, Judge
from security.access.sight import CONSENT_FORMATS, Sight, person, policies_acknowledged
from storage.operators import among
from storage.statement import Statement

_CONSENTS = Statement(
    select(patient.c.survivor, attribute_value.c.value)
    .join_from(patient, document_entry, document_entry.c.patient == patient.c.id)
    .join(
        attribute_value,
        (attribute_value.c.patient == document_entry.c.patient)
        & (attribute_value.c.entry_uuid == document_entry.c.entry_uuid),
    )
    .where(
        among(patient.c.survivor, "survivors"),
        among(document_entry.c.format_code, "formats"),
        document_entry.c.status == APPROVED,
        attribute_value.c.attribute == EVENT,
    )
)
# Between the values of a document: no XML holds it (XML 1.0, 2.2).
_SEPARATOR = "\x1f"
# Of patients all their identifiers, a row for each, and of documents what rules look at, in one
# text that others share: in every answer both.
_TOLD = Statement(
    union_all(
        select(patient.c.survivor, patient.c.id).where(among(patient.c.survivor, "survivors")),
        select(
            attribute_value.c.entry_uuid,
            func.aggregate_strings(
                attribute_value.c.attribute + literal_column("'='", Text) + attribute_value.c.value,
                # A text would be put into the statement each time it is run.
                literal_column(f"'{_SEPARATOR}'"),  # type: ignore[arg-type]
            ),
        )
        .where(
            among(attribute_value.c.patient, "patients"),
            among(attribute_value.c.entry_uuid, "ids"),
            # As constants they cost a tenth less than as a list.
            attribute_value.c.attribute.in_(
                [literal_column(f"'{one}'") for one in (CONFIDENTIALITY, AUTHOR)]
            ),
        )
        .group_by(attribute_value.c.patient, attribute_value.c.entry_uuid),
    )
)
# Texts kept read: documents of one author and confidentiality are alike.
_READ = 4096
# As a constant the attribute chooses the index of references.
_REFERRING = Statement(
    select(attribute_value.c.entry_uuid).where(
        among(attribute_value.c.patient, "patients"),
        attribute_value.c.attribute == literal_column(f"'{REFERENCE}'"),
        attribute_value.c.value == bindparam("reference"),
    )
)
_MEMBERS = Statement(
    select(association.c.source, association.c.target).where(
        among(association.c.patient, "patients"),
        among(association.c.source, "ids"),
        association.c.type == HAS_MEMBER,
    )
)
_ENDS = Statement(
    select(association.c.entry_uuid, association.c.source, association.c.target).where(
        among(association.c.patient, "patients"), among(association.c.entry_uuid, "ids")
    )
)


@dataclass(frozen=True, slots=True)
class _Known:
    """One patient, known by several identifiers, and who judges his documents."""

    patients: frozenset[str]
    judge: Judge


@dataclass(slots=True)
class Veil:
    """Hides from ``sight`` what it may not see, in one snapshot. Raises StorageError."""

    connection: Connection
    sight: Sight
    _known: dict[str, _Known] = field(default_factory=dict)
    _judged: dict[str, bool] = field(default_factory=dict)
    """By entryUUID: whether the object is hidden."""

    def links(self, links: list[Link]) -> list[Link]:
        """Those of which neither end is hidden."""
        hidden = self.hidden({end for link in links for end in (link.source, link.target)})
        return [link for link in links if link.source not in hidden and link.target not in hidden]

    def hidden_at(self, places: Collection[Located]) -> set[str]:
        """The same where it is known already where the objects are."""
        unknown = [place for place in places if place.entry_uuid not in self._judged]
        if unknown or not places:
            self._judge(unknown)
        return self.hidden([place.entry_uuid for place in places])

    def hidden(self, entry_uuids: Collection[str]) -> set[str]:
        """Those of some objects of any kind that are hidden."""
        unknown = [one for one in entry_uuids if one not in self._judged]
        if unknown:
            self._judge(locate(self.connection, unknown).values())
        return {one for one in entry_uuids if self._judged.get(one, False)}

    def unseen(self, entry_uuids: Collection[str], unique_ids: Collection[str]) -> set[str]:
        """Those of some documents, by one name or the other, that are hidden or not registered.

        A uniqueId is seen when some document that has it is.
        """
        named = {one: [one] for one in entry_uuids}
        for one in unique_ids:
            places = locate_unique_ids(self.connection, [one], DOCUMENT)
            named[one] = [place.entry_uuid for place in places]
        found = {entry_uuid for found in named.values() for entry_uuid in found}
        self.hidden(found or [NOWHERE.entry_uuid])
        return {
            name
            for name, found in named.items()
            if all(self._judged.get(one, True) for one in found)
        }

    def _judge(self, places: Collection[Located]) -> None:
        if not places:
            self._judge_documents([NOWHERE])
        kinds: defaultdict[str, list[Located]] = defaultdict(list)
        for place in places:
            kinds[place.kind].append(place)
        self._judge_documents(kinds.pop(DOCUMENT, []))
        self._judge_associations(kinds.pop(ASSOCIATION, []))
        self._judge_holders([place for found in kinds.values() for place in found])

    def _judge_documents(self, places: Collection[Located]) -> None:
        if not places:
            return
        new = {place.survivor for place in places if place.survivor not in self._known}
        told = self._told(places, new)
        self._learn({one: frozenset(told[one] or [one]) for one in sorted(new)})
        for place in places:
            known = self._known[place.survivor]
            codes, authors = _read(*told[place.entry_uuid])
            document = Facts(place.entry_uuid, known.patients, codes, authors)
            self._judged[place.entry_uuid] = not known.judge.permits(document)

    def _judge_associations(self, places: Collection[Located]) -> None:
        """One that a member of a set is, as the replacement of a document: by its ends."""
        rows = rows_at(self.connection, _ENDS, places)
        hidden = self.hidden({end for _, source, target in rows for end in (source, target)})
        for entry_uuid, source, target in rows:
            self._judged[entry_uuid] = source in hidden or target in hidden

    def _judge_holders(self, places: Collection[Located]) -> None:
        """SubmissionSets and Folders: hidden when all documents and folders in them are."""
        if not places:
            return
        at = {**keys_of(places), "patients": patients_around(self.connection, places)}
        members: defaultdict[str, set[str]] = defaultdict(set)
        for source, target in _MEMBERS.rows(self.connection, at):
            members[source].add(target)
        hidden = self.hidden({member for held in members.values() for member in held})
        for place in places:
            held = members[place.entry_uuid]
            self._judged[place.entry_uuid] = bool(held) and held <= hidden

    def _told(
        self, places: Collection[Located], survivors: Collection[str]
    ) -> Mapping[str, list[str]]:
        """By entryUUID what rules look at, and by survivor the identifiers of patients."""
        wanted = {**keys_of(places), "survivors": list(survivors)}
        told: defaultdict[str, list[str]] = defaultdict(list)
        for name, text in _TOLD.rows(self.connection, wanted):
            told[name].append(text)
        return told

    def _learn(self, new: Mapping[str, frozenset[str]]) -> None:
        """What holds for patients of whom nothing is known yet; each has these identifiers."""
        if not new:
            return
        consents: defaultdict[str, set[str]] = defaultdict(set)
        if self.sight.reads_consents:
            parameters = {"survivors": list(new), "formats": CONSENT_FORMATS}
            for survivor, code in _CONSENTS.rows(self.connection, parameters):
                consents[survivor].add(policies_acknowledged(code))
        for survivor, patients in new.items():
            said = self.sight.choices(patients, consents[survivor])
            judge = self.sight.judge(self._by_entry(said, patients), patients)
            self._known[survivor] = _Known(patients, judge)

    def _by_entry(self, choices: Choices, patients: Collection[str]) -> Choices:
        """The same with masked documents called by entryUUID: in all their versions, or all that
        tell of a study."""
        masks: dict[str, frozenset[str]] = {}
        for name, groups in choices.masks.items():
            for entry_uuid in self._versions(name) | self._of_study(name, patients):
                masks[entry_uuid] = masks.get(entry_uuid, NOBODY) | groups
        return Choices(choices.opposed, choices.treating, masks)

    def _versions(self, unique_id: str) -> set[str]:
        """A document and whatever has replaced it since: a mask is about what they tell."""
        found: set[str] = set()
        places = locate_unique_ids(self.connection, [unique_id], DOCUMENT)
        while places:
            found |= {place.entry_uuid for place in places}
            newer = {new for new, _ in linked_to(self.connection, places, REPLACEMENTS)} - found
            places = list(locate(self.connection, newer).values())
        return found

    def _of_study(self, study: str, patients: Collection[str]) -> set[str]:
        """The documents that refer to a study: its manifests in all their forms, its reports."""
        reference = CXi.of(study, STUDY_INSTANCE_UID_REFERENCE)
        at = {"patients": sorted(patients), "reference": reference}
        return {entry_uuid for (entry_uuid,) in _REFERRING.rows(self.connection, at)}


@lru_cache(_READ)
def _read(told: str = "") -> tuple[frozenset[str], frozenset[str]]:
    """The confidentiality codes and the authors of a document."""
    values: dict[str, list[str]] = {CONFIDENTIALITY: [], AUTHOR: []}
    for one in told.split(_SEPARATOR) if told else ():
        attribute, _, value = one.partition("=")
        values[attribute].append(value)
    authors = filter(None, map(person, values[AUTHOR]))
    return frozenset(values[CONFIDENTIALITY]), frozenset(authors)
