"""Files of code sets: both forms, what is wrong with them, and a node that takes one over."""

import json
import string
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadata.affinity_domain import CODE_SETS, AffinityDomain, default_codes
from node import codes
from node.codes_xml import write_xml
from node.config_file import ConfigError, load
from node.init import DEFAULT_CODES, NewNode, create
from node.wiring.common import affinity_domain

Kosmos = Callable[..., subprocess.CompletedProcess[str]]

CODES_XML = """\
<?xml version="1.0" encoding="UTF-8"?>
<Codes>
  <AssigningAuthority id="1.3.6.1.4.1.21367.2005.13.20.1000"/>
  <CodeType name="classCode" classScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a">
    <Code code="History and Physical" display="A note" codingScheme="Connect-a-thon codes"/>
    <Code code="31" display="Imaging" codingScheme="1.2.3"/>
  </CodeType>
  <CodeType name="folderCodeList" classScheme="urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5">
    <Code code="Referrals" display="Referrals" codingScheme="1.2.4"/>
  </CodeType>
  <CodeType name="mimeType" classScheme="">
    <Code code="text/xml" ext="xml"/>
    <Code code="application/dicom" ext="dcm"/>
  </CodeType>
  <CodeType name="workflow" classScheme="urn:uuid:00000000-0000-4000-8000-000000000000">
    <Code code="x" display="x" codingScheme="y"/>
  </CodeType>
</Codes>
"""

AUTHORITY = "1.3.6.1.4.1.21367.2005.13.20.1000"
REFERRALS = '<Code code="Referrals" display="Referrals" codingScheme="1.2.4"/>'


@pytest.fixture
def codes_xml(tmp_path: Path) -> Path:
    file = tmp_path / "codes.xml"
    file.write_text(CODES_XML)
    return file


def test_the_file_of_the_toolkits_becomes_the_same_domain_as_toml(codes_xml: Path) -> None:
    expected = AffinityDomain.from_mapping(
        {
            "assigning_authority": AUTHORITY,
            "mime_types": ["text/xml", "application/dicom"],
            "codes": {
                "classCode": {
                    "Connect-a-thon codes": ["History and Physical\tA note"],
                    "1.2.3": ["31 Imaging"],
                },
                "codeList": {"1.2.4": ["Referrals Referrals"]},
            },
        }
    )
    assert codes.domain(codes_xml) == expected


def test_a_code_type_that_xds_does_not_know_is_ignored_with_a_note(codes_xml: Path) -> None:
    assert codes.read(codes_xml).notes == ("CodeType workflow is no attribute of XDS: ignored",)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (' codingScheme="1.2.3"', "", "line 6: classCode: a Code without codingScheme: <Code code"),
        ('code="31" ', "", "line 6: classCode: a Code without code"),
        ("<Codes>", '<!DOCTYPE Codes [<!ENTITY x "y">]><Codes>', "document type declaration"),
        ("<Codes>", "<Codes", "not well-formed"),
        (REFERRALS, "", "folderCodeList has no Code"),
        (f'id="{AUTHORITY}"', 'id="no oid"', "assigning_authority is 'no oid'"),
    ],
)
def test_what_is_wrong_is_told_with_file_attribute_code_and_scheme(
    codes_xml: Path, old: str, new: str, told: str
) -> None:
    assert old in CODES_XML
    codes_xml.write_text(CODES_XML.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        codes.domain(codes_xml)
    assert str(error.value).startswith(f"{codes_xml}: ")
    assert told in str(error.value)


def test_the_form_is_told_by_the_content_not_by_the_name(tmp_path: Path) -> None:
    file = tmp_path / "codes"
    for content in (CODES_XML.encode(), b"\xef\xbb\xbf" + CODES_XML.encode()):
        file.write_bytes(content)
        assert codes.domain(file).allows_code("codeList", code := _code("Referrals", "1.2.4"))
        assert not codes.domain(file).allows_code("classCode", code)
    file.write_text(CODES_XML.replace('encoding="UTF-8"', 'encoding="UTF-16"'), "utf-16")
    assert codes.domain(file).allows_mime_type("text/xml")


def _code(value: str, scheme: str) -> Any:
    from metadata.model import Code

    return Code(value, scheme)


# --- Turning one into the other ----------------------------------------------------------------

WORDS = st.text(string.ascii_letters + string.digits + ".-é<&\"' ", min_size=1).filter(
    lambda text: text == text.strip()
)
SETS = st.dictionaries(
    st.sampled_from(CODE_SETS),
    st.dictionaries(
        WORDS,
        st.lists(st.tuples(WORDS, WORDS).map("\t".join), min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    ),
)


@given(SETS, st.lists(st.sampled_from(["text/xml", "image/png"]), min_size=1))
def test_a_domain_survives_both_forms(sets: dict[str, Any], mime_types: list[str]) -> None:
    domain = AffinityDomain.from_mapping(
        {"assigning_authority": AUTHORITY, "codes": sets, "mime_types": mime_types}
    )
    for written in (write_xml(domain, AUTHORITY), codes.write_toml(domain, AUTHORITY)):
        assert AffinityDomain.from_mapping(codes.parse(written).settings) == domain


def test_the_set_that_ships_comes_back_from_xml(tmp_path: Path) -> None:
    xml, toml = tmp_path / "codes.xml", tmp_path / "codes.toml"
    xml.write_bytes(codes.converted(Path(str(DEFAULT_CODES))))
    toml.write_bytes(codes.converted(xml))
    there, back = codes.domain("default-fr"), codes.domain(toml)
    assert back.mime_types == there.mime_types
    for name, some in there.code_sets.items():
        found = back.code_sets[name]
        assert some is not None
        assert found is not None
        assert found.names.keys() == some.names.keys()


# --- The command -------------------------------------------------------------------------------


def test_init_keeps_a_codes_xml_and_takes_its_authority(
    kosmos: Kosmos, codes_xml: Path, tmp_path: Path
) -> None:
    made = kosmos("init", tmp_path / "node", "--plain", "--codes", codes_xml)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "node" / "codes.xml").read_text() == CODES_XML
    settings = load(tmp_path / "node" / "kosmos.toml")
    assert settings.affinity_domain.assigning_authority == AUTHORITY
    assert affinity_domain(settings).allows_code("classCode", _code("31", "1.2.3"))


def test_init_leaves_nothing_behind_of_a_file_that_is_wrong(
    kosmos: Kosmos, codes_xml: Path, tmp_path: Path
) -> None:
    codes_xml.write_text("<Codes><CodeType name='classCode'/></Codes>")
    told = kosmos("init", tmp_path / "node", "--plain", "--codes", codes_xml)
    assert told.returncode == 2
    assert "classCode has no Code" in told.stderr
    assert not (tmp_path / "node").exists()


def test_check_counts_the_codes_and_tells_what_it_ignored(kosmos: Kosmos, codes_xml: Path) -> None:
    told = json.loads(kosmos("admin", "codes", "check", codes_xml, "--json").stdout)
    assert (told["codes"]["classCode"], told["codes"]["typeCode"]) == (2, "open")
    assert "workflow" in told["notes"][0]
    codes_xml.write_text("[codes]\nclasscode = 'open'\n")
    refused = kosmos("admin", "codes", "check", codes_xml)
    assert refused.returncode == 3
    assert refused.stderr.startswith(f"kosmos: {codes_xml}: codes.classcode is not")


def test_convert_writes_the_other_form(kosmos: Kosmos, codes_xml: Path, tmp_path: Path) -> None:
    toml = tmp_path / "codes.toml"
    assert kosmos("admin", "codes", "convert", codes_xml, toml).returncode == 0
    assert codes.domain(toml) == codes.domain(codes_xml)
    assert kosmos("admin", "codes", "convert", toml).stdout.startswith("<?xml")


def test_show_lists_every_code_of_a_node(kosmos: Kosmos, plain_node: Path) -> None:
    shown = json.loads(kosmos("admin", "codes", "show", "--json", "--config", plain_node).stdout)
    count = sum(len(x) for sets in default_codes()["codes"].values() for x in sets.values())
    assert sum(row["attribute"] not in ("mimeType", "languageCode") for row in shown) == count


def test_reload_without_a_node_says_so(kosmos: Kosmos, plain_node: Path) -> None:
    told = kosmos("admin", "codes", "reload", "--config", plain_node)
    assert told.returncode == 1
    assert "no node is running here" in told.stderr


def test_check_names_the_fault_of_a_codes_file(kosmos: Kosmos, plain_node: Path) -> None:
    (plain_node.parent / "codes.toml").write_text("[codes.classCode]\n'1.2.3' = [31]\n")
    told = kosmos("check", "--json", "--config", plain_node)
    [finding] = [x for x in json.loads(told.stdout) if x["subject"] == "affinity_domain.codes"]
    assert not finding["ok"]
    assert 'codes.classCode."1.2.3" holds 31' in finding["text"]


def test_check_tells_what_a_codes_file_says_that_the_node_does_not_heed(
    kosmos: Kosmos, codes_xml: Path, tmp_path: Path
) -> None:
    config = create(
        NewNode(tmp_path / "node", plain=True, assigning_authority="1.2.3.4", codes=codes_xml)
    )
    told = json.loads(kosmos("check", "--json", "--config", config).stdout)
    [finding] = [one for one in told if one["subject"] == "affinity_domain.codes"]
    assert finding["ok"]
    assert "CodeType workflow" in finding["text"]
    assert f"authority {AUTHORITY}, this node 1.2.3.4" in finding["text"]


def test_a_domain_takes_policies_and_sources_from_the_configuration(tmp_path: Path) -> None:
    file = create(NewNode(tmp_path / "node", plain=True))
    policies = (
        '[affinity_domain]\nunknown_patient = "empty"\nextra_metadata = "warn"\n'
        'source_ids = ["urn:oid:1.2.3"]\n'
    )
    file.write_text(file.read_text().replace("[affinity_domain]\n", policies))
    domain = affinity_domain(load(file))
    assert (domain.unknown_patient, domain.merged_patient) == ("empty", "empty")
    assert domain.extra_metadata == "warn"
    assert domain.source_ids == frozenset({"1.2.3"})
