"""Text that people read, in English and French."""

from __future__ import annotations

from typing import Literal, NamedTuple

Language = Literal["en", "fr"]


class Text(NamedTuple):
    """The same sentence in both languages."""

    en: str
    fr: str

    def to(self, language: Language) -> str:
        """The sentence in ``language``."""
        return self.fr if language == "fr" else self.en


NO_TEXT = Text("", "")
