"""``docs/configuration.md``: generated from the declarations of ``node.config`` and its sections.

``python -m node.config_page`` prints the page; a test keeps the file equal to it.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from node.config import ENVIRONMENT_PREFIX, Settings
from node.config_values import CodeValue, Section

INTRODUCTION = f"""\
# Configuration

A node reads one file, `kosmos.toml` (`kosmos serve --config FILE`; `kosmos init DIR` writes one).
`kosmos config show --config FILE` prints every value as the node understands it, and
`kosmos check --config FILE` tries the databases, folders, certificates and peers it names.

- **The environment overrides the file**: `{ENVIRONMENT_PREFIX}REGISTRY__DATABASE` is
  `database` in `[registry]`; two underscores go one level down.
- **Secrets stay out of both**: keys that end in `_file` name a file that holds the secret.
- **Relative paths** count from the folder of the file.
- **An actor whose section is left out is off** (`[registry]`, `[repository]`,
  `[imaging_source]`).
- **An unknown key is an error** that names the nearest known key; the exit code is 3.

This page is generated from `node/config*.py` by `python -m node.config_page`.
"""

# What a person calls the types of TOML values.
TYPE_NAMES: dict[object, str] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    Path: "path",
}


def page() -> str:
    """The whole page, in Markdown."""
    return INTRODUCTION + "".join(_section(name, field) for name, field in _sections(Settings))


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if _is_section(inner):
            yield prefix + name, inner
            yield from _sections(inner, f"{prefix}{name}.")


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Whether a key holds a table that has a heading of its own."""
    return (
        isinstance(annotation, type)
        and issubclass(annotation, Section)
        and annotation is not CodeValue
    )


def sentences(model: type[BaseModel]) -> dict[str, str]:
    """What each key of a section means: the string below its declaration.

    Read from the source when the page is made: pydantic would do it at every start of a process,
    for a tenth of a second.
    """
    found: dict[str, str] = {}
    for declaring in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        [declared] = ast.parse(inspect.getsource(declaring)).body
        assert isinstance(declared, ast.ClassDef)
        for key, text in pairwise(declared.body):
            match key, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(meaning))):
                    found[name] = " ".join(meaning.split())
    return found


def _section(name: str, model: type[BaseModel]) -> str:
    meanings = sentences(model)
    rows = [
        f"| `{key}` | {_type(field.annotation)} | {_default(field)} | {meanings.get(key, '')} |\n"
        for key, field in model.model_fields.items()
        if not _is_section(field.annotation)
    ]
    heading = f"\n## `[{name}]`\n\n{(model.__doc__ or '').strip()}\n\n"
    return heading + "| key | value | default | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(_type(arm) for arm in get_args(annotation) if arm is not NoneType)
    if origin is dict:
        return "table"
    if origin in (list, tuple):
        return "list"
    if annotation is CodeValue:
        return "`{ code, scheme, display_name }`"
    return TYPE_NAMES[annotation]


def _default(field: FieldInfo) -> str:
    return "required" if field.default is PydanticUndefined else _shown(field.default)


def _shown(value: Any) -> str:
    if isinstance(value, CodeValue):
        return f"`{value.code}` of `{value.scheme}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None or value in ("", {}, (), []):
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return f"`{value}`"


def main() -> None:
    """Print the page."""
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
