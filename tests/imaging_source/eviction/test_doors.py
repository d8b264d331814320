"""Images that are with their archive come back by whichever door they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import urllib3
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from imaging_source import media
from imaging_source.dicomweb import DicomWeb
from imaging_source.dicomweb.wado_uri import WadoUri
from imaging_source.evicted import Away, Hindrance
from imaging_source.index import MIGRATIONS
from imaging_source.negotiation import Titles
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.models import STUDY_ROOT_GET as GET
from imaging_source.query_retrieve.models import STUDY_ROOT_MOVE as MOVE
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.receiver import Listening, Receiver
from imaging_source.requestor import Peer
from imaging_source.retrieve import ImagingSource
from imaging_source.syntaxes import RLE_LOSSLESS
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from metadata.identifiers import FAILURE, SUCCESS
from soap.server import Router, running_server
from storage.database import Database
from tests.imaging_source.conftest import CT_IMAGE, Clock
from tests.imaging_source.eviction.eviction_kit import (
    Site,
    data_set,
)
from tests.imaging_source.test_retrieve import HERE, asking

Make = Callable[..., Dataset]
Store = Callable[..., int]
DICOM_PARTS = 'multipart/related; type="application/dicom"'


@contextmanager
def doors(
    site: Site, folder: Path, workers: Workers, *destinations: Peer
) -> Iterator[tuple[str, int]]:
    """The doors of a web process, and of the process ``dicom``: a base URL and a port."""
    variants = Variants(folder / "transcoded", workers, 10**9)
    peers = {peer.title: peer for peer in destinations}
    retriever = Retriever(site.database, site.shown, "KOSMOS", peers, variants)
    services = query_retrieve(Finder(site.database, "KOSMOS", 20), retriever)
    titles = Titles(querying=frozenset({"*"}))
    with ExitStack() as stack:
        listening = Listening(port=0, titles=titles, services=services)
        port = stack.enter_context(Receiver(site.door, listening)).port
        pool = stack.enter_context(ThreadPoolExecutor(4))
        mounts = {
            "/dicomweb": DicomWeb(site.database, site.shown, pool, variants=variants),
            "/wado": WadoUri(site.database, site.shown, pool, variants),
        }
        yield stack.enter_context(running_server(Router({}, mounts))), port


def moved(port: int, uid: str) -> tuple[int, int]:
    """Completed and failed sub-operations of a C-MOVE of a study to the peer DEST."""
    ae = AE("ASKER")
    ae.add_requested_context(MOVE)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = uid
    *_, (last, _) = association.send_c_move(identifier, "DEST", MOVE)
    association.release()
    return last.NumberOfCompletedSuboperations, last.NumberOfFailedSuboperations


def test_what_is_away_comes_back_to_be_moved_to_a_peer(
    site: Site, study: list[Dataset], tmp_path: Path, workers: Workers, clock: Clock
) -> None:
    uid = study[0].StudyInstanceUID
    before = site.read(site.blobs, uid)
    assert site.evict() == 2
    with Database.open(f"sqlite:///{tmp_path / 'peer.db'}") as database:
        database.migrate(MIGRATIONS)
        there = Site(tmp_path / "peer", database, "", clock)
        with Receiver(there.door, Listening(port=0, titles=Titles("DEST"))) as receiver:
            peer = Peer("DEST", "127.0.0.1", receiver.port)
            with doors(site, tmp_path, workers, peer) as (_, port):
                site.pacs.away = True
                assert moved(port, uid) == (0, 2)
                assert there.files() == 0
                site.pacs.away = False
                site.clock.now += 60
                assert moved(port, uid) == (2, 0)
        assert {*map(data_set, there.read(there.blobs, uid).values())} == {
            *map(data_set, before.values())
        }
        assert site.figures().instances == 0


def got(port: int, uid: str) -> tuple[int, int]:
    """How many instances of a study come by C-GET, and the final status."""
    taken: list[str] = []

    def take(event: Any) -> int:
        taken.append(event.request.AffectedSOPInstanceUID)
        return 0

    ae = AE("ASKER")
    ae.add_requested_context(GET)
    ae.add_requested_context(CT_IMAGE, "1.2.840.10008.1.2.1")
    association = ae.associate(
        "127.0.0.1",
        port,
        ae_title="KOSMOS",
        ext_neg=[build_role(CT_IMAGE, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = uid
    *_, (last, _) = association.send_c_get(identifier, GET)
    association.release()
    return len(taken), int(last.Status)


def test_every_door_brings_back_what_it_is_asked_for_and_none_tells_a_false_success(
    site: Site, study: list[Dataset], tmp_path: Path, workers: Workers
) -> None:
    first = study[0]
    uid = first.StudyInstanceUID
    files = site.read(site.blobs, uid)
    source = ImagingSource(site.database, site.shown, HERE)
    instance = f"requestType=WADO&studyUID={uid}&seriesUID={first.SeriesInstanceUID}"
    instance += f"&objectUID={first.SOPInstanceUID}&contentType=application/dicom"
    place = f"/studies/{uid}/series/{first.SeriesInstanceUID}/instances/{first.SOPInstanceUID}"

    def away() -> None:
        site.rest()
        site.rest()
        assert site.evict() == 2
        site.pacs.away = True

    with doors(site, tmp_path, workers) as (base, port):

        def ask(path: str, accept: str = "*/*") -> urllib3.BaseHTTPResponse:
            return urllib3.request("GET", base + path, headers={"Accept": accept}, retries=False)

        web = [
            (f"/dicomweb/studies/{uid}", DICOM_PARTS),
            (f"/dicomweb/studies/{uid}", "application/zip"),
            (f"/dicomweb{place}/frames/1", 'multipart/related; type="application/octet-stream"'),
            (f"/dicomweb{place}/rendered", "image/png"),
            (f"/wado?{instance}", "*/*"),
            (f"/dicomweb/studies/{uid}", f"{DICOM_PARTS}; transfer-syntax={RLE_LOSSLESS}"),
        ]
        for path, accept in web:
            away()
            refused = ask(path, accept)
            assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
            assert ask("/dicomweb/studies").status == 200  # queries know no difference
            assert ask(f"/dicomweb/studies/{uid}/metadata").status == 200
            site.pacs.away = False
            site.clock.now += 60
            answer = ask(path, accept)
            assert answer.status == 200, (path, answer.data)
            if accept == "application/zip":
                with ZipFile(BytesIO(answer.data)) as zipped:
                    assert {*map(zipped.read, zipped.namelist())} == {*files.values()}

        away()
        refusal = source.retrieve(asking(*study))
        assert (refusal.status, len(refusal.errors)) == (FAILURE, 2)
        assert got(port, uid) == (0, 0xA702)
        assert site.not_recalled(uid) == Hindrance.UNREACHED
        with pytest.raises(Away):
            media.entries(site.database, site.shown, [uid])
        site.pacs.away = False
        site.clock.now += 60
        assert source.retrieve(asking(*study)).status == SUCCESS

        site.rest()
        assert site.evict() == 2
        assert got(port, uid) == (2, 0)
        site.rest()
        assert site.evict() == 2
        assert len(media.entries(site.database, site.shown, [uid])) == 5
