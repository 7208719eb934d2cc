"""Three answers, each with its reasons. Every check has a sample that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _judge
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    COMMS,
    HIVE,
    Json,
    item,
    observation,
)

POLICY: Json = {"soak_seconds": 4.0}
STACK = [item(COMMS), item(HIVE)]
CHANNEL = {"peer_id": "02bravo", "short_channel_id": "1x1x1", "state": "CHANNELD_NORMAL"}


def sample(at: float) -> Json:
    seen = observation("alpha", STACK, channels=[dict(CHANNEL)])
    return {
        "time": at,
        "lightningd": seen["lightningd"],
        # A sample has only the status of the health RPC.
        "plugins": [{**plugin, "health": plugin["health"]["status"]} for plugin in seen["plugins"]],
        "channels": seen["channels"],
        "log": {"broken": [], "errors": []},
    }


def subject(change: Callable[[list[Json]], object] | None = None, **more: object) -> _judge.Subject:
    samples = [sample(100.0 + second) for second in range(5)]
    if change:
        change(samples)
    base = _judge.Subject(
        before=observation("alpha", [], channels=[dict(CHANNEL)]),
        switch={"lightningd_restarts": 0},
        samples=samples,
        error="",
        expected=STACK,
    )
    return base._replace(**more)  # type: ignore[arg-type]


def test_a_quiet_window_is_healthy() -> None:
    verdict = _judge.judge({"alpha": subject(), "bravo": subject()}, POLICY)
    assert verdict == {"verdict": "healthy", "reasons": [], "samples": 10, "window_seconds": 4.0}
    assert _judge.sentence(verdict) == "healthy: 10 samples over 4.0 s, no invariant broken"


BREACHES: list[tuple[str, str, Callable[[list[Json]], object], str]] = [
    ("samples", "inconclusive", lambda s: s.__delitem__(slice(1, None)), "1 samples of at least 2"),
    ("samples", "inconclusive", lambda s: s.__delitem__(slice(2, None)), "cover 1.0 s of 4 s"),
    ("lightningd", "failing", lambda s: s[2]["lightningd"].update(running=False), "in 1 of 5 samples"),
    ("lightningd", "failing", lambda s: s[3]["lightningd"].update(pid=77), "pid was 42, is 77"),
    ("lightningd", "failing", lambda s: s[4]["lightningd"].update(started_at=1_700_000_050.0), "restarted"),
    ("plugin", "failing", lambda s: s[1]["plugins"].pop(1), "cl-hive 0.1.0"),
    ("plugin", "failing", lambda s: s[1]["plugins"][0].update(active=False), "is not active in sample 2 of 5"),
    ("plugin", "failing", lambda s: s[1]["plugins"][0].update(digest="ff" * 32), "ffffffffffff runs"),
    ("health", "failing", lambda s: s[4]["plugins"][0].update(health="failed"), "says failed"),
    ("health", "failing", lambda s: s[0]["plugins"][0].update(health=""), "says nothing"),
    ("log", "failing", lambda s: s[2]["log"]["broken"].append("**BROKEN** boom"), "1 new BROKEN lines"),
    ("log", "failing", lambda s: s[2]["log"]["errors"].append("ERROR bad"), "1 new ERRORS lines"),
    ("channels", "failing", lambda s: s[3]["channels"].clear(), "1 of 1 channels lost: 1x1x1 (gone)"),
    ("channels", "failing", lambda s: s[3]["channels"][0].update(state="AWAITING_UNILATERAL"), "AWAITING_UNILATERAL"),
    ("sync", "failing", lambda s: [x["lightningd"].update(synced=False) for x in s], "not synced in any of 5"),
    ("sync", "inconclusive", lambda s: s[4]["lightningd"].update(synced=False), "not synced in 1 of 5"),
]


@pytest.mark.parametrize(
    ("check", "verdict", "change", "words"), BREACHES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_one_breach_is_enough(check: str, verdict: str, change: Callable[[list[Json]], object], words: str) -> None:
    result = _judge.judge({"alpha": subject(change), "bravo": subject()}, POLICY)
    assert result["verdict"] == verdict
    assert [(r["node"], r["check"], r["verdict"]) for r in result["reasons"]] == [("alpha", check, verdict)]
    assert words in result["reasons"][0]["detail"]


def test_a_short_lapse_of_sync_is_no_breach() -> None:
    assert _judge.judge({"alpha": subject(lambda s: s[1]["lightningd"].update(synced=False))}, POLICY)["reasons"] == []


def test_a_failed_switch_fails_the_batch_and_says_why() -> None:
    broken = subject(samples=[], error="cl-hive exited before it answered getmanifest")
    result = _judge.judge({"alpha": subject(), "bravo": broken}, POLICY)
    assert result["verdict"] == "failing"
    assert _judge.sentence(result) == "failing: bravo: cl-hive exited before it answered getmanifest"


def test_failing_outweighs_inconclusive_and_stands_first() -> None:
    few = subject(lambda s: s.__delitem__(slice(1, None)))
    died = subject(lambda s: s[3]["lightningd"].update(pid=77))
    result = _judge.judge({"alpha": few, "bravo": died}, POLICY)
    assert result["verdict"] == "failing"
    assert [r["node"] for r in result["reasons"]] == ["bravo", "alpha"]


def test_nothing_to_judge_is_inconclusive() -> None:
    assert _judge.judge({}, POLICY)["verdict"] == "inconclusive"


def test_a_planned_restart_is_no_breach() -> None:
    def restart(samples: list[Json]) -> None:
        for one in samples:
            one["lightningd"].update(pid=77, started_at=1_700_000_000.0)

    planned = subject(restart, switch={"lightningd_restarts": 1})
    assert _judge.judge({"alpha": planned}, {**POLICY, "allow_lightningd_restart": True})["verdict"] == "healthy"
    assert _judge.judge({"alpha": planned}, POLICY)["verdict"] == "failing"


def test_degraded_counts_only_when_it_got_worse() -> None:
    def degrade(samples: list[Json]) -> None:
        samples[-1]["plugins"][0]["health"] = "degraded"

    fresh = subject(degrade)
    assert _judge.judge({"alpha": fresh}, POLICY)["verdict"] == "healthy"
    before = observation("alpha", STACK, channels=[dict(CHANNEL)])
    assert _judge.judge({"alpha": fresh._replace(before=before)}, POLICY)["verdict"] == "inconclusive"
    before = copy.deepcopy(before)
    before["plugins"][0]["health"]["status"] = "degraded"
    assert _judge.judge({"alpha": fresh._replace(before=before)}, POLICY)["verdict"] == "healthy"


def test_a_disabled_plugin_need_not_run() -> None:
    off = subject(lambda s: [x["plugins"].pop(1) for x in s], expected=[item(COMMS), item(HIVE, enabled=False)])
    assert _judge.judge({"alpha": off}, POLICY)["verdict"] == "healthy"


def test_without_a_soak_one_sample_is_enough() -> None:
    once = subject(lambda s: s.__delitem__(slice(1, None)))
    assert _judge.judge({"alpha": once}, {"soak_seconds": 0})["verdict"] == "healthy"
