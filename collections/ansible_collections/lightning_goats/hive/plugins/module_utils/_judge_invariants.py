# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What must hold of a node in every moment of its soak: one breach is enough, no chance involved.

Where at least half of the control nodes have the same at the same time, nobody can tell whether it is the plugin's
fault: it may be the network, or what the new version sends to the others. Then a human decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ._judge import FAILING, INCONCLUSIVE
from ._judge_numbers import Floats
from ._judge_window import Case, Columns, Mask, Plugin, told

Json = dict[str, Any]

# So many samples in a row are no hiccup.
IN_A_ROW = 3
# So many restarts within so many samples are a crash loop.
LOOP_RESTARTS, LOOP_SAMPLES = 3, 30
# Two breaches this near to each other are at the same time.
SAME_TIME_SAMPLES = 30
UNSYNCED_SAMPLES = 60
GOOD_HEALTH = ("ok", "degraded")


class Breach(NamedTuple):
    """One invariant that does not hold.

    Attributes:
        check: its stable name.
        verdict: what it means.
        detail: a sentence with numbers.
        figures: the numbers.
    """

    check: str
    verdict: str
    detail: str
    figures: Json


Times = Callable[[Columns], Floats]


def breaches(case: Case) -> Iterator[Breach]:
    """All breaches of a node, the gravest kinds first."""
    if not case.after(case.columns).any() and not (case.columns.all_time >= case.since).any():
        return
    yield from _lightningd(case)
    yield from _plugins(case)
    yield from _channels(case)
    yield from _broken(case)
    yield from _sync(case)


def _lightningd(case: Case) -> Iterator[Breach]:
    restarts = _restarts(case, case.columns)
    mine = int(case.columns.number("restarts")[case.after(case.columns)].sum())
    if mine > case.restarts_allowed:
        shared, verdict = _shared(case, restarts, lambda columns: _restarts(case, columns), case.restarts_allowed)
        yield Breach(
            "lightningd",
            verdict,
            f"lightningd restarted {mine} times since the switch, allowed are {case.restarts_allowed}{shared}",
            {"restarts": mine, "allowed": case.restarts_allowed},
        )
    down = ~case.columns.all_up[case.columns.all_time >= case.since]
    length = _at_the_end(down)
    if length >= IN_A_ROW:
        since = case.columns.all_time[-length:]
        shared, verdict = _shared(case, since[:1], _down)
        yield Breach(
            "lightningd",
            verdict,
            f"lightningd did not answer in the last {length} samples{shared}",
            {"samples": length},
        )
    elif length:
        yield Breach("lightningd", INCONCLUSIVE, "lightningd did not answer in the last sample", {"samples": length})


def _restarts(case: Case, columns: Columns) -> Floats:
    return columns.time[case.after(columns) & (columns.number("restarts") > 0)]


def _down(columns: Columns) -> Floats:
    return columns.all_time[~columns.all_up]


def _plugins(case: Case) -> Iterator[Breach]:
    after = case.after(case.columns)
    if not after.any():
        return
    times = case.columns.time[after]
    for item in case.expected:
        if not item.get("enabled", True):
            continue
        plugin = case.columns.plugin(item["name"])
        told_as = f"{item['name']} {item['version']} ({item['digest'][:12]})"
        away = ~case.columns.runs(item)[after]
        first, length = _longest(away)
        if length >= IN_A_ROW:
            detail = f"{told_as} was not active in {length} samples in a row, {_when(times[first], case)}"
            yield Breach("plugin", FAILING, f"{detail}: {_instead(plugin, item, after, first)}", {"samples": length})
        elif away[-1]:
            yield Breach("plugin", INCONCLUSIVE, f"{told_as} is not active in the last sample", {"samples": length})
        if plugin is not None:
            yield from _loop(case, item, after, times)
            yield from _health(case, item, plugin, after)


def _instead(plugin: Plugin | None, item: Json, after: Mask, first: int) -> str:
    if plugin is None or not plugin.active[after][first]:
        return "it did not run"
    return f"{plugin.digests[plugin.digest[after][first]][:12] or 'something that is no release'} ran"


def _loop(case: Case, item: Json, after: Mask, times: Floats) -> Iterator[Breach]:
    found = _loops(case, case.columns, item["name"])
    if len(found):
        plugin = case.columns.plugin(item["name"])
        count = int(plugin.restarts[after].sum()) if plugin else 0
        shared, verdict = _shared(case, found, lambda columns: _loops(case, columns, item["name"]))
        detail = f"{item['name']} restarted {count} times since the switch, {LOOP_RESTARTS} of them within "
        detail += f"{told(LOOP_SAMPLES * case.columns.interval)}, {_when(found[0], case)}{shared}"
        yield Breach("crash-loop", verdict, detail, {"restarts": count})


def _loops(case: Case, columns: Columns, name: str) -> Floats:
    """The moments at which a plugin of that name had restarted too often in too short a time."""
    plugin = columns.plugin(name)
    if plugin is None:
        return np.empty(0)
    after = case.after(columns)
    times = np.repeat(columns.time[after], plugin.restarts[after].astype(np.int64))
    if len(times) < LOOP_RESTARTS:
        return np.empty(0)
    ends = times[LOOP_RESTARTS - 1 :]
    return ends[ends - times[: len(ends)] < LOOP_SAMPLES * columns.interval]


def _health(case: Case, item: Json, plugin: Plugin, after: Mask) -> Iterator[Breach]:
    bad = unhealthy(plugin)[after]
    first, length = _longest(bad)
    times = case.columns.time[after]
    if length >= IN_A_ROW:
        said = plugin.healths[plugin.health[after][first]]
        shared, verdict = _shared(case, times[first : first + 1], lambda columns: _ill(case, columns, item["name"]))
        detail = f"{item['name']} said {said or 'nothing'} to its health RPC in {length} samples in a row, "
        yield Breach("health", verdict, f"{detail}{_when(times[first], case)}{shared}", {"samples": length})
    elif bad[-1]:
        yield Breach("health", INCONCLUSIVE, f"{item['name']} is not healthy in the last sample", {"samples": length})
    else:
        yield from _degraded(case, item, plugin, after)


def _degraded(case: Case, item: Json, plugin: Plugin, after: Mask) -> Iterator[Breach]:
    """Degraded is allowed where it was before or where the plugin is new: only getting worse counts."""
    degraded = _says(plugin, "degraded")
    before = case.before(case.columns) & plugin.active & (degraded | _says(plugin, "ok"))
    if before.any() and degraded[after][-1] and float(degraded[before].mean()) < 0.5:
        share = float(degraded[after].mean())
        detail = f"{item['name']} is degraded, and was in {100 * share:.0f} % of the samples since the switch, "
        detail += f"before in {100 * float(degraded[before].mean()):.0f} %"
        yield Breach("health", INCONCLUSIVE, detail, {"degraded": share})


def _says(plugin: Plugin, word: str) -> Mask:
    words = list(plugin.healths)
    said: Mask = plugin.health == (words.index(word) if word in words else -1)
    return said


def unhealthy(plugin: Plugin) -> Mask:
    """In which samples a plugin was asked for its health and did not say that it is well enough."""
    good = [number for number, word in enumerate(plugin.healths) if word in GOOD_HEALTH]
    bad: Mask = plugin.active & ~np.isnan(plugin.rpc) & ~np.isin(plugin.health, good)
    return bad


def _ill(case: Case, columns: Columns, name: str) -> Floats:
    plugin = columns.plugin(name)
    return np.empty(0) if plugin is None else columns.time[case.after(columns) & unhealthy(plugin)]


def _channels(case: Case) -> Iterator[Breach]:
    after = case.after(case.columns)
    lost = int(case.columns.number("channels_lost")[after].sum())
    if lost:
        times = _lost(case, case.columns)
        shared, verdict = _shared(case, times, lambda columns: _lost(case, columns))
        live = case.columns.number("channels_live")[after]
        detail = f"{lost} channels lost since the switch, the first {_when(times[0], case)}; {live[-1]:.0f} are left"
        yield Breach("channels", verdict, detail + shared, {"lost": lost, "live": int(live[-1])})


def _lost(case: Case, columns: Columns) -> Floats:
    return columns.time[case.after(columns) & (columns.number("channels_lost") > 0)]


def broken_lines(columns: Columns) -> Floats:
    """Per sample, the lines at level BROKEN that lightningd itself wrote; those of plugins are errors."""
    return np.maximum(0.0, columns.number("broken") - columns.number("errors"))


def used_to_break(case: Case) -> bool:
    """Whether a node wrote such lines before the switch: then a rate is compared, and one line says nothing."""
    return bool(broken_lines(case.columns)[case.before(case.columns)].any())


def _broken(case: Case) -> Iterator[Breach]:
    count = int(broken_lines(case.columns)[case.after(case.columns)].sum())
    if count and not used_to_break(case):
        times = _breaks(case, case.columns)
        shared, verdict = _shared(case, times, lambda columns: _breaks(case, columns))
        text = next((line["text"] for line in case.columns.lines if _is_of(line, case)), "")
        first = f": {text[:200]}" if text else ""
        yield Breach(
            "log", verdict, f"{count} BROKEN lines since the switch, none before{shared}{first}", {"lines": count}
        )


def _is_of(line: Json, case: Case) -> bool:
    return bool(line["level"] == "BROKEN" and line["time"] >= case.since)


def _breaks(case: Case, columns: Columns) -> Floats:
    return columns.time[case.after(columns) & (broken_lines(columns) > 0)]


def _sync(case: Case) -> Iterator[Breach]:
    after = case.after(case.columns)
    behind = case.columns.number("synced")[after] < 1
    length = _at_the_end(behind)
    if length >= IN_A_ROW:
        shared, verdict = _shared(
            case, case.columns.time[-1:], lambda columns: columns.time[columns.number("synced") < 1]
        )
        verdict = verdict if length >= UNSYNCED_SAMPLES else INCONCLUSIVE
        yield Breach("sync", verdict, f"not synced in the last {length} samples{shared}", {"samples": length})


def _shared(case: Case, times: Floats, of_control: Times, allowed: int = 0) -> tuple[str, str]:
    """What to add to a sentence, and the verdict: failing, unless the control nodes had it at those moments too."""
    near = SAME_TIME_SAMPLES * case.columns.interval
    needed = max(1, (len(case.controls) + 1) // 2)
    others = [of_control(columns) for _, columns in sorted(case.controls.items())]
    alone = sum(sum(bool((np.abs(other - when) <= near).any()) for other in others) < needed for when in times.tolist())
    if alone > allowed:
        return "", FAILING
    return f"; at least {needed} of {len(others)} control nodes had the same at the same time", INCONCLUSIVE


def _when(moment: float, case: Case) -> str:
    return f"{told(max(0.0, moment - case.since))} after the switch"


def _at_the_end(flags: Mask) -> int:
    """How many at the end are true in a row."""
    others = np.flatnonzero(~flags)
    return len(flags) - (int(others[-1]) + 1 if len(others) else 0)


def _longest(flags: Mask) -> tuple[int, int]:
    """Where the longest run of true begins, and its length."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int((ends - starts)[longest])
