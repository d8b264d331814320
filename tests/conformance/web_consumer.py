"""A consumer over WADO-RS as the kit wants one; ``credulous`` believes a 200, ``patient`` waits.

Called with the manifest, the base of DICOMweb or the address of WADO-URI, and a folder.
"""

import sys
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

SYNTAX = "1.2.840.10008.1.2.1"
MOST_BYTES, MOST_SECONDS = 1_000_000, 2.0


def read(answer: HTTPResponse) -> bytes:
    """The body, within limits."""
    body, end = b"", time.monotonic() + (1e9 if "patient" in sys.argv else MOST_SECONDS)
    while piece := answer.read1(65536):
        body += piece
        if len(body) > MOST_BYTES or time.monotonic() > end:
            raise HTTPException("too much, or too slow")
    if answer.length:
        raise HTTPException("broken off")
    return body


def fetched(base: str, study: str, series: str, instance: str) -> bytes:
    place = urlsplit(base)
    connection = HTTPConnection(place.netloc, timeout=MOST_SECONDS)
    path = f"{place.path}/studies/{study}/series/{series}/instances/{instance}"
    if place.path == "/wado":
        uids = {"studyUID": study, "seriesUID": series, "objectUID": instance}
        more = {"requestType": "WADO", "contentType": "application/dicom", "transferSyntax": SYNTAX}
        path = f"/wado?{urlencode(more | uids)}"
    connection.request(
        "GET", path, headers={"Accept": f"application/dicom; transfer-syntax={SYNTAX}"}
    )
    answer = connection.getresponse()
    if answer.status != 200:
        raise HTTPException(str(answer.status))
    return read(answer)


def is_right(file: bytes, study: str, instance: str) -> bool:
    try:
        image = dcmread(BytesIO(file))
        size = image.Rows * image.Columns * image.BitsAllocated // 8
        size *= int(image.get("NumberOfFrames", 1))
    except (InvalidDicomError, AttributeError):
        return False
    said = (image.SOPInstanceUID, image.StudyInstanceUID, image.file_meta.TransferSyntaxUID)
    return said == (instance, study, SYNTAX) and len(image.get("PixelData", b"")) == size


def listed(manifest: Dataset) -> list[tuple[str, str, str]]:
    return [
        (study.StudyInstanceUID, series.SeriesInstanceUID, one.ReferencedSOPInstanceUID)
        for study in manifest.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]


def main(file: str, base: str, folder: str, how: str = "careful") -> bool:
    complete = True
    for study, series, instance in listed(dcmread(file)):
        try:
            content = fetched(base, study, series, instance)
        except (OSError, HTTPException):
            return False
        Path(folder, f"{instance}.dcm").write_bytes(content)
        complete &= is_right(content, study, instance)
    return how == "credulous" or complete


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:]) else 1)
