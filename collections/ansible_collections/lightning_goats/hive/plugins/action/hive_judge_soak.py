# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_judge_soak: the verdict over the stages that soak, and what follows from it. It never connects to a node."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _judge,
    _judge_soak,
    _plan_hosts,
    _plan_rollout,
    _report_control,
    _series,
)

Json = dict[str, Any]

ARGUMENTS: Json = {
    "accept": {"type": "str", "default": ""},
    "interval_seconds": {"type": "float", "default": 30.0},
    "restarts_allowed": {"type": "int", "default": 0},
}
# The gravest first: what one stage says counts for all.
STATES = (_judge_soak.FAILED, _judge_soak.PAUSED, _judge_soak.SOAKING, _judge_soak.SOAKED)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_judge_soak.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        hosts = _plan_hosts.Hosts(task_vars or {})
        run = (hosts.first(_plan_hosts.PLANNED) or {})["run"]
        wrong = [stage["name"] for stage in run["soaking"]]
        if args["accept"] and args["accept"] not in wrong:
            raise AnsibleActionFail(
                f"hive_soak_accept names {args['accept']!r}, and what soaks is {', '.join(wrong)}: correct the name."
            )
        series = {node: _series_of(hosts, node) for node in hosts.names}
        stages = [judged(stage, run, series, {**args, **pace(hosts, stage, args)}) for stage in run["soaking"]]
        stages = together(stages)
        state = next(word for word in STATES if any(stage["state"] == word for stage in stages))
        result.update(
            changed=False,
            state=state,
            stages=stages,
            soaked=[node for stage in stages for node in stage["soaked"]],
            accepted=[node for stage in stages for node in stage["soaked"] if stage["accepted"]],
            back=[node for stage in stages for node in stage["back"]],
            dead=[node for stage in stages if stage["state"] == _judge_soak.FAILED for node in stage["back"]],
            members={node: facts for stage in run["soaking"] for node, facts in stage["members"].items()},
            about={node: stage["about"] for stage in run["soaking"] for node in stage["members"]},
            msg="; ".join(stage["msg"] for stage in stages),
        )
        return result


def pace(hosts: _plan_hosts.Hosts, stage: Json, args: Json) -> Json:
    """How far apart the samples of a stage are: as far as those of its slowest probe, else it seems to miss some."""
    default = args["interval_seconds"]
    seconds = [float(hosts.get(node, "hive_probe_interval_seconds") or default) for node in stage["nodes"]]
    return {"interval_seconds": max(seconds, default=default)}


def _series_of(hosts: _plan_hosts.Hosts, node: str) -> Json | str:
    """What the probe of a node saw, or why that is not known."""
    found = hosts.result(node, _plan_hosts.SAMPLED)
    trouble = _plan_hosts.trouble(node, found)
    if trouble or found is None:
        return trouble or f"{node} was not asked what its probe saw."
    return _series.unpack(str(found["series"]))


def judged(stage: Json, run: Json, series: Mapping[str, Json | str], args: Json) -> Json:
    """The verdict over one stage, who has soaked, and who goes back.

    Nodes that fail within the failure budget go back alone, and the others are judged without them; the canary has no
    such budget.

    Raises:
        AnsibleActionFail: the samples of one of its nodes could not be read.
    """
    nodes, alone = list(stage["nodes"]), list(stage["failed"])
    budget = int(run["failure_budget"]) if stage["number"] else 0
    spent = len(run["failed"])
    back: list[str] = []
    answer = _answer(stage, nodes, run, series, args)
    failing = sorted({reason["node"] for reason in answer["reasons"] if reason["verdict"] == _judge.FAILING})
    if failing and "" not in failing and spent + len(failing) <= budget:
        back, nodes = failing, [node for node in nodes if node not in failing]
        answer = _answer(stage, nodes, run, series, args) if nodes else {**answer, "state": _judge_soak.SOAKED}
        failing = [reason["node"] for reason in answer["reasons"] if reason["verdict"] == _judge.FAILING and nodes]
    if failing or (alone and spent > budget):
        reasons = [_went_back(node, why) for node, why in stage["failed"].items()]
        answer = {**answer, "verdict": _judge.FAILING, "state": _judge_soak.FAILED}
        # Of nobody there is nothing more to say.
        answer["reasons"] = [*reasons, *(answer["reasons"] if stage["nodes"] else [])]
        back = [*stage["nodes"], *alone]
    soaked = nodes if answer["state"] == _judge_soak.SOAKED else []
    return {
        **answer,
        "name": stage["name"],
        "number": stage["number"],
        "nodes": nodes,
        "soaked": soaked,
        "back": back,
        "accepted": answer["verdict"] != _judge.HEALTHY and bool(soaked),
        "msg": _sentence(stage["name"], answer),
    }


def together(stages: list[Json]) -> list[Json]:
    """The stages, where one failed: its plan dies with it, and what still soaks under a dead plan is never judged.

    So that goes back as well. Several soak at once where the whole fleet is kept at once.
    """
    failed = [stage["name"] for stage in stages if stage["state"] == _judge_soak.FAILED]
    if not failed:
        return stages
    words = f"its plan is dead, because {', '.join(failed)} failed, so that it would never be judged"
    found = []
    for stage in stages:
        if stage["state"] in (_judge_soak.SOAKING, _judge_soak.PAUSED):
            reason = _reason("", "plan", words)
            answer = {**stage, "verdict": _judge.FAILING, "state": _judge_soak.FAILED, "come_back_at": 0}
            answer.update(remaining_seconds=0, reasons=[reason, *stage["reasons"]])
            back = [*dict.fromkeys([*stage["back"], *stage["nodes"]])]
            found.append({**answer, "back": back, "msg": _sentence(stage["name"], answer)})
        else:
            found.append(stage)
    return found


def _answer(stage: Json, nodes: list[str], run: Json, series: Mapping[str, Json | str], args: Json) -> Json:
    subjects = {}
    for node in nodes:
        seen, facts = series[node], stage["members"][node]
        if isinstance(seen, str):
            raise AnsibleActionFail(f"{stage['name']} cannot be judged: {seen}")
        subjects[node] = _judge_soak.SoakSubject(
            since=facts["since"],
            since_height=facts["since_height"],
            series=seen,
            expected=facts["expected"],
            restarts_allowed=args["restarts_allowed"],
        )
    controls = {node: seen for node in run["controls"] if not isinstance(seen := series[node], str)}
    soak = stage["soak"]
    policy = {
        **{key: soak[key] for key in _plan_rollout.NO_SOAK},
        "now": time.time(),
        "interval_seconds": args["interval_seconds"],
        "accepted": args["accept"] == stage["name"],
    }
    answer = _judge_soak.judge_soak(subjects, controls, policy)
    _report_control.add(answer["plots"], controls)
    return answer


def _went_back(node: str, why: str) -> Json:
    return _reason(node, "self-reverted", f"it went back by itself: {why}")


def _reason(node: str, check: str, detail: str) -> Json:
    return {
        "node": node,
        "check": check,
        "verdict": _judge.FAILING,
        "detail": detail,
        "figures": {},
        "command": "ansible-playbook playbooks/status.yml",
    }


def _sentence(name: str, answer: Json) -> str:
    """The stage in one line, with what to do where somebody has to."""
    told = f"{name}: {_judge_soak.sentence(answer)}"
    if answer["state"] == _judge_soak.PAUSED:
        return (
            f"{told}. Nothing goes on by itself now: accept it with -e 'hive_soak_accept={name}', or go back with "
            "playbooks/rollback.yml or playbooks/abort.yml."
        )
    if answer["state"] == _judge_soak.SOAKING:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(answer["come_back_at"]))
        return f"{told}; come back after {when}"
    return told
