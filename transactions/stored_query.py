"""What a request of a stored query means, and how to ask one: both by the same tables.

Covers ITI TF-2 3.18.4.1.2.3: coding of values, AND and OR, required and alternative
parameters. The queries are listed in ``transactions.query_catalogue``, their wire format is
in ``transactions.iti_18``; running them is the registry's affair.

A filter that may be repeated (event code, confidentiality code, reference id) takes either
values, any of which may match, or groups of values, one of each of which must.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, TypeVar, Unpack, cast

from metadata import catalogue as rules
from metadata.catalogue import Fault, Rule
from metadata.datatypes import CX, DTM
from metadata.identifiers import APPROVED, DEPRECATED, STABLE
from metadata.model import Code
from transactions.iti_18 import LEAF_CLASS, OBJECT_REF, AdhocQueryRequest
from transactions.query_catalogue import (
    FIND_DOCUMENTS,
    FIND_DOCUMENTS_BY_REFERENCE_ID,
    FIND_SUBMISSION_SETS,
    GET_ASSOCIATIONS,
    GET_DOCUMENTS,
    GET_SUBMISSION_SET_AND_CONTENTS,
    STORED_QUERIES,
    Kind,
    Parameter,
    StoredQuery,
)
from transactions.query_values import BadCoding, quote, read_value, write_lists

Criterion = tuple[tuple[str, ...], ...]
CodeCriterion = tuple[tuple[Code, ...], ...]

Value = TypeVar("Value", str, Code)
AnyOf = Sequence[Value]
AllOf = Sequence[Value] | Sequence[Sequence[Value]]


@dataclass(frozen=True, slots=True)
class DecodedQuery:
    """What a request means: every parameter's values as AND of ORs, keyed by parameter key."""

    query: StoredQuery
    leaf_class: bool
    home: str | None
    text_criteria: Mapping[str, Criterion]
    code_criteria: Mapping[str, CodeCriterion]

    @property
    def patient_id(self) -> CX | None:
        """The patient the query is about, if it names one."""
        value = self.text("patient_id")
        return None if value is None else CX(value)

    def text(self, key: str) -> str | None:
        """The value of a single-valued parameter, None when absent."""
        groups = self.text_criteria.get(key)
        return groups[0][0] if groups else None

    def time(self, key: str) -> DTM | None:
        """The value of a time parameter, None when absent."""
        value = self.text(key)
        return None if value is None else DTM(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """The values of a parameter, any of which may match; empty when absent."""
        groups = self.text_criteria.get(key)
        return groups[0] if groups else ()

    def text_groups(self, key: str) -> Criterion:
        """The groups of a conjunctive parameter: one of each must match; empty when absent."""
        return self.text_criteria.get(key, ())

    def codes(self, key: str) -> tuple[Code, ...]:
        """The codes of a parameter, any of which may match; empty when absent."""
        groups = self.code_criteria.get(key)
        return groups[0] if groups else ()

    def code_groups(self, key: str) -> CodeCriterion:
        """The groups of a conjunctive coded parameter; empty when absent."""
        return self.code_criteria.get(key, ())


_KNOWN_STATUSES = frozenset({APPROVED, DEPRECATED})


def decode(request: AdhocQueryRequest) -> DecodedQuery | list[Fault]:
    """What the request means, or everything that is wrong with it.

    Unknown parameters and unknown statuses are ignored, as the standard wants.
    """
    query = STORED_QUERIES.get(request.query_id.lower())
    if query is None:
        return [Fault(rules.UNKNOWN_STORED_QUERY, request.query_id)]
    return decode_as(query, request)


def decode_as(query: StoredQuery, request: AdhocQueryRequest) -> DecodedQuery | list[Fault]:
    """What the request means when it asks ``query``, or everything that is wrong with it."""
    decoder = _Decoder(query)
    decoder.check_return_type(request.return_type)
    sent: dict[str, list[Sequence[str]]] = {}
    for slot, values in request.parameters:
        sent.setdefault(slot, []).append(values)
    for parameter in query.parameters:
        slots = sent.get(parameter.slot)
        if slots and any(slots):
            decoder.take(parameter, slots)
        else:
            decoder.do_without(parameter)
    decoder.check_alternatives()
    if decoder.faults:
        return decoder.faults
    leaf_class = request.return_type == LEAF_CLASS
    return DecodedQuery(query, leaf_class, request.home, decoder.texts, decoder.codes)


class _Decoder:
    """Collects the criteria and the faults of one request, parameter by parameter."""

    def __init__(self, query: StoredQuery) -> None:
        self.query = query
        self.texts: dict[str, Criterion] = {}
        self.codes: dict[str, CodeCriterion] = {}
        self.faults: list[Fault] = []
        self.given: set[str] = set()  # keys of the parameters sent, rightly or wrongly

    def check_return_type(self, return_type: str) -> None:
        """LeafClass or ObjectRef; the schema knows two more, which ITI-18 does not."""
        if return_type not in (LEAF_CLASS, OBJECT_REF):
            self._fault(rules.RETURN_TYPE, value=return_type)

    def check_alternatives(self) -> None:
        """Exactly one of the alternatives must have been given."""
        parameters = [one for one in self.query.parameters if one.key in self.query.alternatives]
        given = sum(one.key in self.given for one in parameters)
        if parameters and given != 1:
            slots = ", ".join(one.slot for one in parameters)
            rule = rules.ALTERNATIVES_BOTH if given else rules.ALTERNATIVE_MISSING
            self._fault(rule, parameters=slots)

    def take(self, parameter: Parameter, slots: Sequence[Sequence[str]]) -> None:
        """Decode the slots that carry ``parameter``."""
        self.given.add(parameter.key)
        try:
            groups = [group for values in slots if (group := _literals(values))]
            if self._right_number(parameter, groups):
                self._keep(parameter, groups)
        except BadCoding as error:
            self._fault(
                rules.PARAMETER_CODING,
                parameter=parameter.slot,
                value=error.value,
                problem=error.problem,
            )

    def do_without(self, parameter: Parameter) -> None:
        """What it means that ``parameter`` was not sent."""
        if parameter.required:
            self._fault(rules.PARAMETER_MISSING, parameter=parameter.slot)
        elif parameter.kind is Kind.TYPE:
            self.texts[parameter.key] = ((STABLE,),)

    def _right_number(self, parameter: Parameter, groups: Sequence[Sequence[str]]) -> bool:
        """Whether the parameter is sent no more often, and with no more values, than it may."""
        if len(groups) > 1 and not parameter.conjunctive:
            self._fault(rules.PARAMETER_REPEATED, parameter=parameter.slot)
            return False
        if len(groups[0]) > 1 and not parameter.multiple:
            count = len(groups[0])
            self._fault(rules.PARAMETER_VALUES, parameter=parameter.slot, count=count)
            return False
        return True

    def _keep(self, parameter: Parameter, groups: Sequence[Sequence[str]]) -> None:
        """Keep the values as what they are; raises BadCoding for one that is not."""
        if parameter.kind is Kind.CODE:
            self.codes[parameter.key] = tuple(tuple(map(_code, group)) for group in groups)
        elif parameter.kind is Kind.STATUS:
            self._keep_statuses(parameter, groups[0])
        else:
            if parameter.kind in (Kind.FROM, Kind.TO):
                _check_time(groups[0][0])
            self.texts[parameter.key] = tuple(map(tuple, groups))

    def _keep_statuses(self, parameter: Parameter, statuses: Sequence[str]) -> None:
        known = tuple(status for status in statuses if status in _KNOWN_STATUSES)
        if known:
            self.texts[parameter.key] = (known,)
        else:
            value = ", ".join(statuses)
            self._fault(rules.STATUS_UNKNOWN, parameter=parameter.slot, value=value)

    def _fault(self, rule: Rule, **details: object) -> None:
        self.faults.append(Fault(rule, self.query.name, **details))


def _literals(values: Iterable[str]) -> list[str]:
    """The literals of one slot: a list may continue from Value to Value."""
    return [literal for value in values for literal in read_value(value)]


def _code(literal: str) -> Code:
    match literal.split("^"):
        case [code, "", scheme] if code and scheme:
            return Code(code, scheme)
    raise BadCoding(literal, "expected code^^codingScheme, both parts filled in")


def _check_time(literal: str) -> None:
    if problem := DTM(literal).problem():
        raise BadCoding(literal, problem)


class ContentFilters(TypedDict, total=False):
    """What narrows the documents of a container; ``type`` is the objectType."""

    format_code: AnyOf[Code]
    confidentiality_code: AllOf[Code]
    type: AnyOf[str]


class DocumentFilters(ContentFilters, total=False):
    """What narrows a search for documents.

    ``status`` is Approved when absent; times are DTM, the upper bound excluded;
    ``author_person`` are patterns.
    """

    status: AnyOf[str]
    class_code: AnyOf[Code]
    type_code: AnyOf[Code]
    practice_setting_code: AnyOf[Code]
    healthcare_facility_type_code: AnyOf[Code]
    event_code_list: AllOf[Code]
    creation_time_from: str
    creation_time_to: str
    service_start_time_from: str
    service_start_time_to: str
    service_stop_time_from: str
    service_stop_time_to: str
    author_person: AnyOf[str]


class SubmissionSetFilters(TypedDict, total=False):
    """What narrows a search for submission sets; ``author_person`` is a pattern."""

    status: AnyOf[str]
    source_id: AnyOf[str]
    submission_time_from: str
    submission_time_to: str
    author_person: str
    content_type: AnyOf[Code]


def find_documents(
    patient_id: str, *, return_type: str = LEAF_CLASS, **filters: Unpack[DocumentFilters]
) -> AdhocQueryRequest:
    """FindDocuments: the documents of a patient (3.18.4.1.2.3.7.1)."""
    given = {"patient_id": patient_id, "status": [APPROVED], **filters}
    return encode(FIND_DOCUMENTS, given, return_type)


def find_documents_by_reference_id(
    patient_id: str,
    reference_id_list: AllOf[str],
    *,
    return_type: str = LEAF_CLASS,
    **filters: Unpack[DocumentFilters],
) -> AdhocQueryRequest:
    """FindDocumentsByReferenceId: those that refer to an order, a study ... (...7.14)."""
    given = {
        "patient_id": patient_id,
        "status": [APPROVED],
        "reference_id_list": reference_id_list,
        **filters,
    }
    return encode(FIND_DOCUMENTS_BY_REFERENCE_ID, given, return_type)


def find_submission_sets(
    patient_id: str, *, return_type: str = LEAF_CLASS, **filters: Unpack[SubmissionSetFilters]
) -> AdhocQueryRequest:
    """FindSubmissionSets: what was submitted for a patient (3.18.4.1.2.3.7.2)."""
    given = {"patient_id": patient_id, "status": [APPROVED], **filters}
    return encode(FIND_SUBMISSION_SETS, given, return_type)


def get_documents(
    *,
    entry_uuid: AnyOf[str] = (),
    unique_id: AnyOf[str] = (),
    return_type: str = LEAF_CLASS,
    home: str | None = None,
) -> AdhocQueryRequest:
    """GetDocuments: entries by their entryUUID or their uniqueId, not both (...7.5)."""
    given = {"entry_uuid": entry_uuid, "unique_id": unique_id}
    return encode(GET_DOCUMENTS, given, return_type, home)


def get_associations(
    uuid: AnyOf[str], *, return_type: str = LEAF_CLASS, home: str | None = None
) -> AdhocQueryRequest:
    """GetAssociations: what links the objects with these entryUUIDs to others (...7.7)."""
    return encode(GET_ASSOCIATIONS, {"uuid": uuid}, return_type, home)


def get_submission_set_and_contents(
    *,
    entry_uuid: str = "",
    unique_id: str = "",
    return_type: str = LEAF_CLASS,
    home: str | None = None,
    **filters: Unpack[ContentFilters],
) -> AdhocQueryRequest:
    """GetSubmissionSetAndContents, by the entryUUID or the uniqueId, not both (...7.10)."""
    given = {"entry_uuid": entry_uuid, "unique_id": unique_id, **filters}
    return encode(GET_SUBMISSION_SET_AND_CONTENTS, given, return_type, home)


def encode(
    query: StoredQuery,
    given: Mapping[str, object],
    return_type: str = LEAF_CLASS,
    home: str | None = None,
) -> AdhocQueryRequest:
    """The request that asks ``query`` with these values, keyed by parameter key.

    A value is one text or Code, a sequence of them, or a sequence of sequences; what is empty
    is left out. Nothing is checked: a wrong request is for the registry to refuse.
    """
    slots = []
    for parameter in query.parameters:
        for group in _groups(given.get(parameter.key)):
            slots.append((parameter.slot, _values(parameter, group)))
    return AdhocQueryRequest(query.id, return_type, slots, home)


def _groups(value: object) -> list[list[str | Code]]:
    """``value`` as AND of ORs."""
    if not value:
        return []
    if isinstance(value, str | Code):
        return [[value]]
    members = list(cast(Iterable[object], value))
    if isinstance(members[0], str | Code):
        return [cast(list[str | Code], members)]
    return [list(cast(Iterable[str | Code], group)) for group in members]


def _values(parameter: Parameter, group: Iterable[str | Code]) -> list[str]:
    literals = [_literal(parameter, value) for value in group]
    return write_lists(literals) if parameter.multiple else literals


def _literal(parameter: Parameter, value: str | Code) -> str:
    if isinstance(value, Code):
        return quote(f"{value.code}^^{value.scheme}")
    return value if parameter.kind in (Kind.FROM, Kind.TO) else quote(value)
