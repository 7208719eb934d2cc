"""One node as the engine sees it: its directories, its owner, and how paths look where lightningd runs."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import HiveError
from .files import Owner, make_dir

RUNTIMES = ("process", "systemd", "docker")


@dataclass(frozen=True)
class Node:
    """The option group `node` of every module.

    Attributes:
        inside: the directories lightning_dir and state_dir as the container sees them; empty elsewhere.
        python: interpreter that slots are built with, where lightningd runs.
        lightningd: argv that starts it; empty means to read it from the running process.
    """

    name: str
    runtime: str
    lightning_dir: Path
    network: str
    state_dir: Path
    config_file: Path
    python: str = "/usr/bin/python3"
    lightningd: tuple[str, ...] = ()
    lightning_cli: tuple[str, ...] = ()
    service: str = "lightningd"
    container: str = ""
    docker_cli: tuple[str, ...] = ("docker",)
    inside: dict[str, str] = field(default_factory=dict)
    node_id: str = ""
    user: str = ""
    group: str = ""

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Node:
        """Build a node from module parameters and refuse what cannot work, in one sentence."""
        known = {key: value for key, value in params.items() if value is not None}
        for key in ("name", "runtime", "lightning_dir", "network", "state_dir"):
            if not known.get(key):
                raise HiveError(f"node.{key} is missing; set hive_{key} for this host in the inventory", "bad-node")
        if known["runtime"] not in RUNTIMES:
            raise HiveError(
                f"runtime {known['runtime']!r} is unknown; set hive_runtime to one of {', '.join(RUNTIMES)}", "bad-node"
            )
        if known["runtime"] == "docker" and not known.get("container"):
            raise HiveError(
                "hive_container is empty; set it to the name of the container that runs lightningd", "bad-node"
            )
        cli = tuple(known.get("lightning_cli") or ())
        if known["runtime"] == "docker" and cli and shutil.which(cli[0]) is None:
            # The host of a container has no reason to have one; the socket on the volume is enough.
            cli = ()
        lightning_dir = absolute("lightning_dir", known["lightning_dir"])
        return cls(
            name=known["name"],
            runtime=known["runtime"],
            lightning_dir=lightning_dir,
            network=known["network"],
            state_dir=absolute("state_dir", known["state_dir"]),
            config_file=absolute("config_file", known.get("config_file") or str(lightning_dir / "config")),
            python=known.get("python") or "/usr/bin/python3",
            lightningd=tuple(known.get("lightningd") or ()),
            lightning_cli=cli,
            service=known.get("service") or "lightningd",
            container=known.get("container") or "",
            docker_cli=tuple(known.get("docker_cli") or ("docker",)),
            inside=dict(known.get("inside") or {}),
            node_id=known.get("node_id") or "",
            user=known.get("user") or "",
            group=known.get("group") or "",
        )

    def as_params(self) -> dict[str, Any]:
        """Return the JSON form, from which `from_params` makes the same node again."""
        return {
            "name": self.name,
            "runtime": self.runtime,
            "lightning_dir": str(self.lightning_dir),
            "network": self.network,
            "state_dir": str(self.state_dir),
            "config_file": str(self.config_file),
            "python": self.python,
            "lightningd": list(self.lightningd),
            "lightning_cli": list(self.lightning_cli),
            "service": self.service,
            "container": self.container,
            "docker_cli": list(self.docker_cli),
            "inside": dict(self.inside),
            "node_id": self.node_id,
            "user": self.user,
            "group": self.group,
        }

    @property
    def network_dir(self) -> Path:
        """lightningd's own directory, where the databases of its plugins lie."""
        return self.lightning_dir / self.network

    @property
    def socket(self) -> Path:
        """The JSON-RPC socket."""
        return self.network_dir / "lightning-rpc"

    @property
    def pid_file(self) -> Path:
        """Where lightningd writes its pid by default."""
        return self.lightning_dir / f"lightningd-{self.network}.pid"

    @property
    def include_file(self) -> Path:
        """The include that the engine manages."""
        return self.config_file.parent / "hive.conf"

    @property
    def slots_dir(self) -> Path:
        return self.state_dir / "slots"

    @property
    def releases_dir(self) -> Path:
        return self.state_dir / "releases"

    @property
    def backups_dir(self) -> Path:
        return self.state_dir / "backups"

    @property
    def journal_file(self) -> Path:
        return self.state_dir / "journal.jsonl"

    @property
    def owner(self) -> Owner:
        """Who owns what the engine writes: the named user, else the owner of lightningd's directory."""
        try:
            facts = self.lightning_dir.stat()
        except FileNotFoundError:
            raise HiveError(
                f"{self.lightning_dir} does not exist; set hive_lightning_dir of {self.name} to the directory "
                "lightningd uses",
                "no-node",
            ) from None
        except PermissionError:
            raise HiveError(
                f"{self.lightning_dir} cannot be read; run as its owner or as root (ansible_become)", "not-allowed"
            ) from None
        uid, gid = facts.st_uid, facts.st_gid
        try:
            if self.user:
                entry = pwd.getpwnam(self.user)
                uid, gid = entry.pw_uid, entry.pw_gid
            if self.group:
                gid = grp.getgrnam(self.group).gr_gid
        except KeyError:
            raise HiveError(
                f"user {self.user!r} or group {self.group!r} does not exist on {self.name}", "bad-node"
            ) from None
        return Owner(uid, gid)

    @property
    def keeper(self) -> Owner:
        """Whoever runs the engine owns what it relies on: root must not trust what a plugin could have written."""
        return Owner(os.geteuid(), os.getegid())

    def prepare(self) -> None:
        """Make the engine's directories: slots and scratch belong to lightningd's user, the rest to the keeper."""
        # Only where lightningd's user is another one must it be let through, to its slots.
        make_dir(self.state_dir, self.keeper, 0o711 if self.owner.foreign else 0o700)
        if self.owner.foreign and not self.state_dir.stat().st_mode & 0o001:
            # It was there before, as a mount point for example, and closed.
            self.state_dir.chmod(self.state_dir.stat().st_mode & 0o777 | 0o011)
        make_dir(self.releases_dir, self.keeper, 0o755)
        make_dir(self.slots_dir, self.owner, 0o755)
        make_dir(self.state_dir / "tmp", self.owner)
        make_dir(self.backups_dir, self.keeper)

    def _mounts(self) -> list[tuple[str, str]]:
        pairs = []
        for key, here in (("state_dir", self.state_dir), ("lightning_dir", self.lightning_dir)):
            there = self.inside.get(key)
            if there:
                pairs.append((str(here), str(there)))
        return pairs

    def to_inside(self, path: Path | str) -> str:
        """Return a path of this machine as lightningd sees it."""
        return _translate(str(path), self._mounts())

    def to_outside(self, path: str) -> Path:
        """Return a path that lightningd named as this machine sees it."""
        return Path(_translate(path, [(there, here) for here, there in self._mounts()]))


def _translate(path: str, pairs: list[tuple[str, str]]) -> str:
    for source, target in pairs:
        if path == source or path.startswith(source.rstrip("/") + "/"):
            return target.rstrip("/") + path[len(source.rstrip("/")) :]
    return path


def absolute(key: str, value: str) -> Path:
    """Return the real path of an option that must be absolute; lightningd shows real paths, so links are resolved."""
    if not value.startswith("/"):
        raise HiveError(f"node.{key} is {value!r}; give an absolute path", "bad-node")
    return Path(os.path.realpath(value))
