"""Stacks, options and what lightningd remembers of them: all pure."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.channels import (
    channel_facts,
    lost,
    pending,
    value_at_risk,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.options import (
    Memory,
    Past,
    members,
    remember,
    unsettable,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.sealed import fingerprint, is_secret, seal
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.stacks import (
    check_clashes,
    check_matrix,
    check_options,
    normalise,
    plan_switch,
    same,
    version_key,
)

OPTIONS = [
    {"name": "p-note", "type": "string", "default": ""},
    {"name": "p-limit", "type": "int", "default": 10},
    {"name": "p-on", "type": "bool", "default": True},
    {"name": "p-flag", "type": "flag", "default": False},
]


def item(name: str, digit: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "version": digit, "digest": digit * 64, "enabled": True, "options": options}


def manifest(name: str, order: int = 10, **changes: Any) -> dict[str, Any]:
    facts = {"name": name, "start_order": order, "rpc_methods": [f"{name}-health"], "options": []}
    return {**facts, "requires": {"plugins": []}, "conflicts": [], **changes}


MANIFESTS = {
    "1" * 64: manifest("a", 10),
    "2" * 64: manifest("a", 10),
    "3" * 64: manifest("b", 20),
    "4" * 64: manifest("b", 20),
}


def test_only_what_differs_changes_removals_first_and_last_started_first() -> None:
    before = [item("a", "1"), item("b", "3")]
    assert plan_switch(before, before, MANIFESTS).empty
    plan = plan_switch(before, [item("a", "2"), item("b", "3")], MANIFESTS)
    assert ([c.name for c in plan.removals], [c.name for c in plan.changes]) == ([], ["a"])
    plan = plan_switch(before, [], MANIFESTS)
    assert [c.name for c in plan.removals] == ["b", "a"]
    plan = plan_switch([], [item("b", "3"), item("a", "1")], MANIFESTS)
    assert [c.name for c in plan.changes] == ["a", "b"]


def test_changed_options_are_a_change_and_a_disabled_plugin_does_not_run() -> None:
    assert [c.name for c in plan_switch([item("a", "1", x=1)], [item("a", "1", x=2)], MANIFESTS).changes] == ["a"]
    off = {**item("a", "1"), "enabled": False}
    assert [c.name for c in plan_switch([item("a", "1")], [off], MANIFESTS).removals] == ["a"]
    assert same([off], [])


def test_a_plugin_that_holds_a_name_the_other_needs_is_stopped_first() -> None:
    manifests = {**MANIFESTS, "2" * 64: manifest("a", 10, rpc_methods=["b-health"])}
    plan = plan_switch([item("a", "1"), item("b", "3")], [item("a", "2"), item("b", "4")], manifests)
    assert plan.stop_first["a"] == ["b"]


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        ([{"name": "", "digest": "1" * 64}], "usable plugin name"),
        ([{"name": "../x", "digest": "1" * 64}], "usable plugin name"),
        ([{"name": "a", "digest": "xyz"}], "artifact digest"),
        ([item("a", "1"), item("a", "2")], "twice"),
    ],
)
def test_what_is_no_stack_is_refused(stack: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(HiveError, match=words):
        normalise(stack)


def test_the_matrix_and_clashes_are_checked() -> None:
    manifests = {**MANIFESTS, "3" * 64: manifest("b", 20, requires={"plugins": ["a"]})}
    check_matrix([item("a", "1"), item("b", "3")], manifests)
    with pytest.raises(HiveError, match="b needs a in the same stack"):
        check_matrix([item("b", "3")], manifests)
    with pytest.raises(HiveError, match="both register the method a-health"):
        check_clashes(
            [item("a", "1"), item("b", "3")], {**MANIFESTS, "3" * 64: manifest("b", rpc_methods=["a-health"])}
        )


@pytest.mark.parametrize(
    ("options", "good"),
    [
        ({"p-limit": 3}, True),
        ({"p-limit": True}, False),
        ({"p-limit": "3"}, False),
        ({"p-on": "false"}, False),
        ({"z": 1}, False),
    ],
)
def test_option_types_are_checked(options: dict[str, Any], good: bool) -> None:
    entry, described = item("p", "1", **options), manifest("p", options=OPTIONS)
    if good:
        check_options(entry, described)
    else:
        with pytest.raises(HiveError):
            check_options(entry, described)


def test_versions_order_as_people_read_them() -> None:
    names = ["0.9", "0.10rc1", "0.10", "0.10.1", "v24.11", "v25.02", "v25.12.1"]
    shuffled = [*names[3:], *names[:3]]
    assert sorted(shuffled, key=version_key) == names
    assert version_key("v25.02") == version_key("25.2.0")


def test_only_values_that_differ_from_what_lightningd_hands_over_are_given() -> None:
    described = manifest("p", options=OPTIONS)
    assert members({}, described, Memory()) == {}
    assert members({"p-limit": 10, "p-on": True}, described, Memory()) == {}
    assert members({"p-note": "x", "p-flag": True}, described, Memory()) == {"p-note": "x", "p-flag": True}
    held = Memory(frozenset({"p-note", "p-limit"}), values={"p-note": "x", "p-limit": 5})
    assert members({"p-note": "x"}, described, held) == {"p-limit": 10}
    theirs = Memory(frozenset({"p-limit"}), values={"p-limit": 5}, foreign=frozenset({"p-limit"}))
    assert members({}, described, theirs) == {}, "the operator's own value stays"


def test_a_set_flag_cannot_be_unset() -> None:
    held = Memory(frozenset({"p-flag"}), values={"p-flag": True})
    assert unsettable({}, manifest("p", options=OPTIONS), held) == ["p-flag"]
    assert unsettable({"p-flag": True}, manifest("p", options=OPTIONS), held) == []


def test_a_given_value_hides_a_configured_one_that_is_remembered_all_the_same() -> None:
    configs: dict[str, dict[str, Any]] = {
        "p-note": {"value_str": "new", "source": "pluginstart", "plugin": "/s/p"},
        "p-limit": {"value_int": 3, "source": "/d/hive.conf:2", "plugin": "/s/p"},
        "p-on": {"value_bool": True, "source": "default", "plugin": "/s/p"},
        "other": {"value_str": "x", "source": "/d/config:1"},
    }
    memory = remember(configs, "/s/p", "/d/hive.conf", Past(frozenset(), {"p-note": "old"}))
    assert memory.configured == {"p-note", "p-limit"}
    assert memory.given == {"p-note"}
    assert memory.values == {"p-note": "old", "p-limit": 3}
    assert memory.foreign == frozenset()


def test_secrets_are_sealed_and_compare_equal() -> None:
    assert is_secret("hive-archon-gateway-auth-token")
    assert not is_secret("hive-comms-policy-preset")
    stack = [item("p", "1", **{"p-token": "s3cret", "p-note": "seen"})]
    assert "s3cret" not in str(seal(stack))
    assert seal(seal(stack)) == seal(stack)
    assert seal(stack)[0]["options"]["p-token"] == fingerprint("p-token", "s3cret")


def test_channels_htlcs_and_the_time_they_leave() -> None:
    listed = [
        {"channel_id": "c1", "state": "CHANNELD_NORMAL", "to_us_msat": 5, "htlcs": [{"amount_msat": 2, "expiry": 120}]},
        {"channel_id": "c2", "state": "CHANNELD_NORMAL", "to_us_msat": 7, "htlcs": []},
    ]
    facts = channel_facts(listed)
    assert pending(facts) == {"count": 1, "nearest_expiry": 120}
    assert value_at_risk(facts) == 14
    assert lost({"c1": "CHANNELD_NORMAL", "c2": "CHANNELD_NORMAL"}, facts[:1]) == ["c2"]
    assert lost({"c1": "ONCHAIN"}, []) == []
