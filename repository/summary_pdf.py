"""An imaging summary as PDF, on A4: what a hospital hands out.

Title, patient, a table that goes on over pages with its head repeated, and on every page who it
is about, when it was assembled, and which page of how many it is. Bytes follow from the
arguments alone. Letters that the font lacks are written without their marks, or as "?": the CDA
rendering has every letter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import LongTable, Paragraph, SimpleDocTemplate, Spacer, Table

from repository.summary import COLUMNS, Summary

# Bitstream Vera comes with the library: Latin with all its accents, embedded in the file.
_FONT, _BOLD = "Vera", "VeraBd"

_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN
# What the library leaves between the edge of a page's frame and the text in it, in points.
_PADDING = 6
# Shares of the width for the columns: a date on one line, most for the title.
_SHARES = (0.16, 0.13, 0.11, 0.27, 0.18, 0.15)
_INK = colors.HexColor("#1c2733")
_ACCENT = colors.HexColor("#1f4e79")
_RULE = colors.HexColor("#b8c4d0")
_BAND = colors.HexColor("#f3f6f9")

_TITLE = ParagraphStyle("title", fontName=_BOLD, fontSize=17, leading=21, textColor=_ACCENT)
_HOUSE = ParagraphStyle("house", fontName=_FONT, fontSize=9.5, leading=13, textColor=_INK)
_LABEL = ParagraphStyle("label", fontName=_FONT, fontSize=7.5, leading=10, textColor=_ACCENT)
_VALUE = ParagraphStyle("value", fontName=_BOLD, fontSize=10, leading=13, textColor=_INK)
_SECTION = ParagraphStyle(
    "section", fontName=_BOLD, fontSize=11.5, leading=15, textColor=_ACCENT, spaceAfter=2 * mm
)
_HEAD = ParagraphStyle("head", fontName=_BOLD, fontSize=8, leading=10, textColor=colors.white)
# Long words, as accession numbers are, may break anywhere rather than leave their column.
_CELL = ParagraphStyle(
    "cell", fontName=_FONT, fontSize=8, leading=10.5, textColor=_INK, splitLongWords=1
)


def render(summary: Summary, unique_id: str, moment: datetime) -> bytes:
    """The document ``unique_id`` assembled at ``moment``."""
    pages, _ = _build(summary, unique_id, moment, 0)
    return _build(summary, unique_id, moment, pages)[1]


def _build(summary: Summary, unique_id: str, moment: datetime, pages: int) -> tuple[int, bytes]:
    """How many pages there are, and the file that says on each that there are ``pages``."""
    file = BytesIO()
    document = SimpleDocTemplate(
        file,
        pagesize=A4,
        leftMargin=_MARGIN - _PADDING,
        rightMargin=_MARGIN - _PADDING,
        topMargin=_MARGIN,
        bottomMargin=22 * mm,
        title=summary.heading,
        author=summary.institution,
        subject=unique_id,
        lang=summary.language_code,
        invariant=1,  # no clock of its own, no random identifier
    )
    mark = _marking(summary, moment, pages)
    document.build(list(_story(summary)), onFirstPage=mark, onLaterPages=mark)
    return document.page, file.getvalue()


def _story(summary: Summary) -> Iterable[Any]:
    yield _paragraph(summary.heading, _TITLE)
    yield _paragraph(summary.institution, _HOUSE)
    yield Spacer(1, 5 * mm)
    yield _identity(summary)
    yield Spacer(1, 7 * mm)
    yield _paragraph(summary.words["exams"], _SECTION)
    yield _exams(summary) if summary.exams else _paragraph(summary.words["none"], _CELL)


def _identity(summary: Summary) -> Any:
    words, person = summary.words, summary.patient
    unknown = "\N{EN DASH}"
    who = _labelled(words["patient"], person.name or unknown)
    born = _labelled(words["born"], summary.birth_date() or unknown)
    sex = _labelled(words["sex"], summary.sex() or unknown)
    identifier = _labelled(words["identifier"], person.id)
    authority = _labelled(words["authority"], person.authority)
    table = Table(
        [[who, born, sex], [identifier, authority, ""]],
        colWidths=[_WIDTH * share for share in (0.5, 0.3, 0.2)],
    )
    table.setStyle(
        [
            ("BACKGROUND", (0, 0), (-1, -1), _BAND),
            ("BOX", (0, 0), (-1, -1), 0.6, _RULE),
            ("SPAN", (1, 1), (2, 1)),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ]
    )
    return table


def _labelled(label: str, value: str) -> list[Any]:
    return [_paragraph(label, _LABEL), _paragraph(value, _VALUE)]


def _exams(summary: Summary) -> Any:
    head = [_paragraph(summary.words[column], _HEAD) for column in COLUMNS]
    rows = [[_paragraph(text, _CELL) for text in summary.row(exam)] for exam in summary.exams]
    table = LongTable([head, *rows], colWidths=[_WIDTH * share for share in _SHARES], repeatRows=1)
    table.setStyle(
        [
            ("BACKGROUND", (0, 0), (-1, 0), _ACCENT),
            ("ROWBACKGROUNDS", (0, 1), (-1, -1), [colors.white, _BAND]),
            ("LINEBELOW", (0, 1), (-1, -1), 0.4, _RULE),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 4),
            ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ]
    )
    return table


def _marking(summary: Summary, moment: datetime, pages: int) -> Callable[[Any, Any], None]:
    """What stands below every page: whose it is, of when, and which page of how many."""
    person = summary.patient
    whose = _writable(f"{person.name}  {person.id}".strip())
    when = _writable(summary.assembled(moment))

    def mark(canvas: Any, document: Any) -> None:
        page = summary.words["page"].format(page=document.page, pages=pages)
        canvas.saveState()
        canvas.setStrokeColor(_RULE)
        canvas.line(_MARGIN, 17 * mm, A4[0] - _MARGIN, 17 * mm)
        canvas.setFillColor(_INK)
        canvas.setFont(_FONT, 7)
        canvas.drawString(_MARGIN, 13 * mm, whose)
        canvas.drawRightString(A4[0] - _MARGIN, 13 * mm, page)
        canvas.drawString(_MARGIN, 9.5 * mm, when)
        canvas.restoreState()

    return mark


def _paragraph(text: str, style: ParagraphStyle) -> Any:
    return Paragraph(escape(_writable(text)), style)


def _writable(text: str) -> str:
    """``text`` in letters that the font has."""
    letters = _letters()
    return "".join(
        character if ord(character) in letters else _nearest(character, letters)
        for character in unicodedata.normalize("NFC", text)
    )


def _nearest(character: str, letters: frozenset[int]) -> str:
    if character.isspace():
        return " "
    plain = unicodedata.normalize("NFKD", character)
    return "".join(one for one in plain if ord(one) in letters) or "?"


@lru_cache(1)
def _letters() -> frozenset[int]:
    """Register the fonts, once; the characters that both have."""
    faces = []
    for name in (_FONT, _BOLD):
        font = TTFont(name, f"{name}.ttf")
        pdfmetrics.registerFont(font)
        faces.append(frozenset(font.face.charToGlyph))
    return faces[0] & faces[1]
