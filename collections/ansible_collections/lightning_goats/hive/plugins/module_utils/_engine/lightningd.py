"""lightningd itself during a transaction: it must stay the same process; where it does not, it is brought back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .._waiting import wait_for
from .drain import STOP_SECONDS, drain, restart_seconds
from .errors import HiveError, NodeDownError
from .machine import Machine
from .processes import alive
from .record import Record
from .request import Timeouts
from .steps import Step

LOOK_SECONDS = 0.1
START_TRIES = 4
RETRY_SECONDS = 0.5
# Between the end of one start and the next by somebody else it is not there; only this long is counted as gone.
GONE_SECONDS = 0.5


class Lightningd:
    """The one process that must not die.

    Attributes:
        restarts: how often it came up anew during this transaction, wanted or not.
    """

    def __init__(self, machine: Machine, record: Record, timeouts: Timeouts) -> None:
        self.machine = machine
        self.record = record
        self.timeouts = timeouts
        self.restarts = 0

    @property
    def replaced(self) -> bool:
        """Whether lightningd is gone or another one than the transaction began with, and not by our own doing."""
        now = self.machine.identity()
        return now is None or (now != self.record.original and now != self.record.restarted)

    def prove_same(self) -> None:
        """Refuse when lightningd died, also when it came back by itself."""
        if self.replaced:
            now = self.machine.identity()
            raise NodeDownError(
                f"lightningd of {self.machine.node.name} died during the switch"
                + (" and came back by itself" if now else "")
            )

    def attend(self, work: Callable[[], None], seconds: float) -> None:
        """Do something that does not talk to lightningd, and notice at once when lightningd dies meanwhile.

        Raises:
            NodeDownError: it died; the work ends by itself, unattended.
            HiveError: as the work says.
        """
        failed: list[HiveError] = []

        def run() -> None:
            try:
                work()
            except HiveError as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="attended", daemon=True)
        thread.start()
        deadline = time.monotonic() + seconds + self.timeouts.rpc
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(LOOK_SECONDS)
            if not alive(self.record.restarted or self.record.original):
                self.prove_same()
        if failed:
            raise failed[0]

    def restart(self, reason: str, wait_seconds: float, margin: int) -> None:
        """Restart it, because nothing else will do and the operator allowed it; by RPC, never by signal.

        Args:
            wait_seconds: how long to wait for payments in flight.
            margin: blocks that must be left to them afterwards.
        """
        with self.record.step(Step.RESTART, reason=reason) as outcome:
            who = self.machine.identity()
            if who == self.record.original:
                drained = drain(self.machine, restart_seconds(self.timeouts), wait_seconds, True, margin)
                outcome.update(graceful=drained["graceful"], waited_seconds=drained["waited_seconds"])
                self.machine.rpc.call("stop", timeout=STOP_SECONDS)
                self.machine.rpc.close()
                if not self.machine.wait_gone(who, STOP_SECONDS):
                    raise HiveError(
                        f"lightningd of {self.machine.node.name} did not stop within {STOP_SECONDS:g} s; look at "
                        "its log",
                        "lightningd-stays",
                    )
            self.revive()
            now = self.machine.identity()
            outcome.update(pid=now.pid if now else 0, started=now.started if now else 0)

    def revive(self) -> None:
        """Start it with the configuration in place, unless it runs, and wait until all its plugins are active.

        Something else may start it at the same moment (systemd by `Restart=`, a container by its policy), with the
        configuration as it was a moment ago, and it may die of that once more. So this goes on until it stays up.

        Raises:
            HiveError: it does not come up; with the reason of the last try.
        """
        self.machine.rpc.close()
        deadline = time.monotonic() + self.timeouts.ready
        for attempt in range(START_TRIES):
            failed: HiveError | None = None
            if not alive(self.machine.identity()):
                try:
                    self.machine.runtime.start_lightningd(self.record.argv, self.timeouts.ready)
                except HiveError as error:
                    failed = error
            if failed is None and self._comes_up(deadline):
                self.restarts += 1
                return
            if time.monotonic() >= deadline or attempt == START_TRIES - 1:
                raise failed or HiveError(
                    f"lightningd of {self.machine.node.name} was started but does not answer within "
                    f"{self.timeouts.ready:g} s; look at its log",
                    "lightningd-down",
                )
            # Whoever else starts it at this moment gets the time to do it.
            time.sleep(RETRY_SECONDS)

    def _comes_up(self, deadline: float) -> bool:
        """Wait until it answers and all its plugins are active; False as soon as it is seen to be gone."""
        gone_since = 0.0

        def up() -> bool | None:
            nonlocal gone_since
            if self.machine.answers(1.0):
                try:
                    self.machine.wait_ready(max(1.0, deadline - time.monotonic()))
                except NodeDownError:
                    return False
                return True
            if alive(self.machine.identity()):
                gone_since = 0.0
            elif not gone_since:
                gone_since = time.monotonic()
            elif time.monotonic() - gone_since > GONE_SECONDS:
                return False
            return None

        return wait_for(up, deadline - time.monotonic(), 0.05) is True
