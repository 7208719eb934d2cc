"""A staged release is a slot that runs with the node's own Python, and nothing else has changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

PYTHONS = {"metal12": "Python 3.11.", "metal13": "Python 3.13.", "dock": "Python 3.13."}


@pytest.fixture
def slot(node: Any) -> str:
    """Where lightningd sees the only slot."""
    found = node.outside.check_output(f"ls {node.state_dir}/slots/hive-fixture").split()
    assert len(found) == 1
    return f"{node.slots_dir}/hive-fixture/{found[0]}"


def test_the_slot_runs_where_lightningd_runs(node: Any, slot: str) -> None:
    described = json.loads(node.as_lightningd(f"{slot}/bin/hive-fixture", "--hive-manifest").stdout)
    assert (described["name"], described["version"]) == ("hive-fixture", "0.1.0")


def test_the_slot_has_the_node_s_own_python(node: Any, slot: str) -> None:
    assert node.as_lightningd(f"{slot}/bin/python3", "--version").stdout.startswith(PYTHONS[node.name])


def test_lightningd_cannot_change_the_slot(node: Any, slot: str) -> None:
    assert "Read-only file system" in node.as_lightningd("touch", f"{slot}/bin/more").stderr


def test_the_journal_names_what_was_accepted(node: Any) -> None:
    assert [entry["data"]["name"] for entry in node.journal() if entry["event"] == "accepted"] == ["hive-fixture"]


def test_lightningd_noticed_nothing(node: Any) -> None:
    assert node.plugins() == {}
    assert node.config() == ""
