"""What values in ``kosmos.toml`` may be, and what every section of it is (``node.config``)."""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from metadata.datatypes import LocalizedString, is_oid
from metadata.model import Code
from node.texts import tr

Listener = Literal["http", "mllp", "dicom", "syslog"]
LISTENERS: tuple[Listener, ...] = get_args(Listener)


def zone_of(name: str) -> tzinfo:
    """The zone called ``name``. UTC needs no zone files. Raises ZoneInfoNotFoundError."""
    return UTC if name == "UTC" else ZoneInfo(name)


def _time_zone(name: str) -> str:
    try:
        zone_of(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(tr("{name} is no IANA time zone, as Europe/Paris is", name=name)) from None
    return name


def _with_a_port(url: str) -> str:
    try:
        urlsplit(url).port  # noqa: B018 (it is the reading that judges)
    except ValueError:
        raise ValueError(tr("{url} has no port below 65536", url=url)) from None
    return url


def _plain_hex(value: object) -> object:
    """A fingerprint as openssl prints it, without colons and in lower case."""
    return value.replace(":", "").lower() if isinstance(value, str) else value


def _oid_of(value: object) -> object:
    """``urn:oid:`` before an OID is allowed in the file and dropped here."""
    return value.removeprefix("urn:oid:") if isinstance(value, str) else value


def _an_oid(value: str) -> str:
    if not is_oid(value):
        raise ValueError(tr("{value} is no OID, as 1.2.250.1.213 is", value=repr(value)))
    return value


# 0 lets the operating system choose: for tests.
Port = Annotated[int, Field(ge=0, le=65535)]
# DICOM PS3.5 6.2, VR AE: at most 16 characters, no backslash.
AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
# dicoms is DICOM over TLS; the AE title is the key of the table.
_DICOM_URL = r"^dicoms?://(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):[0-9]{1,5}$"
DicomUrl = Annotated[str, Field(pattern=_DICOM_URL), AfterValidator(_with_a_port)]
TokenUri = Annotated[str, Field(pattern=r"^pkcs11:")]
# The same with the AE title in it, where the key is something else.
_DICOM_PLACE = r"^dicoms?://[^\s/@?#\\]{1,16}@(\[[0-9a-fA-F:]+\]|[^\s/:@\[\]]+):[0-9]{1,5}$"
DicomPlace = Annotated[str, Field(pattern=_DICOM_PLACE), AfterValidator(_with_a_port)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]
AuditTarget = Annotated[
    str, Field(pattern=r"^(tls|tcp|udp)://[^\s/]+$"), AfterValidator(_with_a_port)
]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
# A bucket's name as S3 allows it, and a prefix that every store takes.
BucketUrl = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w./-]*)?$")]
Oid = Annotated[str, BeforeValidator(_oid_of), AfterValidator(_an_oid)]


class Section(BaseModel):
    """A table of the file: strict about its keys, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeValue(Section):
    """A coded value."""

    code: Text
    """The code."""
    scheme: Text
    """The coding scheme, usually an OID."""
    display_name: Text
    """What a person reads."""

    @property
    def coded(self) -> Code:
        """The same as metadata carry it."""
        return Code(self.code, self.scheme, LocalizedString(self.display_name))


LOINC = "2.16.840.1.113883.6.1"
Sha256 = Annotated[str, BeforeValidator(_plain_hex), Field(pattern=r"^[0-9a-f]{64}$")]
MIB = 1024 * 1024
GIB = 1024 * MIB
