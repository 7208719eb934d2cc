"""The node: everything that one lightningd process holds together."""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .chain import Chain
from .channels import Channels
from .commands import CommandTable
from .database import Database
from .datastore import Datastore
from .faults import Faults
from .forwards import Forwards
from .gossip import Graph
from .htlcs import Htlcs
from .invoices import Invoices
from .keys import NodeKeys
from .log import LogBook
from .offers import Offers
from .options import OptionTable
from .payments import Payments
from .peers import Peers
from .plugins.hooks import Hooks
from .plugins.manager import Plugins
from .plugins.topics import Topics
from .releases import Release
from .rpc import RpcServer
from .wallet import Wallet

if TYPE_CHECKING:
    from .runes import Runes


class Node:
    """One running lightningd. `startup` fills it step by step; commands read and change it."""

    database: Database
    keys: NodeKeys
    pid_file: Path
    pid_descriptor: int

    def __init__(self, release: Release, lightning_dir: Path, network: str) -> None:
        self.release = release
        self.network = network
        self.lightning_dir = lightning_dir
        self.network_dir = lightning_dir / network
        self.log = LogBook(release.log_bytes_max)
        self.options = OptionTable()
        self.faults = Faults()
        self.plugins = Plugins(self)
        self.topics = Topics(self)
        self.hooks = Hooks(self)
        self.commands = CommandTable(self, release.version)
        self.rpc = RpcServer(self)
        self.chain = Chain(self)
        self.peers = Peers(self)
        self.graph = Graph(self)
        self.channels = Channels(self)
        self.forwards = Forwards(self)
        self.htlcs = Htlcs(self)
        self.wallet = Wallet(self)
        self.invoices = Invoices(self)
        self.offers = Offers(self)
        self.payments = Payments(self)
        self.datastore = Datastore(self)
        self.stopping = False
        # Told to be `graceful`: no idle channel is used any more until the next start.
        self.graceful = False
        self.started_at = time.time()
        self.exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Future[Any]] = set()

    def load_state(self) -> None:
        """Take up what the database remembers."""
        self.chain.load()
        self.channels.load()
        self.forwards.load()
        self.htlcs.load()

    def begin(self) -> None:
        """Do what waits for the node to be up: announce the channels and call the peers."""
        self.channels.announce_all()
        for peer in list(self.peers.by_id.values()):
            self.peers.keep_trying(peer)

    @functools.cached_property
    def runes(self) -> Runes:
        """The runes; made at first use, because most nodes never need them."""
        from .runes import Runes

        return Runes(self)

    def apply_fault(self, name: str, parameters: dict[str, Any]) -> None:
        """Do the faults that happen once, when they are set."""
        if name == "log-broken":
            source = str(parameters.get("source", "lightningd"))
            self.log.broken(source, str(parameters.get("message", "sandbox-fault log-broken")))
        elif name == "disconnect-peers":
            for peer in self.peers.connected():
                self.peers.disconnect(peer)
        elif name == "drop-channel":
            self.channels.drop_named(parameters.get("channel"))
        elif name == "htlc-expiring":
            self.channels.add_stuck_htlc(int(parameters.get("blocks", 10)))
            if "seconds" in parameters:
                self.spawn(self._settle(float(parameters["seconds"])))
        elif name == "clear":
            self.channels.remove_stuck_htlcs()
            for peer in list(self.peers.by_id.values()):
                self.peers.keep_trying(peer)

    async def _settle(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.channels.remove_stuck_htlcs()

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Hold a task until it ends; what it fails with is logged as a broken line, as a bug of the fake."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside the others."""
        self.keep(asyncio.create_task(work))

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.log.broken("lightningd", f"the fake failed: {type(failure).__name__}: {failure}")

    def exit(self, code: int) -> None:
        """End the process with this code as soon as what is under way is written."""
        if not self.exit_code.done():
            self.exit_code.set_result(code)

    def crash(self, function: str) -> NoReturn:
        """Die as lightningd dies of a null pointer: a trace on stderr, crash.log, SIGSEGV."""
        self._die(signal.SIGSEGV, f"lightningd: FATAL SIGNAL 11 (version {self.release.version})\n\t{function}")

    def crash_on_orphans(self) -> None:
        """Die when an option is configured whose plugin is not loaded.

        That is what setconfig and `plugin start` by object do to every lightningd up to v26.06.6.
        """
        if self.options.orphans():
            self.crash("configvar_finalize_overrides")

    def abort(self, message: str) -> NoReturn:
        """Die as lightningd dies of a failed assertion."""
        self._die(signal.SIGABRT, f"{message}\nlightningd: FATAL SIGNAL 6 (version {self.release.version})")

    def die(self) -> NoReturn:
        """Die at once without a word, as by `kill -9`."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit(137)

    def _die(self, number: signal.Signals, text: str) -> NoReturn:
        print(text, file=sys.stderr, flush=True)  # noqa: T201
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime())
        (self.network_dir / f"crash.log.{stamp}").write_text(text + "\n", encoding="utf-8")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        raise SystemExit(128 + number)
