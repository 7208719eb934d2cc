# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Says what is wrong with the variables of a fleet. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Json = dict[str, Any]

ADVICE = "correct it in the inventory or on the command line, then run again."


def check(options: Mapping[str, Json], values: Mapping[str, Json]) -> list[str]:
    """A sentence for each mistake, with the names of all nodes that share it.

    Args:
        options: ``options`` of an entry point of a role's argument specs.
        values: per node the variables that are set, templated.
    """
    found: dict[str, list[str]] = {}
    validator = ArgumentSpecValidator(dict(options))
    for node in values:
        given = {name: value for name, value in values[node].items() if name in options}
        told = [
            str(text).rstrip(".") for text in validator.validate(given, validate_role_argument_spec=True).error_messages
        ]
        for text in [*told, *_together(given)]:
            found.setdefault(text, []).append(node)
    return [f"{', '.join(nodes)}: {text}: {ADVICE}" for text, nodes in found.items()]


def _together(given: Json) -> list[str]:
    """What each variable alone cannot show."""
    if given.get("hive_runtime") == "docker" and not given.get("hive_container"):
        return ["hive_runtime is docker and hive_container, the name of lightningd's container, is not set"]
    return []
