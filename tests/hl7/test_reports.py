"""Messages with a report, read: documents in any wrapping, how final, whose, of which study."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.adt import Refused
from hl7.errors import InvalidMessage
from hl7.message import Message, build
from hl7.reports import Completion, read_report

PDF = b"%PDF-1.4 report"
CDA = (
    '<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3">é &amp; ^~|\\</ClinicalDocument>'
)
STUDY = "1.2.3.4.5"

Segment = list[Any]


def ed(data: bytes, encoding: str = "Base64") -> tuple[str, ...]:
    """A document as encapsulated data."""
    text = base64.b64encode(data).decode() if encoding == "Base64" else data.hex()
    return ("", "Application", "PDF", encoding, text)


def oru(**fields: Any) -> list[Segment]:
    """A right ORU^R01 as segments; ``OBX_5=...`` and the like set fields."""
    msh = ["RIS", "HOSPITAL", "KOSMOS", "REGION", "20240115100000", "", ("ORU", "R01"), "1", "P"]
    segments: dict[str, Segment] = {
        "MSH": ["MSH", *msh, "2.5", *[""] * 5, "UNICODE UTF-8"],
        "PID": ["PID", "", "", [("P1", "", "", ("", "1.2.3", "ISO"))]],
        "OBR": ["OBR", "1", "", ("F1", "RIS"), ("CT", "Scanner"), *[""] * 28],
        "OBX": ["OBX", "1", "ED", ("R", "Compte rendu"), "", ed(PDF), "", "", "", "", "", "F"],
        "ZDS": ["ZDS", (STUDY, "RIS", "Application", "DICOM")],
    }
    segments["OBR"][25], segments["OBR"][18] = "F", "A7"
    return changed(segments, fields)


def mdm(event: str = "T02", **fields: Any) -> list[Segment]:
    """A right MDM as segments."""
    msh = ["RIS", "HOSPITAL", "KOSMOS", "REGION", "20240115100000", "", ("MDM", event), "1", "P"]
    segments: dict[str, Segment] = {
        "MSH": ["MSH", *msh, "2.5", *[""] * 5, "UNICODE UTF-8"],
        "PID": ["PID", "", "", [("P1", "", "", ("", "1.2.3", "ISO"))]],
        "TXA": ["TXA", "1", *[""] * 20, ("801", "Curie", "Marie")],
        "OBX": ["OBX", "1", "ED", "R", "", ed(PDF), *[""] * 5, "F"],
    }
    segments["TXA"][12], segments["TXA"][17], segments["TXA"][15] = "D2", "LA", "F1"
    return changed(segments, fields)


def changed(segments: dict[str, Segment], fields: dict[str, Any]) -> list[Segment]:
    for name, value in fields.items():
        segment, _, number = name.partition("_")
        if not number:
            del segments[segment]
            continue
        # In MSH the fields after the name begin with MSH-3.
        segments[segment][int(number) - (2 if segment == "MSH" else 0)] = value
    return list(segments.values())


def read(segments: list[Segment], **how: Any) -> Any:
    return read_report(Message.read(build(segments, **how)))


def test_a_result_says_whose_report_it_is_and_of_which_study() -> None:
    said = read(oru(OBR_32=(("801", "Curie", "Marie"),)))
    assert (said.document, said.is_pdf) == (PDF, True)
    assert said.sender == "HOSPITAL|RIS"
    assert said.numbers == ("order F1^RIS",)
    assert said.completion is Completion.FINAL
    assert (said.study_instance_uid, said.accession_number) == (STUDY, "A7")
    assert (said.title, said.author) == ("Scanner", ("801", "", "Curie", "Marie"))
    assert [one.value for one in said.patient] == ["P1"]


def test_a_document_is_known_by_its_number_and_a_replacement_by_both() -> None:
    first = read(mdm())
    assert first.numbers == ("document D2",)
    assert first.author == ("801", "", "Curie", "Marie")
    assert first.filler_number == "F1"
    assert read(mdm("T10", TXA_13="D1")).numbers == ("document D2", "document D1")
    gone = read(mdm("T11", OBX=None))
    assert (gone.completion, gone.document) == (Completion.WITHDRAWN, b"")


@pytest.mark.parametrize(
    ("order", "result", "completion"),
    [
        ("F", "F", Completion.FINAL),
        ("C", "F", Completion.FINAL),
        ("", "C", Completion.FINAL),
        ("P", "F", Completion.PRELIMINARY),
        ("F", "P", Completion.PRELIMINARY),
        ("", "", Completion.PRELIMINARY),
        ("X", "F", Completion.WITHDRAWN),
        ("F", "W", Completion.WITHDRAWN),
        ("F", "D", Completion.WITHDRAWN),
    ],
)
def test_a_report_is_as_final_as_the_least_that_is_said(
    order: str, result: str, completion: Completion
) -> None:
    assert read(oru(OBR_25=order, OBX_11=result)).completion is completion


@pytest.mark.parametrize(
    ("status", "completion"),
    [("LA", Completion.FINAL), ("AU", Completion.FINAL), ("DO", Completion.PRELIMINARY)],
)
def test_a_document_is_final_once_it_is_authenticated(status: str, completion: Completion) -> None:
    assert read(mdm(TXA_17=status)).completion is completion


@pytest.mark.parametrize("codec", ["UNICODE UTF-8", "8859/1", "8859/15"])
@pytest.mark.parametrize("kind", ["TX", "ED"])
def test_a_cda_document_comes_as_text_in_any_character_set(codec: str, kind: str) -> None:
    content: Any = CDA if kind == "TX" else ("", "Application", "XML", "A", CDA)
    said = read(oru(MSH_18=codec, OBX_2=kind, OBX_5=content), charset=codec)
    assert said.document.decode() == CDA


def test_a_text_that_declares_an_encoding_gets_it() -> None:
    text = CDA.replace('"1.0"', '"1.0" encoding="ISO-8859-1"')
    said = read(oru(OBX_2="TX", OBX_5=text))
    assert said.document == text.encode("iso-8859-1")


def test_unescaped_ampersands_and_carets_of_a_text_are_the_texts() -> None:
    data = build(oru(OBX_2="TX", OBX_5="HERE"))
    text = "<ClinicalDocument>a &amp; b^c~d</ClinicalDocument>"
    said = read_report(Message.read(data.replace(b"HERE", text.encode())))
    assert said.document.decode() == text


def test_base64_may_have_breaks() -> None:
    folded = base64.encodebytes(PDF * 9).decode()
    said = read(oru(OBX_5=("", "", "", "Base64", folded)))
    assert said.document == PDF * 9


@pytest.mark.parametrize(
    ("fields", "code", "location"),
    [
        ({"OBX_5": ("", "", "", "Base64", "JVBERi0x*")}, "102", "OBX^1^5"),
        ({"OBX_5": ("", "", "", "Base64", "JVBER")}, "102", "OBX^1^5"),
        ({"OBX_5": ("", "", "", "Hex", "2550x")}, "102", "OBX^1^5"),
        ({"OBX_5": ("", "", "", "Zip", "2550")}, "102", "OBX^1^5"),
        ({"OBX_5": "JVBERi0x"}, "102", "OBX^1^5"),
        ({"OBX_5": ed(b"GIF89a")}, "103", "OBX^1^5"),
        ({"OBX_2": "TX", "OBX_5": "normal"}, "101", "OBX^1^5"),
        ({"OBX": None}, "101", "OBX^1^5"),
        ({"PID": None}, "100", "PID^1"),
        ({"PID_3": ""}, "101", "PID^1^3"),
        ({"OBR_3": ""}, "101", "OBR^1^3"),
        ({"MSH_7": "yesterday"}, "102", "MSH^1^7"),
    ],
)
def test_a_fault_is_named_with_its_place(fields: dict[str, Any], code: str, location: str) -> None:
    with pytest.raises(Refused) as caught:
        read(oru(**fields))
    assert caught.value.ack_code == "AE"
    assert (code, location) in [(one.code, one.location) for one in caught.value.problems]


def test_two_documents_are_not_one_report() -> None:
    segments = oru()
    segments.append(["OBX", "2", "ED", "R", "", ed(PDF), *[""] * 5, "F"])
    with pytest.raises(Refused) as caught:
        read(segments)
    assert caught.value.location == "OBX^2^5"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"MSH_9": ("ADT", "A01")}, "200"),
        ({"MSH_9": ("ORU", "R03")}, "201"),
        ({"MSH_11": "X"}, "202"),
        ({"MSH_12": "3.0"}, "203"),
    ],
)
def test_what_is_not_ours_to_judge_is_rejected(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as caught:
        read(oru(**fields))
    assert (caught.value.ack_code, caught.value.error_code) == ("AR", code)


@pytest.mark.parametrize(
    "fields", [{"MSH_4": "HOSP\0"}, {"OBR_3": ("F\x001", "RIS")}, {"OBR_18": "A7\0"}]
)
def test_a_nul_in_what_a_report_is_found_by_is_refused_for_good(fields: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read(oru(**fields))
    assert (caught.value.ack_code, caught.value.error_code) == ("AE", "102")


@given(st.binary(max_size=200), st.sampled_from(["Base64", "Hex"]))
def test_whatever_a_pdf_holds_comes_out_byte_for_byte(content: bytes, encoding: str) -> None:
    assert read(oru(OBX_5=ed(PDF + content, encoding))).document == PDF + content


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=100))
def test_whatever_a_text_holds_comes_out_as_it_was(text: str) -> None:
    document = f"<ClinicalDocument>{text}</ClinicalDocument>"
    assert read(oru(OBX_2="TX", OBX_5=document)).document.decode() == document


@given(st.text(max_size=60), st.sampled_from(["ED", "TX", "RP", ""]))
def test_whatever_is_in_a_field_is_read_or_refused(text: str, kind: str) -> None:
    data = build(oru(OBX_2=kind, OBX_5="HERE")).replace(b"HERE", text.encode("utf-8", "replace"))
    try:
        read_report(Message.read(data))
    except (Refused, InvalidMessage):
        return
