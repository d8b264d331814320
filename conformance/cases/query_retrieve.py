"""Imaging Document Source: C-FIND, C-MOVE and C-GET (RAD-16; I04, I05, I06)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.dimse import PATIENT_FIND, STUDY_FIND, Outcome, asked, receiving
from conformance.expectation import Same
from conformance.images import CT_IMAGE, MULTI_FRAME
from conformance.seen import Compared, Seen
from conformance.source import Digests, Source, digests
from metadata.datatypes import new_oid

CASES = Cases(Actor.IMAGING, "dicom")

FIND, MOVE, GET = (f"RAD TF-2 4.16; PS3.4 C.4.{number}" for number in (1, 2, 3))
DESTINATION_UNKNOWN = 0xA801
CLASSES = (CT_IMAGE, MULTI_FRAME)

Look = Callable[[Source, list[Dataset]], tuple[object, object]]


def _looked(
    case_id: str, en: str, fr: str, expected: str, spec: str, needs: str = ""
) -> Callable[[Look], Look]:
    """Add a case: the function gives what should come back and what did."""

    def collect(look: Look) -> Look:
        def stimulus(bench: Bench) -> Iterator[Seen]:
            source = Source(bench)
            should, seen = look(source, list(source.held()))
            yield Compared(expected, should, seen)

        CASES.add(
            case_id, en, fr, spec=spec, expected=[Same(expected)], stimulus=stimulus, needs=needs
        )
        return look

    return collect


def _found(outcome: Outcome, keyword: str) -> tuple[str, list[str]]:
    """How a query ended and the values of one attribute of what it found."""
    return outcome.kind, sorted(str(one.get(keyword, "")) for one in outcome.data_sets)


# --- C-FIND --------------------------------------------------------------------------------------


@_looked(
    "I04-patient",
    "A patient by identifier",
    "Un patient par son identifiant",
    "the patient alone",
    FIND,
)
def _patient(source: Source, images: list[Dataset]) -> tuple[object, object]:
    query = asked("PATIENT", PatientID=images[0].PatientID, PatientName="")
    outcome = source.dimse().find(PATIENT_FIND, query)
    return ("Success", [str(images[0].PatientName)]), _found(outcome, "PatientName")


def _study_by(case_id: str, keyword: str, en: str, fr: str) -> None:
    @_looked(f"I04-study-{case_id}", en, fr, "the study alone", FIND)
    def _look(source: Source, images: list[Dataset]) -> tuple[object, object]:
        query = asked("STUDY", **{"StudyInstanceUID": "", keyword: images[0][keyword].value})
        outcome = source.dimse().find(STUDY_FIND, query)
        return ("Success", [images[0].StudyInstanceUID]), _found(outcome, "StudyInstanceUID")


_study_by("patient", "PatientID", "The studies of a patient", "Les examens d'un patient")
_study_by("uid", "StudyInstanceUID", "A study by its UID", "Un examen par son UID")
_study_by(
    "accession",
    "AccessionNumber",
    "A study by its accession number",
    "Un examen par son numéro d'accession",
)


@_looked(
    "I04-study-wildcard",
    "Patient identifiers with a wildcard",
    "Des identifiants de patient avec un joker",
    "the study alone",
    FIND,
)
def _wildcard(source: Source, images: list[Dataset]) -> tuple[object, object]:
    query = asked(
        "STUDY",
        StudyInstanceUID="",
        PatientID=f"{str(images[0].PatientID)[:-1]}?",
        AccessionNumber=images[0].AccessionNumber,
    )
    outcome = source.dimse().find(STUDY_FIND, query)
    return ("Success", [images[0].StudyInstanceUID]), _found(outcome, "StudyInstanceUID")


@_looked(
    "I04-study-range",
    "A patient's studies of a range of dates",
    "Les examens d'un patient entre deux dates",
    "one within, none outside",
    FIND,
)
def _range(source: Source, images: list[Dataset]) -> tuple[object, object]:
    counts = []
    for dates in ("20250301-20250331", "20250401-"):
        query = asked("STUDY", StudyInstanceUID="", PatientID=images[0].PatientID, StudyDate=dates)
        outcome = source.dimse().find(STUDY_FIND, query)
        counts.append((outcome.kind, len(outcome.data_sets)))
    return [("Success", 1), ("Success", 0)], counts


@_looked(
    "I04-study-keys",
    "The counts of a study",
    "Les effectifs d'un examen",
    "two series, three instances",
    FIND,
)
def _counts(source: Source, images: list[Dataset]) -> tuple[object, object]:
    query = asked(
        "STUDY",
        StudyInstanceUID=images[0].StudyInstanceUID,
        NumberOfStudyRelatedSeries="",
        NumberOfStudyRelatedInstances="",
    )
    found = source.dimse().find(STUDY_FIND, query).data_sets
    keys = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
    return [["2", str(len(images))]], [[str(one.get(key, "")) for key in keys] for one in found]


@_looked("I04-series", "The series of a study", "Les séries d'un examen", "both series", FIND)
def _series(source: Source, images: list[Dataset]) -> tuple[object, object]:
    query = asked(
        "SERIES", StudyInstanceUID=images[0].StudyInstanceUID, SeriesInstanceUID="", Modality=""
    )
    outcome = source.dimse().find(STUDY_FIND, query)
    return ("Success", ["CT", "OT"]), _found(outcome, "Modality")


@_looked(
    "I04-image", "The instances of a series", "Les instances d'une série", "every instance", FIND
)
def _image(source: Source, images: list[Dataset]) -> tuple[object, object]:
    first = images[0]
    query = asked(
        "IMAGE",
        StudyInstanceUID=first.StudyInstanceUID,
        SeriesInstanceUID=first.SeriesInstanceUID,
        SOPInstanceUID="",
    )
    outcome = source.dimse().find(STUDY_FIND, query)
    own = [one for one in images if one.SeriesInstanceUID == first.SeriesInstanceUID]
    return ("Success", sorted(digests(own))), _found(outcome, "SOPInstanceUID")


@_looked("I04-nothing", "A study nobody has", "Un examen que personne n'a", "no match", FIND)
def _nothing(source: Source, images: list[Dataset]) -> tuple[object, object]:
    outcome = source.dimse().find(STUDY_FIND, asked("STUDY", StudyInstanceUID=new_oid()))
    return ("Success", []), _found(outcome, "StudyInstanceUID")


def _without_level() -> Dataset:
    query = asked("STUDY", StudyInstanceUID="")
    del query.QueryRetrieveLevel
    return query


def _refused(case_id: str, en: str, fr: str, query: Dataset, model: str = STUDY_FIND) -> None:
    @_looked(f"I04-{case_id}", en, fr, "a status of failure", FIND)
    def _look(source: Source, images: list[Dataset]) -> tuple[object, object]:
        outcome = source.dimse().find(model, query)
        return ("Failure", 0), (outcome.kind, len(outcome.data_sets))


_refused("no-level", "A query without a level", "Une requête sans niveau", _without_level())
_refused(
    "level",
    "A level that the model does not have",
    "Un niveau absent du modèle",
    asked("FRAME", StudyInstanceUID=""),
)
_refused(
    "level-patient",
    "The level PATIENT of the study root",
    "Le niveau PATIENT de Study Root",
    asked("PATIENT", PatientID="KIT"),
)
_refused(
    "series-alone",
    "Series without the study they are of",
    "Des séries sans leur examen",
    asked("SERIES", SeriesInstanceUID=""),
)


# --- C-MOVE, C-GET -------------------------------------------------------------------------------


def _keys(images: list[Dataset], level: str) -> Dataset:
    """The identifier that retrieves the first image, its series or its study."""
    identifier = asked(level, StudyInstanceUID=images[0].StudyInstanceUID)
    if level != "STUDY":
        identifier.SeriesInstanceUID = images[0].SeriesInstanceUID
    if level == "IMAGE":
        identifier.SOPInstanceUID = images[0].SOPInstanceUID
    return identifier


def _wanted(images: list[Dataset], level: str) -> Digests:
    keyword = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}.get(
        level, "SOPInstanceUID"
    )
    return digests([one for one in images if one[keyword] == images[0][keyword]])


def _retrieval(level: str, en: str, fr: str) -> None:
    """One level, by both ways."""
    name = level.lower()

    @_looked(f"I05-{name}", f"{en}, moved", f"{fr} : C-MOVE", "every instance", MOVE, "move_to")
    def _move(source: Source, images: list[Dataset]) -> tuple[object, object]:
        came: list[Dataset] = []
        place = source.destination()
        with receiving(place.port, place.title, came.append):
            outcome = source.dimse().move(_keys(images, level), place.title)
        wanted = _wanted(images, level)
        return ("Success", len(wanted), wanted), (outcome.kind, outcome.completed, digests(came))

    @_looked(f"I06-{name}", f"{en}, got", f"{fr} : C-GET", "every instance", GET)
    def _get(source: Source, images: list[Dataset]) -> tuple[object, object]:
        outcome = source.dimse().get(_keys(images, level), CLASSES)
        wanted = _wanted(images, level)
        came = digests(outcome.data_sets)
        return ("Success", len(wanted), wanted), (outcome.kind, outcome.completed, came)


_retrieval("STUDY", "A study", "Un examen")
_retrieval("SERIES", "A series", "Une série")
_retrieval("IMAGE", "An instance", "Une instance")


@_looked(
    "I05-destination",
    "A destination that is not known",
    "Une destination inconnue",
    "status A801",
    MOVE,
)
def _destination(source: Source, images: list[Dataset]) -> tuple[object, object]:
    outcome = source.dimse().move(_keys(images, "STUDY"), "KIT_NOBODY")
    return DESTINATION_UNKNOWN, outcome.status


@_looked(
    "I05-down",
    "A destination that is not there",
    "Une destination absente",
    "a status of failure, nothing completed",
    MOVE,
    "move_to",
)
def _down(source: Source, images: list[Dataset]) -> tuple[object, object]:
    outcome = source.dimse().move(_keys(images, "STUDY"), source.destination().title)
    return ("Failure", 0), (outcome.kind, outcome.completed)


@_looked(
    "I06-class",
    "Only the classes that are taken",
    "Seules les classes acceptées",
    "a warning, one failure, the others",
    GET,
)
def _some_classes(source: Source, images: list[Dataset]) -> tuple[object, object]:
    outcome = source.dimse().get(_keys(images, "STUDY"), [CT_IMAGE])
    wanted = digests([one for one in images if one.SOPClassUID == CT_IMAGE])
    return ("Warning", 1, wanted), (outcome.kind, outcome.failed, digests(outcome.data_sets))
