# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The scratch lightningd as one file for every node: the sandbox's fake with its locked wheels, built as releases are.

It is made once for the same sources and kept; nodes know it by its sha256. Runs on the controller only.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_pex as pex
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError, canonical
from ansible_collections.lightning_goats.hive.plugins.module_utils._release import PYTHONS
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import Sources, read_sources
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_wheels import (
    Target,
    build_own,
    choose,
    fetch,
)

NAME = "hive-sandbox"
# Comes as source only, and the fake loads it for runes alone, which no plugin of ours asks for.
WITHOUT = ("runes",)
FILE, FACTS = "lightningd.pex", "lightningd.json"


@dataclass(frozen=True)
class Built:
    """A finished artifact: its directory, its sha256, and by interpreter and machine the wheels it has for them."""

    directory: Path
    digest: str
    wheels: dict[str, list[str]]

    @property
    def file(self) -> Path:
        return self.directory / FILE


def artifact(source: Path, workspace: Path, cache: Path, machines: list[str]) -> Built:
    """The artifact of the sandbox in ``source``, made now unless it is there; call it for one node at a time.

    ``workspace`` is the directory of the uv.lock that pins its wheels. Raises ReleaseError with one sentence.
    """
    targets = [Target(python, machine) for python in PYTHONS for machine in machines]
    names = [f"{target.tag}-{target.machine}" for target in targets]
    sources = read_sources(source, NAME, "", {}, workspace, names, WITHOUT)
    directory = cache / "drill" / sources.digest[:16]
    return _kept(directory) or _build(sources, targets, directory, cache)


def _kept(directory: Path) -> Built | None:
    """What was built before, unless it is not whole any more."""
    try:
        facts = json.loads((directory / FACTS).read_bytes())
        built = Built(directory, str(facts["sha256"]), dict(facts["wheels"]))
        return built if _sha256(built.file) == built.digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _build(sources: Sources, targets: list[Target], directory: Path, cache: Path) -> Built:
    chosen = {target: choose(sources.locked, target) for target in targets if target.runs(sources.requires_python)}
    if not chosen:
        raise ReleaseError("source", f"{NAME} runs on none of Python {', '.join(PYTHONS)}: correct its pyproject.toml.")
    wheelhouse = cache / "wheels"
    fetch(chosen, wheelhouse)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".building-") as scratch:
        own = build_own(sources, Path(scratch))
        others = sorted({wheel.file for wheels in chosen.values() for wheel in wheels})
        made = Path(scratch, FILE)
        pex.join(sources, [*own, *(wheelhouse / file for file in others)], list(chosen), made, cache / "pex")
        mine = {wheel.name for wheel in own}
        wheels = {f"{t.tag}-{t.machine}": sorted(mine | {w.file for w in found}) for t, found in chosen.items()}
        built = Built(directory, _sha256(made), wheels)
        made.chmod(0o644)
        made.replace(built.file)
    # Last: a file without its facts is built again.
    (directory / FACTS).write_bytes(canonical({"sha256": built.digest, "wheels": wheels}))
    return built


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
