"""Crossing identity domains: from a department's patient identifier to the affinity domain's.

An image names a patient by an identifier of its own department. Where that authority is not the
affinity domain's, the identifier there is looked up: in a table of the site's, or by a PIX query
(ITI-9). There is no default: a study whose patient cannot be told waits, and is never published
under an identifier that may be somebody else's.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hl7.client import MllpClient, MllpError
from hl7.errors import InvalidMessage
from hl7.message import Message
from hl7.pix import NoAnswer, PixQuery, read_answer, write_query
from manifest.model import Patient


class Unidentified(Exception):
    """The patient's identifier in the affinity domain is not known now; the text says why.

    It is for people who may not see patient data: it quotes none.
    """


class Unreachable(Unidentified):
    """Whoever would know cannot be asked now, about this patient or any other."""


class CrossReference(Protocol):
    """Who knows the identifiers of the affinity domain."""

    def find(self, patient_id: str, authority: str) -> str:
        """The domain's identifier of this patient. Raises Unidentified."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Which identifiers are the domain's own, and who knows it of the others.

    ``source`` is the authority of images that name none, ``own`` are those whose numbers are
    the domain's.
    """

    reference: CrossReference
    source: str
    own: frozenset[str]

    def domain_id(self, patient: Patient) -> str:
        """The patient's identifier in the domain; empty where it has it already."""
        authority = patient.issuer_oid or self.source
        if not patient.patient_id or authority in self.own:
            return ""
        return self.reference.find(patient.patient_id, authority)


Rows = Mapping[tuple[str, str], str]


class IdentityTable:
    """A site's own table, read again when its file has changed.

    CSV with the columns ``authority,id,domain_id``, or TOML with a table for each authority:
    ``["1.2.3"]`` and below it ``"local id" = "id in the domain"``.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read: tuple[float, Rows] | None = None

    def find(self, patient_id: str, authority: str) -> str:
        """See ``CrossReference``."""
        found = self._rows().get((authority, patient_id))
        if not found:
            raise Unidentified("the table of identifiers has none for this patient")
        return found

    def _rows(self) -> Rows:
        try:
            changed_at = self._file.stat().st_mtime
            if self._read is None or self._read[0] != changed_at:
                self._read = changed_at, _read_table(self._file)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            kind = type(error).__name__
            raise Unreachable(f"the table of identifiers cannot be read: {kind}") from error
        return self._read[1]


class PixManager:
    """A Patient Identifier Cross-reference Manager that is asked by ITI-9 over MLLP."""

    def __init__(
        self,
        ask: Callable[[PixQuery, bytes], tuple[str, ...]],
        receiver: tuple[str, str],
        domain: str,
    ) -> None:
        """``ask`` sends a query (see ``asking``); ``receiver`` is the manager's application and
        facility, ``domain`` the OID asked for."""
        self._ask = ask
        self._receiver = receiver
        self._domain = domain

    def find(self, patient_id: str, authority: str) -> str:
        """See ``CrossReference``."""
        query = PixQuery.about(patient_id, authority, self._domain)
        try:
            found = self._ask(query, write_query(query, self._receiver))
        except (MllpError, InvalidMessage, NoAnswer) as error:
            kind = type(error).__name__
            raise Unreachable(f"the PIX manager gave no answer: {kind}") from error
        if len(found) != 1:
            raise Unidentified(f"the PIX manager knows {len(found)} identifiers of this patient")
        return found[0]


def asking(connect: Callable[[], MllpClient]) -> Callable[[PixQuery, bytes], tuple[str, ...]]:
    """What sends a query over a connection of its own, and reads the identifiers in the answer.

    Raises MllpError, InvalidMessage and NoAnswer.
    """

    def ask(query: PixQuery, message: bytes) -> tuple[str, ...]:
        with connect() as client:
            return read_answer(Message.read(client.send(message)), query)

    return ask


@dataclass(frozen=True, slots=True)
class FirstToKnow:
    """Several references, asked in turn until one knows the patient."""

    references: Sequence[CrossReference]

    def find(self, patient_id: str, authority: str) -> str:
        """See ``CrossReference``; the last one says why nobody knows."""
        *others, last = self.references
        for one in others:
            with suppress(Unidentified):
                return one.find(patient_id, authority)
        return last.find(patient_id, authority)


def _read_table(file: Path) -> Rows:
    if file.suffix == ".toml":
        content = tomllib.loads(file.read_text("utf-8"))
        return {
            (authority, local): str(domain_id)
            for authority, ids in content.items()
            for local, domain_id in ids.items()
        }
    with file.open(encoding="utf-8", newline="") as lines:
        return {
            (row["authority"], row["id"]): row["domain_id"] or "" for row in csv.DictReader(lines)
        }
