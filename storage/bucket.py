"""Where blobs lie on an object store that speaks S3, and the requests signed for it.

Most requests go through obstore; those that it has no words for (``storage.multipart``) are
signed here (AWS Signature Version 4) and sent by urllib3. Buckets are addressed by path, which
every store understands.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import urllib3
from obstore.store import S3Store
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from storage.errors import BlobStoreBusy, BlobStoreUnavailable, OutOfSpace, StorageError

if TYPE_CHECKING:
    from obstore.store import ClientConfig

# A store that takes longer to accept a connection, or is silent for longer within an answer, is
# taken for gone: what waits for it holds a worker meanwhile.
CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 30.0

# Tries after the first one, of requests that may be sent again, and when to stop trying.
RETRIES = 2
RETRY_SECONDS = 10.0

_URL = re.compile(r"s3://(?P<name>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>[\w./-]*))?")
_EMPTY = hashlib.sha256(b"").hexdigest()

# Stores say that they are full with 507 (RFC 4918 11.5), or in a code of their own.
_INSUFFICIENT_STORAGE = 507
_FULL = re.compile(r"<Code>\w*(QuotaExceeded|StorageFull|InsufficientStorage)")
_STATUS = re.compile(r"status code: (\d{3})")
# Answers that ask for patience (RFC 9110 15.5.9, RFC 6585 4); all of 5xx do, too.
_PATIENCE = frozenset({408, 429})


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, the prefix of our keys in it, and how its store is reached.

    ``endpoint`` is the store's base URL, ``trust`` PEM certificates trusted besides those of the
    system. ``checksums`` tells whether the store takes SHA-256 checksums beside the bytes.
    """

    name: str
    prefix: str
    endpoint: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    trust: str | None = None
    checksums: bool = True

    @staticmethod
    def split(url: str) -> tuple[str, str]:
        """Name and prefix of ``s3://name/prefix``; raises ValueError."""
        match = _URL.fullmatch(url)
        if match is None:
            raise ValueError("write s3://bucket or s3://bucket/prefix")
        return match["name"], (match["prefix"] or "").strip("/")

    def objects(self, *, once: bool = False) -> S3Store:
        """The store as obstore sees it; keys count from the prefix. ``once``: no second try."""
        return S3Store(
            self.name,
            prefix=self.prefix or None,
            endpoint=self.endpoint,
            region=self.region,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            config={"checksum_algorithm": "SHA256"} if self.checksums else {},
            virtual_hosted_style_request=False,
            client_options=self._client_options(),
            retry_config={
                "max_retries": 0 if once else RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            },
        )

    def _client_options(self) -> ClientConfig:
        options: ClientConfig = {
            "allow_http": self.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=SILENCE_SECONDS),
            # For the whole of it: a large document takes the time it takes.
            "timeout": timedelta(days=1),
        }
        if self.trust:
            options["root_certificate"] = self.trust
        return options

    def key(self, name: str) -> str:
        """``name`` below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name


def failed(error: Exception, doing: str) -> StorageError:
    """The StorageError for what obstore raised while ``doing`` something; no detail of it."""
    text = str(error)
    found = _STATUS.search(text)
    return judge(int(found[1]) if found else None, text, doing)


def judge(status: int | None, text: str, doing: str) -> StorageError:
    """The StorageError for an answer of the store, or for none (``status`` None)."""
    said = f"{doing}: the object store answers {status or 'nothing'}"
    if status == _INSUFFICIENT_STORAGE or _FULL.search(text):
        return OutOfSpace(said)
    if status is None or status >= 500 or status in _PATIENCE:
        return BlobStoreBusy(said)
    return BlobStoreUnavailable(said)


class SignedRequests:
    """Requests to one bucket, each signed for itself; safe for use by many threads."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        context = create_urllib3_context()
        context.load_default_certs()
        if bucket.trust:
            context.load_verify_locations(cadata=bucket.trust)
        self._pool = urllib3.PoolManager(
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=SILENCE_SECONDS),
            ssl_context=context,
        )

    def send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """The answer, whatever its status. Raises BlobStoreBusy when there is none."""
        url, signed = self._sign(method, key, query, body, headers or {})
        try:
            return self._pool.request(method, url, body=body or None, headers=signed)
        except HTTPError as error:
            raise judge(None, "", f"{method} {key}") from error

    def _sign(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes,
        headers: Mapping[str, str],
    ) -> tuple[str, dict[str, str]]:
        """URL and headers of a signed request (AWS Signature Version 4, by header)."""
        bucket = self._bucket
        base = urlsplit(bucket.endpoint)
        path = quote("/".join(part for part in (base.path.strip("/"), bucket.name, key) if part))
        asked = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}"
            for name, value in sorted(query.items())
        )
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        payload = hashlib.sha256(body).hexdigest() if body else _EMPTY
        given = {
            "host": base.netloc,
            "x-amz-content-sha256": payload,
            "x-amz-date": now,
            **{name.lower(): value for name, value in headers.items()},
        }
        authorization = self._authorize(method, f"/{path}", asked, given, payload)
        url = f"{base.scheme}://{base.netloc}/{path}{'?' if asked else ''}{asked}"
        return url, {**given, "authorization": authorization}

    def _authorize(
        self, method: str, path: str, query: str, headers: Mapping[str, str], payload: str
    ) -> str:
        names = sorted(headers)
        canonical = "\n".join(
            (
                method,
                path,
                query,
                *(f"{name}:{headers[name].strip()}" for name in names),
                "",
                ";".join(names),
                payload,
            )
        )
        moment = headers["x-amz-date"]
        scope = f"{moment[:8]}/{self._bucket.region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(
            self._signing_key(scope),
            f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}".encode(),
            "sha256",
        ).hex()
        return (
            f"AWS4-HMAC-SHA256 Credential={self._bucket.access_key}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )

    def _signing_key(self, scope: str) -> bytes:
        key = f"AWS4{self._bucket.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key
