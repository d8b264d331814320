"""Document Repository before a registry that the kit plays itself (R10, R11, R12, R15).

The repository under test must be configured to register with ``simulator_port`` of the
machine the kit runs on; the kit decides what that registry answers, or whether it is there.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator

from conformance import material
from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.repository import ERRORS, PROVIDE, contents, prepared
from conformance.expectation import Mismatch, Same, Success, failure
from conformance.seen import Compared, Seen
from conformance.simulator import simulated_registry
from metadata.catalogue import RegistryError
from metadata.identifiers import SUCCESS, WARNING
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_43 import DocumentRequest
from transactions.registry_response import RegistryResponse

CASES = Cases(Actor.REPOSITORY, "repository_facing_simulator")

EXTRA = "XDSExtraMetadataNotSaved"
CRASH_SECONDS = 120
"""How long the crash command may take to have the repository back."""

ACCEPTED = RegistryResponse(SUCCESS)


def facing_simulator(bench: Bench) -> Bench:
    """The bench, turned to the repository before the simulator; any patient will do."""
    url = bench.targets.repository_facing_simulator
    patients = (bench.session.identifier(),)
    return bench.pointed_at(repository=url, mllp=None, identity_v3=None, patients=patients)


@CASES.case(
    "R10",
    "A warning of the registry is relayed",
    "Un avertissement du registre est relayé",
    spec=PROVIDE,
    expected=[Success(warning=EXTRA, mtom=True)],
)
def _relay_warning(bench: Bench) -> Iterator[Seen]:
    bench = facing_simulator(bench)
    warning = RegistryError(EXTRA, "the simulated registry dropped a slot", WARNING)
    answer = RegistryResponse(SUCCESS, (warning,))
    submission, entry = prepared(bench)
    with simulated_registry(bench.targets.simulator_port, lambda request: answer):
        yield bench.provide(submission, {entry.entry_uuid: material.TEXT})


@CASES.case(
    "R11",
    "The registry is down",
    "Le registre est arrêté",
    spec=ERRORS,
    expected=[failure("XDSRegistryNotAvailable")],
)
def _registry_down(bench: Bench) -> Iterator[Seen]:
    bench = facing_simulator(bench)
    submission, entry = prepared(bench)
    yield bench.provide(submission, {entry.entry_uuid: material.TEXT})


@CASES.case(
    "R12",
    "The document can be retrieved before the registry has answered",
    "Le document est récupérable avant la réponse du registre",
    spec=PROVIDE,
    expected=[Success(mtom=True), Same("bytes retrieved during ITI-42")],
)
def _retrieve_before_ack(bench: Bench) -> Iterator[Seen]:
    bench = facing_simulator(bench)
    submission, entry = prepared(bench)
    retrieved: list[bytes] = []

    def register(request: SubmitObjectsRequest) -> RegistryResponse:
        sent = request.submission.documents[0]
        wanted = DocumentRequest(sent.repository_unique_id or "", sent.unique_id or "")
        retrieved.extend(contents(bench.retrieve(wanted)))
        return ACCEPTED

    with simulated_registry(bench.targets.simulator_port, register):
        yield bench.provide(submission, {entry.entry_uuid: material.TEXT})
    yield Compared("documents", [material.TEXT], retrieved)


@CASES.case(
    "R15",
    "Killed between storing and registering, then asked again",
    "Tué entre le dépôt et l'enregistrement, puis sollicité à nouveau",
    spec=PROVIDE,
    needs="crash",
    expected=[
        Same("no success before the crash"),
        Success(mtom=True),
        Same("the same bytes, registered once after the restart"),
    ],
)
def _crash_midway(bench: Bench) -> Iterator[Seen]:
    bench = facing_simulator(bench)
    submission, entry = prepared(bench)
    documents = {entry.entry_uuid: material.TEXT}
    crash = _Crash(bench.targets.crash or "")
    with simulated_registry(bench.targets.simulator_port, crash.register):
        first = bench.provide(submission, documents)
        if problem := crash.problem():
            raise Mismatch("a crash between storing and registering", problem)
        yield Compared("success before the crash", False, first.status == SUCCESS)
        yield bench.provide(submission, documents)
    retrieved = contents(bench.retrieve(*crash.registered)) if crash.registered else []
    yield Compared("documents", [material.TEXT], retrieved)


class _Crash:
    """A registry that has the repository killed by its first request, and accepts the next.

    ``registered`` is what has been accepted.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._asked = False
        self._ended = threading.Event()
        self._problem = ""
        self.registered: list[DocumentRequest] = []

    def problem(self) -> str:
        """Why there was no crash, empty if there was one.

        The command is waited for: the killed repository breaks off its call long before the
        command has it back.
        """
        if not self._asked:
            return "the repository did not ask the registry"
        self._ended.wait()  # the command's own time is bounded
        return self._problem

    def register(self, request: SubmitObjectsRequest) -> RegistryResponse:
        """Answers ITI-42."""
        if not self._asked:
            self._asked = True
            self._problem = self._run()
            self._ended.set()
            raise ConnectionAbortedError("the repository is gone")
        sent = request.submission.documents[0]
        wanted = DocumentRequest(sent.repository_unique_id or "", sent.unique_id or "")
        self.registered.append(wanted)
        return ACCEPTED

    def _run(self) -> str:
        """Run the operator's own command; what went wrong, empty if nothing."""
        try:
            subprocess.run(self._command, shell=True, check=True, timeout=CRASH_SECONDS)
        except subprocess.SubprocessError as error:
            return f"the crash command failed: {error}"
        return ""
