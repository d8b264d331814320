"""Imaging Document Source: what a rejection note takes out of use, at every door (I07, I08)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydicom.dataset import FileDataset

from conformance.bench import Bench, must
from conformance.case import Actor, Cases
from conformance.cases.imaging import UNKNOWN_DOCUMENT, ask, place_of
from conformance.dimse import STUDY_FIND, asked
from conformance.expectation import Expectation, HttpStatus, Same, Success, any_of, failure
from conformance.images import CT_IMAGE, MULTI_FRAME, REJECTIONS, rejection_note
from conformance.seen import Compared, Seen
from conformance.source import Source, digests, path_of, values
from conformance.web import DICOM, JSON
from manifest.flavours import is_manifest
from manifest.kos import read_manifest
from metadata.datatypes import CXi
from metadata.identifiers import STUDY_INSTANCE_UID_REFERENCE
from metadata.model import DocumentEntry
from transactions.stored_query import find_documents_by_reference_id

CASES = Cases(Actor.IMAGING, "images")

SPEC = "RAD TF-2 4.66"
SOP_INSTANCE_UID = "00080018"
ANY_SYNTAX = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
EXPIRED = "113039"
LOOKED_AT, SENT_AGAIN = "rejected images, looked at", "rejected images, sent again"
"""Studies that several cases share: those that only look, and those that change one each."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A study of which one image is out of use."""

    image: FileDataset
    kept: list[FileDataset]

    @property
    def uids(self) -> list[str]:
        """What is still to be seen."""
        return sorted(digests(self.kept))


def _rejected(source: Source) -> dict[str, Rejected]:
    """For each title of a note a study whose first image has been rejected.

    All at once: a source may show a study after a while of quiet alone, and one is enough.
    """
    studies = source.stored_studies([source.patient() for _ in REJECTIONS])
    found = {}
    for code, (image, *kept) in zip(REJECTIONS, studies, strict=True):
        source.stored([rejection_note(code, [image])])
        found[code] = Rejected(image, kept)
    return found


Look = Callable[[Source, Rejected], Seen]


def _at(door: str, en: str, fr: str, expected: Expectation, needs: str, look: Look) -> None:
    """A case for each title of a note."""
    for code, meaning in REJECTIONS.items():

        def stimulus(bench: Bench, code: str = code) -> Iterator[Seen]:
            source = Source(bench)
            rejected = bench.session.shared(LOOKED_AT, lambda: _rejected(source))
            yield look(source, rejected[code])

        CASES.add(
            f"I07-{code}-{door}",
            f"{meaning}: {en}",
            f"{meaning} : {fr}",
            spec=SPEC,
            expected=[expected],
            stimulus=stimulus,
            needs=needs,
        )


OTHERS = "the other instances alone"
GONE = any_of(HttpStatus(404), HttpStatus(410))


def _qido(source: Source, rejected: Rejected) -> Seen:
    found = source.get(f"{path_of(rejected.image, 'study')}/instances", JSON).json()
    return Compared(OTHERS, rejected.uids, values(found, SOP_INSTANCE_UID))


def _wado_rs(source: Source, rejected: Rejected) -> Seen:
    return source.get(path_of(rejected.image), ANY_SYNTAX).answer()


def _wado_rs_study(source: Source, rejected: Rejected) -> Seen:
    reply = source.get(path_of(rejected.image, "study"), ANY_SYNTAX)
    return Compared(OTHERS, digests(rejected.kept), digests(reply.images()))


def _wado_uri(source: Source, rejected: Rejected) -> Seen:
    return source.uri(rejected.image, contentType=DICOM).answer()


def _rad_69(source: Source, rejected: Rejected) -> Seen:
    place = place_of(rejected.image)
    answer = ask(source.bench, [(place, source.targets.imaging_unique_id or "")])
    return answer.located(place.sop_instance_uid)


def _find(source: Source, rejected: Rejected) -> Seen:
    series = asked(
        "IMAGE",
        StudyInstanceUID=rejected.image.StudyInstanceUID,
        SeriesInstanceUID=rejected.image.SeriesInstanceUID,
        SOPInstanceUID="",
    )
    outcome = source.dimse().find(STUDY_FIND, series)
    own = rejected.image.SeriesInstanceUID
    kept = sorted(digests([one for one in rejected.kept if one.SeriesInstanceUID == own]))
    found = sorted(str(one.SOPInstanceUID) for one in outcome.data_sets)
    return Compared(OTHERS, ("Success", kept), (outcome.kind, found))


def _get(source: Source, rejected: Rejected) -> Seen:
    study = asked("STUDY", StudyInstanceUID=rejected.image.StudyInstanceUID)
    outcome = source.dimse().get(study, [CT_IMAGE, MULTI_FRAME])
    should = ("Success", digests(rejected.kept))
    return Compared(OTHERS, should, (outcome.kind, digests(outcome.data_sets)))


_at("qido", "not found by QIDO-RS", "absente de QIDO-RS", Same(OTHERS), "dicomweb", _qido)
_at("wado-rs", "not had by WADO-RS", "absente de WADO-RS", GONE, "dicomweb", _wado_rs)
_at(
    "study",
    "not in the study by WADO-RS",
    "absente de l'examen par WADO-RS",
    Same(OTHERS),
    "dicomweb",
    _wado_rs_study,
)
_at("wado-uri", "not had by WADO-URI", "absente de WADO-URI", GONE, "wado_uri", _wado_uri)
_at(
    "rad-69",
    "not had by RAD-69",
    "absente de RAD-69",
    failure(UNKNOWN_DOCUMENT, about="the instance"),
    "imaging imaging_unique_id",
    _rad_69,
)
_at("find", "not found by C-FIND", "absente de C-FIND", Same(OTHERS), "dicom", _find)
_at("get", "not had by C-GET", "absente de C-GET", Same(OTHERS), "dicom", _get)


# --- Registry ------------------------------------------------------------------------------------

_PUBLISHED = "one manifest in force, of the other instances"


@dataclass(frozen=True, slots=True)
class _Published:
    """What the manifests in force name once a study has been corrected."""

    wanted: list[str]
    named: list[list[str]]


def _published(bench: Bench) -> dict[str, _Published]:
    """For each code a study that was published whole, then with one image rejected."""
    source, patient = Source(bench), bench.patient()
    stored = source.stored_studies([patient] * len(REJECTIONS))
    studies = dict(zip(REJECTIONS, stored, strict=True))
    for images in studies.values():
        _wait(bench, str(patient), images[0], sorted(digests(images)))
    for code, (image, *_) in studies.items():
        source.stored([rejection_note(code, [image])])
    found = {}
    for code, (image, *kept) in studies.items():
        wanted = sorted(digests(kept))
        found[code] = _Published(wanted, _wait(bench, str(patient), image, wanted))
    return found


def _registry(code: str) -> None:
    def stimulus(bench: Bench) -> Iterator[Seen]:
        found = bench.session.shared("corrected studies", lambda: _published(bench))[code]
        yield Compared(_PUBLISHED, [found.wanted], found.named)

    CASES.add(
        f"I07-{code}-registry",
        f"{REJECTIONS[code]}: not in the manifest that replaces the one before",
        f"{REJECTIONS[code]} : absente du manifeste qui remplace le précédent",
        spec="RAD TF-2 4.68, 4.66",
        expected=[Same(_PUBLISHED)],
        stimulus=stimulus,
        needs="registry repository patients publishes",
    )


for _code in REJECTIONS:
    _registry(_code)


def _wait(bench: Bench, patient: str, image: FileDataset, wanted: list[str]) -> list[list[str]]:
    """What the manifests in force of a study name, once it is ``wanted`` or time is over."""

    def named() -> list[list[str]]:
        return [_named(bench, entry) for entry in _manifests(bench, patient, image)]

    return bench.awaited(named, lambda seen: seen == [wanted])


def _manifests(bench: Bench, patient: str, image: FileDataset) -> list[DocumentEntry]:
    study = CXi.of(str(image.StudyInstanceUID), STUDY_INSTANCE_UID_REFERENCE)
    found = bench.objects(find_documents_by_reference_id(patient, [str(study)])).documents
    return [entry for entry in found if is_manifest(entry)]


def _named(bench: Bench, entry: DocumentEntry) -> list[str]:
    answer = bench.retrieve_ids(entry.unique_id)
    must(Success(), answer, "retrieving a manifest")
    assert answer.response is not None
    [document] = answer.response.documents
    manifest = read_manifest(b"".join(document.content.chunks()))
    return sorted(one.sop_instance_uid for series in manifest.series for one in series.instances)


# --- Sent again ----------------------------------------------------------------------------------


def _sent_again(code: str, en: str, fr: str, comes_back: bool) -> None:
    def stimulus(bench: Bench) -> Iterator[Seen]:
        source = Source(bench)
        rejected = bench.session.shared(SENT_AGAIN, lambda: _rejected(source))[code]
        source.dimse().store([rejected.image])
        found = source.get(f"{path_of(rejected.image, 'study')}/instances", JSON).json()
        back = [str(rejected.image.SOPInstanceUID)] if comes_back else []
        wanted = sorted([*rejected.uids, *back])
        yield Compared(_AGAIN, wanted, values(found, SOP_INSTANCE_UID))

    CASES.add(
        f"I08-{code}",
        f"{REJECTIONS[code]}: {en}",
        f"{REJECTIONS[code]} : {fr}",
        spec=SPEC,
        expected=[Same(_AGAIN)],
        stimulus=stimulus,
        needs="dicom dicomweb",
    )


_AGAIN = "the instances in use"

for _code in REJECTIONS:
    if _code == EXPIRED:
        _sent_again(_code, "sent again, it is in use", "renvoyée, elle est en usage", True)
    else:
        _sent_again(_code, "sent again, it stays away", "renvoyée, elle reste absente", False)
