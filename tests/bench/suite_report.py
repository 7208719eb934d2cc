"""What it costs that a run says how it went: reports, the lines on the terminal, and the nodes' journals.

The same rollout runs with and without its reports, in turns; the fastest of each counts, because a noisy machine only
ever makes one slower. Without them there is no report task, and Ansible's own callback prints.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _report, _report_page
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.journal import Journal
from flows.flow_fleet import ROOT
from report import samples

from bench.fleets import WORK, BenchFleet, fleet
from bench.measurement import Measurement, at_most, median_of

TASK = "lightning_goats.hive.hive_report"
BARE = WORK / "bare"
NODES, ROUNDS = 3, 3
# What the operator of a real fleet asks for, and what a sandbox does.
CONFIRM_SECONDS = 600
REPORTED_NODES, PLOTTED_NODES = 50, 20
APPENDS = 200


def _without(tasks: list[Any]) -> list[Any]:
    """Tasks without those that report, and without the sections of blocks that had nothing else."""
    kept = []
    for task in tasks:
        sections = {part: _without(task[part]) for part in ("block", "rescue", "always") if part in task}
        changed = {**task, **sections}
        for part, content in sections.items():
            if not content:
                del changed[part]
        if TASK not in task and (not sections or "block" in changed):
            kept.append(changed)
    return kept


def _bare() -> None:
    """Make a copy of the playbooks and roles that reports nothing."""
    shutil.rmtree(BARE, ignore_errors=True)
    for name in ("playbooks", "roles"):
        shutil.copytree(ROOT / name, BARE / name)
    stripped = 0
    for path in (*BARE.glob("playbooks/*.yml"), *BARE.glob("roles/*/tasks/*.yml")):
        text = path.read_text(encoding="utf-8")
        if TASK not in text:
            continue
        content = yaml.safe_load(text)
        if path.parent.name == "playbooks":
            for play in content:
                play["tasks"] = _without(play.get("tasks") or [])
        else:
            content = _without(content)
        path.write_text(yaml.safe_dump(content, sort_keys=False, width=10**6), encoding="utf-8")
        stripped += 1
    assert stripped, "nothing reports any more: this measures nothing"


def _rollout(reporting: bool) -> tuple[float, int]:
    """Seconds of a first rollout of three stages, and the entries of its longest journal."""
    playbook = "rollout" if reporting else f"../{BARE.relative_to(ROOT)}/playbooks/rollout"
    environment = {} if reporting else {"ANSIBLE_ROLES_PATH": str(BARE / "roles"), "ANSIBLE_STDOUT_CALLBACK": "default"}
    with fleet("report", NODES, hive_soak_seconds=0) as made:
        made.more_environment |= environment
        made.good(playbook)
        _check(made, reporting)
        return made.cost.seconds, max(len(made.journal(node)) for node in made.nodes)


def _check(made: BenchFleet, reporting: bool) -> None:
    versions = {made.version(node) for node in made.nodes}
    assert versions == {"0.1.0"}, versions
    assert (made.reports / "latest.html").exists() == reporting, "what was to be left out is what was measured"


def _append_seconds() -> float:
    """What one entry of a journal takes until it is on the disk."""
    with tempfile.TemporaryDirectory(dir=WORK) as directory:
        journal = Journal(Path(directory) / "journal.jsonl", Owner(os.getuid(), os.getgid()))
        begun = time.perf_counter()
        for number in range(APPENDS):
            journal.append("done", {"step": "start", "number": number})
        return (time.perf_counter() - begun) / APPENDS


def _seconds(act: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _page_seconds(plots: int) -> float:
    """One page as the process of a task makes it; its template is compiled before, in the process that forks it."""
    nodes = [f"node{number:02}.lightning.example.org" for number in range(REPORTED_NODES)]
    soak = samples.soak(plots={node: samples.plots() for node in nodes[:plots]})
    made = samples.facts(
        nodes,
        gates=samples.gates(),
        soaks=[{**soak, "nodes": nodes[:plots]}] if plots else [],
        **samples.through(samples.planned(nodes)),
    )
    _report_page.prepare()
    return _seconds(lambda: _report_page.html(_report.build(made)))


def run() -> list[Measurement]:
    """A rollout with no confirm window is the shortest there is, so that what is said of it weighs most."""
    WORK.mkdir(parents=True, exist_ok=True)
    _bare()
    told, silent, entries = [], [], 0
    for _ in range(ROUNDS):
        silent.append(_rollout(reporting=False)[0])
        seconds, entries = _rollout(reporting=True)
        told.append(seconds)
    append = median_of(5, _append_seconds)
    reports, journal = max(min(told) - min(silent), 0.0), entries * append
    # Stages come one after the other, and each waits for its window.
    real = min(told) + NODES * CONFIRM_SECONDS
    shortest = (reports + journal) / min(told)
    return [
        at_most(
            "reports and journals, share of a rollout with its windows",
            100 * (reports + NODES * journal) / real,
            "%",
            3,
            {"of one without any window": round(100 * shortest, 2)},
        ),
        Measurement("rollout without reports", round(min(silent), 2), "s", peers={"with reports": round(min(told), 2)}),
        Measurement(f"journal of a node, {entries} entries", round(journal * 1000, 2), "ms"),
        at_most(f"page of {REPORTED_NODES} nodes", median_of(5, lambda: _page_seconds(0)), "s", 0.3),
        at_most(
            f"page of {REPORTED_NODES} nodes, {PLOTTED_NODES} of them with plots",
            median_of(3, lambda: _page_seconds(PLOTTED_NODES)),
            "s",
            2,
        ),
        Measurement("template compiled, once in a run", round(median_of(5, _compile_seconds), 4), "s"),
    ]


def _compile_seconds() -> float:
    _report_page.prepare.cache_clear()
    return _seconds(_report_page.prepare)
