"""How long it takes to have the three plugins ready on a node, beside the ways that need pip and venv there.

Each run is a process of its own, as the module is on a node; nothing uses a network. The peers install the very wheels
that the releases carry.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from flows.flow_fleet import ROOT, Shelf

from bench.fleets import PLUGINS, WORK, shelf
from bench.measurement import Measurement, Peers, at_most

RUNS = 3
HERE = f"cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}"


def _prepare(name: str) -> Path:
    """A node's directories, where nothing was ever staged."""
    root = WORK / "stage" / name
    shutil.rmtree(root, ignore_errors=True)
    (root / "lightning/regtest").mkdir(parents=True)
    return root


def _node(root: Path) -> dict[str, str]:
    facts = {"name": "alpha", "runtime": "process", "lightning_dir": str(root / "lightning"), "network": "regtest"}
    return {**facts, "state_dir": str(root / "hive"), "python": sys.executable}


def _manifests(built: Shelf, version: str) -> dict[str, dict[str, Any]]:
    """The manifests of the three plugins, by their directories."""
    directories = [built.releases / name / version for name in PLUGINS]
    return {str(path): json.loads((path / "manifest.json").read_text(encoding="utf-8")) for path in directories}


# What a node runs: the module's own imports and work, and nothing of the benches.
MODULE = """
import json, sys
from pathlib import Path
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.staging import Wanted, stage

call = json.loads(sys.argv[1])
wanted = [Wanted(*item[:3], Path(item[3])) for item in call["wanted"]]
stage(Node.from_params(call["node"]), wanted, call["signers"], check_mode=False)
"""


def _call(root: Path, version: str) -> list[str]:
    """The command that stages the three plugins."""
    built = Shelf(WORK / "shelf")
    wanted = [
        [manifest["name"], version, manifest["artifact"]["sha256"], path]
        for path, manifest in _manifests(built, version).items()
    ]
    facts = {"node": _node(root), "wanted": wanted, "signers": built.signers.read_text(encoding="utf-8")}
    return [sys.executable, "-c", MODULE, json.dumps(facts)]


def _timed(command: list[str], cwd: Path) -> tuple[float, float]:
    """(seconds, CPU seconds) of a command and all that it starts."""
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "collections")])
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "VIRTUAL_ENV"))}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=cwd, env={**kept, "PYTHONPATH": path}, check=True, capture_output=True)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _stage(root: Path, version: str = "0.1.0") -> tuple[float, float]:
    return _timed(_call(root, version), root)


def _median(once: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    found = [once() for _ in range(RUNS)]
    return median(seconds for seconds, _ in found), median(cpu for _, cpu in found)


def _cold() -> tuple[float, float]:
    return _stage(_prepare("cold"))


def _cached() -> tuple[float, float]:
    """The releases are on the node, their slots are not."""
    root = _prepare("cached")
    _stage(root)
    for name in ("slots", "markers"):
        shutil.rmtree(root / "hive" / name)
    return _stage(root)


def _upgrade() -> tuple[float, float]:
    """Three new versions beside three that are there."""
    root = _prepare("upgrade")
    _stage(root)
    return _stage(root, "0.1.1")


def _again() -> tuple[float, float]:
    root = _prepare("again")
    _stage(root)
    return _stage(root)


def _wheelhouse(built: Shelf) -> dict[str, list[str]]:
    """The wheels of each plugin for this machine, as files in one directory."""
    house = WORK / "stage/wheels"
    house.mkdir(parents=True, exist_ok=True)
    found = {}
    for path, manifest in _manifests(built, "0.1.0").items():
        names = manifest["python"]["wheels"][HERE]
        with zipfile.ZipFile(Path(path) / manifest["artifact"]["file"]) as archive:
            for name in names:
                (house / name).write_bytes(archive.read(f".deps/{name}"))
        found[manifest["name"]] = [str(house / name) for name in names]
    return found


# The Python that would be used there has venv and pip; that of a bare Debian has not.
PIP = (
    'set -e; base=$(readlink -f "$1"); shift; "$base" -m venv "$1"; target=$1; shift; '
    '"$target/bin/python3" -m pip install --quiet --no-index --no-deps --disable-pip-version-check "$@"'
)


def _pip(wheels: dict[str, list[str]], clone: bool) -> tuple[float, float]:
    """A virtual environment for each plugin, filled by pip; `clone`: of a repository fetched first, like reckless."""
    root = _prepare("pip")
    seconds = cpu = 0.0
    for name, files in wheels.items():
        steps = [["sh", "-c", PIP, "pip", sys.executable, str(root / name / ".venv"), *files]]
        if clone:
            steps.insert(0, ["git", "clone", "--quiet", f"file://{_repository(name)}", str(root / name)])
        for step in steps:
            taken = _timed(step, root)
            seconds, cpu = seconds + taken[0], cpu + taken[1]
    return seconds, cpu


def _repository(name: str) -> Path:
    """A repository with the plugin's source."""
    path = WORK / "stage/repositories" / name
    if not path.exists():
        shutil.copytree(ROOT / "plugins_src" / name / "src", path)
        who = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
        for words in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "All"]):
            subprocess.run(["git", *words], cwd=path, check=True, capture_output=True)
    return path


def run() -> list[Measurement]:
    """Stage, and install as others do, in turn."""
    built = shelf()
    wheels = _wheelhouse(built)
    cold, cold_cpu = _median(_cold)
    pip, pip_cpu = _median(lambda: _pip(wheels, clone=False))
    like, like_cpu = _median(lambda: _pip(wheels, clone=True))
    cached, cached_cpu = _median(_cached)
    upgrade, upgrade_cpu = _median(_upgrade)
    again, _ = _median(_again)
    peers: Peers = {"venv and pip, offline": round(pip, 2), "clone, venv and pip, as reckless": round(like, 2)}
    effort: Peers = {"venv and pip, offline": round(pip_cpu, 2), "clone, venv and pip, as reckless": round(like_cpu, 2)}
    shutil.rmtree(WORK / "stage")
    return [
        at_most("three plugins, cold: copied, verified, unpacked, tried", cold, "s", 3.0, peers),
        Measurement("three plugins, cold: processor time", round(cold_cpu, 2), "s", peers=effort),
        at_most("three plugins, releases there already", cached, "s", 1.5),
        Measurement("three plugins, releases there: processor time", round(cached_cpu, 2), "s"),
        at_most("three new versions beside the old", upgrade, "s", 3.0),
        Measurement("three new versions: processor time", round(upgrade_cpu, 2), "s"),
        at_most("everything there", again, "s", 1.5),
    ]
