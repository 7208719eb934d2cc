# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What a release is made from: our packages, the locked wheels of others, and the commit they came from.

Everything that can change a byte of the artifact goes into one digest, so that a second run knows in milliseconds that
there is nothing to do. Runs on the controller only (Python 3.11 or newer, the project's .venv).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import tomllib
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    NAME,
    VERSION,
    ReleaseError,
    canonical,
)

# Raise this when the way of building changes the bytes of artifacts made from the same sources.
RECIPE = 2
# Tools whose versions can change the bytes. The Python that runs them is recorded in the manifest instead.
TOOLS = ("hatchling", "pex")


@dataclass(frozen=True)
class Locked:
    """One requirement of the lock: exactly one version, and each of its wheels by file name and sha256."""

    name: str
    version: str
    marker: str
    wheels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Finished:
    """An artifact that somebody else built.

    ``directory`` has it, and where it is ``signed`` also its manifest and signature; ``wheels`` are, by interpreter and
    machine, those it has for them.
    """

    directory: Path
    file: str
    signed: bool
    wheels: dict[str, list[str]]


@dataclass(frozen=True)
class Sources:
    """The inputs of one release. ``packages`` are directories of ours, the plugin's own first.

    Of a foreign plugin there are instead: ``declared``, its part of the manifest that nobody can ask it for; ``wheel``,
    file name and bytes; ``lock``, where its lock belongs and the text; ``origin``, repository and ref. Of a finished
    artifact there is ``finished``, a directory with its files as they came. ``without`` names requirements that the
    artifact can do without.
    """

    name: str
    version: str
    packages: tuple[Path, ...]
    locked: tuple[Locked, ...]
    requires_python: str
    commit: str
    dirty: bool
    released_at: int
    digest: str
    declared: dict[str, Any] | None = None
    wheel: tuple[str, bytes] | None = None
    lock: tuple[Path, str] | None = None
    origin: dict[str, str] | None = None
    finished: Finished | None = None
    without: tuple[str, ...] = ()


def read_sources(
    directory: Path,
    name: str,
    version: str,
    versions: dict[str, str],
    workspace: Path | None,
    targets: list[str],
    without: tuple[str, ...] = (),
) -> Sources:
    """The sources of the plugin in ``directory``.

    ``name`` must be the project's name unless empty; ``version``, else that of ``versions``, replaces the project's.
    ``workspace`` is
    the directory of the uv.lock that pins the dependencies; a plugin without dependencies needs none. ``targets`` only
    enter the digest. ``without`` names requirements that are left out. Raises ReleaseError ``source`` or ``lock``.
    """
    project = _project(directory)
    if name and project["name"] != name:
        raise ReleaseError(
            "source", f"{directory} is the source of {project['name']}, not of {name}: correct the path or the name."
        )
    name = str(project["name"])
    version = version or versions.get(name) or str(project.get("version", ""))
    if not NAME.fullmatch(name) or not VERSION.fullmatch(version):
        raise ReleaseError(
            "source", f"{directory}: {name!r} {version!r} is not a plugin's name and version: correct it."
        )
    if name not in project.get("scripts", {}):
        raise ReleaseError(
            "source", f"{directory}/pyproject.toml has no script '{name}': add it under [project.scripts] as the entry."
        )
    packages = [directory]
    locked: tuple[Locked, ...] = ()
    if project.get("dependencies"):
        others, locked = _locked(name, workspace, without)
        packages += [path for path in others if path.resolve() != directory.resolve()]
    commit, dirty, released_at = _provenance(packages, workspace if locked else None)
    digest = canonical(
        {
            "recipe": RECIPE,
            "tools": {tool: installed_version(tool) for tool in TOOLS},
            "name": name,
            "version": version,
            "targets": targets,
            "files": {str(_project(package)["name"]): _files(package) for package in packages},
            "locked": [[item.name, item.version, item.marker, sorted(item.wheels)] for item in locked],
        }
    )
    return Sources(
        name=name,
        version=version,
        packages=tuple(packages),
        locked=locked,
        requires_python=str(project.get("requires-python", "")),
        commit=commit,
        dirty=dirty,
        released_at=released_at,
        digest=hashlib.sha256(digest).hexdigest(),
        without=without,
    )


def _project(directory: Path) -> dict[str, Any]:
    path = directory / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project")
    except OSError as error:
        raise ReleaseError(
            "source", f"{path} cannot be read ({error.strerror}): give the directory of a plugin's source."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ReleaseError("source", f"{path} is not valid TOML ({error}): correct it.") from error
    if not isinstance(project, dict) or "name" not in project:
        raise ReleaseError("source", f"{path} has no [project] with a name: give the directory of a plugin's source.")
    return project


def _files(package: Path) -> dict[str, str]:
    """Every file that can reach the wheel or its metadata, by path inside the package, with its sha256."""
    found = {}
    tops = [path for path in package.iterdir() if path.is_file() and not path.name.startswith(".")]
    for folder, folders, names in os.walk(package / "src", followlinks=True):
        folders[:] = [entry for entry in folders if entry != "__pycache__"]
        tops += [Path(folder, entry) for entry in names if not entry.endswith(".pyc")]
    for path in tops:
        found[path.relative_to(package).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _locked(name: str, workspace: Path | None, without: tuple[str, ...]) -> tuple[list[Path], tuple[Locked, ...]]:
    """The workspace packages and the locked requirements that ``name`` needs, as ``uv export`` resolves them."""
    if workspace is None or not (workspace / "uv.lock").is_file():
        raise ReleaseError(
            "lock",
            f"{name} has dependencies, but there is no uv.lock in {workspace}: give the workspace that pins them.",
        )
    command = ["export", "--package", name, "--frozen", "--no-dev", "--no-header", "--format", "pylock.toml"]
    command += [word for left_out in without for word in ("--no-emit-package", left_out)]
    # From the workspace itself, because uv writes paths relative to where it runs.
    exported = _run([find_uv(), *command, "--offline", "--no-python-downloads"], workspace)
    if exported.returncode != 0:
        raise ReleaseError(
            "lock",
            f"uv.lock in {workspace} does not pin {name} ({_last_line(exported)}): add it to [tool.uv.workspace] and "
            "run 'uv lock'.",
        )
    packages, locked = [], []
    for entry in tomllib.loads(exported.stdout)["packages"]:
        if "directory" in entry:
            packages.append(workspace / entry["directory"]["path"])
            continue
        wheels = tuple(
            (str(wheel["url"]).rsplit("/", 1)[1], str(wheel["hashes"]["sha256"])) for wheel in entry.get("wheels", [])
        )
        if not wheels:
            raise ReleaseError(
                "lock", f"{entry['name']} {entry['version']} has no wheel, so it cannot be pinned: use another version."
            )
        locked.append(Locked(entry["name"], entry["version"], entry.get("marker", ""), wheels))
    return packages, tuple(locked)


def find_uv() -> str:
    """The program uv that is installed beside Ansible. Raises ReleaseError ``lock``."""
    try:
        import uv
    except ImportError as error:
        raise ReleaseError(
            "lock", "uv is not installed beside Ansible: run 'make venv' and use its Ansible."
        ) from error
    return str(uv.find_uv_bin())


def _provenance(packages: list[Path], workspace: Path | None) -> tuple[str, bool, int]:
    """Commit that last changed the sources, whether they differ from it, and its time (unix seconds).

    Outside git the commit is empty, the sources count as changed, and the time is that of the newest file. The
    environment's SOURCE_DATE_EPOCH, where reproducible builds say what time it is, goes before either time.
    """
    # A source directory may be a link: its files count too.
    paths = [str(path.resolve()) for package in packages for path in (package, package / "src")]
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if workspace is not None:
        paths.append(str((workspace / "uv.lock").resolve()))
    git = ["git", "--no-optional-locks", "-c", "safe.directory=*"]
    if shutil.which("git"):
        log = _run([*git, "log", "-1", "--format=%H %ct", "--", *paths], packages[0])
        status = _run([*git, "status", "--porcelain", "--", *paths], packages[0])
        if log.returncode == status.returncode == 0 and log.stdout.strip():
            commit, seconds = log.stdout.split()
            return commit, bool(status.stdout.strip()), int(epoch if epoch.isdecimal() else seconds)
    if epoch.isdecimal():
        return "", True, int(epoch)
    return "", True, max(int((package / file).stat().st_mtime) for package in packages for file in _files(package))


def _run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False
    )


def _last_line(result: subprocess.CompletedProcess[str]) -> str:
    return (result.stderr.strip() or result.stdout.strip() or f"rc {result.returncode}").splitlines()[-1].strip()
