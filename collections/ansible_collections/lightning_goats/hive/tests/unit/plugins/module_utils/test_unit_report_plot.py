"""What the judge saw as lines: where they lie, where they break, and what they say to whoever cannot see them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _report_control,
    _report_page,
    _report_plot,
    _report_timeline,
)

Json = dict[str, Any]
TIMES = [60.0 * minute for minute in range(10)]


def plot(values: list[float | None], **more: Any) -> Json:
    return {"time": TIMES[: len(values)], "value": values, "since": 300.0, "before_band": None, **more}


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_before_and_after_meet_at_the_confirm() -> None:
    drawn = _report_plot.drawn("rpc_ms", plot([10.0, 11, 12, 11, 10, 11, 30, 31, 30, 31]))
    assert drawn is not None
    before, after = points(drawn["before"]), points(drawn["after"])
    assert before[-1] == after[0]
    assert before[-1][0] == drawn["since"]
    assert all(y < before[0][1] for _, y in after[1:])
    assert all(_report_plot.LEFT <= x <= _report_plot.RIGHT for x, _ in before + after)
    assert (drawn["title"], drawn["unit"]) == ("lightningd: RPC latency", "ms")
    assert drawn["words"] == "median 11 ms before, 31 ms since; 10 points over 9 min"


def test_nothing_measured_is_no_line() -> None:
    assert _report_plot.drawn("rpc_ms", plot([None, None])) is None
    drawn = _report_plot.drawn("rpc_ms", plot([1.0, None, 3.0, float("nan"), 5.0]))
    assert drawn is not None
    assert drawn["before"].count("M") == 3


def test_a_hole_in_time_is_no_line_either() -> None:
    times = [0.0, 60, 120, 180, 4000, 4060]
    drawn = _report_plot.drawn(
        "rpc_ms", {"time": times, "value": [1.0] * 6, "since": 4060.0, "before_band": [0.5, 1.5]}
    )
    assert drawn is not None
    assert drawn["before"].count("M") == 2
    top, height = drawn["band"]
    assert 0 < height < _report_plot.BOTTOM - top


def test_counters_stand_as_bars_and_zero_is_none() -> None:
    drawn = _report_plot.drawn("cl-hive.restarts", plot([0.0, 1, 0, 0, 0, 0, 2, 0]))
    assert drawn is not None
    assert (drawn["before"].count("V"), drawn["after"].count("V")) == (1, 1)
    assert drawn["title"] == "cl-hive: restarts"
    assert drawn["words"].startswith("sum 1 new before, 2 new since")


def test_memory_is_told_in_the_unit_people_use() -> None:
    drawn = _report_plot.drawn("cl-hive rss_bytes", plot([64.0 * 2**20] * 4, before_band=[60 * 2**20, 70 * 2**20]))
    assert drawn is not None
    assert drawn["words"].startswith("median 64 MiB before")


def test_what_does_not_move_is_told_and_not_drawn() -> None:
    soak = {"plots": {"alpha": {name: plot([0.0] * 4) for name in ("htlcs", "errors", "rpc_ms")}}}
    (plots,) = _report_page.drawn(soak).values()
    assert [one["title"] for one in _report_page.moving(plots)] == ["lightningd: RPC latency"]
    assert _report_page.still(plots) == "ERROR lines 0, payments in flight 0"
    busy = _report_plot.drawn("errors", plot([0.0] * 4, control=[0.0, 0, 0, 2]))
    assert busy is not None
    assert not busy["still"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("rpc_ms", ("rpc_ms", "")),
        ("cl-hive.rpc_ms", ("rpc_ms", "cl-hive")),
        ("rpc_ms:cl-hive", ("rpc_ms", "cl-hive")),
        ("what is new", ("what is", "new")),
    ],
)
def test_whose_metric_it_is(name: str, split: tuple[str, str]) -> None:
    assert sorted(_report_plot.named(name)) == sorted(split)


@pytest.mark.parametrize(
    ("values", "from_zero"),
    [([0.0], True), ([5.0, 5.0], False), ([61.0, 63.0], False), ([0.001, 900.0], True), ([-3, 4], False)],
)
def test_an_axis_has_round_marks_and_room_for_all(values: list[float], from_zero: bool) -> None:
    low, high, marks = _report_plot.axis(values, from_zero)
    assert low <= min(values) <= max(values) <= high
    assert 2 <= len(marks) <= 7
    assert all(len(_report_plot.figure(mark)) <= 7 for mark in marks)


@pytest.mark.parametrize("span", [3.0, 90.0, 4000.0, 36 * 3600.0, 11 * 86400.0])
def test_the_marks_of_time_are_few_and_count_from_the_confirm(span: float) -> None:
    marks = list(_report_plot.moments(-span / 3, 2 * span / 3))
    assert (0.0, "0") in marks
    assert 2 <= len(marks) <= 7


@pytest.mark.parametrize(("value", "words"), [(0.5, "0.5"), (900_050, "900.05k"), (2e6, "2M"), (3e9, "3G")])
def test_figures_of_an_axis(value: float, words: str) -> None:
    assert _report_plot.figure(value) == words


def series(**columns: Any) -> Json:
    count = 100
    base = {"time": [60.0 * n for n in range(count)], "up": [1] * count, "rpc_ms": [8.0] * count, "errors": [1] * count}
    return {**base, "plugins": {"cl-hive": {"rss_bytes": [5.0] * count}}, **columns}


def test_the_nodes_that_did_not_change_are_a_line_of_their_own() -> None:
    plots = {
        "alpha": {
            name: {"time": [600.0, 1200, 1800], "value": [1, 2, 3]}
            for name in ("rpc_ms", "errors", "cl-hive.rss_bytes", "x.rpc_ms")
        }
    }
    _report_control.add(plots, {"b": series(), "c": series(rpc_ms=[10.0] * 100), "d": series(rpc_ms=[None] * 100)})
    found = {name: plot.get("control") for name, plot in plots["alpha"].items()}
    assert found == {
        "rpc_ms": [9.0] * 3,
        "errors": [10.0] * 3,
        "cl-hive.rss_bytes": [5.0] * 3,
        "x.rpc_ms": None,
    }
    drawn = _report_plot.drawn("rpc_ms", {**plots["alpha"]["rpc_ms"], "since": 1200.0})
    assert drawn is not None
    assert drawn["control"].startswith("M")


def test_what_no_control_saw_is_a_hole() -> None:
    plots = {"alpha": {"rpc_ms": {"time": [600.0, 1200, 1800], "value": [1, 2, 3]}}}
    _report_control.add(plots, {"b": series(up=[0] * 15 + [1] * 85)})
    assert plots["alpha"]["rpc_ms"]["control"] == [None, 8.0, 8.0]


def test_without_controls_nothing_is_added() -> None:
    plots = {"alpha": {"rpc_ms": {"time": [600.0, 1200], "value": [1, 2]}}}
    _report_control.add(plots, {})
    assert "control" not in plots["alpha"]["rpc_ms"]


def events(*pairs: tuple[str, float]) -> Json:
    return {"timeline": [{"event": event, "time": at, "step": ""} for event, at in pairs]}


def test_the_timeline_tells_switch_watch_and_way_back() -> None:
    nodes = {
        "alpha": events(("begin", 100.0), ("done", 101.0), ("switched", 110.0), ("confirmed", 200.0)),
        "bravo": events(("begin", 150.0), ("switched", 160.0), ("reverting", 190.0), ("reverted", 200.0)),
        "charlie": events(),
    }
    drawn = _report_timeline.drawn({"nodes": nodes})
    assert drawn is not None
    assert [(row["name"], row["words"]) for row in drawn["rows"]] == [
        ("alpha", "switch 10 s, watch 1 min 30 s, confirmed"),
        ("bravo", "switch 10 s, watch 30 s, revert 10 s, reverted"),
    ]
    assert [(bar["left"], bar["width"]) for bar in drawn["rows"][0]["bars"]] == [(0.0, 10.0), (10.0, 90.0)]
    assert _report_timeline.drawn({"nodes": {"alpha": events()}}) is None
