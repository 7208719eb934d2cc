"""One line per thing that happened, and none for what is as it should be."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _report_status
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_progress import (
    BAD,
    CHANGED,
    GOOD,
    Line,
    event_lines,
    failure_text,
)
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    COMMS,
    Json,
    item,
    observation,
)


def told(module: str, result: Json, seconds: float = 0.0) -> list[Line]:
    return event_lines(f"lightning_goats.hive.{module}", "alpha", "Do it", result, seconds)


@pytest.mark.parametrize(
    ("module", "result", "expected"),
    [
        ("hive_observe", {"observed": observation()}, []),
        ("hive_switch", {"changed": True, "phase": "soaked", "after": []}, [Line("alpha", "has soaked", GOOD)]),
        (
            "hive_switch",
            {"changed": True, "phase": "abandoned", "after": []},
            [Line("alpha", "its plan is given up", CHANGED)],
        ),
        (
            "hive_observe",
            {"observed": observation(lightningd={"synced": False})},
            [Line("alpha", "still syncing at height 120", BAD)],
        ),
        (
            "hive_observe",
            {"observed": observation(lightningd={"running": False})},
            [Line("alpha", "lightningd does not answer", BAD)],
        ),
        (
            "hive_observe",
            {"observed": observation(time=7200.0, backup={"failure": {"at": 0.0, "message": "the disk is full"}})},
            [Line("alpha", "the last backup failed 2 h ago: the disk is full", BAD)],
        ),
        ("hive_observe", {"samples": [{"time": 1.0}, {"time": 4.0}]}, [Line("alpha", "2 samples over 3.0 s")]),
        ("hive_stage", {"changed": True}, [Line("alpha", "releases staged in 2.5 s", CHANGED)]),
        ("hive_stage", {"changed": False}, []),
        ("hive_switch", {"changed": False, "phase": "confirmed"}, []),
        ("hive_switch", {"changed": True, "phase": "confirmed"}, [Line("alpha", "confirmed", GOOD)]),
        (
            "hive_switch",
            {"changed": True, "phase": "switched", "after": [item(COMMS)], "downtime_ms": {COMMS: 210.4}},
            [Line("alpha", "switched to cl-hive-comms 0.1.0; away: cl-hive-comms 210 ms", CHANGED)],
        ),
        (
            "hive_switch",
            {"changed": True, "phase": "reverted", "after": [], "lightningd_restarts": 1},
            [Line("alpha", "back on no plugins; lightningd restarted 1 times", CHANGED)],
        ),
        ("hive_judge", {"verdict": "healthy", "msg": "healthy: ok"}, [Line("", "verdict: healthy: ok", GOOD)]),
        ("hive_judge", {"verdict": "failing", "msg": "failing: no"}, [Line("", "verdict: failing: no", BAD)]),
        ("hive_report", {"lines": []}, []),
        ("hive_fleet", {"changed": True, "msg": "joined hive h"}, [Line("alpha", "joined hive h", CHANGED)]),
        ("hive_status", {"lines": ["a", "b"]}, [Line("", "a"), Line("", "b")]),
    ],
)
def test_our_modules(module: str, result: Json, expected: list[Line]) -> None:
    assert told(module, result, 2.5) == expected


def test_other_modules_are_told_only_when_they_change_something() -> None:
    assert event_lines("ansible.builtin.copy", "alpha", "Put it", {"changed": False}, 0.0) == []
    assert event_lines("ansible.builtin.copy", "alpha", "Put it", {"changed": True, "msg": "x"}, 0.0) == [
        Line("alpha", "Put it: changed", CHANGED)
    ]


def test_a_resumed_run_says_so_first() -> None:
    lines = told("hive_plan", {"lines": ["canary: alpha"], "resumed": True, "rollout": "r1"})
    assert [line.text for line in lines] == ["Resuming rollout r1, which was interrupted.", "canary: alpha"]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"msg": "no"}, "no"),
        ({"msg": "no", "stderr": "because"}, "no\nbecause"),
        ({"msg": "no: because", "stderr": "because"}, "no: because"),
        ({}, "it failed and gave no reason"),
        ({"msg": "One failed", "results": [{"failed": True, "msg": "this"}, {"msg": "fine"}]}, "One failed\nthis"),
    ],
)
def test_a_failure_is_told_in_full(result: dict[str, Any], text: str) -> None:
    assert failure_text(result) == text


class TestStatus:
    NOW = 1_700_000_100.0

    def state(self, seen: Json | None) -> Json:
        return _report_status.node_status(seen, "gone", self.NOW)

    def test_a_good_node(self) -> None:
        seen = observation(stack=[item(COMMS)], backups=[{"id": "b", "created_at": self.NOW - 7200}])
        found = self.state(seen)
        assert (found["state"], found["notes"], found["backup_age_seconds"]) == ("ok", [], 7200.0)
        assert found["plugins"] == {COMMS: "ok"}

    @pytest.mark.parametrize(
        ("change", "state", "note"),
        [
            ({"lightningd": {"running": False}}, "down", ""),
            ({"lightningd": {"synced": False}}, "attention", "still syncing"),
            (
                {"transaction": {"rollout": "r1", "phase": "switched", "deadline": NOW + 30}},
                "attention",
                "undoes itself in 30 s",
            ),
            ({"transaction": {"rollout": "r1", "phase": "open", "deadline": 0}}, "attention", "has no dead-man"),
            ({"lock": {"rollout": "r1", "stale": True}}, "attention", "stale lock of rollout r1"),
            ({"managed_config": {"drift": True}}, "attention", "other plugins than those that run"),
            ({"managed_config": {"strays": ["x"]}}, "attention", "outside hive.conf"),
            ({"problems": [{"code": "x", "message": "look here"}]}, "attention", "look here"),
        ],
    )
    def test_what_needs_a_look(self, change: Json, state: str, note: str) -> None:
        found = self.state(observation(**change))
        assert found["state"] == state
        assert note in " ".join(found["notes"])

    def test_no_backup_and_a_silent_plugin(self) -> None:
        seen = observation(stack=[item(COMMS)])
        seen["plugins"][0]["health"] = ""
        assert self.state(seen)["notes"] == ["cl-hive-comms is silent", "no backup set yet"]

    @pytest.mark.parametrize(
        ("last_at", "note"), [(None, "has taken no sample yet"), (1.0, "has taken no sample for"), (2.0, "")]
    )
    def test_a_late_probe(self, last_at: float | None, note: str) -> None:
        when = None if last_at is None else self.NOW - (151 if last_at == 1.0 else 149)
        found = self.state(observation(probe={"every": 30, "last_at": when, "stamp": "s"}))
        assert note in " ".join(found["notes"])
        assert bool(found["notes"]) == bool(note)

    def test_unreachable(self) -> None:
        assert (self.state(None)["state"], self.state(None)["notes"]) == ("unreachable", ["gone"])

    def test_the_table(self) -> None:
        nodes = _report_status.status({"bravo": None, "alpha": observation()}, {"bravo": "gone"}, self.NOW)
        assert [line.split() for line in _report_status.table(nodes)] == [
            ["NODE", "STATE", "LIGHTNINGD", "HEIGHT", "STACK", "BACKUP", "PROBE"],
            ["alpha", "ok", "v25.12.1", "120", "no", "plugins", "-", "-"],
            ["bravo", "unreachable", "-", "-", "no", "plugins", "-", "-"],
            [],
            ["bravo:", "gone"],
        ]

    @pytest.mark.parametrize(
        ("seconds", "words"), [(None, "-"), (5, "5 s"), (90, "2 min"), (7200, "2 h"), (200000, "2 d")]
    )
    def test_ages(self, seconds: float | None, words: str) -> None:
        assert _report_status.age_words(seconds) == words
