"""docs/reference/report.md names every key and every word of a report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _report, _report_page
from report import samples

PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/report.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"`([^`\s]+)`", PAGE))
# By node, plugin, metric or as a check sees fit: no names of ours.
FREE = {"nodes", "plan_lines", "history", "plots", "downtime_ms", "figures", "adoption", "brakes", "pauses"}


def keys(value: Any, name: str = "") -> Iterator[str]:
    """Every key of an object, but the names of nodes, plugins and metrics."""
    if isinstance(value, list):
        for entry in value:
            yield from keys(entry, name)
    elif isinstance(value, dict):
        for key, entry in value.items():
            if name not in FREE:
                yield key
            # A node of plots has metrics by name.
            yield from keys(entry, "" if name in FREE - {"plots"} else "metrics" if name == "plots" else key)


@pytest.mark.parametrize("name", [name for name in samples.SAMPLES if name != "hostile"])
def test_every_key_and_word_of_a_report_is_described(name: str) -> None:
    made = _report.build(samples.SAMPLES[name]())
    metrics = {metric for soak in made["soaks"] for plots in soak["plots"].values() for metric in plots}
    told = {made["result"], *keys(made), *(node["result"] for node in made["nodes"].values())}
    assert sorted(told - WORDS - metrics) == []
    assert samples.SECRET not in str(made)
    assert samples.SECRET not in _report_page.html(made)


def test_the_samples_end_in_most_ways_that_a_run_can() -> None:
    ends = {_report.build(made())["result"] for made in samples.SAMPLES.values()}
    assert {"success", "soaking", "paused", "braked", "refused", "reverted"} <= ends
