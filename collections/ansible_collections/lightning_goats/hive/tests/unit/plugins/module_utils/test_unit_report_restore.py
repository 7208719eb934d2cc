"""What the operator reads of a restore."""

from __future__ import annotations

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._report_progress import event_lines

ACTION = "lightning_goats.hive.hive_restore"
CHAIN = {
    "now": {"count": 9, "hash": "h9"},
    "then": {"count": 7, "hash": "h7"},
    "gone": 2,
    "first": 8,
    "last": 9,
    "parted": False,
}
ROWS = {
    "comms_aliases": {"now": 2, "then": 1, "lost": 1, "back": 0},
    "comms_advisors": {"now": 1, "then": 1, "lost": 0, "back": 0},
}
PLUGIN: dict[str, Any] = {
    "there": True,
    "schema": {"now": 3, "then": 2, "after": 3},
    "identity": {"now": "ab" * 32, "after": "cd" * 32},
    "key_files": {"comms.secrets": {"now": "1" * 16, "then": "2" * 16}},
    "receipts": CHAIN,
    "rows": ROWS,
}
RESULT: dict[str, Any] = {
    "changed": False,
    "set": {"id": "s1", "created_at": 1_795_874_955.0, "blockheight": 104, "signed": True},
    "loss": {"cl-hive-comms": ROWS},
    "plugins": {"cl-hive-comms": PLUGIN},
    "passed_over": [{"id": "s2", "reason": "cl-hive-comms/x.db of backup set s2 is missing or damaged"}],
    "notes": ["cl-hive has data that is not in the set; it stays as it is"],
    "fence": ["payments since then would be forgotten: 1 of comms_payments"],
    "phrase": "restore s1 on alpha and lose what came after",
}


def text(result: dict[str, Any]) -> str:
    return "\n".join(line.text for line in event_lines(ACTION, "alpha", "", result, 1.0))


def test_a_dry_run_says_everything_that_would_change() -> None:
    told = text(RESULT)
    for words in (
        "passed over s2: cl-hive-comms/x.db of backup set s2 is missing or damaged",
        "dry run of backup set s1 of 2026-11-28 14:09:15 UTC, height 104, signed",
        "rows that would be lost: comms_aliases of cl-hive-comms 1",
        "schema 3 now, 2 in the set, 3 once it has started",
        "IDENTITY abababababab BECOMES cdcdcdcdcdcd",
        "comms_aliases: 2 rows now, 1 in the set; 1 lost, 0 brought back",
        "1 table stays as it is",
        f"comms.secrets changes from {'1' * 16} to {'2' * 16}",
        "receipts end at 9 now and at 7 in the set: 2 (8 to 9) gone",
        "cl-hive has data that is not in the set",
        "payments since then would be forgotten",
        "--limit alpha -e hive_restore_set=s1 -e hive_restore_apply=true -e 'hive_restore_phrase=\"restore s1 on alpha",
    ):
        assert words in told, told


def test_what_stays_is_said_to_stay_and_what_cannot_be_read_too() -> None:
    same = {"now": "ab" * 32, "after": "ab" * 32}
    prints = {"comms.secrets": {"now": "1" * 16, "then": "1" * 16}}
    quiet = {**PLUGIN, "identity": same, "key_files": prints, "receipts": None, "rows": {}}
    told = text(
        {**RESULT, "set": {**RESULT["set"], "signed": False}, "plugins": {"cl-hive-comms": quiet}, "phrase": ""}
    )
    for words in (
        "NOT SIGNED",
        "identity abababababab stays",
        f"comms.secrets stays ({'1' * 16})",
        "its present database cannot be read",
    ):
        assert words in told, told
    assert "hive_restore_phrase" not in told


def test_a_restore_says_what_follows_from_it() -> None:
    told = text({**RESULT, "changed": True, "aside": "/state/aside/x", "follows": ["it refuses messages for a while"]})
    assert "what it replaced is kept in /state/aside/x" in told
    assert "it refuses messages for a while" in told
    assert "cl-hive has data that is not in the set" in told, "a note is no less true afterwards"
    assert "to restore:" not in told


def test_the_command_has_all_that_the_dry_run_was_given() -> None:
    allowed = {"hive_restore_unsigned": True, "hive_restore_as": "alpha"}
    told = text({**RESULT, "allowed": allowed})
    assert "-e hive_restore_apply=true -e hive_restore_unsigned=true -e hive_restore_as=alpha -e 'hive_res" in told
