"""What the manifests of a node say of themselves, in the words of its affinity domain."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifest.flavours import Flavour
from manifest.modalities import ACQUISITION_MODALITIES
from manifest.profile import default_profile
from manifest.regions import ANATOMIC_REGIONS
from metadata.affinity_domain import CodeSet
from node.config_file import ConfigError, load
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


def families(config: Path, more: str) -> Path:
    """The same node with a section about its manifests."""
    config.write_text(f"{config.read_text()}\n[imaging_source.document]\n{more}\n")
    return config


def test_a_node_publishes_plain_manifests_unless_told_otherwise(plain_node: Path) -> None:
    policy = publication_policy(load(plain_node))
    assert (policy.flavours, policy.profile) == ((Flavour.XDS_I,), None)


def test_families_and_profile_are_chosen_in_the_configuration(plain_node: Path) -> None:
    families(plain_node, 'flavours = ["national", "mado-fhir"]\nfhir_release = "R5"')
    policy = publication_policy(load(plain_node))
    assert policy.flavours == (Flavour.NATIONAL, Flavour.MADO_FHIR)
    assert policy.profile == default_profile()
    assert policy.fhir_release == "R5"


def test_a_profile_of_ones_own_is_read_from_its_file(plain_node: Path) -> None:
    profile = plain_node.parent / "profile.toml"
    profile.write_text('required = ["accession_number"]\n')
    families(plain_node, 'flavours = ["national"]\nnational_profile = "profile.toml"')
    policy = publication_policy(load(plain_node))
    assert policy.profile is not None
    assert policy.profile.required == ("accession_number",)


@pytest.mark.parametrize("text", [None, "required = 3", "= nonsense", 'titel = "x"'])
def test_a_profile_that_cannot_be_used_is_named(plain_node: Path, text: str | None) -> None:
    if text is not None:
        (plain_node.parent / "profile.toml").write_text(text)
    families(plain_node, 'flavours = ["national"]\nnational_profile = "profile.toml"')
    with pytest.raises(ConfigError, match=r"profile\.toml"):
        publication_policy(load(plain_node))


@pytest.mark.parametrize("chosen", ["[]", '["xds-i", "xds-i"]', '["kos"]'])
def test_families_that_make_no_sense_are_refused(plain_node: Path, chosen: str) -> None:
    with pytest.raises(ConfigError, match="flavours"):
        load(families(plain_node, f"flavours = {chosen}"))


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
