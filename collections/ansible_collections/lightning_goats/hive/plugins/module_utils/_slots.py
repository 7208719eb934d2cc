"""Slots: releases unpacked and ready on the node. Each has its own real path; nothing in a slot is ever edited."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _getmanifest, _unpack
from ._engine.bundle import source_of
from ._engine.errors import HiveError
from ._engine.files import canonical, make_dir, read_json, remove_tree, sync_filesystem, write_atomic
from ._engine.node import Node
from ._engine.processes import in_use
from ._engine.runtimes import Runtime

SHORT = 12
BUILD_SECONDS = 300.0
PROVERS = 2
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
    """Read one slot, named by the beginning of its digest or all of it; one without a marker is incomplete.

    One that was made by hand has no marker either; the kept release says what it is, and staging makes it a slot.
    """
    path = slot_path(node, name, digest)
    marker = read_json(marker_path(node, name, digest))
    if not isinstance(marker, dict) or not isinstance(marker.get("manifest"), dict):
        kept = _kept_manifest(node, name, digest)
        return Slot(name, kept.get("version", ""), kept.get("artifact", {}).get("sha256", ""), path, False, kept)
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


def _kept_manifest(node: Node, name: str, digest: str) -> dict[str, Any]:
    """Return the manifest of the one kept release whose digest begins as the slot's; empty when there is none."""
    found = [read_json(path) for path in node.releases_dir.glob(f"{digest[:SHORT]}*/manifest.json")]
    return found[0] if len(found) == 1 and isinstance(found[0], dict) and found[0].get("name") == name else {}


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


def tree_digest(root: Path, known: dict[tuple[int, int], str] | None = None) -> str:
    """Return a digest of names, modes and contents: tells an edit from a mere touch.

    Args:
        known: digests of contents by inode, for slots that share files; it is filled on the way.
    """
    summary = hashlib.sha256()
    known = {} if known is None else known
    for relative, facts, link in _walk(root):
        content = ""
        if stat.S_ISREG(facts.st_mode):
            inode = (facts.st_dev, facts.st_ino)
            if inode not in known:
                known[inode] = hashlib.sha256((root / relative).read_bytes()).hexdigest()
            content = known[inode]
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


def build_slots(node: Node, runtime: Runtime, manifests: list[dict[str, Any]]) -> list[Slot]:
    """Unpack accepted releases into their slots, all in one go; what is left of an earlier try is removed first.

    A slot is made at its final path, because its script names that path. The marker, written last, makes it a slot; so
    a crash at any moment leaves something that is plainly unfinished.

    Raises:
        HiveError: one of them does not fit this node; then there is a slot of none.
    """
    targets = [slot_path(node, str(m["name"]), str(m["artifact"]["sha256"])) for m in manifests]
    # What a plugin runs from was whole once and only its marker was lost: it must not be pulled from under it.
    fresh = [not in_use(node.to_inside(target), target) for target in targets]
    unpacked = [target for target, new in zip(targets, fresh) if new]
    for manifest, target in zip(manifests, targets):
        make_dir(target.parent, node.owner, 0o755)
        mark = marker_path(node, str(manifest["name"]), str(manifest["artifact"]["sha256"]))
        if mark.exists():
            mark.unlink()
    for target in unpacked:
        remove_tree(target)
    try:
        _unpack_all(node, runtime, [manifest for manifest, new in zip(manifests, fresh) if new])
        known: dict[tuple[int, int], str] = {}
        with ThreadPoolExecutor(PROVERS) as pool:
            proofs = [pool.submit(_prove, node, runtime, *pair) for pair in zip(manifests, targets)]
            digests = [(stat_digest(target), tree_digest(target, known)) for target in targets]
        for proof in proofs:
            proof.result()
        if unpacked:
            sync_filesystem(node.slots_dir)
    except HiveError:
        for target in unpacked:
            remove_tree(target)
        raise
    return [_mark(node, *facts) for facts in zip(manifests, digests)]


def _mark(node: Node, manifest: dict[str, Any], digests: tuple[str, str]) -> Slot:
    """Make a directory a slot; `digests` are of its facts and of its contents."""
    name, digest = str(manifest["name"]), str(manifest["artifact"]["sha256"])
    mark = marker_path(node, name, digest)
    marker = {
        "schema": 1,
        "digest": digest,
        "manifest": manifest,
        "built_at": int(time.time()),
        "stat_digest": digests[0],
        "tree_digest": digests[1],
    }
    make_dir(mark.parent, node.keeper)
    write_atomic(mark, canonical(marker), node.keeper)
    return load_slot(node, name, digest)


def _unpack_all(node: Node, runtime: Runtime, manifests: list[dict[str, Any]]) -> None:
    """Run the unpacker, as lightningd's user and with the interpreter that the plugins will have."""
    if not manifests:
        return
    slots = []
    for manifest in manifests:
        name, digest = str(manifest["name"]), str(manifest["artifact"]["sha256"])
        slots.append(
            {
                "artifact": node.to_inside(release_path(node, digest) / str(manifest["artifact"]["file"])),
                "target": node.to_inside(slot_path(node, name, digest)),
                "script": Path(str(manifest["entry"])).name,
                "wheels": manifest["python"].get("wheels", {}),
            }
        )
    argv = [node.python, "-IS", "-c", source_of(_unpack.__name__.rpartition(".")[2]), json.dumps({"slots": slots})]
    done = runtime.build(argv, BUILD_SECONDS, {})
    if done.rc is None:
        raise HiveError(
            f"releases could not be unpacked on {node.name} within {BUILD_SECONDS:g} s; look at its load and its disk, "
            "then stage again",
            "slot-build-failed",
        )
    try:
        result = json.loads(done.out) if done.rc == 0 else None
    except ValueError:
        result = None
    if not isinstance(result, dict):
        reason = (done.err.strip() or done.out.strip() or f"exit status {done.rc}").splitlines()[-1][:300]
        raise HiveError(
            f"{node.python} does not run on {node.name} ({reason}); set hive_python to a Python 3.11 to 3.13 there",
            "no-python",
        )
    if "code" in result:
        index = [slot["target"] for slot in slots].index(result["slot"])
        raise _refused(node, manifests[index], str(result["code"]), str(result["message"]))


def _refused(node: Node, manifest: dict[str, Any], code: str, message: str) -> HiveError:
    """Say why a release cannot be unpacked, and what to do about it."""
    title = f"{manifest['name']} {manifest['version']}"
    if code == "disk-full":
        return HiveError(
            f"the disk of {node.state_dir} is full ({title}: {message}); free some space and stage again", code
        )
    advice = {
        "wrong-python": "set hive_python to a fitting one",
        "wrong-machine": "release it for this machine too (hive_release_architectures)",
        "io-error": "correct that and stage again",
    }
    return HiveError(
        f"{title} cannot be unpacked on {node.name}: {message}; {advice.get(code, 'build the release again')}", code
    )


def _prove(node: Node, runtime: Runtime, manifest: dict[str, Any], target: Path) -> None:
    """Run the slot's own description and compare it with what was signed: proves that it can start at all here."""
    described = describe(node, runtime, manifest, node.to_inside(target / str(manifest["entry"])))
    for key in ("name", "version", "rpc_methods", "schema_version"):
        if key in described and described[key] != manifest[key]:
            raise HiveError(
                f"{manifest['name']} says of itself {key} {described[key]!r}, its signed manifest "
                f"{manifest[key]!r}; build the release again",
                "manifest-differs",
                key=key,
            )


def describe(
    node: Node, runtime: Runtime, manifest: dict[str, Any], entry: str, timeout: float = 20.0
) -> dict[str, Any]:
    """Return what a plugin's executable says about itself; also warms the page cache before a switch.

    A foreign plugin says less: what lightningd asks of it, and neither its version nor its schema.

    Raises:
        HiveError: it cannot start on this node, or is no hive plugin.
    """
    what = f"{manifest['name']} {manifest['version']}"
    argv = [entry, SELF_DESCRIPTION]
    if manifest.get("foreign"):
        argv = [node.python, "-IS", "-c", source_of(_getmanifest.__name__.rpartition(".")[2]), f"{timeout:g}", entry]
    done = runtime.try_slot(argv, timeout + 5.0 if manifest.get("foreign") else timeout)
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
