"""The running plugin: threads around the hive. Everything that changes it runs on the kit's one event thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hive_kit.app import Application, Context
from hive_kit.errors import BusyError, NotReadyError, UnavailableError
from hive_kit.health import Check

from cl_hive.options import Settings
from cl_hive.protocol import fields, frames
from cl_hive.services.lightning import Lightning
from cl_hive.services.limits import Waiting
from cl_hive.services.siblings import ARCHON, COMMS, Siblings

if TYPE_CHECKING:
    from cl_hive.services.hive import Hive

T = TypeVar("T")
TICK_SECONDS: Final = 2.0
COMMAND_SECONDS: Final = 60.0
LASTING_SECONDS: Final = 1800
# A FULL_SYNC of the largest hive comes in a few parts; whoever has more than this waiting is flooding.
WAITING_PER_PEER: Final = 64
_PREFIX: Final = frames.MAGIC.hex()


class HiveApplication(Application):
    """cl-hive on one node."""

    def __init__(self, context: Context) -> None:
        """Read the options; the rest waits until lightningd can be asked who this node is.

        Raises:
            OptionError: options contradict each other.
        """
        super().__init__(context)
        self.settings = Settings(context.options)
        self.siblings = Siblings(comms=context.siblings[COMMS], archon=context.siblings[ARCHON])
        self.lightning = Lightning(context.node)
        self.waiting = Waiting(WAITING_PER_PEER, context.clock)
        self._hive: Hive | None = None
        self._making = threading.Lock()
        self._problem = ""
        self._ticker = context.workers.every(TICK_SECONDS, "hive", self._tick)
        self.siblings.archon.on_change(lambda present: self._rebound(ARCHON, present))  # type: ignore[union-attr]
        self.siblings.comms.on_change(lambda present: self._rebound(COMMS, present))  # type: ignore[union-attr]

    @property
    def mode(self) -> str:
        """monolith, with-comms, with-archon or full: whatever answers now."""
        return self.siblings.mode

    @property
    def hive(self) -> Hive:
        """The hive of this node; made when lightningd first says who the node is.

        Raises:
            UnavailableError: lightningd does not answer yet.
        """
        with self._making:
            if self._hive is None:
                from cl_hive.services.hive import Hive  # not needed to answer the manifest

                context = self.context
                self._hive = Hive(
                    self.lightning.identity(),
                    context.store,
                    self.lightning,
                    self.settings,
                    self.siblings,
                    f"{context.name} v{context.version()}",
                    context.now,
                    context.restored,
                )
            return self._hive

    def checks(self) -> Sequence[Check]:
        """What health should know: lightningd answers, and the connected members agree with this node."""
        found = [Check("lightningd", not self._problem, self._problem)]
        if self._hive is not None:
            # Differences are normal for seconds after every change; when they last, something does not heal.
            lasting = self._hive.sync.differ_since(self.context.now() - LASTING_SECONDS)
            what = f"for half an hour {', '.join(peer[:16] for peer in lasting)} know something else; see hive-status"
            found.append(Check("in-sync", not lasting, what if lasting else ""))
        return found

    def command(self, work: Callable[[Hive], T]) -> T:
        """Run something that changes the hive on its thread, and wait for it.

        Raises:
            HiveError: what the work raised.
            BusyError: the thread has too much to do.
        """
        hive = self.hive
        future = self.context.workers.events.submit(lambda: work(hive))
        try:
            return future.result(COMMAND_SECONDS)
        except CancelledError as error:
            raise NotReadyError("the plugin is stopping") from error
        except FutureTimeoutError as error:
            future.cancel()
            raise BusyError("the hive is busy; hive-status shows whether it was done, else try again") from error

    def enqueue(self, work: Callable[[Hive], None]) -> None:
        """Let the hive's thread do something later.

        Raises:
            BusyError: its queue is full.
        """
        hive = self.hive
        self.context.workers.events.submit(lambda: self._guarded(lambda: work(hive)))

    def wake(self) -> None:
        """Let time pass now instead of in two seconds."""
        self.context.workers.soon(self._ticker)

    def reach(self, hive: Hive) -> str:
        """Connect to the inviter of a pending join, which may take long and so is not done on the hive's thread.

        Returns:
            Why it failed, or "".
        """
        pending = hive.joiner.pending()
        if pending is None:
            return ""
        target, addresses = pending
        if target in self.lightning.connected():
            return ""
        return self.lightning.connect(target, addresses)

    # -- what lightningd tells, on the event thread --------------------------------------------------------------------

    def admit_custommsg(self, payload: dict[str, Any]) -> bool:
        """Whether a custom message is ours, and not one too many of its peer. Asked on the thread that reads."""
        peer_id, text = payload.get("peer_id"), payload.get("payload")
        if not isinstance(text, str) or not text.startswith(_PREFIX) or not fields.is_pubkey(peer_id):
            return False
        return len(text) <= 2 * frames.MAX_BYTES and self.waiting.enter(str(peer_id))

    def on_custommsg(self, payload: dict[str, Any]) -> None:
        """A custom message of a peer, after `admit_custommsg`."""
        peer_id = str(payload["peer_id"])
        self.waiting.leave(peer_id)
        data = bytes.fromhex(payload["payload"])
        self._guarded(lambda: self.hive.receive(peer_id, data))

    def on_connect(self, payload: dict[str, Any]) -> None:
        """A peer connected."""
        peer_id, address = payload.get("id"), payload.get("address")
        host = str(address.get("address", "")) if isinstance(address, dict) else ""
        if fields.is_pubkey(peer_id):
            self._guarded(lambda: self.hive.connected(str(peer_id), host))

    def on_disconnect(self, payload: dict[str, Any]) -> None:
        """A peer is gone."""
        peer_id = payload.get("id")
        if fields.is_pubkey(peer_id):
            self._guarded(lambda: self.hive.disconnected(str(peer_id)))

    def on_plugins_changed(self, payload: dict[str, Any]) -> None:
        """A plugin started or stopped: perhaps a sibling."""
        name = str(payload.get("plugin_name", ""))
        if not name or "hive" in name:
            self.context.siblings.wake()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        try:
            hive = self.hive
            problem = self.reach(hive)
            self.command(lambda hive: hive.tick(problem))
        except (UnavailableError, BusyError) as error:
            self._note(error.message)
        except NotReadyError:
            return
        else:
            self._note("")

    def _guarded(self, work: Callable[[], None]) -> None:
        # lightningd may be stopping: that is no defect of ours, and what is lost heals.
        try:
            work()
        except UnavailableError as error:
            self._note(error.message)

    def _note(self, problem: str) -> None:
        if problem and problem != self._problem:
            self.context.log.warning("%s", problem)
        self._problem = problem

    def _rebound(self, plugin: str, present: bool) -> None:
        self.context.log.info("%s is %s: mode %s", plugin, "here" if present else "gone", self.mode)
        if self._hive is not None:
            with contextlib.suppress(BusyError, NotReadyError):  # it looks once a minute anyway
                self.enqueue(lambda hive: hive.look_soon())
        self.wake()
