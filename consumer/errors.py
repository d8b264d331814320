"""Everything that can go wrong while finding and fetching, as one tree.

    ConsumerError
        NoAnswer            the peer could not be reached, was silent, or not understood
        Faulted             the peer answered with a SOAP fault
        Refused             the peer answered with errors and no result
        UnknownSource       no address is known for a repository or an imaging source
        DocumentMissing     the peer claims success without the document asked for
        DocumentDiffers     the document is not the one its metadata describe
        NotAManifest        the document is no usable imaging manifest
        NotWritten          what was received could not be written to disk
        NotListening        there is no port at which to take what is moved to us
        TooLarge            more bytes came than one file may have
        TooSlow             the bytes came so slowly that it would never end

Texts name codes and UIDs, never a patient; the peer's own explanations, which may, are in
``Refused.errors``.
"""

from __future__ import annotations

from collections.abc import Iterable

from metadata.catalogue import RegistryError


class ConsumerError(Exception):
    """Finding or fetching failed."""


class NoAnswer(ConsumerError):
    """The peer could not be reached or gave no intelligible answer; the cause says which."""


class Faulted(ConsumerError):
    """The peer answered with a SOAP fault; the cause is that fault."""


class Refused(ConsumerError):
    """The peer answered with errors and no result (ITI TF-3 4.2.4)."""

    def __init__(self, transaction: str, errors: Iterable[RegistryError]) -> None:
        self.transaction = transaction
        self.errors = tuple(errors)
        codes = ", ".join(dict.fromkeys(error.code for error in self.errors))
        super().__init__(f"{transaction} was refused: {codes or 'no reason given'}")


class UnknownSource(ConsumerError):
    """No address is known for the repository or imaging source ``unique_id``."""

    def __init__(self, kind: str, unique_id: str) -> None:
        self.unique_id = unique_id
        super().__init__(f"no address is configured for the {kind} {unique_id or '(unnamed)'}")


class DocumentMissing(ConsumerError):
    """The answer holds neither the document asked for nor an error about it."""

    def __init__(self, unique_id: str) -> None:
        self.unique_id = unique_id
        super().__init__(f"document {unique_id} is not in the answer")


class DocumentDiffers(ConsumerError):
    """The bytes received are not those the metadata describe: damaged or exchanged."""

    def __init__(self, unique_id: str, attribute: str, expected: str, actual: str) -> None:
        self.unique_id = unique_id
        self.attribute = attribute
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"document {unique_id} has {attribute} {actual}, its metadata say {expected}"
        )


class NotAManifest(ConsumerError):
    """The document is no usable imaging manifest; the cause says why."""


class NotWritten(ConsumerError):
    """What was received could not be written to disk; the cause is the system's error."""


class NotListening(ConsumerError):
    """The port at which we take what is moved to us cannot be had; the cause is the system's."""


class TooLarge(ConsumerError):
    """A peer sends more than any instance has: a body without end."""


class TooSlow(ConsumerError):
    """A peer drips bytes."""
