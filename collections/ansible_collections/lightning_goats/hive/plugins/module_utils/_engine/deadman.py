"""The dead-man: reverts a switch that nobody confirmed, with no Ansible, no controller and no session left.

It is a process that waits for its deadline and watches lightningd meanwhile (`deadman_watch`): a transient service
where systemd runs, so that it is started again when something ends it, else a process of its own. Its deadline counts
on the clock of the machine's start, which nobody can set. After a new start of the machine nothing of it is left but
`deadman.json`; `ensure` arms it again, called by the probe and, with systemd, by a unit (`deadman_unit`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .._waiting import wait_for
from .clock import boot, uptime
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
UNCONFIRMED = "nobody confirmed the switch in time"
UNDOES = "Undoes a switch of hive plugins that nobody confirms"
STARTED_ANEW = "the machine was started anew before the switch was confirmed"

Facts = dict[str, Any]


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


def arm(node: Node, runtime: Runtime, archive: Path, txn: str, seconds: float, reason: str = UNCONFIRMED) -> Facts:
    """Start the dead-man of a transaction and return its facts once it watches.

    Args:
        seconds: after which it reverts, unless the journal says that the transaction has ended.
        reason: what it then says.

    Returns:
        Among others deadline (unix time, for people), and boot and until (seconds since that start), which count.

    Raises:
        HiveError: it did not come up, so nothing may be changed.
    """
    scheduler = runtime.deadman_scheduler()
    token = os.urandom(6).hex()
    arguments = [str(archive), "deadman", "--state-dir", str(node.state_dir), "--transaction", txn, "--token", token]
    facts: Facts = {
        "transaction": txn,
        "token": token,
        "deadline": round(time.time() + seconds, 3),
        "boot": boot(),
        "until": round(uptime() + seconds, 3),
        "reason": reason,
        "node": node.as_params(),
        "archive": str(archive),
        "kind": "systemd" if scheduler else "process",
        "pid": 0,
    }
    if scheduler:
        facts["unit"] = f"{UNIT}-{txn}-{token}.service"
    write_atomic(facts_file(node), canonical(facts), node.keeper)
    if scheduler:
        serve(scheduler, str(facts["unit"]), UNDOES, [sys.executable, "-I", *arguments])
    else:
        detach([sys.executable, *arguments], node.keeper)

    def announced() -> Facts | None:
        found = mine(node, token)
        return found if found is not None and found.get("pid") else None

    armed = wait_for(announced, ARMED_SECONDS)
    if armed is None:
        raise HiveError(
            f"the dead-man of {node.name} did not start within {ARMED_SECONDS:g} s, so nothing was changed", "deadman"
        )
    return armed


def serve(scheduler: list[str], unit: str, description: str, arguments: list[str]) -> None:
    """Run a command as a transient service, which systemd starts again when something ends it.

    Raises:
        HiveError: systemd does not take it.
    """
    argv = [
        *scheduler,
        f"--unit={unit}",
        f"--description={description}",
        "--collect",
        "--property=Restart=on-failure",
        "--property=RestartSec=1",
        "--property=OOMScoreAdjust=-500",
        "--quiet",
        *arguments,
    ]
    done = subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise HiveError(
            f"systemd-run cannot start {unit} ({reason}), so nothing was changed; is ansible_become set?", "deadman"
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


def watching(node: Node) -> Facts | None:
    """Return the facts of the armed dead-man with `alive`; None when none is armed."""
    facts = read_json(facts_file(node))
    if not isinstance(facts, dict):
        return None
    facts["alive"] = alive(Identity(int(facts.get("pid", 0)), int(facts.get("started", 0))))
    return facts


def mine(node: Node, token: str) -> Facts | None:
    """Return the facts of the dead-man with this token; None when it was disarmed or replaced."""
    facts = read_json(facts_file(node))
    return facts if isinstance(facts, dict) and facts.get("token") == token else None


def left(facts: Facts) -> float:
    """Return the seconds until a dead-man reverts; 0 when its machine has been started anew since."""
    if facts.get("boot") != boot():
        return 0.0
    return max(0.0, float(facts.get("until", 0.0)) - uptime())


def ensure(node: Node) -> Facts | None:
    """Arm the dead-man of an open switch again when it is gone, as after a new start of the machine.

    It undoes nothing itself: one whose time has passed meanwhile, or whose lightningd has ended with the machine, is
    armed for the next second.

    Returns:
        What was found: transaction, deadline, alive, and rearmed when a new one had to be started; None when no switch
        is armed, or an engine is at work on it right now.
    """
    facts = watching(node)
    if facts is None:
        return None
    found = {"transaction": facts["transaction"], "deadline": facts["deadline"], "alive": True}
    if facts["alive"]:
        return found
    try:
        with engine_lock(node, 0.0):
            return _rearm(node, found)
    except HiveError as error:
        if error.code == "busy":
            return None
        raise


def _rearm(node: Node, found: Facts) -> Facts | None:
    facts = watching(node)
    journal = Journal(node.journal_file, node.keeper)
    txn = journal.state().transaction
    if facts is None:
        return None
    if txn is None or txn.id != facts.get("transaction"):
        # Killed between the end of the transaction and its tidying up.
        disarm(node)
        return None
    if facts["alive"]:
        return found
    reason = str(facts.get("reason", UNCONFIRMED)) if facts.get("boot") == boot() else STARTED_ANEW
    seconds = max(left(facts), REARM_SECONDS)
    armed = arm(node, runtime_of(node), Path(str(facts["archive"])), txn.id, seconds, reason)
    journal.append("armed", {"deadline": armed["deadline"], "rearmed": True, "reason": reason}, txn.id, txn.rollout)
    return {**found, "deadline": armed["deadline"], "alive": False, "rearmed": True}


def disarm(node: Node) -> None:
    """Tell the dead-man that it is not needed any more; it goes at its next look."""
    path = facts_file(node)
    if path.exists():
        path.unlink()
        sync_dir(node.state_dir)


def announce(node: Node, token: str) -> Facts | None:
    """Write down that this process watches; None when another dead-man has taken its place."""
    facts = mine(node, token)
    if facts is None:
        return None
    who = identity(os.getpid())
    facts.update(pid=os.getpid(), started=who.started if who else 0)
    write_atomic(facts_file(node), canonical(facts), node.keeper)
    return facts
