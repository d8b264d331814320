"""What the cases of an imaging source work with beyond SOAP: its doors, and images of our own.

The kit knows what a source holds because it has stored it there itself, by C-STORE where there is
a DICOM endpoint, else by STOW-RS. ``held`` is one study for the cases that only look; those that
change something store one of their own. A source that judges who asks may show a study only once
its manifest is registered, for only then is it known who may see it: the patient is announced where
there is a feed, and the study awaited.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from io import BytesIO
from operator import not_
from typing import Any
from urllib.parse import urlencode

from PIL import Image
from pydicom.dataset import Dataset, FileDataset

from conformance.bench import Bench
from conformance.dimse import CALLING, STUDY_FIND, Dimse, Entity, asked, kind_of
from conformance.expectation import Mismatch
from conformance.images import part10, pixel_digest, study
from conformance.targets import NotRun
from conformance.text import Text
from conformance.web import DICOM, JSON, Reply, Web
from conformance.wire import Post
from metadata.datatypes import CX

Digests = dict[str, str]
"""SHA-256 of the pixels by SOP Instance UID."""


class Source:
    """The imaging source under test, as one case meets it."""

    def __init__(self, bench: Bench) -> None:
        self.targets = bench.targets
        self.bench = bench
        self.web = Web(
            bench.record, self.targets.timeout, self.targets.ssl_context, bench.wire.token
        )

    # --- Material ---------------------------------------------------------------------------

    def held(self) -> list[FileDataset]:
        """The study that looks are taken at: two CT images, and one of several frames."""
        return self.bench.session.shared("images", lambda: self.stored_study(self.patient()))

    def patient(self) -> CX:
        """A patient with no other study: the registry knows him where there is a feed."""
        announce = self.targets.gives("feed")
        return self.bench.patient() if announce else self.bench.unknown_patient()

    def stored_study(self, patient: CX) -> list[FileDataset]:
        """A study of ``patient``, once the source shows it."""
        return self.stored_studies([patient])[0]

    def stored_studies(self, patients: Sequence[CX]) -> list[list[FileDataset]]:
        """A study of each patient, once the source shows them all.

        If it never does, that is for the cases to say, each in its words.
        """
        studies = [self.stored(study(patient.id)) for patient in patients]
        firsts = [first for first, *_ in studies]
        self.bench.awaited(lambda: any(map(self._hides, firsts)), not_)
        return studies

    def _hides(self, image: Dataset) -> bool:
        """Whether the source knows nothing of the study of ``image``."""
        if self.targets.dicomweb is not None:
            return self.get(f"{path_of(image, 'study')}/metadata", JSON).status == 404
        found = self.dimse().find(
            STUDY_FIND, asked("STUDY", StudyInstanceUID=image.StudyInstanceUID)
        )
        return found.kind == "Success" and not found.data_sets

    def stored(self, images: list[FileDataset]) -> list[FileDataset]:
        """The images, once the source has stored every one."""
        if self.targets.dicom is not None:
            statuses = self.dimse().store(images)
            seen = ", ".join(f"{kind_of(one) or 'nothing'} {one:04X}" for one in statuses)
            good = all(kind_of(one) in ("Success", "Warning") for one in statuses)
        else:
            reply = self._stow(images)
            seen, good = f"HTTP {reply.status} {reply.problem}", reply.status == 200
        if not good:
            raise Mismatch("Success (storing test images)", seen)
        return images

    def _stow(self, images: Sequence[FileDataset]) -> Reply:
        boundary = f"kit_{uuid.uuid4().hex}"
        body = b"".join(
            f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode() + part10(image) + b"\r\n"
            for image in images
        )
        content_type = f'multipart/related; type="{DICOM}"; boundary={boundary}'
        post = Post.of(content_type, body + f"--{boundary}--\r\n".encode())
        return self.web.post(self.url("/studies"), post, JSON)

    # --- Doors ------------------------------------------------------------------------------

    def dimse(self) -> Dimse:
        """The DICOM endpoint; asked by the title of the destination where there is one."""
        calling = self.destination().title if self.targets.move_to else CALLING
        peer = _entity(self.targets.dicom)
        tls = self.targets.ssl_context if self.targets.dicom_tls else None
        return Dimse(peer, self.targets.timeout, self.bench.record, calling, tls)

    def destination(self) -> Entity:
        """Where the source may move images to: a place of this machine."""
        return _entity(self.targets.move_to)

    def url(self, path: str) -> str:
        """The URL of a DICOMweb resource."""
        return f"{self.targets.endpoint('dicomweb').rstrip('/')}{path}"

    def get(self, path: str, accept: str = "") -> Reply:
        """What DICOMweb answers."""
        return self.web.get(self.url(path), accept)

    def uri(self, image: Dataset, accept: str = "", **parameters: Any) -> Reply:
        """What WADO-URI answers for ``image``; a parameter that is None is left out."""
        asked = {
            "requestType": "WADO",
            "studyUID": image.StudyInstanceUID,
            "seriesUID": image.SeriesInstanceUID,
            "objectUID": image.SOPInstanceUID,
            **parameters,
        }
        return self.uri_query(urlencode({k: v for k, v in asked.items() if v is not None}), accept)

    def uri_query(self, query: str, accept: str = "") -> Reply:
        """What WADO-URI answers to a query string."""
        return self.web.get(f"{self.targets.endpoint('wado_uri')}?{query}", accept)


def path_of(image: Dataset, level: str = "instance") -> str:
    """The path of an image, or of its series or study."""
    path = f"/studies/{image.StudyInstanceUID}"
    if level != "study":
        path += f"/series/{image.SeriesInstanceUID}"
    return f"{path}/instances/{image.SOPInstanceUID}" if level == "instance" else path


def digests(images: Sequence[Dataset]) -> Digests:
    """What tells images apart and their pixels from others."""
    return {str(image.SOPInstanceUID): pixel_digest(image) for image in images}


def picture(reply: Reply) -> Image.Image:
    """The picture in an answer. Raises OSError where there is none."""
    shown = Image.open(BytesIO(reply.body))
    shown.load()
    return shown


def told(reply: Reply) -> tuple[int, str]:
    """HTTP status and media type."""
    return reply.status, reply.media


def values(found: Sequence[Mapping[str, Any]], tag: str) -> list[str]:
    """The first values of an attribute in DICOM JSON, sorted."""
    return sorted(str(one.get(tag, {}).get("Value", [""])[0]) for one in found)


def _entity(text: str | None) -> Entity:
    try:
        return Entity.parse(text or "")
    except ValueError as error:
        words = f"{text!r} n'est pas AE@HÔTE:PORT"
        raise NotRun(Text(str(error), words)) from None
