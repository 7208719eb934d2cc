# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Runs the test suite of a release in a process of its own, with a deadline, and leaves nothing of it running.

Runs on the controller only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils import _suites, _suites_sources
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.runtimes_docker import end_marked
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release, ReleaseError

MARK = "HIVE_SUITE_RUN"
CLOSING = re.compile(r"(?:\d+ \w+|no tests ran).* in [\d.]+s")
OUTPUT_BYTES = 1 << 20
# What a test must not see of the run that it is in.
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Settings:
    """How suites are run. Paths are absolute.

    Attributes:
        seconds: how long the suites of one release may take together.
        workers: processes that share a suite; 1 needs no further tool.
    """

    workspace: Path
    cache: Path
    locks: Path
    seconds: float
    workers: int = 1


def test(release: Release, source: Path, settings: Settings) -> _suites.Outcome:
    """Run the tests of a release. What they find is a result, not an error.

    Raises:
        ReleaseError: nobody can show which sources these are, or they changed while they were tested.
    """
    started = time.time()
    settings.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.cache, prefix=".suite-") as directory:
        scratch = Path(directory)
        place = _suites_sources.find(release, source, settings.workspace, scratch, settings.cache, settings.locks)
        deadline = time.monotonic() + settings.seconds
        suites = [
            _run(name, package, place, scratch, settings.workers, deadline) for name, package in place.packages.items()
        ]
        if (
            place.sources is not None
            and _suites_sources.read_like(release, place.sources.packages[0], place.home) is None
        ):
            raise ReleaseError(
                "suite-sources",
                f"The sources of {release.name} were changed while their tests ran: leave them alone and run again.",
            )
        return _suites.Outcome(
            plugin=release.name,
            version=release.version,
            digest=release.digest,
            source=place.source,
            environment=place.environment,
            suites=suites,
            started_at=round(started, 3),
            finished_at=round(time.time(), 3),
            lock_digest=hashlib.sha256(place.lock.read_bytes()).hexdigest() if place.lock is not None else "",
        )


def _run(
    name: str, package: Path, place: _suites_sources.Place, scratch: Path, workers: int, deadline: float
) -> _suites.Suite:
    """Run pytest over the tests of one package."""
    tests, report = package / _suites_sources.TESTS, scratch / f"{name}.xml"
    before = _suites_sources.tree_digest(tests) if tests.is_dir() else ""
    if not before:
        return _suites.Suite(name, hashlib.sha256(b"").hexdigest(), 5, 0.0, _suites.Counts(), "it has no tests")
    command = [sys.executable, "-m", "pytest", str(tests), "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += ["-n", str(workers)] if workers > 1 else []
    mark = f"{name}-{os.urandom(4).hex()}"
    (scratch / "home").mkdir(exist_ok=True)
    environment = {
        **{key: os.environ[key] for key in KEPT if key in os.environ},
        "HOME": str(scratch / "home"),
        "PYTHONPATH": os.pathsep.join(map(str, place.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        MARK: mark,
    }
    begun = time.monotonic()
    with tempfile.TemporaryFile(dir=scratch) as output:
        process = subprocess.Popen(
            command,
            cwd=place.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        rc: int | None
        try:
            rc = process.wait(max(0.0, deadline - begun))
        except subprocess.TimeoutExpired:
            rc = None
        finally:
            _end(process, mark)
        output.seek(max(0, os.fstat(output.fileno()).st_size - OUTPUT_BYTES))
        said = output.read().decode("utf-8", "replace")
    if _suites_sources.tree_digest(tests) != before:
        raise ReleaseError(
            "suite-sources", f"The tests of {name} were changed while they ran: leave them alone and run again."
        )
    return _suites.Suite(
        name, before, rc, round(time.monotonic() - begun, 1), _suites.read_report(report), _closing(said)
    )


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """End what is left, also what has left for a session of its own: nodes of the sandbox do."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    end_marked(f"{MARK}={mark}")


def _closing(said: str) -> str:
    """The line with which pytest ends, else the last that was said."""
    lines = [line.strip("= ").strip() for line in said.splitlines() if line.strip("= ").strip()]
    found = [line for line in lines if CLOSING.search(line)]
    return (found or lines or [""])[-1][:200]
