"""A whole node that fails at every fault point: killed, refused by its disk, or slowed down.

One node serves all along; what dies is started again by its supervisor. Whoever asks does as a
real peer does: repeats the same message until it is acknowledged, and keeps a ledger of that. What
a point left behind is looked at before the repetition, and everything again at the end: nothing
acknowledged is lost, nothing is there twice, nothing that was not acknowledged is there by half.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any, Protocol
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from consumer.administrator import Administrator
from consumer.errors import ConsumerError, Refused
from consumer.notifications import Subscriber, running_recipient, subscription_filter
from hl7.client import MllpClient, MllpError
from hl7.message import build
from metadata import identifiers as xds
from metadata.datatypes import CX, LocalizedString, new_oid
from metadata.model import DocumentEntry
from node import feed
from node.config_file import load
from node.sealing import new_key
from node.storescu import AssociationFailed
from soap.client import SoapClient
from soap.faults import PeerError
from soap.message import InMemory
from storage.faultpoints import ACTIONS, POINTS, burnt, set_fuse
from tests.imaging_source.reports_kit import PDF, cda
from tests.node.conftest import free_ports
from tests.registry.conftest import Draft
from tests.system import test_reports as reports
from tests.system.conftest import KOSMOS, Nodes, RunningNode, await_
from tests.system.test_on_demand import kosmos_summary
from transactions.iti_18 import ITI_18, AdhocQueryRequest
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest
from transactions.iti_57 import new_version
from transactions.iti_86 import ITI_86, RemoveDocumentsRequest
from transactions.registry_response import RegistryResponse
from transactions.stored_query import find_documents, get_submission_set_and_contents
from transactions.subscription_filters import DOCUMENT_FILTER
from transactions.wsn import Topic

MPPS = "1.2.840.10008.3.1.2.3.3"
"""Modality Performed Procedure Step."""

# Who serves, and starts at once again what has died: the pauses are for what dies by itself.
SERVE = """
from node import supervisor
supervisor.FIRST_PAUSE = supervisor.LONGEST_PAUSE = 0.02
from node.cli import main
main()
"""

# No node passes these while it serves: they are steps of commands (`kosmos load` of metadata,
# `kosmos keys`), processes of their own whom nobody waits for. There a delay is nothing, a failing
# disk ends the command as a kill does, and it is given again: proved where they are at home.
ELSEWHERE = {
    "bulk.before_commit": "tests/registry/test_bulk.py",
    "imaging.evicted": "tests/imaging_source/eviction/test_letting_go.py",
    "keys.rewrapped": "tests/storage/test_sealed.py",
    "keys.sealing": "tests/storage/test_sealed.py",
}

FAILED = (PeerError, MllpError, ConsumerError, AssociationFailed, URLError, OSError)
"""Whatever a peer may see of a node that dies or fails: not acknowledged."""

_numbers = count(1)


@dataclass
class World:
    """The node, and what was heard of it."""

    node: RunningNode
    folder: Path
    fuses: Path
    told_address: str = ""
    client: SoapClient = field(default_factory=lambda: SoapClient(timeout=20))
    told: list[str] = field(default_factory=list)
    ledger: list[Flow] = field(default_factory=list)

    @property
    def authority(self) -> str:
        return str(self.node.settings["affinity_domain"]["assigning_authority"])

    def patient(self) -> CX:
        """A new one, known to the registry."""
        name = f"FP-{next(_numbers)}"
        assert self.node.announce(name) == "AA"
        return CX.of(name, self.authority)

    def draft(self, patient: CX) -> Draft:
        """A submission of one document."""
        draft = Draft(patient)
        draft.document(hash=None, size=None, repository_unique_id=None)
        return draft

    def provide(self, draft: Draft, data: bytes) -> RegistryResponse:
        [document] = draft.submission.documents
        request = ProvideAndRegisterRequest(draft.request(), {document.entry_uuid: InMemory(data)})
        return self.client.call(self.node.endpoints["repository"], ITI_41, request)

    def provided(self) -> tuple[CX, Draft, bytes]:
        """A document that was registered without trouble."""
        patient, data = self.patient(), os.urandom(500)
        draft = self.draft(patient)
        assert self.provide(draft, data).status == xds.SUCCESS
        return patient, draft, data

    def query(self, request: AdhocQueryRequest) -> Any:
        response = self.client.call(self.node.endpoints["registry"], ITI_18, request)
        assert response.status == xds.SUCCESS, response.errors
        return response.objects()

    def documents(self, patient: CX) -> list[DocumentEntry]:
        """What is found; nothing of a patient that was merged into another."""
        request = find_documents(patient)
        answer = self.client.call(self.node.endpoints["registry"], ITI_18, request)
        assert {error.code for error in answer.errors} <= {"XDSUnknownPatientId"}
        return list(answer.objects().documents)

    @property
    def dicom(self) -> tuple[str, int]:
        """Host and port of the DICOM listener, where somebody listens."""
        host, port = self.node.endpoints["dicom"].partition("@")[2].split(":")
        socket.create_connection((host, int(port))).close()  # refused sooner, and closed
        return host, int(port)

    def store(self, *images: Path) -> bool:
        """Send images by C-STORE; whether all are acknowledged."""
        assert self.dicom
        return self.node.store(images) == [0] * len(images)

    def named(self, unique_id: str | None) -> DocumentRequest:
        return DocumentRequest(self.node.settings["repository"]["unique_id"], unique_id or "")

    def retrieve(self, unique_id: str | None) -> tuple[list[bytes], list[str]]:
        request = RetrieveDocumentSetRequest((self.named(unique_id),))
        answer = self.client.call(self.node.endpoints["repository"], ITI_43, request)
        documents = [b"".join(one.content.chunks()) for one in answer.documents]
        return documents, [error.code for error in answer.errors]

    def say(self, message: bytes, door: str = "mllp") -> bool:
        host, port = self.node.endpoints[door].split(":")
        with MllpClient(host, int(port)) as client:
            return feed.acknowledgement(client.send(message))[0] == "AA"


class Flow(Protocol):
    """One exchange, made ready when it is built."""

    world: World

    def attempt(self) -> bool:
        """Send it, the same each time; whether it is acknowledged, now or before."""

    def look(self, acknowledged: bool) -> None:
        """What there is now: all of it, or, unless it was acknowledged, nothing of it."""


class Registering:
    """ITI-41 and, within, ITI-42."""

    def __init__(self, world: World) -> None:
        self.world, self.patient, self.data = world, world.patient(), os.urandom(500)
        self.draft = world.draft(self.patient)
        self.successes = 0

    def attempt(self) -> bool:
        response = self.world.provide(self.draft, self.data)
        self.successes += response.status == xds.SUCCESS
        if [error.code for error in response.errors] == ["XDSDuplicateUniqueIdInRegistry"]:
            self.look(acknowledged=True)  # as a sender who missed the answer makes sure
            return True
        return response.status == xds.SUCCESS

    def look(self, acknowledged: bool) -> None:
        found = self.world.documents(self.patient)
        assert len(found) == 1 or (not found and not acknowledged)
        request = get_submission_set_and_contents(unique_id=str(self.draft.set.unique_id))
        objects = [*self.world.query(request).objects()]
        assert len(objects) == 3 * len(found)  # the set, the document, the membership
        for one in found:
            assert one.unique_id == self.draft.submission.documents[0].unique_id
            assert self.world.retrieve(one.unique_id) == ([self.data], [])


class Feeding:
    """ITI-8, A04."""

    def __init__(self, world: World) -> None:
        self.world, self.name = world, f"FP-{next(_numbers)}"
        self.message = feed.announce(feed.Person(self.name, "DOE^JANE"), world.authority)

    def attempt(self) -> bool:
        return self.world.say(self.message)

    def look(self, acknowledged: bool) -> None:
        if acknowledged:  # a patient that is known may have documents
            draft = self.world.draft(CX.of(self.name, self.world.authority))
            assert self.world.provide(draft, b"known").status == xds.SUCCESS


class Merging:
    """ITI-8, A40."""

    def __init__(self, world: World) -> None:
        self.world, self.survivor = world, world.patient()
        self.subsumed, self.draft, _ = world.provided()
        names = [one.id for one in (self.survivor, self.subsumed)]
        person = feed.Person(names[0], "DOE^JANE")
        self.message = feed.merge(person, names[1], world.authority)

    def attempt(self) -> bool:
        return self.world.say(self.message)

    def look(self, acknowledged: bool) -> None:
        counts = [len(self.world.documents(one)) for one in (self.survivor, self.subsumed)]
        assert counts == [1, 0] or (counts == [0, 1] and not acknowledged)


class Retrieving:
    """ITI-43."""

    def __init__(self, world: World) -> None:
        self.world = world
        _, draft, self.data = world.provided()
        self.unique_id = draft.submission.documents[0].unique_id
        self.successes = 0

    def attempt(self) -> bool:
        served, errors = self.world.retrieve(self.unique_id)
        assert served in ([], [self.data])
        self.successes += bool(served)
        return bool(served) and not errors

    def look(self, acknowledged: bool) -> None:
        """Nothing changes."""


class Assembling:
    """ITI-43 of a summary that is made on demand, kept and registered (ITI-42)."""

    def __init__(self, world: World) -> None:
        self.world, self.patient = world, world.patient()
        offered = kosmos_summary(world.node, self.patient.id)
        if offered.returncode:
            raise ConnectionError(offered.stderr)
        self.unique_id = json.loads(offered.stdout)["text/xml"]
        self.data = b""

    def attempt(self) -> bool:
        served, errors = self.world.retrieve(self.unique_id)
        if served and not errors:
            [self.data] = served
        return bool(served) and not errors

    def look(self, acknowledged: bool) -> None:
        either = [xds.APPROVED, xds.DEPRECATED]
        found = self.world.query(find_documents(self.patient, status=either)).documents
        assert len(found) <= 1
        if acknowledged:
            [snapshot] = found
            assert self.world.retrieve(snapshot.unique_id) == ([self.data], [])


class Updating:
    """ITI-57."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.patient, self.draft, self.data = world.provided()
        [document] = world.documents(self.patient)
        changed = replace(document, title=LocalizedString("Right"))
        package = replace(self.draft.set, entry_uuid="set", unique_id=new_oid())
        self.request = new_version(changed, package)

    def attempt(self) -> bool:
        try:
            self._administrator().update(self.request)
        except Refused:  # done before: the version is no longer the last
            [document] = self.world.documents(self.patient)
            return document.title == "Right"
        return True

    def look(self, acknowledged: bool) -> None:
        [document] = self.world.documents(self.patient)
        assert document.version == ("2" if document.title == "Right" else "1")
        assert not acknowledged or document.title == "Right"
        assert self.world.retrieve(document.unique_id) == ([self.data], [])

    def _administrator(self) -> Administrator:
        return Administrator(self.world.node.endpoints["registry"], self.world.client)


class RemovingMetadata:
    """ITI-62."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.patient, self.draft, _ = world.provided()
        self.contents = get_submission_set_and_contents(unique_id=str(self.draft.set.unique_id))
        self.names = [one.entry_uuid for one in world.query(self.contents).objects()]

    def attempt(self) -> bool:
        registry = self.world.node.endpoints["registry"]
        try:
            Administrator(registry, self.world.client).remove(self.names)
        except Refused:
            return not self.world.documents(self.patient)
        return True

    def look(self, acknowledged: bool) -> None:
        left = [one.entry_uuid for one in self.world.query(self.contents).objects()]
        assert not left or (left == self.names and not acknowledged)


class Removing:
    """ITI-86, of a document that lies sealed."""

    def __init__(self, world: World) -> None:
        self.world = world
        _, draft, self.data = world.provided()
        self.unique_id = draft.submission.documents[0].unique_id

    def attempt(self) -> bool:
        request = RemoveDocumentsRequest((self.world.named(self.unique_id),))
        url = self.world.node.endpoints["repository"]
        response = self.world.client.call(url, ITI_86, request)
        codes = [error.code for error in response.errors]
        return response.status == xds.SUCCESS or codes == ["XDSDocumentUniqueIdError"]

    def look(self, acknowledged: bool) -> None:
        served, errors = self.world.retrieve(self.unique_id)
        gone = (served, errors) == ([], ["XDSDocumentUniqueIdError"])
        assert gone or (served == [self.data] and not acknowledged)


class Subscribing:
    """ITI-52, whose subscriber is told of what is registered then."""

    def __init__(self, world: World) -> None:
        self.world, self.patient = world, world.patient()
        self.unique_id = ""

    def attempt(self) -> bool:
        subscribe(self.world, self.patient)
        return True

    def look(self, acknowledged: bool) -> None:
        if acknowledged and not self.unique_id:
            draft = self.world.draft(self.patient)
            self.unique_id = str(draft.submission.documents[0].unique_id)
            assert self.world.provide(draft, b"told").status == xds.SUCCESS
        if acknowledged:
            await_(lambda: self.world.told.count(self.unique_id) == 1)


class Notifying(Registering):
    """ITI-53: at least once, of everything that was acknowledged."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        subscribe(world, self.patient)

    def settled(self) -> bool:
        return str(self.draft.submission.documents[0].unique_id) in self.world.told


class Storing:
    """C-STORE, and the publication of the study."""

    def __init__(self, world: World) -> None:
        self.world, self.patient, self.study = world, world.patient(), generate_uid()
        self.image = reports.image(world.folder, self.study, "", PatientID=self.patient.id)

    def attempt(self) -> bool:
        return self.world.store(self.image)

    def look(self, acknowledged: bool) -> None:
        """It is published when the study has been quiet: see ``settled``."""
        assert len(self.world.documents(self.patient)) <= 1

    def settled(self) -> bool:
        us = self.world.node.consumer()
        found = us.find_documents(self.patient)
        if not found:
            return False
        [manifest] = [us.open_manifest(entry) for entry in found]
        report = us.fetch_images(manifest, self.world.folder / "fetched")
        assert (manifest.study_instance_uid, report.complete) == (self.study, True)
        assert [one.read_bytes()[-256:] for one in report.fetched] == [
            self.image.read_bytes()[-256:]
        ]
        return True


class StoringByWeb(Storing):
    """STOW-RS, by way of the process that does not write the index."""

    def attempt(self) -> bool:
        body = b"--B\r\nContent-Type: application/dicom\r\n\r\n%s\r\n--B--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=B'
        url = f"{self.world.node.endpoints['dicomweb']}/studies"
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        with urlopen(Request(url, body % self.image.read_bytes(), headers), timeout=20) as answer:
            return bool(answer.status == 200)


class Performing:
    """MPPS: a step of a study that begins."""

    def __init__(self, world: World) -> None:
        self.world, self.uid, self.study = world, generate_uid(), generate_uid()
        self.successes = 0

    def attempt(self) -> bool:
        host, port = self.world.dicom
        scheduled, step = Dataset(), Dataset()
        scheduled.StudyInstanceUID = self.study
        step.ScheduledStepAttributesSequence = [scheduled]
        step.PerformedProcedureStepStatus = "IN PROGRESS"
        user = AE("MODALITY")
        user.add_requested_context(MPPS)
        association = user.associate(host, port, ae_title="KOSMOS")
        if not association.is_established:
            return False
        answer, _ = association.send_n_create(step, MPPS, self.uid)
        association.release()
        status = answer.get("Status")
        self.successes += status == 0x0000
        return status in (0x0000, 0x0111)  # or a duplicate of what is known

    def look(self, acknowledged: bool) -> None:
        index = self.world.node.config.parent / "data" / "imaging.db"
        known = "SELECT status, study_instance_uid FROM performed_step WHERE sop_instance_uid = ?"
        with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as connection:
            found = connection.execute(known, [self.uid]).fetchall()
        assert found == [("IN PROGRESS", self.study)] or (not found and not acknowledged)


class Reporting:
    """MDM^T02, and the publication of the report."""

    def __init__(self, world: World) -> None:
        self.world, number = world, next(_numbers)
        self.study, self.accession = generate_uid(), f"FA-{number}"
        assert world.store(reports.image(world.folder, self.study, self.accession))
        patient = f'<id root="{world.authority}" extension="{reports.PATIENT}"/>'
        self.document = cda(patient=patient, study=self.study, document=generate_uid())
        self.message = reports.mdm(world.node, "T02", (f"FD{number}", ""), self.document)

    def attempt(self) -> bool:
        return self.world.say(self.message, "reports")

    def look(self, acknowledged: bool) -> None:
        """It is published when its study is: see ``settled``."""

    def settled(self) -> bool:
        found = reports.found(self.world.node, self.study, self.accession)
        if found.keys() != {"application/dicom", "text/xml"}:
            return False
        assert self.world.node.consumer().fetch_document(found["text/xml"]) == self.document
        return True


class ReportingByImage:
    """C-STORE of an Encapsulated PDF, and its publication as a report."""

    def __init__(self, world: World) -> None:
        self.world, number = world, next(_numbers)
        self.study, self.accession = generate_uid(), f"FA-{number}"
        held = {
            "SOPClassUID": reports.ENCAPSULATED_PDF,
            "Modality": "DOC",
            "EncapsulatedDocument": PDF + b"\0" * (len(PDF) % 2),
            "EncapsulatedDocumentLength": len(PDF),
        }
        self.files = [
            reports.image(world.folder, self.study, self.accession),
            reports.image(world.folder, self.study, self.accession, **held),
        ]

    def attempt(self) -> bool:
        return self.world.store(*self.files)

    def look(self, acknowledged: bool) -> None:
        """It is published when its study is: see ``settled``."""

    def settled(self) -> bool:
        found = reports.found(self.world.node, self.study, self.accession)
        return found.keys() == {"application/dicom", "application/pdf"}


class Correcting:
    """ITI-8, A08: the patient of a study has another name."""

    def __init__(self, world: World) -> None:
        self.world, number = world, next(_numbers)
        self.patient, study = world.patient(), generate_uid()
        image = reports.image(world.folder, study, "", PatientID=self.patient.id)
        assert world.store(image)
        self.name = f"Z{'ABCDEFGHIJ'[number % 10]}"
        self.message = build(
            [
                (
                    "MSH",
                    "A",
                    "H",
                    "K",
                    "K",
                    "20240101",
                    "",
                    ("ADT", "A08"),
                    f"C{number}",
                    "P",
                    "2.3.1",
                ),
                (
                    "PID",
                    "",
                    "",
                    (self.patient.id, "", "", ("", world.authority, "ISO")),
                    "",
                    (self.name, "JANE"),
                    "",
                    "19700203",
                    "F",
                ),
            ]
        )

    def attempt(self) -> bool:
        return self.world.say(self.message)

    def look(self, acknowledged: bool) -> None:
        """The manifest follows: see ``settled``."""

    def settled(self) -> bool:
        us = self.world.node.consumer()
        found = us.find_documents(self.patient)
        return bool(found) and us.open_manifest(found[0]).study.patient.name.startswith(self.name)


FLOWS: dict[str, Callable[[World], Flow]] = {
    "publisher.before_send": Storing,
    "publisher.after_send": Storing,
    "notifier.before_send": Notifying,
    "notifier.after_send": Notifying,
    "imaging.corrected": Correcting,
    "imaging.described": Storing,
    "imaging.kept": Storing,
    "imaging.stored": Storing,
    "blobs.kept": Storing,
    "imaging.told": Performing,
    "handover.indexed": StoringByWeb,
    "reporting.made": Reporting,
    "reporting.read": ReportingByImage,
    "reports.kept": Reporting,
    "reports.taken": Reporting,
    "audit.before_commit": Registering,
    "audit.before_record": Registering,
    "registry.before_commit": Registering,
    "registry.committed": Registering,
    "repository.kept": Registering,
    "repository.registered": Registering,
    "repository.stored": Registering,
    "repository.retrieved": Retrieving,
    "repository.assembled": Assembling,
    "repository.snapshot_registered": Assembling,
    "patients.before_commit": Merging,
    "patients.committed": Feeding,
    "update.before_commit": Updating,
    "remove.before_commit": RemovingMetadata,
    "repository.removed": Removing,
    "storage.erased": Removing,
    "broker.before_commit": Subscribing,
}


def subscribe(world: World, patient: CX) -> None:
    filter_ = subscription_filter(DOCUMENT_FILTER, patient_id=patient)
    broker = Subscriber(world.node.endpoints["subscriptions"], world.client)
    broker.subscribe(world.told_address, Topic.FULL_DOCUMENT_ENTRY, filter_, "PT1H")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    nodes = Nodes(tmp_path, free_ports())
    with nodes.config.open("a") as file:
        file.write('\n[at_rest]\nenabled = true\nkeys = "../keys"\n')
    new_key(load(nodes.config))
    nodes.program = (sys.executable, "-c", SERVE)
    (fuses := tmp_path / "fuses").mkdir()
    (codes := tmp_path / "no_codes.toml").touch()  # any code is good
    node = nodes.start(
        f"@{fuses}",
        KOSMOS__AFFINITY_DOMAIN__CODES=str(codes),
        KOSMOS__REGISTRY__ADMINISTRATION="true",
        KOSMOS__REPOSITORY__ADMINISTRATION="true",
        KOSMOS__IMAGING_SOURCE__REPORTS__PORT=str(free_ports()),
    )
    world = World(node, tmp_path, fuses)

    def tell(notification: Any) -> None:
        world.told.extend(one.unique_id for one in notification.objects().documents)

    with running_recipient(tell) as world.told_address:
        assert node.announce(reports.PATIENT) == "AA"
        yield world
    world.client.close()
    nodes.close()
    gc.collect()  # of pynetdicom, which forgets to close what was refused: told here, not later


def acknowledged(flow: Flow) -> bool:
    try:
        return flow.attempt()
    except FAILED:
        return False


def undergo(world: World, point: str, action: str) -> None:
    """Let one exchange meet ``action`` at ``point``; it is repeated until it is acknowledged."""
    flow = await_(lambda: made(world, point))
    set_fuse(world.fuses, point, action)
    if not acknowledged(flow):
        await_(lambda: seen(flow))
        await_(lambda: acknowledged(flow))
    await_(lambda: burnt(world.fuses, point))
    world.ledger.append(flow)


def made(world: World, point: str) -> Flow | None:
    """An exchange made ready, unless the node has not come back from the last one."""
    try:
        return FLOWS[point](world)
    except FAILED:
        return None


def seen(flow: Flow) -> bool:
    """Whether what an exchange left that was not acknowledged could be looked at: it is whole."""
    try:
        flow.look(acknowledged=False)
    except FAILED:
        return False
    return True


def settled(flow: Any) -> bool:
    """Whether what follows an acknowledgement has come."""
    try:
        return not hasattr(flow, "settled") or flow.settled()
    except FAILED:
        return False


def recorded(trail: Path, kind: str, name: str) -> list[int]:
    """The outcomes in the records of transactions of this kind that name this."""
    with closing(sqlite3.connect(f"file:{trail}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT outcome FROM audit_record WHERE type = ? AND instr(message, ?) > 0",
            (kind, name.encode()),
        )
        return [outcome for (outcome,) in rows]


def assert_recorded(world: World, flow: Flow) -> None:
    """Each answer that said success has its record, and what was cut off has one, too."""
    trails = world.node.config.parent / "data" / "audit"
    if isinstance(flow, Registering):
        outcomes = recorded(trails / "web-0.db", "ITI-41", str(flow.draft.set.unique_id))
    elif isinstance(flow, Retrieving):
        outcomes = recorded(trails / "web-0.db", "ITI-43", str(flow.unique_id))
    elif isinstance(flow, Performing):
        outcomes = recorded(trails / "dicom.db", "RAD-6", flow.uid)
    else:
        return
    assert outcomes
    assert outcomes.count(0) == flow.successes


def test_every_point_is_driven_somewhere() -> None:
    assert FLOWS.keys() | ELSEWHERE.keys() == POINTS.keys()
    root = Path(__file__).parents[2]
    for point, place in ELSEWHERE.items():
        assert f'"{point}"' in (root / place).read_text("utf-8")


def kosmos(world: World, *words: str) -> Any:
    """What a command of the operator tells; it succeeds."""
    command = [*KOSMOS, *words, "--json", "--config", str(world.node.config)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.timeout(400)  # each point in three ways: less than a minute, more on a busy machine
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nothing_acknowledged_is_lost_at_any_point_and_nothing_is_there_by_half(
    world: World,
) -> None:
    for point, action in product(FLOWS, ACTIONS):
        undergo(world, point, action)
    for flow in world.ledger:
        flow.look(acknowledged=True)
        await_(partial(settled, flow))
    assert world.node.stop() == 0
    for flow in world.ledger:
        assert_recorded(world, flow)
    kosmos(world, "audit", "verify")
    assert not kosmos(world, "reconcile", "--grace-hours", "0", "--sweep", "--scrub")["alarm"]
