"""Trials of the judges: many simulated fleets, each looked at after ever more samples."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ansible_collections.lightning_goats.hive.plugins.module_utils import _judge_soak

from bench.judge_fleets import SINCE, Fault, Fleet
from bench.judge_rules import before_and_after, beside, mann_whitney, scores, three_sigma, upto

Json = dict[str, Any]

# Minutes after the switch at which all look; ours has a look of its own at each of them.
GRID = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
POLICY: Json = {"minutes": 4320, "blocks": 432, "forwards": 20, "extend_minutes": 1440, "interval_seconds": 60}
FAULTS = (
    Fault("crash loop, every 5 minutes", restarts=12.0),
    Fault("a crash every 80 minutes", restarts=0.75),
    Fault("error lines 0,1,2,1,0,0", pattern=(0, 1, 2, 1, 0, 0)),
    Fault("error lines, 4 an hour", errors=4.0),
    Fault("latencies doubled", latency=2.0),
    Fault("memory + 3 % an hour", leak=0.03),
    Fault("70 % of forwards fail", failing=0.7),
    Fault("a tenth of the forwards", forwards=0.1),
)
BESIDE = "Mann-Whitney against the other nodes"
STORM = Fault("all nodes hit alike", latency=2.0, errors=4.0, failing=0.7, everywhere=True)


Scores = dict[str, float]


class Task(NamedTuple):
    """A fleet to make: what goes wrong, how many nodes, from which seed, and how many of them are the stage."""

    fault: Fault
    nodes: int
    seed: int
    switched: int = 1


class Trial(NamedTuple):
    """One fleet and what became of it.

    Attributes:
        fault: name of what was wrong.
        nodes: how many the fleet has.
        ours: minutes until our judge halted, None when it did not.
        why: what it said then.
        scores: of each rule of the others, per moment of GRID, of each metric; of BESIDE at the last only.
    """

    fault: str
    nodes: int
    ours: int | None
    why: str
    scores: dict[str, list[Scores]]


def judged(fleet: Fleet, minutes: float, **policy: Any) -> Json:
    """Our judge's answer after so many minutes."""
    series = {node: upto(held, minutes) for node, held in fleet.series.items()}
    subjects = {
        node: _judge_soak.SoakSubject(SINCE, 800_000, series.pop(node), fleet.expected(), 0) for node in fleet.stage
    }
    asked = {**POLICY, "now": SINCE + 60.0 * minutes + 5.0, "accepted": False, **policy}
    return _judge_soak.judge_soak(subjects, series, asked)


def try_one(task: Task) -> Trial:
    """One fleet, looked at at each moment of GRID."""
    fleet = Fleet(task.seed, task.nodes, task.fault, minutes=GRID[-1], switched=task.switched)
    halted, why = None, ""
    for minutes in GRID:
        # A little after the moment, so that the sample of that minute is there.
        answer = judged(fleet, minutes + 0.5)
        if answer["verdict"] == "failing":
            halted, why = minutes, _judge_soak.sentence(answer)
            break
    pairs = [before_and_after(fleet, minutes) for minutes in GRID]
    held = {
        "Mann-Whitney": [scores(mann_whitney, pair) for pair in pairs],
        "three sigma": [scores(three_sigma, pair) for pair in pairs],
        # As they are published, at the end only: nodes differ, so this one halts nearly every fleet.
        BESIDE: [scores(mann_whitney, beside(fleet, GRID[-1]))],
    }
    return Trial(task.fault.name, task.nodes, halted, why, held)


def try_all(tasks: Iterable[Task]) -> list[Trial]:
    """All trials, on all processors."""
    with multiprocessing.get_context("spawn").Pool() as pool:
        return pool.map(try_one, list(tasks), chunksize=1)


def halted_by(trials: Sequence[Trial], place: int) -> float:
    """The share that our judge had halted at a moment of GRID."""
    return sum(trial.ours is not None and trial.ours <= GRID[place] for trial in trials) / len(trials)


def caught(trials: Sequence[Trial], rule: str, place: int, levels: Scores | float) -> float:
    """The share that a rule halts when it looks once, at a moment of GRID; with one level, or one of each metric."""

    def level(name: str) -> float:
        return levels if isinstance(levels, float) else levels[name]

    halted = [any(score > level(name) for name, score in trial.scores[rule][place].items()) for trial in trials]
    return sum(halted) / len(trials)


def mild_levels(trials: Sequence[Trial], rule: str, place: int) -> Scores:
    """The levels of each metric at which a rule halts none of these fleets, with nothing wrong; known afterwards."""
    return {name: max(trial.scores[rule][place][name] for trial in trials) for name in trials[0].scores[rule][place]}


def first_at(shares: Sequence[float], power: float) -> float:
    """The moment of GRID at which a share is reached, and is not lost again; infinite when it never is."""
    for place, minutes in enumerate(GRID):
        if all(share >= power for share in shares[place:]):
            return float(minutes)
    return float("inf")
