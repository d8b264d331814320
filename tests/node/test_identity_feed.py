"""The identity feed on its way to the imaging source: kept before it is acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hl7.message import FieldValue, Message, build
from imaging_source.identity import Unidentified
from node.config_file import load
from node.wiring.identity import authorities, crossing, handing_on, inbox, listener

PID: tuple[FieldValue, ...] = ("PID", "", "", ("P1", "", "", ("", "1.2.3.5", "ISO")), "", ("DOE",))


def message(event: str) -> bytes:
    header = ("MSH", "ADT", "H", "K", "K", "20240101", "", ("ADT", event), "1", "P", "2.3.1")
    return build([header, PID])


@pytest.fixture
def file(write_config: Callable[..., Path]) -> Path:
    return write_config()


def test_an_accepted_correction_is_kept_and_nothing_else(file: Path) -> None:
    settings = load(file)
    handle = handing_on(listener(settings), settings)
    assert Message.read(handle(message("A08"), "peer"))["MSA-1"] == "AA"
    assert Message.read(handle(message("A04"), "peer"))["MSA-1"] == "AA"
    assert Message.read(handle(message("A99"), "peer"))["MSA-1"] == "AR"
    assert Message.read(handle(b"no HL7", "peer"))["MSA-1"] == "AE"
    assert [raw for _, raw in inbox(settings).waiting()] == [message("A08")]


def test_what_the_registry_refuses_is_not_kept(file: Path) -> None:
    settings = load(file)
    refused = build(
        [("MSH", "K", "K", "A", "H", "20240101", "", "ACK", "2", "P", "2.3.1"), ("MSA", "AE", "1")]
    )
    handle = handing_on(lambda _raw, _peer: refused, settings)
    assert handle(message("A08"), "peer") == refused
    assert list(inbox(settings).waiting()) == []


def test_a_correction_that_cannot_be_kept_is_to_be_sent_again(file: Path) -> None:
    settings = load(file)
    settings.node.data_dir.mkdir()
    (settings.node.data_dir / "imaging-feed").write_bytes(b"")  # a file where the folder should be
    acknowledged = Message.read(handing_on(listener(settings), settings)(message("A08"), "peer"))
    assert (acknowledged["MSA-1"], acknowledged["ERR-3.1"]) == ("AR", "207")


def test_without_a_reference_the_departments_numbers_are_the_domains(file: Path) -> None:
    settings = load(file)
    assert crossing(settings) is None
    assert authorities(settings).own == {"1.2.3.5"}


def test_with_a_reference_a_departments_number_is_not_the_domains(
    write_config: Callable[..., Path],
) -> None:
    file = write_config(
        '[imaging_source]\nunique_id = "1.2.3.7"\n',
        '[imaging_source]\nunique_id = "1.2.3.7"\nsource_assigning_authority = "1.2.3.8"\n'
        '[imaging_source.identity]\ntable = "ids.csv"\npix_manager = "127.0.0.1:9"\n',
    )
    file.with_name("ids.csv").write_text("authority,id,domain_id\n1.2.3.8,L1,D1\n")
    settings = load(file)
    assert authorities(settings).own == {"1.2.3.8"}
    crossed = crossing(settings)
    assert crossed is not None
    assert crossed.reference.find("L1", "1.2.3.8") == "D1"
    with pytest.raises(Unidentified):  # nobody listens there
        crossed.reference.find("L2", "1.2.3.8")
