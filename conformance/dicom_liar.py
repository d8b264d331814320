"""An imaging source that lies in one way over DICOM associations (RAD-16): C-GET and C-MOVE.

Built on pynetdicom, as all of DICOM in the kit. It answers for studies, series and instances of
one study, in the transfer syntax of its images, with what its lie makes of those that were asked
for. What the protocol cannot say is no lie of it: a boundary, a redirection, and a syntax that
nobody asked for, since a file travels in the one that was negotiated. For judging consumers
(``conformance.consumers``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pynetdicom import AE, build_context, evt

from conformance.dimse import STUDY_GET, STUDY_MOVE, Entity
from conformance.images import part10
from conformance.liar import LIES, Documents

TITLE = "KIT"
"""The application entity title of the source, which its manifests name."""

_PENDING = 0xFF00
_LEVELS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True, slots=True)
class DicomLie:
    """One way to lie: about the files, or by what is done after the first of them."""

    documents: Callable[[Documents], Documents] = lambda documents: documents
    breaks_off: bool = False
    falls_silent: bool = False


class _Sent(Dataset):
    """A data set under the SOP Instance UID that its C-STORE request names."""

    named = ""

    @property
    def SOPInstanceUID(self) -> str:
        """As pynetdicom asks for it."""
        return self.named


@contextmanager
def dicom_source(
    images: Sequence[FileDataset], lie: DicomLie, destination: Entity
) -> Iterator[Entity]:
    """Serve meanwhile; yields where. C-MOVE sends to ``destination`` alone."""
    stopping = threading.Event()

    def sent(event: evt.Event) -> Iterator[Any]:
        instances = _sent(images, lie, event.identifier)
        yield len(instances)
        for number, one in enumerate(instances):
            if number and lie.breaks_off:
                event.assoc.abort()
                return
            if number and lie.falls_silent:
                stopping.wait()
                return
            yield _PENDING, one

    def moved(event: evt.Event) -> Iterator[Any]:
        if (event.move_destination or "").strip() != destination.title:
            yield None, None
            return
        contexts = [build_context(one, _syntax(images)) for one in _classes(images)]
        yield destination.host, destination.port, {"contexts": contexts}
        yield from sent(event)

    provider = AE(TITLE)
    for model in (STUDY_GET, STUDY_MOVE):
        provider.add_supported_context(model)
    for one in _classes(images):
        provider.add_supported_context(one, _syntax(images), scu_role=False, scp_role=True)
    handlers: list[evt.EventHandlerType] = [(evt.EVT_C_GET, sent), (evt.EVT_C_MOVE, moved)]
    server = provider.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None  # it does not block
    try:
        yield Entity(TITLE, "127.0.0.1", server.server_address[1])
    finally:
        stopping.set()
        server.shutdown()


def _sent(images: Sequence[FileDataset], lie: DicomLie, identifier: Dataset) -> list[Dataset]:
    """What is sent of the images that ``identifier`` names."""
    asked = {str(one.SOPInstanceUID) for one in images if _is_named(one, identifier)}
    documents = lie.documents([(str(one.SOPInstanceUID), part10(one)) for one in images])
    return [_under(uid, file) for uid, file in documents if uid in asked]


def _is_named(image: Dataset, identifier: Dataset) -> bool:
    for keyword in _LEVELS:
        named = identifier.get(keyword) or []
        uids = [named] if isinstance(named, str) else list(named)
        if uids and image[keyword].value not in uids:
            return False
    return True


def _under(uid: str, file: bytes) -> Dataset:
    image = dcmread(BytesIO(file))
    sent = _Sent(image)
    sent.file_meta = image.file_meta
    sent.named = uid
    return sent


def _classes(images: Sequence[FileDataset]) -> list[str]:
    return list(dict.fromkeys(str(one.SOPClassUID) for one in images))


def _syntax(images: Sequence[FileDataset]) -> str:
    return str(images[0].file_meta.TransferSyntaxUID)


def _shortened(documents: Documents) -> Documents:
    (uid, file), *others = documents
    image = dcmread(BytesIO(file))
    image.PixelData = image.PixelData[:-64]
    return [(uid, part10(image)), *others]


HONEST_DICOM = DicomLie()

DICOM_LIES = {
    **{
        name: DicomLie(LIES[name].documents)
        for name in ("fewer", "none", "twice", "exchanged", "study")
    },
    "truncated": DicomLie(_shortened),
    "broken-off": DicomLie(breaks_off=True),
    "silent": DicomLie(falls_silent=True),
}
"""Every way in which this source lies, by its name."""
