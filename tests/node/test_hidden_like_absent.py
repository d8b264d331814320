"""What is hidden and what is not there are answered alike, by the same statements, at every door.

Clocks are not asked: what is counted is the work that an answer takes, each statement as it reaches
the engine. See ``registry.veil`` for what is left out.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from sqlalchemy import Connection, Text, insert

from imaging_source.ledger import End
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.identifier import Identifier
from imaging_source.query_retrieve.models import Level
from imaging_source.schema import INSTANCE, SERIES, STUDY
from imaging_source.service import NOT_AUTHORIZED, Refused
from metadata.datatypes import CX, new_uuid_urn
from metadata.identifiers import SUCCESS
from node.config_file import load
from node.documents import Description, provide
from node.feed import Person, announce
from node.init import NewNode, create
from node.migrate import migrate, open_database
from node.wiring.common import affinity_domain
from node.wiring.dicom import open_veil
from node.wiring.rooms import open_rooms
from security.assertions.claims import Claims
from security.pki import create_authority
from soap.client import SoapClient
from soap.server import Router, running_server
from transactions.iti_18 import ITI_18
from transactions.iti_41 import ITI_41
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest
from transactions.rad_69 import (
    RAD_69,
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)
from transactions.stored_query import find_documents, get_documents

# Nodes without user see what is N; what this one registers is V.
JUDGED = """
[imaging_source.document.confidentiality_code]
code = "V"
scheme = "2.16.840.1.113883.5.25"
display_name = "very restricted"
[assertions]
enabled = true
required = []
[[assertions.issuers]]
name = "somebody"
certificates = "{certificates}"
"""
DOORS = (
    "FindDocuments",
    "GetDocuments by entryUUID",
    "GetDocuments by uniqueId",
    "ITI-43",
    "RAD-69",
    "WADO-RS",
    "WADO-RS metadata",
    "WADO-RS instance",
    "QIDO-RS",
    "C-FIND",
)
HIDDEN, ABSENT = "1.2.3", "1.2.4"
STUDY_UID = 0x0020000D
FORMAT = "urn:ihe:iti:xds:2017:mimeTypeSufficient"
EXPLICIT = "1.2.840.10008.1.2.1"
_LITERAL = re.compile(r"'(?:[^']|'')*'|\b[0-9.]+\b")


@dataclass
class Work:
    """The statements that reach SQLite, without their values, by whoever runs them."""

    ran: list[str] = field(default_factory=list)

    def trace(self, statement: str) -> None:
        if threading.current_thread().name not in ("notifier", "audit trail"):
            self.ran.append(_LITERAL.sub("?", statement))

    def of(self, ask: Callable[[], object]) -> tuple[object, Counter[str]]:
        """What is answered, and what was run for it."""
        self.ran.clear()
        answer = ask()
        return answer, Counter(self.ran)


Ask = Callable[[bool], object]
"""Asks for the hidden one, or for one that is not there."""


@pytest.fixture(scope="module")
def work() -> Iterator[Work]:
    """What reaches SQLite from now on, by connections that are opened from now on."""
    work, connect = Work(), sqlite3.dbapi2.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(work.trace)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3.dbapi2, "connect", traced)
        patch.setattr(sqlite3, "connect", traced)
        yield work


@pytest.fixture(scope="module")
def doors(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ask]]:
    """The doors of a node with one document and one study, neither of which anybody may see."""
    folder = tmp_path_factory.mktemp("hidden")
    config = create(NewNode(folder / "node", plain=True, port_base=0))
    certificate = create_authority(folder, "somebody").certificate
    config.write_text(config.read_text() + JUDGED.format(certificates=certificate))
    settings = load(config)
    migrate(settings)
    with ExitStack() as stack:
        rooms = open_rooms(settings, stack, 0)
        router = Router(dict(rooms.endpoints), rooms.mounts)
        base = stack.enter_context(running_server(router))
        client = stack.enter_context(closing(SoapClient(timeout=10)))
        file = folder / "report.txt"
        file.write_text("no finding")
        assert rooms.feed is not None
        domain = settings.affinity_domain.assigning_authority
        for one in ("1", "2"):
            rooms.feed(announce(Person(one, "DOE^JANE"), domain), "here")
        patient, nobody = (CX.of(one, domain) for one in ("1", "2"))
        described = Description(patient, "a report", "10", "18748-4", FORMAT)
        unique_id, request = provide(file, described, settings, affinity_domain(settings))
        assert client.call(f"{base}/repository", ITI_41, request).status == SUCCESS
        entry = str(request.submit.submission.documents[0].entry_uuid)
        index = stack.enter_context(open_database(settings.imaging_source, "imaging_source"))
        index.write(lambda connection: _store(connection, entry))
        finder = Finder(index, "KOSMOS", 10)
        veil = open_veil(settings, stack, index, client)

        def soap(door: str, exchange: Any, made: Callable[[bool], Any]) -> Ask:
            def ask(hidden: bool) -> object:
                answer = client.call(f"{base}/{door}", exchange, made(hidden))
                return answer.status, [one.code for one in answer.errors]

            return ask

        def document(hidden: bool) -> RetrieveDocumentSetRequest:
            name = unique_id if hidden else f"{unique_id}.1"
            return RetrieveDocumentSetRequest(
                (DocumentRequest(settings.repository.unique_id, name, None),)
            )

        def study(hidden: bool) -> RetrieveImagingDocumentSetRequest:
            uid = HIDDEN if hidden else ABSENT
            instance = DocumentRequest(settings.imaging_source.unique_id, f"{uid}.1.1", None)
            series = (SeriesRequest(f"{uid}.1", (instance,)),)
            return RetrieveImagingDocumentSetRequest((StudyRequest(uid, series),), (EXPLICIT,))

        def web(path: str) -> Ask:
            def ask(hidden: bool) -> object:
                uid = HIDDEN if hidden else ABSENT
                try:
                    with urlopen(f"{base}/dicomweb{path.format(uid=uid)}", timeout=10) as answer:
                        return answer.status, answer.read()
                except HTTPError as error:
                    return error.code, error.read()

            return ask

        def found(hidden: bool) -> object:
            identifier = Identifier(Level.STUDY, {STUDY_UID: HIDDEN if hidden else ABSENT})
            return list(finder.find(identifier, Level.STUDY, veil(End("SOMEBODY"))))

        yield {
            "FindDocuments": soap(
                "registry", ITI_18, lambda hidden: find_documents(patient if hidden else nobody)
            ),
            "GetDocuments by entryUUID": soap(
                "registry",
                ITI_18,
                lambda hidden: get_documents(entry_uuid=[entry if hidden else new_uuid_urn()]),
            ),
            "GetDocuments by uniqueId": soap(
                "registry",
                ITI_18,
                lambda hidden: get_documents(unique_id=[unique_id + ("" if hidden else ".1")]),
            ),
            "ITI-43": soap("repository", ITI_43, document),
            "RAD-69": soap("imaging", RAD_69, study),
            "WADO-RS": web("/studies/{uid}"),
            "WADO-RS metadata": web("/studies/{uid}/metadata"),
            "WADO-RS instance": web("/studies/{uid}/series/{uid}.1/instances/{uid}.1.1"),
            "QIDO-RS": web("/studies?StudyInstanceUID={uid}"),
            "C-FIND": found,
        }


def _store(connection: Connection, entry: str) -> None:
    """A study of one instance, whose manifest is this entry."""
    for table, given in (
        (STUDY, {"published_entry": entry}),
        (SERIES, {"series_instance_uid": f"{HIDDEN}.1"}),
        (INSTANCE, {"series_instance_uid": f"{HIDDEN}.1", "sop_instance_uid": f"{HIDDEN}.1.1"}),
    ):
        row = {
            one.name: "" if isinstance(one.type, Text) else 0
            for one in table.columns
            if not one.nullable
        }
        connection.execute(insert(table), {**row, "study_instance_uid": HIDDEN, **given})


@pytest.mark.parametrize("door", DOORS)
def test_the_same_is_answered_by_the_same_statements(
    door: str, doors: dict[str, Ask], work: Work
) -> None:
    ask = doors[door]
    for hidden in (True, False):
        ask(hidden)  # what a process does once
    (shown, ran), (absent, ran_for_absent) = (
        work.of(partial(ask, hidden)) for hidden in (True, False)
    )
    assert shown == absent
    assert [*(ran - ran_for_absent)] == [*(ran_for_absent - ran)] == []
    assert ran.total() > 3


def test_an_association_that_outlasts_its_assertion_is_shown_nothing(tmp_path: Path) -> None:
    """What is under way goes on; the next C-FIND, C-MOVE or C-GET is refused."""
    config = create(NewNode(tmp_path / "node", plain=True, port_base=0))
    certificate = create_authority(tmp_path, "somebody").certificate
    config.write_text(config.read_text() + JUDGED.format(certificates=certificate))
    settings, now = load(config), datetime.now(UTC)
    migrate(settings)
    with ExitStack() as stack:
        client = stack.enter_context(closing(SoapClient(timeout=10)))
        index = stack.enter_context(open_database(settings.imaging_source, "imaging_source"))
        veil = open_veil(settings, stack, index, client)
        holding = Claims("_1", "somebody", "ada", now, now + timedelta(minutes=5))
        ended = Claims("_2", "somebody", "ada", now, now - timedelta(minutes=2))
        assert veil(End("STATION", user=holding)) is not None
        with pytest.raises(Refused, match="has expired") as refused:
            veil(End("STATION", user=ended))
        assert refused.value.status == NOT_AUTHORIZED


def test_every_door_is_asked(doors: dict[str, Ask]) -> None:
    assert doors.keys() == {*DOORS}
