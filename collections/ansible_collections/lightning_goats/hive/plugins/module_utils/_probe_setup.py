"""Installing and removing the probe: a timer unit where there is systemd, a detached process elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._engine import backup_timer, deadman
from ._engine.backup_state import exposed_as
from ._engine.bundle import engine_archive
from ._engine.errors import HiveError
from ._engine.files import canonical, read_bytes, read_json, sync_dir, write_atomic
from ._engine.node import Node
from ._engine.probe import detached, pid_file, ring_file, settings_file
from ._engine.probe_ring import last_sample
from ._engine.processes import wait_gone
from ._engine.runtimes import runtime_of
from ._engine.soak_guard import soak_file
from ._waiting import wait_for

UNITS = Path("/etc/systemd/system")
SYSTEMCTL_SECONDS = 30.0
START_SECONDS = 20.0
END_SECONDS = 30.0
MOST_OFTEN = 60.0

SERVICE = """\
# Managed by Lightning Hive Rollout: one look at lightningd of {name}, kept in {ring}.
[Unit]
Description=Hive probe of {name}

[Service]
Type=oneshot
ExecStart={command}
# It must never be felt: last in line for everything, and ended when it takes too long.
Nice=19
IOSchedulingClass=idle
CPUWeight=10
TimeoutStartSec=60
UMask=0077
NoNewPrivileges=true
ProtectSystem=strict
ReadWritePaths={state_dir}
PrivateTmp=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectControlGroups=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native
"""
BACKUP = """\
# Managed by Lightning Hive Rollout: takes a backup set of the hive plugins of {name}; hive-probe-... starts it.
[Unit]
Description=Hive backup of {name}

[Service]
Type=oneshot
ExecStart={backup}
# Last in line, but not idle: whoever waits for the disk for ever would keep a database's log from being cleared.
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
TimeoutStartSec=3600
UMask=0077
NoNewPrivileges=true
ProtectSystem=full
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectControlGroups=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native
"""
TIMER = """\
# Managed by Lightning Hive Rollout.
[Unit]
Description=Hive probe of {name}, every {every:g} s

[Timer]
OnActiveSec=1s
OnBootSec=15s
OnUnitActiveSec={every:g}s
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


@dataclass(frozen=True)
class Wanted:
    """How often to look, how much to keep, and how often to take a backup set (0 for never).

    Attributes:
        metrics_dir: where metrics go as well, such as the directory of node_exporter's textfiles; "" for nowhere else.
        min_free_bytes: what has to stay free on the disk beside a set.
    """

    every: float
    keep_seconds: float
    max_bytes: int
    backup_every: float = 0.0
    backup_keep: int = 10
    metrics_dir: str = ""
    min_free_bytes: int = 0


def unit_name(node: Node) -> str:
    """Return the name of the probe's units, without the kind; several nodes may share a machine."""
    return "hive-probe-" + re.sub(r"[^A-Za-z0-9_.-]", "-", node.name)


def install(node: Node, wanted: Wanted, check_mode: bool) -> dict[str, Any]:
    """Bring the probe to what is wanted, and see its first sample.

    Returns:
        changed, every, kind, before and after (for the diff), sample (its newest one).

    Raises:
        HiveError: it cannot be installed, or takes no sample.
    """
    if wanted.every < 1 or wanted.keep_seconds < wanted.every or wanted.max_bytes < 1 << 16:
        raise HiveError(
            "the probe looks once a second at most, keeps at least one interval and at least 65536 bytes: change "
            "hive_probe_interval_seconds, hive_probe_keep_seconds or hive_probe_max_bytes",
            "bad-probe",
        )
    if wanted.backup_every and wanted.backup_every < MOST_OFTEN:
        raise HiveError(
            f"backups by the clock are at least {MOST_OFTEN:g} s apart, or none with 0: change "
            "hive_backup_every_seconds",
            "bad-probe",
        )
    if wanted.metrics_dir and not wanted.metrics_dir.startswith("/"):
        raise HiveError(f"hive_metrics_dir is {wanted.metrics_dir!r}; give an absolute path", "bad-probe")
    archive, digest = engine_archive()
    scheduled = bool(runtime_of(node).deadman_scheduler())
    engine = node.state_dir / "engine" / digest / "hive-engine.pyz"
    texts = _texts(node, wanted, digest, engine, scheduled)
    before = {path: _text(path) for path in texts}
    changed = before != texts or not engine.is_file() or not _runs(node, scheduled)
    facts: dict[str, Any] = {
        "changed": changed,
        "every": wanted.every,
        "kind": "timer" if scheduled else "process",
        "before": {str(path): text for path, text in before.items()},
        "after": {str(path): text for path, text in texts.items()},
        "sample": last_sample(ring_file(node)),
    }
    if not changed or check_mode:
        return facts
    since = time.time()
    node.prepare()
    if scheduled:
        _end_detached(node)
    deadman.install_engine(node, archive, digest)
    for path, text in texts.items():
        write_atomic(path, text.encode(), node.keeper, 0o600 if path == settings_file(node) else 0o644)
    command = _command(node, engine)
    if scheduled:
        unit = unit_name(node)
        systemctl("daemon-reload")
        systemctl("enable", "--quiet", f"{unit}.timer")
        systemctl("restart", f"{unit}.timer")
    else:
        # The one before sees that its settings have changed, and ends.
        deadman.detach([*command, "--every", f"{wanted.every:g}"], node.keeper)
    facts["sample"] = _first_sample(node, since)
    return facts


def remove(node: Node, check_mode: bool) -> dict[str, Any]:
    """End the probe and take away everything of it, its samples included."""
    # What is told elsewhere would go on being read as if it were of today.
    elsewhere = str((read_json(settings_file(node)) or {}).get("metrics_dir", ""))
    mine = [*_files(node), *([exposed_as(node, elsewhere)] if elsewhere else [])]
    found = [path for path in mine if path.exists()]
    units = [path for path in found if path.parent == UNITS]
    who = detached(node)
    facts = {"changed": bool(found or who), "removed": [str(path) for path in found]}
    if check_mode or not facts["changed"]:
        return facts
    if units:
        systemctl("disable", "--quiet", "--now", f"{unit_name(node)}.timer")
        systemctl("stop", f"{unit_name(node)}.service")
    settings = settings_file(node)
    if settings.exists():
        settings.unlink()
    _end_detached(node)
    for path in [path for path in mine if path.exists()]:
        path.unlink()
    if units:
        systemctl("daemon-reload")
    if node.state_dir.is_dir():
        sync_dir(node.state_dir)
    return facts


def _texts(node: Node, wanted: Wanted, digest: str, engine: Path, scheduled: bool) -> dict[Path, str]:
    settings = {
        "schema": 1,
        "node": node.as_params(),
        "engine": digest,
        "every": wanted.every,
        "keep_seconds": wanted.keep_seconds,
        "max_bytes": wanted.max_bytes,
        "backup_every": wanted.backup_every,
        "backup_keep": wanted.backup_keep,
        "metrics_dir": wanted.metrics_dir,
        "min_free_bytes": wanted.min_free_bytes,
        "kind": "timer" if scheduled else "process",
    }
    texts = {settings_file(node): canonical(settings).decode()}
    if scheduled:
        command, backup = _command(node, engine), backup_timer.command(engine, settings_file(node))
        words = {
            "name": _quoted(node.name),
            "ring": _quoted(str(ring_file(node))),
            "state_dir": _quoted(str(node.state_dir)),
            "command": " ".join(_quoted(word) for word in [command[0], "-I", *command[1:]]),
            "backup": " ".join(_quoted(word) for word in [backup[0], "-I", *backup[1:]]),
            "every": wanted.every,
        }
        unit = unit_name(node)
        texts[UNITS / f"{unit}.service"] = SERVICE.format(**words)
        texts[_backup_unit(node)] = BACKUP.format(**words)
        texts[UNITS / f"{unit}.timer"] = TIMER.format(**words)
    return texts


def _quoted(word: str) -> str:
    """Return a word as systemd reads it; `%` would begin a specifier and `$` a variable."""
    escaped = word.replace("%", "%%").replace("$", "$$")
    return json.dumps(escaped) if re.search(r"[\s\"'\\;]", escaped) else escaped


def _command(node: Node, engine: Path) -> list[str]:
    return [sys.executable, "-S", str(engine), "probe", "--node", str(settings_file(node))]


def _text(path: Path) -> str | None:
    content = read_bytes(path)
    return None if content is None else content.decode("utf-8", "replace")


def _runs(node: Node, scheduled: bool) -> bool:
    if not scheduled:
        return detached(node) is not None
    unit = f"{unit_name(node)}.timer"
    return all(_systemctl(verb, "--quiet", unit).returncode == 0 for verb in ("is-active", "is-enabled"))


def _end_detached(node: Node) -> None:
    """Wait until a detached probe, whose settings are gone or changed, has ended."""
    who = detached(node)
    if who is None:
        return
    settings = settings_file(node)
    if settings.exists():
        settings.unlink()
    if not wait_gone(who, END_SECONDS):
        raise HiveError(
            f"the probe of {node.name} (process {who.pid}) does not end within {END_SECONDS:g} s; end it and run again",
            "probe-stays",
        )


def _first_sample(node: Node, since: float) -> dict[str, Any]:
    def fresh() -> dict[str, Any] | None:
        sample = last_sample(ring_file(node))
        return sample if sample is not None and float(sample["time"]) >= since - 0.001 else None

    sample = wait_for(fresh, START_SECONDS, 0.05)
    if sample is not None:
        return sample
    raise HiveError(
        f"the probe of {node.name} was installed but has taken no sample within {START_SECONDS:g} s; "
        f"look at what `journalctl -u {unit_name(node)}` says, or set hive_probe to false",
        "probe-silent",
    )


def _files(node: Node) -> list[Path]:
    unit, ring = unit_name(node), ring_file(node)
    sides = [ring.with_name(ring.name + end) for end in ("-journal", "-wal", "-shm")]
    mine = [settings_file(node), ring, *sides, pid_file(node), node.state_dir / "probe.lock", soak_file(node)]
    return [*mine, UNITS / f"{unit}.timer", UNITS / f"{unit}.service", _backup_unit(node)]


def _backup_unit(node: Node) -> Path:
    return UNITS / f"{backup_timer.unit_name(node.name)}.service"


def _systemctl(*words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["systemctl", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SYSTEMCTL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HiveError(
            f"systemctl {' '.join(words)} does not end; look at `systemctl list-jobs` and run again", "systemd"
        ) from error


def systemctl(*words: str) -> None:
    """Ask systemd to do something, and refuse when it does not."""
    done = _systemctl(*words)
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise HiveError(f"systemctl {' '.join(words)} fails: {reason}; is ansible_become set?", "systemd")
