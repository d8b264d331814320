"""What an assertion looks like in a domain: names, code systems, versions, algorithms; as data.

The profile that ships is that of IHE (``xua.toml``); a national one is another file, not another
program.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from signxml.algorithms import DigestAlgorithm, SignatureMethod

# What ``claims.Claims`` is made of; a profile says which SAML attributes carry it.
ATTRIBUTES = frozenset(
    (
        "display_name",
        "organization",
        "organization_id",
        "home_community_id",
        "identifier",
        "role",
        "purpose_of_use",
        "patient",
        "consent",
        "policy",
        "reason",
    )
)


class ProfileError(Exception):
    """A profile that cannot be used; the text names its file and what to mend."""


@dataclass(frozen=True, slots=True)
class AssertionProfile:
    """One profile; see ``xua.toml`` for what its members mean."""

    name: str
    versions: tuple[str, ...]
    signature_algorithms: tuple[str, ...]
    digest_algorithms: tuple[str, ...]
    authn_contexts: tuple[str, ...]
    required: tuple[str, ...]
    role_systems: tuple[str, ...]
    purpose_systems: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path | None = None) -> AssertionProfile:
        """The profile at ``path``; without one, that of IHE. Raises ProfileError."""
        source = path or resources.files(__package__) / "xua.toml"
        try:
            data = tomllib.loads(source.read_text())
        except (OSError, ValueError) as error:
            raise ProfileError(f"{source}: {error}") from error
        faults = list(_faults(data))
        if faults:
            raise ProfileError(f"{source}: {'; '.join(faults)}")
        attributes = {name: tuple(names) for name, names in data.pop("attributes").items()}
        name = data.pop("name")
        lists = {key: tuple(values) for key, values in data.items()}
        return cls(name=name, attributes=attributes, **lists)


def _sound(name: str) -> bool:
    """Not SHA-1, whose collisions are made today, nor the 112 bits of SHA-224."""
    return "SHA1" not in name and "224" not in name


# HMAC is left out: its key would be known to whoever checks it. DSA has gone out of use.
_SIGNATURES = {one.value for one in SignatureMethod if "RSA" in one.name or "ECDSA" in one.name}
_SIGNATURES &= {one.value for one in SignatureMethod if _sound(one.name)}
_DIGESTS = {one.value for one in DigestAlgorithm if _sound(one.name)}
_LISTS = {field.name for field in fields(AssertionProfile)} - {"name", "attributes"}


def _faults(data: Mapping[str, Any]) -> list[str]:
    """What is wrong with a profile; its keys first, for the rest stands on them."""
    return sorted(_wrong_keys(data) or _wrong_values(data))


def _wrong_keys(data: Mapping[str, Any]) -> list[str]:
    known = _LISTS | {"name", "attributes"}
    found = [f"unknown key {key}" for key in data.keys() - known]
    found += [f"{key} is missing" for key in known - data.keys()]
    attributes = data.get("attributes", {})
    found += [f"unknown attribute {key}" for key in attributes.keys() - ATTRIBUTES]
    found += [f"attributes.{key} is missing" for key in ATTRIBUTES - attributes.keys()]
    lists = {**{f"attributes.{key}": value for key, value in attributes.items()}, **data}
    found += [
        f"{key} must be a list of texts"
        for key, value in lists.items()
        if key not in ("name", "attributes") and not _texts(value)
    ]
    return found


def _wrong_values(data: Mapping[str, Any]) -> list[str]:
    checks = (
        ("required", ATTRIBUTES, "is no attribute"),
        ("signature_algorithms", _SIGNATURES, "is no safe signature algorithm"),
        ("digest_algorithms", _DIGESTS, "is no safe digest algorithm"),
    )
    return [
        f"{key}: {value} {what}"
        for key, known, what in checks
        for value in data[key]
        if value not in known
    ]


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
