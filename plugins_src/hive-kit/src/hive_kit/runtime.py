"""A running plugin without any knowledge of pyln: start, dispatch, stop. `hive_kit.plugin` connects it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic

from hive_kit.app import A, Context, Hook, Json, Method, PluginSpec
from hive_kit.errors import HiveError, InternalError, NotReadyError
from hive_kit.health import Health
from hive_kit.node import Node, RpcError, SocketNode
from hive_kit.options import Options
from hive_kit.params import NoParams
from hive_kit.restored import read_note
from hive_kit.siblings import Siblings
from hive_kit.store import Store
from hive_kit.workers import Workers

_LOG = logging.getLogger("hive_kit.runtime")
Reply = Callable[[Json | None, HiveError | None], None]


class Runtime(Generic[A]):
    """One plugin: not started, running, stopped."""

    def __init__(self, spec: PluginSpec[A]) -> None:
        self.spec = spec
        self.methods: dict[str, Method[A]] = {method.name: method for method in spec.methods}
        health = Method[A](spec.health_rpc, Health(time.monotonic()).answer, NoParams, "Tell whether the plugin works")
        self.methods[spec.health_rpc] = health
        self._hooks: dict[str, Hook[A]] = {hook.name: hook for hook in spec.hooks}
        self._subscriptions = {subscription.topic: subscription for subscription in spec.subscriptions}
        self.app: A | None = None
        self._context: Context | None = None

    def start(
        self, options: Mapping[str, Any], network_dir: Path, network: str, startup: bool, node: Node | None = None
    ) -> A:
        """Open the database, make the application. Periodic jobs wait for `go()`.

        Args:
            options: raw values, as init gives them.
            network_dir: lightningd's directory of the network.
            node: lightningd; None takes the socket in the network directory.

        Raises:
            HiveError: why this plugin cannot run; nothing is left open.
        """
        spec = self.spec
        parsed = Options(spec.options, options, network_dir)
        node = node or SocketNode(network_dir / "lightning-rpc", spec.name)
        store = Store.open(parsed.path(spec.database_option), spec.name, spec.migrations, lambda: spec.version)
        workers = Workers(spec.name)
        started = False
        try:
            context = Context(
                name=spec.name,
                version=lambda: spec.version,
                options=parsed,
                store=store,
                workers=workers,
                node=node,
                siblings=Siblings(node, spec.probes),
                network_dir=network_dir,
                network=network,
                startup=startup,
                restored=read_note(store.path),
            )
            self.app = spec.application(context)
            self._context = context
            started = True
        finally:
            if not started:
                workers.stop(0.5)
                store.close()
        return self.app

    def go(self) -> None:
        """Init has been answered: watch the siblings, run the periodic jobs."""
        if self._context is not None:
            self._context.siblings.watch(self._context.workers)
            self._context.workers.start()

    def call(self, method: str, params: Any, reply: Reply) -> None:
        """Run an RPC method in the pool. `reply(result, error)` is called exactly once, on any thread."""
        app, context = self.app, self._context
        if app is None or context is None:
            reply(None, NotReadyError(f"{self.spec.name} is not running; look at its log"))
            return

        def done(future: Future[Json]) -> None:
            reply(*_outcome(method, future))

        try:
            future = context.workers.calls.submit(lambda: self.methods[method].call(app, params))
        except HiveError as error:
            reply(None, error)
            return
        future.add_done_callback(done)

    def ask(self, hook: str, payload: Json, answer: Callable[[Json], None]) -> None:
        """Run a hook in the pool. `answer` is called exactly once, with the fallback when the hook fails."""
        app, context = self.app, self._context
        declared = self._hooks[hook]

        def done(future: Future[Json]) -> None:
            result, error = _outcome(hook, future)
            answer(dict(declared.fallback) if error is not None or result is None else result)

        if app is None or context is None:
            answer(dict(declared.fallback))
            return
        try:
            future = context.workers.calls.submit(lambda: declared.handler(app, payload))
        except HiveError:
            answer(dict(declared.fallback))
            return
        future.add_done_callback(done)

    def notify(self, topic: str, payload: Json) -> None:
        """Queue a notification for its handler; notifications are handled in order."""
        app, context, subscription = self.app, self._context, self._subscriptions.get(topic)
        if app is None or context is None or subscription is None:
            return
        if subscription.admit is not None and not subscription.admit(app, payload):
            return
        try:
            future = context.workers.events.submit(lambda: subscription.handler(app, payload))
        except HiveError:
            return  # counted by the pool: health shows it as events_dropped
        future.add_done_callback(lambda done: _log_failure(topic, done))

    def set_option(self, name: str, value: Any) -> None:
        """`setconfig` of a dynamic option.

        Raises:
            HiveError: the value is refused; the old one stays.
        """
        if self._context is None:
            raise NotReadyError(f"{self.spec.name} is not running; look at its log")
        self._context.options.set(name, value)

    def stop(self, timeout: float = 5.0) -> None:
        """Stop the threads, then checkpoint and close the database. Safe to call twice."""
        app, context = self.app, self._context
        self.app = self._context = None
        if context is None:
            return
        if not context.workers.stop(timeout):
            _LOG.warning("some work did not end within %g s", timeout)
        try:
            if app is not None:
                app.stop()
        finally:
            context.store.close()


def _outcome(name: str, future: Future[Json]) -> tuple[Json | None, HiveError | None]:
    if future.cancelled():
        return None, NotReadyError("the plugin is stopping")
    error = future.exception()
    if error is None:
        return future.result(), None
    if isinstance(error, HiveError):
        return None, error
    _LOG.error("%s failed", name, exc_info=error)
    if isinstance(error, RpcError):
        return None, InternalError(f"{name}: lightningd refused {error.method}: {error.message}")
    return None, InternalError(f"{name} failed inside the plugin ({type(error).__name__}); the log has the details")


def _log_failure(topic: str, future: Future[None]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None:
        _LOG.error("handling %s failed", topic, exc_info=error)
