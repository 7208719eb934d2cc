"""More releases beside the first: three slots, each runs."""

from __future__ import annotations

import json
from typing import Any


def test_every_slot_describes_itself(node: Any) -> None:
    entries = node.outside.check_output(f"cd {node.state_dir}/slots && echo */*/bin/hive-fixture*").split()
    described = [
        json.loads(node.as_lightningd(f"{node.slots_dir}/{entry}", "--hive-manifest").stdout) for entry in entries
    ]
    assert sorted((found["name"], found["version"]) for found in described) == [
        ("hive-fixture", "0.1.0"),
        ("hive-fixture", "0.2.0"),
        ("hive-fixture-second", "0.1.0"),
    ]


def test_lightningd_noticed_nothing(node: Any) -> None:
    assert node.plugins() == {}
