# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What the judge looks at: a node's series as arrays, cut at the switch, and the moments at which it may look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._judge_numbers import Floats

Json = dict[str, Any]
Mask = NDArray[np.bool_]

DAY = 86400.0
HISTORY_SECONDS = 7 * DAY
# How far back from the confirmation the switch itself is looked for.
SWITCH_SECONDS = 7200.0
# A sample that comes after a longer pause than this still counts what happened since; an outage is not quiet time.
LONGEST_GAP = 3600.0
# A false alarm in one of a hundred soaks, over all nodes, plugins, metrics and looks.
FALSE_HALTS = 0.01
EARLY_SHARE, END_SHARE, EXTENDED_SHARE = 0.5, 0.4, 0.05
FIRST_LOOK_SAMPLES = 5
LAST_EARLY_LOOK = 0.75


class Look(NamedTuple):
    """A moment at which the judge may decide by chance alone.

    Attributes:
        seconds: after the confirmation; what came later is not looked at.
        alpha: the part of FALSE_HALTS that it may use up.
        name: for people.
    """

    seconds: float
    alpha: float
    name: str


class Test(NamedTuple):
    """One comparison and what came out of it.

    Attributes:
        node: whose.
        check: its stable name.
        what: of which plugin or number.
        p: chance to see this, or worse, when nothing is wrong.
        material: whether the shift is one that matters.
        excused: why it is not the plugin's fault, "" when nothing speaks for that.
        detail: a sentence with numbers.
        figures: the numbers.
    """

    node: str
    check: str
    what: str
    p: float
    material: bool
    excused: str
    detail: str
    figures: Json


class Plugin(NamedTuple):
    """One plugin's columns, where lightningd answered."""

    active: Mask
    digest: NDArray[np.int64]
    digests: Sequence[str]
    health: NDArray[np.int64]
    healths: Sequence[str]
    rss: Floats
    rpc: Floats
    restarts: Floats


class Columns:
    """A series as arrays; all but `all_time` and `all_up` only of samples in which lightningd answered.

    Args:
        series: as `_series` makes them; may be empty.
        interval: seconds between two samples, as planned.
    """

    def __init__(self, series: Json, interval: float) -> None:
        self.interval = interval
        self.all_time = np.asarray(series["time"], dtype=np.float64)
        self.all_up = np.asarray(series["up"], dtype=np.int64) > 0
        gaps = np.diff(self.all_time, prepend=self.all_time[:1] - interval)
        up = self.all_up
        self.time = self.all_time[up]
        # For how long each sample's counters counted.
        self.lasted = np.clip(gaps, 0.0, max(LONGEST_GAP, interval))[up]
        self._series, self._kept = series, up
        self._plugins: dict[str, Plugin] = {}
        self._numbers: dict[str, Floats] = {}
        # Medians of small blocks, by what they are of: a control is compared with many nodes.
        self.blocks: dict[str, tuple[Floats, Floats]] = {}

    def number(self, name: str) -> Floats:
        """One column of the node; what is unknown is not a number."""
        if name not in self._numbers:
            self._numbers[name] = _floats(self._series[name])[self._kept]
        return self._numbers[name]

    def plugin(self, name: str) -> Plugin | None:
        """The columns of a plugin; None when it was never seen."""
        held = self._series["plugins"].get(name)
        if held is None:
            return None
        if name not in self._plugins:
            kept = self._kept
            self._plugins[name] = Plugin(
                active=np.asarray(held["active"], dtype=np.int64)[kept] > 0,
                digest=np.asarray(held["digest"], dtype=np.int64)[kept],
                digests=held["digests"],
                health=np.asarray(held["health"], dtype=np.int64)[kept],
                healths=held["healths"],
                rss=_floats(held["rss_bytes"])[kept],
                rpc=_floats(held["rpc_ms"])[kept],
                restarts=_floats(held["restarts"])[kept],
            )
        return self._plugins[name]

    def runs(self, item: Json) -> Mask:
        """In which samples an item of a stack was active, and of exactly that release."""
        plugin = self.plugin(item["name"])
        if plugin is None or item["digest"] not in plugin.digests:
            return np.zeros(len(self.time), dtype=np.bool_)
        runs: Mask = plugin.active & (plugin.digest == list(plugin.digests).index(item["digest"]))
        return runs

    @property
    def lines(self) -> list[Json]:
        """The newest lines of the log that were kept."""
        return list(self._series.get("lines") or [])


class Case(NamedTuple):
    """One node of the stage, ready to be judged.

    Attributes:
        name: of the node.
        since: moment of the confirmation.
        switched: moment of the switch; what lies between is neither before nor after.
        tried: samples of an earlier try of the same stack, which are no past to compare with.
        columns: what was seen of it.
        expected: items of its stack that must run.
        restarts_allowed: how often lightningd may have restarted.
        controls: what was seen of nodes that were not switched.
        elapsed: seconds since the confirmation.
        soak_seconds: how long the soak is to be.
    """

    name: str
    since: float
    switched: float
    tried: Mask
    columns: Columns
    expected: Sequence[Json]
    restarts_allowed: int
    controls: Mapping[str, Columns]
    elapsed: float
    soak_seconds: float

    def before(self, columns: Columns) -> Mask:
        """The samples of a node, this or a control, from before the switch; of seven days at most."""
        earlier = (columns.time >= self.since - HISTORY_SECONDS) & (columns.time < self.switched)
        return earlier & ~self.tried if columns is self.columns else earlier

    def after(self, columns: Columns, seconds: float = float("inf")) -> Mask:
        """The samples from the confirmation on."""
        return (columns.time >= self.since) & (columns.time < self.since + seconds)


def switched_at(columns: Columns, since: float, expected: Sequence[Json]) -> tuple[float, Mask]:
    """When a node was switched, and in which samples it ran its stack already.

    The switch is found from the confirmation back to the last sample in which the node did not run its stack yet. Where
    there is none, nothing was changed, and all that was before is its past.
    """
    items = [item for item in expected if item.get("enabled", True)]
    together = np.logical_and.reduce(
        [columns.runs(item) for item in items] or [np.zeros(len(columns.time), dtype=bool)]
    )
    other = columns.time[(columns.time >= since - SWITCH_SECONDS) & (columns.time < since) & ~together]
    if not items or not len(other):
        return since, np.zeros(len(columns.time), dtype=np.bool_)
    return float(other[-1]) + 0.5 * columns.interval, together


def looks(policy: Json) -> list[Look]:
    """The moments at which the judge may halt by chance: ever rarer, then the end of the soak, then its extension.

    They are fixed by the policy alone, so that asking more often cannot make a false alarm more likely.
    """
    total, interval = 60.0 * policy["minutes"], float(policy["interval_seconds"])
    early = []
    step = FIRST_LOOK_SAMPLES * interval
    while step < LAST_EARLY_LOOK * total:
        early.append(step)
        step *= 2
    found = [
        Look(seconds, FALSE_HALTS * EARLY_SHARE / len(early), f"look {number} of {len(early) + 1}")
        for number, seconds in enumerate(early, 1)
    ]
    share = END_SHARE if early else EARLY_SHARE + END_SHARE
    found.append(Look(total, FALSE_HALTS * share, f"look {len(early) + 1} of {len(early) + 1}"))
    if policy["extend_minutes"] > 0:
        more = 60.0 * policy["extend_minutes"]
        found += [
            Look(total + part * more, FALSE_HALTS * EXTENDED_SHARE, f"look {number} of 2 at the extension")
            for number, part in enumerate((0.5, 1.0), 1)
        ]
    return found


def look_at(elapsed: float, policy: Json) -> Look | None:
    """The newest look whose moment has come; None before the first."""
    due = [look for look in looks(policy) if look.seconds <= elapsed]
    if not due:
        return None
    # A soak of no length is judged by all that there is.
    return due[-1] if due[-1].seconds > 0 else due[-1]._replace(seconds=max(elapsed, 0.0) + 1.0)


def told(seconds: float) -> str:
    """A duration for people."""
    for unit, size in (("d", DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def chance(p: float) -> str:
    """A p-value for people."""
    return "p < 1e-12" if p < 1e-12 else f"p = {p:.2g}"


def _floats(values: Sequence[float | None]) -> Floats:
    return np.asarray(values, dtype=np.float64)
