"""kill -9 between receiving and publishing: after a restart nothing is lost, nothing doubled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from sqlalchemy import create_engine, select

from imaging_source.rejection import SAFETY
from imaging_source.schema import INSTANCE, PUBLICATION, STUDY

PROGRAM = Path(__file__).with_name("source_process.py")
ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 30

Make = Callable[..., Dataset]


class Source:
    """A running source process."""

    def __init__(self, folder: Path, fault: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "KOSMOS_FAULT": fault}
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.match(r"port (\d+)", line)
        assert found, line + self.process.stderr.read()
        self.port = int(found[1])

    def store(self, instance: Dataset) -> int | None:
        """The status of the response, None if there was none."""
        ae = AE("MODALITY")
        ae.add_requested_context(instance.SOPClassUID, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self.port, ae_title="KOSMOS")
        assert association.is_established
        answer = association.send_c_store(instance)
        if association.is_established:
            association.release()
        return int(answer.Status) if "Status" in answer else None

    def wait_for_death(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def wait_until_published(self) -> None:
        """The process logs a line when the registry has a study."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "publisher-published" in line:
                return
        pytest.fail("the process ended without publishing")


@contextmanager
def source(folder: Path, fault: str = "") -> Iterator[Source]:
    started = Source(folder, fault)
    try:
        yield started
    finally:
        try:
            started.process.communicate(timeout=DEADLINE_SECONDS)  # closes its input: it stops
        finally:
            started.process.kill()


def assert_published_once(folder: Path) -> None:
    """One registered submission, all attempts identical, and the source knows it."""
    registered = list((folder / "registered").iterdir())
    assert len(registered) == 1
    attempts = {path.read_bytes() for path in (folder / "attempts").iterdir()}
    assert len(attempts) == 1
    engine = create_engine(f"sqlite:///{folder}/imaging.db")
    with engine.connect() as connection:
        (publication,) = connection.execute(select(PUBLICATION)).mappings()
        (study,) = connection.execute(select(STUDY)).mappings()
        instances = connection.execute(select(INSTANCE)).all()
    engine.dispose()
    assert publication["state"] == "published"
    assert publication["submission_set_unique_id"] == registered[0].name
    assert study["published_revision"] == study["revision"] == len(instances) == 1


def test_killed_before_the_response_the_instance_is_known_and_published_once(
    tmp_path: Path, make_instance: Make
) -> None:
    instance = make_instance()
    with source(tmp_path, fault="imaging.stored:kill") as first:
        assert first.store(instance) is None
        assert first.wait_for_death() == -9
    with source(tmp_path) as second:
        assert second.store(instance) == 0x0000  # the modality, which heard nothing, tries again
        second.wait_until_published()

    assert_published_once(tmp_path)


def test_killed_before_the_response_a_rejection_note_has_had_its_whole_effect(
    tmp_path: Path, make_instance: Make, make_note: Make
) -> None:
    rejected, late = make_instance(), make_instance()
    note = make_note(SAFETY, rejected, late)
    with source(tmp_path) as first:
        assert first.store(rejected) == 0x0000
    with source(tmp_path, fault="imaging.stored:kill") as second:
        assert second.store(note) is None
        assert second.wait_for_death() == -9
    with source(tmp_path) as third:
        assert third.store(note) == 0x0000  # the sender, which heard nothing, tries again
        assert third.store(late) == 0x0000

    engine = create_engine(f"sqlite:///{tmp_path}/imaging.db")
    with engine.connect() as connection:
        rows = connection.execute(select(INSTANCE.c.rejection)).scalars().all()
    engine.dispose()
    assert rows == [SAFETY] * 3


@pytest.mark.parametrize("point", ["publisher.before_send", "publisher.after_send"])
def test_killed_while_publishing_the_study_is_published_once(
    tmp_path: Path, make_instance: Make, point: str
) -> None:
    with source(tmp_path, fault=f"{point}:kill") as first:
        assert first.store(make_instance()) == 0x0000
        assert first.wait_for_death() == -9
    registered = list((tmp_path / "registered").iterdir())
    assert len(registered) == (1 if point == "publisher.after_send" else 0)

    with source(tmp_path) as second:
        second.wait_until_published()

    assert_published_once(tmp_path)
