"""National forms of the XDS-I.b manifest, told as data.

A profile says by which title the document goes, which attributes must be known, which further
ones are written and with what, and what the content tree says in words. ``profile_of`` reads it
from the mapping that a TOML file is; ``default_profile`` is the French one that ships (DRIM-M).
Texts are templates: ``{accession_number}`` stands for what the study says, as ``VALUES`` lists.
Signatures and the reports that go with a manifest are not covered.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import chain
from string import Formatter
from typing import Any, TypeVar

from pydicom.datadict import dictionary_VR, tag_for_keyword

from manifest.encoding import coded, if_known, item, text
from manifest.key_object import ACCESSION_NUMBER, key_objects, write_key_object
from manifest.model import MANIFEST, Concept, Manifest, ManifestError, ManifestSeries

T = TypeVar("T")

OF_STUDY = (
    *("study", "patient_id", "patient_name", "birth_date", "sex", "accession_number"),
    *("placer_order_number", "study_id", "date", "time", "description", "institution"),
    *("manufacturer", "referring_physician", "issuer_oid"),
)
OF_SERIES = ("series", "modality", "series_number", "series_description", "base")
"""What templates may name: of the study; and, in those of a series, of the series too."""

VALUES = OF_STUDY + OF_SERIES

# Value representations that a template can fill in: text, no identifiers, no numbers.
_TEXT = frozenset({"CS", "DA", "LO", "LT", "PN", "SH", "ST", "TM", "UT"})
_KEYS = frozenset(
    {"title", "required", "accession_at_top", "retrieve_url", "attributes", "description"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A TEXT item of the content tree: a line for the study, then one for each series."""

    concept: Concept
    study: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A national form. ``attributes`` are templates by DICOM keyword.

    ``retrieve_url`` is the template of each series' Retrieve URL, where a base is known.
    """

    title: Concept = MANIFEST
    required: tuple[str, ...] = ()
    accession_at_top: bool = True
    retrieve_url: str = "{base}"
    attributes: Mapping[str, str] = field(default_factory=dict)
    description: Description | None = None


def default_profile() -> Profile:
    """The French profile of DRIM-M."""
    data = resources.files("manifest").joinpath("profile_fr.toml").read_text("utf-8")
    return profile_of(tomllib.loads(data))


def profile_of(table: Mapping[str, Any]) -> Profile:
    """The profile that a mapping tells. Raises ManifestError that names the key at fault."""
    for key in table.keys() - _KEYS:
        raise ManifestError(f"{key}: no such key of a profile")
    profile = Profile(
        title=_concept("title", table.get("title", MANIFEST)),
        required=tuple(_typed(table, "required", [])),
        accession_at_top=_typed(table, "accession_at_top", True),
        retrieve_url=_typed(table, "retrieve_url", "{base}"),
        attributes=_typed(table, "attributes", {}),
        description=_description(_typed(table, "description", {})),
    )
    for name in profile.required:
        if name not in OF_STUDY:
            raise ManifestError(f"required: {name} is nothing that a study says")
    for keyword, template in profile.attributes.items():
        tag = tag_for_keyword(keyword)
        if tag is None or dictionary_VR(tag) not in _TEXT:
            raise ManifestError(f"attributes: {keyword} is no DICOM attribute that holds text")
        _check("attributes", template, OF_STUDY)
    _check("retrieve_url", profile.retrieve_url, VALUES)
    return profile


def write_national(manifest: Manifest, profile: Profile) -> bytes:
    """``manifest`` in a national form. Raises ManifestError, also where something is not known."""
    said = _said(manifest)
    missing = [name for name in profile.required if not said[name]]
    if missing:
        raise ManifestError(f"the national profile requires {', '.join(missing)}")
    addressed = (
        replace(one, retrieve_url=_retrieve_url(profile, said, one)) for one in manifest.series
    )
    manifest = replace(manifest, series=tuple(addressed))
    items = chain(map(item, _words(manifest, profile)), key_objects(manifest))
    return write_key_object(manifest, profile.title, items, _changes(profile, said))


def _retrieve_url(profile: Profile, said: Mapping[str, str], series: ManifestSeries) -> str:
    """The Retrieve URL of a series; empty where its base is not known."""
    if not series.retrieve_url:
        return ""
    return profile.retrieve_url.format_map({**said, **_said_of(series)})


def _typed(table: Mapping[str, Any], key: str, default: T) -> T:
    """The value of a key, of the kind that its default is."""
    value = table.get(key, default)
    if not isinstance(value, type(default)):
        raise ManifestError(f"{key}: the value is of the wrong kind")
    return value


def _concept(key: str, value: Any) -> Concept:
    parts = tuple(value) if isinstance(value, list | tuple) else ()
    if len(parts) != 3 or not all(isinstance(part, str) and part for part in parts):
        raise ManifestError(f"{key}: a concept is code, scheme and meaning")
    return Concept(*parts)


def _description(table: Mapping[str, Any]) -> Description | None:
    if not table:
        return None
    found = Description(
        concept=_concept("description.concept", table.get("concept")),
        study=_typed(table, "study", ""),
        series=_typed(table, "series", ""),
    )
    _check("description.study", found.study, OF_STUDY)
    _check("description.series", found.series, VALUES)
    return found


def _check(key: str, template: Any, allowed: tuple[str, ...]) -> None:
    """Whether a template is one, and names nothing but what is ``allowed``."""
    if not isinstance(template, str):
        raise ManifestError(f"{key}: a template is text")
    try:
        names = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ManifestError(f"{key}: {error}") from None
    for name in names - set(allowed):
        raise ManifestError(f"{key}: {{{name}}} stands for nothing")


def _changes(profile: Profile, said: Mapping[str, str]) -> dict[int, bytes]:
    changes: dict[int, bytes] = {}
    if not profile.accession_at_top:
        changes = {ACCESSION_NUMBER: text(ACCESSION_NUMBER, "SH", ""), 0x00080051: b""}
    for keyword, template in profile.attributes.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None  # ``profile_of`` has seen to it
        changes[tag] = if_known(tag, dictionary_VR(tag), template.format_map(said))
    return changes


def _words(manifest: Manifest, profile: Profile) -> Iterator[bytes]:
    """The item that describes the study in words (TID 2010, Key Object Description)."""
    described = profile.description
    if described is None:
        return
    study = _said(manifest)
    lines = [described.study.format_map(study)] if described.study else []
    if described.series:
        lines += [described.series.format_map(study | _said_of(one)) for one in manifest.series]
    yield b"".join(
        (
            text(0x0040A010, "CS", "CONTAINS"),
            text(0x0040A040, "CS", "TEXT"),
            coded(0x0040A043, described.concept),
            text(0x0040A160, "UT", "\r\n".join(lines)),
        )
    )


def _said(manifest: Manifest) -> dict[str, str]:
    study, patient = manifest.study, manifest.patient
    return {
        "study": study.study_instance_uid,
        "patient_id": patient.patient_id,
        "patient_name": patient.name,
        "birth_date": patient.birth_date,
        "sex": patient.sex,
        "issuer_oid": patient.issuer_oid,
        "accession_number": study.accession_number,
        "placer_order_number": study.placer_order_number,
        "study_id": study.study_id,
        "date": study.date,
        "time": study.time,
        "description": study.description,
        "institution": study.institution,
        "manufacturer": study.manufacturer,
        "referring_physician": study.referring_physician,
    }


def _said_of(series: ManifestSeries) -> dict[str, str]:
    number = series.series_number
    return {
        "series": series.series_instance_uid,
        "modality": series.modality,
        "series_number": "" if number is None else str(number),
        "series_description": series.description,
        "base": series.retrieve_url,
    }
