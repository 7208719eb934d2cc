# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The exact sources of a release, made ready for their own tests. Controller only.

A manifest names its sources by a digest of every file that reached the artifact, and by their commit. The work tree is
tested where its digest is that one; else the commit is unpacked and has to have it. Sources of others are known by
their commit alone.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from itertools import permutations
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    FOREIGN_KEY,
    Release,
    ReleaseError,
    canonical,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import version_key
from ansible_collections.lightning_goats.hive.plugins.module_utils._release import PYTHONS
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_git import commit_files, read_commit
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_lock import FILE, read_lock
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import Locked, Sources, read_sources
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_wheels import Target, choose, fetch
from packaging.markers import Marker

TESTS = "tests"
INSTALL_SECONDS = 300


@dataclass(frozen=True)
class Place:
    """Where the tests of a release run.

    Attributes:
        home: the directory that pytest is started in.
        packages: by name of a package of ours (or of the foreign plugin), its directory, which has ``tests``.
        path: what goes before everything else that Python imports.
        source: for the evidence: how these sources were found.
        sources: to look again with, once the tests are over; None for sources that nobody else can change.
    """

    home: Path
    packages: dict[str, Path]
    path: list[Path]
    source: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    lock: Path | None = None
    sources: Sources | None = None


def find(release: Release, source: Path, workspace: Path, scratch: Path, cache: Path, locks: Path) -> Place:
    """The sources of a release, as they were when it was built.

    ``source`` is the directory of one of ours. Raises ReleaseError ``suite-sources`` where nobody can show that these
    are the sources, and ``suite-environment`` where other versions are installed than were locked.
    """
    if FOREIGN_KEY in release.manifest:
        return _foreign(release, workspace, scratch, cache, locks)
    if not (source / "pyproject.toml").is_file():
        raise ReleaseError(
            "suite-sources",
            f"The sources of {release.name} are not at {source}: name their directory in hive_suites_sources.",
        )
    here = read_like(release, source, workspace)
    if here is not None:
        return _ours(here, workspace, "work tree")
    commit = str(release.manifest["source"]["commit"])
    if not commit or release.manifest["source"]["dirty"]:
        raise ReleaseError(
            "suite-sources",
            f"{release.name} {release.version} was built from sources that are in no commit and have changed since: "
            "commit them and build the release again.",
        )
    unpacked = scratch / "sources"
    unpack(commit_files(workspace, commit), unpacked)
    there = read_like(release, unpacked / source.resolve().relative_to(workspace.resolve()), unpacked)
    if there is None:
        raise ReleaseError(
            "suite-sources",
            f"Commit {commit[:12]} has not the sources that {release.name} {release.version} was built from: build the "
            "release again.",
        )
    return _ours(there, unpacked, "commit")


def read_like(release: Release, source: Path, workspace: Path) -> Sources | None:
    """The sources in ``source`` if they are the release's; None when their digest is another."""
    wanted = str(release.manifest["source"]["digest"])
    machines = {key.partition("-")[2] for key in release.manifest["python"]["wheels"]}
    # The digest has the targets in the order in which they were asked for.
    for order in permutations(sorted(machines, reverse=True)):
        targets = [f"{Target(python, machine).tag}-{machine}" for python in PYTHONS for machine in order]
        found = read_sources(source, release.name, release.version, {}, workspace, targets)
        if found.digest == wanted:
            return found
    return None


def _ours(sources: Sources, home: Path, how: str) -> Place:
    environment = _installed(sources.locked)
    return Place(
        home=home,
        packages={sources.name: sources.packages[0], **{package.name: package for package in sources.packages[1:]}},
        # The sandbox is none of the release's, but has to be of the same commit.
        path=[*(package / "src" for package in sources.packages), home / "sandbox/src"],
        source={"digest": sources.digest, "commit": sources.commit, "from": how},
        environment=environment,
        lock=home / "uv.lock",
        sources=sources,
    )


def _installed(locked: tuple[Locked, ...]) -> dict[str, str]:
    """The versions beside Ansible of what was locked; they have to be those."""
    found: dict[str, str] = {"python": platform.python_version()}
    for item in locked:
        if item.marker and not Marker(item.marker).evaluate({"extra": ""}):
            continue
        try:
            version = installed_version(item.name)
        except PackageNotFoundError:
            version = ""
        # A distribution may write its own version as it likes: v26.06.9 is 26.6.9.
        if version_key(version) != version_key(item.version):
            raise ReleaseError(
                "suite-environment",
                f"{item.name} {item.version} is locked, but {version or 'none'} is installed beside Ansible: run "
                "'make venv' and use its Ansible.",
            )
        found[item.name] = item.version
    return {**found, "pytest": need("pytest")}


def need(tool: str) -> str:
    """The version of a tool beside Ansible. Raises ReleaseError ``suite-environment``."""
    try:
        return installed_version(tool)
    except PackageNotFoundError as error:
        raise ReleaseError(
            "suite-environment", f"{tool} is not installed beside Ansible: run 'make venv' and use its Ansible."
        ) from error


# Sources of others


def _foreign(release: Release, workspace: Path, scratch: Path, cache: Path, locks: Path) -> Place:
    origin, commit = release.manifest[FOREIGN_KEY], str(release.manifest["source"]["commit"])
    title = f"{release.name} {release.version}"
    if not origin["repository"] or not commit:
        raise ReleaseError(
            "suite-sources",
            f"{title} came as a finished artifact, so nobody here has its tests: ask who built it, or waive the check.",
        )
    found = read_commit(origin["repository"], commit, workspace, cache)
    home, site = scratch / "sources", scratch / "site"
    unpack(found.files, home)
    lock = locks / release.name / release.version / FILE
    locked = read_lock(release.name, lock) if lock.is_file() else ()
    target = Target(".".join(map(str, sys.version_info[:2])), platform.machine())
    wheels = choose(locked, target)
    fetch({target: wheels}, cache / "wheels")
    install([cache / "wheels" / wheel.file for wheel in wheels], site)
    return Place(
        home=home,
        packages={release.name: home},
        path=[home, site],
        source={"digest": str(release.manifest["source"]["digest"]), "commit": found.commit, "from": "commit"},
        environment={
            "python": platform.python_version(),
            "pytest": need("pytest"),
            **{item.name: item.version for item in locked},
        },
        lock=lock if lock.is_file() else None,
    )


def install(wheels: list[Path], site: Path) -> None:
    """Put wheels that were checked by their hash into a directory of their own. Raises ReleaseError."""
    site.mkdir(parents=True, exist_ok=True)
    if not wheels:
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    command += ["--disable-pip-version-check", "--target", str(site), *map(str, wheels)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(
            "suite-environment",
            f"The locked wheels were not unpacked within {INSTALL_SECONDS} s: look at this machine's load.",
        ) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or f"rc {done.returncode}").splitlines()[-1]
        raise ReleaseError(
            "suite-environment",
            f"The locked wheels cannot be unpacked ({said}): empty the cache and build the release again.",
        )


def unpack(files: dict[str, tuple[bytes, bool]], directory: Path) -> None:
    """Write the files of a commit below ``directory``."""
    root = directory.resolve()
    for name, (content, executable) in files.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ReleaseError("suite-sources", f"The commit has a file {name!r}, which would lie elsewhere.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if executable else 0o644)


def tree_digest(directory: Path) -> str:
    """A digest over all files below a directory, by name and content; what Python compiled does not count."""
    found: dict[str, Any] = {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    return hashlib.sha256(canonical(found)).hexdigest()
