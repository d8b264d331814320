"""What a configuration file may say, and what is said of one that cannot be used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from node.config import ADMIN, DICOM, HTTP, MLLP, MLLPS
from node.config_file import ConfigError, load, read_secret
from node.config_page import page
from node.init import NewNode, create
from node.wiring.blobs import bucket

Write = Callable[..., Path]


def problems_of(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file)
    return [str(problem) for problem in caught.value.problems]


def test_a_small_file_is_enough(write_config: Write) -> None:
    settings = load(write_config())
    assert settings.imaging_source.ae_title == "KOSMOS"
    assert settings.repository.registry == "local"


def test_without_a_base_the_standard_ports_are_used(write_config: Write) -> None:
    settings = load(write_config())
    ports = [settings.port(offset) for offset in (HTTP, ADMIN, MLLP, MLLPS, DICOM)]
    assert ports == [8080, 8081, 2575, 2576, 11112]


def test_a_base_gives_every_port_but_those_set_by_hand(write_config: Write) -> None:
    file = write_config("[node]", "[mllp]\nport = 2600\n[node]\nport_base = 9000")
    settings = load(file)
    ports = [settings.port(offset) for offset in (HTTP, ADMIN, MLLP, MLLPS, DICOM)]
    assert ports == [9000, 9001, 2600, 9003, 9004]


def test_the_environment_overrides_the_file(
    write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOSMOS__REGISTRY__DATABASE", "postgresql://db/kosmos")
    monkeypatch.setenv("KOSMOS__NODE__PORT_BASE", "7000")
    settings = load(write_config())
    assert settings.registry.database == "postgresql://db/kosmos"
    assert settings.port(HTTP) == 7000
    assert settings.node.home_community_id == "1.2.3.4"


def test_relative_paths_count_from_the_file(write_config: Write, tmp_path: Path) -> None:
    settings = load(write_config("[node]", '[node]\ndata_dir = "here"'))
    assert settings.node.data_dir == tmp_path / "here"
    assert settings.repository.blobs == tmp_path / "here" / "documents"
    assert settings.registry.database == f"sqlite:///{tmp_path}/here/registry.db"
    assert settings.tls.key == tmp_path / "pki" / "node.key"


@pytest.mark.parametrize("key", ["nodes", "proxies"])
def test_who_is_known_by_a_certificate_needs_tls(write_config: Write, key: str) -> None:
    front = f'\n[[tls.{key}]]\nname = "front"\nsan = "front.example"\n'
    [problem] = problems_of(write_config(new=front))
    assert f"tls.{key} are known by their certificates: set tls.enabled" in problem
    [problem] = problems_of(write_config(new=f'\n[[tls.{key}]]\nname = "front"\n'))
    assert "one of certificate, subject and san" in problem


def test_a_misspelt_key_is_an_error_that_names_file_key_and_nearest(write_config: Write) -> None:
    file = write_config("[registry]", '[registry]\ndatabse = "x"')
    assert problems_of(file) == [
        f"{file}: registry.databse: unknown key; did you mean registry.database?"
    ]


def test_a_key_in_the_wrong_section_is_found_in_the_right_one(write_config: Write) -> None:
    file = write_config("[registry]", '[registry]\nae_title = "X"')
    assert "did you mean imaging_source.ae_title?" in problems_of(file)[0]


def test_a_misspelt_section_is_named_too(write_config: Write) -> None:
    file = write_config(new="\n[limit]\nworkers = 3\n")
    assert problems_of(file) == [f"{file}: limit: unknown key; did you mean limits?"]


def test_a_misspelt_variable_is_an_error_that_names_it(
    write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOSMOS__REGSTRY__DATABASE", "x")
    found = problems_of(write_config())
    assert found[0].startswith("KOSMOS__REGSTRY__DATABASE: regstry.database: unknown key; did")
    assert found[0].endswith("registry.database?")


def test_a_wrong_value_from_the_environment_is_blamed_on_the_environment(
    write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOSMOS__NODE__PORT_BASE", "many")
    assert problems_of(write_config())[0].startswith("KOSMOS__NODE__PORT_BASE: node.port_base")


def test_all_faults_are_told_at_once(write_config: Write) -> None:
    file = write_config('home_community_id = "1.2.3.4"', 'home_community_id = "x"\nport_base = -1')
    assert [line.split(": ")[1] for line in problems_of(file)] == [
        "node.port_base",
        "node.home_community_id",
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('home_community_id = "1.2.3.4"', "", "node.home_community_id: is required"),
        ('unique_id = "1.2.3.6"', "", "repository.unique_id is required"),
        ("[registry]\n", "", "repository.registry needs a URL"),
        ("[node]", '[node]\nhost = "0.0.0.0"', "node.host must be a loopback address"),
        ("[node]", "[node]\nweb_processes = 2", "needs PostgreSQL"),
        ("[node]", '[node]\ntime_zone = "Paris"', "Paris is no IANA time zone"),
        ("[repository]", '[repository]\nblobs = "s3:/bucket"', "write s3://bucket"),
        (
            "[registry]",
            '[object_store]\nendpoint = "http://10.0.0.1:9000"\n[registry]',
            "https, or http to a loopback address",
        ),
        ("[registry]", "[registry", "not TOML"),
        ('unique_id = "1.2.3.6"', 'unique_id = "1.02.3"', "'1.02.3' is no OID"),
        ("[node]", '[node]\nport_base = "many"', "'many' is not possible: a whole number"),
        ("enabled = false", 'enabled = "perhaps"', "'perhaps' is not possible: true or false"),
        ("[node]", "[node]\nname = 7", "7 is not possible: text between quotes"),
        ("[imaging_source]", '[imaging_source]\nae_title = "SEVENTEEN_LETTERS"', "ae_title"),
    ],
)
def test_what_cannot_work_is_refused(write_config: Write, old: str, new: str, words: str) -> None:
    assert words in problems_of(write_config(old, new))[0]


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    assert "kosmos init" in problems_of(tmp_path / "kosmos.toml")[0]


def test_an_oid_may_be_written_as_a_urn(write_config: Write) -> None:
    settings = load(write_config('"1.2.3.4"', '"urn:oid:1.2.3.4"'))
    assert settings.node.home_community_id == "1.2.3.4"


def test_documents_may_lie_on_an_object_store_whose_keys_are_in_files(
    write_config: Write, tmp_path: Path
) -> None:
    for name in ("access", "secret"):
        (tmp_path / name).write_text(f"the {name} key\n")
    section = """[object_store]
endpoint = "https://objects.example.org"
access_key_file = "access"
secret_key_file = "secret"
[repository]
blobs = "s3://documents/region"
"""
    settings = load(write_config("[repository]\n", section))
    place = settings.repository.blobs
    assert place == "s3://documents/region"
    found = bucket(settings, place)
    assert (found.name, found.prefix) == ("documents", "region")
    assert found.endpoint == "https://objects.example.org"
    assert (found.access_key, found.secret_key) == ("the access key", "the secret key")


def test_without_an_endpoint_that_of_the_region_is_meant(write_config: Write) -> None:
    settings = load(write_config("[registry]", '[object_store]\nregion = "eu-west-3"\n[registry]'))
    assert settings.object_store.base_url == "https://s3.eu-west-3.amazonaws.com"


def test_an_object_store_without_keys_is_refused(write_config: Write) -> None:
    settings = load(write_config("[repository]", '[repository]\nblobs = "s3://documents"'))
    with pytest.raises(ConfigError, match=r"object_store\.access_key_file: is required"):
        bucket(settings, "s3://documents")


def test_a_secret_comes_from_its_file_and_an_error_never_quotes_it(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss\n")
    assert read_secret(file) == "p@ss"
    assert read_secret(None) is None
    with pytest.raises(ConfigError, match="No such file"):
        read_secret(tmp_path / "missing")


def test_the_page_of_the_documentation_is_the_generated_one() -> None:
    file = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert file.read_text() == page(), "run: python -m node.config_page > docs/configuration.md"


@pytest.mark.parametrize(
    ("more", "is_told"), [("", True), ("udp = false", False), ("udp = true", False)]
)
def test_a_secure_node_takes_records_by_udp_only_on_purpose(
    tmp_path: Path, more: str, is_told: bool
) -> None:
    file = create(NewNode(tmp_path / "node"))
    file.write_text(f"{file.read_text()}\n[audit]\nlisten = true\n{more}\n")
    if is_told:
        assert "set it to false" in problems_of(file)[0]
    else:
        assert load(file).audit.udp is (more == "udp = true")


def test_where_nodes_are_named_nothing_comes_by_udp_and_nothing_need_be_said(
    tmp_path: Path,
) -> None:
    file = create(NewNode(tmp_path / "node"))
    named = '[[tls.nodes]]\nname = "arr"\nsan = "arr.example"\n'
    file.write_text(f"{file.read_text()}\n{named}\n[audit]\nlisten = true\n")
    assert load(file).audit.udp is None


PEER = 'peers = { PACS = "dicom://127.0.0.1:104" }\n'
URL = "http://127.0.0.1/dicom-web"


@pytest.mark.parametrize(
    ("keys", "ways"),
    [
        (PEER + 'archives = ["PACS"]', ("c-find", "c-move", None)),
        (f'archives = [{{ title = "PACS", url = "{URL}" }}]', ("qido-rs", "wado-rs", URL)),
        (PEER + 'archives = [{ title = "PACS", pull = "c-get" }]', ("c-find", "c-get", None)),
        (
            f'{PEER}archives = [{{ title = "PACS", find = "c-find", url = "{URL}" }}]',
            ("c-find", "wado-rs", URL),
        ),
    ],
)
def test_how_an_archive_is_asked_and_fetched_from_is_chosen_apart(
    write_config: Write, keys: str, ways: tuple[str, str, str | None]
) -> None:
    [read] = load(
        write_config("[imaging_source]", f"[imaging_source]\n{keys}")
    ).imaging_source.archives
    assert (read.title, read.find, read.pull, read.url) == ("PACS", *ways)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            f'{PEER}archives = ["PACS", {{ title = "PACS", url = "{URL}" }}]',
            "PACS is named twice",
        ),
        (PEER + 'archives = [{ title = "PACS", pull = "wado-rs" }]', "PACS needs a url"),
        (
            PEER + f'archives = [{{title="PACS", url="{URL}", find="c-find", pull="c-get"}}]',
            "and for nothing else",
        ),
        (
            f'archives = [{{ title = "PACS", pull = "c-get", url = "{URL}" }}]',
            "PACS is not one of the peers",
        ),
    ],
)
def test_an_archive_that_cannot_be_meant_is_refused(
    write_config: Write, keys: str, text: str
) -> None:
    [problem] = problems_of(write_config("[imaging_source]", f"[imaging_source]\n{keys}"))
    assert text in problem


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[imaging_source]", '[imaging_source]\nuser_titles = ["*"]', "assertions.enabled = true"),
        ("[tls]", '[peers]\ndicom_users = ["1.2.3.9"]\n[tls]', "issuer of assertions.own"),
    ],
)
def test_users_over_dicom_need_somebody_who_judges_and_somebody_who_signs(
    write_config: Write, old: str, new: str, told: str
) -> None:
    assert told in problems_of(write_config(old, new))[0]
