"""MIME packages with XOP: a content type in the first line, the body after it."""

from soap.faults import MessageError
from soap.limits import Limits
from soap.media import parse_media_type
from soap.message import ContentError, Incoming, MemorySpool
from soap.mtom import Assembly, Ledger
from soap.xml import parse
from tests.fuzz.target import Target

_LIMITS = Limits(envelope=4096, parts=20)
_TYPE = b'multipart/related; type="application/xop+xml"; start="<r>"; boundary="b"\n'
_INCLUDE = (
    b'<d><a><x:Include xmlns:x="http://www.w3.org/2004/08/xop/include" href="cid:1%40x"/></a>'
    b"<a>QUJD</a></d>"
)
_ROOT = b"--b\r\nContent-Type: application/xop+xml\r\nContent-ID: <r>\r\n\r\n" + _INCLUDE + b"\r\n"
_PART = b"--b\r\nContent-ID: <1@x>\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n"


def read(data: bytes) -> None:
    """Assemble the package, in pieces, then ask for each document."""
    head, _, body = data.partition(b"\n")
    assembly = Assembly(parse_media_type(head.decode("latin-1")), Ledger(MemorySpool), _LIMITS)
    step = 1 + len(data) % 61
    for start in range(0, len(body), step):
        assembly.feed(body[start : start + step])
    root, attachments = assembly.finish()
    message = Incoming(parse(root), attachments=attachments)
    for element in message.body:
        message.content(element)


def seeds() -> list[bytes]:
    """Packages in the forms that senders give them."""
    parts = [
        (b"binary", b"one\r\n--bc"),
        (b"base64", b"b25l"),
        (b"quoted-printable", b"o=6Ee=\r\n"),
    ]
    whole = [_TYPE + _ROOT + _PART % part + b"--b--\r\n" for part in parts]
    return [*whole, whole[0].replace(b"\r\n", b"\n"), b"multipart/related;boundary=b\n\r\n" + _ROOT]


TARGET = Target("mime", read, (MessageError, ContentError), seeds, 6_000)
