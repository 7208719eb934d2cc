"""Where things are in the repository: one place for the contract tests to ask."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "collections/ansible_collections/lightning_goats/hive"
PLUGINS = ("cl-hive-comms", "cl-hive-archon", "cl-hive")


@cache
def tracked(*suffixes: str) -> tuple[Path, ...]:
    """Every file that git knows or would add, with one of `suffixes` (all files when none is given)."""
    out = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    files = (ROOT / name.decode() for name in out.split(b"\0") if name)
    return tuple(sorted({f for f in files if f.is_file() and (not suffixes or f.suffix in suffixes)}))


def load(path: Path) -> Any:
    """The first YAML document of `path`."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def playbooks() -> list[Path]:
    return sorted(p for p in (ROOT / "playbooks").glob("*.yml") if not p.name.endswith(".meta.yml"))


def roles() -> list[Path]:
    return sorted(p for p in (ROOT / "roles").iterdir() if (p / "tasks").is_dir())


def modules() -> list[Path]:
    return sorted(p for p in (COLLECTION / "plugins/modules").glob("*.py") if p.name != "__init__.py")
