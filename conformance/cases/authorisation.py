"""Who may see what: transactions, callers, states of documents (S05), by a table (``access.toml``).

What a caller sees at a door is compared with what the table lets him see; of the rest nothing may
stand in any answer, and an answer about it may not differ from one about what is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from conformance.access import Caller
from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.imaging import ask
from conformance.cases.repository import contents
from conformance.expectation import Same
from conformance.library import Document, Library, Studies, library, studies, treat
from conformance.seen import Answer, Compared, Seen
from conformance.source import Source
from conformance.targets import NotRun, Study
from conformance.text import Text
from conformance.web import DICOM, JSON, Reply
from metadata.datatypes import CX, new_oid
from metadata.identifiers import APPROVED, DEPRECATED, SUCCESS
from soap.faults import WSSE
from transactions.iti_18 import LEAF_CLASS, OBJECT_REF, AdhocQueryRequest
from transactions.iti_43 import DocumentRequest
from transactions.stored_query import (
    find_documents,
    get_all,
    get_documents,
    get_documents_and_associations,
)

CASES = Cases(Actor.USER_ASSERTIONS, "registry issuer patients")

SPEC = "ITI TF-2 3.40.4.1.3.1"
REFUSED = "no answer"
VISIBLE, UNTOLD = "what the caller may see, and nothing else", "nothing of what is hidden"
ANY_SYNTAX = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
UNAUTHORISED = (401, 403)

CALLERS = {
    "doctor": Text("a doctor who does not treat the patient", "un médecin qui ne soigne pas"),
    "treating-doctor": Text("a doctor who treats the patient", "un médecin traitant"),
    "doctor-elsewhere": Text(
        "a doctor with an assertion about another patient",
        "un médecin dont l'assertion porte sur un autre patient",
    ),
    "author": Text("the author, without a role", "l'auteur, sans rôle"),
    "patient": Text("the patient", "le patient"),
    "other-patient": Text("another patient", "un autre patient"),
    "guardian": Text("a guardian of the patient", "un représentant légal du patient"),
    "administrator": Text("somebody without a role of care", "quelqu'un sans rôle de soin"),
    "emergency": Text("a doctor who breaks the glass", "un médecin en bris de glace"),
    "emergency-without-reason": Text(
        "a doctor who breaks the glass without a reason", "un médecin en bris de glace sans motif"
    ),
    "emergency-without-right": Text(
        "somebody who breaks the glass without the right", "un bris de glace sans en avoir le droit"
    ),
    "nobody": Text("a node without an assertion", "un nœud sans assertion"),
}
"""Whom tables know, in words."""


class Eyes:
    """One caller before the doors of the system under test."""

    def __init__(self, bench: Bench, caller: Caller, stranger: CX) -> None:
        self._bench = bench
        self._caller = caller
        self._stranger = stranger

    def on(self, patient: CX) -> Bench:
        """The bench, asking as the caller about ``patient``."""
        issuer = self._bench.targets.issuer
        assert issuer is not None
        return self._bench.asking(lambda: self._caller.token(issuer, patient, self._stranger))


def _caller(name: str, bench: Bench) -> Caller:
    caller = bench.targets.access.callers.get(name)
    if caller is None:
        raise NotRun(Text("the policy knows no such caller", "la politique ignore cet appelant"))
    return caller


def _refused(answer: Answer[Any]) -> bool:
    return answer.fault is not None and (answer.fault.subcode or "").startswith(f"{{{WSSE}}}")


def _wanted(caller: Caller, there: Sequence[str]) -> object:
    return REFUSED if caller.refused else sorted(caller.sees & set(there))


# --- ITI-18 --------------------------------------------------------------------------------------

BOTH = [APPROVED, DEPRECATED]

Ask = Callable[[CX, list[Document]], AdhocQueryRequest]
QUERIES: dict[str, Ask] = {
    "FindDocuments": lambda patient, held: find_documents(patient, status=BOTH),
    "FindDocuments, ObjectRef": lambda patient, held: find_documents(
        patient, status=BOTH, return_type=OBJECT_REF
    ),
    "GetAll": lambda patient, held: get_all(patient, document_status=BOTH),
    "GetDocuments": lambda patient, held: get_documents(
        entry_uuid=[one.entry.entry_uuid for one in held], return_type=LEAF_CLASS
    ),
    "GetDocumentsAndAssociations": lambda patient, held: get_documents_and_associations(
        unique_id=[str(one.entry.unique_id) for one in held]
    ),
}


def _queried(name: str, bench: Bench) -> Iterator[Seen]:
    caller, there = _caller(name, bench), library(bench)
    treat(bench, caller, _patients(there))
    eyes, hidden = Eyes(bench, caller, there.stranger), _hidden(caller, there)
    seen: dict[str, object] = {}
    leaked: list[str] = []
    for query, make in QUERIES.items():
        answers = {
            patient: eyes.on(patient).query(make(patient, _of(there, patient)))
            for patient in _patients(there)
        }
        seen[query] = _found(answers, there)
        leaked += [
            f"{query}: {state}"
            for answer in answers.values()
            for state, document in hidden.items()
            if any(one.encode() in answer.body for one in document.ids)
        ]
    yield Compared(VISIBLE, dict.fromkeys(QUERIES, _wanted(caller, list(there.documents))), seen)
    yield Compared(UNTOLD, [], leaked)


def _found(answers: dict[CX, Answer[Any]], there: Library) -> object:
    """The states found, or that nothing was answered; any other answer in words."""
    if all(map(_refused, answers.values())):
        return REFUSED
    found: set[str] = set()
    for answer in answers.values():
        if answer.response is None or answer.status != SUCCESS:
            return answer.describe()
        objects = answer.response.objects()
        found |= {one.entry_uuid for one in objects.documents} | set(objects.object_refs)
    return sorted(state for state, one in there.documents.items() if one.entry.entry_uuid in found)


def _patients(there: Library) -> list[CX]:
    return list(dict.fromkeys(one.patient for one in there.documents.values()))


def _of(there: Library, patient: CX) -> list[Document]:
    return [one for one in there.documents.values() if one.patient == patient]


def _hidden(caller: Caller, there: Library) -> dict[str, Document]:
    return {
        state: one
        for state, one in there.documents.items()
        if caller.refused or state not in caller.sees
    }


# --- ITI-43 --------------------------------------------------------------------------------------


def _retrieved(name: str, bench: Bench) -> Iterator[Seen]:
    caller, there = _caller(name, bench), library(bench)
    treat(bench, caller, _patients(there))
    eyes, repository = Eyes(bench, caller, there.stranger), bench.repository_unique_id()
    answers = {
        state: _retrieve(eyes.on(one.patient), repository, str(one.entry.unique_id))
        for state, one in there.documents.items()
    }
    unknown = new_oid()
    absent = _retrieve(eyes.on(there.stranger), repository, unknown)
    handed = sorted(
        state for state, one in there.documents.items() if contents(answers[state]) == [one.content]
    )
    refused = all(map(_refused, answers.values()))
    yield Compared(VISIBLE, _wanted(caller, list(there.documents)), REFUSED if refused else handed)
    said = {
        state: _without(answers[state].describe(), str(one.entry.unique_id))
        for state, one in _hidden(caller, there).items()
    }
    yield Compared(UNTOLD, dict.fromkeys(said, _without(absent.describe(), unknown)), said)


def _retrieve(bench: Bench, repository: str, unique_id: str) -> Answer[Any]:
    return bench.retrieve(DocumentRequest(repository, unique_id))


def _without(text: str, unique_id: str) -> str:
    return text.replace(unique_id, "it")


# --- Images --------------------------------------------------------------------------------------

Shown = Callable[[Bench, Study], object]
"""What a door shows of a study: True, or REFUSED, or in words why it does not."""


def _by_rad_69(bench: Bench, study: Study) -> object:
    answer = ask(bench, [(study, bench.targets.imaging_unique_id or "")])
    if _refused(answer):
        return REFUSED
    return bool(contents(answer)) or _anonymous(answer.describe(), study)


def _by_wado_rs(bench: Bench, study: Study) -> object:
    path = f"/studies/{study.study_instance_uid}"
    return _shown(Source(bench).get(path, ANY_SYNTAX), study)


def _by_qido_rs(bench: Bench, study: Study) -> object:
    reply = Source(bench).get(f"/studies?StudyInstanceUID={study.study_instance_uid}", JSON)
    if reply.status == 200 and not reply.json():
        return "nothing"
    return "nothing" if reply.status == 204 else _shown(reply, study)


def _shown(reply: Reply, study: Study) -> object:
    if reply.status in UNAUTHORISED:
        return REFUSED
    if reply.status == 200:
        return True
    return _anonymous(f"HTTP {reply.status} {reply.body.decode('utf-8', 'replace')}", study)


def _anonymous(text: str, study: Study) -> str:
    for uid in (study.sop_instance_uid, study.series_instance_uid, study.study_instance_uid):
        text = text.replace(uid, "it")
    return text


def _looked(name: str, look: Shown, bench: Bench) -> Iterator[Seen]:
    caller, there = _caller(name, bench), studies(bench)
    treat(bench, caller, list(there.patients.values()))
    eyes = Eyes(bench, caller, there.stranger)
    seen = {
        state: look(eyes.on(there.patients[state]), _named(there, state)) for state in there.images
    }
    absent = look(eyes.on(there.stranger), Study(new_oid(), new_oid(), new_oid()))
    shown = sorted(state for state, one in seen.items() if one is True)
    refused = set(seen.values()) == {REFUSED}
    yield Compared(VISIBLE, _wanted(caller, list(there.images)), REFUSED if refused else shown)
    rest = {state: one for state, one in seen.items() if one is not True}
    yield Compared(UNTOLD, dict.fromkeys(rest, absent), rest)


def _named(there: Studies, state: str) -> Study:
    image = there.images[state][0]
    return Study(
        str(image.StudyInstanceUID), str(image.SeriesInstanceUID), str(image.SOPInstanceUID)
    )


IMAGE_DOORS: dict[str, tuple[Shown, str]] = {
    "RAD-69": (_by_rad_69, "imaging imaging_unique_id images publishes"),
    "WADO-RS": (_by_wado_rs, "dicomweb images publishes"),
    "QIDO-RS": (_by_qido_rs, "dicomweb images publishes"),
}


def _add(door: str, name: str, stimulus: Callable[[Bench], Iterator[Seen]], needs: str) -> None:
    who = CALLERS[name]
    CASES.add(
        f"S05-{door}-{name}",
        f"{door}: what is shown to {who.en}",
        f"{door} : ce que voit {who.fr}",
        spec=SPEC,
        expected=[Same(VISIBLE), Same(UNTOLD)],
        stimulus=stimulus,
        needs=needs,
    )


for _name in CALLERS:
    _add("ITI-18", _name, partial(_queried, _name), "repository")
    _add("ITI-43", _name, partial(_retrieved, _name), "repository")
    for _door, (_look, _needs) in IMAGE_DOORS.items():
        # The author of a manifest is the source, not the kit's.
        if _name != "author":
            _add(_door, _name, partial(_looked, _name, _look), _needs)
