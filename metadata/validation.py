"""Every rule of a submission that needs no store: attributes, vocabulary, structure, patient.

Covers ITI TF-2 3.42.4.1.3.3 and ITI TF-3 4.2, 4.3.1 as far as one message can show it:
identifiers, required attributes and data types, code sets of the affinity domain, the
SubmissionSet and what it contains, patient ids, unique ids, associations
(``metadata.structure``). What a store must decide (known patients, registered ids,
deprecated targets) belongs to the registry. On-Demand entries (ITI-61, 3.61.4) obey the same
rules but for what only a document that exists can say. The objects of an update (ITI-57, ITI-92)
owe what those of a registration owe; what they owe each other is told by the operations they ask
for (``registry.update``).

The standard's *should* rules are not faults: which PID fields sourcePatientInfo holds, one
confidentiality code of HL7, the presence of an author.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from metadata import catalogue as rules
from metadata.affinity_domain import AffinityDomain
from metadata.attributes import (
    ALL,
    AUTHOR_SLOTS,
    FREE_FORM_TEXT,
    KINDS,
    LONG_NAME,
    REGISTRY,
    Attribute,
    Carrier,
    Check,
    Kind,
)
from metadata.attributes import ON_DEMAND as ON_DEMAND_TRANSACTION
from metadata.catalogue import Fault
from metadata.datatypes import LocalizedString
from metadata.identifiers import ON_DEMAND, STABLE
from metadata.model import AnyObject, Author, Code, DocumentEntry, Submission, SubmissionSet
from metadata.structure import package_faults, structure_faults

# The transactions that send further versions of what is registered.
UPDATES = frozenset({"ITI-57", "ITI-92"})


def validate_submission(
    submission: Submission, domain: AffinityDomain, transaction: str = "ITI-42"
) -> list[Fault]:
    """Every fault of the submission, those found while reading it included.

    ``transaction`` is "ITI-42" or "ITI-61" for what a registry demands of Stable or On-Demand
    entries, "ITI-57" or "ITI-92" for what it demands of an update, or "ITI-41" for what a document
    source must send. A list holding only warnings (``Fault.rule.is_warning``) is a success.
    """
    faults = list(submission.faults)
    for obj in submission.objects():
        _CHECKS[type(obj)].run(obj, domain, transaction, faults)
    if transaction in UPDATES:
        package_faults(submission, faults)
    else:
        structure_faults(submission, faults)
    if transaction == ON_DEMAND_TRANSACTION and not submission.documents:
        faults.append(Fault(rules.NO_ON_DEMAND_ENTRY, _name(submission)))
    return faults


def _name(submission: Submission) -> str:
    return next((one.entry_uuid for one in submission.submission_sets), "the submission")


def _column(transaction: str, obj: AnyObject) -> str:
    """Whose optionality an object must meet: an update sends whole ones, as a registration does."""
    if transaction not in UPDATES:
        return transaction
    on_demand = isinstance(obj, DocumentEntry) and obj.object_type == ON_DEMAND
    return ON_DEMAND_TRANSACTION if on_demand else REGISTRY


class _KindChecks:
    """The table of one kind, arranged for checking."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.required = {
            transaction: [row for row in kind.attributes if transaction in row.required]
            for transaction in ALL
        }
        self.forbidden = {
            transaction: [row for row in kind.attributes if transaction in row.forbidden]
            for transaction in ALL
        }
        self.texts = _text_rows(kind.attributes)
        self.codes = kind.carried_by(Carrier.CODE)
        self.authors = kind.carried_by(Carrier.AUTHOR)

    def run(
        self, obj: AnyObject, domain: AffinityDomain, transaction: str, faults: list[Fault]
    ) -> None:
        owner = obj.entry_uuid
        column = _column(transaction, obj)
        for row in self.required[column]:
            if not getattr(obj, row.field):
                faults.append(Fault(rules.ATTRIBUTE_REQUIRED, owner, attribute=row.name))
        for row in self.forbidden[column]:
            if getattr(obj, row.field):
                faults.append(Fault(rules.ATTRIBUTE_FORBIDDEN, owner, attribute=row.name))
        _check_texts(obj, self.texts, owner, faults)
        for row in self.codes:
            value = getattr(obj, row.field)
            if value:
                _check_codes(value if row.many else (value,), row, owner, domain, faults)
        for row in self.authors:
            for author in getattr(obj, row.field):
                _check_author(author, owner, faults)
        if obj.extra_slots:
            _check_extra_slots(obj, faults)
        if isinstance(obj, DocumentEntry):
            _check_document(obj, domain, column, faults)
        elif isinstance(obj, SubmissionSet):
            _check_source(obj, domain, faults)
        self._check_ids(obj, domain, transaction, faults)

    def _check_ids(
        self, obj: Any, domain: AffinityDomain, transaction: str, faults: list[Fault]
    ) -> None:
        owner = obj.entry_uuid
        if not owner:
            faults.append(Fault(rules.ID_MISSING, owner, kind=self.kind.name))
        if "lid" not in self.kind.xml:
            return  # an Association has neither versions nor a patient
        if obj.limited_metadata:
            faults.append(Fault(rules.LIMITED_METADATA, owner, kind=self.kind.name))
        versioned = transaction in UPDATES and not isinstance(obj, SubmissionSet)
        if obj.logical_id is not None and obj.logical_id != owner and not versioned:
            faults.append(Fault(rules.LOGICAL_ID, owner, kind=self.kind.name, value=obj.logical_id))
        patient = obj.patient_id
        if patient is None or patient.problem() is not None:
            return  # reported already
        authority = domain.assigning_authority
        if patient.assigning_authority.universal_id != authority.universal_id:
            faults.append(Fault(rules.PATIENT_AUTHORITY, owner, value=patient, expected=authority))


# --- Attributes ------------------------------------------------------------------------------

# Texts of an attribute whose verdict is remembered: a few hundred KB for all attributes.
REMEMBERED_TEXTS = 512

_TEXTS = (Carrier.XML, Carrier.SLOT, Carrier.NAME, Carrier.DESCRIPTION, Carrier.IDENTIFIER)


def _type_check(row: Attribute) -> Check | None:
    """What judges a text of this attribute: its own check, or that of its data type."""
    if row.check is not None or row.type is str:
        return row.check
    if row.type is LocalizedString:
        return _language_problem
    make: Callable[[str], Any] = row.type

    # Who writes, from which house, when: the same few texts, several times in a message and again
    # in the next one.
    @lru_cache(REMEMBERED_TEXTS)
    def problem(text: str) -> str | None:
        found: str | None = make(text).problem()
        return found

    return problem


def _language_problem(text: str) -> str | None:
    """What is wrong with the language of a text, which is not part of its characters."""
    return text.problem() if isinstance(text, LocalizedString) else None


def _text_rows(rows: tuple[Attribute, ...]) -> list[tuple[Attribute, Check | None]]:
    return [(row, _type_check(row)) for row in rows if row.carrier in _TEXTS]


_AUTHOR_ROWS = _text_rows(tuple(AUTHOR_SLOTS.values()))


def _check_texts(
    target: Any, rows: list[tuple[Attribute, Check | None]], owner: str, faults: list[Fault]
) -> None:
    for row, check in rows:
        value = getattr(target, row.field)
        if not value:
            continue
        for text in value if row.many else (value,):
            if len(text) > row.limit:
                faults.append(_too_long(row.name, text, row.limit, owner))
            if check is not None and (problem := check(text)):
                faults.append(_wrong_type(row.name, text, problem, owner))


def _wrong_type(name: str, text: str, problem: str, owner: str) -> Fault:
    return Fault(rules.ATTRIBUTE_TYPE, owner, attribute=name, value=text, problem=problem)


def _too_long(name: str, text: str, limit: int, owner: str) -> Fault:
    return Fault(
        rules.ATTRIBUTE_LENGTH, owner, attribute=name, value=text, length=len(text), limit=limit
    )


def _check_codes(
    codes: tuple[Code, ...] | list[Code],
    row: Attribute,
    owner: str,
    domain: AffinityDomain,
    faults: list[Fault],
) -> None:
    for code in codes:
        if not code.code or not code.scheme:
            continue  # reported when it was read
        _check_code_texts(code, row.name, owner, faults)
        if not domain.allows_code(row.vocabulary, code):
            faults.append(
                Fault(
                    rules.CODE_NOT_ALLOWED,
                    owner,
                    attribute=row.name,
                    value=code.code,
                    scheme=code.scheme,
                    remedy=domain.code_remedy(row.vocabulary, code),
                )
            )


def _check_code_texts(code: Code, name: str, owner: str, faults: list[Fault]) -> None:
    """A code is returned as it came, so it must be what the schema lets us return."""
    for text, limit in (
        (code.code, LONG_NAME),
        (code.scheme, LONG_NAME),
        (code.display_name, FREE_FORM_TEXT),
    ):
        if len(text) > limit:
            faults.append(_too_long(name, text, limit, owner))
    if problem := _language_problem(code.display_name):
        faults.append(_wrong_type(name, code.display_name, problem, owner))


def _check_author(author: Author, owner: str, faults: list[Fault]) -> None:
    if not (author.person or author.institution or author.telecommunication):
        faults.append(Fault(rules.AUTHOR_EMPTY, owner))
    _check_texts(author, _AUTHOR_ROWS, owner, faults)


def _check_extra_slots(obj: AnyObject, faults: list[Fault]) -> None:
    for name, values in obj.extra_slots.items():
        if not name.startswith("urn:") or name.startswith("urn:ihe:"):
            faults.append(Fault(rules.SLOT_NAME, obj.entry_uuid, slot=name))
        if len(name) > LONG_NAME:
            faults.append(_too_long("the name of a Slot", name, LONG_NAME, obj.entry_uuid))
        faults += [
            _too_long(f"Slot {name}", value, LONG_NAME, obj.entry_uuid)
            for value in values
            if len(value) > LONG_NAME
        ]


# --- One DocumentEntry, one SubmissionSet ------------------------------------------------------


def _check_document(
    entry: DocumentEntry, domain: AffinityDomain, column: str, faults: list[Fault]
) -> None:
    owner = entry.entry_uuid
    kind, mime_type, language = entry.object_type, entry.mime_type, entry.language_code
    expected = ON_DEMAND if column == ON_DEMAND_TRANSACTION else STABLE
    if kind and kind != expected:
        faults.append(Fault(rules.OBJECT_TYPE_NOT_ALLOWED, owner, value=kind, expected=expected))
    if mime_type and not domain.allows_mime_type(mime_type):
        remedy = domain.mime_type_remedy()
        faults.append(Fault(rules.MIME_TYPE_NOT_ALLOWED, owner, value=mime_type, remedy=remedy))
    if language and not domain.allows_language(language):
        remedy = domain.language_remedy()
        faults.append(Fault(rules.LANGUAGE_NOT_ALLOWED, owner, value=language, remedy=remedy))
    start, stop = entry.service_start_time, entry.service_stop_time
    if start and stop and not start.problem() and not stop.problem():
        common = min(start.precision, stop.precision)
        if start[:common] > stop[:common]:
            faults.append(Fault(rules.SERVICE_TIMES, owner, start=start, stop=stop))
    if entry.source_patient_info:
        _check_source_patient_info(entry, faults)


_PID_FIELD = re.compile(r"PID-([1-9][0-9]?)\|")
_ONCE = frozenset({"7", "8"})  # date of birth and sex do not repeat


def _check_source_patient_info(entry: DocumentEntry, faults: list[Fault]) -> None:
    seen: set[str] = set()
    for value in entry.source_patient_info:
        match = _PID_FIELD.match(value)
        problem = None
        if match is None:
            problem = "expected PID-n|value, such as PID-8|F"
        elif match[1] in _ONCE and (match[1] in seen or "~" in value):
            problem = f"PID-{match[1]} may be given once"
        elif match[1] == "5" and not _names_are_typed(value[match.end() :]):
            problem = "with several names, each needs component 7 (name type) or 8"
        if match is not None:
            seen.add(match[1])
        if problem:
            faults.append(
                Fault(rules.SOURCE_PATIENT_INFO, entry.entry_uuid, value=value, problem=problem)
            )


def _names_are_typed(names: str) -> bool:
    repetitions = names.split("~")
    return len(repetitions) == 1 or all(any(name.split("^")[6:8]) for name in repetitions)


def _check_source(entry: SubmissionSet, domain: AffinityDomain, faults: list[Fault]) -> None:
    source = entry.source_id
    if source and not domain.allows_source(source):
        faults.append(Fault(rules.SOURCE_NOT_PERMITTED, entry.entry_uuid, value=source))


_CHECKS = {model: _KindChecks(kind) for model, kind in KINDS.items()}
