# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""A report as files: ``<rollout>.json`` and ``.html`` with ``latest.*`` beside them. Controller only."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils._report import Json
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_page import html

# More than the four files of a report take in which twenty nodes have plots.
ROOM_BYTES = 4 * 2**20
NUMBERS = re.compile(r"\[\n([^\[\]{}\"]*)\n\s*\]")


def trouble(directory: Path) -> str:
    """Why no report can be written to ``directory``, as a sentence; "" when one can."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(ROOM_BYTES))
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
    texts = {"json": data(report), "html": html(report)}
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


def ended_before(report: Json, directory: Path) -> bool:
    """Whether the files already say of this very run that it ended so: a failure is reported by more than one task."""
    try:
        found = json.loads((directory / f"{report['rollout']}.json").read_text(encoding="utf-8"))
        return all(found[key] == report[key] for key in ("started_at", "result"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def data(report: Json) -> str:
    """The report for programs, which people read too: one line for each fact, and one for each row of numbers."""
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    # A line break stands in no string, so that this meets nothing but lists of numbers.
    return NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
