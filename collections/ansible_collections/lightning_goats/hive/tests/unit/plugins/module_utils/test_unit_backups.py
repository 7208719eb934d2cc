"""Which backup sets go, how a failure is told, and what monitoring reads: the parts that need no node."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_retention import doomed
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_state import (
    GAUGES,
    exposition,
    failing,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_timer import unit_name
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_status import node_status


def sets(letters: str) -> list[dict[str, Any]]:
    """One set per letter, oldest first: `v` verified, `u` not, `f` verified and another node's."""
    return [
        {"id": f"{number}{letter}", "verified": letter in "vf", "node_id": "another" if letter == "f" else "this"}
        for number, letter in enumerate(letters)
    ]


class TestRetention:
    @pytest.mark.parametrize(
        ("letters", "keep", "rotten", "gone"),
        [
            ("vvv", 3, "", ""),
            ("vvvv", 3, "", "0v"),
            ("vvvv", 1, "", "0v 1v 2v"),
            # Damaged since: those newer do not count, and go in their turn.
            ("vvvv", 1, "3v", "0v 1v"),
            ("vvvv", 1, "2v 3v", "0v 2v"),
            ("vvvv", 1, "1v 2v 3v", "1v 2v"),
            # No verified one is whole: none goes.
            ("vvvv", 1, "0v 1v 2v 3v", ""),
            ("uvuv", 1, "1v 3v", "0u 2u"),
            # The database is damaged, and each new set is unsound: they push no sound one out.
            ("vvuu", 3, "", "2u"),
            ("vvuuu", 3, "", "2u 3u"),
            ("vvu", 2, "", "0v"),
            ("vuuuu", 3, "", "1u 2u"),
            # What was brought here from another node does not stand in for this one's.
            ("vfu", 1, "", "1f"),
            ("vfvu", 1, "", "0v 1f"),
            ("fv", 1, "", "0f"),
            ("uuuu", 2, "", "0u 1u"),
            ("v", 0, "", ""),
        ],
    )
    def test_which_go(self, letters: str, keep: int, rotten: str, gone: str) -> None:
        found = sets(letters)
        made = found[-1]["id"]
        assert doomed(found, keep, made, lambda name: name not in rotten.split()) == gone.split()

    def test_never_the_only_whole_verified_one_in_any_order_of_any_kind(self) -> None:
        """Every mix of kinds and damages, every place of the set just made: clocks may have jumped anyhow."""
        for length, keep in itertools.product(range(1, 6), range(3)):
            for kinds in itertools.product("vur", repeat=length):
                found = [
                    {"id": f"{number}{kind}", "verified": kind != "u", "node_id": ""}
                    for number, kind in enumerate(kinds)
                ]
                for made in found:
                    gone = doomed(found, keep, str(made["id"]), lambda name: name.endswith("v"))
                    left = [item["id"] for item in found if item["id"] not in gone]
                    assert made["id"] in left
                    assert any(str(name).endswith("v") for name in left) == ("v" in kinds), (kinds, keep, gone)

    def test_sets_are_read_only_when_a_verified_one_would_go(self) -> None:
        asked: list[str] = []

        def whole(name: str) -> bool:
            asked.append(name)
            return True

        doomed(sets("vvv"), 3, "2v", whole)
        doomed(sets("uvv"), 2, "2v", whole)
        assert asked == []
        doomed(sets("vvv"), 2, "2v", whole)
        assert asked == ["2v"]


class TestState:
    @pytest.mark.parametrize(
        ("success", "failure", "expected"),
        [(None, None, False), (5.0, None, False), (None, 5.0, True), (5.0, 6.0, True), (6.0, 5.0, False)],
    )
    def test_a_failure_counts_until_a_set_is_made(
        self, success: float | None, failure: float | None, expected: bool
    ) -> None:
        state = {
            "success": None if success is None else {"at": success},
            "failure": None if failure is None else {"at": failure, "code": "disk-full"},
        }
        assert (failing(state) is not None) is expected

    def test_a_name_cannot_break_out_of_its_label(self) -> None:
        text = exposition('al"pha\\\n', [float(number) for number in range(len(GAUGES))])
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert len(lines) == len(GAUGES)
        assert lines[0] == 'lightning_hive_backup_last_success_timestamp_seconds{node="al\\"pha\\\\\\n"} 0'
        assert text.endswith("\n")

    def test_times_keep_their_milliseconds(self) -> None:
        text = exposition("alpha", [1795874242.051] * len(GAUGES))
        assert '{node="alpha"} 1795874242.051\n' in text

    def test_a_unit_has_a_plain_name(self) -> None:
        assert unit_name("al pha/1.x") == "hive-backup-al-pha-1.x"


class TestStatus:
    def notes(self, backup: dict[str, Any], age: float = 0.0, *others: dict[str, Any]) -> str:
        seen = {
            "lightningd": {"running": True, "synced": True},
            "stack": [{"name": "cl-hive", "version": "1.0", "digest": "d"}],
            "backups": [{"created_at": 1e6 - age, "verified": True}, *others],
            "backup": backup,
        }
        status = node_status(seen, "", 1e6)
        assert status["state"] == ("attention" if status["notes"] else "ok")
        return " ".join(status["notes"])

    def test_all_well(self) -> None:
        recovery = {"stale": False, "age_seconds": 9e6}
        assert self.notes({"every": 3600.0, "failure": None, "emergency_recover": recovery}, 3000.0) == ""
        assert self.notes({"every": 0.0, "failure": None, "emergency_recover": None}, 9e5) == ""

    def test_the_last_one_failed(self) -> None:
        failure = {"at": 1e6 - 7200, "code": "disk-full", "message": "the disk is full"}
        assert "failed 2 h ago: the disk is full" in self.notes({"every": 3600.0, "failure": failure}, 9000.0)

    def test_the_timer_is_late(self) -> None:
        assert "should take one every 1 h" in self.notes({"every": 3600.0, "failure": None}, 7200.0)

    def test_an_unsound_one_hides_no_late_timer(self) -> None:
        unsound = {"created_at": 1e6, "verified": False}
        assert "should take one every 1 h" in self.notes({"every": 3600.0, "failure": None}, 7200.0, unsound)

    def test_lightningd_s_own_is_stale(self) -> None:
        recovery = {"stale": True, "age_seconds": 86400.0}
        assert "channel backup is 1 d old" in self.notes({"failure": None, "emergency_recover": recovery})
