# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""From the stack an operator writes to the resolved stack that everything else works with. Pure, controller only.

Wanted (inventory): ``[{"name": "cl-hive", "version": "0.1.0", "enabled": true, "options": {...}}]``, in any order.
Resolved (wire form): the same with ``digest``, in start order, option values in the types of
their manifest, nothing left to look up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

Json = dict[str, Any]
Stack = list[Json]

ITEM_KEYS = frozenset({"name", "version", "enabled", "options"})
TRUE, FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True)
class Refusal:
    """Why nothing may start. ``node`` is "" when it concerns the whole run; ``message`` says what to do."""

    node: str
    code: str
    message: str

    def as_dict(self) -> Json:
        return {"node": self.node, "code": self.code, "message": self.message}


@dataclass(frozen=True)
class Shelf:
    """The releases that can be had.

    ``entries`` maps (name, version) to ``{"manifest": {...}, "path": "<directory>"}`` or to
    ``{"problem": {"code": ..., "message": ...}}`` for a release that must not be used.
    ``versions`` maps each known plugin to the versions that lie in ``place``.
    """

    place: str
    entries: Mapping[tuple[str, str], Json]
    versions: Mapping[str, Sequence[str]]


def resolve(node: str, wanted: Any, shelf: Shelf) -> tuple[Stack, list[Refusal]]:
    """The resolved stack of one node and everything that is wrong with what was asked for."""
    refusals: list[Refusal] = []

    def refuse(code: str, message: str) -> None:
        refusals.append(Refusal(node, code, message))

    if not isinstance(wanted, list):
        refuse("bad-stack", f"hive_stack of {node} is not a list: write one entry with name and version per plugin.")
        return [], refusals
    resolved: list[tuple[int, Json]] = []
    seen: set[str] = set()
    for number, item in enumerate(wanted, 1):
        problem = item_problem(item)
        if problem:
            refuse("bad-stack", f"Entry {number} of hive_stack of {node} {problem}")
            continue
        name, version = item["name"], str(item["version"])
        if name in seen:
            refuse("duplicate-plugin", f"{name} stands twice in hive_stack of {node}: keep one of the entries.")
            continue
        seen.add(name)
        entry = shelf.entries.get((name, version))
        if entry is None:
            refuse(*_not_on_the_shelf(name, version, shelf))
            continue
        if "problem" in entry:
            refuse(entry["problem"]["code"], entry["problem"]["message"])
            continue
        manifest = entry["manifest"]
        options, problems = check_options(manifest, item.get("options") or {})
        for code, message in problems:
            refuse(code, message)
        digest = manifest["artifact"]["sha256"]
        enabled = item.get("enabled", True)
        resolved.append(
            (
                manifest["start_order"],
                {"name": name, "version": version, "digest": digest, "enabled": enabled, "options": options},
            )
        )
    stack = [item for _, item in sorted(resolved, key=lambda pair: (pair[0], pair[1]["name"]))]
    if not refusals:
        manifests = {m["name"]: m for m in (shelf.entries[s["name"], s["version"]]["manifest"] for s in stack)}
        refusals += [Refusal(node, code, message) for code, message in check_set(stack, manifests)]
    return stack, refusals


def item_problem(item: Any) -> str:
    """What is wrong with the form of one entry of the wanted stack, "" when nothing is."""
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str) or not item.get("version"):
        return "needs a name and a version, for example {name: cl-hive, version: 0.1.0}."
    unknown = sorted(set(item) - ITEM_KEYS)
    if unknown:
        return f"({item['name']}) has the unknown key {unknown[0]}: allowed are {', '.join(sorted(ITEM_KEYS))}."
    if not isinstance(item.get("enabled", True), bool):
        return f"({item['name']}) says enabled: {item['enabled']!r}: write true or false."
    if not isinstance(item.get("options") or {}, Mapping):
        return f"({item['name']}) has options that are no mapping: write option: value."
    if item["version"] == "latest":
        return f"({item['name']}) asks for latest: name the version, so that everybody gets the same one."
    return ""


def _not_on_the_shelf(name: str, version: str, shelf: Shelf) -> tuple[str, str]:
    if name not in shelf.versions:
        known = ", ".join(sorted(shelf.versions)) or "none"
        return (
            "unknown-plugin",
            f"{name} is not among the releases in {shelf.place} (there are: {known}): correct hive_stack, or build it "
            "with playbooks/release.yml.",
        )
    there = ", ".join(shelf.versions[name])
    return (
        "unknown-release",
        f"{name} {version} is not in {shelf.place} (there are: {there}): correct the version, or build it with "
        "playbooks/release.yml.",
    )


def check_options(manifest: Json, options: Mapping[str, Any]) -> tuple[Json, list[tuple[str, str]]]:
    """The options in their types, and (code, message) for each that the plugin would not take."""
    known = {option["name"]: option for option in manifest["options"]}
    plugin = f"{manifest['name']} {manifest['version']}"
    result: Json = {}
    problems: list[tuple[str, str]] = []
    for name in sorted(options):
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            problems.append(("unknown-option", f"{plugin} has no option {name} (it has: {names}): correct hive_stack."))
            continue
        value, problem = option_value(known[name]["type"], options[name])
        if problem:
            problems.append(("bad-option-value", f"Option {name} of {plugin} {problem}"))
        elif value is not None:
            result[name] = value
    return result, problems


def option_value(kind: str, value: Any) -> tuple[Any, str]:
    """(value, problem) of one option in the type its manifest gives it; the value is None for a flag that is off.

    Line ends are refused: they would write a second line into lightningd's config.
    """
    if kind in ("bool", "flag"):
        word = str(value).lower() if isinstance(value, (bool, str, int)) else ""
        if word not in TRUE | FALSE:
            return None, f"is true or false, not {value!r}: correct hive_stack."
        return (word in TRUE or None) if kind == "flag" else word in TRUE, ""
    if kind == "int":
        text = "" if isinstance(value, bool) or not isinstance(value, (int, str)) else str(value).strip()
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            return None, f"is a whole number, not {value!r}: correct hive_stack."
        return int(text), ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None, f"is text, not {value!r}: correct hive_stack."
    if any(ord(char) < 32 for char in str(value)) or str(value) != str(value).strip():
        return None, "has a line end or blanks around it: write it on one line, without them."
    return str(value), ""


def check_set(stack: Stack, manifests: Mapping[str, Json]) -> list[tuple[str, str]]:
    """(code, message) for each plugin that cannot run with the others of ``stack``; ``manifests`` by plugin name.

    A disabled plugin needs nobody, and nobody may need it.
    """
    active = {item["name"] for item in stack if item["enabled"]}
    problems = []
    owners: dict[str, str] = {}
    for item in stack:
        if not item["enabled"]:
            continue
        name, manifest = item["name"], manifests[item["name"]]
        problems += [
            (
                "missing-dependency",
                f"{name} does not run without {other}: add {other} to hive_stack or take {name} out.",
            )
            for other in manifest["requires"]["plugins"]
            if other not in active
        ]
        problems += [
            ("conflict", f"{name} does not run beside {other}: take one of them out of hive_stack.")
            for other in manifest["conflicts"]
            if other in active
        ]
        for kind, names in (("method", manifest["rpc_methods"]), ("option", [o["name"] for o in manifest["options"]])):
            for word in names:
                other = owners.setdefault(f"{kind} {word}", name)
                if other != name:
                    problems.append(
                        (
                            f"{'rpc' if kind == 'method' else 'option'}-collision",
                            f"{name} and {other} both bring the {kind} {word}: take one of them out of hive_stack.",
                        )
                    )
    return problems


def same_stack(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two resolved stacks are the same thing to run; values are compared as lightningd's config has them."""
    return comparable(one) == comparable(other)


def comparable(stack: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """A form of a resolved stack that is equal exactly when the stacks are."""
    return [
        (
            item["name"],
            item["digest"],
            bool(item.get("enabled", True)),
            sorted(text_options(item).items()),
            sorted(item.get("replaces") or []),
        )
        for item in stack
    ]


def text_options(item: Mapping[str, Any]) -> dict[str, str]:
    """The options of a resolved item as text, whoever wrote them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in (item.get("options") or {}).items()
    }


def version_key(version: str) -> Version:
    """A comparable version; text that is no version sorts before all others."""
    try:
        return Version(version)
    except InvalidVersion:
        return Version("0.dev0")


def cln_key(version: str) -> tuple[int, ...]:
    """``v25.12.1-modded`` as (25, 12, 1); () when there is no number in it."""
    numbers = version.lstrip("v").split("-")[0].split("+")[0].split(".")
    return tuple(int(part) for part in numbers if part.isdigit())
