"""Staging: releases brought to the node, verified there, and unpacked into slots. lightningd is not touched."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import _manifest
from .._slots import SHORT, Slot, build_slots, load_slot, release_path, verify_slot
from .errors import HiveError
from .files import disk_error, make_dir, remove_tree, write_atomic
from .journal import Journal, State
from .lock import engine_lock
from .node import Node
from .observe import free_bytes
from .runtimes import runtime_of

LOCK_SECONDS = 300.0
READERS = 2
# The copy, and one interpreter's part of it unpacked, which is never more than twice as large.
ROOM = 3


@dataclass(frozen=True)
class Wanted:
    """A release that must be ready on the node; `incoming` is where its files lie on this machine, if they do."""

    name: str
    version: str
    digest: str
    incoming: Path | None = None


@dataclass
class Outcome:
    """What staging did.

    Attributes:
        missing: digests whose files have to be brought here first.
        staged: slots that were made.
    """

    slots: list[Slot] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)


def stage(node: Node, wanted: list[Wanted], signers: str, check_mode: bool) -> Outcome:
    """Make a slot of every wanted release that has none.

    Args:
        signers: text of the ssh-keygen file of who may sign releases.

    Raises:
        HiveError: a release must not be used, or cannot be unpacked here; no slot of it exists then.
    """
    outcome = Outcome()
    open_work: list[Wanted] = []
    for item in wanted:
        slot = load_slot(node, item.name, item.digest)
        if slot.complete and slot.digest == item.digest and release_path(node, item.digest).is_dir():
            verify_slot(slot)
            outcome.slots.append(slot)
        else:
            open_work.append(item)
    outcome.missing = [
        item.digest for item in open_work if item.incoming is None and not release_path(node, item.digest).is_dir()
    ]
    if check_mode:
        outcome.staged = [item.digest for item in open_work]
        return outcome
    ready = [item for item in open_work if item.digest not in outcome.missing]
    if ready:
        with engine_lock(node, LOCK_SECONDS):
            _work(node, ready, signers, outcome)
    return outcome


def _work(node: Node, ready: list[Wanted], signers: str, outcome: Outcome) -> None:
    journal = Journal(node.journal_file, node.keeper)
    runtime = runtime_of(node)
    signers_file = node.state_dir / "allowed_signers"
    write_atomic(signers_file, signers.encode(), node.keeper)
    for left in node.releases_dir.glob(".partial-*"):
        remove_tree(left)
    state = journal.state()
    with ThreadPoolExecutor(READERS) as pool:
        releases = list(pool.map(lambda item: _accept(node, item, signers_file, state), ready))
    for release in releases:
        _remember(release, journal, outcome)
    slots = build_slots(node, runtime, [release.manifest for release in releases])
    for slot in slots:
        journal.append(
            "staged",
            {"name": slot.name, "version": slot.version, "digest": slot.digest, "tree_digest": slot.tree_digest},
        )
    outcome.slots += slots
    outcome.staged += [slot.digest for slot in slots]


def _accept(node: Node, item: Wanted, signers_file: Path, state: State) -> _manifest.Release:
    """Return a verified release, whose files are in the node's own store afterwards."""
    kept = release_path(node, item.digest)
    try:
        if kept.is_dir():
            try:
                return _manifest.load_release(kept, signers_file, item.name, item.version, item.digest)
            except _manifest.ReleaseError as error:
                if error.code not in ("artifact", "missing", "unsigned", "schema"):
                    raise
                # It was whole when it was accepted; a disk has lost something since, so it is brought again.
                remove_tree(kept)
        if item.incoming is None:
            raise HiveError(f"the files of {item.name} {item.version} did not arrive; run again", "missing")
        return _import(node, item, signers_file, state)
    except _manifest.ReleaseError as error:
        raise HiveError(str(error), f"release-{error.code}", name=item.name, version=item.version) from error


def _remember(release: _manifest.Release, journal: Journal, outcome: Outcome) -> None:
    """Write down what the node has accepted, once: nothing older will be."""
    entry = {
        "name": release.name,
        "version": release.version,
        "digest": release.digest,
        "released_at": int(release.manifest["released_at"]),
        "signer": release.signer,
    }
    if not any(e["event"] == "accepted" and e["data"]["digest"] == release.digest for e in journal.entries):
        journal.append("accepted", entry)
        outcome.accepted.append(entry)


def _import(node: Node, item: Wanted, signers_file: Path, state: State) -> _manifest.Release:
    """Copy a release into the store, verify the copy, then give it its name; what is not verified never gets there."""
    assert item.incoming is not None
    partial = node.releases_dir / f".partial-{item.digest[:SHORT]}-{os.getpid()}"
    remove_tree(partial)
    make_dir(partial, node.keeper, 0o755)
    try:
        _copy_files(item.incoming, partial, node)
        release = _manifest.load_release(partial, signers_file, item.name, item.version, item.digest, now=time.time())
        ran = {entry["digest"] for stack in (state.stable, state.previous) for entry in stack or []}
        if item.digest not in ran:
            _manifest.check_watermark(release.manifest, state.watermarks.get(item.name))
        kept = release_path(node, item.digest)
        # It lasts once the slots made of it do; until then a power cut may take it, and it is brought again.
        partial.rename(kept)
        return _manifest.Release(release.manifest, kept, release.signer)
    finally:
        remove_tree(partial)


def _copy_files(source: Path, target: Path, node: Node) -> None:
    try:
        found = [path for path in sorted(source.iterdir()) if path.is_file()]
    except OSError as error:
        raise HiveError(
            f"the release directory {source} cannot be read: {error.strerror}; build the release again (release.yml)",
            "missing",
        ) from error
    size = sum(path.stat().st_size for path in found)
    if free_bytes(target) < size * ROOM:
        raise HiveError(
            f"{node.name} has {free_bytes(target) // 1048576} MiB free at {node.state_dir} and this release "
            f"needs {size * ROOM // 1048576} MiB; "
            "free some space and stage again",
            "disk-full",
        )
    for path in found:
        copy = target / path.name
        try:
            shutil.copyfile(path, copy)
            copy.chmod(0o644)
        except OSError as error:
            raise disk_error(error, copy) from error
