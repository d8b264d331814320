"""Every case over the wire against peers that are wrong in the same way each time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from conformance.bench import Session
from conformance.case import Case
from conformance.results import Verdict
from conformance.run import all_cases, run_case
from conformance.targets import Study, Targets
from hl7.ack import acknowledge
from hl7.message import Message
from metadata.affinity_domain import AffinityDomain
from metadata.catalogue import RegistryError
from metadata.identifiers import FAILURE, SUCCESS
from soap.envelope import write_response
from tests.conformance.wrong_provider import wrong_provider
from transactions import iti_18, iti_43
from transactions.registry_response import RegistryResponse
from transactions.registry_response import write_response as write_registry_response

RunMllp = Callable[[Callable[[bytes, str], bytes]], AbstractContextManager[int]]
Reply = Callable[[bytes], tuple[str, bytes]]

CANNOT_UNDERSTAND = 0xC000
# Those of secure nodes meet wrong peers in test_user_assertions and the like.
HERE = [case for case in all_cases() if not case.needs & {"issuer", "secured", "audit_listener"}]
REASON = (RegistryError("XDSKitNonsense", "no particular reason"),)


def soap_reply(status: str, errors: tuple[RegistryError, ...]) -> Reply:
    """Answers everything with this status and these errors, under a wrong Action."""

    def reply(request: bytes) -> tuple[str, bytes]:
        if b"AdhocQueryRequest" in request:
            body = iti_18.write_response(iti_18.AdhocQueryResponse(status, errors)).body
        elif b"RetrieveDocumentSetRequest" in request or b"RetrieveImaging" in request:
            retrieved = iti_43.RetrieveDocumentSetResponse(status, errors)
            body = iti_43.write_response(retrieved).body
        else:
            body = write_registry_response(RegistryResponse(status, errors)).body
        envelope = write_response(body, action="urn:kit:wrong", relates_to="urn:kit:other")
        return "application/soap+xml", b"".join(envelope)

    return reply


def garbage(request: bytes) -> tuple[str, bytes]:
    return "text/html", b"<html>It works!</html>"


@contextmanager
def http_peer(reply: Reply) -> Iterator[str]:
    """An HTTP server that answers HTTP 200 and what ``reply`` makes of the request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def do_POST(self) -> None:
            request = self._body()
            content_type, body = reply(request)
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> bytes:
            if length := self.headers.get("Content-Length"):
                return self.rfile.read(int(length))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def always(code: str) -> Callable[[bytes, str], bytes]:
    return lambda raw, peer: acknowledge(Message.read_header(raw), code)


@pytest.fixture(scope="module")
def wrong_session(
    run_mllp: RunMllp, closed_domain: AffinityDomain
) -> Iterator[Callable[[Reply, str], Session]]:
    """Makes sessions whose every endpoint answers the same."""
    with ExitStack() as stack:

        def make(reply: Reply, ack: str) -> Session:
            url = stack.enter_context(http_peer(reply))
            port = stack.enter_context(run_mllp(always(ack)))
            with socket.create_server(("127.0.0.1", 0)) as probe:
                free = probe.getsockname()[1]
            targets = Targets(
                registry=url,
                domain=closed_domain,
                repository=url,
                subscriptions=url,
                listener=f"127.0.0.1:{free}",
                broker_restart="true",
                imaging=url,
                dicomweb=url,
                wado_uri=url,
                dicom=str(stack.enter_context(wrong_provider(stored=CANNOT_UNDERSTAND))),
                move_to=f"KIT@127.0.0.1:{free}",
                publishes=True,
                identity_v3=url,
                repository_facing_simulator=url,
                mllp=f"127.0.0.1:{port}",
                link_change=True,
                multi_patient=True,
                on_demand=True,
                on_demand_type=Targets().codes("typeCode")[0],
                administration=True,
                namespace="KIT",
                repository_unique_id="1.2.3",
                imaging_unique_id="1.2.4",
                study=Study("1.2.5", "1.2.6", "1.2.7"),
                crash="true",
                big_document=1000,
                timeout=5.0,
            )
            return Session(targets, "WRONG")

        yield make


@pytest.fixture(scope="module")
def garbage_session(wrong_session: Callable[[Reply, str], Session]) -> Session:
    return wrong_session(garbage, "AR")


@pytest.fixture(scope="module")
def failing_session(wrong_session: Callable[[Reply, str], Session]) -> Session:
    return wrong_session(soap_reply(FAILURE, REASON), "AE")


@pytest.fixture(scope="module")
def succeeding_session(wrong_session: Callable[[Reply, str], Session]) -> Session:
    return wrong_session(soap_reply(SUCCESS, ()), "AA")


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.id)
def test_a_peer_that_answers_garbage_fails_every_case(case: Case, garbage_session: Session) -> None:
    assert run_case(case, garbage_session).verdict is Verdict.FAILED


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.id)
def test_a_peer_that_refuses_for_another_reason_fails_every_case(
    case: Case, failing_session: Session
) -> None:
    assert run_case(case, failing_session).verdict is Verdict.FAILED


# What a peer that says yes to everything does rightly: each is a case of saying yes.
YES = {
    "G06-display",
    "G28",
    "G24-merged",
    "P02-namespace",
    "P12-both",
    "Q12",
    "Q19",
    "P08-close",
    "P08-crlf",
    "P08-garbage",
    "P08-lf",
    "P08-split",
    "P08-two",
}


def yes(case: Case) -> bool:
    """W01-no-reply-to and W04 ask a registry for no more than an empty Success."""
    registry = case.id.startswith(("W04-registry", "W01-registry-no-reply-to"))
    # This peer looks for words in the request and finds none in UTF-16.
    return (case.id in YES or registry) and case.id != "W04-registry-utf-16"


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.id)
def test_a_peer_that_accepts_everything_fails_all_but_plain_acceptances(
    case: Case, succeeding_session: Session
) -> None:
    verdict = run_case(case, succeeding_session).verdict
    assert verdict is (Verdict.PASSED if yes(case) else Verdict.FAILED)
