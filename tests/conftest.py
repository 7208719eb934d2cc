"""What holds for every test: those that need a Docker engine start first, and say why when they cannot."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from functools import cache

import pytest

PREPARE = "run scripts/ci-machine as root on Debian or Ubuntu, or start Docker"


@cache
def _engine_trouble() -> str:
    """Why no Docker engine answers; empty when one does."""
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except FileNotFoundError:
        return f"docker is not installed: {PREPARE}"
    except subprocess.TimeoutExpired:
        return f"the Docker engine hangs: {PREPARE}"
    return "" if done.returncode == 0 else f"{done.stderr.strip() or 'no Docker engine answers'}: {PREPARE}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # They take minutes in a group of their own; started last they would keep one processor waiting for the other.
    items.sort(key=lambda item: item.get_closest_marker("docker") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") is None:
        return
    trouble = _engine_trouble()
    if trouble and os.environ.get("CI") == "true":
        pytest.fail(f"CI runs every test, and {trouble}", pytrace=False)
    if trouble:
        pytest.skip(trouble)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason to skip: hundreds of tests share one, and would push what failed out of sight."""
    reasons = Counter(
        report.longrepr[2] for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"SKIPPED {count} times: {reason.removeprefix('Skipped: ')}")
