"""Manifests of any maker: Key Object Selections, MADO in DICOM and in FHIR."""

from manifest.fhir import write_fhir
from manifest.kos import write_kos
from manifest.mado import write_mado
from manifest.model import ManifestError
from manifest.reading import read_manifest
from tests.fuzz import samples
from tests.fuzz.target import Target


def seeds() -> list[bytes]:
    """One manifest of each family."""
    manifest = samples.manifest()
    return [write_kos(manifest), write_mado(manifest), write_fhir(manifest)]


TARGET = Target("manifest", read_manifest, (ManifestError,), seeds, 3_000)
