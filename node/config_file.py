"""Reading ``kosmos.toml``: every fault at once, each naming file, key and remedy.

Values come from the environment (``KOSMOS__SECTION__KEY``), then from the file. Relative paths
are made absolute, counted from the file's folder, and places left out are filled in, so that
what is shown is what is used.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from node.config import ENVIRONMENT_PREFIX, Settings
from node.config_values import Section
from node.texts import tr

# How alike two keys must be for one to be offered instead of the other (difflib's ratio).
SIMILARITY = 0.6
Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: where it stands, which key, what is wrong and what to do."""

    where: str
    key: str
    text: str

    def __str__(self) -> str:
        """One line for a person."""
        return (
            f"{self.where}: {self.key}: {self.text}" if self.key else f"{self.where}: {self.text}"
        )


class ConfigError(Exception):
    """A configuration that cannot be used; ``problems`` has every fault that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def load(file: Path) -> Settings:
    """The settings in ``file`` under the overrides of the environment. Raises ConfigError."""
    data = _parse(file)
    stray = list(_stray_variables(os.environ))
    try:
        settings = Settings(**data)
    except ValidationError as error:
        problems = [_problem(file, dict(fault)) for fault in error.errors()]
        raise ConfigError(stray + problems) from None
    if stray:
        raise ConfigError(stray)
    return _with_places(_anchored(settings, file.resolve().parent))


def known_keys(section: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Every key as ``section.key``; a table with free keys is listed by its own name."""
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is None:
            yield prefix + name
        else:
            yield from known_keys(inner, f"{prefix}{name}.")


def read_secret(file: Path | None) -> str | None:
    """The secret in ``file``, without the newline at its end; None without a file.

    Raises ConfigError naming the file, never its content.
    """
    if file is None:
        return None
    try:
        return file.read_text().rstrip("\n")
    except OSError as error:
        raise ConfigError([Problem(str(file), "", _reason(error))]) from None


def _parse(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        text = tr("{reason}; `kosmos init DIR` writes one", reason=_reason(error))
        raise ConfigError([Problem(str(file), "", text)]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        text = tr("not TOML: {reason}", reason=error)
        raise ConfigError([Problem(str(file), "", text)]) from None


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _stray_variables(environment: Mapping[str, str]) -> Iterator[Problem]:
    """Variables with our prefix that no key stands behind: pydantic would pass over them."""
    keys = set(known_keys())
    for variable in environment:
        if not variable.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        key = variable[len(ENVIRONMENT_PREFIX) :].lower().replace("__", ".")
        if key not in keys and key not in Settings.model_fields:
            yield Problem(variable, key, _unknown(key))


def _problem(file: Path, fault: dict[str, Any]) -> Problem:
    location: Location = fault["loc"]
    key = ".".join(str(part) for part in location)
    variable = ENVIRONMENT_PREFIX + key.replace(".", "__").upper()
    where = variable if variable in os.environ else str(file)
    return Problem(where, key, _text(fault, key))


def _text(fault: dict[str, Any], key: str) -> str:
    match fault["type"]:
        case "extra_forbidden":
            return _unknown(key)
        case "missing":
            return tr("is required and has no value")
        case "value_error":
            return str(fault["ctx"]["error"])
        case "int_parsing" | "int_type" | "int_from_float":
            reason = tr("a whole number is expected")
        case "bool_parsing" | "bool_type":
            reason = tr("true or false is expected")
        case "string_type":
            reason = tr("text between quotes is expected")
        case _:
            reason = fault["msg"]
    return tr("{value} is not possible: {reason}", value=repr(fault["input"]), reason=reason)


def _unknown(key: str) -> str:
    nearest = _nearest(key)
    if nearest is None:
        return tr("unknown key; docs/configuration.md lists them all")
    return tr("unknown key; did you mean {nearest}?", nearest=nearest)


def _nearest(key: str) -> str | None:
    """The known key or section most like ``key``: alike in name, then in section."""
    section, _, name = key.rpartition(".")

    def score(known: str) -> float:
        known_section, _, known_name = known.rpartition(".")
        alike = _ratio(name, known_name)
        # Half a point for the section: a right name in the wrong section beats the rest.
        return alike + _ratio(section, known_section) / 2 if alike >= SIMILARITY else 0.0

    best = max((*known_keys(), *Settings.model_fields), key=score)
    return best if score(best) else None


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _section_of(annotation: object) -> type[Section] | None:
    candidates = (annotation, *get_args(annotation))
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _anchored(model: Model, folder: Path) -> Model:
    """The same with every relative path counted from ``folder``."""
    changes: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Path):
            changes[name] = folder / value
        elif isinstance(value, BaseModel):
            changes[name] = _anchored(value, folder)
        elif isinstance(value, tuple) and any(isinstance(one, BaseModel) for one in value):
            changes[name] = tuple(_anchored(one, folder) for one in value)
    return model.model_copy(update=changes)


def _with_places(settings: Settings) -> Settings:
    """Fill in the places that were left out: everything lies in the data folder."""
    data = settings.node.data_dir
    registry, repository = settings.registry, settings.repository
    source = settings.imaging_source
    access, choices = settings.access, settings.choices
    return settings.model_copy(
        update={
            "registry": registry.model_copy(
                update={"database": registry.database or f"sqlite:///{data / 'registry.db'}"}
            ),
            "repository": repository.model_copy(
                update={
                    "database": repository.database or f"sqlite:///{data / 'repository.db'}",
                    "blobs": repository.blobs or data / "documents",
                }
            ),
            "choices": choices.model_copy(
                update={"database": choices.database or f"sqlite:///{data / 'choices.db'}"}
            ),
            "access": access.model_copy(
                update={"database": access.database or f"sqlite:///{data / 'access.db'}"}
            ),
            "audit": settings.audit.model_copy(
                update={"folder": settings.audit.folder or data / "audit"}
            ),
            "imaging_source": source.model_copy(
                update={
                    "database": source.database or f"sqlite:///{data / 'imaging.db'}",
                    "files": source.files or data / "images",
                }
            ),
        }
    )
