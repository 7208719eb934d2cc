"""What a plugin is: a declaration (`PluginSpec`) readable without a start, and an application that runs.

Nothing here knows pyln or a running node: tests build a `Context` and start the application in-process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from hive_kit.adoption import Adopts
from hive_kit.errors import InvalidParamsError
from hive_kit.health import Check
from hive_kit.migrations import Migration
from hive_kit.node import Node
from hive_kit.options import Option, Options
from hive_kit.params import bind, usage
from hive_kit.restored import Restored
from hive_kit.siblings import Probe, Siblings
from hive_kit.store import Store
from hive_kit.workers import Workers

Json = dict[str, Any]
A = TypeVar("A", bound="Application")
P = TypeVar("P")


@dataclass
class Context:
    """Everything an application gets at its start.

    Args:
        name: of the plugin.
        version: of the release that runs.
        options: values of this plugin's options.
        store: its database, schema up to date.
        workers: its threads; periodic jobs begin after init.
        node: lightningd.
        siblings: the other plugins it cares for.
        network_dir: lightningd's directory of this network; databases and key files are there.
        network: bitcoin, testnet, signet or regtest.
        startup: lightningd itself starts (not `plugin start`).
        restored: the newest restore of the database, None when there was none.
        clock: unix time in seconds.
    """

    name: str
    version: Callable[[], str]
    options: Options
    store: Store
    workers: Workers
    node: Node
    siblings: Siblings
    network_dir: Path
    network: str
    startup: bool
    restored: Restored | None = None
    clock: Callable[[], float] = time.time

    @property
    def log(self) -> logging.Logger:
        """Goes to lightningd's log: debug, info, warning (unusual), error (broken)."""
        return logging.getLogger(self.name)

    def now(self) -> int:
        """Unix time in whole seconds."""
        return int(self.clock())


class Application:
    """Base of the three plugins. The constructor runs inside lightningd's init: load, register jobs; nothing slow."""

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    def mode(self) -> str:
        """How it runs now, for status and health; depends on the siblings that are present."""
        return "standalone"

    def checks(self) -> Sequence[Check]:
        """What health should know besides database and threads. Quick; no call to a sibling."""
        return ()

    def stop(self) -> None:
        """Let go of what the kit does not know of; the database is closed afterwards."""


class Method(Generic[A]):
    """One RPC method: a function of (application, parameters) that returns a JSON object or raises a HiveError."""

    def __init__(self, name: str, handler: Callable[[A, P], Json], params: type[P], description: str) -> None:
        """Args: name: as lightningd registers it. params: a model of hive_kit.params. description: one sentence."""
        self.name = name
        self.description = description
        self.params: type[Any] = params
        self._handler: Callable[[A, Any], Json] = handler

    @property
    def usage(self) -> str:
        """Parameters in order, optional ones in brackets."""
        return usage(self.params)

    def call(self, app: A, given: Any) -> Json:
        """Bind the parameters as they came in (list or object) and run.

        Raises:
            HiveError: with the code and sentence for the caller.
        """
        if not isinstance(given, Mapping | list | tuple):
            raise InvalidParamsError("parameters must be a list or an object")
        return self._handler(app, bind(self.params, given))


@dataclass(frozen=True)
class Subscription(Generic[A]):
    """A notification of lightningd. Handled one after the other, in order, off the pyln thread.

    Args:
        topic: for example "custommsg".
        handler: gets (application, payload); the payload is what stands under the topic's own name.
        admit: asked first, on the thread that reads from lightningd, so it must be instant: False drops the
            notification. For topics that a stranger can flood.
    """

    topic: str
    handler: Callable[[A, Json], None]
    admit: Callable[[A, Json], bool] | None = None


@dataclass(frozen=True)
class Hook(Generic[A]):
    """A question of lightningd that waits for an answer. Runs in the pool; failure or a full queue answers `fallback`.

    Args:
        name: for example "custommsg".
        handler: gets (application, payload) and returns the answer.
        fallback: the harmless answer.
    """

    name: str
    handler: Callable[[A, Json], Json]
    fallback: tuple[tuple[str, Any], ...] = (("result", "continue"),)


@dataclass(frozen=True)
class PluginSpec(Generic[A]):
    """The declaration of a plugin; the release manifest is made of it.

    Args:
        name: of plugin, distribution and command, for example "cl-hive-comms".
        start_order: smaller starts first.
        application: called with the context inside init; raising a HiveError disables the plugin with that sentence.
        options: all of them, among them `database_option`.
        methods: all RPC methods except health, which the kit adds.
        migrations: the schema, 1..n.
        database: file name in the network directory.
        database_option: option (kind path) that can place the file elsewhere.
        health_rpc: name of the health method.
        key_files: files beside the database that a backup must hold.
        requires, conflicts: plugins that must, or must not, run on the same node.
        probes: siblings to watch.
        cln: oldest lightningd.
        adopts: what it takes over from the monolith's database; None for nothing.
    """

    name: str
    start_order: int
    application: Callable[[Context], A]
    options: tuple[Option, ...]
    methods: tuple[Method[A], ...]
    migrations: tuple[Migration, ...]
    database: str
    database_option: str
    health_rpc: str
    key_files: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()
    hooks: tuple[Hook[A], ...] = ()
    subscriptions: tuple[Subscription[A], ...] = ()
    cln: str = "v25.02"
    adopts: Adopts | None = None

    @cached_property
    def version(self) -> str:
        """Release version, from the installed distribution: the one place it is written."""
        from importlib.metadata import version  # 20 ms to load; lightningd's own manifest does not need it

        return version(self.name)

    @property
    def readable_by(self) -> str:
        """Oldest release that runs on the newest schema."""
        return self.migrations[-1].readable_by

    def method(self, name: str) -> Method[A]:
        """The declared method of that name.

        Raises:
            KeyError: there is none.
        """
        return {method.name: method for method in self.methods}[name]
