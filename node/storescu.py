"""Sending DICOM files to a storage provider (C-STORE, PS3.4 Annex B): ``kosmos publish``.

A file's data set is sent as it lies on disk, in its own transfer syntax: nothing is decoded or
converted. Covers the storage user only; the house's own provider is ``imaging_source``.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom.dsutils import split_dataset

from imaging_source.dimse import C_STORE_RQ
from imaging_source.elements import Unreadable
from imaging_source.guard import PeerGone, ProtocolError
from imaging_source.requestor import Peer, Rejected, Requested, Unreachable, in_groups
from node.texts import tr

_PIECE_BYTES = 256 * 1024
CALLING_TITLE = "KOSMOS_SCU"
INSTANCE = "MediaStorageSOPInstanceUID"
TAGS = [
    *("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID"),
    *("Modality", "SOPClassUID", "SOPInstanceUID"),
]

# What ends an association: its peer, or a file that cannot be read, of which half is sent.
_BREAKS = (PeerGone, ProtocolError, Unreadable, OSError)


class AssociationFailed(Exception):
    """The provider could not be reached or did not accept; the text says which."""

    def __init__(self, text: str, *, unreachable: bool) -> None:
        super().__init__(text)
        self.unreachable = unreachable


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file in the DICOM format (PS3.10), by what its meta information and header say."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    patient_id: str
    patient_name: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    consistent: bool
    """Whether the data set is the one that the meta information names: else it is refused."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.path.stat().st_size


@dataclass(frozen=True, slots=True)
class Stored:
    """The provider's answer for one file: a status of PS3.4 B.2.3, None when none came."""

    file: DicomFile
    status: int | None

    @property
    def ok(self) -> bool:
        """Whether the provider has the file, with or without a warning."""
        return self.status == 0 or (self.status is not None and self.status >> 12 == 0xB)


def find_files(paths: Iterable[Path]) -> Iterator[DicomFile]:
    """The DICOM files among ``paths`` and in the folders among them, in order of their names."""
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in found:
            if file.is_file() and (dicom := read(file)) is not None:
                yield dicom


def read(path: Path) -> DicomFile | None:
    """What ``path`` says of itself; None when it is no DICOM file that can be stored."""
    try:
        with warnings.catch_warnings():
            # What is odd in a file is for its receiver to judge.
            warnings.simplefilter("ignore")
            found = dcmread(path, specific_tags=TAGS, stop_before_pixels=True)
    except (InvalidDicomError, EOFError, ValueError, OSError):
        return None
    meta = found.file_meta
    sop_class, instance = _text(meta, "MediaStorageSOPClassUID"), _text(meta, INSTANCE)
    syntax, study = _text(meta, "TransferSyntaxUID"), _text(found, "StudyInstanceUID")
    # A DICOMDIR has no study.
    if not (sop_class and instance and syntax and study):
        return None
    named = (_text(found, "SOPClassUID"), _text(found, "SOPInstanceUID"))
    return DicomFile(
        path=path,
        sop_class_uid=sop_class,
        sop_instance_uid=instance,
        transfer_syntax_uid=syntax,
        patient_id=_text(found, "PatientID"),
        patient_name=_text(found, "PatientName"),
        study_instance_uid=study,
        series_instance_uid=_text(found, "SeriesInstanceUID"),
        modality=_text(found, "Modality"),
        consistent=named == (sop_class, instance),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "")


def send(
    files: Iterable[DicomFile],
    provider: Peer,
    calling: str = CALLING_TITLE,
    on_stored: Callable[[Stored], None] = lambda stored: None,
) -> list[Stored]:
    """Send ``files`` and return the answers in their order. Raises AssociationFailed."""
    answers: list[Stored] = []
    for group in in_groups(files, _contexts):
        for answer in _sent(group, provider, calling):
            answers.append(answer)
            on_stored(answer)
    return answers


def _sent(group: list[DicomFile], provider: Peer, calling: str) -> Iterator[Stored]:
    """Send what one association carries; where that breaks off, the rest has no answer."""
    wanted = dict.fromkeys(context for file in group for context in _contexts(file))
    left = deque(group)
    try:
        with suppress(*_BREAKS), Requested(provider, calling, wanted) as association:
            while left:
                status = _store(association, left[0])
                yield Stored(left.popleft(), status)
    except Rejected as error:
        text = tr("{title} at {place} rejects us", title=provider.title, place=_place(provider))
        raise AssociationFailed(text, unreachable=False) from error
    except Unreachable as error:
        text = tr("nothing answers DICOM at {place}", place=_place(provider))
        raise AssociationFailed(text, unreachable=True) from error
    yield from (Stored(file, None) for file in left)


def _contexts(file: DicomFile) -> list[tuple[str, str]]:
    """In the one syntax that the file is in: what is accepted is then what is sent."""
    return [(file.sop_class_uid, file.transfer_syntax_uid)]


def _place(provider: Peer) -> str:
    return f"{provider.host}:{provider.port}"


def _store(association: Requested, file: DicomFile) -> int | None:
    """The provider's status; None where it takes no such file. Raises one of _BREAKS."""
    context_id = association.line.context_of(file.sop_class_uid, file.transfer_syntax_uid)
    if context_id is None:
        return None
    uids = file.sop_class_uid, file.sop_instance_uid
    association.line.send_instance(context_id, *uids, _data_set(file.path))
    return association.response_to(C_STORE_RQ).command.status


def _data_set(path: Path) -> Iterator[bytes]:
    """The pieces of a file that follow its meta information."""
    _, begin = split_dataset(path)
    with path.open("rb") as file:
        file.seek(begin)
        while piece := file.read(_PIECE_BYTES):
            yield piece
