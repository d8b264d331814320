"""A node from outside: what it prints, answers, survives and leaves behind."""

import getpass
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import urllib3
from urllib3.exceptions import HTTPError

import conformance
from metadata.datatypes import CX, LocalizedString
from metadata.identifiers import FAILURE, SUCCESS
from metadata.model import Code
from node.config import Settings
from node.config_file import load
from node.demo.studies import sample_folder
from node.init import NewNode, create
from node.wiring.common import client_tls, own_assertions, soap_client
from node.wiring.tokens import own_issuer
from security.assertions.http import authorization
from security.assertions.issuing import Person
from security.pki import create_authority
from soap.client import SoapClient
from soap.faults import INVALID_SECURITY, PeerFault
from tests.waiting import wait_for
from transactions.iti_18 import ITI_18
from transactions.iti_43 import ITI_43, DocumentRequest, RetrieveDocumentSetRequest
from transactions.iti_51 import ITI_51
from transactions.stored_query import find_documents, find_documents_for_multiple_patients

Serve = Callable[[Path], Any]
Kosmos = Callable[..., subprocess.CompletedProcess[str]]
PATIENT = "DUPONT"


def test_the_ready_line_names_every_endpoint_and_all_of_them_answer(running: Any) -> None:
    assert running.ready_line.startswith("ready ")
    places = running.endpoints
    assert set(places) == {
        *("registry", "subscriptions", "repository", "imaging", "dicomweb"),
        *("admin", "mllp", "dicom"),
    }
    for name in ("registry", "repository", "imaging"):
        status, page = running.get(places[name])
        assert (status, page[:15]) == (200, "<!DOCTYPE html>")
        assert running.get(f"{places[name]}?wsdl")[0] == 200
    assert running.get(f"{places['dicomweb']}/studies")[0] == 204
    for place in (places["mllp"], places["dicom"].partition("@")[2]):
        host, _, port = place.rpartition(":")
        socket.create_connection((host, int(port)), 5).close()
    assert places["dicom"].startswith("KOSMOS@")


def test_health_readiness_and_metrics_are_on_the_admin_port(running: Any) -> None:
    admin = running.endpoints["admin"]
    assert running.get(f"{admin}/healthz") == (200, "ok\n")
    status, body = running.get(f"{admin}/readyz")
    checks = {"registry": "ok", "repository": "ok", "imaging_source": "ok"}
    assert (status, json.loads(body)) == (200, {"ready": True, "checks": checks})
    status, body = running.get(f"{admin}/metrics")
    assert status == 200
    assert "kosmos_build_info" in body
    assert running.get(f"{admin}/elsewhere")[0] == 404


def test_the_first_page_links_the_endpoints_in_the_readers_language(running: Any) -> None:
    base = running.endpoints["registry"].removesuffix("/registry")
    answer = urllib3.request("GET", f"{base}/", headers={"accept-language": "fr"})
    page = answer.data.decode()
    assert 'lang="fr"' in page
    assert all(f'href="{path}"' in page for path in ("/registry", "/repository", "/imaging"))


def test_the_main_job_from_the_command_line(running: Any, kosmos: Kosmos, tmp_path: Path) -> None:
    config = ("--config", running.config)
    fed = kosmos("feed", "--patient", "4711", "--name", f"{PATIENT}^JEANNE", *config)
    assert (fed.returncode, "AA" in fed.stdout) == (0, True)
    assert kosmos("find", "4711", *config).stdout == "no documents\n"
    document = tmp_path / "report.txt"
    document.write_text("no finding")
    published = kosmos("publish", document, "--patient", "4711", "--json", *config)
    assert published.returncode == 0, published.stderr
    unique_id = json.loads(published.stdout)["uniqueId"]
    found = kosmos("find", "4711", "--json", *config)
    (entry,) = json.loads(found.stdout)
    assert (entry["uniqueId"], entry["title"], entry["size"]) == (unique_id, "report", "10")
    shown = kosmos("find", "4711", "--status", "all", *config).stdout
    assert all(word in shown for word in ("report", "Approved", "10 B", unique_id))
    fetched = kosmos("fetch", "4711", "--folder", tmp_path / "fetched", "--json", *config)
    (file,) = json.loads(fetched.stdout)["documents"]
    assert Path(file).read_text() == "no finding"
    whose = str(CX.of("4711", load(running.config).affinity_domain.assigning_authority))
    told = kosmos("audit", "find", "--patient", whose, "--json", *config)
    both = {(one["transaction"], one["trail"]) for one in json.loads(told.stdout)}
    assert both >= {(one, f"{of}-0") for one in ("ITI-8", "ITI-41") for of in ("client", "web")}
    assert both >= {("ITI-18", "client-0"), ("ITI-18", "web-0")}
    assert PATIENT not in running.log.read_text()
    assert "kosmos_responses_total" in running.get(f"{running.endpoints['admin']}/metrics")[1]


def test_a_study_is_published_as_every_family_and_fetched_once(
    port_base: int, serve: Serve, kosmos: Kosmos, tmp_path: Path
) -> None:
    node = create(NewNode(tmp_path / "node", plain=True, port_base=port_base))
    quick = node.read_text().replace("[imaging_source]", "[imaging_source]\nquiet_seconds = 0.2")
    chosen = '\n[imaging_source.document]\nflavours = ["xds-i", "mado-kos", "mado-fhir"]\n'
    node.write_text(quick + chosen)
    serve(node)
    config = ("--config", node)
    kosmos("feed", "--patient", "1CT1", "--name", "CompressedSamples^CT1", *config)
    sent = kosmos("publish", sample_folder() / "CT_small.dcm", *config)
    assert sent.returncode == 0, sent.stderr
    wait_for(lambda: len(json.loads(kosmos("find", "1CT1", "--json", *config).stdout)) == 3)

    fetched = kosmos("fetch", "1CT1", "--folder", tmp_path / "fetched", "--json", *config)

    told = json.loads(fetched.stdout)
    assert (len(told["documents"]), told["images"], told["problems"]) == (3, 1, [])
    web = ("--folder", tmp_path / "by_wado", "--way", "wado", "--json", *config)
    assert json.loads(kosmos("fetch", "1CT1", *web).stdout)["images"] == 1
    assert kosmos("fetch", "1CT1", "--way", "pigeon", *config).returncode == 2
    records = json.loads(kosmos("audit", "find", "--limit", "1000", "--json", *config).stdout)
    ours = [(one["transaction"], one["action"]) for one in records if one["trail"] == "client-0"]
    assert {("RAD-8", "E"), ("RAD-8", "R"), ("RAD-69", "C"), ("RAD-107", "C")} <= {*ours}
    assert sorted(Path(one).suffix for one in told["documents"]) == [".dcm", ".dcm", ".json"]
    for file in told["documents"]:
        judged = json.loads(kosmos("conformance", "manifest", file, "--json").stdout)
        # Where the images do not say what MADO wants to know, nor does the manifest.
        failed = {one["id"] for one in judged if one["verdict"] == "failed"}
        assert failed <= {"M15"}, failed


def test_the_identity_feed_of_hl7_v3_from_the_command_line(running: Any, kosmos: Kosmos) -> None:
    config = ("--config", running.config)
    name = ("--name", f"{PATIENT}^JEANNE", "--json", "--v3")
    for patient in ("V3A", "V3B"):
        fed = kosmos("feed", "--patient", patient, *name, *config)
        assert json.loads(fed.stdout) == [{"message": patient, "ack": "CA", "text": ""}]
    merged = kosmos("feed", "--patient", "V3A", "--merge", "V3B", *name, *config)
    assert (merged.returncode, json.loads(merged.stdout)[0]["ack"]) == (0, "CA")
    again = kosmos("feed", "--patient", "V3A", "--merge", "V3B", *name, *config)
    assert (again.returncode, json.loads(again.stdout)[0]["ack"]) == (1, "CE")
    assert kosmos("find", "V3A", *config).returncode == 0
    assert "XDSUnknownPatientId" in kosmos("find", "V3B", *config).stderr
    description = running.get(f"{running.endpoints['registry']}?wsdl")[1]
    assert 'name="DocumentRegistry_PRPA_IN201304UV02"' in description
    assert PATIENT not in running.log.read_text()


def test_a_refusal_is_told_with_the_code_of_the_standard(
    running: Any, kosmos: Kosmos, tmp_path: Path
) -> None:
    document = tmp_path / "report.txt"
    document.write_text("no finding")
    told = kosmos("publish", document, "--patient", "nobody", "--config", running.config)
    assert told.returncode == 1
    assert "XDSUnknownPatientId" in told.stderr
    assert "Traceback" not in told.stderr


def test_one_correlation_id_runs_from_message_to_log(running: Any) -> None:
    trace = "0123456789abcdef" * 2
    request = find_documents("4711^^^&1.2.3&ISO")
    client = SoapClient()
    client.call(running.endpoints["registry"], ITI_18, request, correlation_id=trace)
    client.close()

    def logged() -> bool:  # the line is written once the answer is out
        lines = [json.loads(line) for line in running.log.read_text().splitlines()]
        return any(line.get("correlation_id") == trace for line in lines if line["event"] == "call")

    wait_for(logged)


def test_a_request_of_dicomweb_is_logged_as_a_call(running: Any) -> None:
    assert running.get(f"{running.endpoints['dicomweb']}/studies?PatientID=nobody")[0] == 204

    def logged() -> bool:  # some at a time, a moment later
        lines = [json.loads(line) for line in running.log.read_text().splitlines()]
        calls = [line for line in lines if line["event"] == "call"]
        return ("RAD-129", "ok", "127.0.0.1") in [
            (line["action"], line["outcome"], line["peer"]) for line in calls
        ]

    wait_for(logged)


def test_a_query_across_patients_goes_by_an_action_of_its_own(running: Any) -> None:
    across = find_documents_for_multiple_patients(class_code=[Code("none", "1.2.3")])
    client = SoapClient()
    for exchange, status in ((ITI_51, SUCCESS), (ITI_18, FAILURE)):
        answer = client.call(running.endpoints["registry"], exchange, across)
        assert answer.status == status
    client.close()
    assert [error.code for error in answer.errors] == ["XDSUnknownStoredQuery"]


def test_a_second_node_on_the_same_ports_says_so(running: Any, kosmos: Kosmos) -> None:
    told = kosmos("serve", "--config", running.config)
    assert told.returncode == 1
    assert len(told.stderr.strip().splitlines()) == 1
    assert "Traceback" not in told.stderr


def test_a_killed_process_comes_back_and_a_stop_is_clean(plain_node: Path, serve: Serve) -> None:
    node = serve(plain_node)
    killed = node.child("web-0")
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: node.child("web-0") != killed)
    assert node.get(node.endpoints["registry"])[0] == 200
    children = [node.child("web-0"), node.child("dicom")]
    assert node.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert list(plain_node.parent.glob("data/documents/tmp/*")) == []


def test_on_postgresql_two_processes_share_the_port(
    postgresql_url: str, tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos
) -> None:
    database_url = _fresh_database(postgresql_url)
    config = create(
        NewNode(tmp_path / "node", plain=True, port_base=port_base, database=database_url)
    )
    config.write_text(config.read_text().replace("[node]", "[node]\nweb_processes = 2", 1))
    node = serve(config)
    assert node.child("web-0") != node.child("web-1")
    fed = kosmos("feed", "--patient", "4711", "--name", "A^B", "--config", config)
    assert fed.returncode == 0, fed.stderr
    os.kill(node.child("web-1"), signal.SIGKILL)
    assert json.loads(kosmos("find", "4711", "--json", "--config", config).stdout) == []
    assert node.stop() == 0


def test_no_process_outlives_a_supervisor_that_was_killed(plain_node: Path, serve: Serve) -> None:
    node = serve(plain_node)
    children = [node.child("web-0"), node.child("dicom")]
    node.process.kill()
    node.process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_temporary_files_of_a_node_that_was_killed_go_when_it_is_started_again(
    plain_node: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as temporary:  # a socket's path must be short
        monkeypatch.setenv("TMPDIR", temporary)
        node = serve(plain_node)
        children = [node.child("web-0"), node.child("dicom")]
        node.process.kill()
        node.process.communicate()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
        left = {*Path(temporary).iterdir()}
        node = serve(plain_node)
        assert left
        assert not left & {*Path(temporary).iterdir()}
        assert node.stop() == 0
        assert not [*Path(temporary).iterdir()]


def test_a_secure_node_demands_a_certificate_and_serves_who_has_one(
    tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos
) -> None:
    config = create(NewNode(tmp_path / "secure", port_base=port_base))
    node = serve(config)
    assert node.endpoints["registry"].startswith("https://")
    assert "mllps" in node.endpoints
    stranger = ssl.create_default_context(cafile=config.parent / "pki" / "ca.pem")
    with urllib3.PoolManager(ssl_context=stranger) as pool, pytest.raises(HTTPError):
        pool.request("GET", node.endpoints["registry"], retries=False, timeout=10.0)
    announced = kosmos("feed", "--patient", "4711", "--name", "DOE^JANE", "--config", config)
    assert announced.returncode == 0
    assert kosmos("find", "4711", "--config", config).returncode == 0
    records = json.loads(kosmos("audit", "find", "--json", "--config", config).stdout)
    assert any(getpass.getuser() in str(one) for one in records if one["transaction"] == "ITI-18")
    checked = kosmos("check", "--config", config)
    assert checked.returncode == 0
    assert "assertions.issuers" in checked.stdout


def test_a_secure_node_answers_no_question_of_nobody_and_records_that_it_was_asked(
    tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos
) -> None:
    config = create(NewNode(tmp_path / "secure", port_base=port_base))
    settings, node = load(config), serve(config)
    client = SoapClient(ssl_context=client_tls(settings))
    question = find_documents(f"4711^^^&{settings.affinity_domain.assigning_authority}&ISO")
    with pytest.raises(PeerFault, match="ITI-18 needs an assertion") as refused:
        client.call(node.endpoints["registry"], ITI_18, question)
    client.close()
    assert refused.value.subcode == INVALID_SECURITY
    kept = json.loads(kosmos("audit", "find", "--json", "--config", config).stdout)
    assert [one["outcome"] for one in kept if one["transaction"] == "110126"] == [8]


def test_what_a_patient_masks_is_found_and_fetched_by_nobody_it_is_masked_from(
    tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos
) -> None:
    config = create(NewNode(tmp_path / "secure", port_base=port_base))
    settings, node = load(config), serve(config)

    def run(*arguments: str | Path) -> Any:
        done = kosmos(*arguments, "--json", "--config", config)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4")
    run("feed", "--patient", "4711", "--name", "DOE^JANE")
    unique_id = run("publish", tmp_path / "report.pdf", "--patient", "4711")["uniqueId"]
    assert [one["uniqueId"] for one in run("find", "4711")] == [unique_id]
    run("access", "mask", "4711", unique_id, "--from", "user")
    assert run("find", "4711") == []
    client = soap_client(settings, "ada")
    wanted = DocumentRequest(settings.repository.unique_id, unique_id)
    asked = RetrieveDocumentSetRequest((wanted,))
    [refused] = client.call(node.endpoints["repository"], ITI_43, asked).errors
    assert refused.code == "XDSDocumentUniqueIdError"
    run("access", "unmask", "4711", unique_id, "--from", "user")
    assert len(client.call(node.endpoints["repository"], ITI_43, asked).documents) == 1
    client.close()
    assert len(run("find", "4711")) == 1
    run("access", "oppose", "4711", "--reason", "by letter")
    assert run("find", "4711") == []
    assert [one["kind"] for one in run("access", "list", "4711")] == ["opposed"]
    changes = [one for one in run("audit", "find") if one["transaction"] == "110135"]
    assert len(changes) == 3

    question = find_documents(f"4711^^^&{settings.affinity_domain.assigning_authority}&ISO")
    with pytest.raises(PeerFault, match="needs a reason"):
        _doctor_in_emergency(settings).call(node.endpoints["registry"], ITI_18, question)
    doctor = _doctor_in_emergency(settings, "unconscious")
    assert len(doctor.call(node.endpoints["registry"], ITI_18, question).objects().documents) == 1
    [told] = run("access", "emergencies")
    assert (told["reason"], told["review"]) == ("unconscious", None)
    run("access", "review", told["id"], "--remark", "justified")
    [told] = run("access", "emergencies")
    assert told["review"]["remark"] == "justified"
    assert "110127" in {one["transaction"] for one in run("audit", "find")}
    assert '"code": "ACCESS-EMERGENCY"' in node.log.read_text()


def test_the_kit_passes_a_secure_node_that_believes_its_issuer(
    tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos
) -> None:
    config, pki = create(NewNode(tmp_path / "secure", port_base=port_base)), tmp_path / "secure/pki"
    direct = create_authority(tmp_path / "direct", "A node that is known by itself")
    with (pki / "ca.pem").open("ab") as trust:
        trust.write(direct.certificate.read_bytes())
    settings, node = load(config), serve(config)
    endpoints = {
        name: node.endpoints[name].replace("127.0.0.1", "localhost")
        for name in ("registry", "repository", "imaging")
    }
    options = {
        **endpoints,
        "identity-v3": endpoints["registry"],
        "assigning-authority": settings.affinity_domain.assigning_authority,
        "tls-certificate": pki / "node.pem",
        "tls-key": pki / "node.key",
        "tls-trust": pki / "ca.pem",
        "tls-authority": pki / "ca.pem",
        "tls-authority-key": pki / "ca.key",
        "direct-certificate": direct.certificate,
        "direct-key": direct.key,
        "issuer": settings.assertions.own.name,
        "issuer-certificate": pki / "issuer.pem",
        "issuer-key": pki / "issuer.key",
        "audience": f"urn:oid:{settings.node.home_community_id}",
        "policy": Path(conformance.__file__).with_name("access.toml"),
    }
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    cases = [part for one in ("S01", "S02", "S05-ITI-43", "W") for part in ("--case", one)]
    ran = kosmos("conformance", "run", *given, *cases)
    assert ran.returncode == 0, ran.stdout
    # What is not run is no part of a node that has just been made.
    options_of_a_node = ("ITI-51", "ITI-57", "ITI-61", "ITI-62", "ITI-86", "ITI-92", "ITI-52")
    idle = {line.split()[1] for line in ran.stdout.splitlines() if line.startswith("-")}
    assert idle == {
        *(f"W05-{number}" for number in options_of_a_node),
        "S05-ITI-43-treating-doctor",
    }


def test_its_configuration_tells_the_kit_all_of_a_secure_node(
    tmp_path: Path, port_base: int, serve: Serve
) -> None:
    config = create(NewNode(tmp_path / "secure", port_base=port_base))
    titles = '[imaging_source]\nquiet_seconds = 0.2\nquery_titles = ["KOSMOS_KIT"]'
    config.write_text(config.read_text().replace("[imaging_source]", titles))
    serve(config)
    # Asks by SOAP with an assertion, stores and queries over TLS. In a process of its own:
    # pynetdicom leaves a socket open.
    cases = ("--case", "W05-ITI-18", "--case", "I04-nothing")
    ran = subprocess.run(
        [sys.executable, "-m", "node.cli", "conformance", "run", "--config", str(config), *cases],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.stdout.endswith("2 passed, 0 failed, 0 not run\n"), ran.stdout + ran.stderr


def test_another_configuration_is_in_the_audit_trail(
    plain_node: Path, serve: Serve, kosmos: Kosmos
) -> None:
    def changes() -> list[str]:
        found = json.loads(kosmos("audit", "find", "--json", "--config", plain_node).stdout)
        return [one["trail"] for one in found if one["transaction"] == "110131"]

    assert serve(plain_node).stop() == 0
    assert serve(plain_node).stop() == 0
    assert changes() == []
    plain_node.write_text(plain_node.read_text() + "\n[limits]\nqueue = 63\n")
    assert serve(plain_node).stop() == 0
    assert sorted(changes()) == ["dicom", "web-0"]


def _doctor_in_emergency(settings: Settings, *reasons: str) -> SoapClient:
    """A client of a doctor who breaks the glass."""
    said: dict[str, list[str | Code]] = {
        "role": [Code("221", "2.16.840.1.113883.2.9.6.2.7", LocalizedString("Doctor"))],
        "purpose_of_use": [Code("BTG", "2.16.840.1.113883.5.8", LocalizedString("BTG"))],
        "reason": list(reasons),
    }
    token = own_issuer(settings).issue(Person("ada", said))
    return SoapClient(ssl_context=client_tls(settings), token=lambda: token)


def test_the_images_of_a_secure_node_are_shown_to_who_says_who_he_is(
    tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos
) -> None:
    config = create(NewNode(tmp_path / "secure", port_base=port_base))
    settings, node = load(config), serve(config)
    study = sample_folder() / "dicomdirtests" / "77654033" / "CR1"
    sent = kosmos("import", study, "--config", config)
    assert sent.returncode == 0, sent.stderr
    own = client_tls(settings)
    with urllib3.PoolManager(ssl_context=own, assert_hostname=False) as pool:
        query = f"{node.endpoints['dicomweb']}/studies"
        nobody = pool.request("GET", query, retries=False)
        assert (nobody.status, nobody.headers["www-authenticate"]) == (401, "IHE-SAML realm=kosmos")
        token = own_assertions(settings, "ada")()
        ada = pool.request("GET", query, headers=authorization(token), retries=False)
        assert ada.status == 204  # of what was not published yet nothing is known
        broken = authorization(token.replace("ada", "eve"))
        assert pool.request("GET", query, headers=broken, retries=False).status == 401
        wado = f"{node.endpoints['dicomweb'].removesuffix('dicomweb')}wado?requestType=WADO"
        assert pool.request("GET", wado, retries=False).status == 401
        nothing = f"{node.endpoints['dicomweb']}/studies/1.2.3"
        told = pool.request("GET", nothing, headers=authorization(token), retries=False)
        assert told.status == 404
    kept = json.loads(kosmos("audit", "find", "--json", "--config", config).stdout)
    ours = [one for one in kept if "ada" in one["users"] and one["transaction"][:4] == "RAD-"]
    assert [(one["transaction"], one["outcome"]) for one in ours] == [
        ("RAD-107", 8),
        ("RAD-129", 0),
    ]
    assert "1.2.3" in ours[0]["message"]


def _fresh_database(server: str) -> str:
    plain = server.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("CREATE DATABASE two_processes")
    return plain.replace("/postgres?", "/two_processes?")
