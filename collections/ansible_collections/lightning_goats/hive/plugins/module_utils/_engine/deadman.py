"""The dead-man: reverts a switch that nobody confirmed, with no Ansible, no controller and no session left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .errors import HiveError
from .files import Owner, canonical, make_dir, read_json, sync_dir, write_atomic
from .journal import Journal
from .lock import engine_lock
from .node import Node
from .processes import Identity, alive, identity
from .runtimes import Runtime, runtime_of

ARMED_SECONDS = 10.0
REARM_SECONDS = 1.0
UNIT = "hive-deadman"


def facts_file(node: Node) -> Path:
    return node.state_dir / "deadman.json"


def install_engine(node: Node, archive: bytes, digest: str) -> Path:
    """Write the engine's archive where the dead-man runs it from; a finished one stays as it is."""
    path = node.state_dir / "engine" / digest / "hive-engine.pyz"
    if not path.is_file():
        make_dir(path.parent, node.keeper)
        write_atomic(path, archive, node.keeper)
        sync_dir(path.parent.parent)
    return path


def arm(node: Node, runtime: Runtime, archive: Path, txn: str, deadline: float) -> dict[str, Any]:
    """Start the dead-man of a transaction and return once it watches.

    Args:
        deadline: unix time at which it reverts unless the journal says that the transaction has ended.

    Raises:
        HiveError: it did not come up, so nothing may be changed.
    """
    scheduler = runtime.deadman_scheduler()
    arguments = [sys.executable, str(archive), "deadman", "--state-dir", str(node.state_dir), "--transaction", txn]
    facts: dict[str, Any] = {
        "transaction": txn,
        "deadline": deadline,
        "node": node.as_params(),
        "archive": str(archive),
    }
    path = facts_file(node)
    if scheduler:
        unit = f"{UNIT}-{txn}-{int(deadline)}"
        facts.update(kind="systemd", unit=unit)
        write_atomic(path, canonical(facts), node.keeper)
        _schedule(scheduler, unit, arguments, max(1.0, deadline - time.time()))
        return facts
    facts.update(kind="process", pid=0)
    write_atomic(path, canonical(facts), node.keeper)
    detach([*arguments, "--deadline", repr(deadline)], node.keeper)
    waited = time.monotonic() + ARMED_SECONDS
    while True:
        found = read_json(path)
        if (
            isinstance(found, dict)
            and found.get("transaction") == txn
            and found.get("deadline") == deadline
            and found.get("pid")
        ):
            return found
        if time.monotonic() >= waited:
            raise HiveError(
                f"the dead-man of {node.name} did not start within {ARMED_SECONDS:g} s, so nothing was changed",
                "deadman",
            )
        time.sleep(0.01)


def _schedule(scheduler: list[str], unit: str, arguments: list[str], seconds: float) -> None:
    argv = [
        *scheduler,
        f"--unit={unit}",
        "--collect",
        f"--on-active={seconds:.3f}s",
        "--timer-property=AccuracySec=100ms",
        "--property=Type=oneshot",
        "--property=TimeoutStartSec=infinity",
        "--quiet",
        *arguments,
    ]
    done = subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise HiveError(
            f"systemd-run cannot arm the dead-man ({reason}), so nothing was changed; is hive_become set?", "deadman"
        )


def detach(argv: list[str], owner: Owner) -> None:
    """Start a process in a session of its own whose parent is init, with no descriptor of ours."""
    # A failpoint is meant for the engine under test, not for the dead-man that has to clean up after it.
    environment = {key: value for key, value in os.environ.items() if key != "HIVE_FAILPOINT"}
    if "HIVE_DEADMAN_FAILPOINT" in environment:
        environment["HIVE_FAILPOINT"] = environment.pop("HIVE_DEADMAN_FAILPOINT")
    launcher = "import os,sys\nif os.fork() == 0:\n    os.setsid()\n    os.execv(sys.argv[1], sys.argv[1:])\n"
    subprocess.run(
        [argv[0], "-I", "-S", "-c", launcher, argv[0], "-I", *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=True,
        cwd="/",
        env=environment,
        check=True,
    )


def watching(node: Node) -> dict[str, Any] | None:
    """Return the facts of the armed dead-man with `alive`; None when none is armed."""
    facts = read_json(facts_file(node))
    if not isinstance(facts, dict):
        return None
    facts["alive"] = _is_alive(facts)
    return facts


def _is_alive(facts: dict[str, Any]) -> bool:
    if facts.get("kind") == "systemd":
        done = subprocess.run(
            ["systemctl", "is-active", "--quiet", f"{facts.get('unit')}.timer", f"{facts.get('unit')}.service"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return done.returncode == 0
    return alive(Identity(int(facts.get("pid", 0)), int(facts.get("started", 0))))


def ensure(node: Node) -> dict[str, Any] | None:
    """Arm the dead-man of an open switch again when it is gone, as after a restart of the machine.

    It undoes nothing itself: one whose time has passed meanwhile is armed for the next second.

    Returns:
        What was found: transaction, deadline, alive, and rearmed when a new one had to be started; None when no switch
        is armed, or an engine is at work on it right now.
    """
    if watching(node) is None:
        return None
    try:
        with engine_lock(node, 0.0):
            facts = watching(node)
            txn = Journal(node.journal_file, node.keeper).state().transaction
            if facts is None or txn is None or txn.id != facts.get("transaction"):
                return None
            found = {"transaction": txn.id, "deadline": facts["deadline"], "alive": bool(facts["alive"])}
            if facts["alive"]:
                return found
            deadline = max(float(facts["deadline"]), time.time() + REARM_SECONDS)
            arm(node, runtime_of(node), Path(str(facts["archive"])), txn.id, deadline)
            return {**found, "rearmed": True}
    except HiveError as error:
        if error.code == "busy":
            return None
        raise


def disarm(node: Node) -> None:
    """Tell the dead-man that it is not needed any more. Its own look at the journal would do the same, later."""
    facts = read_json(facts_file(node))
    if not isinstance(facts, dict):
        return
    if facts.get("kind") == "systemd" and facts.get("unit"):
        subprocess.run(
            ["systemctl", "stop", f"{facts['unit']}.timer"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    facts_file(node).unlink()
    sync_dir(node.state_dir)


def announce(node: Node, txn: str, deadline: float) -> bool:
    """Write down that this process watches; False when another transaction has taken its place."""
    path = facts_file(node)
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("transaction") != txn or facts.get("deadline") != deadline:
        return False
    who = identity(os.getpid())
    facts.update(pid=os.getpid(), started=who.started if who else 0)
    write_atomic(path, canonical(facts), node.keeper)
    return True


def wait_for_deadline(node: Node, txn: str, deadline: float) -> bool:
    """Sleep until the deadline; False when this dead-man was disarmed or replaced meanwhile.

    The boot clock counts, which neither a changed wall clock nor a suspended machine stops.
    """
    end = time.clock_gettime(time.CLOCK_BOOTTIME) + max(0.0, deadline - time.time())
    while True:
        facts = read_json(facts_file(node))
        if not isinstance(facts, dict) or facts.get("transaction") != txn or facts.get("deadline") != deadline:
            return False
        left = end - time.clock_gettime(time.CLOCK_BOOTTIME)
        if left <= 0:
            return True
        time.sleep(min(left, 1.0))
