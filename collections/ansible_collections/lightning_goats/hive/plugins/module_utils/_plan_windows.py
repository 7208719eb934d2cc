# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Maintenance windows: when a stage may begin. Pure, controller only.

A window is ``{"days": ["sat", "sun"], "start": "02:00", "end": "05:00"}`` in the clock of one place; its days are those
on which it opens, and one that ends at or before its start goes on over midnight. No windows at all is always open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
KEYS = frozenset({"days", "start", "end"})
EXAMPLE = 'write for example {days: [sat, sun], start: "02:00", end: "05:00"}'


class WindowsError(ValueError):
    """``hive_maintenance_windows`` or its time zone cannot be understood; the message says what to write."""


def opening(windows: Sequence[Any], zone: str, now: float) -> float | None:
    """When the next window opens, unix seconds; None when one is open now.

    Args:
        windows: as in ``hive_maintenance_windows``.
        zone: name of the time zone whose clock they are written in.
        now: unix seconds.

    Raises:
        WindowsError: they cannot be understood.
    """
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, IsADirectoryError) as error:
        raise WindowsError(
            f"hive_maintenance_timezone {zone!r} is not known here: write a name such as Europe/Berlin, or UTC."
        ) from error
    parsed = [_window(window) for window in windows]
    if not parsed:
        return None
    today = datetime.fromtimestamp(now, place).date()
    opens: list[float] = []
    for days, start, end in parsed:
        # From yesterday, whose window may go on over midnight, into the week after next: a change of the clock may
        # leave out the next one.
        for ahead in range(-1, 15):
            day = today + timedelta(days=ahead)
            if day.weekday() not in days:
                continue
            begins = _moment(day.isoformat(), start, place)
            ends = _moment((day + timedelta(days=1) if end <= start else day).isoformat(), end, place)
            if begins <= now < ends:
                return None
            if now < begins < ends:
                opens.append(begins)
    return min(opens)


def words(moment: float, zone: str) -> str:
    """A moment in the clock of the windows, for people."""
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime(f"%a %Y-%m-%d %H:%M {zone}")


def _moment(day: str, clock: str, place: ZoneInfo) -> float:
    # Once around UTC: an hour that a change of the clock leaves out becomes the one after it.
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=place).astimezone(UTC).timestamp()


def _window(window: Any) -> tuple[set[int], str, str]:
    if not isinstance(window, Mapping) or set(window) != KEYS:
        raise WindowsError(f"hive_maintenance_windows has {window!r}: {EXAMPLE}.")
    days = window["days"]
    if not isinstance(days, (list, tuple)) or not days or any(day not in DAYS for day in days):
        raise WindowsError(f"hive_maintenance_windows has the days {days!r}: list some of {', '.join(DAYS)}.")
    return {DAYS.index(day) for day in days}, _clock(window["start"]), _clock(window["end"])


def _clock(value: Any) -> str:
    text = str(value)
    hours, colon, minutes = text.partition(":")
    right = len(hours) == len(minutes) == 2 and (hours + minutes).isascii() and (hours + minutes).isdigit()
    # YAML reads 02:00 without quotes as a number of minutes.
    if isinstance(value, bool) or not colon or not right or int(hours) > 23 or int(minutes) > 59:
        raise WindowsError(f'hive_maintenance_windows has the time {value!r}: write it in quotes, for example "02:00".')
    return text
