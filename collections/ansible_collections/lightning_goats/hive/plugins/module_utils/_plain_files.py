# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Reads files that people and other machines have put somewhere: ordinary ones, of a bounded size, that say each thing
once. Controller only.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import yaml


def read(path: Path, limit: int) -> bytes:
    """At most ``limit`` bytes and one, so that a larger file can be told. Raises OSError, also for what is no file.

    A pipe would be waited for until somebody writes into it, whatever deadline there is.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is no ordinary file", str(path))
        return file.read(limit + 1)


class _Loader(yaml.SafeLoader):
    """YAML without what a reviewer overlooks: a key that stands there twice, of which the last one would count, and
    parts that stand elsewhere, which may also make a short file endless.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML has no types for it
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.constructor.ConstructorError(None, None, "write out what & and * stand for", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        found: set[Any] = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key.value, str) else None
            if name in found:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands there twice", key.start_mark)
            found.add(name)
        return super().construct_mapping(node, deep=deep)


def load_yaml(data: bytes) -> Any:
    """The one document in ``data``. Raises yaml.YAMLError, ValueError or RecursionError."""
    return yaml.load(data, Loader=_Loader)
