"""What the manifests of a node say of themselves, in the words of its affinity domain."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifest.modalities import ACQUISITION_MODALITIES
from manifest.regions import ANATOMIC_REGIONS
from metadata.affinity_domain import CodeSet
from node.config_file import load
from node.wiring.common import affinity_domain
from node.wiring.source import publication_policy


def test_every_modality_and_region_is_a_code_of_the_set_that_ships(plain_node: Path) -> None:
    settings = load(plain_node)
    policy, codes = publication_policy(settings), affinity_domain(settings).code_sets
    assert isinstance(codes["eventCodeList"], CodeSet)
    assert policy.modalities.keys() == ACQUISITION_MODALITIES.keys()
    assert policy.body_parts.keys() == ANATOMIC_REGIONS.keys()
    assert all(code in codes["eventCodeList"] for code in policy.body_parts.values())


def test_modalities_and_regions_have_the_names_that_the_domain_gives_them(plain_node: Path) -> None:
    policy = publication_policy(load(plain_node))
    assert policy.modalities["CT"] == "Tomodensitométrie"
    assert policy.body_parts["CHEST"].display_name == "segment thoracique du tronc"


def test_what_the_domain_has_no_code_for_is_not_announced(plain_node: Path) -> None:
    codes = plain_node.parent / "codes.toml"
    kept = '[codes.eventCodeList]\n"1.2.840.10008.2.16.4" = ["CT", "MR IRM"]\n'
    before, _, after = codes.read_text().partition("[codes.eventCodeList]")
    codes.write_text(f"{before}{kept}[codes.{after.partition('[codes.')[2]}")
    policy = publication_policy(load(plain_node))
    assert policy.modalities == {"CT": "Computed Tomography", "MR": "IRM"}
    assert policy.body_parts == {}


@pytest.mark.parametrize(
    ("term", "code"), [("CHEST", "67734004"), ("LSPINE", "737561001"), ("KNEE", "61685007")]
)
def test_a_body_part_lies_in_its_region(term: str, code: str) -> None:
    assert ANATOMIC_REGIONS[term].code == code


def test_an_open_set_of_codes_lets_everything_be_announced(plain_node: Path) -> None:
    codes = plain_node.parent / "codes.toml"
    before, _, after = codes.read_text().partition("[codes.eventCodeList]")
    codes.write_text(f"{before}[codes.{after.partition('[codes.')[2]}")
    policy = publication_policy(load(plain_node))
    assert policy.modalities is ACQUISITION_MODALITIES
    assert policy.body_parts is ANATOMIC_REGIONS
