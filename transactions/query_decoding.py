"""What a request of a stored query means: the reading side of ``transactions.stored_query``.

Covers ITI TF-2 3.18.4.1.2.3: required and alternative parameters, how many values each may
have, AND and OR, codes, times, statuses, and the defaults of what was not sent. The queries are
listed in ``transactions.query_catalogue``; running them is the registry's affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metadata import catalogue as rules
from metadata.catalogue import Fault, Rule
from metadata.datatypes import CX, DTM
from metadata.identifiers import APPROVED, DEPRECATED, STABLE
from metadata.model import Code
from transactions.iti_18 import LEAF_CLASS, OBJECT_REF, AdhocQueryRequest
from transactions.query_catalogue import (
    STORED_QUERIES,
    Kind,
    Parameter,
    Queries,
    StoredQuery,
)
from transactions.query_values import BadCoding, read_value

Criterion = tuple[tuple[str, ...], ...]
CodeCriterion = tuple[tuple[Code, ...], ...]


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
        """The patient the query is about, if it names one: the first of several."""
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


def decode(
    request: AdhocQueryRequest, queries: Queries = STORED_QUERIES
) -> DecodedQuery | list[Fault]:
    """What the request means, or everything that is wrong with it.

    ``queries`` are those of the transaction it came by. Unknown parameters and unknown
    statuses are ignored, as the standard wants.
    """
    query = queries.get(request.query_id.lower())
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
    for parameter in query.missed:
        if parameter.key not in decoder.given:
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
        """Exactly one of ``alternatives`` must have been given, and at least one of ``any_of``."""
        for keys in (self.query.alternatives, self.query.any_of):
            if keys and self.given.isdisjoint(keys):
                self._fault(rules.ALTERNATIVE_MISSING, parameters=self._slots(keys))
        if len(self.given.intersection(self.query.alternatives)) > 1:
            slots = self._slots(self.query.alternatives)
            self._fault(rules.ALTERNATIVES_BOTH, parameters=slots)

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
        elif parameter.kind is Kind.LEVEL:
            # Who asks for the versions of an object knows of Metadata Update.
            self.texts[parameter.key] = (("2" if "logical_id" in self.given else "1",),)

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
        elif parameter.kind is Kind.LEVEL:
            self.texts[parameter.key] = ((_level(groups[0][0]),),)
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

    def _slots(self, keys: Sequence[str]) -> str:
        return ", ".join(one.slot for one in self.query.parameters if one.key in keys)

    def _fault(self, rule: Rule, **details: object) -> None:
        self.faults.append(Fault(rule, self.query.name, **details))


def _literals(values: Iterable[str]) -> list[str]:
    """The literals of one slot: a list may continue from Value to Value."""
    return [literal for value in values for literal in read_value(value)]


def _code(literal: str) -> Code:
    # The last two of them separate: a code may hold such characters, the OID of a scheme does not.
    code, separator, scheme = literal.rpartition("^^")
    if separator and code and scheme and "^" not in scheme:
        return Code(code, scheme)
    raise BadCoding(literal, "expected code^^codingScheme, both parts filled in")


def _level(literal: str) -> str:
    """1 or 2: no higher level shows more (Metadata Update 3.18.4.1.2.3.5.1)."""
    number = literal.lstrip("0")
    if not (number.isascii() and number.isdecimal()):
        raise BadCoding(literal, "expected a whole number, at least 1")
    return "1" if number == "1" else "2"


def _check_time(literal: str) -> None:
    if problem := DTM(literal).problem():
        raise BadCoding(literal, problem)
