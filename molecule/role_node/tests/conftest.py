"""The lightningds that the scenario provisions beside those of the machines."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Second:
    """One provisioned lightningd."""

    host: Host
    service: str
    lightning_dir: str
    user: str

    def show(self, key: str) -> str:
        """One property of its unit."""
        return str(self.host.check_output(f"systemctl show {self.service} --property {key} --value")).strip()

    @property
    def pid(self) -> int:
        return int(self.show("MainPID"))

    def status(self) -> dict[str, str]:
        """What the kernel says of its process."""
        text = self.host.check_output(f"cat /proc/{self.pid}/status")
        return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}

    def rpc(self, method: str, *words: str) -> Any:
        """Call it with the lightning-cli that its unit names."""
        cli = self.show("ExecStop").partition("argv[]=")[2].split()[0]
        argv = [cli, f"--lightning-dir={self.lightning_dir}", "--network=regtest", "-N", "none", method, *words]
        return json.loads(
            self.host.check_output(shlex.join(["setpriv", f"--reuid={self.user}", "--clear-groups", *argv]))
        )

    def as_it(self, command: str) -> Any:
        """Run a shell command that sees files as its process does."""
        see = ["nsenter", f"--target={self.pid}", "--mount", "--", "setpriv", f"--reuid={self.user}", "--clear-groups"]
        return self.host.run(shlex.join([*see, "sh", "-c", command]))


def second_of(name: str, machine: str) -> Second:
    host = testinfra.get_host(f"docker://{machine}")
    if name == "metal12":
        return Second(host, "second", "/var/lib/second", "second")
    return Second(host, "satoshi", "/srv/second/node", "satoshi")


@pytest.fixture
def second(metal: Any) -> Second:
    """Each provisioned lightningd in turn."""
    return second_of(metal.name, metal.outside.backend.name)


@pytest.fixture
def releases() -> dict[str, dict[str, str]]:
    """The archives, by name."""
    found: dict[str, dict[str, str]] = json.loads((ROOT / "var/molecule/archives/releases.json").read_text())
    return found
