# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""A report as one page that needs nothing else: no server, no network, no script. Controller only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _report_gates,
    _report_plot,
    _report_soak,
    _report_timeline,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._report import Json, summary
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import clock, duration
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

HERE = Path(__file__).parent
TEMPLATE = "_report.html.j2"
# What each word of a report means to whoever reads it; the others are neither good nor bad.
TONES = {
    "good": ("success", "confirmed", "healthy", "soaked", "pass", "passed", "allowed", "accepted"),
    "bad": ("failed", "failing", "refused", "unreachable", "block", "denied", "braked", "revert-failed", "incident"),
    "wait": ("reverted", "reverting", "inconclusive", "paused", "waived", "switched", "open"),
    "info": ("running", "soaking"),
}
GATES = "ansible-playbook playbooks/gates.yml"
TONE = {word: tone for tone, words in TONES.items() for word in words}


def html(report: Json) -> str:
    """The whole page."""
    now = report["finished_at"] or report["started_at"]
    timeline = _report_timeline.drawn(report)
    return prepare().render(
        report=report,
        summary=summary(report),
        now=now,
        took=took(report),
        tally=tally(report),
        steps=list(steps(report)),
        plans=plans(report),
        timeline=timeline,
        sections=list(sections(report, timeline is not None)),
    )


@cache
def prepare() -> Template:
    """The page's template, compiled with all its parts; a process that forks others does it once for all of them."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    for part in HERE.glob("_report*.j2"):
        environment.get_template(part.name)
    return environment.get_template(TEMPLATE)


def tone(word: str) -> str:
    """The class of a word: good, bad, wait, info or idle."""
    return TONE.get(word, "idle")


def took(report: Json) -> str:
    """How long the run took."""
    if report["finished_at"] is None:
        return "under way"
    return duration(report["finished_at"] - report["started_at"])


def tally(report: Json) -> str:
    """How many nodes came to which result: ``2 confirmed, 1 untouched``."""
    counted = Counter(node["result"] for node in report["nodes"].values())
    return ", ".join(f"{count} {word}" for word, count in counted.most_common()) or "none"


def steps(report: Json) -> Iterator[tuple[str, str]]:
    """What the operator does next, each with its command or ""."""
    run = "ansible-playbook playbooks/rollout.yml"
    soaking = [soak for soak in report["soaks"] if soak["state"] == _report_soak.SOAKING]
    if report["result"] == "soaking":
        when = "; ".join(_report_soak.come_back(soak, report["finished_at"] or 0) for soak in soaking)
        yield f"Nothing until then: {when}. The same command goes on.", run
    elif report["result"] == "paused":
        yield from _paused(report, run)
    elif report["result"] == "refused" and report["gates"] and report["gates"]["decision"] == "denied":
        yield "Make what is missing; each check that blocks says how. Ask again at any time.", GATES
    elif report["result"] == "braked":
        yield (
            "When you know why it was pulled, release the brake and run again.",
            "ansible-playbook playbooks/brake.yml -e hive_brake_state=absent",
        )


def _paused(report: Json, run: str) -> Iterator[tuple[str, str]]:
    for soak in report["soaks"]:
        if soak["state"] == _report_soak.PAUSED:
            yield f"Keep {soak['stage']} as it is:", f"{run} -e 'hive_soak_accept={soak['stage']}'"
            yield "or give the rollout up, which takes its nodes back:", "ansible-playbook playbooks/abort.yml"
    if report["pauses"]:
        yield "Go on when you are ready.", "ansible-playbook playbooks/resume.yml"


def sections(report: Json, timeline: bool) -> Iterator[tuple[str, str]]:
    """The parts that this page has."""
    there = {
        "soaks": report["soaks"],
        "gates": report["gates"],
        "plan": report["plan_lines"],
        "timeline": timeline,
        "evidence": report["incidents"] or report["evidence"],
    }
    titles = {
        "stages": "Stages",
        "timeline": "Timeline",
        "soaks": "Soaks",
        "gates": "Gates",
        "nodes": "Nodes",
        "plan": "Plan",
        "evidence": "Incidents and evidence",
        "history": "History",
    }
    return ((name, title) for name, title in titles.items() if there.get(name, True))


def plans(report: Json) -> list[tuple[list[str], Json]]:
    """What is planned, the nodes for which it is the same together."""
    found: list[tuple[list[str], Json]] = []
    for name, step in report["plan_lines"].items():
        same = next((names for names, other in found if other == step), None)
        if same is None:
            found.append(([name], step))
        else:
            same.append(name)
    return found


def gauges(soak: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """What of the soak has passed: label, words, percent."""
    needed = [(name, pair) for name, pair in soak["progress"].items() if pair[1] > 0]
    return [
        ("time" if name == "minutes" else name, words, min(100, int(100 * have / need)))
        for (name, (have, need)), words in zip(needed, _report_soak.measures(soak), strict=True)
    ]


def drawn(soak: Mapping[str, Any]) -> dict[str, list[Json]]:
    """The plots of each node, in the order of what they show."""
    found = {
        node: [one for name in sorted(plots, key=_report_plot.place) if (one := _report_plot.drawn(name, plots[name]))]
        for node, plots in soak["plots"].items()
    }
    return {node: plots for node, plots in found.items() if plots}


def moving(plots: Sequence[Json]) -> list[Json]:
    """The plots in which something is to be seen."""
    return [plot for plot in plots if not plot["still"]]


def still(plots: Sequence[Json]) -> str:
    """The others in words: ``ERROR lines 0, live channels 4``."""
    return ", ".join(f"{plot['title']} {plot['level']}" for plot in plots if plot["still"])


def controlled(found: Mapping[str, list[Json]]) -> bool:
    """Whether any plot has the line of the nodes that did not change."""
    return any(plot["control"] for plots in found.values() for plot in plots)


def suspects(soak: Mapping[str, Any], node: str) -> bool:
    """Whether the judge has something to say about the node."""
    return any(reason["node"] == node for reason in soak["reasons"])


def number(value: Any) -> str:
    """A figure of a reason."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def moment(value: Any) -> str:
    """When a waiver ends: unix seconds, or as its register says it."""
    return clock(value) if isinstance(value, (int, float)) else str(value)


FILTERS: dict[str, Callable[..., Any]] = {
    "clock": clock,
    "come_back": _report_soak.come_back,
    "controlled": controlled,
    "drawn": drawn,
    "gate_age": _report_gates.age,
    "gate_left": _report_gates.left,
    "gates_count": _report_gates.count,
    "gauges": gauges,
    "moment": moment,
    "moving": moving,
    "number": number,
    "still": still,
    "suspects": suspects,
    "tone": tone,
}
