# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What a rune of a role may do: its restrictions, the calls it is tried with, and what runes of others could do.

Pure; the controller and the node use the same code. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

READ_ONLY, MUTATING, SPENDING = "read-only", "mutating", "spending"
CLASSES = (READ_ONLY, MUTATING, SPENDING)
SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,128}")
PLACE = "{subject}"
# A comment inside the rune: it permits everything, and lets us know our own among all others.
TAG = "hiverole"
# A value that no restriction of ours asks for.
OTHER = "something-else"


@dataclass(frozen=True)
class Role:
    """What the holder of a rune may call.

    Attributes:
        methods: allowed with any parameters.
        only: allowed without parameters, or with the one parameter given by name, of one of these values.
        fixed: parameters that every call has to give by name, with exactly this value.
        subject: for whom it is, where the role is for one of several; else empty.
    """

    name: str
    methods: tuple[str, ...]
    only: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    subject: str = ""

    @property
    def label(self) -> str:
        """The name of its files and of its tag."""
        return f"{self.name}-{self.subject}" if self.subject else self.name

    @property
    def allowed(self) -> tuple[str, ...]:
        """Every method that can be called in some way."""
        return tuple(sorted({*self.methods, *self.only}))

    def as_json(self) -> Json:
        """What `from_json` makes the same role of."""
        return {
            "name": self.name,
            "methods": list(self.methods),
            "only": {method: {key: list(values) for key, values in by.items()} for method, by in self.only.items()},
            "fixed": dict(self.fixed),
            "subject": self.subject,
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Role:
        """A role as `as_json` wrote it, or as the reviewed list has it."""
        return cls(
            str(said["name"]),
            tuple(sorted(str(name) for name in said.get("methods") or ())),
            {
                str(method): {str(key): tuple(str(value) for value in values) for key, values in by.items()}
                for method, by in (said.get("only") or {}).items()
            },
            {str(key): str(value) for key, value in (said.get("fixed") or {}).items()},
            str(said.get("subject") or ""),
        )


def restrictions(role: Role) -> list[list[str]]:
    """What `createrune` is told: of each inner list one has to hold, and all of the lists."""
    made = [[f"method={method}" for method in role.allowed]]
    for method in sorted(role.only):
        by = role.only[method]
        # No second parameter: a name that is said twice would be judged by the first and used by the last.
        made.append([f"method/{method}", "pnum<2"])
        values = [f"pname{_bare(key)}={value}" for key in sorted(by) for value in by[key]]
        made.append([f"method/{method}", "pnum=0", *values])
    made += [[f"pname{_bare(key)}={role.fixed[key].replace(PLACE, role.subject)}"] for key in sorted(role.fixed)]
    return [*made, [f"{TAG}#{role.label}"]]


def digest(role: Role) -> str:
    """What tells one set of restrictions from another."""
    return hashlib.sha256(json.dumps(restrictions(role)).encode()).hexdigest()


def _bare(name: str) -> str:
    """A parameter's name as runes know it."""
    return "".join(letter for letter in name if letter.isalnum())


@dataclass(frozen=True)
class Call:
    """One call that a rune is tried with, and whether it has to be permitted."""

    method: str
    params: Any
    permitted: bool

    @property
    def title(self) -> str:
        """For people: `pay is refused`."""
        given = f" {json.dumps(self.params)}" if self.params else ""
        return f"{self.method}{given} is {'permitted' if self.permitted else 'refused'}"


def calls(role: Role, refused: Sequence[str]) -> list[Call]:
    """The calls that prove a rune of the role: every allowed method, every bound of its parameters, and ``refused``.

    Args:
        refused: methods that have to be refused unless the role allows them.
    """
    fixed = {key: value.replace(PLACE, role.subject) for key, value in role.fixed.items()}
    found = [Call(method, fixed, True) for method in role.allowed]
    for method in sorted(role.only):
        for key, values in sorted(role.only[method].items()):
            found += [Call(method, {key: value}, True) for value in values]
            found += [
                Call(method, {key: OTHER}, False),
                Call(method, [OTHER], False),
                Call(method, {key: values[0], "and": OTHER}, False),
            ]
        found.append(Call(method, {"and": OTHER}, False))
    for key in sorted(fixed):
        rest = {name: value for name, value in fixed.items() if name != key}
        found += [Call(role.allowed[0], {**rest, key: OTHER}, False), Call(role.allowed[0], rest, False)]
    allowed = set(role.allowed)
    found += [Call(method, fixed, False) for method in sorted(set(refused)) if method not in allowed]
    # A longer name that begins like an allowed one.
    return [*found, *(Call(f"{method}-x", fixed, False) for method in role.allowed)]


def could_call(described: Sequence[Mapping[str, Any]], method: str) -> bool:
    """Whether a rune with these restrictions, as `showrunes` describes them, could ever call ``method``.

    What depends on anything but the method counts as if it held.
    """
    return all(
        any(_could(alternative, method) for alternative in restriction["alternatives"]) for restriction in described
    )


def _could(alternative: Mapping[str, Any], method: str) -> bool:
    if alternative["fieldname"] != "method":
        return True
    value = str(alternative.get("value", ""))
    condition = alternative["condition"]
    known = {
        "=": method == value,
        "/": method != value,
        "^": method.startswith(value),
        "$": method.endswith(value),
        "~": value in method,
        "{": method < value,
        "}": method > value,
        "!": False,
    }
    return known.get(condition, True)


def label_of(described: Sequence[Mapping[str, Any]]) -> str:
    """The label of a rune of ours; empty for one of others."""
    for restriction in described:
        for alternative in restriction["alternatives"]:
            if alternative["fieldname"] == TAG and alternative["condition"] == "#":
                return str(alternative.get("value", ""))
    return ""


def foreign(shown: Sequence[Mapping[str, Any]], takes_over: Sequence[str]) -> list[Json]:
    """The runes of others that still count, each with what is wrong with it.

    Args:
        shown: the list of `showrunes`.
        takes_over: methods with which a holder is as good as the operator.
    """
    found = []
    for entry in shown:
        described = entry.get("restrictions") or []
        if entry.get("blacklisted") or label_of(described):
            continue
        could = sorted(method for method in takes_over if could_call(described, method))
        # `stored` is false for one that was only handed in for an explanation.
        found.append({"id": str(entry.get("unique_id", "")), "unrestricted": not described, "could_call": could})
    return found
