"""The imaging summary: what it lists, and how CDA and PDF tell it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from metadata.datatypes import CX, DTM, HD, XON, CXi, LocalizedString, escape
from metadata.identifiers import (
    ACCESSION_REFERENCE,
    ACQUISITION_MODALITY_SCHEME,
    CONFIDENTIALITY_SCHEME,
    KOS_FORMAT_CODE,
    MADO_FHIR_FORMAT_CODE,
    ORDER_REFERENCE,
    STUDY_INSTANCE_UID_REFERENCE,
)
from metadata.model import Author, Code, DocumentEntry
from repository.imaging_summary import CDA_MIME_TYPE, PDF_MIME_TYPE, ImagingSummary
from repository.summary import COLUMNS, WORDS
from tests.system.foreign import run

LOINC = "2.16.840.1.113883.6.1"
SUMMARY = Code("60591-5", LOINC, LocalizedString("Synthèse médicale"))
REPORT = Code("18748-4", LOINC, LocalizedString("CR d'imagerie médicale"))
LETTER = Code("34133-9", LOINC, LocalizedString("Lettre"))
KOS = Code(KOS_FORMAT_CODE, "1.2.840.10008.2.6.1", LocalizedString("KOS"))
TEXT = Code("text", "1.2.3", LocalizedString("text"))
MOMENT = datetime(2026, 3, 2, 14, 5, tzinfo=UTC)
NS = {"c": "urn:hl7-org:v3"}
DASH = "\N{EN DASH}"


def entry(language: str = "fr-FR", mime_type: str = CDA_MIME_TYPE) -> DocumentEntry:
    return DocumentEntry(
        title=LocalizedString("Synthèse d'imagerie" if language == "fr-FR" else ""),
        type_code=SUMMARY,
        mime_type=mime_type,
        language_code=language,
        patient_id=CX.of("279035121518989", "1.2.250.1.213.1.4.10"),
        confidentiality_code=[Code("N", CONFIDENTIALITY_SCHEME, LocalizedString("Normal"))],
    )


def study(number: int, **attributes: object) -> DocumentEntry:
    """A manifest of a CT."""
    given: dict[str, object] = {
        "unique_id": f"1.2.{number}",
        "type_code": LETTER,
        "format_code": KOS,
        "service_start_time": DTM(f"202501{number:02}0915"),
        "title": LocalizedString(f"Scanner {number}"),
        "event_code_list": [Code("CT", ACQUISITION_MODALITY_SCHEME), Code("x", "1.2.3")],
        "author": [Author(institution=[XON("CHU & Cie")])],
        "reference_id_list": [
            CXi.of("ORDER", ORDER_REFERENCE, HD.of("1.2")),
            CXi.of(f"ACC{number}", ACCESSION_REFERENCE, HD.of("1.2")),
        ],
        **attributes,
    }
    return DocumentEntry(**given)  # type: ignore[arg-type]


def provider(*documents: DocumentEntry) -> ImagingSummary:
    return ImagingSummary(
        find=lambda _: documents,
        type_code=SUMMARY,
        report_types=frozenset({REPORT}),
        institution="Hôpital de Kosmopolis",
        institution_oid="1.2.3.4",
        time_zone=ZoneInfo("Europe/Paris"),
    )


def render(asked: DocumentEntry, *documents: DocumentEntry) -> bytes:
    return provider(*documents).assemble(asked).render("2.25.1", MOMENT)


def cda(asked: DocumentEntry, *documents: DocumentEntry) -> etree._Element:
    return etree.fromstring(render(asked, *documents))


def rows(document: etree._Element) -> list[list[str]]:
    return [[cell.text or "" for cell in row] for row in document.iterfind(".//c:tbody/c:tr", NS)]


def identifier(document: etree._Element, path: str) -> dict[str, str]:
    found = document.find(path, NS)
    assert found is not None
    return {str(name): str(value) for name, value in found.items()}


def pages(file: Path, data: bytes) -> list[str]:
    """What is written on each page of a PDF, as another program reads it."""
    file.write_bytes(data)
    told = run("pdftotext", "-layout", file, "-")
    assert told.returncode == 0, told.stdout
    return told.stdout.split("\f")[:-1]


# What is listed


def test_studies_and_reports_are_listed_the_latest_first() -> None:
    report = study(2, type_code=REPORT, format_code=TEXT, event_code_list=[])
    listed = rows(cda(entry(), study(1), report, study(3)))
    assert [row[3] for row in listed] == ["Scanner 3", "Scanner 2", "Scanner 1"]
    assert [row[1] for row in listed] == ["Images", "Compte rendu", "Images"]


def test_a_study_with_manifests_of_several_families_is_listed_once() -> None:
    reference = [CXi.of("1.2.3.4", STUDY_INSTANCE_UID_REFERENCE)]
    mado = Code(MADO_FHIR_FORMAT_CODE, "1.3.6.1.4.1.19376.1.2.7.1")
    families = [
        study(1, reference_id_list=reference),
        study(2, reference_id_list=reference, format_code=mado),
        study(3, format_code=mado),
    ]
    listed = rows(cda(entry(), *families))
    assert [row[3] for row in listed] == ["Scanner 3", "Scanner 2"]
    assert {row[1] for row in listed} == {"Images"}


def test_a_row_tells_date_modality_title_facility_and_accession_number() -> None:
    [row] = rows(cda(entry(), study(1)))
    assert row == ["01/01/2025 10:15", "Images", "CT", "Scanner 1", "CHU & Cie", "ACC1"]


def test_what_is_not_known_is_a_dash() -> None:
    bare = DocumentEntry(unique_id="1.2", format_code=KOS)
    [row] = rows(cda(entry(), bare))
    assert row == [DASH, "Images", DASH, DASH, DASH, DASH]


def test_other_documents_and_summaries_are_not_listed() -> None:
    letter = study(1, format_code=TEXT)
    snapshot = study(2, type_code=SUMMARY)
    document = cda(entry(), letter, snapshot)
    assert rows(document) == []
    assert WORDS["fr"]["none"] in etree.tostring(document, encoding="unicode")


@pytest.mark.parametrize(
    ("time", "french", "english"),
    [
        ("2025", "2025", "2025"),
        ("202503", "03/2025", "2025-03"),
        ("20250304", "04/03/2025", "2025-03-04"),
        ("2025030423", "04/03/2025", "2025-03-04"),
        ("202507042359", "05/07/2025 01:59", "2025-07-05 01:59"),
        ("20250704235959", "05/07/2025 01:59", "2025-07-05 01:59"),
        ("nonsense", DASH, DASH),
    ],
)
def test_a_date_is_written_as_far_as_it_is_known(time: str, french: str, english: str) -> None:
    document = study(1, service_start_time=DTM(time))
    assert rows(cda(entry(), document))[0][0] == french
    assert rows(cda(entry("en-GB"), document))[0][0] == english


# When it is another document


def test_the_substance_is_the_same_for_the_same_content_in_any_order() -> None:
    one, two = study(1), study(2, service_start_time=DTM("202501010915"))
    first = provider(one, two).assemble(entry())
    assert first.substance == provider(two, one).assemble(entry()).substance
    assert first.render("2.25.1", MOMENT) == render(entry(), two, one)


@pytest.mark.parametrize(
    "other",
    [
        (entry(), (study(1, title=LocalizedString("Autre")),)),
        (entry(), ()),
        (entry("en-GB"), (study(1),)),
        (entry(mime_type=PDF_MIME_TYPE), (study(1),)),
    ],
)
def test_other_content_language_or_form_is_another_substance(
    other: tuple[DocumentEntry, tuple[DocumentEntry, ...]],
) -> None:
    asked, documents = other
    same = provider(study(1)).assemble(entry()).substance
    assert provider(*documents).assemble(asked).substance != same


def test_it_serves_summaries_in_the_forms_there_are() -> None:
    one = provider()
    assert one.serves(entry())
    assert one.serves(entry(mime_type=PDF_MIME_TYPE))
    assert not one.serves(entry(mime_type="image/png"))
    assert not one.serves(study(1, mime_type=CDA_MIME_TYPE))


# CDA


def test_the_header_of_the_cda_has_what_the_standard_requires() -> None:
    named = study(1, source_patient_info=["PID-5|O\\T\\Brien^Zoë~x", "PID-7|19790314", "PID-8|F"])
    document = cda(entry(), named)
    children = [etree.QName(child).localname for child in document]
    assert children == [
        *("typeId", "id", "code", "title", "effectiveTime", "confidentialityCode"),
        *("languageCode", "recordTarget", "author", "custodian", "component"),
    ]
    assert identifier(document, "c:id") == {"root": "2.25.1"}
    assert document.findtext(".//c:patient/c:name/c:family", "", NS) == "O&Brien"
    assert document.findtext(".//c:patient/c:name/c:given", "", NS) == "Zoë"
    assert identifier(document, ".//c:patientRole/c:id") == {
        "root": "1.2.250.1.213.1.4.10",
        "extension": "279035121518989",
    }
    values = document.xpath("//c:birthTime/@value|//c:effectiveTime/@value", namespaces=NS)
    assert values == ["20260302150500+0100", "19790314"]


def test_an_unknown_patient_has_null_flavours() -> None:
    document = cda(entry())
    flavours = document.xpath("//c:patient/*/@nullFlavor", namespaces=NS)
    assert flavours == ["UNK"] * 3


def test_the_identifier_of_a_document_may_have_an_extension() -> None:
    document = etree.fromstring(provider().assemble(entry()).render("1.2.3^A 1", MOMENT))
    assert identifier(document, "c:id") == {"root": "1.2.3", "extension": "A 1"}


@given(
    st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs")), max_size=80)
)
@settings(max_examples=60, deadline=None)
def test_any_title_is_told_exactly_by_cda_and_does_not_break_the_pdf(title: str) -> None:
    document = study(
        1, title=LocalizedString(title), author=[Author(institution=[XON(escape(title))])]
    )
    if title.strip():
        assert rows(cda(entry(), document))[0][3] == title
    assert render(entry(mime_type=PDF_MIME_TYPE), document).startswith(b"%PDF-")


# PDF


def test_a_long_table_goes_on_over_pages_with_its_head_and_their_numbers(tmp_path: Path) -> None:
    documents = [study(number % 28 + 1, unique_id=f"1.{number}") for number in range(60)]
    written = pages(tmp_path / "a.pdf", render(entry(mime_type=PDF_MIME_TYPE), *documents))
    assert len(written) > 1
    for number, page in enumerate(written, start=1):
        assert f"Page {number} sur {len(written)}" in page
        assert "Établi le 02/03/2026 15:05 CET par Hôpital de Kosmopolis" in page
        assert "279035121518989" in page
        assert all(WORDS["fr"][column] in page for column in COLUMNS)
    assert sum(page.count("CHU & Cie") for page in written) == 60
    assert "Synthèse d'imagerie" in written[0]


def test_the_pdf_speaks_the_language_of_its_entry(tmp_path: Path) -> None:
    named = study(1, source_patient_info=["PID-5|ŁUCJA^Amélie", "PID-7|19790314", "PID-8|F"])
    [page] = pages(tmp_path / "a.pdf", render(entry("en-GB", PDF_MIME_TYPE), named))
    for text in ("Imaging summary", "Page 1 of 1", "ŁUCJA Amélie", "1979-03-14", "female"):
        assert text in page


def test_letters_that_the_font_lacks_are_written_without_marks(tmp_path: Path) -> None:
    named = study(1, title=LocalizedString("Ṩcan 漢"))
    [page] = pages(tmp_path / "a.pdf", render(entry(mime_type=PDF_MIME_TYPE), named))
    assert "Scan ?" in page


def test_the_same_arguments_are_the_same_bytes() -> None:
    asked = entry(mime_type=PDF_MIME_TYPE)
    assert render(asked, study(1)) == render(asked, study(1))


# Words


def test_every_word_is_there_in_both_languages() -> None:
    assert WORDS["en"].keys() == WORDS["fr"].keys()
    assert set(COLUMNS) <= WORDS["en"].keys()
