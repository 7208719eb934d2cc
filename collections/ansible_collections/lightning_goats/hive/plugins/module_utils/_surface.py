# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The reviewed lists, and whether what a release shows over RPC is exactly what was reviewed. Controller only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._runes import CLASSES, READ_ONLY, SUBJECT, Role
from packaging.specifiers import InvalidSpecifier, SpecifierSet

Json = dict[str, Any]

SHIPPED = Path(__file__).parent / "_reviewed"
RPC, TOOLS, RUNES = "rpc.toml", "mcp-tools.toml", "runes.toml"
SCHEMA = 1
GATES = ("operator", "policy", "limits", "approval", "quorum", "signature")
# Of a manifest's lists, how one entry is called in a sentence.
LISTS = {
    "methods": "RPC method",
    "hooks": "hook",
    "subscriptions": "subscription",
    "options": "option",
    "dynamic_options": "dynamic option",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `name` is a sentence that holds when `ok`."""

    name: str
    ok: bool
    detail: str = ""

    def as_json(self) -> Json:
        """For evidence."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail}


@dataclass(frozen=True)
class Book:
    """One reviewed list, ours with the operator's own on top.

    Attributes:
        digests: by file name, of what it was read from.
    """

    content: Json
    digests: dict[str, str]


def read(name: str, own: Path | None = None) -> Book:
    """The shipped list ``name``, with that of the directory ``own`` on top where there is one.

    Raises:
        ReleaseError: ``reviewed``, a list cannot be read or has another form than this release reads.
    """
    shipped, digest = _parsed(SHIPPED / name)
    if own is None or not (own / name).is_file():
        if own is not None and not own.is_dir():
            raise ReleaseError("reviewed", f"{own} is not there: correct hive_reviewed_dir, or leave it empty.")
        return Book(shipped, {name: digest})
    more, more_digest = _parsed(own / name)
    return Book(_joined(shipped, more), {name: digest, f"own/{name}": more_digest})


def _parsed(path: Path) -> tuple[Json, str]:
    try:
        data = path.read_bytes()
        content = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise ReleaseError(
            "reviewed", f"{path} cannot be read ({error.strerror}): correct hive_reviewed_dir."
        ) from error
    except ValueError as error:
        raise ReleaseError("reviewed", f"{path} is not TOML ({error}): correct it.") from error
    if content.get("schema") != SCHEMA:
        raise ReleaseError(
            "reviewed", f"{path} does not say schema = {SCHEMA}, which is what is read here: correct it."
        )
    return content, hashlib.sha256(data).hexdigest()


def _joined(shipped: Json, own: Json) -> Json:
    """What is the operator's own comes first; lists of what is forbidden only grow."""
    joined = {**shipped}
    for key, value in own.items():
        before = shipped.get(key)
        if isinstance(value, list) and isinstance(before, list):
            joined[key] = [*value, *before] if key == "plugin" else sorted({*value, *before})
        elif isinstance(value, dict) and isinstance(before, dict):
            joined[key] = {**before, **value}
        else:
            joined[key] = value
    return joined


def entry_of(book: Book, name: str, version: str) -> Json | None:
    """What was reviewed for a plugin of this version; None when nobody has looked at it.

    Raises:
        ReleaseError: ``reviewed``, the list has an entry that cannot be used.
    """
    for entry in book.content.get("plugin") or []:
        if entry.get("name") != name:
            continue
        _sound(entry)
        try:
            if SpecifierSet(str(entry.get("versions", ""))).contains(version, prereleases=True):
                return dict(entry)
        except InvalidSpecifier as error:
            raise ReleaseError(
                "reviewed", f"{RPC} gives {name} for versions {entry['versions']!r}: correct it."
            ) from error
    return None


def _sound(entry: Mapping[str, Any]) -> None:
    """Refuse an entry that leaves something open; a method nobody has classified was not reviewed."""
    for method, said in (entry.get("methods") or {}).items():
        gates = said.get("gate") or []
        wrong = (
            said.get("class") not in CLASSES
            or not 1 <= int(said.get("danger") or 0) <= 10
            or not set(gates) <= set(GATES)
            # Whoever can do harm is stopped by something, and it is said by what.
            or (said["class"] != READ_ONLY and not gates)
        )
        if wrong:
            raise ReleaseError(
                "reviewed",
                f"{RPC} has no usable review of {method}: give its class ({', '.join(CLASSES)}), danger (1 to 10) and, "
                f"unless it is {READ_ONLY}, its gate ({', '.join(GATES)}).",
            )


def shown(manifest: Mapping[str, Any]) -> dict[str, set[str]]:
    """What a release manifest says it shows, in the terms of the reviewed list."""
    options = manifest["options"]
    return {
        "methods": set(manifest["rpc_methods"]),
        "hooks": set(manifest["hooks"]),
        "subscriptions": set(manifest["subscriptions"]),
        "options": {str(option["name"]) for option in options if not option["dynamic"]},
        "dynamic_options": {str(option["name"]) for option in options if option["dynamic"]},
    }


def compare(entry: Mapping[str, Any] | None, manifest: Mapping[str, Any]) -> list[Check]:
    """A check for each list that is as it was reviewed, and for each difference one that says what it is."""
    title = f"{manifest['name']} {manifest['version']}"
    if entry is None:
        return [Check(f"{title} was reviewed", False, f"no entry of {RPC} is for this plugin and version")]
    checks = []
    for key, there in shown(manifest).items():
        checks += _differences(LISTS[key], set(entry.get(key) or ()), there, f"{title} shows it")
    return checks


def _differences(word: str, reviewed: set[str], there: set[str], where: str) -> list[Check]:
    unreviewed, missing = sorted(there - reviewed), sorted(reviewed - there)
    checks = [
        Check(f"{word} {name} was reviewed", False, f"{where}, and {RPC} does not have it") for name in unreviewed
    ]
    checks += [Check(f"{word} {name} is there", False, f"{RPC} has it, and it is gone") for name in missing]
    return checks or [Check(f"every {word} is as reviewed ({len(there)})", True)]


def compare_live(reviewed: Sequence[Mapping[str, Any]], name: str, commands: Iterable[str], node: str) -> list[Check]:
    """What lightningd of a node itself lists, against the reviewed methods of all plugins of its stack.

    Args:
        reviewed: the entries of every plugin that runs there.
        name: the plugin that is looked at; what belongs to none is told of every plugin with the same prefix.
    """
    known = set(commands)
    of_all = {method for entry in reviewed for method in entry.get("methods") or ()}
    own = {method for entry in reviewed if entry["name"] == name for method in entry.get("methods") or ()}
    # lightningd does not say whose a method is: what begins like one of this plugin's could be its own.
    prefixes = {method.partition("-")[0] + "-" for method in own}
    stray = {method for method in known - of_all if any(method.startswith(prefix) for prefix in prefixes)}
    checks = [
        Check(f"RPC method {method} on {node} was reviewed", False, "no plugin of its stack may have it")
        for method in sorted(stray)
    ]
    checks += [
        Check(f"RPC method {method} answers on {node}", False, "lightningd does not list it")
        for method in sorted(own - known)
    ]
    return checks or [Check(f"lightningd of {node} lists exactly the reviewed methods ({len(own)})", True)]


def classes(book: Book) -> dict[str, Json]:
    """What was reviewed of every method, by name; of two entries for one plugin the first counts."""
    found: dict[str, Json] = {}
    for entry in book.content.get("plugin") or []:
        _sound(entry)
        for method, said in (entry.get("methods") or {}).items():
            found.setdefault(method, {**said, "plugin": entry["name"]})
    return found


def roles(book: Book, methods: Mapping[str, Json], wanted: Sequence[Any]) -> list[Role]:
    """The wanted roles, each held against the review of the methods it may call.

    Args:
        methods: what `classes` gives.
        wanted: names, ``<role>`` or ``<role>/<for whom>``.

    Raises:
        ReleaseError: ``rune-role``, a role is not known, or may call what it must not.
    """
    found = []
    for text in map(str, wanted):
        name, _, subject = text.partition("/")
        said = (book.content.get("roles") or {}).get(name)
        if said is None:
            there = ", ".join(sorted(book.content.get("roles") or {}))
            raise ReleaseError("rune-role", f"{RUNES} has no role {name!r}, only {there}: correct hive_runes.")
        role = Role.from_json({**said, "name": name, "subject": subject})
        _fits(role, said, bool(subject))
        _within(role, str(said.get("ceiling")), book, methods)
        found.append(role)
    labels = [role.label for role in found]
    if len(set(labels)) < len(labels):
        raise ReleaseError("rune-role", "hive_runes names a role twice: name each once.")
    return found


def _fits(role: Role, said: Mapping[str, Any], given: bool) -> None:
    needed = any("{subject}" in str(value) for value in (said.get("fixed") or {}).values())
    if needed != given or (given and not SUBJECT.fullmatch(role.subject)):
        form = f"{role.name}/<for whom>, letters, digits, - and _" if needed else role.name
        raise ReleaseError("rune-role", f"hive_runes gives {role.label!r}: write {form}.")


def _within(role: Role, ceiling: str, book: Book, methods: Mapping[str, Json]) -> None:
    """Refuse a role that may do more than its ceiling says, or anything that no role may do."""
    if ceiling not in CLASSES or not role.allowed:
        raise ReleaseError("rune-role", f"{RUNES} gives role {role.name} no methods or no ceiling: correct it.")
    never, looks = set(book.content.get("never") or ()), set(book.content.get("lightningd") or ())
    for method in role.allowed:
        if method in never:
            raise ReleaseError(
                "rune-role", f"{RUNES} lets role {role.name} call {method}, which no role may: take it out."
            )
        known = methods.get(method)
        if known is None and method not in looks:
            raise ReleaseError(
                "rune-role", f"{RUNES} lets role {role.name} call {method}, which nobody reviewed: take it out."
            )
        highest = READ_ONLY if known is None or _only_looks(role, method, known) else str(known["class"])
        if CLASSES.index(highest) > CLASSES.index(ceiling):
            raise ReleaseError(
                "rune-role", f"{RUNES} lets role {role.name} call {method}, which is {highest}: the role is {ceiling}."
            )


def _only_looks(role: Role, method: str, known: Mapping[str, Any]) -> bool:
    """Whether the role may call the method in no way but those that were reviewed as looking."""
    if method not in role.only or method in role.methods:
        return bool(known["class"] == READ_ONLY)
    reads = known.get("reads") or {}
    values = all(set(allowed) <= set(reads.get(key, ())) for key, allowed in role.only[method].items())
    return bool(known.get("bare")) and values


def refused(book: Book, methods: Mapping[str, Json]) -> list[str]:
    """Every method that a rune is tried with: those no role may call, and all that were reviewed."""
    return sorted({*(book.content.get("never") or ()), *(book.content.get("lightningd") or ()), *methods})
