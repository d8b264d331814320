"""An archive that is asked by QIDO-RS, or fetched from by WADO-RS (PS3.18 10.6, 10.4, as user).

A study is asked for in one answer and taken in while it arrives, part by part, as by STOW-RS: each
instance is durable and indexed whether or not the rest comes. That a study begins to come is
recorded before its first byte is read, and then what came; a question once it was answered.
Redirections are not followed.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from imaging_source.archives import Held
from imaging_source.evicted import INSTANCE_AVAILABILITY, ONLINE
from imaging_source.header import is_uid
from imaging_source.intake import Door
from imaging_source.ledger import About, End, Ledger, NoLedger, Question, Service, Transfers
from imaging_source.requestor import Unreachable
from imaging_source.stow import Storing, Unsupported
from security.assertions.http import authorization_at
from soap.client import connections
from soap.faults import MessageError
from soap.media import MULTIPART, parse_media_type
from soap.multipart import MultipartParser

_JSON = "application/dicom+json"
_IMAGES = f'{MULTIPART}; type="application/dicom"; transfer-syntax=*'

_STUDY, _INSTANCES_OF_STUDY, _INSTANCE = "0020000D", "00201208", "00080018"
_AVAILABILITY = f"{INSTANCE_AVAILABILITY:08X}"

# Seconds for a connection; without a byte: who reads from tape says nothing for minutes.
CONNECT_SECONDS, READ_SECONDS = 5.0, 600.0
# Hits asked for at once, and of one question in all: more than any study has instances.
PAGE, MOST_HITS = 1000, 200_000
# A hit with what was not asked for has some kilobytes.
_PAGE_BYTES = 64 * 1024 * 1024
# Bytes asked of the socket at once.
_PIECE = 256 * 1024


class _Failed(Unreachable):
    """A question was answered with a status of failure: others may be answered."""


class WebArchive:
    """Both sides of the archive ``title`` at the DICOMweb address ``url``.

    What is fetched goes through ``door``; ``ledger`` records it, and what is asked. ``token`` gives
    an assertion of who asks (ITI-40), or nothing.
    """

    def __init__(
        self,
        title: str,
        url: str,
        door: Door,
        *,
        ledger: Ledger | None = None,
        ssl_context: ssl.SSLContext | None = None,
        token: Callable[[], str] = str,
        silence: float = READ_SECONDS,
    ) -> None:
        self.title = title
        self.address = url.rstrip("/")
        self._door = door
        self._ledger = ledger or NoLedger()
        self._end = End(title, urlsplit(url).hostname or "")
        self._token = token
        self._pool = connections(
            ssl_context,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=silence),
            retries=False,
        )

    @contextmanager
    def asking(self) -> Iterator[WebArchive]:
        """See ``Questions``."""
        yield self

    def studies(self, first: str) -> list[Held]:
        """See ``Asking``."""
        query = {"StudyDate": f"{first}-", "includefield": _INSTANCES_OF_STUDY}
        return [
            Held(uid, count if isinstance(count := _value(hit, _INSTANCES_OF_STUDY), int) else None)
            for uid, hit in self._hits("/studies", query, _STUDY).items()
        ]

    def instances(self, study: str) -> set[str]:
        """See ``Asking``; none where it refuses, so that it can be asked of the next study."""
        return set(self._images(study, {}))

    def online(self, study: str) -> set[str]:
        """See ``Asking``; none where it refuses."""
        images = self._images(study, {"includefield": _AVAILABILITY})
        return {uid for uid, hit in images.items() if _value(hit, _AVAILABILITY) in (None, ONLINE)}

    def _images(self, study: str, query: dict[str, str]) -> dict[str, dict[str, Any]]:
        with suppress(_Failed):
            return self._hits(f"/studies/{study}/instances", query, _INSTANCE)
        return {}

    def fetch(self, study: str) -> None:
        """See ``Supply``; StorageError when there is no room, Unreachable for what did not come
        whole or is not taken in."""
        storing = Storing(self._door, study, self.title)
        with self._answer(f"/studies/{study}", _IMAGES) as answer:
            media = parse_media_type(answer.headers.get("content-type", ""))
            if answer.status != 200 or media.name != MULTIPART:
                raise Unreachable(f"{self.title} answers {answer.status}, {media.name[:80]!r}")
            transfers = Transfers(self._ledger, Service.FETCH_BY_WEB, self._end)
            transfers.begin(About(study))
            try:
                self._take_in(answer, media.parameters.get("boundary", ""), storing)
            finally:
                storing.abort()
                storing.finish()
                for one in storing.results:
                    sop_class = one.meta.sop_class_uid if one.meta else ""
                    transfers.count(one.about, sop_class, one.reason == 0)
                transfers.close()
        if missed := sum(one.reason != 0 for one in storing.results):
            raise Unreachable(f"{missed} of {len(storing.results)} instances are not taken in")

    def _take_in(self, answer: urllib3.BaseHTTPResponse, boundary: str, storing: Storing) -> None:
        parser = MultipartParser(boundary)
        while piece := answer.read1(_PIECE, decode_content=False):
            storing.feed(parser.feed(piece))
        storing.feed(parser.close())

    def _hits(self, path: str, query: dict[str, str], key: str) -> dict[str, dict[str, Any]]:
        """All hits by their UID, page by page, until one brings nothing new."""
        found: dict[str, dict[str, Any]] = {}
        while len(found) < MOST_HITS:
            paged = query | {"limit": str(PAGE), "offset": str(len(found))}
            page = self._page(f"{path}?{urlencode(paged)}")
            new = {uid: hit for hit in page if is_uid(uid := str(_value(hit, key)))}
            if new.keys() <= found.keys():
                return found
            found |= new
        raise Unreachable(f"{self.title} has more than {MOST_HITS} answers to a question")

    def _page(self, path: str) -> list[Any]:
        question = Question(path.encode())
        with self._ledger.asking(self._end, question), self._answer(path, _JSON) as answer:
            if answer.status == 204:
                return []
            if answer.status != 200:
                raise _Failed(f"{self.title} answers {answer.status} to a question")
            data = answer.read(_PAGE_BYTES)
        try:
            page = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Unreachable(f"{self.title} answers what is no DICOM JSON") from error
        if not isinstance(page, list):
            raise Unreachable(f"{self.title} answers what is no list of hits")
        return page

    @contextmanager
    def _answer(self, path: str, accept: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """The answer to a request; whatever goes wrong with it becomes Unreachable."""
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        headers |= authorization_at(self.address, self._token)
        try:
            answer = self._pool.request(
                "GET", self.address + path, headers=headers, redirect=False, preload_content=False
            )
            try:
                yield answer
                answer.drain_conn()
                answer.release_conn()
            finally:
                answer.close()
        except (HTTPError, OSError) as error:
            place = urlsplit(self.address).hostname
            raise Unreachable(f"no whole answer from {place}: {type(error).__name__}") from error
        except (MessageError, Unsupported) as error:
            raise Unreachable(f"{self.title} answers what is no multipart of images") from error


def _value(hit: Any, tag: str) -> object:
    """The first value of an attribute; None where there is none."""
    try:
        return hit[tag]["Value"][0]
    except (KeyError, IndexError, TypeError):
        return None
