"""A consumer over C-GET or C-MOVE as the kit wants one; ``credulous`` believes a Success.

Called with the manifest, the source, the destination of C-MOVE, a folder and ``get`` or ``move``.
"""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from conformance.dimse import Dimse, Entity, asked, receiving

SECONDS = 2.0


def is_right(image: Dataset, study: str) -> bool:
    size = image.Rows * image.Columns * image.BitsAllocated // 8
    size *= int(image.get("NumberOfFrames", 1))
    return bool(image.StudyInstanceUID == study and len(image.get("PixelData", b"")) == size)


def fetched(
    source: str, destination: str, study: str, classes: list[str], way: str
) -> tuple[bool, list[Dataset]]:
    dimse = Dimse(Entity.parse(source), SECONDS)
    identifier = asked("STUDY", StudyInstanceUID=study)
    if way == "get":
        told = dimse.get(identifier, classes)
        return told.kind == "Success", told.data_sets
    came: list[Dataset] = []
    place = Entity.parse(destination)
    with ExitStack() as stack:
        stack.enter_context(receiving(place.port, place.title, came.append))
        told = dimse.move(identifier, place.title)
    return told.kind == "Success", came


def main(
    file: str, source: str, destination: str, folder: str, way: str, how: str = "careful"
) -> bool:
    (study,) = dcmread(file).CurrentRequestedProcedureEvidenceSequence
    wanted, classes = set(), []
    for series in study.ReferencedSeriesSequence:
        for one in series.ReferencedSOPSequence:
            wanted.add(one.ReferencedSOPInstanceUID)
            classes.append(one.ReferencedSOPClassUID)
    place = source, destination, study.StudyInstanceUID
    succeeded, came = fetched(*place, list(dict.fromkeys(classes)), way)
    for image in came:
        image.save_as(Path(folder, f"{image.SOPInstanceUID}.dcm"), enforce_file_format=True)
        if is_right(image, study.StudyInstanceUID):
            wanted.discard(image.SOPInstanceUID)
    return succeeded if how == "credulous" else not wanted


if __name__ == "__main__":
    # Not to wait for threads of associations that fell silent.
    os._exit(0 if main(*sys.argv[1:]) else 1)
