"""WADO-RS, rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.5, 8.3.5).

Pictures of frames and instances, reports as text, encapsulated documents; of a study or a series
all of its instances in one multipart body, made while it is sent. The work is
``imaging_source.rendering``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from itertools import chain
from typing import Any

from imaging_source.dicomweb.accept import Wish, not_acceptable, wishes
from imaging_source.dicomweb.answer import Answer, Refusal, Request
from imaging_source.dicomweb.paths import Retrieval
from imaging_source.dicomweb.viewing import viewing_options
from imaging_source.dicomweb.wado import Retriever
from imaging_source.kinds import GIF, shown_as
from imaging_source.parts import Part
from imaging_source.workers import Workers, WorkFailed

# PS3.18 leaves the size of a thumbnail to the server.
_THUMBNAIL_EDGE = 256

# Renderings asked for at once: each is a picture of its own.
_MOST_FRAMES = 1000


class Renderer:
    """Renders what ``retriever`` finds; safe for many threads."""

    def __init__(self, retriever: Retriever, workers: Workers) -> None:
        self._retriever = retriever
        self._workers = workers

    def answer(self, asked: Retrieval, request: Request) -> Answer:
        """The answer to a retrieval of something rendered. Raises Refusal and StorageError."""
        options = viewing_options(request.query)
        parts = self._retriever.located(asked.scope).parts
        frames = _numbers(asked.rest)
        if asked.view == "thumbnail":
            options = {"rows": _THUMBNAIL_EDGE, "columns": _THUMBNAIL_EDGE} | options
            parts, frames = parts[len(parts) // 2 :][:1], frames[:1]
        wanted = wishes(request.accept)
        if len(parts) == 1 and len(frames) < 2:
            kind, body = self.render(parts[0], wanted, options | _frame(frames[:1]))
            return Answer(HTTPStatus.OK, kind, body)
        numbers: list[int | None] = [*frames] or [None]
        each = [(part, options | _frame([one])) for part in parts for one in numbers]
        return _multipart(self._rendered(each, wanted))

    def render(
        self, part: Part, wanted: Sequence[Wish], options: dict[str, Any]
    ) -> tuple[str, bytes]:
        """Media type and bytes. Raises Refusal (404 for a frame that is not, 406)."""
        kind = _kind(part, wanted)
        if kind is None:
            offers = ", ".join(shown_as(part.row["sop_class_uid"]))
            raise not_acceptable(f"such an object is shown as {offers}")
        syntax = part.row["transfer_syntax_uid"]
        if part.correction is not None:
            said = {name: getattr(part.correction, name) for name in ("patient_name", "patient_id")}
            options = options | {name: text for name, text in said.items() if text is not None}
        try:
            body = self._workers.run("render", part.content.reference(), syntax, kind, options)
        except WorkFailed as failed:
            if str(failed) == "NoSuchFrame":
                raise Refusal(HTTPStatus.NOT_FOUND, "no such frame") from failed
            raise not_acceptable(f"the instance cannot be shown as {kind}") from failed
        return kind, body

    def _rendered(
        self, each: Sequence[tuple[Part, dict[str, Any]]], wanted: Sequence[Wish]
    ) -> Iterator[tuple[str, bytes]]:
        """What can be shown; objects that have no picture are passed over. Raises Refusal if all.

        A frame that is not there is a mistake of whoever asked, and told.
        """
        shown = 0
        for part, options in each:
            try:
                made = self.render(part, wanted, options)
            except Refusal as refusal:
                if refusal.status == HTTPStatus.NOT_FOUND:
                    raise
                continue
            shown += 1
            yield made
        if not shown:
            raise not_acceptable("nothing of this can be shown in a form that is asked for")


def _kind(part: Part, wanted: Sequence[Wish]) -> str | None:
    offers = shown_as(part.row["sop_class_uid"])
    for wish in wanted:
        for offer in offers:
            if wish.covers(offer) and (offer != GIF or wish.media == GIF):
                return offer
    return None


def _frame(numbers: Sequence[int | None]) -> dict[str, Any]:
    return {"frame": numbers[0]} if numbers and numbers[0] is not None else {}


def _numbers(text: str) -> list[int]:
    numbers = [part for part in text.split(",") if part]
    if len(numbers) > _MOST_FRAMES or not all(one.isdecimal() and len(one) < 10 for one in numbers):
        raise Refusal(HTTPStatus.BAD_REQUEST, "frames are numbers with commas between them")
    return [int(one) for one in numbers]


def _multipart(rendered: Iterator[tuple[str, bytes]]) -> Answer:
    """All in one body; the first is made now, so that there is one."""
    first = next(rendered)
    boundary = uuid.uuid4().hex

    def pieces() -> Iterator[bytes]:
        for kind, body in chain([first], rendered):
            head = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
            yield f"{head}\r\n\r\n".encode()
            yield body
        yield f"\r\n--{boundary}--\r\n".encode()

    content_type = f'multipart/related; type="{first[0]}"; boundary="{boundary}"'
    return Answer(HTTPStatus.OK, content_type, stream=pieces())
