"""A consumer as the kit wants one: it fetches what a manifest lists and looks at what it gets.

Called with the manifest, the source's address and identifier, and a folder. With the word
``credulous`` it believes the status.
"""

import sys
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from manifest.kos import read_manifest
from manifest.model import Manifest
from soap.client import SoapClient
from transactions.iti_43 import DocumentRequest
from transactions.rad_69 import (
    RAD_69,
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)

SYNTAX = "1.2.840.10008.1.2.1"


def is_right(file: bytes, uid: str, study: str) -> bool:
    """Whether a file is whole and is the instance that it is handed over as."""
    image = dcmread(BytesIO(file))
    frames = int(image.get("NumberOfFrames", 1))
    size = image.Rows * image.Columns * image.BitsAllocated // 8 * frames
    said = (image.SOPInstanceUID, image.StudyInstanceUID, image.file_meta.TransferSyntaxUID)
    return said == (uid, study, SYNTAX) and len(image.get("PixelData", b"")) == size


def request_of(listed: Manifest, source: str) -> RetrieveImagingDocumentSetRequest:
    series = tuple(
        SeriesRequest(
            one.series_instance_uid,
            tuple(DocumentRequest(source, named.sop_instance_uid) for named in one.instances),
        )
        for one in listed.series
    )
    study = StudyRequest(listed.study_instance_uid, series)
    return RetrieveImagingDocumentSetRequest((study,), (SYNTAX,))


def main(file: str, url: str, source: str, folder: str, how: str = "careful") -> bool:
    listed = read_manifest(Path(file).read_bytes())
    client = SoapClient()
    answer = client.call(url, RAD_69, request_of(listed, source))
    wanted = {one.sop_instance_uid for series in listed.series for one in series.instances}
    for document in answer.documents:
        uid, content = document.request.document_unique_id, b"".join(document.content.chunks())
        Path(folder, f"{uid}.dcm").write_bytes(content)
        if is_right(content, uid, listed.study_instance_uid):
            wanted.discard(uid)
    client.close()
    return how == "credulous" or not wanted


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:]) else 1)
