# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What a test suite of a release has found: read from pytest's own report, judged, and made a statement.

Green is what was counted. A suite without a test, one that skipped all of them, or one whose report and exit status
disagree is not green. Pure, controller only.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence

Json = dict[str, Any]

KIND = "suite"
DAY = 86400
# What pytest writes about some thousand tests; a file that is larger than this is not read.
MAX_REPORT_BYTES = 64 * 1024 * 1024
SHOWN = 50
# pytest's exit statuses, as its manual has them.
SAID = {
    1: "tests failed",
    2: "it was interrupted",
    3: "pytest itself failed",
    4: "pytest was called wrongly",
    5: "no tests ran",
}


@dataclass(frozen=True)
class Counts:
    """How many tests there were, and which did not pass (``module::test``, and why in one line)."""

    tests: int = 0
    failures: int = 0
    errors: int = 0
    skipped: int = 0
    bad: Sequence[tuple[str, str]] = ()

    @property
    def passed(self) -> int:
        return self.tests - self.failures - self.errors - self.skipped


@dataclass(frozen=True)
class Suite:
    """One run of pytest over the tests of one package.

    Attributes:
        package: whose tests they are, for example ``hive-kit``.
        rc: exit status, None when it was ended at its deadline.
        counts: None where there is no report, or none that can be read.
        closing: the last line that it printed.
    """

    package: str
    tests_digest: str
    rc: int | None
    seconds: float
    counts: Counts | None
    closing: str = ""

    @property
    def trouble(self) -> str:
        """Why this run proves nothing good, in a few words; "" when it is green."""
        if self.rc is None:
            return f"its time was over after {self.seconds:.0f} s"
        if self.counts is None:
            return f"it left no report ({SAID.get(self.rc, f'exit status {self.rc}')}): {self.closing or 'no output'}"
        if self.counts.failures or self.counts.errors:
            return f"{self.counts.failures + self.counts.errors} of {self.counts.tests} tests failed"
        if self.rc != 0:
            return SAID.get(self.rc, f"exit status {self.rc}")
        if self.counts.passed <= 0:
            return "no tests ran" if not self.counts.tests else f"all {self.counts.tests} tests were skipped"
        return ""


def read_report(path: Path) -> Counts | None:
    """The counts in a JUnit report of pytest; None when it is not there, cut off, or contradicts itself."""
    try:
        if path.stat().st_size > MAX_REPORT_BYTES:
            return None
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    suites = [root] if root.tag == "testsuite" else root.findall("testsuite")
    try:
        sums = {
            key: sum(int(suite.get(key, "0")) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
        }
    except ValueError:
        return None
    bad = []
    for suite in suites:
        for case in suite.findall("testcase"):
            found = next((child for kind in ("failure", "error") for child in case.findall(kind)), None)
            if found is not None:
                name = "::".join(word for word in (case.get("classname", ""), case.get("name", "")) if word)
                why = (found.get("message") or "").strip().splitlines() or [found.tag]
                bad.append((name, why[0][:160]))
    if bool(bad) != bool(sums["failures"] + sums["errors"]) or min(sums.values()) < 0 or not suites:
        return None
    return Counts(**sums, bad=tuple(bad))


@dataclass(frozen=True)
class Outcome:
    """All runs for one release.

    Attributes:
        source: how the sources were found (``digest``, ``commit``, ``from``).
        environment: version by distribution, of what the tests ran with.
        command: what runs it again.
    """

    plugin: str
    version: str
    digest: str
    source: Mapping[str, str]
    environment: Mapping[str, str]
    suites: Sequence[Suite]
    started_at: float
    finished_at: float
    command: str = ""
    lock_digest: str = ""

    @property
    def troubles(self) -> list[str]:
        """What is not green, one sentence each; a release without any suite is not green."""
        found = [f"{suite.package}: {suite.trouble}" for suite in self.suites if suite.trouble]
        return found if self.suites else ["no tests ran"]

    @property
    def passed(self) -> bool:
        return not self.troubles

    @property
    def figures(self) -> Json:
        """Sums over all runs."""
        counts = [suite.counts for suite in self.suites if suite.counts is not None]
        return {
            "tests": sum(count.tests for count in counts),
            "passed": sum(count.passed for count in counts),
            "failed": sum(count.failures for count in counts),
            "errors": sum(count.errors for count in counts),
            "skipped": sum(count.skipped for count in counts),
            "seconds": round(sum(suite.seconds for suite in self.suites), 1),
        }

    @property
    def line(self) -> str:
        """The release in one line."""
        sums = self.figures
        title = f"{self.plugin} {self.version}  {self.digest[:12]}"
        if self.passed:
            skipped = f", {sums['skipped']} skipped" if sums["skipped"] else ""
            return f"{title}  green: {sums['passed']} tests{skipped} in {sums['seconds']:.0f} s"
        bad = [name for suite in self.suites if suite.counts is not None for name, _ in suite.counts.bad]
        names = f" ({', '.join(bad[:3])}{', …' if len(bad) > 3 else ''})" if bad else ""
        return f"{title}  RED: {'; '.join(self.troubles)}{names}"


def statement(outcome: Outcome, valid_days: int) -> Json:
    """What was found as an in-toto statement about the artifact."""
    bad = [
        {"package": suite.package, "test": name, "reason": why}
        for suite in outcome.suites
        if suite.counts is not None
        for name, why in suite.counts.bad
    ]
    facts = {
        "kind": KIND,
        "label": outcome.plugin,
        "release": {"name": outcome.plugin, "version": outcome.version, "digest": outcome.digest},
        "source": dict(outcome.source),
        "environment": dict(outcome.environment),
        "figures": outcome.figures,
        "checks": [
            {
                "name": f"tests of {suite.package}",
                "ok": not suite.trouble,
                "detail": suite.trouble or suite.closing,
                "seconds": round(suite.seconds, 1),
            }
            for suite in outcome.suites
        ],
        "reason": "; ".join(outcome.troubles),
        "failures": bad[:SHOWN],
        "started_at": outcome.started_at,
        "finished_at": outcome.finished_at,
        "expires_at": outcome.finished_at + valid_days * DAY if valid_days else None,
        "command": outcome.command,
    }
    green, red = (
        [f"tests of {suite.package}" for suite in outcome.suites if bool(suite.trouble) is bad_one]
        for bad_one in (False, True)
    )
    tested_with = {f"tests of {suite.package}": suite.tests_digest for suite in outcome.suites}
    if outcome.lock_digest:
        tested_with["uv.lock"] = outcome.lock_digest
    return _evidence.statement(
        _evidence.PASSED if outcome.passed else _evidence.FAILED,
        {f"{outcome.plugin}-{outcome.version}.pex": outcome.digest},
        tested_with,
        _evidence.Outcomes(green, red),
        facts,
    )
