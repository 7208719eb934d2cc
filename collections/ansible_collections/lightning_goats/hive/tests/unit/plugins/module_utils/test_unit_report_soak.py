"""How far a soak is, in words, bars and times."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _report_soak as soak
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import clock, duration, minutes

Json = dict[str, Any]
NOW = 1_795_880_000.0
ANSWER: Json = {
    "state": "soaking",
    "verdict": "inconclusive",
    "reasons": [{"node": "alpha", "check": "forwards", "verdict": "inconclusive", "detail": "3 of 20 forwards"}],
    "progress": {"minutes": [720, 4320], "blocks": [70, 432], "forwards": [3, 20]},
    "remaining_seconds": 216_000,
    "come_back_at": NOW + 183_600,
    "samples": 720,
}


def shaped(**more: Any) -> Json:
    return soak.shaped("canary", 0, ["alpha"], {**ANSWER, **more})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.25, "0.2 s"),
        (9.96, "10.0 s"),
        (59.6, "1 min"),
        (42.4, "42 s"),
        (60, "1 min"),
        (119.7, "2 min"),
        (3500, "58 min 20 s"),
        (3599, "1 h"),
        (86_399, "1 d"),
        (183_600, "2 d 3 h"),
        (90_000, "1 d 1 h"),
        (30 * 86_400, "30 d"),
    ],
)
def test_a_length_of_time_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("seconds", "words"), [(-3, "0:00"), (7.9, "0:07"), (720, "12:00"), (3723, "1:02:03")])
def test_a_clock_that_counts(seconds: float, words: str) -> None:
    assert minutes(seconds) == words


def test_a_time_that_is_none() -> None:
    assert clock(None) == "-"


def test_the_slowest_measure_decides_how_far_it_is() -> None:
    assert soak.percent(shaped()) == 15
    assert soak.percent(shaped(progress={"minutes": [9000, 4320], "blocks": [432, 432], "forwards": [20, 20]})) == 99
    assert soak.percent(shaped(state="soaked")) == 100
    assert soak.percent(shaped(progress={})) == 0


def test_what_is_not_needed_is_not_told() -> None:
    assert soak.measures(shaped(progress={"minutes": [720, 4320], "blocks": [5, 0], "forwards": [0, 0]})) == [
        "12 h of 3 d"
    ]
    assert soak.measures(shaped()) == ["12 h of 3 d", "70 of 432 blocks", "3 of 20 forwards"]


def test_when_to_come_back() -> None:
    assert soak.come_back(shaped(), NOW).endswith("(in 2 d 3 h)")
    assert soak.come_back(shaped(), NOW + 200_000) == "come back now"
    assert soak.come_back(shaped(state="paused"), NOW) == ""


@pytest.mark.parametrize(
    ("state", "begin", "end"),
    [
        ("soaking", "canary soaks: 12 h of 3 d, 70 of 432 blocks, 3 of 20 forwards; come back after ", "(in 2 d 3 h)"),
        ("soaked", "canary has soaked: 12 h of 3 d", "forwards"),
        ("failed", "canary failed its soak: alpha: 3 of 20 forwards", "forwards"),
        ("paused", "canary is paused, its soak tells nothing: alpha: 3 of 20", "playbooks/abort.yml"),
    ],
)
def test_the_soak_in_a_line(state: str, begin: str, end: str) -> None:
    line = soak.sentence(shaped(state=state), NOW)
    assert line.startswith(begin)
    assert line.endswith(end)


def test_a_soak_that_begins_now_has_all_before_it() -> None:
    made = soak.begun("wave 1", 1, ["bravo"], {"minutes": 360, "blocks": 36, "forwards": 5}, NOW)
    assert (made["state"], soak.percent(made), made["come_back_at"]) == ("soaking", 0, NOW + 360 * 60)


def test_the_lines_for_a_terminal() -> None:
    assert soak.lines([shaped()]) == [
        "canary: soaking  [###-----------------]  12 h of 3 d, 70 of 432 blocks, 3 of 20 forwards",
        "  alpha: 3 of 20 forwards",
    ]
    assert len(soak.lines([shaped(state="soaked")])) == 1


@pytest.mark.parametrize(("share", "cells"), [(-5, "----"), (50, "##--"), (200, "####")])
def test_a_bar(share: int, cells: str) -> None:
    assert soak.bar(share, 4) == cells
