"""How lightningd runs on a node that is to be adopted: what its unit, its configuration and its process say."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import _config
from ._engine.errors import HiveError, NodeDownError, RpcTimeoutError
from ._engine.files import canonical, read_bytes
from ._engine.machine import Machine
from ._engine.node import Node
from ._engine.processes import Identity, alive, arguments

SYSTEMCTL_SECONDS = 30.0
RPC_SECONDS = 10.0
PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "Type",
    "MainPID",
    "User",
    "Restart",
    "ExecStart",
    "ExecStop",
    "PIDFile",
    "UMask",
    "TimeoutStartUSec",
    "LimitMEMLOCK",
    "ProtectHome",
    "ProtectSystem",
    "PrivateTmp",
    "ReadWritePaths",
    "InaccessiblePaths",
    "NoExecPaths",
)
# systemd's word for "for ever".
INFINITY = "infinity"
START_SECONDS = 60
HOMES = ("/home", "/root", "/run/user")
TEMPORARY = ("/tmp", "/var/tmp")

Unit = dict[str, str]


@dataclass
class Findings:
    """What an operator should know before anything of ours is put on the node.

    Attributes:
        refusals: sentences; nothing of ours would work before they are dealt with.
        advice: sentences; it works, and it could be better.
    """

    refusals: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


def show_unit(service: str) -> Unit:
    """Return what systemd knows of a unit.

    Raises:
        HiveError: systemd does not answer.
    """
    argv = ["systemctl", "show", service, "--property", ",".join(PROPERTIES)]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=SYSTEMCTL_SECONDS, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise HiveError(
            "systemd does not answer on this node; set hive_runtime to how its lightningd runs", "systemd"
        ) from error
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise HiveError(f"systemd does not answer on this node ({reason}); set hive_runtime", "systemd")
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def adopt(node: Node) -> dict[str, Any]:
    """Look at a node that runs already; nothing is changed.

    Returns:
        service (unit's facts, null without systemd), lightningd, advice, refusals, fingerprint and parts (what it is
        made of), lines (for people).
    """
    # A socket that is not where the inventory says is what is to be found out, so no way round it is taken.
    machine = Machine(replace(node, lightning_cli=()) if node.runtime != "docker" else node, RPC_SECONDS)
    found = Findings()
    unit = show_unit(node.service) if node.runtime == "systemd" else None
    who = machine.identity()
    info: dict[str, Any] = {}
    try:
        info = machine.rpc.call("getinfo")
    except (NodeDownError, RpcTimeoutError) as error:
        found.refusals.append(f"{error.message}; start it, or set hive_lightning_dir and hive_network to where it runs")
    argv = arguments(who.pid) if alive(who) and who is not None else []
    judge_lightningd(node, info, argv, found)
    if unit is not None:
        judge_unit(node, unit, who, found)
    parts = fingerprint_parts(node, unit)
    return {
        "service": unit,
        "lightningd": {
            "version": str(info.get("version", "")),
            "node_id": str(info.get("id", "")),
            "network": str(info.get("network", "")),
            "argv": argv,
            "pid": who.pid if who else 0,
            "started_at": who.started_at if who else 0.0,
        },
        "refusals": found.refusals,
        "advice": found.advice,
        "parts": parts,
        "fingerprint": digest_of(parts),
        "lines": _lines(node, unit, info, found, digest_of(parts)),
    }


def judge_lightningd(node: Node, info: Mapping[str, Any], argv: list[str], found: Findings) -> None:
    """Compare the process and its answers with the inventory."""
    if info and info.get("network") != node.network:
        found.refusals.append(
            f"lightningd runs on {info.get('network')} and the inventory says {node.network}; set hive_network"
        )
    if info and node.node_id and info.get("id") != node.node_id:
        found.refusals.append(
            f"this node is {info.get('id')} and the inventory says {node.node_id}; is it another machine?"
        )
    if not argv:
        return
    conf = _config.explicit_conf(argv)
    read = [conf] if conf else [str(node.lightning_dir / "config"), str(node.network_dir / "config")]
    if node.to_inside(node.config_file) not in read and str(node.config_file) not in read:
        found.refusals.append(
            f"lightningd does not read {node.config_file}; set hive_config_file to {' or '.join(read)}"
        )


def judge_unit(node: Node, unit: Unit, who: Identity | None, found: Findings) -> None:
    """Compare the unit with what a rollout needs of it; pure but for the comparison of pids."""
    name = node.service
    if unit.get("LoadState") != "loaded":
        found.refusals.append(f"systemd knows no unit {name} ({unit.get('LoadState')}); set hive_service")
        return
    if who is not None and unit.get("MainPID") not in (str(who.pid), None):
        found.refusals.append(
            f"the lightningd of {node.lightning_dir} is process {who.pid}, and unit {name} runs {unit.get('MainPID')}; "
            "set hive_service to the unit that runs it"
        )
    hidden = hides(unit, node.state_dir)
    if hidden:
        found.refusals.append(
            f"unit {name} sets {hidden}, so lightningd would not see the plugins in {node.state_dir}; set "
            "hive_state_dir to another place, or change the unit"
        )
    found.advice += _advice(name, unit, node)


def hides(unit: Unit, path: Path) -> str:
    """Return the directive by which a unit's processes cannot run files below `path`; empty when they can."""
    below = [str(path), *(str(parent) for parent in path.parents)]
    if unit.get("ProtectHome", "no") not in ("no", "read-only") and any(home in below for home in HOMES):
        return f"ProtectHome={unit['ProtectHome']}"
    if unit.get("PrivateTmp", "no") != "no" and any(home in below for home in TEMPORARY):
        return f"PrivateTmp={unit['PrivateTmp']}"
    for directive in ("InaccessiblePaths", "NoExecPaths"):
        named = [word.lstrip("-+") for word in unit.get(directive, "").split()]
        if any(word in below for word in named):
            return f"{directive}={unit[directive]}"
    return ""


def _advice(name: str, unit: Unit, node: Node) -> list[str]:
    told = []
    if unit.get("Restart", "no") in ("no", "on-success"):
        told.append(
            f"unit {name} has Restart={unit.get('Restart')}: systemd does not bring lightningd back when it dies"
        )
    if " stop" not in unit.get("ExecStop", ""):
        told.append(
            f"unit {name} has no ExecStop with `lightning-cli stop`: at `systemctl stop` lightningd is killed and its "
            "plugins are told nothing"
        )
    if unit.get("Type") != "forking":
        told.append(
            f"unit {name} has Type={unit.get('Type')}: `systemctl start` returns before the plugins are ready "
            "(Type=forking with --daemon and --pid-file waits for them)"
        )
    elif 0 < seconds_of(unit.get("TimeoutStartUSec", INFINITY)) < START_SECONDS:
        told.append(
            f"unit {name} has TimeoutStartSec={unit['TimeoutStartUSec']}: a plugin that is slow to start would keep "
            "lightningd from starting"
        )
    if unit.get("LimitMEMLOCK") == "0":
        told.append(f"unit {name} has LimitMEMLOCK=0: lightningd's keeper of the keys does not start with it")
    if unit.get("UMask") not in ("0077", "077"):
        told.append(f"unit {name} has UMask={unit.get('UMask')}: others on the machine can read its database and log")
    if unit.get("User") in ("", "root"):
        told.append(f"unit {name} runs lightningd and all plugins as root")
    if unit.get("UnitFileState") not in ("enabled", "static", "indirect", "generated", "alias"):
        told.append(f"unit {name} is {unit.get('UnitFileState')}: it does not start with the machine")
    if unit.get("NeedDaemonReload") == "yes":
        told.append(f"unit {name} was changed on disk since systemd read it: `systemctl daemon-reload`")
    if unit.get("ProtectSystem") == "strict" and not _writable(unit, node.lightning_dir):
        told.append(f"unit {name} has ProtectSystem=strict and no ReadWritePaths that holds {node.lightning_dir}")
    return told


def _writable(unit: Unit, path: Path) -> bool:
    below = {str(path), *(str(parent) for parent in path.parents)}
    return any(word.lstrip("-+") in below for word in unit.get("ReadWritePaths", "").split())


def seconds_of(text: str) -> float:
    """Return a time span of `systemctl show` in seconds, 0 for one without end: 1min 30s -> 90."""
    sizes = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
    total = 0.0
    for word in text.split():
        number = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        if word == INFINITY or not number or word[len(number) :] not in sizes:
            return 0.0
        total += float(number) * sizes[word[len(number) :]]
    return total


def fingerprint_parts(node: Node, unit: Unit | None) -> dict[str, str]:
    """Return a digest of each thing on the node that is not ours: configuration without our include, unit, drop-ins."""
    parts = {}
    files = [node.config_file, node.network_dir / "config"]
    if unit is not None:
        files += [Path(word) for word in [unit.get("FragmentPath", ""), *unit.get("DropInPaths", "").split()] if word]
    for path in dict.fromkeys(files):
        content = read_bytes(path)
        if content is None:
            continue
        facts = path.stat()
        text = _config.drop_include(content.decode("utf-8", "surrogateescape"))
        body = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        parts[str(path)] = hashlib.sha256(canonical([body, facts.st_mode, facts.st_uid, facts.st_gid])).hexdigest()[:16]
    return parts


def digest_of(parts: Mapping[str, str]) -> str:
    """Return one digest for all parts."""
    return hashlib.sha256(canonical(dict(parts))).hexdigest()[:16]


def _lines(node: Node, unit: Unit | None, info: Mapping[str, Any], found: Findings, digest: str) -> list[str]:
    how = f"unit {node.service}" if unit is not None else f"runtime {node.runtime}"
    lines = [f"{node.name}: lightningd {info.get('version', 'does not answer')} of {how}, left as it is ({digest})"]
    return lines + [f"{node.name}: {sentence}" for sentence in found.advice]
