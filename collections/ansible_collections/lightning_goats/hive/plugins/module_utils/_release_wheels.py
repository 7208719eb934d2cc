# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The wheels of a release: those of others fetched by hash into one shared wheelhouse, ours built reproducibly.

pip fetches, because it honours the operator's indexes, mirrors, proxies and caches. It is told the one hash of the one
wheel that we chose from the lock, so it can deliver that file or fail. Runs on the controller only.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tomllib
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import Locked, Sources
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

# 2.36 is the C library of Debian 12, the oldest system we serve; wheels for older ones are preferred, so that more
# nodes can run them.
NEWEST_GLIBC, OLDEST_GLIBC = 36, 17
# Every archive we make is dated 1980-01-01, the earliest that zip can say.
SOURCE_DATE_EPOCH = "315532800"


@dataclass(frozen=True)
class Target:
    """One kind of node: a CPython of Linux with glibc on one machine type, for example ("3.12", "x86_64")."""

    python: str
    machine: str

    @property
    def tag(self) -> str:
        """The interpreter's short name, for example ``cp312``."""
        return "cp" + self.python.replace(".", "")

    @cached_property
    def platforms(self) -> list[str]:
        """Platform tags, the widest usable first."""
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(OLDEST_GLIBC, NEWEST_GLIBC + 1)]
        return [f"manylinux2014_{self.machine}", *tags, f"linux_{self.machine}"]

    @cached_property
    def ranks(self) -> dict[Tag, int]:
        """Every tag that this target can run, with its rank: lower is better."""
        major, minor = self.python.split(".")
        version = (int(major), int(minor))
        tags = [*cpython_tags(version, [self.tag], self.platforms), *compatible_tags(version, self.tag, self.platforms)]
        return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}

    def rank(self, wheel: str) -> int | None:
        """How well this target is served by the wheel of this file name: lower is better, None is not at all."""
        return min((self.ranks[tag] for tag in parse_wheel_filename(wheel)[3] if tag in self.ranks), default=None)

    @property
    def markers(self) -> dict[str, str]:
        """The environment in which requirement markers are evaluated."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python + ".0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python + ".0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    def runs(self, requires_python: str) -> bool:
        """Whether a package with this ``requires-python`` can run here."""
        return SpecifierSet(requires_python).contains(self.python + ".0")


@dataclass(frozen=True)
class Wheel:
    """One file of the lock."""

    requirement: str
    file: str
    sha256: str


def choose(locked: Iterable[Locked], target: Target) -> list[Wheel]:
    """The wheels that ``target`` needs, one for each requirement that applies to it. Raises ReleaseError ``wheel``."""
    chosen = []
    for item in locked:
        if item.marker and not Marker(item.marker).evaluate({**target.markers, "extra": ""}):
            continue
        ranked = sorted((rank, *wheel) for wheel in item.wheels if (rank := target.rank(wheel[0])) is not None)
        if not ranked:
            raise ReleaseError(
                "wheel",
                f"{item.name} {item.version} has no wheel for CPython {target.python} on {target.machine}: lock "
                "another version, or leave that machine out of hive_release_architectures.",
            )
        chosen.append(Wheel(f"{item.name}=={item.version}", ranked[0][1], ranked[0][2]))
    return chosen


def fetch(needed: dict[Target, list[Wheel]], wheelhouse: Path) -> int:
    """Bring every wheel of ``needed`` into ``wheelhouse``; return how many had to be fetched.

    A wheel that several targets share is fetched once. Files are checked by sha256 before they get their name there, so
    that whatever is in the wheelhouse under a name of the lock was checked. Raises ReleaseError ``fetch``.
    """
    wheelhouse.mkdir(parents=True, exist_ok=True)
    missing: dict[Target, list[Wheel]] = {}
    claimed = set()
    for target, wheels in needed.items():
        for wheel in wheels:
            if wheel.file not in claimed and not _has(wheelhouse / wheel.file, wheel.sha256):
                claimed.add(wheel.file)
                missing.setdefault(target, []).append(wheel)
    with ThreadPoolExecutor(max_workers=4) as pool:
        for _done in pool.map(lambda target: _download(target, missing[target], wheelhouse), missing):
            pass
    return len(claimed)


def _download(target: Target, wheels: list[Wheel], wheelhouse: Path) -> None:
    with tempfile.TemporaryDirectory(dir=wheelhouse, prefix=".fetching-") as directory:
        requirements = Path(directory, "requirements.txt")
        requirements.write_text("".join(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n" for wheel in wheels))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation=cp"]
        command += [f"--python-version={target.python}", f"--abi={target.tag}", "--abi=abi3", "--abi=none"]
        command += [f"--platform={platform}" for platform in target.platforms]
        result = subprocess.run(
            [*command, f"--dest={directory}", f"--requirement={requirements}"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if result.returncode != 0:
            lines = result.stderr.strip().splitlines() or ["no message"]
            said = [line for line in lines if line.startswith("ERROR:")] or lines
            raise ReleaseError(
                "fetch",
                f"pip could not fetch the wheels for CPython {target.python} on {target.machine} ({said[-1]}): check "
                "the connection to the package index and run this again.",
            )
        # By content, not by name: indexes spell names in more than one way.
        delivered = {_sha256(path): path for path in Path(directory).glob("*.whl")}
        for wheel in wheels:
            if wheel.sha256 not in delivered:
                raise ReleaseError(
                    "fetch", f"pip did not deliver {wheel.file} with its locked sha256: check the package index in use."
                )
            delivered[wheel.sha256].replace(wheelhouse / wheel.file)


def _has(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build_own(sources: Sources, directory: Path) -> list[Path]:
    """Build the wheels of our packages into ``directory``: same bytes from any directory, by any user, at any time.

    The plugin's own wheel gets the version of ``sources``. Raises ReleaseError ``build``.
    """
    if sources.wheel is not None:
        path = directory / sources.wheel[0]
        path.write_bytes(sources.wheel[1])
        return [path]
    from hatchling.builders.wheel import WheelBuilder

    wheels = []
    for index, package in enumerate(sources.packages):
        config = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))
        if index == 0:
            config["project"]["version"] = sources.version
        with _source_date_epoch():
            try:
                builder = WheelBuilder(str(package), config=config)
                built = list(builder.build(directory=str(directory), versions=["standard"]))
            except (OSError, ValueError, TypeError) as error:
                raise ReleaseError("build", f"hatchling could not build {package} ({error}): correct it.") from error
        wheels += [Path(path) for path in built]
    return wheels


@contextmanager
def _source_date_epoch() -> Iterator[None]:
    before = os.environ.get("SOURCE_DATE_EPOCH")
    os.environ["SOURCE_DATE_EPOCH"] = SOURCE_DATE_EPOCH
    try:
        yield
    finally:
        if before is None:
            del os.environ["SOURCE_DATE_EPOCH"]
        else:
            os.environ["SOURCE_DATE_EPOCH"] = before
