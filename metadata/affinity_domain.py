"""What one XDS Affinity Domain has agreed on: codes, identities, policies, limits.

Covers the vocabulary checks of ITI TF-2 3.42.4.1.3.3 and the agreements of ITI TF-1 App. L.
Pure: the node reads the TOML and hands over the parsed mapping, in this form::

    assigning_authority = "1.2.250.1.213.1.4.10"      # or "NAME&1.2.3&ISO"
    unknown_patient = "error"                         # or "empty", for queries
    merged_patient = "error"                          # or "empty", for queries
    extra_metadata = "save"                           # or "warn": slots unknown to XDS
    languages = ["fr-FR"]                             # or "open"
    mime_types = ["application/dicom"]                # or "open"
    source_ids = ["1.2.3"]                            # left out: any source may submit
    max_results = 10000                               # objects in one query answer

    [codes.classCode]                                 # or codes.classCode = "open"
    "1.2.250.1.213.1.1.4.1" = ["31 Imagerie médicale", "10 Comptes rendus"]

A code set lists, under each coding scheme, its codes: the code, one blank, the display
name. A code that holds blanks itself is written with a tab before its display name. Names
of code sets are the standard's attribute names; a set that is left out is open, as are
``languages`` and ``mime_types``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from metadata.datatypes import HD, OID, LanguageCode, LocalizedString
from metadata.model import Code

# The coded attributes (ITI TF-3 4.2.3); "codeList" is the Folder's, "documentation" an
# Association's.
CODE_SETS: Final = (
    "classCode",
    "typeCode",
    "formatCode",
    "confidentialityCode",
    "healthcareFacilityTypeCode",
    "practiceSettingCode",
    "eventCodeList",
    "contentTypeCode",
    "codeList",
    "documentation",
)
OPEN: Final = "open"
Choice = TypeVar("Choice", bound=str)
PatientPolicy = Literal["error", "empty"]
ExtraMetadata = Literal["save", "warn"]

# Objects in one answer; more is refused, so that one peer cannot use up the node. At some
# 5 KB an object this is 50 MB of answer.
MAX_RESULTS = 10_000

# Codes that a refusal lists: a sender who sees so many knows where to look for the others.
SHOWN_CODES = 8


class DomainError(ValueError):
    """A setting of the affinity domain that cannot be used; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class CodeSet:
    """The (scheme, code) pairs allowed for one attribute, with their display names."""

    names: Mapping[tuple[str, str], str]

    def __contains__(self, code: Code) -> bool:
        return (code.scheme, code.code) in self.names

    def __len__(self) -> int:
        return len(self.names)

    def __reduce__(self) -> tuple[type[CodeSet], tuple[dict[tuple[str, str], str]]]:
        """Helper processes are given a domain: a view of a mapping cannot travel, a copy can."""
        return CodeSet, (dict(self.names),)

    def find(self, code: str) -> Code | None:
        """The first allowed coded value with this code, whatever its scheme."""
        for (scheme, candidate), name in self.names.items():
            if candidate == code:
                return Code(candidate, scheme, LocalizedString(name or candidate))
        return None

    def remedy(self, code: Code) -> str:
        """What to send instead of ``code``, which is not in the set: for a sender to read."""
        schemes = [scheme for scheme, candidate in self.names if candidate == code.code]
        if schemes:
            return f"it has this code in scheme {' or '.join(schemes)}"
        ours = [candidate for scheme, candidate in self.names if scheme == code.scheme]
        if ours:
            return f"of that scheme it has {_listed(ours)}"
        return f"its schemes are {_listed(dict.fromkeys(scheme for scheme, _ in self.names))}"


@dataclass(frozen=True, slots=True)
class AffinityDomain:
    """What a registry checks submissions against; None stands for "open", anything goes.

    ``assigning_authority`` issues the patient ids (the XAD-PID domain); ``mime_types`` and
    ``languages`` are in lower case. ``unknown_patient`` says whether a query for a patient
    nobody announced is an error or finds nothing (ITI TF-2 3.18.4.1.3), ``merged_patient`` the
    same of one who was merged into another (3.18.4.1.2.3.9). ``extra_metadata`` says whether
    slots that XDS does not know are saved, or dropped with a warning (ITI TF-3 4.2.3.1.6).
    ``source_ids`` are the sources allowed to submit; ``max_results`` is the greatest number of
    objects in one query answer.
    """

    assigning_authority: HD
    code_sets: Mapping[str, CodeSet | None] = field(default_factory=dict)
    mime_types: frozenset[str] | None = None
    languages: frozenset[str] | None = None
    unknown_patient: PatientPolicy = "error"
    merged_patient: PatientPolicy = "error"
    extra_metadata: ExtraMetadata = "save"
    source_ids: frozenset[str] | None = None
    max_results: int = MAX_RESULTS

    def __reduce__(self) -> tuple[Callable[..., AffinityDomain], tuple[Any, ...]]:
        """As ``CodeSet.__reduce__``."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return partial(AffinityDomain, **{**given, "code_sets": dict(self.code_sets)}), ()

    def allows_code(self, name: str, code: Code) -> bool:
        """Whether ``code`` may be used for the attribute ``name``; the display name is free."""
        codes = self.code_sets.get(name)
        return codes is None or code in codes

    def code_remedy(self, name: str, code: Code) -> str:
        """What to send for the attribute ``name`` instead of ``code``, which is not allowed."""
        codes = self.code_sets.get(name)
        return codes.remedy(code) if codes else "it has no code for this attribute"

    def allows_mime_type(self, mime_type: str) -> bool:
        """Whether documents of this type may be registered (types compare without case)."""
        return self.mime_types is None or mime_type.lower() in self.mime_types

    def mime_type_remedy(self) -> str:
        """The document types that may be registered."""
        return f"it has {_listed(sorted(self.mime_types or ()))}"

    def allows_language(self, language: str) -> bool:
        """Whether documents in this language may be registered (tags compare without case)."""
        return self.languages is None or language.lower() in self.languages

    def language_remedy(self) -> str:
        """The languages that documents may be in."""
        return f"it has {_listed(sorted(self.languages or ()))}"

    def allows_source(self, source_id: str) -> bool:
        """Whether this source may submit."""
        return self.source_ids is None or source_id in self.source_ids

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> AffinityDomain:
        """The domain a parsed TOML table describes; raises DomainError naming key and remedy."""
        _known_keys(settings, _SETTINGS, "")
        if "assigning_authority" not in settings:
            raise DomainError(
                "assigning_authority is missing: give the OID that issues patient ids, "
                'such as assigning_authority = "1.2.250.1.213.1.4.10"'
            )
        return cls(
            assigning_authority=_authority(settings["assigning_authority"]),
            code_sets=_code_sets(settings.get("codes", {})),
            mime_types=_texts(settings, "mime_types", lower=True),
            languages=_languages(settings),
            unknown_patient=_choice(settings, "unknown_patient", _PATIENT_POLICIES),
            merged_patient=_choice(settings, "merged_patient", _PATIENT_POLICIES),
            extra_metadata=_choice(settings, "extra_metadata", _EXTRA_METADATA),
            source_ids=_source_ids(settings),
            max_results=_limit(settings, "max_results", MAX_RESULTS),
        )


class DomainInForce:
    """The affinity domain of a running registry, which may be given another one at any time.

    Who judges a message takes ``current`` once, so that one message meets one set of rules.
    """

    def __init__(self, domain: AffinityDomain) -> None:
        self.current = domain

    @classmethod
    def of(cls, domain: AffinityDomain | DomainInForce) -> DomainInForce:
        """``domain`` itself, or a domain that nobody else will replace."""
        return domain if isinstance(domain, DomainInForce) else cls(domain)


# The values of each policy, the default first.
_PATIENT_POLICIES: Final[tuple[PatientPolicy, ...]] = ("error", "empty")
_EXTRA_METADATA: Final[tuple[ExtraMetadata, ...]] = ("save", "warn")
_SETTINGS = (
    "assigning_authority",
    "codes",
    "mime_types",
    "languages",
    "unknown_patient",
    "merged_patient",
    "extra_metadata",
    "source_ids",
    "max_results",
)


def default_codes() -> dict[str, Any]:
    """The French code sets that come with Kosmos: ``codes``, ``mime_types``, ``languages``.

    The mapping fits ``AffinityDomain.from_mapping`` once an assigning authority is added.
    """
    data = resources.files("metadata").joinpath("codes_fr.toml").read_text("utf-8")
    return tomllib.loads(data)


# --- Reading settings ------------------------------------------------------------------------


def _known_keys(mapping: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in mapping:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise DomainError(f"{where}{key} is not a setting of the affinity domain: {hint}")


def _authority(value: object) -> HD:
    if isinstance(value, str):
        authority = HD.parse(value) if "&" in value else HD.of(value)
        if authority.oid_problem() is None:
            return authority
    raise DomainError(
        f"assigning_authority is {value!r}: write an OID such as 1.2.250.1.213.1.4.10, "
        "or NAMESPACE&OID&ISO"
    )


def _texts(settings: Mapping[str, Any], key: str, *, lower: bool = False) -> frozenset[str] | None:
    value = settings.get(key, OPEN)
    if value == OPEN:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise DomainError(f'{key} is {value!r}: write a list of texts, or "{OPEN}"')
    return frozenset(item.lower() if lower else item for item in value)


def _languages(settings: Mapping[str, Any]) -> frozenset[str] | None:
    languages = _texts(settings, "languages", lower=True)
    for language in languages or ():
        if problem := LanguageCode(language).problem():
            raise DomainError(f"languages holds {language!r}: {problem}")
    return languages


def _source_ids(settings: Mapping[str, Any]) -> frozenset[str] | None:
    source_ids = _texts(settings, "source_ids")
    for source_id in source_ids or ():
        if problem := OID(source_id).problem():
            raise DomainError(f"source_ids holds {source_id!r}: {problem}")
    return source_ids


def _choice(settings: Mapping[str, Any], key: str, values: tuple[Choice, ...]) -> Choice:
    given = settings.get(key, values[0])
    for value in values:
        if given == value:
            return value
    choices = " or ".join(f'"{value}"' for value in values)
    raise DomainError(f"{key} is {given!r}: write {choices}")


def _limit(settings: Mapping[str, Any], key: str, default: int) -> int:
    value = settings.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DomainError(f"{key} is {value!r}: write a whole number of at least 1")
    return value


def _code_sets(settings: object) -> Mapping[str, CodeSet | None]:
    if not isinstance(settings, Mapping):
        raise DomainError("codes must be a table with one entry for each coded attribute")
    _known_keys(settings, CODE_SETS, "codes.")
    return MappingProxyType({name: _code_set(name, value) for name, value in settings.items()})


def _code_set(name: str, value: object) -> CodeSet | None:
    if value == OPEN:
        return None
    if not isinstance(value, Mapping):
        raise DomainError(f'codes.{name} is {value!r}: write one list a coding scheme, or "{OPEN}"')
    names: dict[tuple[str, str], str] = {}
    for scheme, lines in value.items():
        if not isinstance(lines, list):
            raise DomainError(f'codes.{name}."{scheme}" is {lines!r}: write a list of codes')
        for line in lines:
            code, display_name = _code_line(line, f'codes.{name}."{scheme}"')
            names[scheme, code] = display_name
    return CodeSet(MappingProxyType(names))


def _listed(words: Iterable[str]) -> str:
    shown = list(words)
    rest = len(shown) - SHOWN_CODES
    return ", ".join(shown[:SHOWN_CODES]) + (f" and {rest} more" if rest > 0 else "")


def _code_line(line: object, where: str) -> tuple[str, str]:
    if not isinstance(line, str) or not line.strip():
        raise DomainError(f'{where} holds {line!r}: write "CODE display name"')
    code, _, display_name = line.partition("\t") if "\t" in line else line.partition(" ")
    return code.strip(), display_name.strip()
