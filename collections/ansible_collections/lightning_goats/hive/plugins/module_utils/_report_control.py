# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The line of the nodes that did not change, beside what the judge saw of those that did. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_plot import COUNTERS, named
from numpy.typing import NDArray

Json = dict[str, Any]
Floats = NDArray[np.float64]


class Control:
    """One node that did not change: its columns as running sums, so that any stretch of time is two look-ups.

    Args:
        series: what its probe saw.
    """

    def __init__(self, series: Mapping[str, Any]) -> None:
        self._series = series
        up = np.asarray(series["up"], dtype=np.float64) > 0
        self._up = up
        self._time = np.asarray(series["time"], dtype=np.float64)
        self._sums: dict[str, tuple[Floats, Floats] | None] = {}

    def over(self, name: str, edges: Floats) -> Floats | None:
        """A metric over each stretch between two edges: its sum, or its mean where it has a level; None without it."""
        if name not in self._sums:
            self._sums[name] = self._summed(name)
        summed = self._sums[name]
        if summed is None:
            return None
        sums, counts = summed
        at = np.searchsorted(self._time, edges, side="right")
        seen = np.diff(counts[at])
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.diff(sums[at]) / (1.0 if named(name)[0] in COUNTERS else seen)
        return np.where(seen > 0, values, np.nan)

    def _summed(self, name: str) -> tuple[Floats, Floats] | None:
        metric, plugin = named(name)
        columns = self._series["plugins"].get(plugin) if plugin else self._series
        if columns is None or metric not in columns:
            return None
        values = np.array([np.nan if value is None else value for value in columns[metric]], dtype=np.float64)
        known = self._up & ~np.isnan(values)
        sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
        return sums, np.concatenate([[0.0], np.cumsum(known)])


def add(plots: Mapping[str, Mapping[str, Json]], controls: Mapping[str, Mapping[str, Any]]) -> None:
    """Give every plot its ``control``: the median over the nodes that did not change, at each of its points.

    Args:
        plots: per node and metric, as the judge of soaks makes them; each is added to.
        controls: the series of the nodes that did not change; without any, no plot gets the line.
    """
    known = [Control(series) for series in controls.values()]
    for metrics in plots.values():
        for name, plot in metrics.items():
            time = np.asarray(plot["time"], dtype=np.float64)
            if len(time) < 2:
                continue
            edges = np.concatenate([[2 * time[0] - time[1]], time])
            seen = [values for one in known if (values := one.over(name, edges)) is not None]
            if seen:
                plot["control"] = _medians(np.array(seen))


def _medians(values: Floats) -> list[float | None]:
    """The median of each column; None where no node knows it."""
    known = ~np.isnan(values).all(axis=0)
    found: list[float | None] = [None] * values.shape[1]
    for place, value in zip(np.flatnonzero(known), np.nanmedian(values[:, known], axis=0), strict=True):
        found[int(place)] = round(float(value), 3)
    return found
