"""Media that other systems read: DICOMDIR in a folder and in a ZIP."""

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from sqlalchemy import update

from imaging_source.media import NothingToExport, entries, write_folder, write_zip
from imaging_source.schema import INSTANCE
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import BlobCorrupt

Make = Callable[..., Dataset]
Store = Callable[..., int]


@pytest.fixture
def study(make_instance: Make, store: Store) -> str:
    """Two series of images, a report, of one patient."""
    for series, number in (("1.2.3.1", 1), ("1.2.3.1", 2), ("1.2.3.2", None)):
        store(
            make_instance(
                SpecificCharacterSet="ISO_IR 100",
                PatientName="Lefèvre^Zoé",
                SeriesInstanceUID=series,
                InstanceNumber=number,
                StudyID="S1",
            )
        )
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "18748-4", "LN", "Compte rendu"
    report = make_instance(
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Lefèvre^Zoé",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
        SeriesInstanceUID="1.2.3.3",
        Modality="SR",
        ContentDate="20240115",
        ContentTime="120000",
        CompletionFlag="COMPLETE",
        VerificationFlag="VERIFIED",
        ConceptNameCodeSequence=Sequence([code]),
    )
    del report.PixelData
    store(report)
    return str(report.StudyInstanceUID)


def opened_medium(folder: Path) -> FileSet:
    """The medium as pydicom reads it; the folder that it makes for changes is given back."""
    found = FileSet(folder / "DICOMDIR")
    found._stage["t"].cleanup()
    return found


def quiet() -> None:
    """No progress."""


def test_a_foreign_reader_finds_every_instance_by_the_dicomdir(
    database: Database, blobs: BlobStore, study: str, tmp_path: Path
) -> None:
    write_folder(entries(database, blobs, [study]), tmp_path / "cd", quiet)

    found = opened_medium(tmp_path / "cd")

    assert len(found) == 4
    for instance in found:
        data = dcmread(Path(instance.path))
        assert data.SOPInstanceUID == instance.SOPInstanceUID
        assert instance.PatientName == "Lefèvre^Zoé"
    assert found.find_values("Modality") == ["CT", "SR"]
    (report,) = found.find(Modality="SR")
    assert report.ConceptNameCodeSequence[0].CodeMeaning == "Compte rendu"
    assert report.DirectoryRecordType == "SR DOCUMENT"


def test_dcmtk_reads_the_dicomdir(
    database: Database, blobs: BlobStore, study: str, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    write_folder(entries(database, blobs, [study]), tmp_path / "cd", quiet)

    dumped = subprocess.run(
        [tool("dcmdump"), str(tmp_path / "cd" / "DICOMDIR")], capture_output=True, timeout=30
    )
    # Adds nothing, but reads all records and the files that they name.
    images = [str(path.relative_to(tmp_path / "cd")) for path in (tmp_path / "cd").rglob("IM*")]
    added = subprocess.run(
        [tool("dcmmkdir"), "+A", "+I", "-Pgp", *images], cwd=tmp_path / "cd", timeout=30
    )

    assert dumped.returncode == 0
    assert dumped.stderr == b""
    assert b"DICOM\\ST000001\\SE000001\\IM000001" in dumped.stdout
    assert added.returncode == 0


def test_a_zip_holds_the_same(
    database: Database, blobs: BlobStore, study: str, tmp_path: Path
) -> None:
    steps: list[int] = []
    files = entries(database, blobs, [study])

    write_zip(files, tmp_path / "cd.zip", lambda: steps.append(1))

    with zipfile.ZipFile(tmp_path / "cd.zip") as opened:
        assert opened.testzip() is None
        assert opened.namelist()[:3] == ["DICOMDIR", "README.TXT", "INDEX.HTM"]
        assert len(opened.namelist()) == 7
        opened.extractall(tmp_path / "cd")
    assert len(steps) == 7
    assert len(opened_medium(tmp_path / "cd")) == 4
    with pytest.raises(FileExistsError):
        write_zip(files, tmp_path / "cd.zip", quiet)


def test_what_is_rejected_or_unknown_is_on_no_medium(
    database: Database, blobs: BlobStore, study: str
) -> None:
    statement = update(INSTANCE).where(INSTANCE.c.series_instance_uid == "1.2.3.1")
    database.write(lambda connection: connection.execute(statement.values(rejection="113001")))

    assert len(entries(database, blobs, [study])) == 3 + 2
    with pytest.raises(NothingToExport, match=r"^1\.2\.3\.4$"):
        entries(database, blobs, [study, "1.2.3.4"])


def test_damage_on_the_disk_is_on_no_medium(
    database: Database, blobs: BlobStore, study: str, tmp_path: Path
) -> None:
    files = entries(database, blobs, [study])
    damaged = next(path for path in blobs.root.rglob("*") if path.is_file())
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)

    with pytest.raises(BlobCorrupt):
        write_zip(files, tmp_path / "cd.zip", quiet)

    assert list(tmp_path.glob("cd*")) == []
