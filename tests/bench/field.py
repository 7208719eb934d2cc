"""Upgrades as they are made in the field, to be measured beside ours: CLN's plugin manager, and a script.

The plugin is the fixture of the tests, kept as field plugins are: a git repository with a script and requirements.txt.
Nothing needs a network: the source is a local repository, and the wheels are those that the releases were built from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.flow_fleet import FIXTURES, PLUGIN, ROOT, Fleet

SCRIPT = Path(__file__).with_name("stop-pull-start")
ENTRY = f"{PLUGIN}.py"
# What field plugins ask for, and what installs from the wheels that our own releases were built from.
REQUIREMENTS = "PyNaCl>=1.5\n"
# Each version says in one line what becomes of it; a missing library is how an unresolvable dependency shows.
BODIES = {
    "good": "import hive_fixture\n\nhive_fixture.good()\n",
    "crash": "import hive_fixture\n\nhive_fixture.crash_at_init()\n",
    "unresolvable": "import hive_fixture\nimport hive_library_that_nobody_has\n\nhive_fixture.good()\n",
}


def reckless() -> Path | None:
    """Where the plugin manager of Core Lightning is: in CLN_PREFIX, else on PATH."""
    prefix = os.environ.get("CLN_PREFIX")
    found = shutil.which("reckless", path=f"{prefix}/bin" if prefix else None)
    return Path(found) if found else None


@dataclass(frozen=True)
class Repository:
    """The source of the plugin."""

    path: Path

    def make(self) -> None:
        """Begin with the good version 0.1.0."""
        self.path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        (self.path / "hive_fixture").mkdir()
        shutil.copy(FIXTURES / "src/hive_fixture/__init__.py", self.path / "hive_fixture")
        self.commit("0.1.0", "good")

    def commit(self, version: str, kind: str) -> str:
        """Commit a version of one kind of `BODIES`; its commit."""
        for old in self.path.glob("*.dist-info"):
            shutil.rmtree(old)
        info = self.path / f"hive_fixture-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: {version}\n", encoding="utf-8")
        more = "hive-library-that-nobody-has==1.0\n" if kind == "unresolvable" else ""
        (self.path / "requirements.txt").write_text(REQUIREMENTS + more, encoding="utf-8")
        entry = self.path / ENTRY
        entry.write_text(f"#!/usr/bin/env python3\n{BODIES[kind]}", encoding="utf-8")
        entry.chmod(0o755)
        self.git("add", "--all")
        who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
        self.git(*who, "commit", "--quiet", "--allow-empty", "--message", version)
        return self.head

    @property
    def head(self) -> str:
        """The newest commit."""
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        """Run git there."""
        done = subprocess.run(["git", "-C", self.path, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()


class Way(ABC):
    """One way to upgrade a plugin on a node, as its operator would do it."""

    name = ""

    def __init__(self, made: Fleet, node: str, repository: Repository) -> None:
        self.made, self.node, self.repository = made, node, repository
        self.home = made.root / "field"
        self.home.mkdir(exist_ok=True)

    @abstractmethod
    def install(self) -> None:
        """Bring the plugin up for the first time."""

    @abstractmethod
    def upgrade(self) -> None:
        """Take the newest commit; how it ends is the measurement."""

    @abstractmethod
    def go_back(self, commit: str) -> None:
        """Run an earlier commit again."""

    @abstractmethod
    def remove(self) -> None:
        """Leave nothing of it, whatever state it is in."""

    def run(self, *command: str | Path) -> None:
        """Run what the operator types; a failure is an answer too."""
        subprocess.run(
            command,
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=300,
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """A shell with Python, git and no network."""
        tools = self.home / "bin"
        if not tools.is_dir():
            tools.mkdir()
            (tools / "python3").symlink_to(Path(sys.base_prefix) / "bin/python3")
        wheels = str(ROOT / ".cache/wheels")
        return {
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(self.home),
            "LIGHTNING_CLI": str(self.cli),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": wheels,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    @property
    def cli(self) -> Path:
        return self.made.sandbox / self.node / "lightning-cli"


class Reckless(Way):
    """The plugin manager that comes with Core Lightning."""

    name = "reckless"

    def reckless(self, *arguments: str) -> None:
        program = reckless()
        assert program is not None
        directory = self.made.sandbox / self.node / "lightning"
        place = ("--lightning", str(directory), "--network", "regtest", "--conf", str(directory / "config"))
        self.run(program, *arguments, *place)

    def install(self) -> None:
        self.reckless("source", "add", str(self.repository.path))
        self.reckless("source", "remove", "https://github.com/lightningd/plugins")
        self.reckless("install", PLUGIN)

    def upgrade(self) -> None:
        self.reckless("update", PLUGIN)

    def go_back(self, commit: str) -> None:
        self.reckless("uninstall", PLUGIN)
        self.reckless("install", f"{PLUGIN}@{commit}")

    def remove(self) -> None:
        self.reckless("uninstall", PLUGIN)
        shutil.rmtree(self.made.sandbox / self.node / "lightning/reckless" / PLUGIN, ignore_errors=True)


class Script(Way):
    """A checkout that is pulled, and the plugin stopped and started."""

    name = "stop-pull-start"

    @property
    def checkout(self) -> Path:
        return self.home / PLUGIN

    def install(self) -> None:
        self.run("git", "clone", "--quiet", self.repository.path, self.checkout)
        self.run(self.cli, "plugin", "start", self.checkout / ENTRY)

    def upgrade(self) -> None:
        self.run(SCRIPT, self.cli, self.checkout, ENTRY)

    def go_back(self, commit: str) -> None:
        self.run(SCRIPT, self.cli, self.checkout, ENTRY, commit)

    def remove(self) -> None:
        self.run(self.cli, "plugin", "stop", self.checkout / ENTRY)
        shutil.rmtree(self.checkout)
