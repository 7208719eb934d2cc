# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Reads the releases that a run wants from the controller's disk. Controller only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils import _manifest
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Json, Shelf, version_key


def read_shelf(place: Path, shown_as: str, wanted: Iterable[tuple[str, str]], signers: Path, now: float) -> Shelf:
    """The wanted releases of directory ``place``, each with its signature and expiry checked; artifacts are not read.

    Args:
        place: ``<releases>``; it need not exist.
        shown_as: the name of ``place`` in messages.
        wanted: pairs of plugin and version.
        signers: the ``allowed_signers`` file.
        now: unix seconds, for the expiry.
    """
    entries: dict[tuple[str, str], Json] = {}
    versions = _versions(place)
    for name, version in sorted(set(wanted)):
        if version not in versions.get(name, []):
            continue
        directory = place / name / version
        try:
            manifest, _ = _manifest.read_manifest(directory, signers, now)
            if (manifest["name"], manifest["version"]) != (name, version):
                found = f"{manifest['name']} {manifest['version']}"
                raise _manifest.ReleaseError(
                    "other", f"{directory} holds {found}, not {name} {version}: put the right release there."
                )
            entries[name, version] = {"manifest": manifest, "path": str(directory)}
        except _manifest.ReleaseError as error:
            entries[name, version] = {"problem": {"code": error.code, "message": f"{name} {version}: {error}"}}
    return Shelf(place=shown_as, entries=entries, versions=versions)


def check_artifacts(shelf: Shelf, digests: Iterable[str]) -> list[tuple[str, str]]:
    """(code, message) for each of the releases named by ``digests`` whose artifact is not what was signed."""
    wanted, problems = set(digests), []
    for entry in shelf.entries.values():
        manifest = entry.get("manifest")
        if manifest is None or manifest["artifact"]["sha256"] not in wanted:
            continue
        try:
            _manifest.verify_artifact(Path(entry["path"]) / manifest["artifact"]["file"], manifest)
        except _manifest.ReleaseError as error:
            problems.append((error.code, str(error)))
    return problems


def _versions(place: Path) -> dict[str, list[str]]:
    """What lies in ``place``: plugin names with their versions, oldest first."""
    result: dict[str, list[str]] = {}
    if not place.is_dir():
        return result
    for plugin in sorted(os.scandir(place), key=lambda entry: entry.name):
        if plugin.is_dir() and not plugin.name.startswith("."):
            found = [v.name for v in os.scandir(plugin.path) if (Path(v.path) / _manifest.MANIFEST_FILE).is_file()]
            if found:
                result[plugin.name] = sorted(found, key=version_key)
    return result
