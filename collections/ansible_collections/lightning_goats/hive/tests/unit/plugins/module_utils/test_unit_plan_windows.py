"""When a stage may begin: clocks, days, midnight, and the two nights a year on which a clock is changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_windows import WindowsError, opening, words

BERLIN = "Europe/Berlin"
NIGHT = [{"days": ["sat", "sun"], "start": "02:00", "end": "05:00"}]


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def test_without_windows_it_is_always_open() -> None:
    assert opening([], "UTC", 0.0) is None


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-11-28T02:00", None),
        ("2026-11-28T04:59", None),
        ("2026-11-28T05:00", "2026-11-29T02:00"),
        ("2026-11-30T03:00", "2026-12-05T02:00"),
        ("2026-11-28T01:59", "2026-11-28T02:00"),
    ],
)
def test_it_opens_on_its_days_in_its_clock(moment: str, opens: str | None) -> None:
    assert opening(NIGHT, BERLIN, at(moment)) == (None if opens is None else at(opens))


def test_the_clock_is_the_one_of_the_place() -> None:
    assert opening(NIGHT, "UTC", at("2026-11-28T02:30")) == at("2026-11-28T02:00", "UTC")


@pytest.mark.parametrize(
    ("moment", "opens"),
    [("2026-11-28T23:00", None), ("2026-11-29T01:30", None), ("2026-11-29T02:00", "2026-12-05T22:00")],
)
def test_one_that_ends_before_it_starts_goes_on_over_midnight(moment: str, opens: str | None) -> None:
    late = [{"days": ["sat"], "start": "22:00", "end": "02:00"}]
    assert opening(late, BERLIN, at(moment)) == (None if opens is None else at(opens))


def test_the_earliest_of_several_opens_next() -> None:
    several = [*NIGHT, {"days": ["tue"], "start": "12:00", "end": "13:00"}]
    assert opening(several, BERLIN, at("2026-11-30T03:00")) == at("2026-12-01T12:00")


def test_one_that_lasts_all_day_is_open_all_day() -> None:
    whole = [{"days": ["sat"], "start": "00:00", "end": "00:00"}]
    assert opening(whole, BERLIN, at("2026-11-28T23:59")) is None
    assert opening(whole, BERLIN, at("2026-11-29T00:00")) == at("2026-12-05T00:00")


def test_the_hour_that_a_clock_leaves_out_and_the_one_it_has_twice() -> None:
    """On 29 March 2026 there is no 02:30 in Berlin; on 25 October there are two."""
    night = [{"days": ["sun"], "start": "02:30", "end": "04:00"}]
    gone = opening(night, BERLIN, at("2026-03-29T00:00"))
    assert gone is not None
    assert gone < at("2026-03-29T04:00")
    assert opening(night, BERLIN, at("2026-03-29T03:45")) is None
    assert opening(night, BERLIN, at("2026-10-25T03:30")) is None


@pytest.mark.parametrize("moment", ["2026-03-28T12:00", "2026-03-29T00:30"])
def test_a_window_that_lies_in_the_hour_that_is_left_out_opens_a_week_later(moment: str) -> None:
    lost = [{"days": ["sun"], "start": "02:00", "end": "03:00"}]
    assert opening(lost, BERLIN, at(moment)) == at("2026-04-05T02:00")


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        (["nights"], "write for example"),
        ([{"days": ["sat"], "start": "02:00"}], "write for example"),
        ([{"days": [], "start": "02:00", "end": "05:00"}], "list some of mon"),
        ([{"days": ["saturday"], "start": "02:00", "end": "05:00"}], "list some of mon"),
        ([{"days": ["sat"], "start": 120, "end": "05:00"}], "write it in quotes"),
        ([{"days": ["sat"], "start": "2:00", "end": "05:00"}], "write it in quotes"),
        ([{"days": ["sat"], "start": "02:00", "end": "24:00"}], "write it in quotes"),
    ],
)
def test_what_is_no_window_is_refused_with_an_example(windows: list[Any], said: str) -> None:
    with pytest.raises(WindowsError, match=said):
        opening(windows, "UTC", 0.0)


@pytest.mark.parametrize("zone", ["Berlin", "", "../etc/passwd", "Europe"])
def test_an_unknown_place_is_refused(zone: str) -> None:
    with pytest.raises(WindowsError, match="is not known here"):
        opening(NIGHT, zone, 0.0)


def test_people_read_it_in_the_same_clock() -> None:
    assert words(at("2026-11-28T02:00"), BERLIN) == "Sat 2026-11-28 02:00 Europe/Berlin"
