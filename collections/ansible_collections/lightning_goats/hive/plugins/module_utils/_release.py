# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""From plugin sources to signed releases: what is there and valid stays, the rest is built, signed and published.

Nothing under the releases directory changes before every release of the call is ready. Runs on the controller only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_pex as pex
from ansible_collections.lightning_goats.hive.plugins.module_utils import _sbom
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    FOREIGN_KEY,
    MANIFEST_FILE,
    SCHEMA,
    SIGNATURE_FILE,
    Release,
    ReleaseError,
    canonical,
    load_release,
    release_directory,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_finished import read_finished
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_foreign import read_foreign
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import Sources, read_sources
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_wheels import (
    Target,
    Wheel,
    build_own,
    choose,
    fetch,
)

PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
CHANGED = "the sources changed"
# pex and hatchling keep one core busy each; more at once only makes each slower.
PARALLEL = 2


@dataclass(frozen=True)
class Wanted:
    """One plugin to release, of one kind of source.

    Either ``source``, the directory of a project: empty ``name`` and ``version`` mean those of the project. Or ``git``,
    a path or URL, at ``ref``: the script ``entry`` with the requirements file ``requirements``, of which ``declares``
    says what lightningd cannot tell, for Pythons ``python``. Or ``artifact``, a path or URL, by ``sha256``: with
    ``manifest`` and ``signature`` of who built it, or bare. Paths are relative to ``base``.
    """

    source: Path | None = None
    name: str = ""
    version: str = ""
    git: str = ""
    ref: str = ""
    entry: str = ""
    requirements: str = ""
    python: str = ""
    declares: dict[str, Any] = field(default_factory=dict)
    artifact: str = ""
    sha256: str = ""
    manifest: str = ""
    signature: str = ""
    base: Path = Path()


@dataclass(frozen=True)
class Settings:
    """How to release. Paths are absolute. ``valid_days`` 0: for ever. ``replace`` None: only with our own key.

    ``locks`` is where the locks of foreign plugins are kept, beside the keys when it is None.
    """

    releases: Path
    cache: Path
    keys: Path
    workspace: Path | None = None
    signing_key: str = ""
    allowed_signers: str = ""
    identity: str = "release@sandbox"
    valid_days: int = 0
    replace: bool | None = None
    machines: tuple[str, ...] = MACHINES
    locks: Path | None = None


@dataclass
class Outcome:
    """What a call did, or in check mode would do."""

    changed: bool = False
    allowed_signers: str = ""
    releases: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Job:
    sources: Sources
    directory: Path
    targets: list[Target]
    current: Release | None
    reason: str
    wheels: dict[Target, list[Wheel]] = field(default_factory=dict)
    staged: Path | None = None


def release(wanted: list[Wanted], versions: dict[str, str], settings: Settings, check_mode: bool = False) -> Outcome:
    """Make sure that each of ``wanted`` is released, and return all of them, verified.

    ``versions`` replaces, by plugin name, the versions of sources for which ``wanted`` gives none. Raises ReleaseError
    with one sentence; then nothing was published.
    """
    # Filled once, before the threads: Python fills it without a lock, and uv's own finder reads it.
    sysconfig.get_config_vars()
    signer = keys.find_signer(settings.signing_key, settings.allowed_signers, settings.keys)
    with ThreadPoolExecutor(max_workers=4) as pool:
        jobs = list(pool.map(lambda item: _look(item, versions, settings, signer), wanted))
    unknown = sorted(set(versions) - {job.sources.name for job in jobs})
    if unknown:
        raise ReleaseError("source", f"A version is given for {', '.join(unknown)}, which is not to be released.")
    _refuse_duplicates(jobs)
    _refuse_replacing(jobs, settings, signer)
    outcome = Outcome(allowed_signers=str(signer.allowed_signers))
    stale = [job for job in jobs if job.current is None]
    outcome.changed = bool(stale)
    before = {job.directory: _digest_on_disk(job) for job in jobs}
    if stale and not check_mode:
        with alone(settings.releases):
            if signer.throwaway:
                keys.create_throwaway(signer, settings.identity)
            # While we waited for our turn, another builder may have made what we want.
            for job in stale:
                job.current, _ = _find(job.directory, job.sources, signer)
            _build([job for job in stale if job.current is None], settings, signer)
    for job in jobs:
        if job.sources.lock is not None and not check_mode:
            _keep(*job.sources.lock)
        outcome.releases.append(
            {
                "name": job.sources.name,
                "version": job.sources.version,
                "digest": job.current.digest if job.current else "",
                "previous_digest": before[job.directory],
                "path": str(job.directory),
                "changed": job in stale,
                "reason": job.reason,
                "signer": job.current.signer if job.current else "",
                "manifest": job.current.manifest if job.current else {},
            }
        )
    return outcome


def _look(wanted: Wanted, versions: dict[str, str], settings: Settings, signer: keys.Signer) -> _Job:
    """Read the sources and see whether their release is there and still good."""
    targets = [Target(python, machine) for python in PYTHONS for machine in settings.machines]
    sources = _read(wanted, versions, settings, signer, targets)
    if sources.finished is not None:
        targets = [target for target in targets if f"{target.tag}-{target.machine}" in sources.finished.wheels]
    targets = [target for target in targets if target.runs(sources.requires_python)]
    if not targets:
        raise ReleaseError(
            "source", f"{sources.name} requires Python {sources.requires_python}: we release for {', '.join(PYTHONS)}."
        )
    directory = release_directory(settings.releases, sources.name, sources.version)
    return _Job(sources, directory, targets, *_find(directory, sources, signer))


def _read(
    wanted: Wanted, versions: dict[str, str], settings: Settings, signer: keys.Signer, targets: list[Target]
) -> Sources:
    """The sources of one plugin, of whichever kind they are."""
    names = [f"{target.tag}-{target.machine}" for target in targets]
    title = wanted.name or str(wanted.source or wanted.git or wanted.artifact)
    if sum(bool(kind) for kind in (wanted.source, wanted.git, wanted.artifact)) != 1:
        raise ReleaseError("source", f"{title or 'A plugin'} has not one source: give source, git or artifact.")
    if wanted.git:
        locks = settings.locks or settings.keys.parent / "locks"
        return read_foreign(wanted, versions, settings.cache, locks, names)
    if wanted.artifact:
        return read_finished(wanted, signer.allowed_signers, settings.cache, targets)
    assert wanted.source is not None, "counted above"
    return read_sources(wanted.base / wanted.source, wanted.name, wanted.version, versions, settings.workspace, names)


def _find(directory: Path, sources: Sources, signer: keys.Signer) -> tuple[Release | None, str]:
    """The release of ``sources`` that is there and good, or why there is none."""
    if not directory.exists():
        return None, "not released yet"
    try:
        found = load_release(directory, signer.allowed_signers, sources.name, sources.version, now=time.time())
    except ReleaseError as error:
        # Who signs has changed: nothing is wrong with what is there.
        return None, "signed by another key before" if error.code == "stranger" else str(error)
    if found.manifest["source"]["digest"] != sources.digest:
        return None, CHANGED
    return found, ""


def _refuse_duplicates(jobs: list[_Job]) -> None:
    directories = [job.directory for job in jobs]
    for job in jobs:
        if directories.count(job.directory) > 1:
            raise ReleaseError(
                "source",
                f"{job.sources.name} {job.sources.version} is asked for twice: give each source a version of its own.",
            )


def _refuse_replacing(jobs: list[_Job], settings: Settings, signer: keys.Signer) -> None:
    """A version that went out under a real key keeps its bytes, unless the operator says otherwise."""
    if settings.replace or (settings.replace is None and signer.throwaway):
        return
    for job in jobs:
        if job.current is None and job.directory.exists() and job.reason == CHANGED:
            raise ReleaseError(
                "replace",
                f"{job.sources.name} {job.sources.version} was already released from other sources: raise its version, "
                "or set hive_release_replace=true.",
            )


def _digest_on_disk(job: _Job) -> str:
    """The digest of what is released now, also when it is to be replaced; empty when that cannot be told."""
    if job.current is not None:
        return job.current.digest
    try:
        return str(json.loads((job.directory / MANIFEST_FILE).read_bytes())["artifact"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _build(jobs: list[_Job], settings: Settings, signer: keys.Signer) -> None:
    wheelhouse = settings.cache / "wheels"
    needed: dict[Target, list[Wheel]] = {}
    for job in jobs:
        # A finished artifact has what it needs.
        if job.sources.finished is None:
            job.wheels = {target: choose(job.sources.locked, target) for target in job.targets}
        for target, wheels in job.wheels.items():
            needed.setdefault(target, []).extend(wheels)
    fetch(needed, wheelhouse)
    # Beside its destination, so that publishing is a rename.
    with tempfile.TemporaryDirectory(dir=settings.releases, prefix=".building-") as scratch:
        own = []
        for index, job in enumerate(jobs):
            directory = Path(scratch, f"wheels-{index}")
            directory.mkdir()
            own.append([] if job.sources.finished else build_own(job.sources, directory))

        def make(item: tuple[int, _Job]) -> None:
            index, job = item
            _stage(job, own[index], wheelhouse, Path(scratch, f"release-{index}"), settings, signer)

        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            for _done in pool.map(make, enumerate(jobs)):
                pass
        for job in jobs:
            _publish(job, Path(scratch))
    for job in jobs:
        job.current = load_release(
            job.directory, signer.allowed_signers, job.sources.name, job.sources.version, now=time.time()
        )


def _stage(
    job: _Job, own: list[Path], wheelhouse: Path, directory: Path, settings: Settings, signer: keys.Signer
) -> None:
    """Make the three files of the release in ``directory``, and beside them its SBOM."""
    directory.mkdir(mode=0o755)
    sources = job.sources
    artifact = directory / f"{sources.name}-{sources.version}.pex"
    finished = sources.finished
    if finished is not None and finished.signed:
        for name in (MANIFEST_FILE, SIGNATURE_FILE, artifact.name):
            shutil.copyfile(finished.directory / name, directory / name)
        _sbom.write(Release(json.loads((directory / MANIFEST_FILE).read_bytes()), directory, ""))
        job.staged = directory
        return
    if finished is not None:
        shutil.copyfile(finished.directory / finished.file, artifact)
        wheels = {key: names for key, names in finished.wheels.items() if key in {_key(t) for t in job.targets}}
    else:
        others = sorted({wheel.file for wheels in job.wheels.values() for wheel in wheels})
        everything = [*own, *(wheelhouse / file for file in others)]
        pex.join(sources, everything, job.targets, artifact, settings.cache / "pex")
        mine = {wheel.name for wheel in own}
        wheels = {_key(target): sorted(mine | {w.file for w in found}) for target, found in job.wheels.items()}
    artifact.chmod(0o644)
    now = int(time.time())
    manifest = {
        **pex.describe(sources, artifact, settings.cache / "pex"),
        "schema": SCHEMA,
        "source": {"commit": sources.commit, "dirty": sources.dirty, "digest": sources.digest},
        "released_at": sources.released_at,
        "expires_at": now + settings.valid_days * 86400 if settings.valid_days else None,
        "artifact": {"file": artifact.name, "sha256": _sha256(artifact), "size": artifact.stat().st_size},
        "build": {"python": platform.python_version(), "pex": installed_version("pex")},
        "python": {
            "requires": sources.requires_python,
            "tags": sorted({target.tag for target in job.targets}),
            "wheels": wheels,
        },
        "entry": f"bin/{sources.name}",
    }
    if sources.origin is not None:
        manifest[FOREIGN_KEY] = sources.origin
    path = directory / MANIFEST_FILE
    path.write_bytes(canonical(manifest))
    keys.sign(path, signer)
    _sbom.write(Release(manifest, directory, ""))
    for file in directory.iterdir():
        file.chmod(0o644)
    job.staged = directory


def _key(target: Target) -> str:
    return f"{target.tag}-{target.machine}"


def _publish(job: _Job, scratch: Path) -> None:
    """Put the finished release in the place of the one that is there, if any."""
    assert job.staged is not None, "published before it was made"
    job.directory.parent.mkdir(parents=True, exist_ok=True)
    if job.directory.exists():
        job.directory.rename(scratch / f"replaced-{job.staged.name}")
    job.staged.rename(job.directory)


def _keep(path: Path, text: str) -> None:
    """Write a lock that is not there yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def alone(releases: Path) -> Iterator[None]:
    """One builder at a time; what a killed one left behind is removed by its successor."""
    releases.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(releases / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in releases.glob(".building-*"):
            shutil.rmtree(left)
        yield
    finally:
        os.close(descriptor)
