# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""When what happened to each node, as shares of the run's time. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _report_plot
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import duration

Json = dict[str, Any]

# Which event begins a stretch of what kind; the next one ends it.
STRETCHES = {
    "begin": "switch",
    "switched": "watch",
    "reverting": "revert",
    "confirmed": "",
    "reverted": "",
    "refused": "",
}
LEAST_PERCENT = 0.4


def drawn(report: Mapping[str, Any]) -> Json | None:
    """The timeline of a run, None when nothing happened to any node.

    Returns:
        ``begin`` and ``end`` (unix seconds), ``marks`` of the axis ``[left, words]``, and per node its ``bars``
        ``{kind, left, width, words}`` in percent and the same in ``words``.
    """
    timelines = {name: node["timeline"] for name, node in report["nodes"].items() if node["timeline"]}
    times = [event["time"] for timeline in timelines.values() for event in timeline]
    if not times:
        return None
    begin, end = min(times), max(times)
    return {
        "begin": begin,
        "end": end,
        "marks": [
            [_share(offset, end - begin), "0" if not offset else words]
            for offset, words in _report_plot.moments(0.0, end - begin)
        ],
        "rows": [_row(name, timeline, begin, end) for name, timeline in timelines.items()],
    }


def _share(offset: float, whole: float) -> float:
    return round(100 * offset / max(whole, 0.001), 2)


def _row(name: str, timeline: Sequence[Mapping[str, Any]], begin: float, end: float) -> Json:
    bars: list[Json] = []
    known = [event for event in timeline if event["event"] in STRETCHES]
    for number, event in enumerate(known):
        kind = STRETCHES[event["event"]]
        if not kind:
            continue
        until = known[number + 1]["time"] if number + 1 < len(known) else timeline[-1]["time"]
        bars.append(
            {
                "kind": kind,
                "left": _share(event["time"] - begin, end - begin),
                "width": max(_share(until - event["time"], end - begin), LEAST_PERCENT),
                "words": f"{kind} {duration(until - event['time'])}",
            }
        )
    last = known[-1]["event"] if known else timeline[-1]["event"]
    return {"name": name, "bars": bars, "end": last, "words": ", ".join([*(bar["words"] for bar in bars), last])}
