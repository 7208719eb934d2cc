"""The judge of a soak: what it fails at once, what it waits for, and how it says so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _judge_soak
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.judge_shapes import (
    AFTER,
    HIVE,
    NEW,
    SINCE,
    controls,
    judged,
    series,
    subject,
)

Json = dict[str, Any]


def checks(answer: Json) -> list[tuple[str, str]]:
    return [(held["check"], held["verdict"]) for held in answer["reasons"]]


def test_a_quiet_soak_that_has_seen_enough_is_healthy() -> None:
    answer = judged()
    assert (answer["verdict"], answer["state"]) == ("healthy", "soaked")
    assert answer["progress"] == {
        "minutes": [60.0, 60],
        "blocks": [6, 6],
        "forwards": [answer["progress"]["forwards"][0], 2],
    }
    assert (answer["remaining_seconds"], answer["come_back_at"]) == (0, 0)
    assert _judge_soak.sentence(answer).startswith("healthy: 62 samples, 60 of 60 minutes, 6 of 6 blocks, ")
    assert json.loads(json.dumps(answer)) == answer


def test_one_that_is_under_way_says_when_to_come_back() -> None:
    answer = judged({"alpha": subject(after=21)}, minutes=20.5, forwards=0)
    assert (answer["verdict"], answer["state"]) == ("inconclusive", "soaking")
    assert answer["progress"]["minutes"] == [20.0, 60]
    assert 2400 <= answer["remaining_seconds"] <= 2500
    assert answer["come_back_at"] == int(SINCE + 20.5 * 60 + answer["remaining_seconds"])
    assert "20 of 60 minutes so far" in _judge_soak.sentence(answer)
    assert _judge_soak.sentence(answer).startswith("soaking: ")


def test_what_comes_last_decides_when_to_come_back() -> None:
    # Forwards at two an hour, of which 20 are asked for: longer than the extension, so the pause is when to come back.
    answer = judged({"alpha": subject(after=31)}, minutes=30.5, forwards=500)
    assert answer["remaining_seconds"] == round(59.5 * 60)
    blocks = judged({"alpha": subject(after=31)}, minutes=30.5, blocks=8)
    assert 5 * 600 <= blocks["remaining_seconds"] <= 60 * 60


def test_without_forwards_it_is_extended_and_then_pauses_for_a_human() -> None:
    quiet = subject(after=95, forwards_per_hour=0.0)
    answer = judged({"alpha": quiet})
    assert (answer["verdict"], answer["state"]) == ("inconclusive", "soaking")
    assert "0 of 2 forwards so far" in _judge_soak.sentence(answer)
    assert any("no forward since the switch" in held["detail"] for held in answer["reasons"])
    later = judged({"alpha": quiet}, minutes=91.0)
    assert (later["verdict"], later["state"], later["remaining_seconds"]) == ("inconclusive", "paused", 0)
    assert _judge_soak.sentence(later).startswith("inconclusive: ")


def test_a_human_can_end_what_lacks_something_but_not_what_is_wrong() -> None:
    quiet = judged({"alpha": subject(forwards_per_hour=0.0)}, accepted=True)
    assert (quiet["verdict"], quiet["state"]) == ("inconclusive", "soaked")
    assert checks(quiet)[0] == ("accepted", "inconclusive")
    wrong = judged({"alpha": subject(lost_at=(5,))}, accepted=True)
    assert (wrong["verdict"], wrong["state"]) == ("failing", "failed")


OTHER_PID: Json = {"lightningd": {"pid": 77, "started_at": SINCE + 300}}
PLUGIN: Json = {
    "name": "cl-hive",
    "path": "/p",
    "active": True,
    "pid": 9,
    "rss_bytes": 1,
    "rpc_ms": 1.0,
    "health": "ok",
}

MISSING = tuple(range(5, 50))

BREACHES: list[tuple[str, str, Json, str]] = [
    (
        "lightningd",
        "failing",
        {"change": dict.fromkeys(range(20, AFTER), OTHER_PID)},
        "restarted 1 times since",
    ),
    ("lightningd", "failing", {"down_at": (59, 60, 61)}, "did not answer in the last 3 samples"),
    ("lightningd", "inconclusive", {"down_at": (61,)}, "did not answer in the last sample"),
    ("plugin", "failing", {"dead_at": (30, 31, 32)}, "was not active in 3 samples in a row, 30 min after the switch"),
    ("plugin", "failing", {"dead_at": (59, 60, 61)}, "cl-hive 0.1.1 (bbbbbbbbbbbb) was not active"),
    ("plugin", "inconclusive", {"dead_at": (61,)}, "is not active in the last sample"),
    (
        "plugin",
        "failing",
        {"change": {n: {"plugins": [{**PLUGIN, "digest": "c" * 64, "health": "ok"}]} for n in (40, 41, 42)}},
        "cccccccccccc ran",
    ),
    (
        "health",
        "failing",
        {"change": {n: {"plugins": [{**PLUGIN, "digest": NEW, "health": "failed"}]} for n in (9, 10, 11)}},
        "said failed to its health RPC in 3 samples in a row",
    ),
    (
        "health",
        "inconclusive",
        {"change": {n: {"plugins": [{**PLUGIN, "digest": NEW, "health": "degraded"}]} for n in range(10, AFTER)}},
        "is degraded",
    ),
    ("channels", "failing", {"lost_at": (20,)}, "1 channels lost since the switch, the first 20 min after the switch"),
    (
        "log",
        "failing",
        {"change": {9: {"log": {"broken": ["lightningd: bad"], "count": 1, "errors": [], "errors_count": 0}}}},
        "1 BROKEN lines since the switch, none before: lightningd: bad",
    ),
    ("crash-loop", "failing", {"crashes_per_hour": 30.0}, "3 of them within 30 min"),
    ("sync", "inconclusive", {"change": {n: {"lightningd": {"synced": False}} for n in (59, 60, 61)}}, "not synced"),
    (
        "samples",
        "inconclusive",
        {"missing_at": MISSING},
        "17 samples since the switch where 61 were",
    ),
]


@pytest.mark.parametrize(("check", "verdict", "what", "words"), BREACHES, ids=[f"{b[0]}-{b[1]}" for b in BREACHES])
def test_one_breach_is_enough(check: str, verdict: str, what: Json, words: str) -> None:
    answer = judged({"alpha": subject(**what), "bravo": subject(7)})
    assert answer["verdict"] == verdict
    held = next(held for held in answer["reasons"] if held["check"] == check)
    assert (held["node"], held["verdict"]) == ("alpha", verdict)
    assert words in held["detail"]
    assert held["detail"] in _judge_soak.sentence(answer)


def test_what_the_switch_needs_is_no_breach() -> None:
    change = dict.fromkeys(range(20, AFTER), OTHER_PID)
    assert judged({"alpha": subject(restarts_allowed=1, change=change)})["verdict"] == "healthy"


def test_a_node_that_used_to_write_broken_lines_is_not_failed_for_one() -> None:
    line = {"log": {"broken": ["lightningd: bad"], "count": 1, "errors": [], "errors_count": 0}}
    held = subject(change={9: line})
    for number in (20, 150, 300):
        held.series["broken"][number] = 1
    assert judged({"alpha": held})["verdict"] == "healthy"


def test_what_the_control_nodes_have_at_the_same_time_is_for_a_human() -> None:
    held = {"alpha": subject(lost_at=(20,))}
    answer = judged(held, controls(3, lost_at=(22,)))
    assert (answer["verdict"], answer["state"]) == ("inconclusive", "soaking")
    assert "at least 2 of 3 control nodes had the same at the same time" in answer["reasons"][0]["detail"]
    one_sick = {**controls(2), "sick": series(77, lost_at=(20,))}
    assert judged(held, one_sick)["verdict"] == "failing"


def test_a_disabled_plugin_need_not_run() -> None:
    off = {**HIVE, "name": "cl-hive-comms", "enabled": False}
    assert judged({"alpha": subject(expected=(HIVE, off))})["verdict"] == "healthy"
    missing = judged({"alpha": subject(expected=(HIVE, {**off, "enabled": True}))})
    assert "cl-hive-comms 0.1.1 (bbbbbbbbbbbb) was not active" in missing["reasons"][0]["detail"]


def test_nothing_seen_is_never_healthy() -> None:
    assert judged({})["verdict"] == "inconclusive"
    none = judged({"alpha": subject(before=0, after=0)})
    assert (none["verdict"], checks(none)[0]) == ("inconclusive", ("samples", "inconclusive"))
    silent = judged({"alpha": subject()}, minutes=75.0)
    assert "the newest sample is 14 minutes old" in _judge_soak.sentence(silent)


def test_a_new_plugin_on_a_new_node_is_held_to_what_is_absurd() -> None:
    alone = {"alpha": subject(before=0)}
    answer = judged(alone, {})
    assert answer["verdict"] == "healthy"
    remarks = {held["check"] for held in answer["reasons"]}
    assert remarks == {"history", "controls"}
    slow = judged({"alpha": subject(before=0, rpc_ms=2500.0)}, {})
    assert checks(slow)[0] == ("latency", "failing")
    assert "nothing to compare with; allowed are 1000 ms" in slow["reasons"][0]["detail"]
    errors = judged({"alpha": subject(before=0, broken_per_hour=60.0)}, {})
    assert checks(errors)[0] == ("errors", "failing")


def test_a_wave_is_as_slow_as_its_slowest_node_and_forwards_add_up() -> None:
    answer = judged({"alpha": subject(after=31), "bravo": subject(3)}, minutes=61.0)
    assert answer["progress"]["minutes"] == [30.0, 60]
    each = [judged({"alpha": one})["progress"]["forwards"][0] for one in (subject(), subject(3))]
    both = judged({"alpha": subject(), "bravo": subject(3)})
    assert both["progress"]["forwards"][0] == sum(each)


def test_every_reason_has_numbers_and_a_command() -> None:
    answer = judged({"alpha": subject(lost_at=(5,), broken_per_hour=40.0, rpc_ms=40.0)})
    failing = [held for held in answer["reasons"] if held["verdict"] == "failing"]
    assert len(failing) >= 3
    assert all(held["figures"] for held in failing)
    commands = {held["check"]: held["command"] for held in answer["reasons"]}
    assert commands["channels"] == "lightning-cli listpeerchannels"
    assert commands["latency"] == "ansible-playbook playbooks/status.yml --limit alpha"
    assert _judge_soak.sentence(answer).count("alpha: ") == 3


def test_plots_are_small_and_know_what_was_before() -> None:
    plots = judged()["plots"]["alpha"]
    assert {"rpc_ms", "forwards", "errors", "htlcs", "cl-hive.rss_bytes", "cl-hive.rpc_ms"} <= set(plots)
    for plot in plots.values():
        assert 2 <= len(plot["time"]) == len(plot["value"]) <= 200
        assert plot["since"] == SINCE
    low, high = plots["rpc_ms"]["before_band"]
    assert 0 < low < high
    assert judged({"alpha": subject(before=0)})["plots"]["alpha"]["rpc_ms"]["before_band"] is None


def test_an_earlier_try_of_the_same_release_is_no_past() -> None:
    held = subject(broken_per_hour=24.0)
    assert judged({"alpha": held})["verdict"] == "failing"
    plugin = held.series["plugins"]["cl-hive"]
    for number in range(60, 130):
        # It ran before, as badly, and was taken back.
        plugin["digest"][number] = plugin["digest"][-1]
        held.series["errors"][number] = held.series["broken"][number] = 1
    assert judged({"alpha": held})["verdict"] == "failing"
    plugin["digest"][60:130] = plugin["digest"][130:200]
    assert judged({"alpha": held})["reasons"][0]["check"] != "errors"


def test_asking_more_often_changes_nothing_between_two_looks() -> None:
    long = subject(after=80, broken_per_hour=30.0)
    shown = [judged({"alpha": long}, minutes=now) for now in (70.0, 75.0)]
    assert shown[0]["reasons"][0]["detail"] == shown[1]["reasons"][0]["detail"]
