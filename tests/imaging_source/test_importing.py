"""Import of media: everything that is one is taken in once, the rest is told; hostile media too."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from sqlalchemy import Table, select

from imaging_source.importing import Imported, Importer, Journal, TooLarge, sources
from imaging_source.intake import Intake
from imaging_source.reconciliation import Identities, Identity, read_table
from imaging_source.schema import INSTANCE, STUDY
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import DatabaseBusy

Make = Callable[..., Dataset]
ROOM = 10**9


def rows(database: Database, table: Table) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


@pytest.fixture
def take(intake: Intake, tmp_path: Path) -> Callable[..., Imported]:
    """Imports what is at a path, as the command would."""

    def taken(path: Path, whose: Identities | None = None) -> Imported:
        journal = Journal.of(path, tmp_path / "journals")
        done = None
        try:
            with sources(path, ROOM) as files:
                importer = Importer(intake, whose or Identities(), tmp_path / "aside", journal)
                done = importer.run(files, lambda: None)
        finally:
            journal.close(complete=done is not None and not done.reasons)
        return done

    return taken


@pytest.fixture
def medium(tmp_path: Path, make_instance: Make) -> Path:
    """A folder as media have it: images in folders, one twice, and what is no image."""
    folder = tmp_path / "cd"
    for number in range(3):
        place = folder / "DICOM" / f"SE{number}"
        place.mkdir(parents=True)
        made = make_instance(InstanceNumber=number, SeriesInstanceUID=f"1.2.3.{number}")
        made.save_as(place / "IM1", enforce_file_format=True)
        if number == 0:
            made.save_as(folder / "copy.dcm", enforce_file_format=True)
    (folder / "AUTORUN.INF").write_text("[autorun]")
    (folder / "outside").symlink_to("/etc/hostname")
    (folder / "cut.dcm").write_bytes((folder / "copy.dcm").read_bytes()[:300])
    return folder


def test_every_image_of_a_folder_is_taken_in_once(
    medium: Path, take: Callable[..., Imported], database: Database, tmp_path: Path
) -> None:
    done = take(medium)

    assert done.counts == {"stored": 3, "duplicate": 1, "not DICOM": 1, "failed": 1}
    assert list(done.reasons) == ["cut.dcm"]
    assert len(rows(database, INSTANCE)) == 3
    (note,) = (tmp_path / "aside").glob("*.json")
    assert json.loads(note.read_text())["file"] == "cut.dcm"
    assert note.with_suffix("").read_bytes() == (medium / "cut.dcm").read_bytes()


def test_a_dicomdir_stands_for_its_folder(medium: Path, take: Callable[..., Imported]) -> None:
    (medium / "DICOMDIR").write_bytes(b"anything")
    assert take(medium / "DICOMDIR").counts["stored"] == 3
    assert take(medium / "copy.dcm").counts == {"duplicate": 1}


def test_an_archive_is_imported_and_its_names_are_no_paths(
    medium: Path, take: Callable[..., Imported], database: Database, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "cd.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in enumerate(sorted(medium.rglob("IM1"))):
            archive.write(file, ["../../escape", "/etc/escape", "a/b"][number])
        archive.write(medium / "cut.dcm", "../../cut")
    before = sorted(tmp_path.rglob("*escape*"))

    done = take(tmp_path / "cd.zip")

    assert done.counts == {"stored": 3, "failed": 1}
    assert sorted(tmp_path.rglob("*escape*")) == before == []
    assert not Path("/etc/escape").exists()
    assert len(rows(database, INSTANCE)) == 3


def test_a_deflated_file_is_taken_in_as_it_is(
    take: Callable[..., Imported], make_instance: Make, database: Database, tmp_path: Path
) -> None:
    deflated = make_instance()
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    (tmp_path / "cd").mkdir()
    deflated.save_as(tmp_path / "cd" / "report.dcm", enforce_file_format=True)

    assert take(tmp_path / "cd").counts == {"stored": 1}

    (row,) = rows(database, INSTANCE)
    assert row["transfer_syntax_uid"] == DeflatedExplicitVRLittleEndian


def test_an_archive_that_claims_more_than_there_is_room_for_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 100_000

    with pytest.raises(TooLarge), sources(tmp_path / "bomb.zip", 1_000_000):
        pass


def test_a_damaged_archive_fails_file_by_file(
    medium: Path, take: Callable[..., Imported], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "cd.zip", "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(medium.rglob("IM1")):
            archive.write(file, str(file.relative_to(medium)))
        where = archive.infolist()[1].header_offset
    data = bytearray((tmp_path / "cd.zip").read_bytes())
    data[where + 500] ^= 0xFF
    (tmp_path / "cd.zip").write_bytes(data)

    assert take(tmp_path / "cd.zip").counts == {"stored": 2, "failed": 1}


def test_an_import_that_broke_off_goes_on_where_it_was(
    medium: Path,
    take: Callable[..., Imported],
    intake: Intake,
    monkeypatch: pytest.MonkeyPatch,
    database: Database,
) -> None:
    monkeypatch.setattr("imaging_source.importing.GROUP", 1)
    index, calls = intake.index, []

    def breaks(arrived: Any) -> Any:
        calls.append(arrived)
        if len(calls) == 3:
            raise DatabaseBusy("gone")
        return index(arrived)

    with monkeypatch.context() as broken:
        broken.setattr(intake, "index", breaks)
        with pytest.raises(DatabaseBusy):
            take(medium)
    assert len(rows(database, INSTANCE)) == 2

    done = take(medium)

    assert done.counts["done before"] > 0
    assert len(rows(database, INSTANCE)) == 3


def test_an_archive_that_broke_off_is_no_file_that_may_be_passed_over(
    medium: Path, take: Callable[..., Imported], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "cd.zip", "w") as archive:
        archive.write(medium / "copy.dcm", "copy.dcm")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "cd.zip").read_bytes()[:-40])

    with pytest.raises(zipfile.BadZipFile):
        take(tmp_path / "cut.zip")


def test_what_was_put_aside_is_tried_again_with_a_better_table(
    medium: Path, make_instance: Make, take: Callable[..., Imported], tmp_path: Path
) -> None:
    stranger = make_instance(PatientID="P9", StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.10")
    stranger.save_as(medium / "stranger", enforce_file_format=True)
    (medium / "cut.dcm").unlink()

    def taken(table: str) -> Imported:
        (tmp_path / "table.csv").write_text(table)
        return take(medium, Identities(table=read_table(tmp_path / "table.csv", "1.2.3.4")))

    for _ in range(2):
        assert taken("P1;D-7\n").reasons == {
            "stranger": "the table has no line for its patient",
        }
    assert len(list((tmp_path / "aside").iterdir())) == 2
    done = taken("P1;D-7\nP9;D-9\n")
    assert done.reasons == {}
    assert done.counts["stored"] == 1
    assert list((tmp_path / "aside").iterdir()) == []


def test_images_get_the_identity_that_is_said_and_keep_the_one_they_had(
    medium: Path, take: Callable[..., Imported], database: Database, blobs: BlobStore
) -> None:
    before = {one.SOPInstanceUID: one for one in map(dcmread, medium.rglob("IM1"))}

    take(medium, Identities(everyone=Identity("D-7", "1.2.3.4")))

    (study,) = rows(database, STUDY)
    assert (study["patient_id"], study["issuer_oid"]) == ("D-7", "1.2.3.4")
    for row in rows(database, INSTANCE):
        made = dcmread(blobs.open(row["sha256"]).path)
        (item,) = made.OriginalAttributesSequence
        assert item.ModifiedAttributesSequence[0].PatientID == "P1"
        assert made.PixelData == before[made.SOPInstanceUID].PixelData


def test_a_table_tells_whose_images_are_and_the_others_are_put_aside(
    medium: Path, make_instance: Make, take: Callable[..., Imported], tmp_path: Path
) -> None:
    stranger = make_instance(PatientID="P9", StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.10")
    stranger.save_as(medium / "stranger", enforce_file_format=True)
    (tmp_path / "table.csv").write_text("P1;D-7\n\nP2,D-8\n")

    done = take(medium, Identities(table=read_table(tmp_path / "table.csv", "1.2.3.4")))

    assert done.counts["stored"] == 3
    assert done.reasons["stranger"] == "the table has no line for its patient"


@pytest.mark.parametrize("line", ["P1", "P1,", ",D-7"])
def test_a_table_with_a_broken_line_names_it(line: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(f"P0,D-1\n{line}\n")
    with pytest.raises(ValueError, match="2"):
        read_table(tmp_path / "table.csv", "1.2.3.4")


def test_data_sets_nested_five_thousand_deep_cost_only_themselves(
    medium: Path, take: Callable[..., Imported]
) -> None:
    data = (medium / "copy.dcm").read_bytes()
    nest = bytes.fromhex("0800060053510000ffffffff") + bytes.fromhex("feff00e0ffffffff")
    start = data.index(b"\x08\x00\x16\x00UI", 300)
    (medium / "deep.dcm").write_bytes(data[:start] + nest * 5000 + data[start:])

    done = take(medium, Identities(everyone=Identity("D-7", "1.2.3.4")))

    assert "deep.dcm" in done.reasons
    assert done.counts["stored"] == 3
