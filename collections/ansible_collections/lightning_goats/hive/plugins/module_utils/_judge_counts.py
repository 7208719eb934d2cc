# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Rare events and forwards: exact tests of how often after the switch, against before it and against the controls.

Lines within five samples are one event: a burst says no more than that something happened, and what goes on and on is
many. Where events still come in clusters, counts are divided by how much more they vary from hour to hour than chance
lets them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._judge_invariants import broken_lines, unhealthy, used_to_break
from ._judge_numbers import Floats, bins, dispersion, larger_share, less_often, more_often
from ._judge_window import DAY, Case, Columns, Mask, Test, chance, told

Json = dict[str, Any]

# A rate that is not half as much again is no news; fewer forwards count from half of them on.
BAND = 1.5
HALF = 0.5
# Against nodes that may always have been different, nothing of the own being known.
STRANGER_BAND = 3.0
LEAST_EVENTS = 3
BURST_SAMPLES = 5
LEAST_HISTORY_SAMPLES = 60
# Where there are controls, it has to be clearly more than on them; what rose on them too is told.
CLEARLY_MORE, CLEARLY_BAND = 0.01, 1.25
CONTROLS_ROSE = 0.2
# A single sick control counts for no more than so many times the next.
SICK_FACTOR = 3.0
BLOCKS_SECONDS = (3600.0, 2 * 3600.0, 4 * 3600.0, 8 * 3600.0)
LEAST_BLOCKS = 6
PROFILE_DAYS = 2.0
HOURS = 24
LEAST_FORWARDS = 20
# What is allowed where there is nothing to compare with, in events a second.
MOST_ERRORS, MOST_RESTARTS, MOST_SILENCES = 2 / 3600.0, 2 / DAY, 2 / 3600.0


class Counter(NamedTuple):
    """One thing that is counted.

    Attributes:
        check: the check's stable name.
        what: whose, for people.
        events: the number in each sample of a node, None when it does not have the counter.
        most: events a second that are allowed where nothing can be compared.
        words: what happened, for people.
    """

    check: str
    what: str
    events: Callable[[Columns], tuple[Floats, Mask] | None]
    most: float
    words: str


class Tally(NamedTuple):
    """Events, and in how much time they were counted (or of how many), after the switch and before it."""

    hits: float
    size: float
    hits_before: float
    size_before: float

    def divided(self, by: float) -> Tally:
        return Tally(self.hits / by, self.size, self.hits_before / by, self.size_before)

    @property
    def rate(self) -> float:
        return self.hits / self.size if self.size > 0 else 0.0


def tests(case: Case, seconds: float) -> Iterator[Test]:
    """All counts of a node, in the samples of so many seconds after the confirmation."""
    for counter in counters(case):
        test = _more(case, counter, seconds)
        if test is not None:
            yield test
    for made in (_fewer_forwards(case, seconds), _failed_forwards(case, seconds)):
        if made is not None:
            yield made


def counters(case: Case) -> list[Counter]:
    """What is counted of a node and of each of its plugins."""
    found = [
        Counter("errors", "plugins", _any_errors, MOST_ERRORS, "bursts of ERROR lines"),
        Counter("silence", "lightningd", _silences, MOST_SILENCES, "times without an answer of lightningd"),
    ]
    if used_to_break(case):
        found.append(Counter("log", "lightningd", _any_broken, MOST_ERRORS, "bursts of BROKEN lines"))
    for item in case.expected:
        if item.get("enabled", True):
            name = item["name"]
            found.append(Counter("restarts", name, _restarts_of(name), MOST_RESTARTS, "restarts"))
            found.append(Counter("health", name, _ill_of(name), MOST_SILENCES, "samples without a good health"))
    return found


def _any_errors(columns: Columns) -> tuple[Floats, Mask]:
    errors = columns.number("errors")
    return _bursts(errors > 0), np.ones(len(errors), dtype=np.bool_)


def _any_broken(columns: Columns) -> tuple[Floats, Mask]:
    broken = broken_lines(columns)
    return _bursts(broken > 0), np.ones(len(broken), dtype=np.bool_)


def _bursts(flags: Mask) -> Floats:
    """One in the first flag, and in the next that is not within its burst any more; 0 elsewhere."""
    events, free = np.zeros(len(flags)), 0
    for place in np.flatnonzero(flags).tolist():
        if place >= free:
            events[place], free = 1.0, place + BURST_SAMPLES
    return events


def _silences(columns: Columns) -> tuple[Floats, Mask]:
    """How many samples without an answer came right before each with one, counted as one."""
    silent = np.zeros(len(columns.all_up), dtype=np.float64)
    silent[1:] = columns.all_up[1:] & ~columns.all_up[:-1]
    return silent[columns.all_up], np.ones(len(columns.time), dtype=np.bool_)


def _restarts_of(name: str) -> Callable[[Columns], tuple[Floats, Mask] | None]:
    def events(columns: Columns) -> tuple[Floats, Mask] | None:
        plugin = columns.plugin(name)
        return None if plugin is None else ((plugin.restarts > 0).astype(np.float64), plugin.active)

    return events


def _ill_of(name: str) -> Callable[[Columns], tuple[Floats, Mask] | None]:
    def events(columns: Columns) -> tuple[Floats, Mask] | None:
        plugin = columns.plugin(name)
        return None if plugin is None else (unhealthy(plugin).astype(np.float64), plugin.active)

    return events


def _tally(case: Case, columns: Columns, events: Floats, used: Mask, seconds: float, weights: Floats) -> Tally:
    after, before = case.after(columns, seconds) & used, case.before(columns) & used
    return Tally(
        float(events[after].sum()),
        float(weights[after].sum()),
        float(events[before].sum()),
        float(weights[before].sum()),
    )


def _more(case: Case, counter: Counter, seconds: float) -> Test | None:
    """Whether something happens more often than before."""
    seen = counter.events(case.columns)
    if seen is None:
        return None
    own = _tally(case, case.columns, *seen, seconds, case.columns.lasted)
    if own.size <= 0:
        return None
    others = [
        _tally(case, columns, *held, seconds, columns.lasted)
        for _, columns in sorted(case.controls.items())
        if (held := counter.events(columns)) is not None
    ]
    others = [other for other in others if other.size > 0]
    factor = max(1.0, _clusters(case, case.columns, *seen))
    known = own.size_before >= LEAST_HISTORY_SAMPLES * case.columns.interval
    excused, clearly = "", True
    if known:
        mine = own.divided(factor)
        p = more_often(*mine, BAND)
        against = f"{own.hits_before:.0f} in {told(own.size_before)} before it"
        clearly, rose = _beside(mine, [other.divided(factor) for other in others])
        excused = "the control nodes have it too" if rose and not clearly else ""
    elif others:
        worst = max(others, key=lambda other: other.rate)
        p = more_often(own.hits, own.size, worst.hits, worst.size, STRANGER_BAND)
        against = f"{worst.hits:.0f} in {told(worst.size)} on the worst control node"
    else:
        p = more_often(own.hits, own.size, counter.most * own.size * 1e6, own.size * 1e6, 1.0)
        against = f"allowed are {counter.most * 3600:.2g} an hour"
    detail = f"{counter.what}: {own.hits:.0f} {counter.words} in {told(own.size)} since the switch, {against}"
    figures = {"count": own.hits, "seconds": round(own.size), "p": p, "dispersion": round(factor, 2)}
    figures |= {"count_before": own.hits_before, "seconds_before": round(own.size_before)}
    material = own.hits >= LEAST_EVENTS and (clearly or bool(excused))
    return Test(case.name, counter.check, counter.what, p, material, excused, f"{detail} ({chance(p)})", figures)


def _clusters(case: Case, columns: Columns, events: Floats, used: Mask) -> float:
    """How much more events vary from block to block before the switch than chance lets them."""
    before = case.before(columns) & used
    return _dispersion(columns.time[before], events[before], columns.lasted[before])


def _dispersion(times: Floats, events: Floats, weights: Floats) -> float:
    """The largest over blocks of several lengths: what goes up and down slowly shows only in long ones."""
    worst = 1.0
    if not len(times) or not events.any():
        return worst
    for length in BLOCKS_SECONDS:
        edges = np.arange(times[0], times[-1] + length, length)
        count = len(edges) - 1
        if count < LEAST_BLOCKS:
            break
        where = np.clip(bins(times, edges), 0, count - 1)
        seen = np.bincount(where, events, count)
        expected = np.bincount(where, weights, count) * (float(events.sum()) / max(float(weights.sum()), 1e-9))
        worst = max(worst, dispersion(seen.astype(np.float64), expected.astype(np.float64)))
    return worst


def _beside(own: Tally, others: Sequence[Tally], fewer: bool = False) -> tuple[bool, bool]:
    """Whether it is clearly more than on the control nodes at the same time, and whether it rose on them too."""
    if not others:
        return True, False
    pooled = _pooled(others, fewer)
    compare = less_often if fewer else more_often
    # How much more this node has always had of it, drawn towards "the same" where little was counted.
    usual = 1.0
    if own.size_before > 0 and pooled.size_before > 0:
        usual = (own.hits_before + 1.0) / own.size_before
        usual /= (pooled.hits_before + pooled.size_before / own.size_before) / pooled.size_before
    rose = pooled.size_before > 0 and compare(*pooled, 1.0) <= CONTROLS_ROSE
    # What hits all nodes may bring the best to where the others are: that is no more than on them.
    if rose:
        usual = min(1.0, usual) if fewer else max(1.0, usual)
    return compare(own.hits, own.size * usual, pooled.hits, pooled.size, CLEARLY_BAND) <= CLEARLY_MORE, rose


def _pooled(others: Sequence[Tally], fewer: bool) -> Tally:
    """The controls together. A sick one among them is held down, so that it alone excuses nothing."""
    if not fewer and len(others) >= 2:
        *rest, worst = sorted(others, key=lambda other: (other.rate, other))
        most = SICK_FACTOR * max(1.0, rest[-1].rate * worst.size)
        others = [*rest, worst._replace(hits=min(worst.hits, most))]
    return Tally(*(sum(values) for values in zip(*others, strict=True)))


def _fewer_forwards(case: Case, seconds: float) -> Test | None:
    """Whether a node forwards clearly less than at the same hours before."""
    own, factor = _forwards(case, case.columns, seconds)
    if own.size <= 0 or own.size_before < LEAST_HISTORY_SAMPLES * case.columns.interval:
        return None
    if own.hits_before < LEAST_FORWARDS:
        return None
    expected = own.hits_before * own.size / own.size_before
    mine = own.divided(factor)
    p = less_often(*mine, BAND)
    others = []
    for _, columns in sorted(case.controls.items()):
        other, its_factor = _forwards(case, columns, seconds)
        if other.size > 0 and other.size_before > 0:
            others.append(other.divided(max(factor, its_factor)))
    clearly, fell = _beside(mine, others, fewer=True)
    excused = "the control nodes forward less too" if fell and not clearly else ""
    material = own.hits < HALF * expected and (clearly or bool(excused))
    detail = f"{own.hits:.0f} forwards since the switch, {expected:.0f} would be usual ({chance(p)})"
    figures = {"count": own.hits, "expected": round(expected, 1), "p": p, "dispersion": round(factor, 2)}
    return Test(case.name, "forwards", "forwards", p, material, excused, detail, figures)


def _forwards(case: Case, columns: Columns, seconds: float) -> tuple[Tally, float]:
    """Forwards, with time weighted by how much is usual at each hour of the day, and their dispersion."""
    events, used = columns.number("forwards"), columns.number("forwards_known") > 0
    before = case.before(columns) & used
    weights = columns.lasted * _profile(columns, events, before)
    factor = _dispersion(columns.time[before], events[before], weights[before])
    return _tally(case, columns, events, used, seconds, weights), factor


def _profile(columns: Columns, events: Floats, before: Mask) -> Floats:
    """How much of the average is usual at the hour of each sample; 1 where too few days are known."""
    flat = np.ones(len(columns.time))
    times = columns.time[before]
    if not len(times) or times[-1] - times[0] < PROFILE_DAYS * DAY or events[before].sum() < 10 * HOURS:
        return flat
    hour = (columns.time % DAY // 3600).astype(np.int64)
    lasted = np.bincount(hour[before], columns.lasted[before], HOURS)
    counted = np.bincount(hour[before], events[before], HOURS)
    average = float(counted.sum() / lasted.sum())
    # Drawn towards the average, so that an hour without forwards is not held to none for ever.
    profile = (counted + 5.0) / (lasted * average + 5.0)
    usual: Floats = profile[hour]
    return usual


def _failed_forwards(case: Case, seconds: float) -> Test | None:
    """Whether a larger share of forwards fails."""
    own, factor = _failures(case, case.columns, seconds)
    if own.size < LEAST_FORWARDS or own.size_before < LEAST_FORWARDS:
        return None
    mine = Tally(*(value / factor for value in own))
    p = larger_share(*mine, BAND)
    share, share_before = own.hits / own.size, own.hits_before / own.size_before
    excused, clearly = "", True
    others = [_failures(case, columns, seconds)[0] for _, columns in sorted(case.controls.items())]
    others = [other for other in others if other.size >= LEAST_FORWARDS and other.size_before >= LEAST_FORWARDS]
    if others:
        pooled = Tally(*(sum(values) / factor for values in zip(*others, strict=True)))
        usual = _odds(mine.hits_before, mine.size_before) / _odds(pooled.hits_before, pooled.size_before)
        rose = larger_share(*pooled, 1.0) <= CONTROLS_ROSE
        band = CLEARLY_BAND * (max(1.0, usual) if rose else usual)
        clearly = larger_share(mine.hits, mine.size, pooled.hits, pooled.size, band) <= CLEARLY_MORE
        excused = "on the control nodes more fail too" if rose and not clearly else ""
    material = own.hits >= LEAST_EVENTS and (clearly or bool(excused))
    detail = f"{100 * share:.0f} % of {own.size:.0f} forwards failed since the switch, "
    detail += f"{100 * share_before:.0f} % of {own.size_before:.0f} before it ({chance(p)})"
    figures = {"share": share, "share_before": share_before, "p": p, "dispersion": round(factor, 2)}
    return Test(case.name, "failed-forwards", "forwards", p, material, excused, detail, figures)


def _odds(hits: float, total: float) -> float:
    return (hits + 0.5) / (total - hits + 0.5)


def _failures(case: Case, columns: Columns, seconds: float) -> tuple[Tally, float]:
    """Failed forwards and all of them (in place of times), and how much more the share varies than chance lets it."""
    failed, settled = columns.number("forwards_failed"), columns.number("forwards")
    used = columns.number("forwards_known") > 0
    tally = _tally(case, columns, failed, used, seconds, failed + settled)
    before = case.before(columns) & used
    if tally.hits_before <= 0 or tally.hits_before >= tally.size_before:
        return tally, 1.0
    share = tally.hits_before / tally.size_before
    # Failures vary as counts do, less the part that cannot because there are no more forwards than that.
    factor = _dispersion(columns.time[before], failed[before], (failed + settled)[before]) / (1.0 - share)
    return tally, max(1.0, factor)
