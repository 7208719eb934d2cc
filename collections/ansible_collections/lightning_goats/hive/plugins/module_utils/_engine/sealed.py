"""Secret option values: journal, facts, reports and diffs hold a fingerprint, and the value stays on the node."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from .errors import HiveError
from .files import Owner, canonical, read_json, write_atomic

SECRET = re.compile(r"(^|-)(token|secret|password|passwd|passphrase|credential|macaroon|rune|api-?key|private-?key)s?$")
PREFIX = "sha256:"

Stack = list[dict[str, Any]]


def is_secret(option: str) -> bool:
    """Whether an option's value must not be shown, going by its name."""
    return SECRET.search(option) is not None


def fingerprint(option: str, value: Any) -> str:
    """Return what stands for a secret value: equal for equal values, and no way back."""
    return PREFIX + hashlib.sha256(canonical([option, value])).hexdigest()[:24]


def seal_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with fingerprints in place of secrets; what is sealed stays as it is."""
    return {
        name: fingerprint(name, value)
        if is_secret(name) and not is_sealed(value) and value not in ("", None)
        else value
        for name, value in options.items()
    }


def is_sealed(value: Any) -> bool:
    """Whether a value is a fingerprint already."""
    return isinstance(value, str) and value.startswith(PREFIX) and len(value) == len(PREFIX) + 24


def seal(stack: Stack) -> Stack:
    """Return a stack with fingerprints in place of secrets."""
    return [{**item, "options": seal_options(item["options"])} for item in stack]


class Vault:
    """The values behind the fingerprints of one node, in a file of mode 0600."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self.owner = owner

    def _values(self) -> dict[str, Any]:
        values = read_json(self.path)
        return values if isinstance(values, dict) else {}

    def keep(self, *stacks: Stack) -> None:
        """Remember the secrets of these stacks; must come before their fingerprints are written anywhere."""
        values = self._values()
        found = {
            fingerprint(name, value): value
            for stack in stacks
            for item in stack
            for name, value in item["options"].items()
            if is_secret(name) and not is_sealed(value) and value not in ("", None)
        }
        if set(found) - set(values):
            write_atomic(self.path, json.dumps({**values, **found}, sort_keys=True).encode(), self.owner)

    def open(self, stack: Stack) -> Stack:
        """Return a stack with its secrets in place of the fingerprints.

        Raises:
            HiveError: a value is not known on this node any more.
        """
        if not any(is_sealed(value) for item in stack for value in item["options"].values()):
            return stack
        values = self._values()
        opened = []
        for item in stack:
            options = {}
            for name, value in item["options"].items():
                if is_sealed(value) and value not in values:
                    raise HiveError(
                        f"the value of {name} is not in {self.path} any more, so that stack cannot be brought back; "
                        "switch to a stack that gives it",
                        "secret-lost",
                    )
                options[name] = values.get(value, value) if is_sealed(value) else value
            opened.append({**item, "options": options})
        return opened
