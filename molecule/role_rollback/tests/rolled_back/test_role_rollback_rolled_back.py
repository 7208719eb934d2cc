"""After the rollback: the release before, with the rows of both."""

from __future__ import annotations

from typing import Any


def test_the_release_before_runs(node: Any) -> None:
    assert node.rpc("hive-fixture-status")["version"] == "0.1.0"
    assert list(node.plugins()) == ["hive-fixture"]


def test_no_row_was_lost(node: Any) -> None:
    assert [version for version, _ in node.rows("hive-fixture")["hive-fixture"]] == ["0.1.0", "0.2.0", "0.1.0"]


def test_lightningd_was_not_restarted(node: Any) -> None:
    assert node.lightningd() == node.remembered("lightningd")


def test_nothing_is_open(node: Any) -> None:
    assert node.journal()[-1]["event"] == "confirmed"
    assert not node.outside.file(f"{node.state_dir}/lock.json").exists
