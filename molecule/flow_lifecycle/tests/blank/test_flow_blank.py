"""Before the installation, and after a dry run of it: nothing of ours."""

from __future__ import annotations

from typing import Any


def test_lightningd_runs_without_our_plugins(node: Any) -> None:
    assert node.rpc("getinfo")["network"] == "regtest"
    assert node.plugins() == {}
    assert node.config() == ""


def test_no_transaction_was_made(node: Any) -> None:
    assert not node.outside.file(f"{node.state_dir}/journal.jsonl").exists


def test_who_lightningd_is_will_be_compared(node: Any) -> None:
    assert node.remember("lightningd", node.lightningd())["pid"] > 0
