# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_inputs: checks the variables of all nodes of a batch in this one process. It never connects to a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import _inputs, _plan_hosts

Json = dict[str, Any]

ARGUMENTS: Json = {
    "argument_specs": {"type": "path", "required": True},
    "entry_point": {"type": "str", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_inputs.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        specs = self._loader.load_from_file(args["argument_specs"]).get("argument_specs") or {}
        if args["entry_point"] not in specs:
            raise AnsibleActionFail(
                f"{args['argument_specs']} has no entry point {args['entry_point']}; name one of it."
            )
        options = _plan_hosts.plain(specs[args["entry_point"]].get("options") or {})
        hosts = _plan_hosts.Hosts(variables)
        values: dict[str, Json] = {}
        wrong: list[str] = []
        for node in map(str, variables.get("ansible_play_batch") or hosts.names):
            values[node] = {}
            for name in options:
                try:
                    found = hosts.get(node, name)
                except AnsibleError as error:
                    wrong.append(f"{node}: {name} cannot be evaluated ({error}): {_inputs.ADVICE}")
                    continue
                if found is not None:
                    values[node][name] = found
        wrong += _inputs.check(options, values)
        result.update(changed=False, nodes=sorted(values))
        if wrong:
            result.update(failed=True, msg=" ".join(wrong))
        return result
