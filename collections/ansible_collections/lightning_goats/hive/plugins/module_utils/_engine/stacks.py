"""Resolved stacks: comparing them, digesting them, and what a switch between two of them does; all pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from .errors import HiveError
from .files import canonical

Item = dict[str, Any]
Stack = list[Item]

OPTIONS_BY_TYPE = {"int": int, "bool": bool, "flag": bool, "string": str}
NAME = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,63}$")
DIGEST = re.compile(r"^[0-9a-f]{64}$")


def normalise(stack: Any) -> Stack:
    """Return a stack in its one form; refuse what is none.

    Raises:
        HiveError: a plugin without name, version or artifact digest, or named twice.
    """
    result: Stack = []
    seen: set[str] = set()
    for item in stack or []:
        name = str(item.get("name", "")) if isinstance(item, dict) else ""
        if not NAME.match(name):
            raise HiveError(
                f"the stack holds an entry without a usable plugin name ({name!r}); see hive_stack in the inventory",
                "bad-stack",
            )
        if name in seen:
            raise HiveError(f"the stack names {name} twice; keep one entry", "bad-stack")
        if not DIGEST.match(str(item.get("digest", ""))):
            raise HiveError(
                f"the stack entry of {name} has no artifact digest (64 hex digits); build the release first",
                "bad-stack",
            )
        seen.add(name)
        entry = {
            "name": name,
            "version": str(item.get("version", "")),
            "digest": str(item["digest"]),
            "enabled": bool(item.get("enabled", True)),
            "options": dict(item.get("options") or {}),
        }
        places = [str(path) for path in item.get("replaces") or []]
        strange = [path for path in places if not path.startswith("/") or any(ord(letter) < 33 for letter in path)]
        if strange:
            raise HiveError(
                f"the stack entry of {name} takes the place of {strange[0]!r}, which is no absolute path of a plugin "
                "without blanks; name it as `lightning-cli plugin list` does",
                "bad-stack",
            )
        # Most replace nobody; without the key their stacks have the digest they always had.
        result.append({**entry, "replaces": places} if places else entry)
    return result


def replaced_by(stack: Stack) -> dict[str, str]:
    """Return the plugins, by path, that the operator's own configuration loads and whose place one of ours takes."""
    return {str(path): str(item["name"]) for item in active_items(stack) for path in item.get("replaces", [])}


def active_items(stack: Stack) -> Stack:
    """Return the enabled plugins."""
    return [item for item in stack if item["enabled"]]


def stack_digest(stack: Stack) -> str:
    """Return one name for a whole stack."""
    return hashlib.sha256(canonical(stack)).hexdigest()


def same(one: Stack | None, other: Stack | None) -> bool:
    """Whether two stacks run the same plugins with the same options; what is disabled does not run."""
    return one is not None and other is not None and active_items(one) == active_items(other)


def by_name(stack: Stack) -> dict[str, Item]:
    return {item["name"]: item for item in stack}


@dataclass(frozen=True)
class Change:
    """What happens to one plugin: at least one of the two sides is there, and they differ."""

    name: str
    before: Item | None
    after: Item | None


@dataclass(frozen=True)
class Plan:
    """The order of a switch.

    Attributes:
        removals: plugins that go, in reverse start order.
        changes: plugins that come or change, in start order.
        stop_first: per plugin, the old plugins that must be down before it can start, because they hold names it needs.
    """

    removals: list[Change]
    changes: list[Change]
    stop_first: dict[str, list[str]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not self.removals and not self.changes


def plan_switch(before: Stack, after: Stack, manifests: dict[str, dict[str, Any]]) -> Plan:
    """Return the least that turns `before` into `after`.

    Args:
        manifests: by artifact digest, of every release on either side.
    """
    old, new = by_name(active_items(before)), by_name(active_items(after))

    def order(item: Item) -> tuple[int, str]:
        return int(manifests[item["digest"]]["start_order"]), str(item["name"])

    removals = [
        Change(item["name"], item, None)
        for item in sorted(old.values(), key=order, reverse=True)
        if item["name"] not in new
    ]
    changes = [
        Change(item["name"], old.get(item["name"]), item)
        for item in sorted(new.values(), key=order)
        if _running(old.get(item["name"])) != _running(item)
    ]
    stop_first: dict[str, list[str]] = {}
    for change in changes:
        if change.after is None:
            continue
        needed = names_of(manifests[change.after["digest"]])
        stop_first[change.name] = [
            other.name
            for other in changes
            if other.before is not None
            and other.name != change.name
            and needed & names_of(manifests[other.before["digest"]])
        ]
    return Plan(removals, changes, stop_first)


def _running(item: Item | None) -> tuple[Any, ...] | None:
    return None if item is None else (item["digest"], canonical(item["options"]), tuple(item.get("replaces", [])))


def names_of(manifest: dict[str, Any]) -> set[str]:
    """Return the RPC methods and options that a release registers with lightningd; options carry a marker."""
    return set(manifest["rpc_methods"]) | {f"--{option['name']}" for option in manifest["options"]}


def check_options(item: Item, manifest: dict[str, Any]) -> None:
    """Refuse options the release does not have, and values of the wrong type."""
    known = {option["name"]: option for option in manifest["options"]}
    for name, value in item["options"].items():
        option = known.get(name)
        if option is None:
            near = ", ".join(sorted(known)) or "none"
            raise HiveError(
                f"{item['name']} {item['version']} has no option {name}; it knows {near}",
                "bad-option",
                plugin=item["name"],
                option=name,
            )
        kind = OPTIONS_BY_TYPE.get(str(option["type"]), str)
        values = value if isinstance(value, list) and option.get("multi") else [value]
        if not all(isinstance(single, kind) and not (kind is int and isinstance(single, bool)) for single in values):
            raise HiveError(
                f"option {name} of {item['name']} must be of type {option['type']}; write it without quotes in "
                "the inventory",
                "bad-option",
                plugin=item["name"],
                option=name,
            )


def check_matrix(stack: Stack, manifests: dict[str, dict[str, Any]]) -> None:
    """Refuse a stack in which a plugin lacks what it requires, or stands beside what it cannot stand."""
    names = {item["name"] for item in active_items(stack)}
    for item in active_items(stack):
        manifest = manifests[item["digest"]]
        missing = [name for name in manifest["requires"].get("plugins", []) if name not in names]
        if missing:
            raise HiveError(
                f"{item['name']} needs {' and '.join(missing)} in the same stack; enable it there, or take "
                f"{item['name']} out",
                "matrix",
                plugin=item["name"],
            )
        against = [name for name in manifest.get("conflicts", []) if name in names]
        if against:
            raise HiveError(
                f"{item['name']} cannot run beside {' and '.join(against)}; take one of them out of the stack", "matrix"
            )


def check_clashes(stack: Stack, manifests: dict[str, dict[str, Any]]) -> None:
    """Refuse a stack of which two plugins register one method or option."""
    owners: dict[str, str] = {}
    for item in active_items(stack):
        for name in sorted(names_of(manifests[item["digest"]])):
            if name in owners:
                kind = "option" if name.startswith("--") else "method"
                raise HiveError(
                    f"{item['name']} and {owners[name]} both register the {kind} {name.lstrip('-')}; lightningd "
                    "allows one",
                    "name-clash",
                )
            owners[name] = item["name"]


def option_kinds(manifests: dict[str, dict[str, Any]], stack: Stack) -> dict[str, dict[str, str]]:
    """Return, per plugin, the type of each option."""
    return {
        item["name"]: {o["name"]: str(o["type"]) for o in manifests[item["digest"]]["options"]}
        for item in stack
        if item["digest"] in manifests
    }


def version_key(version: str) -> tuple[Any, ...]:
    """Return something that orders versions as people read them: numbers by value, a pre-release before its release."""
    text = version[1:] if version[:1] == "v" else version
    main, _, extra = text.partition("-")
    match = re.match(r"^([0-9.]*)(.*)$", main)
    numbers, suffix = (match.group(1), match.group(2)) if match else ("", main)
    parts = [int(part) for part in numbers.split(".") if part]
    while parts and parts[-1] == 0:
        parts.pop()
    released = 0 if suffix.startswith(("a", "b", "rc", "dev")) else 1
    return (tuple(parts), released, suffix, extra)
