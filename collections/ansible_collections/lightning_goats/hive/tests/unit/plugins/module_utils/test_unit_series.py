"""A probe's samples as columns: what comes out, what survives the way, and what is refused."""

from __future__ import annotations

import base64
import json
import math
import zlib
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._series import (
    COLUMNS,
    PLUGIN_COLUMNS,
    SeriesError,
    cut,
    from_samples,
    pack,
    thin,
    unpack,
)
from sampled import samples

WEEK = 7 * 24 * 60


def plugin(**facts: Any) -> dict[str, Any]:
    return {"name": "cl-hive", "active": True, "pid": 20, "digest": "d1", "health": "ok", "rss_bytes": 5, **facts}


def sample(when: float, *plugins: dict[str, Any], pid: int = 10, born: float = 50.0, **facts: Any) -> dict[str, Any]:
    lightningd = {"running": True, "pid": pid, "started_at": born, "height": 7, "synced": True, "rpc_ms": 0.5}
    return {"schema": 2, "time": when, "lightningd": lightningd, "plugins": list(plugins), **facts}


def down(when: float) -> dict[str, Any]:
    return {"schema": 2, "time": when, "lightningd": {"running": False, "pid": 0}}


class TestFromSamples:
    def test_every_column_is_as_long_as_the_series(self) -> None:
        series = from_samples(samples(1000, 30, 60, 1, down_at=(3, 4), plugins=("cl-hive", "cl-hive-comms")))
        assert series["count"] == 30
        assert (series["first"], series["last"]) == (1000, 1000 + 29 * 60)
        assert {len(series[name]) for name in COLUMNS} == {30}
        assert sorted(series["plugins"]) == ["cl-hive", "cl-hive-comms"]
        assert {len(held[name]) for held in series["plugins"].values() for name in PLUGIN_COLUMNS} == {30}

    def test_nothing_is_a_series_too(self) -> None:
        series = from_samples([])
        assert (series["count"], series["first"], series["last"], series["plugins"]) == (0, None, None, {})
        assert unpack(pack(series)) == series

    def test_what_a_sample_says(self) -> None:
        series = from_samples(
            [
                sample(
                    100.04,
                    plugin(rpc_ms=1.234),
                    channels={"CHANNELD_NORMAL": 2, "CHANNELD_AWAITING_SPLICE": 1, "ONCHAIN": 4},
                    lost={"count": 1, "channels": ["1x1x1"]},
                    pending_htlcs={"count": 3, "nearest_expiry": 9},
                    forwards={"settled": 4, "failed": 2, "msat": 800, "fee_msat": 5},
                    log={"broken": ["a: b", "plugin-x: c"], "count": 2, "errors_count": 1},
                    hive_peers=6,
                    brake="stop",
                )
            ]
        )
        expected = {
            "time": 100.0,
            "up": 1,
            "synced": 1,
            "pid": 10,
            "height": 7,
            "channels_live": 3,
            "channels_lost": 1,
            "htlcs": 3,
            "forwards": 4,
            "forwards_failed": 2,
            "forwards_msat": 800,
            "fees_msat": 5,
            "forwards_known": 1,
            "broken": 2,
            "errors": 1,
            "peers": 6,
        }
        assert {name: series[name][0] for name in expected} == expected
        assert series["channels_last"] == {"CHANNELD_NORMAL": 2, "CHANNELD_AWAITING_SPLICE": 1, "ONCHAIN": 4}
        assert [(line["level"], line["text"]) for line in series["lines"]] == [
            ("BROKEN", "a: b"),
            ("ERROR", "plugin-x: c"),
        ]
        assert (series["brake"], series["pause"]) == ("stop", "")
        held = series["plugins"]["cl-hive"]
        assert (held["rpc_ms"], held["digests"][held["digest"][0]], held["healths"][held["health"][0]]) == (
            [1.23],
            "d1",
            "ok",
        )

    def test_samples_of_the_first_schema(self) -> None:
        old = [
            {
                "schema": 1,
                "time": 10.0 * number,
                "lightningd": {"running": True, "pid": 5, "started_at": 1.0, "height": 3, "synced": True},
                "channels": {"CHANNELD_NORMAL": 3 - number},
                "forwards": {"in_payments_offered": 5},
                "log": {"broken": ["x: y"], "count": 1},
                "plugins": [{"name": "a", "path": "/a", "active": True, "pid": 9, "rss_bytes": 7}],
            }
            for number in range(2)
        ]
        series = from_samples([*old, sample(20.0, channels={"CHANNELD_NORMAL": 2}, lost={"count": 0})])
        assert series["forwards_known"] == [0, 0, 0]
        assert series["forwards"] == [0, 0, 0]
        assert series["broken"] == [1, 1, 0]
        assert series["peers"] == [None, None, None]
        assert series["channels_lost"] == [0, 1, 0]
        assert series["plugins"]["a"]["active"] == [1, 1, 0]
        assert series["plugins"]["a"]["rpc_ms"] == [None, None, None]

    def test_a_plugin_that_is_back_within_an_interval_was_restarted(self) -> None:
        series = from_samples([sample(0, plugin(pid=20)), sample(60, plugin(pid=21)), sample(120, plugin(pid=21))])
        assert series["plugins"]["cl-hive"]["restarts"] == [0, 1, 0]

    def test_and_so_was_one_that_was_gone_for_a_while(self) -> None:
        series = from_samples([sample(0, plugin(pid=20)), sample(60), sample(120, plugin(pid=21))])
        assert series["plugins"]["cl-hive"]["restarts"] == [0, 0, 1]
        assert series["plugins"]["cl-hive"]["active"] == [1, 0, 1]

    def test_another_release_is_no_restart(self) -> None:
        series = from_samples([sample(0, plugin(pid=20)), sample(60, plugin(pid=21, digest="d2"))])
        assert series["plugins"]["cl-hive"]["restarts"] == [0, 0]
        assert series["plugins"]["cl-hive"]["digest"] == [1, 2]

    def test_a_restart_of_lightningd_is_lightningds(self) -> None:
        series = from_samples([sample(0, plugin(pid=20)), down(60), sample(120, plugin(pid=31), pid=11, born=110)])
        assert series["restarts"] == [0, 0, 1]
        assert series["plugins"]["cl-hive"]["restarts"] == [0, 0, 0]
        assert series["up"] == [1, 0, 1]

    def test_a_pid_that_came_back_is_another_lightningd(self) -> None:
        assert from_samples([sample(0, born=50), sample(60, born=55)])["restarts"] == [0, 1]

    def test_a_lightningd_that_does_not_answer_was_not_seen_to_restart(self) -> None:
        assert from_samples([sample(0), down(60), sample(120)])["restarts"] == [0, 0, 0]

    def test_a_clock_that_was_set_back_moves_no_counts(self) -> None:
        series = from_samples([sample(500, plugin(pid=20)), sample(560, plugin(pid=21)), sample(90, plugin(pid=21))])
        assert series["time"] == [90, 500, 560]
        assert series["plugins"]["cl-hive"]["restarts"] == [0, 0, 1]

    def test_what_the_probe_has_counted_itself_is_taken(self) -> None:
        first, second = sample(0, plugin(restarts=0)), sample(60, plugin(pid=21, restarts=2), born=7250.0)
        second["lightningd"]["restarts"] = 0
        series = from_samples([first, second])
        assert series["restarts"] == [0, 0], "a clock that was set moves what is reckoned from it"
        assert series["plugins"]["cl-hive"]["restarts"] == [0, 2]

    def test_of_two_plugins_with_one_name_the_release_counts(self) -> None:
        series = from_samples([sample(0, plugin(digest="", pid=3), plugin(pid=4), plugin(active=False, pid=5))])
        assert series["plugins"]["cl-hive"]["digests"] == ["", "d1"]

    def test_only_the_last_lines_are_kept(self) -> None:
        series = from_samples(sample(n, log={"broken": [f"x: {n}"], "count": 1}) for n in range(50))
        assert [line["text"] for line in series["lines"]] == [f"x: {n}" for n in range(30, 50)]


class TestPacked:
    def test_it_comes_back_as_it_was(self) -> None:
        series = from_samples(samples(1000, 500, 60, 2, broken_per_hour=1))
        assert unpack(pack(series)) == series
        assert pack(unpack(pack(series))) == pack(series)

    def test_a_week_of_minutes_is_small(self) -> None:
        packed = pack(from_samples(samples(0, WEEK, 60, 3, plugins=("cl-hive", "cl-hive-comms", "cl-hive-archon"))))
        assert len(packed) < 500_000

    def test_one_that_would_be_too_large_is_refused_before_it_is(self) -> None:
        bomb = base64.b64encode(zlib.compress(b" " * (80 << 20))).decode()
        assert len(bomb) < 200_000
        with pytest.raises(SeriesError, match="more than 67108864 bytes"):
            unpack(bomb)

    @pytest.mark.parametrize(
        ("packed", "why"),
        [
            ("%%%", "no packed series"),
            ("", "ends before its end"),
            (base64.b64encode(b"no zlib").decode(), "no packed series"),
            (base64.b64encode(zlib.compress(b"[1")).decode(), "no JSON"),
            (base64.b64encode(zlib.compress(b"\xff\xfe{")).decode(), "no packed series"),
            (base64.b64encode(zlib.compress(b"[]")).decode(), "schema 1"),
            (base64.b64encode(zlib.compress(b'{"schema": 9}')).decode(), "another release"),
            (base64.b64encode(zlib.compress(b'{"schema": 1}')).decode(), "lacks its count"),
            (base64.b64encode(zlib.compress(b"[" * 100_000)).decode(), "no packed series"),
            (base64.b64encode(zlib.compress(b'{"schema": NaN}')).decode(), "NaN, which is no number"),
        ],
    )
    def test_what_is_none_is_refused(self, packed: str, why: str) -> None:
        with pytest.raises(SeriesError, match=why):
            unpack(packed)

    def test_half_a_word_is_refused(self) -> None:
        packed = pack(from_samples(samples(0, 100, 60, 4)))
        with pytest.raises(SeriesError, match="ends before its end"):
            unpack(packed[: len(packed) // 8 * 4])

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"height": [1]}, "height of a series of 5 samples has another length"),
            ({"height": [1, 2, 3, 4, "5"]}, "height of a series holds something else"),
            ({"height": [1, 2, 3, 4, None]}, "height of a series holds something else"),
            ({"plugins": {"x": 5}}, "the series of x is none"),
            ({"plugins": {"x": {}}}, "x.restarts of a series of 5 samples has another length"),
            ({"lines": None}, "lacks its count, its plugins or its lines"),
        ],
    )
    def test_columns_that_do_not_fit_are_refused(self, change: dict[str, Any], why: str) -> None:
        series = {**from_samples(samples(0, 5, 60, 4)), **change}
        with pytest.raises(SeriesError, match=why):
            unpack(base64.b64encode(zlib.compress(json.dumps(series).encode())).decode())

    def test_words_that_are_not_there_are_refused(self) -> None:
        series = from_samples(samples(0, 5, 60, 4))
        series["plugins"]["cl-hive"]["digests"] = []
        with pytest.raises(SeriesError, match=r"cl-hive\.digest of a series points at words"):
            unpack(pack(series))


class TestCut:
    def test_two_cuts_at_one_moment_share_nothing(self) -> None:
        series = from_samples(samples(0, 20, 60, 5, broken_per_hour=30))
        before, after = cut(series, 0, 600), cut(series, 600, math.inf)
        assert before["time"] + after["time"] == series["time"]
        assert before["lines"] + after["lines"] == series["lines"]
        assert (before["count"], before["last"], after["first"]) == (10, 540, 600)
        held = [part["plugins"]["cl-hive"]["rpc_ms"] for part in (before, after)]
        assert held[0] + held[1] == series["plugins"]["cl-hive"]["rpc_ms"]

    def test_what_is_known_of_the_newest_only(self) -> None:
        series = from_samples(samples(0, 20, 60, 5, brake="smoke"))
        assert cut(series, 0, 600)["channels_last"] == {}
        assert cut(series, 0, 600)["brake"] == ""
        assert cut(series, 600, math.inf)["channels_last"] == {"CHANNELD_NORMAL": 8}
        assert cut(series, 600, math.inf)["brake"] == "smoke"

    def test_nothing_is_left(self) -> None:
        part = cut(from_samples(samples(0, 20, 60, 5)), 5000, 6000)
        assert (part["count"], part["first"], part["time"]) == (0, None, [])
        assert unpack(pack(part)) == part


class TestThin:
    def test_counts_are_kept(self) -> None:
        series = from_samples(samples(0, 1000, 60, 6, broken_per_hour=5, crashes_per_hour=1))
        thinned = thin(series, 200)
        assert thinned["count"] == len(thinned["time"]) == 200
        assert thinned["last"] == series["last"]
        for name in ("broken", "forwards", "forwards_msat"):
            assert sum(thinned[name]) == sum(series[name]) > 0
        assert sum(thinned["plugins"]["cl-hive"]["restarts"]) == sum(series["plugins"]["cl-hive"]["restarts"]) > 0
        assert unpack(pack(thinned)) == thinned

    def test_the_worst_of_yes_and_no_is_kept(self) -> None:
        thinned = thin(from_samples(samples(0, 100, 60, 6, down_at=(50,), dead_at=(70,))), 10)
        assert thinned["up"] == [1, 1, 1, 1, 1, 0, 1, 1, 1, 1]
        assert thinned["plugins"]["cl-hive"]["active"] == [1, 1, 1, 1, 1, 0, 1, 0, 1, 1]

    def test_a_short_one_stays_as_it_is(self) -> None:
        series = from_samples(samples(0, 20, 60, 6))
        assert thin(series, 20) == series
        with pytest.raises(SeriesError, match="cannot have 0 points"):
            thin(series, 0)

    def test_a_latency_that_nobody_knows_stays_unknown(self) -> None:
        thinned = thin(from_samples(samples(0, 4, 60, 6, down_at=(0, 1, 2))), 2)
        assert thinned["rpc_ms"][0] is None
        assert thinned["rpc_ms"][1] > 0


def test_the_same_seed_gives_the_same_samples() -> None:
    assert samples(0, 50, 60, 9, broken_per_hour=3) == samples(0, 50, 60, 9, broken_per_hour=3)
    assert samples(0, 50, 60, 9) != samples(0, 50, 60, 10)
    with pytest.raises(TypeError, match="knows no colour"):
        samples(0, 1, 60, 1, colour="red")
