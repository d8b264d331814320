"""A ledger for tests: what is told to it stands in a list."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset

from imaging_source.ledger import (
    UNKNOWN,
    About,
    End,
    Hearing,
    Mention,
    Purpose,
    Question,
    Transfer,
)
from storage.errors import OutOfSpace


class Book:
    """A ledger that keeps what it is told, in order, or has no room."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.full = False
        self.news = threading.Condition()

    def begins(self, transfer: Transfer) -> None:
        self._check()
        self._tell("begins", transfer.service, transfer.about)

    def ended(self, transfer: Transfer) -> None:
        destination = transfer.destination and transfer.destination.title
        counts = (sum(transfer.done.values()), sum(transfer.failed.values()))
        self._tell("ended", transfer.service, transfer.about, *counts, destination)

    def queried(
        self, asker: End, sop_class_uid: str, syntax: str, identifier: bytes, done: bool
    ) -> None:
        self._check()
        self._tell("queried", asker.title, sop_class_uid, done)

    @contextmanager
    def asking(self, archive: End, question: Question) -> Iterator[None]:
        with self._calling("asked", archive, question):
            yield

    @contextmanager
    def telling(self, peer: End, mention: Mention) -> Iterator[None]:
        with self._calling("told", peer, mention):
            yield

    @contextmanager
    def hearing(self, peer: End, purpose: Purpose) -> Iterator[Hearing]:
        said = [Mention(purpose, UNKNOWN)]

        def heard(mentions: Iterable[Mention]) -> None:
            said[:] = [*mentions] or said
            self._tell("hears", peer.title, *said)

        self._check()
        done = False
        try:
            yield heard
            done = True
        finally:
            self._check()
            self._tell("heard", peer.title, *said, done)

    @contextmanager
    def _calling(self, what: str, peer: End, said: Question | Mention) -> Iterator[None]:
        self._check()
        done = False
        try:
            yield
            done = True
        finally:
            self._tell(what, peer.title, said, done)

    def _tell(self, *what: Any) -> None:
        with self.news:
            self.told.append(what)
            self.news.notify_all()

    def _check(self) -> None:
        if self.full:
            raise OutOfSpace("no room")


def about(image: Dataset) -> About:
    return About(image.StudyInstanceUID, "P1", "")
