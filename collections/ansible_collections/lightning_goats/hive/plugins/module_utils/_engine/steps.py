"""The steps of a switch, in the order of the journal, and the points where tests make them fail."""

from __future__ import annotations

import enum
import os
import signal

from .errors import HiveError


class Step(str, enum.Enum):
    """Each value is written to the journal as an intent before the act, and as done after it."""

    LOCK = "lock"
    GUARD = "guard"
    BACKUP = "backup"
    PRUNE = "prune"
    ADOPT = "adopt"
    COPY = "copy"
    ARM = "arm"
    STOP = "stop"
    ADOPT_DELTA = "adopt-delta"
    CARRY_BACK = "carry-back"
    START = "start"
    CLEAR = "clear"
    WRITE = "write"
    RESTART = "restart"
    DATA = "data"
    VERIFY = "verify"
    SWITCHED = "switched"
    CONFIRM = "confirm"
    REVERT = "revert"
    QUARANTINE = "quarantine"
    REVERT_WRITE = "revert-write"
    REVERT_STOP = "revert-stop"
    REVERT_DATA = "revert-data"
    REVERT_ADOPTION = "revert-adoption"
    REVERT_START = "revert-start"
    REVERT_CLEAR = "revert-clear"
    REVERT_VERIFY = "revert-verify"
    REVERTED = "reverted"
    DISARM = "disarm"
    UNLOCK = "unlock"


FORWARD_STEPS = (
    Step.LOCK,
    Step.GUARD,
    Step.BACKUP,
    Step.PRUNE,
    Step.ARM,
    Step.STOP,
    Step.START,
    Step.CLEAR,
    Step.WRITE,
    Step.RESTART,
    Step.VERIFY,
    Step.SWITCHED,
)
# Only where rows move between the monolith's database and those of our plugins.
ADOPTION_STEPS = (Step.ADOPT, Step.ADOPT_DELTA, Step.CARRY_BACK, Step.REVERT_ADOPTION)
CONFIRM_STEPS = (Step.CONFIRM, Step.DISARM, Step.UNLOCK)
RESTORE_STEPS = (
    Step.GUARD,
    Step.BACKUP,
    Step.COPY,
    Step.ARM,
    Step.STOP,
    Step.DATA,
    Step.START,
    Step.VERIFY,
    *CONFIRM_STEPS,
)
REVERT_STEPS = (
    Step.REVERT,
    Step.QUARANTINE,
    Step.REVERT_WRITE,
    Step.REVERT_CLEAR,
    Step.REVERT_STOP,
    Step.REVERT_DATA,
    Step.REVERT_START,
    Step.REVERT_VERIFY,
    Step.REVERTED,
    Step.DISARM,
    Step.UNLOCK,
)

ACTIONS = ("kill", "error", "kill-after", "error-after")


def failpoint(step: enum.Enum, after: bool = False) -> None:
    """Die or fail here when a fault test asks for it; do nothing otherwise.

    `HIVE_FAILPOINT=<step>:<kill|error>` acts between the intent and the act, `-after` between the act and its record.
    Honoured only together with `HIVE_FAULTS=1`, so that a stray variable harms no real node.
    """
    if os.environ.get("HIVE_FAULTS") != "1":
        return
    wanted, _, action = os.environ.get("HIVE_FAILPOINT", "").partition(":")
    if wanted != step.value or action.endswith("-after") != after:
        return
    if action.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    raise HiveError(f"the failpoint of step {step.value} was asked for by HIVE_FAILPOINT", "failpoint", step=step.value)
