"""The ASGI application of the service: which resource is whose work.

A request is judged and looked up as a whole before the first byte. Storing (STOW-RS) is an
application of its own, ``imaging_source.stow``, to which POST is handed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus

from imaging_source.dicomweb.answer import Answer, Refusal, Request
from imaging_source.dicomweb.exchange import Plan, Service
from imaging_source.dicomweb.metadata import metadata
from imaging_source.dicomweb.paths import Retrieval, Search, resource
from imaging_source.dicomweb.qido import DEFAULT_PAGING, Paging, Searcher
from imaging_source.dicomweb.query import read_query
from imaging_source.dicomweb.rendered import Renderer
from imaging_source.dicomweb.search import is_selective
from imaging_source.dicomweb.wado import Retriever, nothing_here
from imaging_source.variants import Variants
from soap.asgi import Application, Receive, Scope, Send
from soap.service import Observe
from storage.blobs import BlobStore
from storage.database import Database

ROOT = "/dicomweb"
"""The path below which the application is mounted."""

QIDO, WADO = "RAD-129", "RAD-107"
"""What requests are counted and logged as."""


class DicomWeb(Service):
    """The application; without ``variants`` nothing is transcoded and nothing rendered."""

    transaction = WADO

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        pool: ThreadPoolExecutor,
        *,
        public_url: str | None = None,
        paging: Paging = DEFAULT_PAGING,
        most_in_flight: int = 64,
        observe: Observe | None = None,
        variants: Variants | None = None,
        stow: Application | None = None,
    ) -> None:
        super().__init__(
            ROOT, pool, public_url=public_url, most_in_flight=most_in_flight, observe=observe
        )
        self._searcher = Searcher(database, paging)
        self._retriever = Retriever(database, blobs, variants)
        self._metadata = partial(metadata, database, blobs)
        self._stow = stow
        self._renderer = Renderer(self._retriever, variants.workers) if variants else None
        # An indexed read of a local file is shorter than a hop to a thread; a network is not.
        self._reads_inline = database.backend == "sqlite"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["method"] == "POST" and self._stow is not None:
            await self._stow(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def plan(self, request: Request) -> Plan:
        """See ``Service``."""
        target = resource(request.path)
        if isinstance(target, Search):
            query = read_query(request)
            work = partial(self._searcher.answer, target, query, request)
            quick = self._reads_inline and request.unseen is None
            return Plan(QIDO, work, quick and is_selective(target, query))
        return Plan(WADO, partial(self._retrieve, target, request))

    def _retrieve(self, target: Retrieval, request: Request) -> Answer:
        if request.hides(target.scope.study or ""):
            raise nothing_here()
        if target.view:
            return self._rendered(target, request)
        if target.what == "metadata":
            rows = self._retriever.rows(target.scope)
            return self._metadata(rows, self._retriever.corrections(target.scope), request)
        return self._retriever.retrieve(target, request)

    def _rendered(self, target: Retrieval, request: Request) -> Answer:
        if self._renderer is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "no such resource")
        return self._renderer.answer(target, request)
