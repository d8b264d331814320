"""Large objects in parts: created once, given up as a whole, swept when nobody finishes them.

A part is sent with its SHA-256, the whole comes to exist in one step, and only if no object has
its key (``If-None-Match: *``). obstore offers neither that nor the list of unfinished uploads.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import urllib3
from lxml import etree

from storage.bucket import Bucket, SignedRequests, judge
from storage.errors import BlobStoreUnavailable, StorageError, from_os_error

# The size of a part: 10,000 parts, the most that S3 allows, come to 160 GB, more than a message
# may have. What is smaller goes in one piece, which every store takes up to 5 GB.
PART_BYTES = 16 * 1024 * 1024

# Parts under way at once in this process: they hide the latency of the store, and hold memory.
PARTS_AT_ONCE = 4

_senders = ThreadPoolExecutor(PARTS_AT_ONCE, "part")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload that was begun and neither completed nor aborted; ``begun_at`` in seconds."""

    key: str
    upload_id: str
    begun_at: float


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    etag: str
    checksum: str


class MultipartUploads:
    """The uploads in parts to one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._requests = SignedRequests(bucket)

    def create(self, name: str, file: Path, size: int, *, replace: bool) -> bool:
        """Send a file under ``name``; False if there is an object, unless it is to be replaced.

        Any failure aborts the upload and raises a StorageError.
        """
        key = self._bucket.key(name)
        upload_id = self._begin(key)
        try:
            numbers = range(1, -(-size // PART_BYTES) + 1)
            sending = [_senders.submit(self._send, key, upload_id, file, n) for n in numbers]
            try:
                parts = [future.result() for future in sending]
            finally:
                for future in sending:
                    future.cancel()
            created = self._complete(key, upload_id, parts, replace)
        except BaseException:
            with suppress(StorageError):  # a sweep does it later
                self.abort(key, upload_id)
            raise
        if not created:
            self.abort(key, upload_id)
        return created

    def abort(self, key: str, upload_id: str) -> None:
        """Give an upload up; does nothing if it is over."""
        answer = self._requests.send("DELETE", key, {"uploadId": upload_id})
        if answer.status != 404:
            _expect(answer, 204, f"aborting the upload of {key}")

    def unfinished(self) -> Iterator[Unfinished]:
        """The uploads below our prefix that are not over."""
        asked = {"uploads": "", "prefix": self._bucket.key("")}
        while True:
            answer = self._requests.send("GET", "", asked)
            page = _expect(answer, 200, "listing unfinished uploads")
            for upload in page.iterfind("{*}Upload"):
                begun = datetime.fromisoformat(_text(upload, "Initiated"))
                yield Unfinished(_text(upload, "Key"), _text(upload, "UploadId"), begun.timestamp())
            if _text(page, "IsTruncated") != "true":
                return
            asked["key-marker"] = _text(page, "NextKeyMarker")
            asked["upload-id-marker"] = _text(page, "NextUploadIdMarker")

    def checksums_are_judged(self, name: str) -> bool:
        """Whether the store refuses bytes whose checksum is wrong; if not, they are there now."""
        headers = {"x-amz-checksum-sha256": _checksum(b"other bytes")}
        answer = self._requests.send("PUT", self._bucket.key(name), {}, b"probe", headers)
        return answer.status == 400

    def _begin(self, key: str) -> str:
        headers = {"x-amz-checksum-algorithm": "SHA256"} if self._bucket.checksums else {}
        answer = self._requests.send("POST", key, {"uploads": ""}, headers=headers)
        return _text(_expect(answer, 200, f"beginning the upload of {key}"), "UploadId")

    def _send(self, key: str, upload_id: str, file: Path, number: int) -> _Part:
        data = _read_part(file, number)
        checksum = _checksum(data)
        headers = {"x-amz-checksum-sha256": checksum} if self._bucket.checksums else {}
        query = {"partNumber": str(number), "uploadId": upload_id}
        answer = self._requests.send("PUT", key, query, data, headers)
        _expect(answer, 200, f"sending part {number} of {key}")
        return _Part(number, answer.headers.get("etag", ""), checksum)

    def _complete(self, key: str, upload_id: str, parts: list[_Part], replace: bool) -> bool:
        headers = {} if replace else {"if-none-match": "*"}
        body = _list_of(parts, self._bucket.checksums)
        answer = self._requests.send("POST", key, {"uploadId": upload_id}, body, headers)
        if answer.status == 412:
            return False
        done = _expect(answer, 200, f"completing the upload of {key}")
        # S3 may begin its answer before it knows how the matter ends.
        if etree.QName(done).localname == "Error":
            raise judge(500, _text(done, "Code"), f"completing the upload of {key}")
        return True


def _checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _read_part(file: Path, number: int) -> bytes:
    try:
        with open(file, "rb", buffering=0) as opened:
            return os.pread(opened.fileno(), PART_BYTES, (number - 1) * PART_BYTES)
    except OSError as error:
        raise from_os_error(error, "reading a temporary file") from error


def _list_of(parts: list[_Part], checksums: bool) -> bytes:
    root = etree.Element("CompleteMultipartUpload")
    for part in parts:
        element = etree.SubElement(root, "Part")
        etree.SubElement(element, "PartNumber").text = str(part.number)
        etree.SubElement(element, "ETag").text = part.etag
        if checksums:
            etree.SubElement(element, "ChecksumSHA256").text = part.checksum
    return etree.tostring(root)


def _expect(answer: urllib3.BaseHTTPResponse, status: int, doing: str) -> etree._Element:
    """The answer's document, or an empty one; raises a StorageError for another status."""
    if answer.status != status:
        raise judge(answer.status, answer.data.decode("utf-8", "replace"), doing)
    if not answer.data:
        return etree.Element("nothing")
    try:
        # The store is a party to the node, but its answer comes over a network.
        return etree.fromstring(answer.data, etree.XMLParser(resolve_entities=False))
    except etree.XMLSyntaxError as error:
        raise BlobStoreUnavailable(f"{doing}: the answer is no XML") from error


def _text(element: etree._Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""
