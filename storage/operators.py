"""SQL that SQLite and PostgreSQL spell differently, with one meaning on both.

A list of values travels as ONE bound parameter (a JSON text on SQLite, an array on
PostgreSQL). So a query has one statement text however many values it asks for: prepared once
by the driver, compiled once by SQLAlchemy, and out of reach of the limits on parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii
from typing import Any

from sqlalchemy import Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.expression import bindparam
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

# GLOB's own wildcards, and those of LIKE that take their place.
_GLOB = {"*": "[*]", "?": "[?]", "[": "[[]", "%": "*", "_": "?"}
_GLOB_CHARACTER = re.compile(r"[*?\[%_]")
_ANY_RUN = re.compile(r"%{2,}")


class _Texts(TypeDecorator[list[str]]):
    """A list of texts as one parameter."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(ARRAY(Text()))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> Any:
        values = list(value or ())
        return values if dialect.name == "postgresql" else _json(values)


class _Patterns(_Texts):
    """A list of LIKE patterns as one parameter, on SQLite as patterns of GLOB."""

    cache_ok = True

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> Any:
        patterns = [_ANY_RUN.sub("%", pattern) for pattern in value or ()]
        if dialect.name == "postgresql":
            return patterns
        return _json(map(glob, patterns))


def _json(texts: Iterable[str]) -> str:
    """A JSON array; ``json.dumps`` takes seven times as long for a list this short."""
    return f"[{','.join(map(encode_basestring_ascii, texts))}]"


def glob(pattern: str) -> str:
    """The GLOB pattern that matches what LIKE ``pattern`` matches, case-sensitively.

    SQLite's LIKE ignores the case of ASCII letters, which ITI TF-2 App. F forbids.
    """
    return _GLOB_CHARACTER.sub(lambda match: _GLOB[match[0]], pattern)


class _Comparison(FunctionElement[Any]):
    """A column against a list parameter."""

    inherit_cache = True


class _Among(_Comparison):
    inherit_cache = True
    name = "among"


class _Matches(_Comparison):
    inherit_cache = True
    name = "matches"


def among(column: ColumnElement[str], parameter: str) -> ColumnElement[bool]:
    """Whether ``column`` equals one of the texts in the list parameter."""
    values: BindParameter[list[str]] = bindparam(parameter, type_=_Texts())
    return _Among(column, values)


def matches(column: ColumnElement[str], parameter: str) -> ColumnElement[bool]:
    """Whether ``column`` is LIKE one of the patterns in the list parameter.

    ``%`` stands for any run of characters, ``_`` for one, everything else for itself: there
    is no escape character (ITI TF-2 3.18.4.1.2.3.7.1).
    """
    patterns: BindParameter[list[str]] = bindparam(parameter, type_=_Patterns())
    return _Matches(column, patterns)


def _operands(element: _Comparison, compiler: SQLCompiler, **kw: Any) -> tuple[str, str]:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return column, values


@compiles(_Among, "sqlite")
def _among_sqlite(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = _operands(element, compiler, **kw)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(_Among, "postgresql")
def _among_postgresql(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = _operands(element, compiler, **kw)
    return f"{column} = ANY({values})"


@compiles(_Matches, "sqlite")
def _matches_sqlite(element: _Matches, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = _operands(element, compiler, **kw)
    return f"EXISTS (SELECT 1 FROM json_each({values}) WHERE {column} GLOB json_each.value)"


@compiles(_Matches, "postgresql")
def _matches_postgresql(element: _Matches, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = _operands(element, compiler, **kw)
    return (
        f"EXISTS (SELECT 1 FROM unnest({values}) AS pattern WHERE {column} LIKE pattern ESCAPE '')"
    )
