"""How good and how fast the judge of a soak is: simulated fleets of 3 to 20 nodes, with faults and without.

Beside it stand the Mann-Whitney rule of well-known canary judges and three sigma, each looking once, at the level that
they publish and at the mildest of each metric, known afterwards, at which they halt no healthy fleet. BENCH_TRIALS=10
makes it shorter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils import _series

from bench import judge_trials
from bench.judge_fleets import NOTHING, Fleet
from bench.judge_rules import PUBLISHED_SCORE, SIGMAS
from bench.judge_trials import FAULTS, GRID, STORM, Scores, Task, Trial
from bench.measurement import Measurement, Peers, at_least, at_most, told

ROOT = Path(__file__).resolve().parents[2]
# Nodes and how many of them are switched: canaries, and a wave.
SIZES = ((3, 1), (8, 1), (20, 1), (20, 10))
FAULTY_NODES = 4
POWER = 0.9
MOST_FALSE_HALTS = 0.02
SPEED_NODES = 20
LEVELS = {"Mann-Whitney": PUBLISHED_SCORE, "three sigma": SIGMAS}
MEGABYTE = 1024.0

# By rule, at each moment of GRID, of each metric.
Levels = dict[str, list[Scores]]


def run() -> list[Measurement]:
    """All figures; the trials take some minutes."""
    runs = int(os.environ.get("BENCH_TRIALS", "30"))
    quiet = [Task(NOTHING, nodes, 1000 * nodes + seed, switched) for nodes, switched in SIZES for seed in range(runs)]
    faulty = [Task(fault, FAULTY_NODES, seed) for fault in (*FAULTS, STORM) for seed in range(runs)]
    trials = judge_trials.try_all([*quiet, *faulty])
    return [*_quality(trials), *_speed()]


def _quality(trials: Sequence[Trial]) -> list[Measurement]:
    quiet = [trial for trial in trials if trial.fault == NOTHING.name]
    storms = [trial for trial in trials if trial.fault == STORM.name]
    end = len(GRID) - 1
    false_halts = judge_trials.halted_by(quiet, end)
    for trial in quiet:
        if trial.ours is not None:
            print(f"{trial.nodes} nodes with nothing wrong, after {trial.ours} min: {trial.why}")
    levels: Levels = {
        rule: [judge_trials.mild_levels(quiet, rule, place) for place in range(len(GRID))] for rule in LEVELS
    }
    found = [
        at_most(f"healthy fleets halted, of {len(quiet)}", false_halts, "ratio", MOST_FALSE_HALTS, _published(quiet)),
        at_most(
            f"halted where all nodes are hit alike, of {len(storms)}",
            judge_trials.halted_by(storms, end),
            "ratio",
            2 * MOST_FALSE_HALTS,
            _published(storms),
        ),
    ]
    every = [trial for trial in trials if trial.fault not in (NOTHING.name, STORM.name)]
    for fault in FAULTS:
        of_fault = [trial for trial in every if trial.fault == fault.name]
        found.append(
            Measurement(f"{fault.name}: found in 9 of 10 after", *_minutes(of_fault), peers=_peers(of_fault, levels))
        )
    ours = _first(every, None)
    theirs = judge_trials.first_at([judge_trials.caught(every, *at) for at in _at("Mann-Whitney", levels)], POWER)
    share = judge_trials.halted_by(every, end)
    found += [
        Measurement(
            "all faults together: 9 of 10 found after",
            *_minutes(every),
            goal="<= a third of Mann-Whitney's",
            holds=ours <= theirs / 3 and ours < float("inf"),
            peers=_peers(every, levels),
        ),
        at_least("all faults together: found in a day", share, "ratio", POWER, _peers_at_the_end(every, levels)),
    ]
    return found


def _published(trials: Sequence[Trial]) -> Peers:
    """What the others halt after a day, as they are published."""
    end = len(GRID) - 1
    shares: Peers = {rule: round(judge_trials.caught(trials, rule, end, level), 3) for rule, level in LEVELS.items()}
    beside = judge_trials.caught(trials, judge_trials.BESIDE, -1, PUBLISHED_SCORE)
    return {**shares, judge_trials.BESIDE: round(beside, 3)}


def _at(rule: str, levels: Levels) -> list[tuple[str, int, Scores]]:
    return [(rule, place, levels[rule][place]) for place in range(len(GRID))]


def _first(trials: Sequence[Trial], at: Sequence[tuple[str, int, Scores]] | None) -> float:
    """Minutes until nine of ten are found: by ours, or by a rule at given levels."""
    if at is None:
        shares = [judge_trials.halted_by(trials, place) for place in range(len(GRID))]
    else:
        shares = [judge_trials.caught(trials, *each) for each in at]
    return judge_trials.first_at(shares, POWER)


def _minutes(trials: Sequence[Trial]) -> tuple[float, str]:
    minutes = _first(trials, None)
    return (minutes, "min") if minutes < float("inf") else (float(GRID[-1]), "min and more")


def _peers(trials: Sequence[Trial], levels: Levels) -> Peers:
    """When the others find it, at the level of each metric at which they halt no healthy fleet."""
    return {f"{rule}, no false halts": told(_first(trials, _at(rule, levels))) for rule in LEVELS}


def _peers_at_the_end(trials: Sequence[Trial], levels: Levels) -> Peers:
    return {f"{rule}, no false halts": round(judge_trials.caught(trials, *_at(rule, levels)[-1]), 3) for rule in LEVELS}


def _speed() -> list[Measurement]:
    """A process of its own unpacks 20 series and judges them: half of the nodes against the other half.

    It has one thread, so that its processor time is what it takes where nothing else runs.
    """
    found = []
    for days, words in ((0.1, "72 h"), (7.0, "72 h and 7 days before")):
        fleet = Fleet(1, SPEED_NODES, days_before=days, minutes=4320.0, switched=SPEED_NODES // 2)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "fleet.json"
            packed = {node: _series.pack(series) for node, series in fleet.series.items()}
            file.write_text(json.dumps({"stage": fleet.stage, "expected": fleet.expected(), "series": packed}))
            command = [sys.executable, "-m", "bench.judge_once", str(file)]
            paths = os.pathsep.join((str(ROOT / "tests"), str(ROOT / "collections")))
            environment = {**os.environ, "PYTHONPATH": paths}
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
            said = json.loads(done.stdout)
        what = f"{SPEED_NODES} nodes, {words}"
        found += [
            at_most(f"processor time, {what}", said["cpu"], "s", 5.0, {"of it unpacking": said["unpacking"]}),
            at_most(f"memory at the peak, {what}", said["kilobytes"] / MEGABYTE, "MB", 300.0),
        ]
    return found
