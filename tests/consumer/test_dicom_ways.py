"""C-GET and C-MOVE by the consumer: from our own source, from DCMTK's, and from one that lies."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from benchmarks.peers import free_port, running
from consumer import association
from consumer.applications import Application, Ourselves
from consumer.client import Consumer
from consumer.dicom_way import STUDY_ROOT_GET, STUDY_ROOT_MOVE
from consumer.files import Allowance
from consumer.report import Fault
from consumer.ways import WayName
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.ledger import End
from imaging_source.negotiation import Titles
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.receiver import Listening, Receiver
from imaging_source.requestor import Peer
from imaging_source.users import UserRefused
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from manifest.kos import Manifest
from node.config_file import ConfigError, load
from node.wiring.client import consumer
from security.pki import create_authority, issue
from security.tls import client_context, server_context
from storage.blobs import BlobStore
from storage.database import Database

CT = "1.2.840.10008.5.1.4.1.1.2"
SOURCE = "1.2.3.200"
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
WAYS = (WayName.CGET, WayName.CMOVE)
Documents = dict[str, bytes]
Part10 = Callable[..., bytes]


def asking(peer: Application, way: WayName, **changes: Any) -> Consumer:
    """A consumer that has one way to one source; nobody is silent for longer than a second."""
    ourselves = Ourselves("ASKER", port=0)
    known: dict[str, Any] = {"ourselves": ourselves, "silence": 5.0, "dicom": {SOURCE: peer}}
    return Consumer("http://127.0.0.1:9", {}, ways=(way,), **(known | changes))


@dataclass
class OwnSource:
    """Our own imaging source, which holds ``documents`` and can be told where we listen."""

    title: str
    port: int
    destinations: dict[str, Peer]
    tls: Any = None

    def known(self, port: int) -> None:
        self.destinations["ASKER"] = Peer("ASKER", "127.0.0.1", port, self.tls)

    @property
    def peer(self) -> Application:
        return Application(self.title, "127.0.0.1", self.port, self.tls)

    def consumer(self, way: WayName, **changes: Any) -> Consumer:
        ourselves = Ourselves("ASKER", port=0, opened=self.known)
        return asking(self.peer, way, ourselves=ourselves, **changes)


@pytest.fixture
def own(study: Manifest, peer: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts an imaging source that holds what the peer of the other ways would deliver."""
    folder = tmp_path_factory.mktemp("source")
    with ExitStack() as started:
        database = started.enter_context(Database.open(f"sqlite:///{folder}/imaging.db"))
        database.migrate(MIGRATIONS)
        intake = Intake(database, BlobStore(folder / "blobs"))
        for uid, document in peer.documents.items():
            arrival = intake.begin(CT, uid, str(ExplicitVRLittleEndian), "MODALITY")
            arrival.write(memoryview(data_set(document)))
            assert arrival.finish().status == 0

        def start(client: Any = None, server: Any = None, **terms: Any) -> OwnSource:
            workers = Workers(1)
            started.callback(workers.close)
            destinations: dict[str, Peer] = {}
            variants = Variants(folder / "transcoded", workers, 10**9)
            retriever = Retriever(database, intake.blobs, "KOSMOS", destinations, variants)
            services = query_retrieve(Finder(database, "KOSMOS", 20), retriever)
            titles = Titles(querying=frozenset({"ASKER"}))
            here = Listening(port=0, titles=titles, services=services, tls=server, **terms)
            port = started.enter_context(Receiver(intake, here)).port
            return OwnSource("KOSMOS", port, destinations, client)

        yield start


def data_set(document: bytes) -> bytes:
    """What follows the File Meta Information, which the conftest writes without its length."""
    return document[document.index(b"\x08\0\x16\0UI") :]


@pytest.mark.parametrize("way", WAYS)
def test_a_study_comes_whole_and_nothing_is_asked_for_twice(
    own: Any, way: WayName, study: Manifest, peer: Any, tmp_path: Path
) -> None:
    us = own().consumer(way)
    report = us.fetch_images(study, tmp_path)
    assert (report.missing, report.failures, report.unexpected) == ((), (), ())
    assert report.ways == {way.value: 6}
    for path in report.fetched:
        assert data_set(path.read_bytes()) == data_set(peer.documents[path.stem])
        assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    nobody = replace(us, dicom={})
    assert nobody.fetch_images(study, tmp_path).complete


@pytest.mark.parametrize("way", WAYS)
def test_what_is_there_is_not_asked_for_and_what_the_source_lacks_is_named(
    own: Any, way: WayName, study: Manifest, tmp_path: Path
) -> None:
    us = own().consumer(way)
    (gone, *_) = us.fetch_images(study, tmp_path).fetched
    gone.unlink()
    one = replace(study.series[1].instances[0], sop_instance_uid="1.2.3.4.2.99")
    more = replace(study.series[1], instances=(*study.series[1].instances, one))
    report = us.fetch_images(replace(study, series=(study.series[0], more)), tmp_path)
    assert report.fetched == (gone,)
    assert len(report.present) == 5
    assert [one.sop_instance_uid for one in report.missing] == ["1.2.3.4.2.99"]
    assert report.missing[0].fault is Fault.NOT_SENT


@pytest.mark.parametrize("way", WAYS)
def test_over_tls_both_ends_show_a_certificate(
    own: Any, way: WayName, study: Manifest, tmp_path: Path
) -> None:
    authority = create_authority(tmp_path, "Kosmos test")
    node = issue(tmp_path, authority, "node", ["127.0.0.1"])
    files = node.certificate, node.key, authority.certificate
    client, server = client_context(*files), server_context(*files)
    source = own(client, server)
    ourselves = Ourselves("ASKER", port=0, tls=server, opened=source.known)
    us = asking(source.peer, way, ourselves=ourselves)
    assert us.fetch_images(study, tmp_path / "images").complete


@pytest.mark.parametrize("way", WAYS)
def test_a_source_that_asks_for_whom_is_told_where_that_is_configured(
    own: Any, way: WayName, study: Manifest, tmp_path: Path
) -> None:
    def ada(_peer: End, assertion: bytes) -> str:
        if assertion != b"<Assertion>ada</Assertion>":
            raise UserRefused("nobody")
        return "ada"

    source = own(identify=ada)
    ourselves = Ourselves("ASKER", port=0, opened=source.known)
    told = replace(source.peer, token=lambda: "<Assertion>ada</Assertion>")
    report = asking(told, way, ourselves=ourselves).fetch_images(study, tmp_path)
    assert len(report.fetched) == 6
    report = asking(source.peer, way, ourselves=ourselves).fetch_images(study, tmp_path / "none")
    assert report.fetched == ()


@pytest.mark.parametrize("way", WAYS)
def test_a_source_that_is_not_there_is_asked_once_for_all(
    way: WayName, study: Manifest, tmp_path: Path
) -> None:
    us = asking(Application("GONE", "127.0.0.1", free_port()), way)
    report = us.fetch_images(study, tmp_path)
    assert {one.fault for one in report.missing} == {Fault.NO_ANSWER}
    assert len(report.missing) == 6


def test_a_title_of_the_manifest_chooses_among_the_configured_alone(
    own: Any, study: Manifest, tmp_path: Path
) -> None:
    elsewhere = [replace(one, retrieve_location_uid="1.2.999") for one in study.series]
    manifest = replace(study, series=tuple(elsewhere))
    us = own().consumer(WayName.CGET)
    assert us.fetch_images(manifest, tmp_path / "known").complete
    strange = [replace(one, retrieve_ae_title="STRANGER") for one in elsewhere]
    report = us.fetch_images(replace(study, series=tuple(strange)), tmp_path / "unknown")
    assert {one.fault for one in report.missing} == {Fault.NO_ADDRESS}


def test_without_a_port_of_our_own_nothing_is_moved(
    own: Any, study: Manifest, tmp_path: Path
) -> None:
    us = asking(own().peer, WayName.CMOVE, ourselves=Ourselves("ASKER"))
    assert {one.fault for one in us.fetch_images(study, tmp_path).missing} == {Fault.NO_ADDRESS}


def test_a_source_that_does_not_know_us_says_so(own: Any, study: Manifest, tmp_path: Path) -> None:
    report = asking(own().peer, WayName.CMOVE).fetch_images(study, tmp_path)
    assert {one.fault for one in report.missing} == {Fault.REFUSED}
    assert {one.reason for one in report.missing} == {
        "the source says A801, it does not know our title"
    }


def test_a_source_that_shows_us_nothing_says_so(own: Any, study: Manifest, tmp_path: Path) -> None:
    us = asking(own().peer, WayName.CGET, ourselves=Ourselves("STRANGER"))
    assert {one.fault for one in us.fetch_images(study, tmp_path).missing} == {Fault.REFUSED}


def test_whoever_stops_taking_ends_the_request(own: Any, study: Manifest, tmp_path: Path) -> None:
    us = own().consumer(WayName.CGET)
    arriving = us.instances(study, tmp_path)
    next(arriving)
    arriving.close()
    assert list(tmp_path.glob(".incoming-*")) == []
    assert us.fetch_images(study, tmp_path).complete


@pytest.fixture
def dcmqrscp(study: Manifest, peer: Any, tmp_path: Path) -> Iterator[tuple[Application, int]]:
    """DCMTK's archive with the study in it, and the port to which it moves."""
    for name in ("dcmqrscp", "storescu"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    (tmp_path / "archive").mkdir()
    (tmp_path / "files").mkdir()
    port, ours = free_port(), free_port()
    file = tmp_path / "dcmqrscp.cfg"
    file.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nasker = (ASKER, 127.0.0.1, {ours})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {tmp_path}/archive RW (100, 1024mb) ANY\nAETable END\n"
    )
    prompt = {"TCP_NODELAY": "1"}
    with running(["dcmqrscp", "-c", str(file)], tmp_path / "log", port, environment=prompt):
        for uid, document in peer.documents.items():
            image = dcmread(BytesIO(document), force=True)
            image.PatientID, image.PatientName = "MRN-1", "Durand^Anne"
            image.StudyID, image.SeriesNumber, image.InstanceNumber = "1", "1", "1"
            image.save_as(tmp_path / "files" / f"{uid}.dcm", enforce_file_format=True)
        sending = ["storescu", "-aec", "ARCHIVE", "+sd", "127.0.0.1", str(port)]
        subprocess.run(
            [*sending, str(tmp_path / "files")], check=True, capture_output=True, env=prompt
        )
        yield Application("ARCHIVE", "127.0.0.1", port), ours


def test_dcmtk_gives_and_moves_series_and_single_instances(
    dcmqrscp: tuple[Application, int], study: Manifest, tmp_path: Path
) -> None:
    archive, ours = dcmqrscp
    for way in WAYS:
        us = asking(archive, way, ourselves=Ourselves("ASKER", port=ours))
        report = us.fetch_images(study, tmp_path / way)
        assert report.missing == ()
        for path in report.fetched[:2]:
            path.unlink()
        assert len(us.fetch_images(study, tmp_path / way).fetched) == 2


@dataclass
class Liar:
    """A provider of C-GET that sends ``images``, says ``status``, and may fall silent."""

    images: list[Dataset] = field(default_factory=list)
    silent: bool = False
    stops_after: int | None = None
    requests: int = 0


@contextmanager
def lying(liar: Liar) -> Iterator[Application]:
    entity = AE("LIAR")
    entity.add_supported_context(STUDY_ROOT_GET)
    entity.add_supported_context(STUDY_ROOT_MOVE)
    entity.add_supported_context(CT, SYNTAXES, scu_role=True, scp_role=True)
    stopped = threading.Event()

    def give(event: evt.Event) -> Iterator[Any]:
        liar.requests += 1
        if liar.silent:
            stopped.wait(20)
        yield len(liar.images)
        for number, image in enumerate(liar.images):
            if number == liar.stops_after:
                association.hang_up(event.assoc)
                return
            yield 0xFF00, image
        yield 0x0000, None

    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_GET, give)]
    )
    assert server is not None
    try:
        yield Application("LIAR", "127.0.0.1", server.server_address[1])
    finally:
        stopped.set()
        server.shutdown()


def image_of(document: bytes, **changes: Any) -> Dataset:
    image = dcmread(BytesIO(document), force=True)
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    return image


@pytest.fixture
def one(study: Manifest) -> Manifest:
    """A manifest of one instance."""
    series = replace(study.series[0], instances=study.series[0].instances[:1])
    return replace(study, series=(series,))


UID = "1.2.3.4.1.1"
LIES: dict[str, tuple[dict[str, Any], Fault]] = {
    "another study": ({"StudyInstanceUID": "1.2.9"}, Fault.WRONG_STUDY),
    "another series": ({"SeriesInstanceUID": "1.2.9"}, Fault.WRONG_SERIES),
    "no pixels": ({"PixelData": None}, Fault.TRUNCATED),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named_and_nothing_false_is_kept(
    name: str, one: Manifest, part10: Part10, tmp_path: Path
) -> None:
    changes, fault = LIES[name]
    image = image_of(part10(UID), **{key: value for key, value in changes.items() if value})
    if "PixelData" in changes:
        del image.PixelData
    with lying(Liar([image])) as peer:
        report = asking(peer, WayName.CGET).fetch_images(one, tmp_path)
    assert [missing.fault for missing in report.missing] == [fault]
    assert list(tmp_path.rglob("*.dcm")) == []


def test_what_was_not_asked_for_is_not_taken_and_told(
    one: Manifest, part10: Part10, tmp_path: Path
) -> None:
    images = [image_of(part10("1.2.3.4.1.77")), image_of(part10(UID)), image_of(part10(UID))]
    with lying(Liar(images)) as peer:
        report = asking(peer, WayName.CGET).fetch_images(one, tmp_path)
    assert report.complete
    assert report.unexpected == ("1.2.3.4.1.77", UID)


def test_success_with_nothing_is_named(one: Manifest, tmp_path: Path) -> None:
    with lying(Liar()) as peer:
        report = asking(peer, WayName.CGET).fetch_images(one, tmp_path)
    assert [missing.fault for missing in report.missing] == [Fault.NOT_SENT]


def test_who_stops_midway_is_asked_once_more_for_the_rest(
    study: Manifest, part10: Part10, tmp_path: Path
) -> None:
    series = replace(study, series=study.series[:1])
    images = [image_of(part10(f"1.2.3.4.1.{number}")) for number in (1, 2, 3)]
    liar = Liar(images, stops_after=2)
    with lying(liar) as peer:
        report = asking(peer, WayName.CGET).fetch_images(series, tmp_path)
    assert liar.requests == 2
    assert len(report.fetched) == 2
    assert [missing.fault for missing in report.missing] == [Fault.NO_ANSWER]


def test_who_never_answers_is_asked_twice_and_left(one: Manifest, tmp_path: Path) -> None:
    liar = Liar(silent=True)
    with lying(liar) as peer:
        report = asking(peer, WayName.CGET, silence=0.3).fetch_images(one, tmp_path)
    assert liar.requests == 2
    assert [missing.fault for missing in report.missing] == [Fault.NO_ANSWER]


def test_a_body_without_end_is_cut(one: Manifest, part10: Part10, tmp_path: Path) -> None:
    with lying(Liar([image_of(part10(UID, size=2_000_000))])) as peer:
        us = asking(peer, WayName.CGET, allowance=Allowance(most_bytes=100_000))
        report = us.fetch_images(one, tmp_path)
    assert [missing.fault for missing in report.missing] == [Fault.TOO_LARGE]


def test_a_stranger_cannot_store_while_we_listen(
    own: Any, one: Manifest, part10: Part10, tmp_path: Path
) -> None:
    source, answers = own(), []

    def stranger(port: int) -> None:
        source.known(port)
        for title in ("STRANGER", "KOSMOS"):
            entity = AE(title)
            entity.add_requested_context(CT, ExplicitVRLittleEndian)
            calling = entity.associate("127.0.0.1", port, ae_title="ASKER")
            answers.append(calling.is_rejected)
            if calling.is_established:
                calling.abort()

    ourselves = Ourselves("ASKER", port=0, opened=stranger)
    us = asking(source.peer, WayName.CMOVE, ourselves=ourselves)
    assert us.fetch_images(one, tmp_path).complete
    assert answers == [True, False]


def test_the_configuration_says_whom_the_consumer_of_a_node_asks(tmp_path: Path) -> None:
    file = tmp_path / "kosmos.toml"
    file.write_text(
        '[node]\nhome_community_id = "1.2.3"\n[affinity_domain]\nassigning_authority = "1.2.4"\n'
        '[registry]\n[tls]\nenabled = false\n[peers]\nae_title = "ASKER"\nmove_port = 0\n'
        'ways = ["cmove"]\n[peers.dicom]\n"1.2.5" = "dicom://PACS@[::1]:104"\n'
    )
    us = consumer(load(file))
    assert us.dicom == {"1.2.5": Application("PACS", "::1", 104)}
    assert us.ourselves == Ourselves("ASKER", "127.0.0.1", 0)
    assert us.ways == (WayName.CMOVE,)
    file.write_text(file.read_text().replace("dicom://", "dicoms://"))
    with pytest.raises(ConfigError, match="needs tls"):
        load(file)
