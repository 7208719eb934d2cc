# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""A report as files: ``<rollout>.json`` and ``.html`` with ``latest.*`` beside them. Controller only."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils._report import Json, stack_words, summary
from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATE = "_report.html.j2"
# More than a report of some nodes takes.
ROOM_BYTES = 256 * 1024


def trouble(directory: Path) -> str:
    """Why no report can be written to ``directory``, as a sentence; "" when one can."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b" " * ROOM_BYTES)
    except OSError as error:
        return sentence(error, directory)
    return ""


def sentence(error: OSError, directory: Path) -> str:
    """What the operating system said about the directory of the reports, and what to do."""
    return (
        f"Reports cannot be written to {directory} ({error.strerror}): make room or make it writable, or set "
        "hive_reports_dir to another directory, then run again."
    )


def write(report: Json, directory: Path) -> dict[str, str]:
    """Write the report, each file at once or not at all; returns their paths by kind (``json``, ``html``)."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = {"json": json.dumps(report, indent=2, sort_keys=True) + "\n", "html": html(report)}
    paths = {}
    for kind, text in texts.items():
        for name in (f"{report['rollout']}.{kind}", f"latest.{kind}"):
            fresh = directory / f".{name}.{os.getpid()}"
            try:
                fresh.write_text(text, encoding="utf-8")
                fresh.replace(directory / name)
            finally:
                fresh.unlink(missing_ok=True)
        paths[kind] = str(directory / f"{report['rollout']}.{kind}")
    return paths


def html(report: Json) -> str:
    """One page that needs nothing else: no server, no network, no script."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(clock=clock, took=took, stack=stack_words, bounds=bounds, share=share, width=width)
    return environment.get_template(TEMPLATE).render(report=report, summary=summary(report))


def clock(moment: float | None) -> str:
    """A time for people, in UTC."""
    return "-" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def took(report: Json) -> str:
    """How long the run took, for people."""
    if report["finished_at"] is None:
        return "under way"
    seconds = max(0.0, report["finished_at"] - report["started_at"])
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def bounds(report: Json) -> list[float]:
    """First and last moment of all timelines, [] when there is none."""
    times = [event["time"] for node in report["nodes"].values() for event in node["timeline"]]
    return [min(times), max(times)] if times else []


def share(moment: float, times: Sequence[float]) -> str:
    """Where ``moment`` lies between the two ``times``, in percent."""
    return f"{100 * (moment - times[0]) / max(times[1] - times[0], 0.001):.2f}"


def width(timeline: Sequence[Json], times: Sequence[float]) -> str:
    """How much of ``times`` a timeline takes, in percent."""
    return f"{100 * (timeline[-1]['time'] - timeline[0]['time']) / max(times[1] - times[0], 0.001):.2f}"
