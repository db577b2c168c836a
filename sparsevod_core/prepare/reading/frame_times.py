"""Times in the names of image files, as written by video players, cameras and loggers.

    clip_00-00-01.040   snap-12h00m01s040   clip_1.040s     time in the video
    2024-05-01_12-00-01   2024-05-01T12:00:01.040Z          date and time
    1714564801.040   1714564801_040000000                   seconds since 1970

Forms that could as well be a recording and its frame number are not times: in
`20240501_120001_040` the last number is the frame.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_TAIL = r"(?:s|sec|z)?(?P<tail>(?:[^0-9a-z][^0-9]*)?)"
_FRACTION = r"(?:[.,](?P<fraction>\d{1,9}))?"
_CLOCK = re.compile(
    r"(?P<head>.*?)(?<!\d)(?P<clock>\d{1,2}([-:])[0-5]\d\3[0-5]\d)" + _FRACTION + _TAIL, re.I
)
_LETTERED_CLOCK = re.compile(
    r"(?P<head>.*?)(?<!\d)(?P<clock>\d{1,2}h[0-5]\dm[0-5]\d)s?(?P<fraction>\d{1,9})?" + _TAIL, re.I
)
_DOTTED_CLOCK = re.compile(  # could be a version or an address without a date before it
    r"(?P<head>.*\d{4}-\d\d-\d\d.{1,4}?)(?P<clock>\d{1,2}\.[0-5]\d\.[0-5]\d)" + _FRACTION + _TAIL,
    re.I,
)
_DATE = re.compile(
    r"(?P<head>.*?)(?<!\d)(\d{4})[-_.](\d\d)[-_.](\d\d)(?:[-_T. ]{1,3}|[-_ ]at[-_ ])"
)
_SECONDS = re.compile(
    r"(?P<head>.*?)(?<!\d)(?:(?P<since_1970>\d{9,10})(?:[.,]|[-_](?=\d{9}(?!\d)))"
    r"|(?P<duration>\d+)[.,](?=\d+s(?:ec)?(?![a-z])))(?P<fraction>\d{1,9})" + _TAIL,
    re.I,
)
_HAS_PAIR = re.compile(r"\d[-:.,hH_]\d")


def split_time(stem: str) -> tuple[str, int, str] | None:
    """Return what is before a time in a name, the time in milliseconds, and what is behind it.

    None if the last number of the name is not part of a time.
    """
    if not _HAS_PAIR.search(stem):
        return None
    if match := _SECONDS.fullmatch(stem):
        head, seconds = match["head"], int(match["since_1970"] or match["duration"])
    else:
        clocks = (_CLOCK, _LETTERED_CLOCK, _DOTTED_CLOCK)
        match = next((found for clock in clocks if (found := clock.fullmatch(stem))), None)
        if match is None:
            return None
        hours, minutes, seconds = map(int, re.findall(r"\d+", match["clock"]))
        seconds += 60 * (60 * hours + minutes)
        head = match["head"]
        if date := _DATE.fullmatch(head):
            try:
                day = datetime(int(date[2]), int(date[3]), int(date[4]), tzinfo=UTC)
            except ValueError:  # such as February 30
                return None
            head, seconds = date["head"], seconds + int(day.timestamp())
    milliseconds = int((match["fraction"] or "").ljust(3, "0")[:3])
    return head, 1000 * seconds + milliseconds, match["tail"]
