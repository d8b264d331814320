"""Rounds of eviction in a process of its own, for a test that kills it.

Usage: ``python evicting_process.py FOLDER URL NOW``: the index and the files of FOLDER, the archive
at the DICOMweb address URL, the clock at NOW.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from imaging_source.archive_web import WebArchive
from imaging_source.archives import Archive, Bounds
from imaging_source.eviction import Evictor
from imaging_source.intake import Intake
from storage.blobs import BlobStore
from storage.database import Database


def main(folder: Path, url: str, now: float) -> None:
    blobs = BlobStore(folder / "house")
    with Database.open(f"sqlite:///{folder / 'test.db'}") as database:
        web = WebArchive("PACS", url, Intake(database, blobs))
        archive = Archive(web.title, web, web, bounds=Bounds(days=1))
        evictor = Evictor(database, blobs, [archive], lambda: now)
        evictor.take_back(threading.Event())
        evictor.run_once()  # tries the archive; the files are new then
        then = time.time() - 7200.0
        for path in blobs.root.rglob("*"):
            if path.is_file():
                os.utime(path, (then, then))
        now += 7 * 3600.0
        evictor.run_once()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
