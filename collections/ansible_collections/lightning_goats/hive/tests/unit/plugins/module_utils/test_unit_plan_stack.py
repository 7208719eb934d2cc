"""From what an operator writes to what runs: each mistake has its own sentence."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_stack as stacks
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    ARCHON,
    COMMS,
    HIVE,
    Json,
    digest_of,
    manifest,
)


def shelf(*more: Json) -> stacks.Shelf:
    all_of = [manifest(COMMS), manifest(ARCHON), manifest(HIVE), *more]
    versions: dict[str, list[str]] = {}
    for one in all_of:
        versions.setdefault(one["name"], []).append(one["version"])
    return stacks.Shelf(
        place="var/releases",
        entries={(m["name"], m["version"]): {"manifest": m, "path": f"/r/{m['name']}"} for m in all_of},
        versions=versions,
    )


def wanted(name: str = COMMS, version: str = "0.1.0", **more: Any) -> Json:
    return {"name": name, "version": version, **more}


def refusal(entries: Any, on: stacks.Shelf | None = None) -> tuple[str, str]:
    _, refusals = stacks.resolve("alpha", entries, on or shelf())
    assert len(refusals) == 1, refusals
    return refusals[0].code, refusals[0].message


def test_a_stack_is_resolved_in_start_order() -> None:
    stack, refusals = stacks.resolve("alpha", [wanted(HIVE), wanted(ARCHON, enabled=False), wanted()], shelf())
    assert refusals == []
    assert [item["name"] for item in stack] == [COMMS, ARCHON, HIVE]
    assert stack[1] == {
        "name": ARCHON,
        "version": "0.1.0",
        "digest": digest_of(ARCHON, "0.1.0"),
        "enabled": False,
        "options": {},
    }


def test_option_values_get_the_types_of_the_manifest() -> None:
    options = {"cl-hive-comms-limit": 7, "cl-hive-comms-enabled": False, "cl-hive-comms-mode": "lite"}
    stack, refusals = stacks.resolve("alpha", [wanted(options=options)], shelf())
    assert refusals == []
    assert stack[0]["options"] == {
        "cl-hive-comms-enabled": False,
        "cl-hive-comms-limit": 7,
        "cl-hive-comms-mode": "lite",
    }


@pytest.mark.parametrize(
    ("entries", "code", "words"),
    [
        ("cl-hive", "bad-stack", "is not a list"),
        ([{"name": "cl-hive"}], "bad-stack", "needs a name and a version"),
        ([wanted(colour="red")], "bad-stack", "unknown key colour"),
        ([wanted(enabled="yes")], "bad-stack", "write true or false"),
        ([wanted(options=["x"])], "bad-stack", "no mapping"),
        ([wanted(version="latest")], "bad-stack", "name the version"),
        ([wanted(), wanted()], "duplicate-plugin", "stands twice"),
        ([wanted("cl-hyve")], "unknown-plugin", "there are: cl-hive, cl-hive-archon, cl-hive-comms"),
        ([wanted(version="9.9")], "unknown-release", "there are: 0.1.0"),
        ([wanted(options={"cl-hive-comms-mod": "x"})], "unknown-option", "it has: cl-hive-comms-enabled"),
        ([wanted(options={"cl-hive-comms-limit": "nine"})], "bad-option-value", "is a whole number, not 'nine'"),
        ([wanted(options={"cl-hive-comms-limit": True})], "bad-option-value", "is a whole number"),
        ([wanted(options={"cl-hive-comms-enabled": "maybe"})], "bad-option-value", "is true or false"),
        ([wanted(options={"cl-hive-comms-mode": "a\nplugin=/x"})], "bad-option-value", "line end"),
        ([wanted(options={"cl-hive-comms-mode": {"a": 1}})], "bad-option-value", "is text"),
        ([wanted(ARCHON)], "missing-dependency", "cl-hive-archon does not run without cl-hive-comms"),
        ([wanted(ARCHON), wanted(enabled=False)], "missing-dependency", "add cl-hive-comms"),
    ],
)
def test_a_mistake_has_its_own_sentence(entries: Any, code: str, words: str) -> None:
    found, message = refusal(entries)
    assert found == code
    assert words in message


def test_a_release_that_must_not_be_used_gives_its_reason() -> None:
    bad = stacks.Shelf("var/releases", {(COMMS, "0.1.0"): {"problem": {"code": "stranger", "message": "No."}}}, {})
    assert refusal([wanted()], bad) == ("stranger", "No.")


def test_conflicting_plugins_are_refused() -> None:
    other = manifest("cl-monolith", conflicts=[HIVE], requires={"plugins": [], "cln": "v25.02"})
    assert refusal([wanted(HIVE), wanted("cl-monolith")], shelf(other))[0] == "conflict"


def test_two_plugins_with_one_method_are_refused() -> None:
    other = manifest("cl-other", rpc_methods=["cl-hive-health"], health_rpc="cl-hive-health")
    code, message = refusal([wanted(HIVE), wanted("cl-other")], shelf(other))
    assert code == "rpc-collision"
    assert "method cl-hive-health" in message


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [
        ("flag", True, True),
        ("flag", "no", None),
        ("bool", "Yes", True),
        ("bool", 0, False),
        ("int", " 5 ", 5),
        ("int", "-5", -5),
        ("string", 5, "5"),
    ],
)
def test_values_that_are_taken(kind: str, value: Any, taken: Any) -> None:
    assert stacks.option_value(kind, value) == (taken, "")


@pytest.mark.parametrize(
    ("one", "other"), [("v25.02", "v25.12.1-modded"), ("v25.02", "v25.02.1"), ("v24.11", "v25.02"), ("v25.9", "v25.12")]
)
def test_lightningd_versions_sort(one: str, other: str) -> None:
    assert stacks.cln_key(one) < stacks.cln_key(other)


def test_plugin_versions_sort() -> None:
    assert stacks.version_key("0.2.0") < stacks.version_key("0.10.0")
    assert stacks.version_key("nonsense") < stacks.version_key("0.0.1")
