# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Foreign plugins: a script with a requirements.txt in a git repository, made into an artifact like any other.

The repository's files become one wheel, unchanged, with a few lines beside them that run the script as lightningd would
run the file itself. What it registers is asked of the built artifact; what lightningd cannot tell, which database it
has and how to see that it is well, the operator declares. Runs on the controller only.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import zipfile
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    NAME,
    VERSION,
    ReleaseError,
    canonical,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_git import Commit, read_commit
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_lock import lock
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import RECIPE, TOOLS, Sources

SCRIPT = re.compile(r"[\w./-]+\.py")
REQUIRES_PYTHON = ">=3.11,<3.14"
# What is declared of a foreign plugin, and what is taken when it is not. There is no default for its health RPC.
DECLARED: dict[str, Any] = {
    "start_order": 50,
    "database": "",
    "database_option": "",
    "key_files": [],
    "tables": [],
    "schema_version": 0,
    "readable_by": "",
    "requires": {"plugins": [], "cln": "v25.02"},
    "conflicts": [],
    "health_rpc": "",
}
STARTER = '''"""Runs {entry} as if it had been started by itself."""

import sys
import types
from pathlib import Path


def main():
    script = Path(__file__).resolve().parent / "source" / {entry!r}
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    sys.modules["__main__"] = module
    sys.argv[0] = str(script)
    sys.path.insert(0, str(script.parent))
    exec(compile(script.read_bytes(), str(script), "exec", dont_inherit=True), module.__dict__)
'''


def read_foreign(wanted: Any, versions: dict[str, str], cache: Path, locks: Path, targets: list[str]) -> Sources:
    """The sources of the foreign plugin ``wanted`` (see ``_release.Wanted``), at the commit that its ref names.

    Raises ReleaseError ``source``, ``lock`` or ``declared``.
    """
    name, version = wanted.name, wanted.version or versions.get(wanted.name, "")
    if not NAME.fullmatch(name) or not VERSION.fullmatch(version):
        raise ReleaseError(
            "source", f"{name!r} {version!r} is not a plugin's name and version: a git source needs both."
        )
    declared = complete(name, version, wanted.declares)
    commit = read_commit(wanted.git, wanted.ref, wanted.base, cache)
    entry = wanted.entry or f"{name}.py"
    if entry not in commit.files or not SCRIPT.fullmatch(entry):
        raise ReleaseError(
            "source", f"{commit.repository} has no file {entry} at {wanted.ref}: give the plugin's script as its entry."
        )
    requirements = wanted.requirements or ("requirements.txt" if "requirements.txt" in commit.files else "")
    requires_python = wanted.python or REQUIRES_PYTHON
    pinned = lock(name, commit.files, requirements, "3.11", locks / name / version / "pylock.toml")
    digest = canonical(
        {
            "recipe": RECIPE,
            "tools": {tool: installed_version(tool) for tool in TOOLS},
            "name": name,
            "version": version,
            "targets": targets,
            "entry": entry,
            "python": requires_python,
            "declared": declared,
            "files": {path: [hashlib.sha256(c).hexdigest(), x] for path, (c, x) in commit.files.items()},
            "locked": [[item.name, item.version, item.marker, sorted(item.wheels)] for item in pinned.locked],
        }
    )
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return Sources(
        name=name,
        version=version,
        packages=(),
        locked=pinned.locked,
        requires_python=requires_python,
        commit=commit.commit,
        dirty=False,
        released_at=int(epoch if epoch.isdecimal() else commit.when),
        digest=hashlib.sha256(digest).hexdigest(),
        declared=declared,
        wheel=_wheel(name, version, entry, requires_python, commit, pinned.locked),
        lock=(pinned.path, pinned.text) if pinned.text else None,
        origin={"repository": commit.repository, "ref": commit.ref},
    )


def complete(name: str, version: str, declared: dict[str, Any]) -> dict[str, Any]:
    """What is declared of a foreign plugin, with the defaults. Raises ReleaseError ``declared``."""
    unknown = sorted(set(declared) - set(DECLARED))
    if unknown:
        raise ReleaseError(
            "declared", f"{name} declares the unknown {unknown[0]}: it can declare {', '.join(sorted(DECLARED))}."
        )
    if not declared.get("health_rpc"):
        raise ReleaseError(
            "declared", f"{name} declares no health_rpc: name a method of it that answers when it is well."
        )
    found = {**DECLARED, **declared, "requires": {**DECLARED["requires"], **(declared.get("requires") or {})}}
    found["readable_by"] = found["readable_by"] or version
    for key in ("key_files", "tables", "conflicts"):
        found[key] = sorted(set(found[key]))
    found["requires"]["plugins"] = sorted(set(found["requires"]["plugins"]))
    return found


def _wheel(
    name: str, version: str, entry: str, requires_python: str, commit: Commit, locked: tuple[Any, ...]
) -> tuple[str, bytes]:
    """File name and bytes of the wheel that holds the repository: the same for the same commit, anywhere."""
    word = name.replace("-", "_")
    package, info = f"hive_foreign_{word}", f"{word}-{version}.dist-info"
    needs = [f"{item.name}=={item.version}{'; ' + item.marker if item.marker else ''}" for item in locked]
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", f"Requires-Python: {requires_python}"]
    metadata += [f"Requires-Dist: {need}" for need in needs]
    members: dict[str, tuple[bytes, bool]] = {
        f"{package}/__init__.py": (STARTER.format(entry=entry).encode(), False),
        **{f"{package}/source/{path}": file for path, file in commit.files.items()},
        f"{info}/METADATA": ("\n".join([*metadata, ""]).encode(), False),
        f"{info}/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: hive_release\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            False,
        ),
        f"{info}/entry_points.txt": (f"[console_scripts]\n{name} = {package}:main\n".encode(), False),
    }
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    rows.writerows([path, f"sha256={_digest(content)}", len(content)] for path, (content, _) in sorted(members.items()))
    rows.writerow([f"{info}/RECORD", "", ""])
    members[f"{info}/RECORD"] = (record.getvalue().encode(), False)
    buffer = io.BytesIO()
    # Stored, because packed bytes depend on who packs.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, (content, executable) in sorted(members.items()):
            member = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            member.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(member, content)
    return f"{word}-{version}-py3-none-any.whl", buffer.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
