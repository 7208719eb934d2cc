# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""From series to reasons: invariants at once, then all comparisons of the stage together, so that many are no trap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import _judge_counts, _judge_levels, _judge_memory
from ._judge import FAILING, HEALTHY, INCONCLUSIVE
from ._judge_invariants import breaches
from ._judge_numbers import holm
from ._judge_plots import plots
from ._judge_window import Case, Columns, Test, look_at, switched_at

Json = dict[str, Any]

# What shows a reason with the operator's own eyes: on the node, or from the controller.
COMMANDS = {
    "lightningd": "lightning-cli getinfo",
    "silence": "lightning-cli getinfo",
    "sync": "lightning-cli getinfo",
    "plugin": "lightning-cli plugin list",
    "crash-loop": "lightning-cli plugin list",
    "restarts": "lightning-cli getlog broken",
    "log": "lightning-cli getlog broken",
    "errors": "lightning-cli getlog broken",
    "channels": "lightning-cli listpeerchannels",
    "htlcs": "lightning-cli listpeerchannels",
    "peers": "lightning-cli listpeers",
    "forwards": "lightning-cli listforwards settled",
    "failed-forwards": "lightning-cli listforwards failed",
}
STATUS = "ansible-playbook playbooks/status.yml --limit {node}"


def command(check: str, node: str) -> str:
    """The command that shows what a reason is about."""
    return COMMANDS.get(check) or (STATUS.format(node=node) if node else STATUS.removesuffix(" --limit {node}"))


def reason(node: str, check: str, verdict: str, detail: str, figures: Json | None = None) -> Json:
    """One reason, as it is told."""
    return {
        "node": node,
        "check": check,
        "verdict": verdict,
        "detail": detail,
        "figures": {name: _plain(value) for name, value in (figures or {}).items()},
        "command": command(check, node),
    }


def _plain(value: float) -> float:
    return value if isinstance(value, int) else float(f"{float(value):.4g}")


def findings(subjects: Mapping[str, Any], controls: Mapping[str, Json], policy: Json) -> tuple[list[Json], Json]:
    """All reasons of a stage, the strongest first, and the plots of its nodes.

    Args:
        subjects: `_judge_soak.SoakSubject` by node.
        controls: series of nodes that were not switched.
        policy: as `_judge_soak.judge_soak` takes it.
    """
    interval = float(policy["interval_seconds"])
    beside = {node: Columns(controls[node], interval) for node in sorted(controls) if node not in subjects}
    beside = {node: columns for node, columns in beside.items() if len(columns.time)}
    cases = [_case(node, subjects[node], beside, policy) for node in sorted(subjects)]
    found = []
    tests: list[tuple[Test, float]] = []
    for case in cases:
        found += [reason(case.name, b.check, b.verdict, b.detail, b.figures) for b in breaches(case)]
        look = look_at(case.elapsed, policy)
        if look is not None and case.after(case.columns).any():
            tests += [(test, look.alpha) for test in _tests(case, look.seconds)]
        found += _notes(case)
    found += _decided(tests)
    order = {FAILING: 0, INCONCLUSIVE: 1, HEALTHY: 2}
    ranked = sorted(enumerate(found), key=lambda pair: (order[pair[1]["verdict"]], *_weight(pair[1]), pair[0]))
    return [found[number] for number, _ in ranked], {case.name: plots(case) for case in cases}


def _weight(held: Json) -> tuple[float, float, str]:
    """Invariants come before comparisons, and of these the least likely first."""
    return "p" in held["figures"], held["figures"].get("p", 0.0), held["node"]


def _case(node: str, subject: Any, controls: Mapping[str, Columns], policy: Json) -> Case:
    columns = Columns(subject.series, float(policy["interval_seconds"]))
    last = float(columns.all_time[-1]) if len(columns.all_time) else subject.since
    switched, tried = switched_at(columns, subject.since, subject.expected)
    return Case(
        name=node,
        since=subject.since,
        switched=switched,
        tried=tried,
        columns=columns,
        expected=sorted(subject.expected, key=lambda item: str(item["name"])),
        restarts_allowed=subject.restarts_allowed,
        controls=controls,
        elapsed=last - subject.since,
        soak_seconds=60.0 * policy["minutes"],
    )


def _tests(case: Case, seconds: float) -> Iterator[Test]:
    yield from _judge_counts.tests(case, seconds)
    yield from _judge_levels.tests(case, seconds)
    yield from _judge_memory.tests(case, seconds)


def _decided(tests: Sequence[tuple[Test, float]]) -> list[Json]:
    """The comparisons that say something: those that fail the stage, and those that all nodes have in common."""
    alpha = min((alpha for _, alpha in tests), default=0.0)
    rejected = holm({(test.node, test.check, test.what): test.p for test, _ in tests}, alpha)
    found = []
    for test, _ in tests:
        if not test.material:
            continue
        if test.excused:
            detail = f"{test.detail}, but {test.excused}: not for this stage to answer for"
            found += [reason(test.node, test.check, HEALTHY, detail, test.figures)] if _is_shared(test, alpha) else []
        elif (test.node, test.check, test.what) in rejected:
            found.append(reason(test.node, test.check, FAILING, test.detail, test.figures))
    return found


def _is_shared(test: Test, alpha: float) -> bool:
    """Whether it would have counted, had the others not had it too."""
    return bool(test.figures["p"] <= alpha)


def _notes(case: Case) -> list[Json]:
    """What people should know of how this was judged."""
    words = _judge_levels.history_told(case)
    found = [reason(case.name, "history", HEALTHY, words)] if words else []
    if not case.controls:
        found.append(reason(case.name, "controls", HEALTHY, "no control node to compare with"))
    return found
