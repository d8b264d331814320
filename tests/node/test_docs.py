"""What the documentation says is what there is."""

import configparser
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from conformance.case import NEEDS
from conformance.run import all_cases
from metadata.affinity_domain import CodeSet, default_codes
from node.cli.app import app
from node.config import Settings
from node.config_file import load
from node.config_imaging import DocumentSection
from node.config_page import sentences
from node.version import kosmos_version
from node.wiring.common import affinity_domain
from node.wiring.source import publication_policy

ROOT = Path(__file__).parents[2]


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_dependency_has_its_line_and_every_line_its_dependency() -> None:
    parser = setup_cfg()
    wanted = parser["options"]["install_requires"] + parser["options.extras_require"]["test"]
    declared = {re.split(r"[\[ ><=;]", line)[0] for line in wanted.split("\n") if line}
    page = (ROOT / "docs" / "dependencies.md").read_text().partition("## Foreign")[0]
    rows = re.findall(r"^\| ([\w.-]+) \|", page, re.MULTILINE)
    assert sorted(declared) == sorted(set(rows) - {"package"})


def test_every_foreign_program_has_its_line() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    found = re.findall(r"^(?:bench: )?PEERS \+?:?= (.*)$", makefile, re.MULTILINE)
    peers = [peer.partition(":")[0] for peer in " ".join(found).split()]
    assert peers
    page = (ROOT / "docs" / "dependencies.md").read_text().partition("## Foreign")[2]
    page = page.partition("## Tools")[0]
    assert peers == re.findall(r"^\| ([a-z0-9-]+) \|", page, re.MULTILINE)


def test_every_tool_that_looks_at_an_install_has_its_line() -> None:
    found = re.search(r"^SUPPLY := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    page = (ROOT / "docs" / "dependencies.md").read_text().partition("## Tools")[2]
    assert found[1].split() == re.findall(r"^\| ([a-z0-9-]+) \|", page, re.MULTILINE)[1:]


def test_no_dependency_is_gpl() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert not re.search(r"\| A?GPL", page)


def test_every_verb_that_the_readme_shows_exists() -> None:
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    verbs |= {group.name for group in app.registered_groups}
    shown = set(
        re.findall(r"^\s*(?:\$ )?\.venv/bin/kosmos (\w+)", (ROOT / "README.md").read_text(), re.M)
    )
    assert shown
    assert shown <= verbs


def verbs_of(group: typer.Typer, prefix: str = "") -> set[str]:
    """Every verb as it is typed, groups by their name and each of their verbs."""
    found = {
        prefix + (command.name or str(getattr(command.callback, "__name__", "")))
        for command in group.registered_commands
    }
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        found |= {f"{prefix}{inner.name}"} | verbs_of(
            inner.typer_instance, f"{prefix}{inner.name} "
        )
    return found


def test_every_verb_and_option_that_the_operations_page_names_exists() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    verbs, words = verbs_of(app), re.findall(r"(?:`|^ *)kosmos ([^`\n]*)", page, re.MULTILINE)
    assert len(words) > 10
    for line in words:
        typed = line.split()
        depth = next((n for n in (3, 2, 1) if " ".join(typed[:n]) in verbs), 0)
        assert depth, f"kosmos {line}"
        shown = CliRunner().invoke(app, [*typed[:depth], "--help"], env={"COLUMNS": "300"})
        for option in re.findall(r"--[a-z-]+", line):
            assert option in shown.output, f"kosmos {line}: {option}"
    needed = {"serve", "backup", "restore", "reconcile", "migrate", "check", "admin codes reload"}
    assert needed <= {" ".join(line.split()[:n]) for line in words for n in (1, 2, 3)}


def test_every_log_code_and_metric_that_the_operations_page_names_exists() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    named = set(re.findall(r"`((?:NODE-[A-Z-]+)|(?:kosmos_[a-z_]+))`", page))
    rooms = ("node", "imaging_source", "repository", "registry")
    code = "".join(x.read_text() for room in rooms for x in (ROOT / room).rglob("*.py"))
    assert named
    assert [one for one in sorted(named) if one.removesuffix("_total") not in code] == []


def test_every_target_that_the_readme_shows_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= shown <= targets


def test_every_row_of_the_hardening_page_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "hardening.md").read_text()
    rows = dict(re.findall(r"^\| ([A-Z]\d+) \|.*\|(.*)\|$", page, re.MULTILINE))
    numbered = {"F": 18, "H": 8, "D": 12}
    wanted = [f"{letter}{n + 1}" for letter, last in numbered.items() for n in range(last)]
    assert list(rows) == [*wanted, "V2", "V3", "V4", "Z1", "Z2", "Z3", "R1"]
    for row, tests in rows.items():
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named, row
        for file, name in named:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{row}: {name}"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(file.name for file in folder.glob("0*.md"))


def test_the_changelog_knows_the_version() -> None:
    version = setup_cfg()["metadata"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert kosmos_version()


def test_the_codes_of_a_manifest_are_in_the_set_that_ships(plain_node: Path) -> None:
    settings = load(plain_node)
    policy, domain = publication_policy(settings), affinity_domain(settings)
    for name, code in (
        ("classCode", policy.class_code),
        ("typeCode", policy.type_code),
        ("contentTypeCode", policy.content_type_code),
        ("healthcareFacilityTypeCode", policy.healthcare_facility_type_code),
        ("practiceSettingCode", policy.practice_setting_code),
        ("confidentialityCode", policy.confidentiality_code),
    ):
        codes = domain.code_sets[name]
        assert isinstance(codes, CodeSet)
        assert code in codes, name


def test_init_copies_the_code_sets_that_ship(plain_node: Path) -> None:
    import tomllib

    assert tomllib.loads((plain_node.parent / "codes.toml").read_text()) == default_codes()


@pytest.mark.parametrize("section", [Settings, DocumentSection])
def test_every_key_says_what_it_means(section: type[Settings | DocumentSection]) -> None:
    missing = [
        f"{name}.{key}"
        for name, field in section.model_fields.items()
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields")
        for key in field.annotation.model_fields
        if not sentences(field.annotation).get(key) and key != "document"
    ]
    assert missing == []


def test_the_page_of_the_kit_names_every_option_that_a_case_needs() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text()
    needed = {one for text in NEEDS.values() for one in re.findall(r"--[a-z][a-z0-9-]+", text.en)}
    named = set(re.findall(r"--[a-z][a-z0-9-]+", page))
    assert needed <= named
    shown = [
        CliRunner().invoke(app, ["conformance", verb, "--help"], env={"COLUMNS": "300"}).output
        for verb in ("list", "run")
    ]
    assert [one for one in named if one not in "".join(shown)] == []


def test_the_page_of_the_kit_explains_every_group_of_cases() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text()
    groups = set(re.findall(r"^\| ([A-Z]) \|", page, re.MULTILINE))
    assert groups == {case.id[0] for case in all_cases()}
