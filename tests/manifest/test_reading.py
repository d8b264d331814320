"""Reading manifests of any maker, and refusing what is none."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from manifest import reading
from manifest.encoding import PREAMBLE, element, sequence
from manifest.kos import Manifest, ManifestError, read_manifest, write_kos
from manifest.model import KEY_OBJECT_SELECTION, ManifestInstance, ManifestSeries, Study


def saved(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_reading_gives_back_study_and_series(manifest: Manifest) -> None:
    read = read_manifest(write_kos(manifest))

    assert read.series == manifest.series
    assert read.study == manifest.study
    assert read.created == manifest.created
    assert read.remarks == ()


def test_a_manifest_about_two_studies_is_refused(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_kos(manifest)))
    other = Dataset()
    other.StudyInstanceUID = "1.2.3.4.5"
    other.ReferencedSeriesSequence = Sequence(
        dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    )
    dataset.CurrentRequestedProcedureEvidenceSequence.append(other)

    with pytest.raises(ManifestError, match="2 studies"):
        read_manifest(saved(dataset))


def test_a_study_told_in_two_items_is_put_together(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_kos(manifest)))
    (evidence,) = dataset.CurrentRequestedProcedureEvidenceSequence
    first, second = evidence.ReferencedSeriesSequence
    evidence.ReferencedSeriesSequence = Sequence([second])
    half = Dataset()
    half.StudyInstanceUID = evidence.StudyInstanceUID
    half.ReferencedSeriesSequence = Sequence([first])
    dataset.CurrentRequestedProcedureEvidenceSequence.append(half)

    read = read_manifest(saved(dataset))

    assert set(read.series) == set(manifest.series)


def test_a_manifest_filed_in_another_study_is_read_with_a_remark(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_kos(manifest)))
    dataset.StudyInstanceUID = "1.2.3.99"

    read = read_manifest(saved(dataset))

    assert read.study_instance_uid == manifest.study_instance_uid
    assert len(read.remarks) == 1


def test_what_mado_adds_is_passed_over(manifest: Manifest) -> None:
    dataset = dcmread(BytesIO(write_kos(manifest)))
    code = dataset.ConceptNameCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator = "MADOTEMP001", "99IHE"
    library = Dataset()
    library.RelationshipType = "CONTAINS"
    library.ValueType = "CONTAINER"
    library.ContinuityOfContent = "SEPARATE"
    count = Dataset()
    count.RelationshipType = "CONTAINS"
    count.ValueType = "NUM"
    library.ContentSequence = Sequence([count])
    dataset.ContentSequence.append(library)
    dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].Modality = "CT"

    read = read_manifest(saved(dataset))

    assert read.series == manifest.series
    assert read.series[0].modality == "CT"


def test_a_file_without_preamble_is_read(manifest: Manifest) -> None:
    assert read_manifest(write_kos(manifest)[len(PREAMBLE) + 4 :]).series == manifest.series


def deflated(manifest: Manifest, body: bytes | None = None) -> bytes:
    plain = write_kos(manifest)
    (length,) = struct.unpack_from("<I", plain, 140)
    meta = b"".join(
        (
            element(0x00020002, "UI", KEY_OBJECT_SELECTION.encode()),
            element(0x00020003, "UI", b"2.25.11"),
            element(0x00020010, "UI", b"1.2.840.10008.1.2.1.99"),
        )
    )
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(plain[144 + length :] if body is None else body) + packer.flush()
    group_length = element(0x00020000, "UL", struct.pack("<I", len(meta)))
    return PREAMBLE + b"DICM" + group_length + meta + packed


def test_a_deflated_manifest_is_read(manifest: Manifest) -> None:
    assert read_manifest(deflated(manifest)).series == manifest.series


def test_a_deflated_bomb_is_refused_before_it_is_inflated(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "INFLATED_LIMIT_BYTES", 100_000)

    with pytest.raises(ManifestError, match="inflates"):
        read_manifest(deflated(manifest, body=bytes(10_000_000)))


def test_endless_nesting_is_refused() -> None:
    nested = b""
    for _ in range(5000):
        nested = sequence(0x0040A730, (nested,))
    body = element(0x00080016, "UI", KEY_OBJECT_SELECTION.encode()) + nested
    with pytest.raises(ManifestError):
        read_manifest(PREAMBLE + b"DICM" + element(0x00020010, "UI", b"1.2.840.10008.1.2.1") + body)


@pytest.mark.parametrize("name", ["CT_small.dcm", "test-SR.dcm", "image_dfl.dcm", "DICOMDIR"])
def test_other_dicom_files_are_no_manifests(name: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    with pytest.raises(ManifestError):
        read_manifest(Path(path).read_bytes())


@pytest.mark.parametrize("data", [b"", b"hello", bytes(200), b"DICM" * 100])
def test_bytes_that_are_no_dicom_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        read_manifest(data)


def test_the_refusal_does_not_quote_the_file(manifest: Manifest) -> None:
    broken = write_kos(manifest)[:700]

    with pytest.raises(ManifestError) as caught:
        read_manifest(broken)

    assert "PATTE" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 4000), at=st.integers(0, 4000), junk=st.binary(max_size=12))
def test_a_damaged_manifest_is_read_or_refused(cut: int, at: int, junk: bytes) -> None:
    whole = _WHOLE
    damaged = bytearray(whole[: len(whole) - cut % len(whole)])
    damaged[at : at + len(junk)] = junk
    with suppress(ManifestError):
        assert read_manifest(bytes(damaged)).instance_count


def _whole() -> bytes:
    series = ManifestSeries(
        series_instance_uid="1.2.3",
        retrieve_location_uid="1.9",
        instances=tuple(ManifestInstance("1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{n}") for n in "123"),
    )
    study = Study(study_instance_uid="1.2", accession_issuer_oid="1.5", accession_number="A")
    return write_kos(
        Manifest(
            sop_instance_uid="1.7",
            series_instance_uid="1.8",
            study=study,
            series=(series,),
            created=datetime(2024, 1, 1, tzinfo=UTC),
        )
    )


_WHOLE = _whole()
