"""Bare-metal nodes for benchmarks: one machine with systemd for each, reached by ssh as an operator's are.

They are made from molecule's images and run its lightningd; all of them go away with the block that asked for them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from flows.flow_fleet import ROOT
from waiting import wait_until

from bench.fleets import WORK, BenchFleet, shelf

PARTS = ROOT / "molecule/machines"
SUITE = "bookworm"
LIGHTNING, STATE, PID_FILE = "/var/lib/lightningd", "/var/lib/hive", "/run/lightningd/lightningd.pid"
PREFIX = f"hive-bench-{os.getpid()}"
UID = 900
KEYS = "/etc/ssh/bench_keys"


def missing() -> str:
    """Why no machines can be made here, "" when they can."""
    if shutil.which("docker") is None:
        return "no docker command"
    done = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no docker engine answers"


def _out(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class Machines(BenchFleet):
    """A fleet of machines.

    Attributes:
        names: of the nodes that were started.
    """

    names: list[str] = field(default_factory=list)

    @property
    def nodes(self) -> list[str]:
        return self.names

    def machine(self, node: str) -> str:
        """The name of a node's container."""
        return f"{PREFIX}-{node}"

    def lightning(self, node: str) -> Path:
        """The node's lightning-dir, as this machine sees it."""
        return self.root / "nodes" / node / "lightning"

    def up(self, count: int) -> None:
        """Start `count` machines and wait until lightningd answers in each."""
        image = _out(PARTS / "image", SUITE)
        software = _out(PARTS / "software", SUITE, image)
        ssh = self.root / "ssh"
        ssh.mkdir()
        ssh.chmod(0o700)
        for key in ("id", "host"):
            _out("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / key)
        host = (ssh / "host.pub").read_text(encoding="utf-8").split()
        (ssh / "known_hosts").write_text(f"* {host[0]} {host[1]}\n", encoding="utf-8")
        for number in range(count):
            node = f"node{number:02}"
            self._start(node, image, software)
            self.names.append(node)
        for node in self.names:
            wait_until((self.lightning(node) / "regtest/lightning-rpc").exists, 60, f"lightningd of {node} is up")
        self._write_inventory()

    def _start(self, node: str, image: str, software: str) -> None:
        lightning = self.lightning(node)
        lightning.mkdir(parents=True)
        os.chown(lightning, UID, UID)
        lightning.chmod(0o700)
        config = lightning / "config"
        shutil.copy(PARTS / "config", config)
        os.chown(config, UID, UID)
        unit = (PARTS / "lightningd.service").read_text(encoding="utf-8")
        places = {
            "@lightning@": LIGHTNING,
            "@arguments@": f"--lightning-dir={LIGHTNING} --network=regtest",
            "@pid_file@": PID_FILE,
            "@writable@": LIGHTNING,
        }
        for word, value in places.items():
            unit = unit.replace(word, value)
        service = lightning.parent / "lightningd.service"
        service.write_text(unit, encoding="utf-8")
        machine = self.machine(node)
        ssh = self.root / "ssh"
        _out(
            *("docker", "create", "--name", machine, "--hostname", node, "--stop-signal", "SIGRTMIN+3"),
            *("--label", "hive-bench", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE"),
            *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--network", "none"),
            *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--cgroupns", "host"),
            *("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--volume", f"{software}:/opt/cln:ro"),
            *("--volume", f"{lightning}:{LIGHTNING}"),
            *("--volume", f"{ssh}/host:/etc/ssh/ssh_host_ed25519_key:ro"),
            *("--volume", f"{ssh}/id.pub:{KEYS}:ro", image),
        )
        _out("docker", "cp", service, f"{machine}:/etc/systemd/system/lightningd.service")
        _out("docker", "start", machine)
        wait_until(lambda: self._booted(node), 60, f"{node} has booted")
        self._inside(node, "systemctl", "start", "lightningd")

    def _booted(self, node: str) -> bool:
        done = subprocess.run(
            ["docker", "exec", self.machine(node), "systemctl", "is-system-running"],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() in ("running", "degraded")

    def _inside(self, node: str, *command: str) -> bool:
        done = subprocess.run(["docker", "exec", self.machine(node), *command], capture_output=True, check=False)
        return done.returncode == 0

    def _write_inventory(self) -> None:
        ssh = self.root / "ssh"
        proxy = f"docker exec -i %h sh -c 'mkdir -p /run/sshd && exec /usr/sbin/sshd -i -o AuthorizedKeysFile={KEYS}'"
        variables: dict[str, Any] = {
            "ansible_user": "deploy",
            "ansible_become": True,
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(ssh / "id"),
            "ansible_ssh_common_args": f'-o UserKnownHostsFile={ssh / "known_hosts"} -o ProxyCommand="{proxy}"',
            "hive_runtime": "systemd",
            "hive_lightning_dir": LIGHTNING,
            "hive_state_dir": STATE,
            "hive_network": "regtest",
            "hive_fleet": "bench",
            "hive_releases_dir": str(self.shelf.releases),
            "hive_allowed_signers": str(self.shelf.signers),
            "hive_reports_dir": str(self.reports),
            "hive_evidence_dir": str(self.reports.parent / "evidence"),
            "hive_evidence_keys_dir": str(self.reports.parent / "keys"),
            "hive_registers_dir": str(self.reports.parent / "registers"),
            "hive_approval_required": False,
            "hive_gates_required": False,
            "hive_waves": ["100%"],
            "hive_soak_seconds": 0,
            "hive_soak_interval_seconds": 0.1,
            "hive_canary_soak_minutes": 0,
            "hive_wave_soak_minutes": 0,
            "hive_deadman_seconds": 600,
            "hive_min_free_bytes": 0,
            "hive_htlc_margin_blocks": 6,
            "hive_probe": False,
            **self.variables,
        }
        hosts = {node: {"ansible_host": self.machine(node)} for node in self.names}
        self.inventory.mkdir(exist_ok=True)
        content = {"hive_nodes": {"hosts": hosts, "vars": variables}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(content), encoding="utf-8")

    def down(self) -> None:
        """Remove the machines."""
        left = _out("docker", "ps", "--all", "--quiet", "--filter", f"name=^{PREFIX}-").split()
        if left:
            _out("docker", "rm", "--force", "--volumes", *left)


@contextmanager
def machines(count: int, **variables: Any) -> Iterator[Machines]:
    """So many fresh machines; removed at the end."""
    root = WORK / "machines"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    made = Machines(root, shelf(), variables)
    try:
        made.up(count)
        yield made
    finally:
        made.down()
        shutil.rmtree(root)
