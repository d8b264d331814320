"""Document Registry: Restricted Update Document Set, ITI-92 (M09)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.registry_update import OPERATION_ERROR, TITLE, VERSION_ERROR, filed, state
from conformance.changes import Change, restricted_update, updated
from conformance.expectation import Exactly, Refusal, Same, Success, failure
from conformance.seen import Compared, Seen
from metadata.datatypes import OID
from metadata.identifiers import DEPRECATED, HAS_MEMBER, OFFLINE, ON_DEMAND, REFERENCE
from transactions.stored_query import get_documents

CASES = Cases(Actor.REGISTRY_ADMINISTRATION, "registry patients administration")

SPEC = "Restricted Metadata Update 3.92.4.1.3"
FROZEN = failure("UnmodifiableMetadataError")
IDENTIFIER = failure("XDSMetadataIdentifierError")
ANNOTATION = failure("XDSMetadataAnnotationError")
NOBODY = "urn:uuid:00000000-0000-4000-8000-000000000000"


@CASES.case(
    "M09-allowed",
    "Title and class code of a document are corrected",
    "Le titre et le code de classe d'un document sont corrigés",
    spec=SPEC,
    expected=[Success(), Same("the corrected values"), Same("status and version")],
)
def _allowed(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document = bench.registered_entry(patient)
    code = bench.targets.codes("classCode")[1]
    change = Change(bench, patient)
    new = change.version(document, title=TITLE, class_code=code)
    yield restricted_update(bench, change)
    stored = bench.stored_entry(new.entry_uuid)
    yield Compared("title, classCode", (TITLE, code), (stored.title, stored.class_code))
    yield Compared("status, version", ("Approved", "2"), state(stored))


@CASES.case(
    "M09-deprecated",
    "A Deprecated document is corrected and stays Deprecated",
    "Un document obsolète est corrigé et reste obsolète",
    spec=SPEC,
    expected=[Success(), Same("status and version")],
)
def _deprecated(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document = bench.registered_entry(patient)
    change = Change(bench, patient)
    change.deprecate(document.entry_uuid)
    updated(bench, change)
    change = Change(bench, patient)
    new = change.version(document, title=TITLE)
    yield restricted_update(bench, change)
    yield Compared(
        "status, version", ("Deprecated", "2"), state(bench.stored_entry(new.entry_uuid))
    )


FROZEN_ATTRIBUTES: dict[str, tuple[dict[str, Any], Refusal]] = {
    "availabilityStatus": ({"availability_status": DEPRECATED}, FROZEN),
    "documentAvailability": ({"document_availability": OFFLINE}, FROZEN),
    "repositoryUniqueId": ({"repository_unique_id": OID("2.25.404")}, FROZEN),
    "sourcePatientInfo": ({"source_patient_info": ["PID-8|M"]}, FROZEN),
    "objectType": ({"object_type": ON_DEMAND}, failure("XDSObjectTypeError")),
    "uniqueId": ({"unique_id": "2.25.404"}, IDENTIFIER),
    "logicalID": ({"logical_id": NOBODY}, IDENTIFIER),
}
"""What may not be changed, another value for it, and the error."""

WRONG_VERSIONS: dict[str, tuple[str, str, dict[str, Any], Refusal]] = {
    "first-version": (
        "A first version",
        "Une première version",
        {"logical_id": None},
        failure("XDSInvalidRequestException"),
    ),
    "no-previous": (
        "No PreviousVersion",
        "Pas de PreviousVersion",
        {"previous": None},
        failure(VERSION_ERROR),
    ),
    "stale": (
        "A PreviousVersion that is not the latest",
        "Un PreviousVersion qui n'est pas la dernière",
        {"previous": "0"},
        failure(VERSION_ERROR),
    ),
    "propagation": (
        "An AssociationPropagation that is neither yes nor no",
        "Un AssociationPropagation autre que yes ou no",
        {"propagation": "maybe"},
        ANNOTATION,
    ),
    "member": (
        "A new version as a member by reference",
        "Une nouvelle version comme membre par référence",
        {"member_status": REFERENCE},
        ANNOTATION,
    ),
    "attribute": (
        "A required attribute is missing",
        "Un attribut obligatoire manque",
        {"class_code": None},
        failure("XDSRegistryMetadataError", names="classCode"),
    ),
}
"""What is wrong with a new version, and its error."""


def _refused(attributes: dict[str, Any], bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document = bench.registered_entry(patient)
    change = Change(bench, patient)
    change.version(document, **attributes)
    yield restricted_update(bench, change)
    everything = get_documents(logical_id=[document.entry_uuid], metadata_level=2)
    yield bench.found(everything, document.entry_uuid)


for _name, (_attributes, _refusal) in FROZEN_ATTRIBUTES.items():
    CASES.add(
        f"M09-{_name}",
        f"A change of {_name} is refused, and nothing changes",
        f"Un changement de {_name} est refusé, et rien ne change",
        spec=SPEC,
        expected=[_refusal, Exactly("the first version alone")],
        stimulus=partial(_refused, _attributes),
    )

for _name, (_en, _fr, _attributes, _refusal) in WRONG_VERSIONS.items():
    CASES.add(
        f"M09-{_name}",
        f"{_en}: refused, and nothing changes",
        f"{_fr} : refus, et rien ne change",
        spec=SPEC,
        expected=[_refusal, Exactly("the first version alone")],
        stimulus=partial(_refused, _attributes),
    )


@CASES.case(
    "M09-patientId",
    "A change of patientId is refused",
    "Un changement de patientId est refusé",
    spec=SPEC,
    expected=[failure("XDSPatientIDReconciliationError")],
)
def _other_patient(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    change = Change(bench, other)
    change.version(bench.registered_entry(one))
    yield restricted_update(bench, change)


@CASES.case(
    "M09-other",
    "Folders, statuses and associations are not for a restricted update",
    "Classeurs, statuts et associations : hors d'une mise à jour restreinte",
    spec=SPEC,
    expected=[failure(OPERATION_ERROR, "XDSInvalidRequestException")] * 3,
)
def _other_operations(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document, folder = filed(bench, patient)
    changes = [Change(bench, patient) for _ in range(3)]
    changes[0].version(folder)
    changes[1].deprecate(document.entry_uuid)
    changes[2].submit(HAS_MEMBER, folder.entry_uuid, document.entry_uuid)
    for change in changes:
        yield restricted_update(bench, change)
