"""The documents and studies of the authorisation matrix, published by the kit itself, once a run.

Two patients, one of whom is opposed to sharing; one document for each state, in a submission of its
own, so that it is hidden with its submission set or not at all. A third patient has nothing: he is
whom assertions about somebody else are about.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydicom.dataset import FileDataset

from conformance import material
from conformance.access import AUTHOR, Caller, State
from conformance.bench import Bench, must
from conformance.expectation import Acknowledged, Mismatch, Success
from conformance.source import Source
from conformance.targets import NotRun
from conformance.text import Text
from metadata.datatypes import CX, XCN
from metadata.identifiers import RPLC
from metadata.model import Author, DocumentEntry
from transactions.stored_query import find_documents

COMMAND_SECONDS = 60
"""How long the command that makes somebody treat a patient may take."""

OPPOSED = b"PD1||||||||||||Y\r"
"""The segment that says so (PD1-12)."""

IMAGES = ("normal", "opposed")
"""The states that images have: the source chooses their confidentialityCode, and it is normal."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its patient, what holds all its ids, and its content."""

    patient: CX
    entry: DocumentEntry
    submission_set: str
    content: bytes

    @property
    def ids(self) -> tuple[str, ...]:
        """What would give it away."""
        return self.entry.entry_uuid, str(self.entry.unique_id), self.submission_set


@dataclass(frozen=True, slots=True)
class Library:
    """What is there, by state, and the patient of whom there is nothing."""

    documents: Mapping[str, Document]
    stranger: CX


@dataclass(frozen=True, slots=True)
class Studies:
    """Published studies, by state, with their patients."""

    images: Mapping[str, Sequence[FileDataset]]
    patients: Mapping[str, CX]
    stranger: CX


def library(bench: Bench) -> Library:
    """The documents, published when they are first asked for."""
    return bench.session.shared("access documents", lambda: _publish(bench))


def studies(bench: Bench) -> Studies:
    """The studies, published when they are first asked for."""
    return bench.session.shared("access studies", lambda: _publish_studies(bench))


def treat(bench: Bench, caller: Caller, patients: Sequence[CX]) -> None:
    """Have it known that ``caller`` treats them, by the operator's own command, once."""
    if not caller.treating:
        return
    command = bench.targets.treat
    if command is None:
        raise NotRun(
            Text(
                "needs a command that has somebody treat a patient (--treat COMMAND)",
                "il faut une commande qui confie un patient à quelqu'un (--treat COMMANDE)",
            )
        )
    for patient in patients:
        known = {"patient": patient.id, "who": caller.person.subject}
        words = [word.format_map(known) for word in shlex.split(command)]
        bench.session.shared(f"treating {caller.name} {patient.id}", partial(_told, words))


def _told(words: list[str]) -> bool:
    try:
        subprocess.run(words, check=True, timeout=COMMAND_SECONDS, capture_output=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise Mismatch("a patient treated (the command --treat)", str(error)) from None
    return True


def states(bench: Bench) -> dict[str, State]:
    """The states that can be brought about here: its codes are in the domain, somebody hears of
    an opposition."""
    allowed = bench.targets.domain.code_sets.get("confidentialityCode")
    found = {}
    for name, state in bench.targets.access.states.items():
        known = allowed is None or all(
            (code.scheme, code.code) in allowed.names for code in state.confidentiality
        )
        if known and (bench.targets.mllp is not None or not state.opposed):
            found[name] = state
    return found


def _publish(bench: Bench) -> Library:
    open_to, opposed, stranger = bench.patients(3)
    documents: dict[str, Document] = {}
    there = states(bench)
    # Those that others replace come first.
    for name, state in sorted(there.items(), key=lambda item: not item[1].deprecated):
        patient = opposed if state.opposed else open_to
        documents[name] = _provided(bench, name, state, patient)
    for name, state in there.items():
        if state.deprecated:
            _replaced(bench, documents[name], state)
    if any(state.opposed for state in there.values()):
        _oppose(bench, opposed)
    return Library(documents, stranger)


def _provided(bench: Bench, name: str, state: State, patient: CX) -> Document:
    content = f"Kosmos conformance kit: {name} ({patient.id}).\n".encode()
    return _stored(bench, state, patient, content)


def _replaced(bench: Bench, old: Document, state: State) -> None:
    _stored(bench, state, old.patient, b"Its replacement.\n", old)


def _stored(
    bench: Bench, state: State, patient: CX, content: bytes, old: Document | None = None
) -> Document:
    entry = material.changed(
        material.provided(bench.entry(patient, content)),
        {
            "confidentiality_code": list(state.confidentiality),
            "author": [Author(person=XCN(f"{AUTHOR}^WELBY^MARCUS"))],
        },
    )
    links = [] if old is None else [material.related(RPLC, entry, old.entry)]
    submission = bench.submission(patient, entry, associations=links)
    answer = bench.provide(submission, {entry.entry_uuid: content})
    must(Success(), answer, "providing a document of the matrix")
    return Document(patient, entry, submission.submission_sets[0].entry_uuid, content)


def _oppose(bench: Bench, patient: CX) -> None:
    message = bench.adt("A08", patient.id).replace(b"\rPV1", b"\r" + OPPOSED + b"PV1")
    must(Acknowledged("AA"), bench.feed(message), "telling of an opposition")


def _publish_studies(bench: Bench) -> Studies:
    wanted = [name for name in IMAGES if name in states(bench)]
    *patients, stranger = bench.patients(len(wanted) + 1)
    images = dict(zip(wanted, Source(bench).stored_studies(patients), strict=True))
    for patient in patients:
        _await_published(bench, patient)
    of = dict(zip(wanted, patients, strict=True))
    if "opposed" in of:
        _oppose(bench, of["opposed"])
    return Studies(images, of, stranger)


def _await_published(bench: Bench, patient: CX) -> None:
    """Wait until the source has published the patient's study: a source may show it before, and
    then not by what its manifest says."""
    if not bench.awaited(lambda: bench.objects(find_documents(patient)).documents, bool):
        raise Mismatch("a manifest in the registry", "none (publishing a study)")
