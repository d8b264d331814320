"""The command ``kosmos``: exit codes, languages, and words instead of tracebacks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from conformance.targets import DEFAULT_AUTHORITY
from node.check import check_all
from node.cli.exits import Exit
from node.cli.output import time_text
from node.config import RegistrySection
from node.config_file import load
from node.demo.studies import sample_folder
from node.init import NewNode, create
from node.migrate import actors, database_url
from tests.storage.object_server import ObjectServer

Kosmos = Callable[..., subprocess.CompletedProcess[str]]
# Nobody listens on the discard port of a machine of today.
NOBODY = "127.0.0.1:9"


def test_init_writes_a_plain_node_with_the_choices_made(kosmos: Kosmos, tmp_path: Path) -> None:
    choices = ("--plain", "--port-base", "9100", "--assigning-authority", "1.2.250.1.213.1.4.10")
    made = kosmos("init", tmp_path / "node", *choices)
    assert made.returncode == 0
    settings = load(tmp_path / "node" / "kosmos.toml")
    assert settings.node.port_base == 9100
    assert settings.affinity_domain.assigning_authority == "1.2.250.1.213.1.4.10"
    assert not settings.tls.enabled
    assert sorted(file.name for file in (tmp_path / "node").iterdir()) == [
        "codes.toml",
        "kosmos.toml",
    ]


def test_init_gives_a_secure_node_an_identity(tmp_path: Path) -> None:
    settings = load(create(NewNode(tmp_path / "node", database="postgresql://db/kosmos")))
    assert settings.tls.enabled
    assert settings.tls.key.stat().st_mode & 0o077 == 0
    assert settings.registry.database == "postgresql://db/kosmos"


def test_init_keeps_the_password_of_the_database_apart(tmp_path: Path) -> None:
    url = "postgresql://me:s3%40cret@db:5433/kosmos?sslmode=require"
    file = create(NewNode(tmp_path / "node", database=url))
    assert "cret" not in file.read_text()
    assert (file.parent / "database.password").stat().st_mode & 0o077 == 0
    settings = load(file)
    for name, section in actors(settings).items():
        assert database_url(section, name) == make_url(url)


def test_a_url_that_cannot_be_read_is_told_and_not_shown(kosmos: Kosmos, tmp_path: Path) -> None:
    url = "postgresql://me:s3cret@db1:5432,db2:5432/kosmos"  # as libpq has it, SQLAlchemy not
    made = kosmos("init", tmp_path / "node", "--plain", "--database", url)
    assert made.returncode == 0
    config = ("--config", tmp_path / "node" / "kosmos.toml")
    assert "no database URL" in findings(kosmos("check", *config, "--json"))["registry.database"]
    assert "s3cret" not in kosmos("config", "show", *config, "--json").stdout


def test_a_password_in_the_url_goes_before_that_of_the_file(tmp_path: Path) -> None:
    section = RegistrySection(
        database="postgresql://me:here@db/kosmos", database_password_file=tmp_path / "not there"
    )
    assert database_url(section, "registry").password == "here"


def test_only_a_plain_node_takes_administrative_transactions_unasked(tmp_path: Path) -> None:
    plain = load(create(NewNode(tmp_path / "plain", plain=True)))
    secure = load(create(NewNode(tmp_path / "secure")))
    assert plain.repository.administration
    assert not secure.repository.administration


def test_init_never_overwrites_a_node(kosmos: Kosmos, plain_node: Path) -> None:
    before = plain_node.read_bytes()
    again = kosmos("init", plain_node.parent)
    assert again.returncode == 1
    assert plain_node.read_bytes() == before


def test_init_refuses_what_is_no_oid_and_leaves_no_node(kosmos: Kosmos, tmp_path: Path) -> None:
    told = kosmos("init", tmp_path / "node", "--plain", "--assigning-authority", "x")
    assert told.returncode == 2
    assert "affinity_domain.assigning_authority" in told.stderr
    assert not (tmp_path / "node" / "kosmos.toml").exists()


def test_two_nodes_never_share_an_identifier(tmp_path: Path) -> None:
    nodes = [load(create(NewNode(tmp_path / name, plain=True))) for name in ("a", "b")]
    identifiers = {
        identifier
        for node in nodes
        for identifier in (
            node.node.home_community_id,
            node.repository.unique_id,
            node.imaging_source.unique_id,
        )
    }
    assert len(identifiers) == 6


def test_the_kit_takes_the_patient_domain_of_a_plain_node_for_granted(plain_node: Path) -> None:
    assert load(plain_node).affinity_domain.assigning_authority == DEFAULT_AUTHORITY


def test_config_show_tells_scripts_what_they_need(kosmos: Kosmos, plain_node: Path) -> None:
    shown = kosmos(
        *("config", "show", "--json", "--config", plain_node),
        KOSMOS__NODE__PORT_BASE="9200",
        KOSMOS__REGISTRY__DATABASE="postgresql://me:hush@db/kosmos",
    )
    told = json.loads(shown.stdout)
    settings = load(plain_node)
    assert told["aeTitle"] == "KOSMOS"
    assert told["repositoryUniqueId"] == settings.repository.unique_id
    assert told["imagingRepositoryUniqueId"] == settings.imaging_source.unique_id
    assert told["homeCommunityId"] == f"urn:oid:{settings.node.home_community_id}"
    assert told["assigningAuthority"] == settings.affinity_domain.assigning_authority
    assert told["endpoints"]["registry"] == "http://127.0.0.1:9200/registry"
    assert told["endpoints"]["dicom"] == "127.0.0.1:9204"
    assert told["settings"]["registry"]["database"].startswith("postgresql://me:***@")
    assert "hush" not in shown.stdout


def test_a_misspelt_key_ends_with_the_code_for_configuration(
    kosmos: Kosmos, plain_node: Path
) -> None:
    plain_node.write_text(plain_node.read_text().replace("ae_title", "ae_titel"))
    told = kosmos("serve", "--config", plain_node)
    assert told.returncode == 3
    assert told.stderr.strip() == (
        f"kosmos: {plain_node}: imaging_source.ae_titel: unknown key;"
        " did you mean imaging_source.ae_title?"
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("version",), 0),
        (("nonsense",), 2),
        (("find",), 2),
        (("find", "1", "--status", "wrong"), 2),
        (("find", "1", "--registry", f"http://{NOBODY}/registry"), 4),
        (("feed", "--patient", "1", "--name", "A^B", "--mllp", NOBODY), 4),
        (("feed",), 2),
        (("summary", "1"), 4),
        (("feed", "--patient", "1"), 2),
        (("publish", "/nowhere"), 2),
        (("conformance", "list"), 0),
        (("conformance", "run", "--case", "X99"), 2),
        (("config", "show", "--config", "/nowhere.toml"), 3),
    ],
)
def test_how_a_command_ends(
    kosmos: Kosmos, plain_node: Path, arguments: tuple[str, ...], code: int
) -> None:
    ended = kosmos(*arguments, KOSMOS_CONFIG=str(plain_node))
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("", ""),
        ("2026", "2026"),
        ("202603", "2026-03"),
        ("20260301", "2026-03-01"),
        ("2026030108", "2026-03-01 08"),
        ("20260301083005", "2026-03-01 08:30:05"),
    ],
)
def test_a_time_is_shown_as_far_as_it_is_known(time: str, text: str) -> None:
    assert time_text(time) == text


def test_images_for_nobody_end_with_the_code_for_a_peer(plain_node: Path) -> None:
    image = sample_folder() / "CT_small.dcm"
    # In a process of its own: pynetdicom leaves the socket of a refused connection open.
    arguments = ("publish", image, "--dicom", NOBODY, "--config", plain_node)
    told = subprocess.run(
        [sys.executable, "-m", "node.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LC_ALL": "C"},
    )
    assert told.returncode == 4
    assert told.stderr == f"kosmos: nothing answers DICOM at {NOBODY}\n"


def test_a_person_is_spoken_to_in_their_language(kosmos: Kosmos, plain_node: Path) -> None:
    by_environment = kosmos("feed", LC_ALL="fr_FR.UTF-8", KOSMOS_CONFIG=str(plain_node))
    by_option = kosmos("feed", "--lang", "fr", KOSMOS_CONFIG=str(plain_node))
    assert "rien à envoyer" in by_environment.stderr
    assert by_option.stderr == by_environment.stderr
    assert "nothing to send" in kosmos("feed", KOSMOS_CONFIG=str(plain_node)).stderr


def test_check_finds_what_would_keep_a_node_from_starting(kosmos: Kosmos, plain_node: Path) -> None:
    config = ("--config", plain_node, "--json")
    good = kosmos("check", *config)
    assert good.returncode == 0
    assert all(finding["ok"] for finding in json.loads(good.stdout))
    (plain_node.parent / "codes.toml").write_text("colours = 3\n")
    bad = kosmos("check", *config)
    assert bad.returncode == 1
    assert [one["subject"] for one in json.loads(bad.stdout) if not one["ok"]] == [
        "affinity_domain.codes"
    ]


def findings(run: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What was found wrong: subject -> text."""
    return {one["subject"]: one["text"] for one in json.loads(run.stdout) if not one["ok"]}


def test_unsafe_settings_of_the_database_are_refused_and_their_remedy_told(
    kosmos: Kosmos, plain_node: Path, postgresql_database_url: str
) -> None:
    plain = postgresql_database_url.replace("+psycopg", "")
    with psycopg.connect(plain) as connection:
        name = Identifier(connection.info.dbname)
        connection.execute(SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
    checked = kosmos("check", "--config", plain_node, "--json", KOSMOS__REGISTRY__DATABASE=plain)
    assert checked.returncode == 1
    assert "SET synchronous_commit = on" in findings(checked)["registry.database"]
    served = kosmos("serve", "--config", plain_node, KOSMOS__REGISTRY__DATABASE=plain)
    assert served.returncode == 3
    assert "registry.database: synchronous_commit: is off" in served.stderr


def test_a_user_who_may_not_make_tables_is_told_so_before_the_start(
    kosmos: Kosmos, plain_node: Path, postgresql_database_url: str
) -> None:
    plain = postgresql_database_url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        name = f"guest_{connection.info.dbname}"
        connection.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(name)))
        guest = plain.replace("postgres@", f"{name}@")
        checked = kosmos(
            "check", "--config", plain_node, "--json", KOSMOS__REGISTRY__DATABASE=guest
        )
        served = kosmos("serve", "--config", plain_node, KOSMOS__REGISTRY__DATABASE=guest)
        connection.execute(SQL("DROP ROLE {}").format(Identifier(name)))
    assert "GRANT CREATE ON SCHEMA" in findings(checked)["registry.database"]
    assert served.returncode == 1
    assert "permission denied for schema public" in served.stderr


def test_check_warns_where_no_withdrawal_of_a_manifest_can_arrive(plain_node: Path) -> None:
    def told() -> list[str]:
        found = check_all(load(plain_node))
        return [one.text for one in found if one.subject == "imaging_source.withdrawal"]

    assert told() == ["the registry takes the withdrawal of a manifest"]
    plain_node.write_text(plain_node.read_text().replace("administration = true\n", ""))
    assert "registry.administration is off" in told()[0]


def test_check_names_the_secrets_that_others_may_read(kosmos: Kosmos, tmp_path: Path) -> None:
    assert kosmos("init", tmp_path / "node").returncode == 0
    config, key = tmp_path / "node/kosmos.toml", tmp_path / "node/pki/node.key"
    password = tmp_path / "password"
    password.write_text("secret")
    password.chmod(0o604)
    said = f'[registry]\ndatabase_password_file = "{password}"'
    config.write_text(config.read_text().replace("[registry]", said))

    def told() -> str:
        found = next(one for one in check_all(load(config)) if one.subject == "secrets")
        return "" if found.ok else found.text

    key.chmod(0o644)
    assert f"tls.key: {key} may be read by others" in told()
    assert f"registry.database_password_file: {password}" in told()
    key.chmod(0o640)  # in a group they may be shared on purpose
    password.chmod(0o600)
    assert told() == ""


def test_check_names_the_consents_that_no_document_can_give(kosmos: Kosmos, tmp_path: Path) -> None:
    assert kosmos("init", tmp_path / "node").returncode == 0
    config, policy = tmp_path / "node/kosmos.toml", tmp_path / "node/policy.toml"
    shipped = resources.files("security.access").joinpath("policy.toml").read_text()
    policy.write_text(shipped.replace("[consents]\n", '[consents]\n"1.2.3.1" = "opposed"\n'))
    config.write_text(config.read_text() + '\n[policy]\nfile = "policy.toml"\n')

    def told() -> str:
        return next(one.text for one in check_all(load(config)) if one.subject == "policy.file")

    assert told() == "Kosmos; [consents]: the code sets have no eventCodeList code 1.2.3.1"
    codes = tmp_path / "node/codes.toml"
    said = codes.read_text().replace("urn:ihe:iti:bppc", "urn:another")
    head = "[codes.eventCodeList]\n"
    codes.write_text(said.replace(head, f'{head}"1.2.3" = ["1.2.3.1 Opposition"]\n'))
    assert told() == "Kosmos; [consents]: the code sets have no formatCode of consent documents"


def test_check_compares_the_tables_with_those_that_the_code_expects(
    kosmos: Kosmos, plain_node: Path, postgresql_database_url: str
) -> None:
    """All actors in one database, as a region has them."""
    plain = postgresql_database_url.replace("+psycopg", "")
    actors = ("REGISTRY", "REPOSITORY", "IMAGING_SOURCE")
    environment = {f"KOSMOS__{actor}__DATABASE": plain for actor in actors}
    command = ("check", "--config", plain_node, "--json")
    assert findings(kosmos(*command, **environment)) == {}
    assert kosmos("migrate", "--config", plain_node, **environment).returncode == 0
    assert findings(kosmos(*command, **environment)) == {}
    with psycopg.connect(plain) as connection:
        connection.execute("DROP INDEX ix_association_patient_source")
        connection.execute("UPDATE repository_schema_version SET version_num = '0000'")
    found = findings(kosmos(*command, **environment))
    assert sorted(found) == ["registry.database", "repository.database"]
    assert "ix_association_patient_source" in found["registry.database"]
    assert "kosmos migrate" in found["repository.database"]


def test_check_tries_the_object_store(
    kosmos: Kosmos, plain_node: Path, object_server: ObjectServer
) -> None:
    for name in ("key", "secret"):
        (plain_node.parent / name).write_text(name)
        (plain_node.parent / name).chmod(0o600)
    environment = {
        "KOSMOS__REPOSITORY__BLOBS": "s3://kosmos/check",
        "KOSMOS__OBJECT_STORE__ENDPOINT": f"http://127.0.0.1:{object_server.port}",
        "KOSMOS__OBJECT_STORE__ACCESS_KEY_FILE": "key",
        "KOSMOS__OBJECT_STORE__SECRET_KEY_FILE": "secret",
    }
    command = ("check", "--config", plain_node, "--json")
    assert findings(kosmos(*command, **environment)) == {}
    (plain_node.parent / "secret").write_text("another")
    assert list(findings(kosmos(*command, **environment))) == ["repository.blobs"]


def test_a_peer_that_is_away_is_a_finding_of_its_own(kosmos: Kosmos, plain_node: Path) -> None:
    away = kosmos(
        "check", "--config", plain_node, KOSMOS__REPOSITORY__REGISTRY=f"http://{NOBODY}/r"
    )
    assert away.returncode == 4


def test_an_unexpected_error_is_one_line_until_asked_for_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import node.version
    from node import cli

    def broken() -> dict[str, str]:
        raise RuntimeError("patient DUPONT")

    monkeypatch.setattr(node.version, "versions", broken)
    with pytest.raises(SystemExit) as left:
        cli.main(["version"])
    told = capsys.readouterr().err
    assert left.value.code == 1
    assert told == "kosmos: unexpected: RuntimeError. KOSMOS_TRACEBACK=1 shows where\n"
    assert "DUPONT" not in told
    monkeypatch.setenv("KOSMOS_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        cli.main(["version"])


def test_help_is_in_french_for_who_reads_french() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "node.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LC_ALL": "fr_FR.UTF-8"},
    )
    assert "Trouve les documents d'un patient" in told.stdout


@pytest.mark.parametrize(
    ("name", "begins", "said", "code"),
    [
        ("report.pdf", b"%PDF-1.7\n", (), Exit.UNREACHABLE),
        ("report.pdf", b"no finding", (), Exit.USAGE),
        ("report.pdf", b"no finding", ("--mime-type", "text/plain"), Exit.UNREACHABLE),
        ("report.txt", b"no finding", ("--mime-type", "application/pdf"), Exit.USAGE),
        (
            "report.dcm",
            bytes(128) + b"DICM",
            ("--mime-type", "application/dicom"),
            Exit.UNREACHABLE,
        ),
        ("report.png", b"", (), Exit.USAGE),
        ("report.xyz", b"whatever", (), Exit.UNREACHABLE),
    ],
)
def test_a_document_is_submitted_as_what_it_begins_as(
    kosmos: Kosmos, plain_node: Path, name: str, begins: bytes, said: tuple[str, ...], code: int
) -> None:
    document = plain_node.with_name(name)
    document.write_bytes(begins)
    place = ("--repository", f"http://{NOBODY}/", "--config", plain_node)
    told = kosmos("publish", document, "--patient", "4711", *said, *place)
    assert told.returncode == code, told.stderr
    assert ("--mime-type" in told.stderr) == (code == Exit.USAGE)
