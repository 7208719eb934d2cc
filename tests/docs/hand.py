"""An operator at a shell with a guide open, who works through it chapter by chapter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from flows.flow_fleet import ROOT

from docs import transcript

MANUAL = ROOT / "docs/runbooks/manual.md"
CONTAINER = ROOT / "docs/runbooks/docker-manual.md"
OWN = "Your node"
TOOLS = "Tools for this session"


class Hand:
    """One shell, and the guides that are worked through in it."""

    def __init__(self, directory: Path) -> None:
        self.shell = transcript.Shell(directory, os.environ)

    def do(self, guide: Path, *chapters: str, values: Mapping[str, str] | None = None) -> None:
        """Work through these chapters of a guide; `values` are needed for the chapter with the operator's own."""
        steps = transcript.steps(guide, values or transcript.variables(guide))
        for chapter in chapters:
            todo = [step for step in steps if step.headings[1:2] == (chapter,)]
            assert todo, f"{guide.name} has no chapter {chapter!r} with anything to do"
            for step in todo:
                transcript.check(step, *self.shell.run(step.command), guide.name)
