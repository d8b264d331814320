"""Whether what came is what the manifest lists: one judgement for every way.

Nothing a source claims is believed: the file itself must name the instance, its class, study and
series, must be in a transfer syntax that was asked for, and must be whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from consumer.instance import Identity, NotWhole, identify
from consumer.plan import Wanted
from consumer.report import Fault
from consumer.ways import Loss

_WORDS = {
    Fault.NOT_DICOM: "what the source sent is not this DICOM instance",
    Fault.TRUNCATED: "what the source sent ends in the middle",
    Fault.WRONG_INSTANCE: "what the source sent is another instance, {}",
    Fault.WRONG_CLASS: "what the source sent is of another SOP class, {}",
    Fault.WRONG_STUDY: "what the source sent is of another study, {}",
    Fault.WRONG_SERIES: "what the source sent is of another series, {}",
    Fault.WRONG_SYNTAX: "what the source sent is in transfer syntax {}, not asked for",
}

# What a stranger wrote goes into no text longer than a UID may be.
_UID_CHARACTERS = 64


class Checker:
    """Compares files with what was wanted; ``transfer_syntaxes`` are those asked for."""

    def __init__(self, transfer_syntaxes: Sequence[str]) -> None:
        self._transfer_syntaxes = frozenset(transfer_syntaxes)

    def judge(self, wanted: Wanted, path: Path) -> Loss | None:
        """What is wrong with the file at ``path``; None when it is the instance wanted."""
        try:
            identity = identify(path)
        except NotWhole as error:
            return Loss(wanted.sop_instance_uid, error.fault, _WORDS[error.fault])
        for fault, found in self._faults(wanted, identity):
            reason = _WORDS[fault].format(found[:_UID_CHARACTERS] or "(unnamed)")
            return Loss(wanted.sop_instance_uid, fault, reason)
        return None

    def _faults(self, wanted: Wanted, found: Identity) -> Iterator[tuple[Fault, str]]:
        pairs = (
            (Fault.WRONG_INSTANCE, found.sop_instance_uid, wanted.sop_instance_uid),
            (Fault.WRONG_INSTANCE, found.meta_instance_uid, wanted.sop_instance_uid),
            (Fault.WRONG_STUDY, found.study_instance_uid, wanted.study_instance_uid),
            (Fault.WRONG_SERIES, found.series_instance_uid, wanted.series_instance_uid),
            (Fault.WRONG_CLASS, found.sop_class_uid, wanted.sop_class_uid),
        )
        for fault, value, expected in pairs:
            if value != expected:
                yield fault, value
        if found.transfer_syntax_uid not in self._transfer_syntaxes:
            yield Fault.WRONG_SYNTAX, found.transfer_syntax_uid
