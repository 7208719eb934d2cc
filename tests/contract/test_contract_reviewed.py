"""The reviewed lists say what the plugins of this repository really show, and agree with each other."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _mcp, _runes, _surface

Json = dict[str, Any]

PLUGINS = ("cl-hive-comms", "cl-hive-archon", "cl-hive")
# What an AI advisor of the field can reach; a tool more or less has to be reviewed, not counted again.
TOOLS = 267
# Roles are tried in their general form; the advisor's is for one of several.
WANTED = {"advisor": "advisor/alice"}


@cache
def manifest(plugin: str) -> Json:
    """What the plugin says of itself."""
    done = subprocess.run(
        [Path(sys.executable).parent / plugin, "--hive-manifest"], capture_output=True, check=True, timeout=60
    )
    found: Json = json.loads(done.stdout)
    return found


@cache
def book(name: str) -> _surface.Book:
    return _surface.read(name)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_shows_what_was_reviewed(plugin: str) -> None:
    said = manifest(plugin)
    entry = _surface.entry_of(book(_surface.RPC), plugin, said["version"])
    wrong = [f"{check.name}: {check.detail}" for check in _surface.compare(entry, said) if not check.ok]
    assert wrong == [], "look at the difference, then write it into _reviewed/rpc.toml"


def test_no_plugin_is_without_a_review() -> None:
    reviewed = {entry["name"] for entry in book(_surface.RPC).content["plugin"]}
    assert reviewed == set(PLUGINS)


def test_every_tool_of_the_field_is_classified() -> None:
    tools = book(_surface.TOOLS).content["tools"]
    assert len(tools) == TOOLS
    assert {said["class"] for said in tools.values()} == set(_mcp.CLASSES)


def test_a_tool_is_no_more_harmless_than_the_methods_it_calls() -> None:
    methods = _surface.classes(book(_surface.RPC))
    looser = [
        f"{name} calls {method}"
        for name, said in book(_surface.TOOLS).content["tools"].items()
        for method in said.get("methods", ())
        if said["class"] in (_mcp.READ_ONLY, _mcp.LOCAL_ONLY)
        and methods.get(method, {}).get("class", _runes.READ_ONLY) != _runes.READ_ONLY
    ]
    assert looser == []


def test_a_tool_is_answered_by_the_plugin_that_has_its_method() -> None:
    methods = _surface.classes(book(_surface.RPC))
    wrong = [
        f"{name}: {method} is of {methods[method]['plugin']}"
        for name, said in book(_surface.TOOLS).content["tools"].items()
        for method in said.get("methods", ())
        if method in methods and methods[method]["plugin"] not in said["plugins"]
    ]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(book(_surface.RUNES).content["roles"]))
def test_a_role_stays_below_its_ceiling(name: str) -> None:
    methods = _surface.classes(book(_surface.RPC))
    (role,) = _surface.roles(book(_surface.RUNES), methods, [WANTED.get(name, name)])
    never = set(book(_surface.RUNES).content["never"])
    assert not never & set(role.allowed)
    restrictions = _runes.restrictions(role)
    # Only whole names: what begins like one of ours covers what nobody thought of.
    assert all(text.startswith("method=") for text in restrictions[0])
    assert "method=plugin" not in restrictions[0]


def test_whoever_watches_can_call_everything_that_only_looks() -> None:
    methods = _surface.classes(book(_surface.RPC))
    looks = {name for name, said in methods.items() if said["class"] == _runes.READ_ONLY}
    (monitor,) = _surface.roles(book(_surface.RUNES), methods, ["monitor"])
    assert looks <= set(monitor.allowed)
    tools = [said for said in book(_surface.TOOLS).content["tools"].values() if said["class"] == _mcp.READ_ONLY]
    asked = {method for said in tools for method in said.get("methods", ()) if method in methods}
    assert asked <= set(monitor.allowed), "a read-only tool that these plugins answer works with the monitor's rune"


def test_every_tool_of_a_node_is_one_that_a_rune_is_tried_with() -> None:
    refused = set(_surface.refused(book(_surface.RUNES), _surface.classes(book(_surface.RPC))))
    assert {"plugin", "stop", "pay", "hive-genesis", "hive-archon-sign-message", "hive-settlement-execute"} <= refused
