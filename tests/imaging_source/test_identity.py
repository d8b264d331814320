"""Patients of other domains: published under who they are in the affinity domain, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from hl7.client import MllpClient
from hl7.message import FieldValue, Message, build
from imaging_source.identity import (
    Crossing,
    FirstToKnow,
    IdentityTable,
    PixManager,
    Unidentified,
    Unreachable,
    asking,
)
from imaging_source.publisher import Place, Publisher
from imaging_source.schema import UNIDENTIFIED
from manifest.entry import PublicationPolicy
from manifest.model import Patient
from metadata.model import DocumentEntry
from storage.database import Database
from tests.hl7.conftest import running
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.registry_response import RegistryResponse

Make = Callable[..., Dataset]
Store = Callable[..., int]

DOMAIN, DEPARTMENT = "1.2.3.4", "1.2.7"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "identifiers.csv"
    file.write_text(f"authority,id,domain_id\n{DEPARTMENT},P1,D1\n")
    return file


def patient(issuer_oid: str = "") -> Patient:
    return Patient(patient_id="P1", issuer_oid=issuer_oid)


@pytest.mark.parametrize(
    ("issuer", "found"), [(DOMAIN, ""), ("1.2.8", ""), (DEPARTMENT, "D1"), ("", "D1")]
)
def test_an_identifier_is_crossed_unless_it_is_the_domains_own(
    table: Path, issuer: str, found: str
) -> None:
    crossing = Crossing(IdentityTable(table), DEPARTMENT, frozenset({DOMAIN, "1.2.8"}))
    assert crossing.domain_id(patient(issuer)) == found


def test_a_toml_table_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "identifiers.toml"
    file.write_text(f'["{DEPARTMENT}"]\nP1 = "D1"\n')
    assert IdentityTable(file).find("P1", DEPARTMENT) == "D1"


def test_a_changed_table_is_read_again(table: Path) -> None:
    reference = IdentityTable(table)
    with pytest.raises(Unidentified):
        reference.find("P2", DEPARTMENT)
    with table.open("a") as lines:
        lines.write(f"{DEPARTMENT},P2,D2\n")
    os.utime(table, (1, 1))
    assert reference.find("P2", DEPARTMENT) == "D2"


@pytest.mark.parametrize("content", ["nothing,like,it\n1,2,3\n", None])
def test_a_table_that_cannot_be_read_tells_nobody(table: Path, content: str | None) -> None:
    table.unlink()
    if content is not None:
        table.write_text(content)
    with pytest.raises(Unreachable):
        IdentityTable(table).find("P1", DEPARTMENT)


def answering(*found: str, code: str = "AA") -> Callable[[bytes, str], bytes]:
    """A PIX manager that knows these identifiers of everybody."""

    def handle(raw: bytes, _peer: str) -> bytes:
        query = Message.read(raw)
        assert query.field("QPD", 3) == f"P1^^^&{DEPARTMENT}&ISO"
        tag = query["MSH-10"]
        header = ("MSH", "PIX", "PIX", "K", "K", "2024", "", ("RSP", "K23"), "9", "P", "2.5")
        segments: list[tuple[FieldValue, ...]] = [header, ("MSA", code, tag), ("QAK", tag, "OK")]
        if found:
            identifiers: FieldValue = [(one, "", "", ("", DOMAIN, "ISO")) for one in found]
            segments.append(("PID", "", "", identifiers))
        return build(segments)

    return handle


def ask(port: int) -> str:
    manager = PixManager(asking(partial(MllpClient, "127.0.0.1", port)), ("PIX", "PIX"), DOMAIN)
    return manager.find("P1", DEPARTMENT)


def test_a_pix_manager_is_asked_over_mllp() -> None:
    with running(answering("D7")) as server:
        assert ask(server.port) == "D7"


@pytest.mark.parametrize("found", [(), ("D7", "D8")])
def test_a_patient_with_no_or_several_identifiers_is_not_identified(found: tuple[str, ...]) -> None:
    with running(answering(*found)) as server, pytest.raises(Unidentified) as told:
        ask(server.port)
    assert "P1" not in str(told.value)


def test_a_manager_that_does_not_answer_is_unreachable() -> None:
    with running(answering(code="AR")) as server:
        port = server.port
        with pytest.raises(Unreachable):
            ask(port)
    with pytest.raises(Unreachable):
        ask(port)  # it has stopped


def test_whoever_is_first_to_know_is_believed(table: Path) -> None:
    with running(answering("D7")) as server:
        manager = PixManager(
            asking(partial(MllpClient, "127.0.0.1", server.port)), ("P", "P"), DOMAIN
        )
        both = FirstToKnow([IdentityTable(table), manager])
        assert both.find("P1", DEPARTMENT) == "D1"
        table.write_text("authority,id,domain_id\n")
        os.utime(table, (1, 1))
        assert both.find("P1", DEPARTMENT) == "D7"


@pytest.fixture
def entries() -> list[DocumentEntry]:
    return []


@pytest.fixture
def publisher(
    database: Database,
    policy: PublicationPolicy,
    table: Path,
    entries: list[DocumentEntry],
    clock: Any,
) -> Publisher:
    def provide(request: ProvideAndRegisterRequest) -> RegistryResponse:
        entries.extend(request.submit.submission.documents)
        return RegistryResponse.of()

    return Publisher(
        database,
        policy,
        Place(repository_unique_id="1.2.9"),
        provide,
        lambda _uid: False,
        crossing=Crossing(IdentityTable(table), DOMAIN, frozenset({DOMAIN})),
        clock=clock,
    )


def of_department(make_instance: Make, patient_id: str) -> Dataset:
    issuer = Dataset()
    issuer.UniversalEntityID = DEPARTMENT
    return make_instance(PatientID=patient_id, IssuerOfPatientIDQualifiersSequence=[issuer])


def test_a_study_is_published_under_the_domains_identifier_and_names_the_departments(
    publisher: Publisher,
    entries: list[DocumentEntry],
    store: Store,
    make_instance: Make,
    clock: Any,
) -> None:
    store(of_department(make_instance, "P1"))
    clock.now += 60
    publisher.run_once()
    (entry,) = entries
    assert entry.patient_id == f"D1^^^&{DOMAIN}&ISO"
    assert entry.source_patient_id == f"P1^^^&{DEPARTMENT}&ISO"


def test_a_study_of_an_unknown_patient_waits_and_is_published_once_it_is_known(
    publisher: Publisher,
    entries: list[DocumentEntry],
    database: Database,
    table: Path,
    store: Store,
    make_instance: Make,
    clock: Any,
) -> None:
    store(of_department(make_instance, "P5"))
    waits = []
    clock.now += 60
    for _ in range(3):
        assert publisher.run_once() == 0
        with database.read() as connection:
            row = connection.execute(select(UNIDENTIFIED)).mappings().one()
        assert "P5" not in row["reason"]
        waits.append(row["next_attempt_at"] - clock.now)
        assert publisher.run_once() == 0  # not at once
        clock.now = row["next_attempt_at"]
    assert waits == [5, 10, 20]

    with table.open("a") as lines:
        lines.write(f"{DEPARTMENT},P5,D5\n")
    os.utime(table, (1, 1))
    publisher.run_once()
    assert [entry.patient_id for entry in entries] == [f"D5^^^&{DOMAIN}&ISO"]
    with database.read() as connection:
        assert connection.execute(select(UNIDENTIFIED)).all() == []
