"""The XDS-I.b manifest: a DICOM Key Object Selection document that lists a study.

Covers RAD TF-3 4.68.4.1.2: title (113030, DCM, "Manifest"), every series with its Retrieve
Location UID and Retrieve AE Title. National forms of it are told as data: a ``Profile``.
``write_kos`` makes the same bytes from the same manifest; ``manifest.reading`` is its counterpart.
"""

from __future__ import annotations

from manifest.key_object import key_objects, write_key_object
from manifest.model import MANIFEST, Manifest, ManifestError, ManifestInstance, ManifestSeries
from manifest.reading import read_manifest

__all__ = [
    "Manifest",
    "ManifestError",
    "ManifestInstance",
    "ManifestSeries",
    "read_manifest",
    "write_kos",
]


def write_kos(manifest: Manifest) -> bytes:
    """``manifest`` as a Part 10 file.

    Raises ManifestError for a manifest without instances or time of creation, or with an
    identifier that DICOM cannot carry.
    """
    return write_key_object(manifest, MANIFEST, key_objects(manifest))
