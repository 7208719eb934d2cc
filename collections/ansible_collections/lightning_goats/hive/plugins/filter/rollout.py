# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Filters that hand the plan to a play's own keywords, which are evaluated before the play has a host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

PLANNED = "__hive_gate_result"
# A pattern that matches no host and that Ansible does not warn about.
NOBODY = "all:!all"


def planned_run(hostvars: Mapping[str, Any]) -> Mapping[str, Any]:
    """What hive_plan handed on (RV run), from the first host that knows; nothing to run when no plan was made."""
    for node in hostvars:
        variables = hostvars[node]
        if PLANNED in variables and "run" in variables[PLANNED]:
            run: Mapping[str, Any] = variables[PLANNED]["run"]
            return run
    return {"hosts": [], "serial": []}


def planned_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes to change as a host pattern, in the order of the plan."""
    return ",".join(planned_run(hostvars)["hosts"]) or NOBODY


def planned_serial(hostvars: Mapping[str, Any]) -> list[int]:
    """The sizes of the batches, as the play keyword serial takes them."""
    return list(planned_run(hostvars)["serial"]) or [1]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"planned_hosts": planned_hosts, "planned_serial": planned_serial}
