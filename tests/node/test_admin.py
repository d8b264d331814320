"""``kosmos admin patients``: what an operator sees and mends, with the node stopped or not."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hl7.client import MllpClient
from hl7.message import Message, build
from metadata.datatypes import CX
from node.config_file import load
from node.feed import Person, announce
from node.init import NewNode, create
from node.migrate import migrate
from node.wiring.patients import open_patients
from node.wiring.rooms import open_rooms
from storage.database import Database
from storage.errors import DatabaseBusy

Kosmos = Callable[..., subprocess.CompletedProcess[str]]
Serve = Callable[[Path], Any]
Admin = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A node with an empty registry that does not run."""
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_database_url")
    file = create(NewNode(tmp_path / "node", plain=True, port_base=0, database=url))
    migrate(load(file))
    return file


@pytest.fixture
def admin(kosmos: Kosmos, config: Path) -> Admin:
    return lambda *arguments: kosmos("admin", "patients", *arguments, "--config", config)


def cx(config: Path, identifier: str) -> str:
    return f"{identifier}^^^&{load(config).affinity_domain.assigning_authority}&ISO"


@pytest.fixture
def announced(config: Path) -> list[str]:
    """Three patients that the feed has announced; their identifiers in full."""
    settings = load(config)
    authority = settings.affinity_domain.assigning_authority
    with ExitStack() as stack:
        feed = open_rooms(settings, stack, 0).feed
        assert feed is not None
        for name in "ABC":
            assert b"\rMSA|AA|" in feed(announce(Person(name, "DUPONT"), authority), "")
    return [cx(config, name) for name in "ABC"]


def test_a_merge_is_made_shown_and_undone(admin: Admin, announced: list[str], config: Path) -> None:
    a, b, _ = announced
    merged = admin("merge", "A", "B", "--json")
    assert json.loads(merged.stdout) == {"subsumed": a, "surviving": b}
    shown = json.loads(admin("show", "A", "--json").stdout)
    user = pwd.getpwuid(os.getuid()).pw_name
    assert (shown["survivor"], [one["id"] for one in shown["chain"]]) == (b, [a, b])
    assert shown["merges"][0]["sender"] == f"{user}|kosmos admin"
    undone = admin("unmerge", "A", "--reason", "two brothers", "--json")
    assert json.loads(undone.stdout)["surviving"] == b
    shown = json.loads(admin("show", "A", "--json").stdout)
    assert (shown["survivor"], shown["merges"]) == (a, [])
    [record] = shown["unmerged"]
    assert (record["operator"], record["reason"]) == (user, "two brothers")
    for verb in ("show", "list"):
        told = admin(verb, *(["A"] if verb == "show" else []))
        assert (told.returncode, a in told.stdout) == (0, True)


def test_what_an_operator_does_to_patients_is_in_the_audit_trail(
    kosmos: Kosmos, admin: Admin, announced: list[str], config: Path
) -> None:
    a, b, _ = announced
    assert admin("unmerge", "A", "--reason", "typed in error").returncode == 1
    assert admin("merge", "A", "B").returncode == 0
    assert admin("unmerge", "A", "--reason", "two brothers").returncode == 0
    found = json.loads(kosmos("audit", "find", "--json", "--config", config).stdout)
    user = pwd.getpwuid(os.getuid()).pw_name
    told = [
        (one["transaction"], one["action"], one["outcome"], one["patients"], one["users"][0])
        for one in found
        if one["trail"] == "operator" and one["patients"]
    ]
    assert told == [  # the last one first
        ("110110", "U", 0, [b], user),
        ("110110", "U", 0, [a], user),
        ("ITI-8", "U", 0, [b], f"{user}|kosmos admin"),
        ("ITI-8", "D", 0, [a], f"{user}|kosmos admin"),
        ("110110", "U", 8, [a], user),
    ]
    assert "two brothers" in found[1]["message"]


def test_patients_are_listed_a_page_at_a_time(admin: Admin, announced: list[str]) -> None:
    a, b, c = announced
    admin("merge", "B", "A")
    first = json.loads(admin("list", "--limit", "2", "--json").stdout)
    assert first == [{"id": a, "survivor": a}, {"id": b, "survivor": a}]
    rest = json.loads(admin("list", "--after", first[-1]["id"], "--json").stdout)
    assert rest == [{"id": c, "survivor": c}]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("show", "nobody"), 1, "no patient has the identifier nobody"),
        (("merge", "nobody", "A"), 1, "the subsumed identifier is not known"),
        (("merge", "A", "nobody"), 1, "the surviving identifier is not known"),
        (("merge", "A", "A"), 1, "the same"),
        (("merge", "A^^^&1.9&ISO", "B"), 1, "affinity domain"),
        (("unmerge", "A", "--reason", "x"), 1, "A was not merged into another"),
        (("unmerge", "A", "--reason", " "), 2, "--reason must say why"),
        (("unmerge", "A"), 2, "--reason"),
        (("list", "--limit", "0"), 2, "--limit"),
    ],
)
def test_how_a_command_ends(
    admin: Admin, announced: list[str], arguments: tuple[str, ...], code: int, text: str
) -> None:
    told = admin(*arguments)
    assert told.returncode == code, told.stderr
    assert text in told.stderr
    assert "Traceback" not in told.stderr


def test_an_embedded_registry_must_be_stopped_first(
    kosmos: Kosmos, plain_node: Path, serve: Serve
) -> None:
    node = serve(plain_node)
    told = kosmos("admin", "patients", "list", "--config", plain_node)
    assert (told.returncode, len(told.stderr.splitlines())) == (1, 1)
    assert node.stop() == 0
    assert kosmos("admin", "patients", "list", "--config", plain_node).returncode == 0


def test_on_postgresql_a_running_node_sees_it_at_once(
    kosmos: Kosmos, tmp_path: Path, serve: Serve, postgresql_database_url: str
) -> None:
    new = NewNode(tmp_path / "node", plain=True, port_base=0, database=postgresql_database_url)
    config = create(new)
    node = serve(config)
    host, _, port = node.endpoints["mllp"].rpartition(":")
    authority = load(config).affinity_domain.assigning_authority
    for name in ("A", "B"):
        with MllpClient(host, int(port)) as client:
            assert b"|AA|" in client.send(announce(Person(name, "DUPONT"), authority))
    options = ("--config", config)
    assert kosmos("admin", "patients", "merge", "A", "B", *options).returncode == 0
    registry = ("--registry", node.endpoints["registry"])
    assert "XDSUnknownPatientId" in kosmos("find", "A", *registry, *options).stderr
    assert kosmos("admin", "patients", "unmerge", "A", "--reason", "x", *options).returncode == 0
    assert kosmos("find", "A", *registry, *options).returncode == 0


def test_a_node_without_registry_has_no_patients(kosmos: Kosmos, plain_node: Path) -> None:
    told = kosmos(
        *("admin", "patients", "list", "--config", plain_node),
        KOSMOS__REGISTRY__ENABLED="false",
        KOSMOS__REPOSITORY__REGISTRY="http://127.0.0.1:9/registry",
        KOSMOS__IMAGING_SOURCE__ENABLED="false",
    )
    assert (told.returncode, told.stderr) == (1, "kosmos: this node has no registry\n")


# --- What the feed answers, through the whole wiring -------------------------------------------


def link_change(authority: str, current: str, previous: str) -> bytes:
    local = ("77", "", "", ("", "1.2.9", "ISO"))
    return build(
        [
            ("MSH", "HIS", "H", "R", "R", "2026", "", ("ADT", "A43", "ADT_A43"), "1", "P", "2.5"),
            ("EVN", "A43", "2026"),
            ("PID", "", "", [(current, "", "", ("", authority, "ISO")), local]),
            ("MRG", (previous, "", "", ("", authority, "ISO"))),
        ]
    )


def test_a_link_change_comes_through_the_feed(config: Path, announced: list[str]) -> None:
    settings = load(config)
    authority = settings.affinity_domain.assigning_authority
    with ExitStack() as stack:
        feed = open_rooms(settings, stack, 0).feed
        assert feed is not None
        codes = [
            Message.read(feed(link_change(authority, current, previous), ""))["MSA-1"]
            for current, previous in (("A", "B"), ("A", "nobody"))
        ]
    assert codes == ["AA", "AE"]
    with open_patients(settings) as registry:
        record = registry.administration.show(CX(announced[0]))
    assert record is not None
    assert [one.local for one in record.relinked] == ["77^^^&1.2.9&ISO"]


def test_a_busy_database_is_told_as_a_locked_record(
    config: Path, announced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(database: Database, work: object) -> None:
        raise DatabaseBusy("lock not had")

    monkeypatch.setenv("KOSMOS__AUDIT__ENABLED", "false")  # whose database is not busy
    settings = load(config)
    message = announce(Person("A", "DUPONT"), settings.affinity_domain.assigning_authority)
    with ExitStack() as stack:
        feed = open_rooms(settings, stack, 0).feed
        assert feed is not None
        monkeypatch.setattr(Database, "write", busy)
        acknowledgement = Message.read(feed(message, ""))
        monkeypatch.undo()
    assert (acknowledgement["MSA-1"], acknowledgement["ERR-3.1"]) == ("AR", "206")
    assert acknowledgement["ERR-3.2"] == "Application record locked"


@pytest.mark.parametrize(("policy", "code"), [("error", "AE"), ("ignore", "AA")])
def test_a_domain_says_what_becomes_of_foreign_patients(
    config: Path, policy: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOSMOS__AFFINITY_DOMAIN__FOREIGN_PATIENTS", policy)
    with ExitStack() as stack:
        feed = open_rooms(load(config), stack, 0).feed
        assert feed is not None
        answer = Message.read(feed(announce(Person("A", "DUPONT"), "1.9.9"), ""))
    assert answer["MSA-1"] == code
