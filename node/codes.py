"""Files of code sets: TOML or ``codes.xml``, read as one thing, turned into each other.

The form is told by the content, so that a file may have any name. What can be wrong with a
file becomes a ConfigError that names it; what is merely ignored becomes a note.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metadata.affinity_domain import (
    AffinityDomain,
    CodeSet,
    DomainError,
    default_codes,
)
from node.codes_xml import read_xml, write_xml
from node.config_file import ConfigError, Problem
from node.texts import tr

# The name of the set that ships, in place of a file.
DEFAULT = "default-fr"
_UTF8_BOM = b"\xef\xbb\xbf"
_XML_STARTS = (b"<", b"\xff\xfe", b"\xfe\xff")
# Where a file names no assigning authority, checking and converting it needs some: this one is
# of no consequence (the arc of examples, ISO/IEC 9834-1).
_ANY_AUTHORITY = "2.999"


@dataclass(frozen=True, slots=True)
class Codes:
    """The content of a file: settings for ``AffinityDomain.from_mapping``, and notes on it."""

    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def assigning_authority(self) -> str | None:
        """The authority that the file names, if it does."""
        return self.settings.get("assigning_authority")


def read(file: Path | str) -> Codes:
    """The code sets of ``file``, or those that ship. Raises ConfigError naming the file."""
    if file == DEFAULT:
        return Codes(default_codes())
    try:
        return parse(Path(file).read_bytes())
    except OSError as error:
        raise _error(file, error.strerror or type(error).__name__) from None
    except DomainError as error:
        raise _error(file, str(error)) from None


def parse(data: bytes) -> Codes:
    """The code sets in ``data``, be it TOML or XML. Raises DomainError."""
    if is_xml(data):
        settings, notes = read_xml(data)
        return Codes(settings, tuple(notes))
    try:
        return Codes(tomllib.loads(data.decode("utf-8")))
    except (ValueError, RecursionError) as error:  # also digits and brackets without end
        raise DomainError(tr("not TOML: {reason}", reason=error)) from None


def is_xml(data: bytes) -> bool:
    """Whether this is XML, which begins with ``<`` or, in UTF-16, with a byte order mark."""
    return data.removeprefix(_UTF8_BOM).lstrip().startswith(_XML_STARTS)


def domain(file: Path | str, settings: Mapping[str, Any] | None = None) -> AffinityDomain:
    """The domain with the code sets of ``file`` under ``settings``, which prevail.

    Raises ConfigError naming file, attribute, code and scheme.
    """
    base = {"assigning_authority": _ANY_AUTHORITY} if settings is None else {}
    content = {**base, **read(file).settings, **(settings or {})}
    try:
        return AffinityDomain.from_mapping(content)
    except DomainError as error:
        raise _error(file, str(error)) from None


def converted(file: Path) -> bytes:
    """The code sets of ``file`` in the other form: XML as TOML, TOML as XML.

    Raises ConfigError naming file, attribute, code and scheme.
    """
    checked = domain(file)
    write = write_toml if is_xml(file.read_bytes()) else write_xml
    return write(checked, read(file).assigning_authority)


def write_toml(checked: AffinityDomain, authority: str | None) -> bytes:
    """The code sets of a domain as TOML, with the authority that issues its patient ids."""
    return "\n".join(_toml(checked, authority)).encode() + b"\n"


def _toml(checked: AffinityDomain, authority: str | None) -> Iterator[str]:
    if authority:
        yield f"assigning_authority = {_quoted(authority)}"
    for key, values in (("mime_types", checked.mime_types), ("languages", checked.languages)):
        if values is not None:
            yield f"{key} = [{', '.join(map(_quoted, sorted(values)))}]"
    for name, codes in checked.code_sets.items():
        if codes is not None:
            yield f"\n[codes.{name}]"
            yield from _schemes(codes)


def _schemes(codes: CodeSet) -> Iterator[str]:
    schemes: dict[str, list[str]] = {}
    for (scheme, code), display in codes.names.items():
        separator = "\t" if " " in code else " "
        line = f"{code}{separator}{display}" if display or " " in code else code
        schemes.setdefault(scheme, []).append(line)
    for scheme, lines in schemes.items():
        yield f"{_quoted(scheme)} = ["
        yield from (f"    {_quoted(line)}," for line in lines)
        yield "]"


def _quoted(text: str) -> str:
    """A TOML basic string: the same escapes as JSON's."""
    return json.dumps(text, ensure_ascii=False)


def _error(file: Path | str, text: str) -> ConfigError:
    return ConfigError([Problem(str(file), "", text)])
