"""Judging an Imaging Document Consumer, given as a command, by a source that lies: over RAD-69
(K01), over WADO-RS (K02), over WADO-URI (K03), over DICOM associations (K04).

The command gets a manifest and the address of its source, fetches, and says by its exit code
whether it has everything: 0 where it has, anything else where it has not. Against an honest source
it must say so; against one that lies in any way it must not. A command that does not end within
the time is stopped, and has failed.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from pydicom.dataset import FileDataset

from conformance.bench import Bench
from conformance.case import Actor, Case
from conformance.dicom_liar import DICOM_LIES, HONEST_DICOM, DicomLie, dicom_source
from conformance.dimse import Entity
from conformance.expectation import Same
from conformance.images import part10, study
from conformance.liar import HONEST, LIES, Lie, imaging_source
from conformance.results import Results
from conformance.run import run
from conformance.seen import Compared, Seen
from conformance.targets import NotRun, Targets
from conformance.text import Text
from conformance.web_liar import (
    HONEST_WEB,
    URI_LIES,
    URI_PATH,
    WEB_LIES,
    WebLie,
    web_source,
)
from manifest.kos import write_kos
from manifest.model import Manifest, ManifestInstance, ManifestSeries, Patient, Study
from metadata.datatypes import new_oid

SPEC = "RAD TF-2 4.69; RAD TF-1 18"
WEB_SPEC = "RAD TF-2 4.107; RAD TF-1 18"
URI_SPEC = "RAD TF-2 4.55; RAD TF-1 18"
DICOM_SPEC = "RAD TF-2 4.16; RAD TF-1 18"
NOWHERE, NOBODY = "http://127.0.0.1:9/", "NOBODY@127.0.0.1:9"
"""Where nobody answers (port 9, discard): the doors that a case is not about."""
NO_DOOR = {
    "url": NOWHERE,
    "dicomweb": NOWHERE,
    "wado": NOWHERE,
    "dicom": NOBODY,
    "destination": NOBODY,
}
PATIENT = "KIT-CONSUMER"
COMPLETE, INCOMPLETE = "everything is there", "something is missing"

TITLES = {
    "fewer": Text(
        "One instance fewer than Success says", "Une instance de moins que le dit Success"
    ),
    "none": Text("Success without any instance", "Success sans aucune instance"),
    "errors": Text("Success beside an error", "Success à côté d'une erreur"),
    "twice": Text("One instance twice, another never", "Une instance deux fois, une autre jamais"),
    "truncated": Text("A truncated instance", "Une instance tronquée"),
    "exchanged": Text("Another instance under this UID", "Une autre instance sous cet UID"),
    "broken-off": Text("An answer that breaks off", "Une réponse interrompue"),
    "boundary": Text("An answer with another boundary", "Une réponse à l'autre boundary"),
    "redirect": Text("A redirection elsewhere", "Une redirection ailleurs"),
    "study": Text("An instance of another study", "Une instance d'un autre examen"),
    "syntax": Text("A transfer syntax nobody asked for", "Une syntaxe que personne n'a demandée"),
}

WEB_TITLES = {
    **{name: TITLES[name] for name in WEB_LIES if name in TITLES},
    "missing": Text("An instance that is not there", "Une instance absente"),
    "empty": Text("An answer without any part", "Une réponse sans aucune partie"),
    "page": Text("A page to sign in instead", "Une page de connexion à la place"),
    "endless": Text("A body that does not end", "Un corps qui ne finit pas"),
    "slow": Text("A body byte by byte, for ever", "Un corps octet par octet, sans fin"),
}

DICOM_TITLES = {
    **{name: TITLES[name] for name in DICOM_LIES if name in TITLES},
    "silent": Text("A source that falls silent", "Une source qui se tait"),
}

L = TypeVar("L")


@dataclass(frozen=True, slots=True)
class _Door(Generic[L]):
    """A way to images: ``named`` in the command, and how it is served with a lie."""

    group: str
    named: str
    spec: str
    honest: L
    lies: Mapping[str, L]
    titles: Mapping[str, Text]
    serve: Callable[[Sequence[FileDataset], L], AbstractContextManager[Mapping[str, str]]]


@contextmanager
def _over_wado_rs(images: Sequence[FileDataset], lie: WebLie) -> Iterator[Mapping[str, str]]:
    with web_source(images, lie) as url:
        yield {"dicomweb": f"{url}/dicomweb"}


@contextmanager
def _over_wado_uri(images: Sequence[FileDataset], lie: WebLie) -> Iterator[Mapping[str, str]]:
    with web_source(images, lie) as url:
        yield {"wado": url + URI_PATH}


@contextmanager
def _over_dicom(images: Sequence[FileDataset], lie: DicomLie) -> Iterator[Mapping[str, str]]:
    destination = Entity("KITDEST", "127.0.0.1", _free_port())
    with dicom_source(images, lie, destination) as source:
        yield {"dicom": str(source), "destination": str(destination)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


_WADO_RS = _Door("K02", "dicomweb", WEB_SPEC, HONEST_WEB, WEB_LIES, WEB_TITLES, _over_wado_rs)
_WADO_URI = _Door("K03", "wado", URI_SPEC, HONEST_WEB, URI_LIES, WEB_TITLES, _over_wado_uri)
_DICOM = _Door("K04", "dicom", DICOM_SPEC, HONEST_DICOM, DICOM_LIES, DICOM_TITLES, _over_dicom)


def consumer_cases(command: str = "") -> list[Case]:
    """One case for each lie about the command given, and one for the honest source."""
    title = Text("An honest source", "Une source honnête")
    lies = [_case(f"K01-{name}", TITLES[name], command, lie) for name, lie in LIES.items()]
    return [
        _case("K01-honest", title, command, HONEST),
        *lies,
        *_door_cases(_WADO_RS, command),
        *_door_cases(_WADO_URI, command),
        *_door_cases(_DICOM, command),
    ]


def _door_cases(door: _Door[L], command: str) -> list[Case]:
    title = Text("An honest source", "Une source honnête")
    lies = [
        _door_case(door, name, door.titles[name], command, lie) for name, lie in door.lies.items()
    ]
    return [_door_case(door, "honest", title, command, door.honest), *lies]


def judge_consumer(command: str, report_dir: Path | None = None, timeout: float = 60.0) -> Results:
    """Run every case; ``timeout`` in seconds is for one run of the command.

    In ``command`` these are filled in: ``{manifest}`` a file, ``{url}`` the source's RAD-69,
    ``{dicomweb}`` its WADO-RS, ``{wado}`` its WADO-URI, ``{dicom}`` its AE@HOST:PORT for C-GET and
    C-MOVE, which sends to ``{destination}``, ``{source}`` its repositoryUniqueId, ``{folder}``
    where to put what was fetched. Only one of the doors is there at a time.
    """
    return run(Targets(timeout=timeout), consumer_cases(command), report_dir)


def _case(case_id: str, title: Text, command: str, lie: Lie) -> Case:
    outcome = COMPLETE if lie is HONEST else INCOMPLETE

    def stimulus(bench: Bench) -> Iterator[Seen]:
        if not command:
            raise NotRun(Text("needs a consumer", "il faut un consommateur"))
        images = study(PATIENT)
        documents = [(str(image.SOPInstanceUID), part10(image)) for image in images]
        source = new_oid()
        with imaging_source(source, documents, lie) as url:
            seen = _fetched(command, images, {"url": url}, source, bench.targets.timeout)
        yield Compared("the command says", outcome, seen)

    expected = (Same(outcome),)
    return Case(case_id, title, SPEC, Actor.CONSUMER, frozenset(), expected, stimulus)


def _door_case(door: _Door[L], name: str, title: Text, command: str, lie: L) -> Case:
    outcome = COMPLETE if lie is door.honest else INCOMPLETE
    word = f"{{{door.named}}}"

    def stimulus(bench: Bench) -> Iterator[Seen]:
        if word not in command:
            en, fr = "needs a consumer that takes", "il faut un consommateur qui prend"
            raise NotRun(Text(f"{en} {word}", f"{fr} {word}"))
        images, source = study(PATIENT), new_oid()
        with door.serve(images, lie) as doors:
            seen = _fetched(command, images, doors, source, bench.targets.timeout)
        yield Compared("the command says", outcome, seen)

    expected = (Same(outcome),)
    return Case(
        f"{door.group}-{name}", title, door.spec, Actor.CONSUMER, frozenset(), expected, stimulus
    )


def _fetched(
    command: str,
    images: Sequence[FileDataset],
    doors: Mapping[str, str],
    source: str,
    timeout: float,
) -> str:
    """What one run of the command says."""
    with tempfile.TemporaryDirectory(prefix="kit-consumer-") as folder:
        file, place = Path(folder, "manifest.dcm"), Path(folder, "fetched")
        file.write_bytes(_manifest(images, source))
        place.mkdir()
        known = {"manifest": file, **NO_DOOR, **doors, "source": source, "folder": place}
        words = [word.format_map(known) for word in shlex.split(command)]
        try:
            ran = subprocess.run(words, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return f"nothing within {timeout:g} s"
        if ran.returncode:
            return INCOMPLETE
        return COMPLETE if any(place.rglob("*")) else "complete, with no file"


def _manifest(images: Sequence[FileDataset], source: str) -> bytes:
    """The KOS that lists the images, each in its series."""
    first = images[0]
    patient = Patient(patient_id=str(first.PatientID))
    return write_kos(
        Manifest(
            sop_instance_uid=new_oid(),
            series_instance_uid=new_oid(),
            study=Study(study_instance_uid=str(first.StudyInstanceUID), patient=patient),
            series=tuple(
                ManifestSeries(
                    series_instance_uid=uid,
                    retrieve_location_uid=source,
                    retrieve_ae_title="KIT",
                    instances=_instances(images, uid),
                )
                for uid in dict.fromkeys(str(image.SeriesInstanceUID) for image in images)
            ),
            created=datetime.now(UTC),
        )
    )


def _instances(images: Sequence[FileDataset], series: str) -> tuple[ManifestInstance, ...]:
    return tuple(
        ManifestInstance(
            sop_class_uid=str(image.SOPClassUID), sop_instance_uid=str(image.SOPInstanceUID)
        )
        for image in images
        if image.SeriesInstanceUID == series
    )
