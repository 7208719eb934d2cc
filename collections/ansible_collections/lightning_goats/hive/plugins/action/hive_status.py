# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_status: the fleet as a table, from what hive_observe registered. It never connects to a node."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _evidence_all,
    _metrics,
    _plan_hosts,
    _report_drills,
    _report_skew,
    _report_status,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._evidence import NAMESPACE, Evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_keys import find_signer

Json = dict[str, Any]

ARGUMENTS: Json = {
    "evidence_dir": {"type": "str", "default": ""},
    "signing_key": {"type": "str", "default": ""},
    "allowed_signers": {"type": "str", "default": ""},
    "keys_dir": {"type": "str", "default": "var/keys"},
    "fleet": {"type": "str", "default": ""},
    "metrics_dir": {"type": "str", "default": ""},
}
# Reading evidence must not make a look at the fleet wait.
EVIDENCE_SECONDS = 10.0


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_status.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        hosts = _plan_hosts.Hosts(variables)
        observed: dict[str, Json | None] = {}
        troubles: dict[str, str] = {}
        for node in hosts.names:
            found = hosts.result(node, _plan_hosts.OBSERVED)
            troubles[node] = _plan_hosts.trouble(node, found)
            observed[node] = None if troubles[node] or found is None else found.get("observed")
        now = time.time()
        nodes = _report_status.status(observed, troubles, now)
        evidence: list[Evidence] = []
        if args["evidence_dir"]:
            directory, signers = _plan_hosts.project_path(variables, args["evidence_dir"]), _signers(args, variables)
            _report_drills.add(nodes, directory, signers, now)
            evidence = _evidence_of(directory, signers)
        skew = _report_skew.skew(nodes, evidence, now)
        if args["metrics_dir"] and not self._task.check_mode:
            place = _plan_hosts.project_path(variables, args["metrics_dir"])
            try:
                _metrics.fleet_state(args["fleet"], nodes, now).write(place, "fleet")
            except OSError as error:
                raise AnsibleActionFail(_metrics.sentence(error, place)) from error
        bad = [node for node, entry in nodes.items() if entry["state"] in ("down", "unreachable")]
        count = f"{len(nodes) - len(bad)} of {len(nodes)} nodes answer"
        lines = [*_report_status.table(nodes), "", *_report_skew.lines(skew)]
        result.update(changed=False, nodes=nodes, skew=skew, lines=lines, msg=count)
        return result


def _evidence_of(directory: Path, signers: Path) -> list[Evidence]:
    """All evidence that verifies; none where nobody may sign it."""
    try:
        found = _evidence_all.collect(directory, signers, EVIDENCE_SECONDS).found
    except ReleaseError:
        return []
    return [one for group in found.values() for one in group]


def _signers(args: Json, variables: Mapping[str, Any]) -> Path:
    """The list of who may sign evidence; whoever only reads it needs no key."""
    if args["allowed_signers"]:
        return _plan_hosts.project_path(variables, args["allowed_signers"])
    if args["signing_key"]:
        return _plan_hosts.project_path(variables, args["signing_key"]).parent / "allowed_signers"
    return find_signer("", "", _plan_hosts.project_path(variables, args["keys_dir"]), NAMESPACE).allowed_signers
