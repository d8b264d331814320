"""Subscribing at a running node: told over the wire, refused by name, kept over a restart."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import zeep
from lxml import etree

from consumer.errors import Faulted
from consumer.notifications import (
    Subscriber,
    recipient,
    running_recipient,
    subscription_filter,
)
from metadata import ebrim
from metadata.datatypes import CX, DTM, OID, XCN, LocalizedString, new_oid, new_uuid_urn
from metadata.model import Author, DocumentEntry, Submission, SubmissionSet
from node.config_file import load
from node.init import TEST_AUTHORITY, NewNode, create
from node.wiring.common import client_tls, server_tls
from soap.client import SoapClient
from soap.endpoint import Endpoint
from soap.faults import PeerFault
from soap.server import Router, WebServer, listen
from tests.waiting import wait_for
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_52 import ITI_52, SubscribeRequest, TopicExpression, id_in
from transactions.iti_53 import Notification, Notify
from transactions.subscription_filters import (
    ANY_PATIENT_DOCUMENT_FILTER,
    DOCUMENT_FILTER,
    SUBMISSION_SET_FILTER,
)
from transactions.wsn import Topic

Serve = Callable[[Path], Any]
Kosmos = Callable[..., subprocess.CompletedProcess[str]]
PATIENT = CX.of("CAMILLE", TEST_AUTHORITY)
OTHER = CX.of("DOMINIQUE", TEST_AUTHORITY)


class Mailbox:
    """What a recipient was told."""

    def __init__(self) -> None:
        self.notifications: list[Notification] = []
        self._arrived = threading.Condition()

    def __call__(self, notification: Notification) -> None:
        with self._arrived:
            self.notifications.append(notification)
            self._arrived.notify_all()

    def wait(self, count: int) -> list[Notification]:
        """Everything, once it is so many."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.notifications) >= count, 20)
            return list(self.notifications)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def address(mailbox: Mailbox) -> Iterator[str]:
    with running_recipient(mailbox) as url:
        yield url


def subscriber(node: Any) -> Subscriber:
    return Subscriber(node.endpoints["subscriptions"])


def announce(kosmos: Kosmos, node: Any, *identifiers: str) -> None:
    for identifier in identifiers:
        fed = kosmos("feed", "--patient", identifier, "--name", "DOE^J", "--config", node.config)
        assert fed.returncode == 0, fed.stderr


def publish(kosmos: Kosmos, node: Any, folder: Path, identifier: str) -> str:
    """Provide and register one document; its uniqueId."""
    file = folder / "report.txt"
    file.write_text(new_oid())
    done = kosmos("publish", file, "--patient", identifier, "--json", "--config", node.config)
    assert done.returncode == 0, done.stderr
    unique_id: str = json.loads(done.stdout)["uniqueId"]
    return unique_id


def test_three_topics_are_told_once_each_and_other_patients_not_at_all(
    running: Any, kosmos: Kosmos, tmp_path: Path, mailbox: Mailbox, address: str
) -> None:
    announce(kosmos, running, "CAMILLE", "DOMINIQUE")
    broker = subscriber(running)
    made = [
        broker.subscribe(address, topic, subscription_filter(filter_, patient_id=PATIENT), "PT1H")
        for topic, filter_ in (
            (Topic.FULL_DOCUMENT_ENTRY, DOCUMENT_FILTER),
            (Topic.MINIMAL_DOCUMENT_ENTRY, DOCUMENT_FILTER),
            (Topic.SUBMISSION_SET_METADATA, SUBMISSION_SET_FILTER),
        )
    ]
    publish(kosmos, running, tmp_path, "DOMINIQUE")
    unique_id = publish(kosmos, running, tmp_path, "CAMILLE")
    told = {one.topic: one for one in mailbox.wait(3)}
    full = told["ihe:FullDocumentEntry"].objects()
    assert [one.unique_id for one in full.documents] == [unique_id]
    minimal = told["ihe:MinimalDocumentEntry"].objects()
    assert minimal.object_refs == [full.documents[0].entry_uuid]
    (package,) = told["ihe:SubmissionSetMetadata"].objects().submission_sets
    assert package.patient_id == PATIENT
    assert {one.subscription for one in told.values()} == {one.subscription for one in made}
    for one in made:
        broker.unsubscribe(one.subscription)
    publish(kosmos, running, tmp_path, "CAMILLE")
    last = broker.subscribe(
        address, Topic.FULL_DOCUMENT_ENTRY, subscription_filter(DOCUMENT_FILTER, patient_id=PATIENT)
    )
    seen = publish(kosmos, running, tmp_path, "CAMILLE")
    told_last = mailbox.wait(4)
    assert len(told_last) == 4
    assert [one.unique_id for one in told_last[3].objects().documents] == [seen]
    broker.unsubscribe(last.subscription)
    assert PATIENT.id not in running.log.read_text()


def test_every_fault_is_told_by_its_name(running: Any, address: str) -> None:
    url, client = running.endpoints["subscriptions"], SoapClient(timeout=10)
    topic = TopicExpression(Topic.FULL_DOCUMENT_ENTRY)
    query = subscription_filter(DOCUMENT_FILTER, patient_id=PATIENT)

    def fault(request: SubscribeRequest) -> str:
        with pytest.raises(PeerFault) as raised:
            client.call(url, ITI_52, request)
        detail = etree.fromstring(raised.value.detail)
        assert detail.tag == raised.value.subcode
        return str(etree.QName(detail).localname)

    dialect = TopicExpression(topic.text, "urn:other")
    unknown = AdhocQueryRequest("urn:uuid:00000000-0000-4000-8000-000000000000")
    assert fault(SubscribeRequest(address, [dialect], [query])) == (
        "TopicExpressionDialectUnknownFault"
    )
    assert fault(SubscribeRequest(address, [TopicExpression("//*")], [query])) == (
        "InvalidTopicExpressionFault"
    )
    assert fault(SubscribeRequest(address, [TopicExpression("ihe:Other")], [query])) == (
        "TopicNotSupportedFault"
    )
    assert fault(SubscribeRequest(address, [topic], [unknown])) == "InvalidFilterFault"
    assert fault(SubscribeRequest("http://elsewhere.example/", [topic], [query])) == (
        "SubscribeCreationFailedFault"
    )
    with pytest.raises(Faulted, match="ResourceUnknownFault"):
        subscriber(running).unsubscribe(f"{url}?subscription=none")
    with pytest.raises(Faulted, match="ResourceUnknownFault"):
        subscriber(running).unsubscribe(url)
    client.close()


def test_a_pull_point_is_created_subscribed_fetched_and_destroyed(
    running: Any, kosmos: Kosmos, tmp_path: Path
) -> None:
    announce(kosmos, running, "CAMILLE")
    broker = subscriber(running)
    point = broker.pull_point()
    query = subscription_filter(DOCUMENT_FILTER, patient_id=PATIENT)
    broker.subscribe(point.address, Topic.FULL_DOCUMENT_ENTRY, query)
    unique_id = publish(kosmos, running, tmp_path, "CAMILLE")
    told: list[Notification] = []

    def fail(_notification: Notification) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        point.fetch(fail)
    assert point.fetch(told.append) == 1
    assert point.fetch(told.append) == 0
    assert [one.unique_id for one in told[0].objects().documents] == [unique_id]
    config = ("--config", running.config)
    listed = kosmos("admin", "subscriptions", "pull-points", "--json", *config)
    assert [one["waiting"] for one in json.loads(listed.stdout)] == [0]
    assert kosmos("admin", "subscriptions", "pull-points", *config).returncode == 0
    point.destroy()
    with pytest.raises(Faulted, match="ResourceUnknownFault"):
        point.fetch(told.append)
    with pytest.raises(Faulted, match="SubscribeCreationFailedFault"):
        broker.subscribe(point.address, Topic.FULL_DOCUMENT_ENTRY, query)


def test_a_publication_from_elsewhere_is_told_too(
    running: Any, mailbox: Mailbox, address: str
) -> None:
    broker = subscriber(running)
    anyone = subscription_filter(ANY_PATIENT_DOCUMENT_FILTER, author="%Nightingale%")
    made = broker.subscribe(address, Topic.FULL_DOCUMENT_ENTRY, anyone)
    document = DocumentEntry(
        entry_uuid=new_uuid_urn(),
        unique_id=new_oid(),
        patient_id=OTHER,
        title=LocalizedString("Elsewhere"),
        author=[Author(person=XCN("^Nightingale^Florence"))],
        creation_time=DTM("20260101"),
    )
    package = SubmissionSet(
        entry_uuid=new_uuid_urn(), patient_id=OTHER, source_id=OID("1.2.3"), unique_id=new_oid()
    )
    objects = ebrim.write_objects(Submission([package], [document]))
    broker.publish(Notify([Notification(objects, Topic.FULL_DOCUMENT_ENTRY)]))
    (told,) = mailbox.wait(1)
    assert [one.unique_id for one in told.objects().documents] == [document.unique_id]
    assert told.producer == "urn:oid:1.2.3"
    broker.unsubscribe(made.subscription)


def test_the_endpoint_shows_itself_and_its_figures(running: Any) -> None:
    with pytest.raises(Faulted):
        subscriber(running).unsubscribe(running.endpoints["subscriptions"])
    status, page = running.get(running.endpoints["subscriptions"])
    assert status == 200
    assert all(number in page for number in ("ITI-52", "ITI-54"))
    metrics = running.get(f"{running.endpoints['admin']}/metrics")[1]
    assert 'kosmos_responses_total{status="Fault",transaction="ITI-52"}' in metrics


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("description", ["?wsdl", "?singleWsdl"])
def test_a_foreign_toolkit_subscribes_and_unsubscribes(
    running: Any, address: str, description: str
) -> None:
    url = running.endpoints["subscriptions"] + description
    toolkit: Any = zeep.Client(url)  # type: ignore[no-untyped-call]
    topic = etree.fromstring(
        '<w:TopicExpression xmlns:w="http://docs.oasis-open.org/wsn/b-2" Dialect='
        '"http://docs.oasis-open.org/wsn/t-1/TopicExpression/Simple">ihe:FullDocumentEntry'
        "</w:TopicExpression>"
    )
    query = etree.fromstring(
        '<rim:AdhocQuery xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"'
        f' id="{ANY_PATIENT_DOCUMENT_FILTER.id}"/>'
    )
    answer = toolkit.service.NotificationBroker_SubscribeRequest(
        ConsumerReference={"Address": address}, Filter={"_value_1": [topic, query]}
    )
    subscription = answer.SubscriptionReference.Address
    assert id_in(subscription)
    service = toolkit.create_service(
        "{urn:ihe:iti:xds-b:2007}NotificationBroker_Binding_Soap12", subscription
    )
    service.NotificationBroker_UnsubscribeRequest()
    with pytest.raises(zeep.exceptions.Fault):
        service.NotificationBroker_UnsubscribeRequest()
    point = toolkit.service.NotificationBroker_CreatePullPointRequest().PullPoint.Address
    service = toolkit.create_service(
        "{urn:ihe:iti:xds-b:2007}NotificationBroker_Binding_Soap12", point
    )
    assert not service.NotificationBroker_GetMessagesRequest(MaximumNumber=1).NotificationMessage
    service.NotificationBroker_DestroyPullPointRequest()
    with pytest.raises(zeep.exceptions.Fault):
        service.NotificationBroker_GetMessagesRequest()


def test_a_consumer_that_was_down_is_told_after_a_restart(
    tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos, mailbox: Mailbox
) -> None:
    node = serve(create(NewNode(tmp_path / "node", plain=True, port_base=port_base)))
    announce(kosmos, node, "CAMILLE")
    with running_recipient(mailbox) as address:
        gone = address
    query = subscription_filter(DOCUMENT_FILTER, patient_id=PATIENT)
    made = subscriber(node).subscribe(gone, Topic.FULL_DOCUMENT_ENTRY, query)
    unique_id = publish(kosmos, node, tmp_path, "CAMILLE")
    wait_for(lambda: _figure(node, 'kosmos_notifications_total{outcome="failed"}') >= 1)
    config = ("--config", node.config)
    (listed,) = json.loads(kosmos("admin", "subscriptions", "list", "--json", *config).stdout)
    assert (listed["id"], listed["waiting"]) == (id_in(made.subscription), 1)
    os.kill(node.process.pid, signal.SIGTERM)
    node.process.communicate(timeout=30)
    retried = kosmos("admin", "subscriptions", "retry", listed["id"], "--json", *config)
    assert json.loads(retried.stdout) == {"retried": 0}
    node = serve(node.config)
    with recipient_at(gone, mailbox):
        (told,) = mailbox.wait(1)
    assert [one.unique_id for one in told.objects().documents] == [unique_id]
    subscriber(node).unsubscribe(made.subscription)
    listed_after = kosmos("admin", "subscriptions", "list", "--json", *config)
    assert json.loads(listed_after.stdout) == []


@contextmanager
def recipient_at(
    address: str, mailbox: Mailbox, tls: ssl.SSLContext | None = None
) -> Iterator[None]:
    """A recipient at an address that was used before."""
    with ThreadPoolExecutor(1) as pool:
        endpoint = Endpoint([recipient(mailbox)], pool=pool, title="r", service_name="R")
        server = WebServer(Router({"/notifications": endpoint}), tls=tls)
        sock = listen("127.0.0.1", urlsplit(address).port or 0)
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            assert server.ready.wait(10)
            yield
        finally:
            server.should_exit = True
            thread.join()


def _figure(node: Any, name: str) -> float:
    metrics = node.get(f"{node.endpoints['admin']}/metrics")[1]
    lines = [line for line in metrics.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _waiting(kosmos: Kosmos, config: Path) -> list[int]:
    """How many notifications wait for each subscription."""
    listed = kosmos("admin", "subscriptions", "list", "--json", "--config", config)
    return [one["waiting"] for one in json.loads(listed.stdout)]


def test_a_secure_node_notifies_with_its_certificate_whom_it_may(
    tmp_path: Path, port_base: int, serve: Serve, kosmos: Kosmos, mailbox: Mailbox
) -> None:
    config = create(NewNode(tmp_path / "node", port_base=port_base))
    place = port_base + 9  # beyond the node's own five
    config.write_text(
        config.read_text() + f'\n[subscriptions]\nconsumers = ["https://localhost:{place}/"]\n'
    )
    settings = load(config)
    address = f"https://localhost:{place}/notifications"
    node = serve(config)
    announce(kosmos, node, "CAMILLE")
    client = SoapClient(timeout=10, ssl_context=client_tls(settings))
    broker = Subscriber(node.endpoints["subscriptions"], client)
    anyone = subscription_filter(ANY_PATIENT_DOCUMENT_FILTER)
    point = broker.pull_point()
    broker.subscribe(point.address, Topic.FULL_DOCUMENT_ENTRY, anyone)
    pulled: list[Notification] = []
    with pytest.raises(Faulted, match="SubscribeCreationFailedFault"):
        broker.subscribe("https://127.0.0.1/", Topic.FULL_DOCUMENT_ENTRY, anyone)
    made = broker.subscribe(address, Topic.FULL_DOCUMENT_ENTRY, anyone)
    with recipient_at(address, mailbox, server_tls(settings, "http")):
        unique_id = publish(kosmos, node, tmp_path, "CAMILLE")
        (told,) = mailbox.wait(1)
        assert kosmos("access", "oppose", "CAMILLE", "--config", config).returncode == 0
        publish(kosmos, node, tmp_path, "CAMILLE")  # is told to nobody
        wait_for(lambda: 0 in _waiting(kosmos, config))  # all waits at the pull point alone
        assert point.fetch(pulled.append) == 0
        assert kosmos("access", "agree", "CAMILLE", "--config", config).returncode == 0
        again = publish(kosmos, node, tmp_path, "CAMILLE")
        _, second = mailbox.wait(2)
        assert point.fetch(pulled.append) == 1
        client.close()
        assert node.stop() == 0
    assert [one.unique_id for one in told.objects().documents] == [unique_id]
    assert [one.unique_id for one in second.objects().documents] == [again]
    assert [one.unique_id for one in pulled[0].objects().documents] == [again]
    assert urlsplit(made.subscription).scheme == "https"


def test_an_operator_sees_and_ends_subscriptions(
    plain_node: Path, kosmos: Kosmos, serve: Serve
) -> None:
    node = serve(plain_node)
    config = ("--config", plain_node)
    query = subscription_filter(DOCUMENT_FILTER, patient_id=PATIENT)
    made = subscriber(node).subscribe("http://127.0.0.1:1/x", Topic.FULL_DOCUMENT_ENTRY, query)
    identifier = id_in(made.subscription)
    told = kosmos("admin", "subscriptions", "remove", identifier, *config)
    assert told.returncode == 1  # the node is the one writer of its embedded database
    node.stop()
    listed = kosmos("admin", "subscriptions", "list", *config, "--lang", "fr")
    assert identifier in listed.stdout
    assert "destinataire" in listed.stdout
    shown = json.loads(
        kosmos("admin", "subscriptions", "show", identifier, "--json", *config).stdout
    )
    assert shown["patient"] == PATIENT
    assert shown["filter"][0] == DOCUMENT_FILTER.id
    assert kosmos("admin", "subscriptions", "show", identifier, *config).returncode == 0
    assert json.loads(kosmos("admin", "subscriptions", "dead", "--json", *config).stdout) == []
    assert kosmos("admin", "subscriptions", "dead", *config).returncode == 0
    removed = kosmos("admin", "subscriptions", "remove", identifier, *config)
    assert removed.stdout.strip() == f"removed: {identifier}"
    for verb in ("show", "remove", "retry"):
        told = kosmos("admin", "subscriptions", verb, identifier, *config)
        assert (told.returncode, "no subscription" in told.stderr) == (1, True)
