"""The dead-man's foothold after a new start of the machine: a unit that systemd runs once lightningd has been started.

It does nothing unless `deadman.json` says that a switch was open, and then lets `deadman.ensure` arm it again. It is
written with the first switch and goes when the plugins are removed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from .deadman import facts_file
from .files import Owner, write_atomic
from .node import Node

UNITS = Path("/etc/systemd/system")
TEXT = """# Managed by Lightning Hive Rollout: takes care of an unconfirmed switch after a start of the machine.
[Unit]
Description=Takes care of an unconfirmed switch of hive plugins on {name}
ConditionPathExists={facts}
After={service} docker.service

[Service]
Type=oneshot
ExecStart={python} -I {archive} ensure --state-dir {state_dir}

[Install]
WantedBy=multi-user.target
"""


def unit_of(node: Node) -> str:
    """Return the unit's name, one for each node of a machine."""
    return f"hive-deadman-{hashlib.sha256(os.fsencode(node.state_dir)).hexdigest()[:8]}.service"


def text_of(node: Node) -> str:
    """Return the unit file."""
    service = node.service if "." in node.service else f"{node.service}.service"
    return TEXT.format(
        name=node.name,
        facts=escape(str(facts_file(node))),
        service=escape(service),
        python=escape(sys.executable),
        archive=quote(str(stable_archive(node))),
        state_dir=quote(str(node.state_dir)),
    )


def escape(text: str) -> str:
    """Return a text in which systemd replaces nothing."""
    return text.replace("%", "%%")


def quote(text: str) -> str:
    """Return a text as one word of a command line."""
    return '"' + escape(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") + '"'


def stable_archive(node: Node) -> Path:
    """Return the name under which the unit finds the engine, whichever is installed."""
    return node.state_dir / "engine" / "hive-engine.pyz"


def persist(node: Node, archive: Path, scheduler: list[str], units: Path = UNITS) -> bool:
    """Install the unit, unless it is as it should be; whether there is one.

    Where units cannot be written (no systemd, not root, a read-only /etc) the probe, and the next run, have to do.
    """
    if not scheduler or os.geteuid() != 0:
        return False
    link = stable_archive(node)
    if not link.is_symlink() or link.readlink() != archive:
        fresh = link.with_name(f".{link.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(archive)
        fresh.replace(link)
    unit, text = units / unit_of(node), text_of(node).encode()
    try:
        if unit.is_file() and unit.read_bytes() == text:
            return True
        write_atomic(unit, text, Owner(0, 0), 0o644)
    except OSError:
        return False
    return _systemctl("enable", unit.name)


def withdraw(node: Node, units: Path = UNITS) -> None:
    """Take the unit away; none is fine."""
    unit = units / unit_of(node)
    if unit.is_file():
        _systemctl("disable", unit.name)
        unit.unlink()
        _systemctl("daemon-reload")


def _systemctl(*arguments: str) -> bool:
    done = subprocess.run(
        ["systemctl", "--quiet", *arguments], check=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    return done.returncode == 0
