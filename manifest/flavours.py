"""The families of manifests: what each is called, and how an XDS entry tells them apart."""

from __future__ import annotations

from enum import StrEnum

from metadata.datatypes import LocalizedString
from metadata.identifiers import (
    DICOM_MIME_TYPE,
    DICOM_UID_SCHEME,
    FHIR_JSON_MIME_TYPE,
    KOS_FORMAT_CODE,
    MADO_FHIR_FORMAT_CODE,
    MADO_FORMAT_SCHEME,
)
from metadata.model import Code, DocumentEntry

_KOS = Code(
    KOS_FORMAT_CODE, DICOM_UID_SCHEME, LocalizedString("Key Object Selection Document", "en")
)
_FHIR = Code(MADO_FHIR_FORMAT_CODE, MADO_FORMAT_SCHEME, LocalizedString("MADO FHIR Manifest", "en"))


class Flavour(StrEnum):
    """A family of manifests."""

    XDS_I = "xds-i"
    """RAD TF-3 4.68: every imaging document consumer reads it."""
    MADO_KOS = "mado-kos"
    """IHE RAD MADO, the DICOM form: strict readers of XDS-I.b refuse it."""
    MADO_FHIR = "mado-fhir"
    """IHE RAD MADO, the FHIR form."""
    NATIONAL = "national"
    """XDS-I.b with what a country adds (``manifest.profile``)."""

    @property
    def mime_type(self) -> str:
        """The media type of its documents."""
        return FHIR_JSON_MIME_TYPE if self is Flavour.MADO_FHIR else DICOM_MIME_TYPE

    @property
    def format_code(self) -> Code:
        """formatCode of its entries: one for all forms that are DICOM objects."""
        return _FHIR if self is Flavour.MADO_FHIR else _KOS


def is_manifest(entry: DocumentEntry) -> bool:
    """Whether an entry's document is an imaging manifest of any family, by its formatCode."""
    code = entry.format_code
    return code is not None and code.code in (KOS_FORMAT_CODE, MADO_FHIR_FORMAT_CODE)
