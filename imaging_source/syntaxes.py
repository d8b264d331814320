"""The transfer syntaxes of images and what is done with each (PS3.5 Annex A, PS3.6 Table A-1)."""

from __future__ import annotations

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

# Data sets that are deflated (PS3.5 A.5; of JPIP, A.7 and its HTJ2K counterpart), and what each is
# once it is inflated: see ``imaging_source.data_sets``.
INFLATED = {
    DEFLATED: EXPLICIT_VR_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.4.95": "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.205": "1.2.840.10008.1.2.4.204",
}

NATIVE = frozenset(
    {IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, DEFLATED, EXPLICIT_VR_BIG_ENDIAN}
)
JPEG_LOSSY = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
JPEG = JPEG_LOSSY | {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
JPEG_LS = frozenset({JPEG_LS_LOSSLESS, "1.2.840.10008.1.2.4.81"})
HTJ2K = frozenset({HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, "1.2.840.10008.1.2.4.203"})
JPEG_2000 = HTJ2K | {JPEG_2000_LOSSLESS, "1.2.840.10008.1.2.4.91"}

# What stored images can be decoded from.
DECODED = NATIVE | {RLE_LOSSLESS} | JPEG | JPEG_LS | JPEG_2000

# What can be made, the cheapest first: where a peer takes several, that one is made.
MADE = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    HTJ2K_LOSSLESS,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    DEFLATED,
    JPEG_2000_LOSSLESS,
)
