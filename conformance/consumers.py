"""Judging an Imaging Document Consumer, given as a command, by a source that lies: over RAD-69
(K01), over WADO-RS (K02).

The command gets a manifest and the address of its source, fetches, and says by its exit code
whether it has everything: 0 where it has, anything else where it has not. Against an honest source
it must say so; against one that lies in any way it must not. A command that does not end within
the time is stopped, and has failed.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import FileDataset

from conformance.bench import Bench
from conformance.case import Actor, Case
from conformance.expectation import Same
from conformance.images import part10, study
from conformance.liar import HONEST, LIES, Lie, imaging_source
from conformance.results import Results
from conformance.run import run
from conformance.seen import Compared, Seen
from conformance.targets import NotRun, Targets
from conformance.text import Text
from conformance.web_liar import HONEST_WEB, WEB_LIES, WebLie, web_source
from manifest.kos import write_kos
from manifest.model import Manifest, ManifestInstance, ManifestSeries, Patient, Study
from metadata.datatypes import new_oid

SPEC = "RAD TF-2 4.69; RAD TF-1 18"
WEB_SPEC = "RAD TF-2 4.107; RAD TF-1 18"
NOWHERE = "http://127.0.0.1:9/"
"""Where nobody answers (port 9, discard): the door that a case is not about."""
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


def consumer_cases(command: str = "") -> list[Case]:
    """One case for each lie about the command given, and one for the honest source."""
    title = Text("An honest source", "Une source honnête")
    lies = [_case(f"K01-{name}", TITLES[name], command, lie) for name, lie in LIES.items()]
    return [_case("K01-honest", title, command, HONEST), *lies, *_web_cases(command)]


def _web_cases(command: str) -> list[Case]:
    title = Text("An honest source over WADO-RS", "Une source honnête en WADO-RS")
    lies = [_web_case(name, WEB_TITLES[name], command, lie) for name, lie in WEB_LIES.items()]
    return [_web_case("honest", title, command, HONEST_WEB), *lies]


def judge_consumer(command: str, report_dir: Path | None = None, timeout: float = 60.0) -> Results:
    """Run every case; ``timeout`` in seconds is for one run of the command.

    In ``command`` these are filled in: ``{manifest}`` a file, ``{url}`` the source's RAD-69,
    ``{dicomweb}`` its WADO-RS, ``{source}`` its repositoryUniqueId, ``{folder}`` where to put what
    was fetched. Only one of the two doors is there at a time.
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
            doors = {"url": url, "dicomweb": NOWHERE}
            seen = _fetched(command, images, doors, source, bench.targets.timeout)
        yield Compared("the command says", outcome, seen)

    expected = (Same(outcome),)
    return Case(case_id, title, SPEC, Actor.CONSUMER, frozenset(), expected, stimulus)


def _web_case(name: str, title: Text, command: str, lie: WebLie) -> Case:
    outcome = COMPLETE if lie is HONEST_WEB else INCOMPLETE

    def stimulus(bench: Bench) -> Iterator[Seen]:
        if "{dicomweb}" not in command:
            raise NotRun(
                Text(
                    "needs a consumer that takes {dicomweb}",
                    "il faut un consommateur qui prend {dicomweb}",
                )
            )
        images, source = study(PATIENT), new_oid()
        with web_source(images, lie) as url:
            doors = {"url": NOWHERE, "dicomweb": url}
            seen = _fetched(command, images, doors, source, bench.targets.timeout)
        yield Compared("the command says", outcome, seen)

    expected = (Same(outcome),)
    return Case(f"K02-{name}", title, WEB_SPEC, Actor.CONSUMER, frozenset(), expected, stimulus)


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
        known = {"manifest": file, **doors, "source": source, "folder": place}
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
