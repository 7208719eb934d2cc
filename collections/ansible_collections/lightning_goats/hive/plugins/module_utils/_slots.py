"""Slots: releases unpacked and ready on the node. Each has its own real path; nothing in a slot is ever edited."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._engine.errors import HiveError
from ._engine.files import canonical, make_dir, read_json, remove_tree, write_atomic
from ._engine.node import Node
from ._engine.processes import in_use
from ._engine.runtimes import Runtime

SHORT = 12
BUILD_SECONDS = 300.0
SELF_DESCRIPTION = "--hive-manifest"


@dataclass(frozen=True)
class Slot:
    """One release on the node.

    Attributes:
        digest: sha256 of the artifact it was made from.
        complete: whether it was finished; an unfinished one is rebuilt, never used.
        manifest: the release's manifest, empty when not complete.
    """

    name: str
    version: str
    digest: str
    path: Path
    complete: bool
    manifest: dict[str, Any]
    stat_digest: str = ""
    tree_digest: str = ""

    @property
    def entry(self) -> Path:
        """The executable lightningd is told to run."""
        return self.path / str(self.manifest.get("entry", f"bin/{self.name}"))

    def inside(self, node: Node) -> str:
        """The entry's path as lightningd sees it."""
        return node.to_inside(self.entry)


def slot_path(node: Node, name: str, digest: str) -> Path:
    """Return where the slot of a release lies."""
    return node.slots_dir / name / digest[:SHORT]


def release_path(node: Node, digest: str) -> Path:
    """Return where a release that was accepted is kept."""
    return node.releases_dir / digest


def marker_path(node: Node, name: str, digest: str) -> Path:
    """Return what makes a directory a slot; it lies where lightningd's user, who owns the slots, cannot write."""
    return node.state_dir / "markers" / name / f"{digest[:SHORT]}.json"


def load_slot(node: Node, name: str, digest: str) -> Slot:
    """Read one slot, named by the beginning of its digest or all of it; one without a marker is incomplete."""
    path = slot_path(node, name, digest)
    marker = read_json(marker_path(node, name, digest))
    if not isinstance(marker, dict) or not isinstance(marker.get("manifest"), dict):
        return Slot(name, "", "", path, False, {})
    manifest = marker["manifest"]
    return Slot(
        name=str(manifest["name"]),
        version=str(manifest["version"]),
        digest=str(marker["digest"]),
        path=path,
        complete=(path / str(manifest["entry"])).is_file(),
        manifest=manifest,
        stat_digest=str(marker.get("stat_digest", "")),
        tree_digest=str(marker.get("tree_digest", "")),
    )


def list_slots(node: Node) -> list[Slot]:
    """Return all slots of the node, by name and digest."""
    if not node.slots_dir.is_dir():
        return []
    found = []
    for plugin in sorted(node.slots_dir.iterdir()):
        if plugin.is_dir():
            found += [load_slot(node, plugin.name, path.name) for path in sorted(plugin.iterdir()) if path.is_dir()]
    return found


def find_slot(node: Node, name: str, digest: str) -> Slot:
    """Return the finished slot of a release.

    Raises:
        HiveError: it is not there, not finished, or of another release whose digest begins alike.
    """
    slot = load_slot(node, name, digest)
    if not slot.complete or slot.digest != digest:
        raise HiveError(
            f"{node.name} has no finished slot of {name} {digest[:SHORT]}; stage the release first (rollout.yml "
            "does, or hive_stage)",
            "slot-missing",
            name=name,
            digest=digest,
        )
    return slot


def _walk(root: Path, below: str = "") -> Iterator[tuple[str, os.stat_result, str]]:
    """Yield (relative path, lstat, link target) of everything that matters in a slot, sorted."""
    with os.scandir(root / below if below else root) as listing:
        found = sorted(listing, key=lambda item: item.name)
    for item in found:
        relative = f"{below}/{item.name}" if below else item.name
        if item.name == "__pycache__":
            continue
        facts = item.stat(follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            yield relative, facts, ""
            yield from _walk(root, relative)
        else:
            yield relative, facts, str(Path(item.path).readlink()) if stat.S_ISLNK(facts.st_mode) else ""


def stat_digest(root: Path) -> str:
    """Return a digest of names, modes, sizes and times: changes whenever a file was edited, costs milliseconds."""
    summary = hashlib.sha256()
    for relative, facts, link in _walk(root):
        size, when = (0, 0) if stat.S_ISDIR(facts.st_mode) else (facts.st_size, facts.st_mtime_ns)
        summary.update(canonical([relative, facts.st_mode, size, when, link]))
    return summary.hexdigest()


def tree_digest(root: Path) -> str:
    """Return a digest of names, modes and contents: tells an edit from a mere touch."""
    summary = hashlib.sha256()
    for relative, facts, link in _walk(root):
        content = hashlib.sha256((root / relative).read_bytes()).hexdigest() if stat.S_ISREG(facts.st_mode) else ""
        summary.update(canonical([relative, facts.st_mode, content, link]))
    return summary.hexdigest()


def verify_slot(slot: Slot) -> None:
    """Refuse a slot whose files are not what was built.

    Raises:
        HiveError: a file was changed, added or removed.
    """
    if stat_digest(slot.path) == slot.stat_digest or tree_digest(slot.path) == slot.tree_digest:
        return
    raise HiveError(
        f"the slot {slot.path} was changed after it was built; remove that directory and stage the release again",
        "slot-changed",
        name=slot.name,
        digest=slot.digest,
    )


def build_slot(node: Node, runtime: Runtime, manifest: dict[str, Any]) -> Slot:
    """Unpack an accepted release into its slot; an unfinished slot of an earlier try is removed first.

    The virtual environment is made at its final path, because its scripts name that path. The marker, written last,
    makes it a slot; so a crash at any moment leaves something that is plainly unfinished.
    """
    name, digest = str(manifest["name"]), str(manifest["artifact"]["sha256"])
    target, mark = slot_path(node, name, digest), marker_path(node, name, digest)
    owner = node.owner
    make_dir(target.parent, owner, 0o755)
    if mark.exists():
        mark.unlink()
    if in_use(node.to_inside(target)):
        # A plugin runs from it, so it was whole once and only its marker was lost: it must not be pulled from under it.
        _prove(node, runtime, manifest, target)
        return _mark(node, manifest, target, mark)
    remove_tree(target)
    scratch = node.state_dir / "tmp" / f"pex-{digest[:SHORT]}"
    make_dir(scratch, owner)
    try:
        _unpack(node, runtime, manifest, target, scratch)
        _prove(node, runtime, manifest, target)
    except HiveError:
        remove_tree(target)
        raise
    finally:
        remove_tree(scratch)
    os.sync()
    return _mark(node, manifest, target, mark)


def _mark(node: Node, manifest: dict[str, Any], target: Path, mark: Path) -> Slot:
    """Make a directory a slot."""
    name, digest = str(manifest["name"]), str(manifest["artifact"]["sha256"])
    marker = {
        "schema": 1,
        "digest": digest,
        "manifest": manifest,
        "built_at": int(time.time()),
        "stat_digest": stat_digest(target),
        "tree_digest": tree_digest(target),
    }
    make_dir(mark.parent, node.keeper)
    write_atomic(mark, canonical(marker), node.keeper)
    return load_slot(node, name, digest)


def _unpack(node: Node, runtime: Runtime, manifest: dict[str, Any], target: Path, scratch: Path) -> None:
    artifact = release_path(node, str(manifest["artifact"]["sha256"])) / str(manifest["artifact"]["file"])
    argv = [node.python, node.to_inside(artifact), "venv", "--compile", node.to_inside(target)]
    env = {
        "PEX_TOOLS": "1",
        "PEX_ROOT": node.to_inside(scratch),
        "PEX_PYTHON_PATH": node.python,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = runtime.build(argv, BUILD_SECONDS, env)
    if done.rc != 0 or not (target / str(manifest["entry"])).is_file():
        reason = (done.err.strip() or done.out.strip() or f"exit status {done.rc}").splitlines()[-1][:300]
        if "No space left" in done.err:
            raise HiveError(f"the disk of {node.state_dir} is full; free some space and stage again", "disk-full")
        raise HiveError(
            f"{manifest['name']} {manifest['version']} cannot be unpacked with {node.python}: {reason}; "
            f"set hive_python to a Python {manifest['python']['requires']}",
            "slot-build-failed",
        )


def _prove(node: Node, runtime: Runtime, manifest: dict[str, Any], target: Path) -> None:
    """Run the slot's own description and compare it with what was signed: proves that it can start at all here."""
    described = describe(
        runtime, node.to_inside(target / str(manifest["entry"])), f"{manifest['name']} {manifest['version']}"
    )
    for key in ("name", "version", "rpc_methods", "schema_version"):
        if key in described and described[key] != manifest[key]:
            raise HiveError(
                f"{manifest['name']} says of itself {key} {described[key]!r}, its signed manifest "
                f"{manifest[key]!r}; build the release again",
                "manifest-differs",
                key=key,
            )


def describe(runtime: Runtime, entry: str, what: str, timeout: float = 20.0) -> dict[str, Any]:
    """Return what a plugin's executable prints about itself; also warms the page cache before a switch.

    Raises:
        HiveError: it cannot start on this node, or is no hive plugin.
    """
    done = runtime.run([entry, SELF_DESCRIPTION], timeout)
    if done.rc is None:
        raise HiveError(
            f"{what} does not even describe itself within {timeout:g} s on this node; the release is broken",
            "slot-broken",
        )
    try:
        described = json.loads(done.out) if done.rc == 0 else None
    except ValueError:
        described = None
    if not isinstance(described, dict):
        reason = (done.err.strip() or f"exit status {done.rc}").splitlines()[-1][:300]
        raise HiveError(
            f"{what} cannot start on this node: {reason}; build a release that fits its Python", "slot-broken"
        )
    return described
