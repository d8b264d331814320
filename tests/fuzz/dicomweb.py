"""DICOMweb requests: a target, then lines of headers."""

from urllib.parse import parse_qsl

from imaging_source.dicomweb.accept import first
from imaging_source.dicomweb.answer import Refusal, Request
from imaging_source.dicomweb.paths import Retrieval, resource
from imaging_source.dicomweb.query import read_query
from imaging_source.dicomweb.viewing import uri_options, viewing_options
from tests.fuzz.target import Target


def read(data: bytes) -> None:
    """Choose what to answer, then read the parameters as the resource has them."""
    target, *lines = data.decode("latin-1").split("\n")
    path, _, text = target.partition("?")
    headers = {name.strip().lower(): value for name, _, value in (x.partition(":") for x in lines)}
    request = Request(path, parse_qsl(text, keep_blank_values=True), headers, "http://x")
    assert request.takes_gzip in (True, False)
    if request.accept:
        first(request.accept, "application/dicom", "image/jpeg", "application/dicom+json")
    if path == "/wado":
        uri_options(request.query)
    elif isinstance(resource(request.path), Retrieval):
        viewing_options(request.query)
    else:
        read_query(request)


def seeds() -> list[bytes]:
    """Searches and retrievals as clients send them."""
    return [
        b"/studies?PatientID=1&StudyDate=20260101-20261231&limit=10&offset=2&fuzzymatching=true",
        b"/studies/1.2/series?00080060=CT&includefield=all&includefield=StudyDescription,00081030",
        b"/studies/1.2/series/1.3/instances?SOPInstanceUID=1.4,1.5\nAccept-Encoding: gzip;q=0.5",
        b"/studies?accept=application/dicom%2Bjson&ReferringPhysicianName=A*%5EB?\nAccept: */*",
        b"/studies/1.2/series/1.3/instances/1.4/frames/1,2/rendered?viewport=1,2,,,3,4"
        b'\nAccept: multipart/related; type="image/jpeg"; transfer-syntax=*;q=0.1, image/*;q=0.9',
        b"/studies/1.2/rendered?window=40,400,linear-exact&quality=90&annotation=patient,technique",
        b"/wado?rows=512&columns=512&region=0.1,0.1,0.9,0.9&windowCenter=40&windowWidth=400"
        b"&imageQuality=80&frameNumber=3&charset=utf-8;q=1",
    ]


TARGET = Target("dicomweb", read, (Refusal,), seeds, 25_000)
