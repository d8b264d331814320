"""A call whose body cannot be read is in the audit trail, whichever transaction it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from lxml import etree

from node.config_file import load
from node.init import NewNode, create
from node.migrate import migrate
from node.wiring.audit import trail_folder
from node.wiring.rooms import open_rooms
from soap.client import SoapClient
from soap.faults import SoapFault
from soap.message import Outgoing
from soap.server import Router, running_server
from transactions.iti_18 import ITI_18
from transactions.iti_41 import ITI_41
from transactions.iti_42 import ITI_42
from transactions.iti_43 import ITI_43
from transactions.iti_44 import ITI_44
from transactions.iti_51 import ITI_51
from transactions.iti_52 import ITI_52, ITI_52_UNSUBSCRIBE
from transactions.iti_54 import ITI_54
from transactions.iti_57 import ITI_57
from transactions.iti_61 import ITI_61
from transactions.iti_62 import ITI_62
from transactions.iti_69 import ITI_69, ITI_69_DESTROY
from transactions.iti_70 import ITI_70
from transactions.iti_86 import ITI_86
from transactions.iti_92 import ITI_92
from transactions.rad_69 import RAD_69
from transactions.transaction import Transaction

DOORS: dict[str, list[Transaction[Any, Any]]] = {
    "registry": [ITI_18, ITI_51, ITI_42, ITI_61, ITI_57, ITI_62, ITI_92, *ITI_44.values()],
    "repository": [ITI_41, ITI_43, ITI_86],
    "imaging": [RAD_69],
    "subscriptions": [ITI_52, ITI_52_UNSUBSCRIBE, ITI_54, ITI_69_DESTROY, ITI_70],
}
# What an empty <CreatePullPoint> asks for is a pull point.
ALWAYS_DONE = {ITI_69.action}
# An empty one of these is read, and refused for what it does not name.
ALWAYS_READ = {
    ITI_52_UNSUBSCRIBE.action,
    ITI_69_DESTROY.action,
    *(one.action for one in ITI_44.values()),
}
# An empty one of others lacks what the schema requires; this one has something that it forbids.
CONTENT = {ITI_70.action: "<q:MaximumNumber>many</q:MaximumNumber>"}

# EventID and EventActionCode of a server's record (ITI TF-2 3.n.5, RAD TF-2 4.69.5).
KINDS = {
    "ITI-18": ("110112", "E"),
    "ITI-51": ("110112", "E"),
    "ITI-41": ("110107", "C"),
    "ITI-42": ("110107", "C"),
    "ITI-61": ("110107", "C"),
    "ITI-43": ("110106", "R"),
    "ITI-52": ("110112", "E"),
    "ITI-54": ("110107", "C"),
    "ITI-57": ("110107", "U"),
    "ITI-92": ("110107", "U"),
    "ITI-62": ("110110", "D"),
    "ITI-86": ("110110", "D"),
    "ITI-70": ("110106", "R"),
    "RAD-69": ("110104", "R"),
}


@dataclass(frozen=True)
class Served:
    """The doors of a node, and where its trail is."""

    base: str
    trail: Path
    offered: set[str]

    def newest(self) -> etree._Element:
        """The last record."""
        with closing(sqlite3.connect(self.trail)) as connection:
            query = "SELECT message FROM audit_record ORDER BY number DESC LIMIT 1"
            [message] = connection.execute(query).fetchone()
        return etree.fromstring(message)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("unread")
    settings = load(create(NewNode(folder / "node", plain=True, port_base=0)))
    migrate(settings)
    with ExitStack() as stack:
        rooms = open_rooms(settings, stack, 0)
        doors = rooms.endpoints.values()
        offered = {one.action for door in doors for one in door._exchanges}
        base = stack.enter_context(running_server(Router(dict(rooms.endpoints))))
        yield Served(base, trail_folder(settings) / "web-0.db", offered)


def test_every_door_is_tried(served: Served) -> None:
    tried = {one.action for door in DOORS.values() for one in door}
    assert tried | ALWAYS_DONE == served.offered


@pytest.mark.parametrize(
    ("door", "asked"),
    [(door, one) for door, asked in DOORS.items() for one in asked],
    ids=lambda one: one if isinstance(one, str) else one.action.rpartition(":")[2],
)
def test_what_could_not_be_read_is_recorded_as_a_failure(
    door: str, asked: Transaction[Any, Any], served: Served
) -> None:
    name = etree.QName(asked.root)
    content = CONTENT.get(asked.action, "")
    body = f'<q:{name.localname} xmlns:q="{name.namespace}">{content}</q:{name.localname}>'
    broken = replace(asked, write_request=lambda _: Outgoing([body.encode()]))
    with closing(SoapClient(timeout=10)) as client, suppress(SoapFault):
        client.call(f"{served.base}/{door}", broken, None)
    record = served.newest()
    event, participant = record[0], record[1]
    codes = [event.find(name) for name in ("EventTypeCode", "EventID")]
    number, event_id = [one.get("csd-code") for one in codes if one is not None]
    assert number == asked.number
    assert participant.get("NetworkAccessPointID") == "127.0.0.1"
    assert event.get("EventOutcomeIndicator") != "0"
    if asked.action in ALWAYS_READ:
        return
    assert (event_id, event.get("EventActionCode")) == KINDS[asked.number]
    assert event.get("EventOutcomeIndicator") == "8"
    assert event.findtext("EventOutcomeDescription")


@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_message_at_all_is_recorded_without_its_words(door: str, served: Served) -> None:
    headers = {"Content-Type": "application/soap+xml"}
    secret = b"<Dupont-1965"
    with pytest.raises(HTTPError, match="400"):
        urlopen(Request(f"{served.base}/{door}", secret, headers), timeout=10)
    record = served.newest()
    event, participant = record[0], record[1]
    codes = [event.find(name) for name in ("EventID", "EventTypeCode")]
    assert [one.get("csd-code") for one in codes if one is not None] == ["110113", "not-understood"]
    assert event.get("EventOutcomeIndicator") == "8"
    assert participant.get("NetworkAccessPointID") == "127.0.0.1"
    assert record.xpath(f"//@ParticipantObjectID[contains(., '/{door}')]")
    assert b"Dupont" not in etree.tostring(record)
