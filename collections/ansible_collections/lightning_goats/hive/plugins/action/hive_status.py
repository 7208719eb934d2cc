# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_status: the fleet as a table, from what hive_observe registered. It never connects to a node."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_hosts, _report_status

Json = dict[str, Any]


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_status.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        hosts = _plan_hosts.Hosts(task_vars or {})
        observed: dict[str, Json | None] = {}
        troubles: dict[str, str] = {}
        for node in hosts.names:
            found = hosts.result(node, _plan_hosts.OBSERVED)
            troubles[node] = _plan_hosts.trouble(node, found)
            observed[node] = None if troubles[node] or found is None else found.get("observed")
        nodes = _report_status.status(observed, troubles, time.time())
        bad = [node for node, entry in nodes.items() if entry["state"] in ("down", "unreachable")]
        count = f"{len(nodes) - len(bad)} of {len(nodes)} nodes answer"
        result.update(changed=False, nodes=nodes, lines=_report_status.table(nodes), msg=count)
        return result
