"""What to fetch: the instances of a manifest, each with who has it and where it goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from consumer.report import Fault
from manifest.kos import Manifest

# UIDs become names of files and folders: "." and ".." are none. Not stricter than that, for
# there are devices that make UIDs with a dot too many, and their images are wanted all the same.
_UID = re.compile(r"[0-9][0-9.]{0,63}")

Miss = Callable[[str, str, Fault, str], None]


class Wanted(NamedTuple):
    """One instance to fetch: who has it, what it is, and where it goes.

    ``source`` is the Retrieve Location UID, ``series_url`` the Retrieve URL of its series,
    ``series_size`` the instances that the manifest lists in it.
    """

    source: str
    series_instance_uid: str
    sop_instance_uid: str
    target: Path
    sop_class_uid: str
    study_instance_uid: str
    series_url: str
    retrieve_ae_title: str
    series_size: int


def plan(manifest: Manifest, folder: Path, miss: Miss) -> list[Wanted]:
    """What ``manifest`` lists, source by source, series by series.

    ``miss`` is told of what cannot be named, and of what belongs to two series.
    """
    study = manifest.study_instance_uid
    listed: dict[str, str] = {}
    wanted: dict[str, Wanted] = {}
    for series in manifest.series:
        for instance in series.instances:
            uids = (study, series.series_instance_uid, instance.sop_instance_uid)
            first = listed.setdefault(uids[2], uids[1])
            if not all(map(_UID.fullmatch, uids)):
                reason = "the manifest names it by an invalid UID"
                miss(uids[1], uids[2], Fault.INVALID_UID, reason)
            elif first != uids[1]:
                reason = f"the manifest lists it in series {first} too"
                miss(uids[1], uids[2], Fault.LISTED_TWICE, reason)
            else:
                wanted[uids[2]] = Wanted(
                    source=series.retrieve_location_uid,
                    series_instance_uid=uids[1],
                    sop_instance_uid=uids[2],
                    target=folder / uids[0] / uids[1] / f"{uids[2]}.dcm",
                    sop_class_uid=instance.sop_class_uid,
                    study_instance_uid=study,
                    series_url=series.retrieve_url,
                    retrieve_ae_title=series.retrieve_ae_title,
                    series_size=len(series.instances),
                )
    return sorted(wanted.values())
