"""lightningd itself during a transaction: it must stay the same process; where it does not, it is brought back."""

from __future__ import annotations

from .drain import STOP_SECONDS, drain, restart_seconds
from .errors import HiveError, NodeDownError
from .machine import Machine
from .processes import alive
from .record import Record
from .request import Timeouts
from .steps import Step


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
        """Start it with the configuration in place, unless it runs, and wait until all its plugins are active."""
        self.machine.rpc.close()
        if not alive(self.machine.identity()):
            self.machine.runtime.start_lightningd(self.record.argv, self.timeouts.ready)
            self.restarts += 1
        if not self.machine.wait_answer(self.timeouts.ready):
            raise HiveError(
                f"lightningd of {self.machine.node.name} was started but does not answer within "
                f"{self.timeouts.ready:g} s; look at its log",
                "lightningd-down",
            )
        self.machine.wait_ready(self.timeouts.ready)
