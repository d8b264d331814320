"""Sending DICOM files to a storage provider (C-STORE, PS3.4 Annex B): ``kosmos publish``.

A file's data set is sent as it lies on disk, in its own transfer syntax: nothing is decoded or
converted. Covers the storage user only; the house's own provider is ``imaging_source``.
"""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, Association, _config, build_context, evt

from node.texts import tr

# PS3.8 9.3.2: presentation context identifiers are the odd numbers from 1 to 255.
MOST_CONTEXTS = 128
# Each response awaits the provider's disk; each connection a handshake.
RESPONSE_SECONDS = 60.0
CONNECT_SECONDS = 10.0
# Larger fragments cost less per byte; a provider that wants less says so (PS3.8 D.1).
PDU_BYTES = 1024 * 1024
CALLING_TITLE = "KOSMOS_SCU"
INSTANCE = "MediaStorageSOPInstanceUID"
TAGS = [
    *("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID"),
    *("Modality", "SOPClassUID", "SOPInstanceUID"),
]

# Send the bytes of the file, and do not decode them first.
_config.STORE_SEND_CHUNKED_DATASET = True


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


@dataclass(frozen=True, slots=True)
class Provider:
    """A storage provider: where it is, how it is called, how it is spoken to."""

    host: str
    port: int
    title: str
    tls: ssl.SSLContext | None = None


def send(
    files: Iterable[DicomFile],
    provider: Provider,
    calling: str = CALLING_TITLE,
    on_stored: Callable[[Stored], None] = lambda stored: None,
) -> list[Stored]:
    """Send ``files`` and return the answers in their order. Raises AssociationFailed."""
    answers: list[Stored] = []
    for group in _groups(files):
        association = _associate(group, provider, calling)
        try:
            for file in group:
                answers.append(_store(association, file))
                on_stored(answers[-1])
        finally:
            association.release()
    return answers


def _groups(files: Iterable[DicomFile]) -> Iterator[list[DicomFile]]:
    """``files`` in groups that one association can carry: a context for each class and syntax."""
    group: list[DicomFile] = []
    contexts: set[tuple[str, str]] = set()
    for file in files:
        context = (file.sop_class_uid, file.transfer_syntax_uid)
        if context not in contexts and len(contexts) == MOST_CONTEXTS:
            yield group
            group, contexts = [], set()
        contexts.add(context)
        group.append(file)
    if group:
        yield group


def _associate(group: list[DicomFile], provider: Provider, calling: str) -> Association:
    user = AE(calling)
    user.connection_timeout = CONNECT_SECONDS
    user.dimse_timeout = RESPONSE_SECONDS
    wanted = dict.fromkeys((file.sop_class_uid, file.transfer_syntax_uid) for file in group)
    association = user.associate(
        provider.host,
        provider.port,
        # One syntax in each: what is accepted is then what the file is in.
        contexts=[build_context(sop_class, syntax) for sop_class, syntax in wanted],
        ae_title=provider.title,
        max_pdu=PDU_BYTES,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
        tls_args=None if provider.tls is None else (provider.tls, provider.host),
    )
    if association.is_established:
        return association
    place = f"{provider.host}:{provider.port}"
    if association.is_rejected:
        text = tr("{title} at {place} rejects us", title=provider.title, place=place)
        raise AssociationFailed(text, unreachable=False)
    raise AssociationFailed(tr("nothing answers DICOM at {place}", place=place), unreachable=True)


def _store(association: Association, file: DicomFile) -> Stored:
    try:
        answer = association.send_c_store(file.path)
    except (ValueError, RuntimeError):  # no accepted context; the association is gone
        return Stored(file, None)
    if "Status" not in answer:
        # Aborted, or silent for too long: to each further file it would be silent as long.
        association.abort()
    return Stored(file, answer.get("Status"))


def _no_delay(event: evt.Event) -> None:
    """Without this every instance waits 40 ms for a delayed acknowledgement of TCP."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
