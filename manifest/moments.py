"""Dates and times of DICOM as those of other standards."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone, tzinfo

from manifest.model import Study

# How Study Date and Time are written, by number of digits (PS3.5 6.2).
_FORMS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


def local_time(date: str, time: str) -> tuple[datetime, int] | None:
    """A date and time without zone, and the digits that are known of it; None without a date."""
    date, time = date.replace(".", ""), time.replace(":", "").partition(".")[0]
    known = min(len(time), 6) // 2 * 2
    for digits in (date + time[:known], date):  # a time that is none must not lose the date
        with suppress(KeyError, ValueError):
            return datetime.strptime(digits, _FORMS[len(digits)]), len(digits)
    return None


def time_zone_of(study: Study, default: tzinfo) -> tzinfo:
    """The zone of the study's dates and times: its own offset (0008,0201), else ``default``."""
    try:
        zone = datetime.strptime(study.timezone_offset, "%z").tzinfo
    except ValueError:
        zone = None
    if zone is None:
        known = local_time(study.date, study.time)
        offset = known[0].replace(tzinfo=default).utcoffset() if known else None
        # One fixed offset: a manifest made in winter must not move the times of a summer study.
        zone = timezone(offset or timedelta(0))
    return zone
