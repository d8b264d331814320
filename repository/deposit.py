"""From an ITI-41 request to documents that may be kept: pairing and proof, no I/O of its own.

Covers ITI TF-2 3.41.4.1.3.2 as far as it concerns the bytes: every DocumentEntry has its
Document, every Document its DocumentEntry, submitted hash and size are those of the bytes,
and no uniqueId appears twice. Nothing else in the metadata is looked at: that is the
registry's part, and its errors are relayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.ebrim import external_identifier, get_slot, set_slot
from metadata.identifiers import DE_UNIQUE_ID, RIM
from repository.documents import Document
from storage.spool import SpooledFile

_EXTRINSIC_OBJECT = f"{{{RIM}}}ExtrinsicObject"

# What rim.xsd says of an ExtrinsicObject without mimeType.
_DEFAULT_MIME_TYPE = "application/octet-stream"


# The LongName of rim.xsd, which is the type of an ExternalIdentifier's value.
_LONGEST_UNIQUE_ID = 256


@dataclass(frozen=True, slots=True)
class Deposit:
    """A DocumentEntry, as the sender's element, and the bytes that belong to it."""

    entry: etree._Element
    content: SpooledFile

    @property
    def entry_id(self) -> str:
        """The DocumentEntry's id in the message, for telling the sender which one is meant."""
        return self.entry.get("id", "")

    @property
    def unique_id(self) -> str:
        """DocumentEntry.uniqueId; empty if the sender left it out."""
        return external_identifier(self.entry, DE_UNIQUE_ID) or ""

    def document(self) -> Document:
        """The row this deposit asks for."""
        return Document(
            self.unique_id,
            self.content.sha256,
            self.content.sha1,
            self.content.size,
            self.entry.get("mimeType", _DEFAULT_MIME_TYPE),
            blake3=self.content.blake3 or None,
        )

    def complete(self, repository_unique_id: str) -> None:
        """Write what only the repository knows into the DocumentEntry.

        A repositoryUniqueId from the sender is replaced (ITI TF-2 3.41.4.1.3.2).
        """
        set_slot(self.entry, "repositoryUniqueId", [repository_unique_id])
        set_slot(self.entry, "hash", [self.content.sha1])
        set_slot(self.entry, "size", [str(self.content.size)])


def pair(
    registry_objects: etree._Element,
    documents: Mapping[str, SpooledFile],
    unreferenced_parts: Iterable[str],
) -> tuple[list[Deposit], list[Fault]]:
    """The deposits of a message, and a fault for whatever has lost its other half."""
    entries = registry_objects.findall(_EXTRINSIC_OBJECT)
    ids = {entry.get("id", "") for entry in entries}
    deposits, faults = [], []
    for entry in entries:
        content = documents.get(entry.get("id", ""))
        if content is None:
            faults.append(Fault(rules.DOCUMENT_MISSING, entry.get("id", "")))
        else:
            deposits.append(Deposit(entry, content))
    alone = [document_id for document_id in documents if document_id not in ids]
    for orphan in (*alone, *unreferenced_parts):
        faults.append(Fault(rules.DOCUMENT_METADATA_MISSING, orphan))
    return deposits, faults


def check(deposits: Iterable[Deposit]) -> Iterator[Fault]:
    """The faults that deposits show by themselves."""
    uses: Counter[str] = Counter()
    for deposit in deposits:
        yield from _check_one(deposit)
        uses[deposit.unique_id] += 1
    for unique_id, count in uses.items():
        if unique_id and count > 1:
            ids = ", ".join(item.entry_id for item in deposits if item.unique_id == unique_id)
            yield Fault(rules.UNIQUE_ID_REPEATED, ids, value=unique_id)


def check_against(deposits: Iterable[Deposit], known: Mapping[str, Document]) -> Iterator[Fault]:
    """A fault for each document whose uniqueId stands for other bytes already."""
    for deposit in deposits:
        document = known.get(deposit.unique_id)
        if document is None or document.sha256 == deposit.content.sha256:
            continue
        yield Fault(rules.HASH_DIFFERS, deposit.entry_id, value=deposit.unique_id)
        if document.size != deposit.content.size:
            yield Fault(rules.SIZE_DIFFERS, deposit.entry_id, value=deposit.unique_id)


def _check_one(deposit: Deposit) -> Iterator[Fault]:
    content = deposit.content
    yield from _check_unique_id(deposit)
    if content.size == 0:
        yield Fault(rules.DOCUMENT_EMPTY, deposit.entry_id)
    for value in get_slot(deposit.entry, "hash"):
        if value.strip().lower() != content.sha1:
            yield Fault(rules.HASH_WRONG, deposit.entry_id, value=value, expected=content.sha1)
    for value in get_slot(deposit.entry, "size"):
        if not _is_number(value, content.size):
            yield Fault(rules.SIZE_WRONG, deposit.entry_id, value=value, expected=content.size)


def _check_unique_id(deposit: Deposit) -> Iterator[Fault]:
    """The only attribute that we cannot do without."""
    length = len(deposit.unique_id)
    if not length:
        yield Fault(rules.DOCUMENT_UNIQUE_ID_MISSING, deposit.entry_id)
    if length > _LONGEST_UNIQUE_ID:
        yield Fault(
            rules.ATTRIBUTE_LENGTH,
            deposit.entry_id,
            attribute="DocumentEntry.uniqueId",
            value=deposit.unique_id,
            length=length,
            limit=_LONGEST_UNIQUE_ID,
        )


def _is_number(text: str, number: int) -> bool:
    """Whether decimal ``text`` says ``number``, with leading zeros and blanks allowed."""
    digits = text.strip().lstrip("0") or "0"
    return digits == str(number)
