# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The default-enable policy: only what the whole fleet has stood on, for long enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _policy
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

NOW = 1_800_000_000.0
WINDOW = 14 * 86400.0
STACK = [
    {"name": "cl-hive-comms", "version": "1.0.0", "digest": "a" * 64, "enabled": True, "options": {"secret": "x"}},
    {"name": "cl-hive", "version": "1.1.0", "digest": "b" * 64, "enabled": True, "options": {}},
    {"name": "cl-hive-archon", "version": "1.0.0", "digest": "c" * 64, "enabled": False, "options": {}},
]


def node(**changes: Any) -> Json:
    seen: Json = {
        "lightningd": {"running": True},
        "transaction": None,
        "soak": None,
        "stable_stack": STACK,
        "history": [
            {"result": "reverted", "ended_at": NOW - 10, "rollout": "later"},
            {"result": "confirmed", "ended_at": NOW - WINDOW - 1, "rollout": "R1"},
        ],
    }
    return {**seen, **changes}


def propose(observed: dict[str, Json | None], absent: tuple[str, ...] = ()) -> tuple[Json | None, list[str]]:
    return _policy.propose("fleet", observed, absent, NOW, WINDOW)


def test_what_everybody_stands_on_becomes_the_default_without_options() -> None:
    policy, reasons = propose({"alpha": node(), "bravo": node()})
    assert reasons == []
    assert policy == {
        "schema": 1,
        "fleet": "fleet",
        "stack": [{"name": "cl-hive-comms", "version": "1.0.0"}, {"name": "cl-hive", "version": "1.1.0"}],
        "rollout": "R1",
    }
    assert _policy.sentence(policy).startswith("nodes of fleet run cl-hive-comms 1.0.0, cl-hive 1.1.0 from now on")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"history": [{"result": "confirmed", "ended_at": NOW - 86400, "rollout": "R"}]}, "has stood for 1.0 of 14.0"),
        ({"history": []}, "has stood for 0.0 of 14.0"),
        ({"transaction": {"id": "1"}}, "has an open switch"),
        ({"soak": {"stage": "canary", "state": "soaking"}}, "is in the soak of stage canary (soaking)"),
        ({"stable_stack": []}, "runs no stack of ours"),
        ({"stable_stack": [{**STACK[0], "version": "0.9.0"}]}, "the nodes differ: alpha runs cl-hive-comms 1.0.0"),
    ],
)
def test_one_node_that_does_not_stand_is_enough_for_no_default(changes: Json, why: str) -> None:
    policy, reasons = propose({"alpha": node(), "bravo": node(**changes)})
    assert policy is None
    assert why in " ".join(reasons)


def test_nodes_that_are_missing_or_silent_are_enough_for_no_default() -> None:
    assert propose({"alpha": node()}, ("bravo",)) == (None, ["bravo is not in this run"])
    assert propose({"alpha": node(), "bravo": None}) == (None, ["bravo does not answer"])
    assert propose({}) == (None, ["there is no node"])


def test_a_soak_that_is_over_is_no_reason() -> None:
    assert propose({"alpha": node(soak={"stage": "wave 1", "state": "soaked"})})[1] == []


def test_write_then_read_and_write_again_changes_nothing(tmp_path: Path) -> None:
    policy, _ = propose({"alpha": node()})
    assert policy is not None
    directory = tmp_path / "registers"
    assert _policy.read(directory, "fleet") is None
    assert _policy.write(directory, policy) is True
    assert _policy.read(directory, "fleet") == policy
    assert _policy.write(directory, policy) is False
    assert [path.name for path in directory.iterdir()] == ["policy.yml"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "schema: 2\nfleet: fleet\nrollout: R\nstack: [{name: a, version: '1'}]\n",
        "schema: 1\nfleet: fleet\nrollout: R\nstack: []\n",
        "schema: 1\nfleet: fleet\nrollout: R\nstack: [{name: a, version: 1}]\n",
        "schema: 1\nfleet: fleet\nrollout: R\nstack: [{name: a, version: '1', enabled: true}]\n",
        "x" * (_policy.MAX_BYTES + 1),
    ],
)
def test_a_policy_that_cannot_be_understood_is_no_missing_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.yml").write_text(text)
    with pytest.raises(ReleaseError, match="is no default policy") as caught:
        _policy.read(tmp_path, "fleet")
    assert caught.value.code == "policy"


def test_the_policy_of_another_fleet_is_refused(tmp_path: Path) -> None:
    policy, _ = propose({"alpha": node()})
    assert policy is not None
    _policy.write(tmp_path, policy)
    with pytest.raises(ReleaseError, match="is of the fleet fleet and not of other"):
        _policy.read(tmp_path, "other")
