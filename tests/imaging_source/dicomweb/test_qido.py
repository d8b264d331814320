"""QIDO-RS over HTTP, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lxml import etree
from pydicom.dataset import Dataset
from sqlalchemy import Connection, update

from imaging_source.evicted import mark
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.identifier import Identifier
from imaging_source.query_retrieve.models import Level
from imaging_source.schema import INSTANCE
from storage.database import Database

Make = Callable[..., Dataset]
Store = Callable[..., int]


def values(hits: list[dict[str, Any]], tag: str) -> list[Any]:
    return [hit[tag]["Value"][0] for hit in hits]


@pytest.fixture
def three_studies(make_instance: Make, store: Store) -> list[str]:
    """Studies of two patients on three days, the last with two series."""
    people = [
        ("1.9.1", "P1", "Durand^Anne", "20240101"),
        ("1.9.2", "P1", "Durand^Anne", "20240102"),
    ]
    people.append(("1.9.3", "P2", "Müller^Hélène", "20240103"))
    for number, (study, patient, name, day) in enumerate(people):
        for series, modality in ((1, "CT"), (2, "SR"))[: 2 if study == "1.9.3" else 1]:
            instance = make_instance(
                SpecificCharacterSet="ISO_IR 192",
                StudyInstanceUID=study,
                SeriesInstanceUID=f"{study}.{series}",
                SOPInstanceUID=f"{study}.{series}.1",
                PatientID=patient,
                PatientName=name,
                StudyDate=day,
                AccessionNumber=f"A{number}",
                StudyID=str(number),
                ReferringPhysicianName="Curie^Marie",
                Modality=modality,
                SeriesNumber=series,
                InstanceNumber=1,
                Rows=4,
                Columns=8,
                BitsAllocated=16,
                PerformedProcedureStepStartDate=day,
                RequestAttributesSequence=[_request(f"step-{number}", f"procedure-{number}")],
            )
            assert store(instance) == 0
    return [study for study, *_ in people]


def _request(step: str, procedure: str) -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = step, procedure
    return item


def test_studies_are_listed_the_latest_first_with_what_the_standard_requires(
    web: Any, three_studies: list[str]
) -> None:
    hits = web.found("/studies")
    assert values(hits, "0020000D") == ["1.9.3", "1.9.2", "1.9.1"]
    assert hits[0]["00080061"] == {"vr": "CS", "Value": ["CT", "SR"]}
    assert hits[0]["00201206"] == {"vr": "IS", "Value": [2]}
    assert hits[0]["00201208"] == {"vr": "IS", "Value": [2]}
    assert hits[0]["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Hélène"}]}
    assert hits[0]["00081190"] == {"vr": "UR", "Value": [f"{web.root}/studies/1.9.3"]}
    required = {"00080005", "00080020", "00080030", "00080050", "00080056", "00080061", "00080090"}
    required |= {"00081190", "00100010", "00100020", "00100030", "00100040", "0020000D", "00200010"}
    assert required <= hits[0].keys()
    assert list(hits[0]) == sorted(hits[0])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("PatientID=P1", ["1.9.2", "1.9.1"]),
        ("00100020=P2", ["1.9.3"]),
        ("PatientID=P?", ["1.9.3", "1.9.2", "1.9.1"]),
        ("PatientID=p1", []),
        ("PatientName=DURAND^ANNE", ["1.9.2", "1.9.1"]),
        ("PatientName=Durand", []),
        ("PatientName=dur*", ["1.9.2", "1.9.1"]),
        ("PatientName=muller^helene", ["1.9.3"]),
        ("PatientName=*Hélène*", ["1.9.3"]),
        ("ReferringPhysicianName=curie*", ["1.9.3", "1.9.2", "1.9.1"]),
        ("StudyDate=20240102", ["1.9.2"]),
        ("StudyDate=20240102-", ["1.9.3", "1.9.2"]),
        ("StudyDate=-20240102", ["1.9.2", "1.9.1"]),
        ("StudyDate=20240101-20240102", ["1.9.2", "1.9.1"]),
        ("StudyTime=0830", ["1.9.3", "1.9.2", "1.9.1"]),
        ("StudyTime=0831-", []),
        ("AccessionNumber=A1", ["1.9.2"]),
        ("StudyID=2", ["1.9.3"]),
        ("StudyInstanceUID=1.9.1,1.9.3", ["1.9.3", "1.9.1"]),
        ("StudyInstanceUID=1.9.1%5C1.9.3", ["1.9.3", "1.9.1"]),
        ("StudyInstanceUID=1.9.1&StudyInstanceUID=1.9.2", ["1.9.2", "1.9.1"]),
        ("ModalitiesInStudy=SR", ["1.9.3"]),
        ("PatientID=P1&StudyDate=20240101", ["1.9.1"]),
        ("PatientID=", ["1.9.3", "1.9.2", "1.9.1"]),
        ("PatientID=P%25", []),
        ("PatientID=*[P]*", []),
        ("limit=1&offset=1", ["1.9.2"]),
        ("offset=9", []),
    ],
)
def test_studies_are_found(
    web: Any, three_studies: list[str], query: str, expected: list[str]
) -> None:
    assert values(web.found(f"/studies?{query}"), "0020000D") == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Modality=SR", ["1.9.3.2"]),
        ("SeriesNumber=2", ["1.9.3.2"]),
        ("SeriesInstanceUID=1.9.3.1,1.9.1.1", ["1.9.1.1", "1.9.3.1"]),
        ("PerformedProcedureStepStartDate=20240103-", ["1.9.3.1", "1.9.3.2"]),
        ("RequestAttributesSequence.ScheduledProcedureStepID=step-0", ["1.9.1.1"]),
        ("00400275.00401001=procedure-1", ["1.9.2.1"]),
        ("PatientID=P1&Modality=CT", ["1.9.1.1", "1.9.2.1"]),
    ],
)
def test_series_are_found_by_their_own_and_their_studys_attributes(
    web: Any,
    three_studies: list[str],
    describe_all: Callable[[], int],
    query: str,
    expected: list[str],
) -> None:
    assert describe_all() == 4
    hits = web.found(f"/series?{query}")
    assert values(hits, "0020000E") == expected
    assert all({"00100020", "00080061", "00201209"} <= hit.keys() for hit in hits)


def test_a_study_is_found_by_a_series_and_an_instance_of_it(
    web: Any, three_studies: list[str], describe_all: Callable[[], int]
) -> None:
    describe_all()
    assert values(web.found("/studies?Modality=SR"), "0020000D") == ["1.9.3"]
    assert values(web.found("/studies?SOPInstanceUID=1.9.2.1.1"), "0020000D") == ["1.9.2"]
    assert values(web.found("/series?SOPInstanceUID=1.9.3.2.1"), "0020000E") == ["1.9.3.2"]
    step = "RequestAttributesSequence.ScheduledProcedureStepID=step-1"
    assert values(web.found(f"/studies?{step}"), "0020000D") == ["1.9.2"]


def test_each_level_within_its_scope(
    web: Any, three_studies: list[str], describe_all: Callable[[], int]
) -> None:
    describe_all()
    assert values(web.found("/studies/1.9.3/series"), "0020000E") == ["1.9.3.1", "1.9.3.2"]
    assert values(web.found("/studies/1.9.3/series?Modality=SR"), "0020000E") == ["1.9.3.2"]
    assert values(web.found("/studies/1.9.3/instances"), "00080018") == ["1.9.3.1.1", "1.9.3.2.1"]
    [hit] = web.found("/studies/1.9.3/series/1.9.3.2/instances")
    assert hit["00080018"]["Value"] == ["1.9.3.2.1"]
    assert hit["00280010"] == {"vr": "US", "Value": [4]}
    assert hit["00280100"] == {"vr": "US", "Value": [16]}
    place = "studies/1.9.3/series/1.9.3.2/instances/1.9.3.2.1"
    assert hit["00081190"]["Value"] == [f"{web.root}/{place}"]
    assert "00100010" not in hit  # the scope names the study: its attributes are known
    assert len(web.found("/instances?PatientID=P2")) == 2
    assert len(web.found("/instances?InstanceNumber=1&Rows=4")) == 4
    assert web.found("/studies/1.2.3/series") == []


def test_a_series_tells_its_requests(
    web: Any, three_studies: list[str], describe_all: Callable[[], int]
) -> None:
    describe_all()
    [hit] = web.found("/studies/1.9.1/series")
    [request] = hit["00400275"]["Value"]
    assert request["00400009"] == {"vr": "SH", "Value": ["step-0"]}
    assert hit["00400244"] == {"vr": "DA", "Value": ["20240101"]}


def test_further_attributes_are_included_when_asked_for(
    web: Any, make_instance: Make, store: Store, describe_all: Callable[[], int]
) -> None:
    store(make_instance(PatientSize=1.75, InstitutionName="Hôpital", KVP=120, SeriesNumber=1))
    assert "00101020" not in web.found("/studies")[0]
    assert "00101020" not in web.found("/studies?includefield=PatientSize")[0]  # not yet known
    describe_all()
    assert web.found("/studies?includefield=00101020")[0]["00101020"]["Value"] == [1.75]
    everything = web.found("/studies?includefield=all")[0]
    assert {"00101020", "00080080"} <= everything.keys()
    assert not {"00180060", "00200011", "00080018"} & everything.keys()
    assert "00180060" in web.found("/series?includefield=KVP,PatientSize")[0]
    assert "7FE00010" not in web.found("/instances?includefield=all")[0]


def test_what_was_rejected_is_not_found(
    web: Any, three_studies: list[str], database: Database
) -> None:
    reject(database, "1.9.3.2.1")
    [hit] = web.found("/studies?StudyInstanceUID=1.9.3")
    assert (hit["00080061"]["Value"], hit["00201208"]["Value"]) == (["CT"], [1])
    assert web.found("/studies?ModalitiesInStudy=SR") == []
    assert values(web.found("/studies/1.9.3/series"), "0020000E") == ["1.9.3.1"]
    reject(database, "1.9.3.1.1")
    assert web.found("/studies?StudyInstanceUID=1.9.3") == []
    assert web.found("/studies/1.9.3/instances") == []


def reject(database: Database, uid: str) -> None:
    statement = update(INSTANCE).where(INSTANCE.c.sop_instance_uid == uid)
    database.write(lambda connection: connection.execute(statement.values(rejection="113001")))


def test_more_hits_than_asked_for_are_told(web: Any, three_studies: list[str]) -> None:
    assert "additional results" in web.get("/studies?limit=2").headers["warning"]
    assert "warning" not in web.get("/studies?limit=3").headers
    assert web.get("/studies?limit=3").status == 200
    assert web.get("/studies?PatientID=nobody").status == 204


def test_what_is_not_matched_is_named(web: Any, three_studies: list[str]) -> None:
    warning = web.get("/studies?KVP=120&fuzzymatching=true&Nonsense=1").headers["warning"]
    assert "KVP is not matched" in warning
    assert "fuzzymatching parameter is not supported" in warning
    assert "Nonsense is no attribute" in warning


@pytest.mark.parametrize(
    "query",
    [
        "StudyDate=yesterday",
        "StudyDate=-",
        "StudyTime=8h",
        "StudyInstanceUID=abc",
        "InstanceNumber=one",
        "limit=0",
        "limit=-1",
        "offset=x",
        "includefield=Nonsense",
        "fuzzymatching=maybe",
        "PatientID=1&PatientID=2",
        f"PatientID={'1' * 2000}",
        "PatientID=a%00b",
        "ModalitiesInStudy=CT%00",
    ],
)
def test_what_cannot_be_read_is_refused_in_a_few_words(web: Any, query: str) -> None:
    answer = web.get(f"/studies?{query}")
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert len(answer.body) < 200


@pytest.mark.parametrize("hides", [["1.9.3"], ["1.9.2"], ["1.9.1"], ["1.9.3", "1.9.2"], []])
def test_pages_are_cut_of_what_is_seen(
    veiled_web: Any, hidden: set[str], three_studies: list[str], hides: list[str]
) -> None:
    hidden.update(hides)
    seen = [one for one in ("1.9.3", "1.9.2", "1.9.1") if one not in hides]
    pages = [veiled_web.get(f"/studies?limit=1&offset={page}") for page in range(len(seen) + 1)]
    assert [values(page.json(), "0020000D") for page in pages[:-1]] == [[one] for one in seen]
    assert pages[-1].status == 204
    assert ["warning" in page.headers for page in pages[:-1]] == [True] * (len(seen) - 1) + [False]


@pytest.mark.parametrize("path", ["/series", "/instances", "/studies/1.9.3/instances"])
def test_what_is_in_a_hidden_study_is_not_found(
    veiled_web: Any, hidden: set[str], three_studies: list[str], path: str
) -> None:
    assert "1.9.3" in values(veiled_web.found(path), "0020000D")
    hidden.add("1.9.3")
    assert "1.9.3" not in values(veiled_web.found(path), "0020000D")


def test_the_answer_has_the_form_asked_for(web: Any, three_studies: list[str]) -> None:
    assert web.get("/studies").headers["content-type"] == "application/dicom+json"
    plain = web.get("/studies", accept="application/json")
    assert plain.headers["content-type"] == "application/json"
    assert web.get("/studies", accept="image/jpeg").status == 406
    answer = web.get("/studies?limit=1", accept='multipart/related; type="application/dicom+xml"')
    [(head, content)] = answer.parts()
    assert head["content-type"] == "application/dicom+xml"
    model = etree.fromstring(content)
    [name] = [one for one in model.iter() if one.get("keyword") == "PatientName"]
    assert [one.text for one in name.iter() if one.tag.endswith("FamilyName")] == ["Müller"]


def test_only_get_and_head_are_served(web: Any, three_studies: list[str]) -> None:
    head = web.get("/studies", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == len(web.get("/studies").body)
    assert web.get("/studies", method="DELETE").status == 405
    assert web.get("/patients").status == 404
    assert web.get("/studies/1.2/studies").status == 404


def test_what_is_with_an_archive_alone_is_nearline(
    web: Any, three_studies: list[str], database: Database
) -> None:
    away, rejected = "1.9.3.2.1", "1.9.2.1.1"
    available = "00080056"

    def go(connection: Connection) -> None:
        mark(connection, "1.9.3", [away], 0.0)
        mark(connection, "1.9.1", [rejected], 0.0)
        hide = update(INSTANCE).where(INSTANCE.c.sop_instance_uid == rejected)
        connection.execute(hide.values(study_instance_uid="1.9.1", rejection="113001"))

    assert values(web.found("/studies"), available) == ["ONLINE"] * 3
    database.write(go)

    assert values(web.found("/studies"), available) == ["NEARLINE", "ONLINE"]
    assert values(web.found("/studies/1.9.3/instances"), available) == ["ONLINE", "NEARLINE"]
    assert available not in web.found("/studies/1.9.3/series")[0]
    told = web.found("/studies/1.9.3/series?includefield=InstanceAvailability")
    assert values(told, available) == ["ONLINE", "NEARLINE"]

    finder = Finder(database, "KOSMOS", 20)
    above = {0x0020000D: "1.9.3", 0x0020000E: "1.9.3.2"}
    expected = {Level.STUDY: "NEARLINE", Level.SERIES: "NEARLINE", Level.IMAGE: "NEARLINE"}
    for level, state in expected.items():
        (match,) = finder.find(Identifier(level, above | {0x00080056: ""}), Level.STUDY)
        assert match[0x00080056] == ("CS", state)
    above[0x0020000E] = "1.9.3.1"
    (match,) = finder.find(Identifier(Level.SERIES, above | {0x00080056: ""}), Level.STUDY)
    assert match[0x00080056] == ("CS", "ONLINE")
    (match,) = finder.find(
        Identifier(Level.PATIENT, {0x00100020: "P2", 0x00080056: ""}), Level.PATIENT
    )
    assert 0x00080056 not in match
