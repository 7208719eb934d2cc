"""All plugins of the node: starting them together and one by one, stopping them, losing them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import (
    INVALID_PARAMS,
    PLUGIN_ERROR,
    PluginFailedError,
    RpcError,
    StartError,
)
from ..jsontext import Message, dumps
from ..log import level_of_plugin
from .configuration import init_options, pluginstart_lines
from .manifest import TOPICS, Manifest, read_manifest
from .process import Plugin, State, environment

if TYPE_CHECKING:
    from ..node import Node


async def _all(tasks: list[asyncio.Task[None]]) -> bool:
    await asyncio.gather(*tasks)
    return True


FATAL = "Can't recover from plugin failure, terminating."


class Plugins:
    """The plugins in the order in which they were registered, which is also the order of `plugin list`."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.all: list[Plugin] = []
        self.disabled: set[str] = set()
        self.starting_up = True
        # Set when a plugin that was started too early makes lightningd stop waiting for the inits of the others.
        self.init_wait_broken = asyncio.Event()
        self._no_manifest_pending = asyncio.Event()
        self._no_manifest_pending.set()
        self._counter = 0

    # -- looking at them --------------------------------------------------------------------------------------

    def listing(self) -> list[dict[str, Any]]:
        """Return the plugins as `plugin list` shows them."""
        return [
            {"name": plugin.path, "active": plugin.state is State.ACTIVE, "dynamic": plugin.dynamic}
            for plugin in self.all
        ]

    def find(self, name: str) -> Plugin | None:
        """Return the first plugin with this resolved path or this basename."""
        resolved = os.path.realpath(name) if "/" in name else name
        return next((p for p in self.all if resolved in (p.path, p.name) or name == p.path), None)

    def method_owner(self, method: str) -> Plugin | None:
        """Return the plugin that has registered an RPC method."""
        return next((p for p in self.all if p.manifest and any(m.name == method for m in p.manifest.methods)), None)

    # -- registering ------------------------------------------------------------------------------------------

    def register(self, path: str, *, important: bool = False) -> Plugin | None:
        """Note a plugin of the configuration; None when disable-plugin forbids it.

        Raises:
            OSError: as `add` says.
        """
        if "/" in path and (self.is_disabled(path) or self.is_disabled(os.path.realpath(path))):
            self.node.log.info("plugin-manager", f"{path}: disabled via disable-plugin")
            return None
        return self.add(path, important=important)

    def add(self, path: str, *, important: bool = False) -> Plugin:
        """Note a plugin to be started. What starts one by RPC does not look at disable-plugin.

        Raises:
            OSError: EINVAL when it is registered already, ENOENT when there is no such file.
        """
        resolved = os.path.realpath(path, strict=True) if "/" in path else os.path.realpath(path)
        if "/" not in path:
            raise FileNotFoundError(2, os.strerror(2))
        if any(plugin.path == resolved for plugin in self.all):
            raise OSError(22, os.strerror(22))
        plugin = Plugin(resolved, important=important)
        self.all.append(plugin)
        return plugin

    def is_disabled(self, path: str) -> bool:
        """Whether disable-plugin names this path or its basename."""
        return path in self.disabled or Path(path).name in self.disabled

    # -- starting the node ------------------------------------------------------------------------------------

    async def start_all(self) -> None:
        """Start every registered plugin and wait for the manifests. A plugin that fails is dropped.

        Raises:
            StartError: one cannot be executed, does not answer in time, or takes the name of an existing option.
        """
        plugins = [plugin for plugin in self.all if not plugin.built_in]
        for plugin in plugins:
            try:
                await self._spawn(plugin)
            except OSError as error:
                raise StartError(f"error starting plugin '{plugin.path}': opening pipe: {error.strerror}") from None
        await asyncio.gather(*(self._manifest_at_start(plugin) for plugin in plugins))

    async def _manifest_at_start(self, plugin: Plugin) -> None:
        try:
            await self._get_manifest(plugin, "")
        except PluginFailedError as failure:
            self._check_fatal(plugin, failure)
            self._drop(plugin, failure)
        except TimeoutError:
            self._drop(plugin, PluginFailedError("timed out before replying to getmanifest"))
            raise StartError(FATAL) from None

    def _check_fatal(self, plugin: Plugin, failure: PluginFailedError) -> None:
        """Raise StartError for what lightningd does not survive while it starts."""
        if failure.reason.startswith("Option ") and failure.reason.endswith(" already registered"):
            name = failure.reason.split('"')[1]
            raise StartError(f"error starting plugin '{plugin.path}': option name '{name}' is already taken")
        if plugin.important and failure.reason.startswith("exited before"):
            self._drop(plugin, failure)
            self.node.log.broken(plugin.source, "Plugin marked as important, shutting down lightningd!")
            if self.node.release.aborts_without_important_plugin:
                self.node.abort("lightningd: plugins_init: Assertion `ret == plugins' failed.")
            raise StartError("Could not initialize the plugins, see above for details.")

    async def init_all(self) -> None:
        """Send init to all plugins and wait for the answers, unless an early `plugin start` breaks the wait.

        Raises:
            StartError: a plugin does not answer in time.
        """
        waiting = [plugin for plugin in self.all if plugin.state is State.NEEDS_INIT]
        inits = [asyncio.create_task(self._init_at_start(plugin)) for plugin in waiting]
        everything = asyncio.create_task(_all(inits))
        broken = asyncio.create_task(self.init_wait_broken.wait())
        await asyncio.wait((everything, broken), return_when=asyncio.FIRST_COMPLETED)
        self.starting_up = False
        if everything.done():
            broken.cancel()
            await everything
        else:
            self.node.keep(everything)

    async def _init_at_start(self, plugin: Plugin) -> None:
        try:
            await self._init(plugin)
        except PluginFailedError as failure:
            self._drop(plugin, failure)
        except TimeoutError:
            self._drop(plugin, PluginFailedError("timed out before replying to init"))
            raise StartError(FATAL) from None

    # -- plugin start, plugin stop ----------------------------------------------------------------------------

    async def start(self, path: str, options: dict[str, Any] | None, client_id: str) -> None:
        """Start one plugin while the node runs and wait until it is active.

        Args:
            path: of the plugin, already made absolute.
            options: members of the request beside `subcommand` and `plugin`; None when it was a list.
            client_id: id of the request, which becomes part of the id of getmanifest.

        Raises:
            RpcError: as lightningd answers.
        """
        if not os.access(path, os.X_OK):
            strerror = os.strerror(13 if Path(path).exists() else 2)
            raise RpcError(INVALID_PARAMS, f"{path} is not executable: {strerror}")
        try:
            plugin = self.add(path)
        except OSError as error:
            raise RpcError(INVALID_PARAMS, f"{path}: {error.strerror}") from None
        plugin.started_by_rpc = True
        try:
            await self._spawn(plugin)
        except OSError as error:
            self.all.remove(plugin)
            raise RpcError(PLUGIN_ERROR, f"{plugin.path}: opening pipe: {error.strerror}") from None
        try:
            await self._get_manifest(plugin, client_id)
            if plugin.manifest is not None and not plugin.dynamic:
                raise PluginFailedError("Not a dynamic plugin", "info")
            await self._no_manifest_pending.wait()
            if self.starting_up:
                # What the real one does here: it never sends init, never answers, and stops waiting for others.
                self.init_wait_broken.set()
                await asyncio.Event().wait()
            if options is not None:
                self.node.options.started += pluginstart_lines(plugin.path, self.node.options, options)
                self.node.crash_on_orphans()
            await self._init(plugin)
        except TimeoutError:
            step = "getmanifest" if plugin.manifest is None else "init"
            failure = PluginFailedError(f"timed out before replying to {step}")
            self._drop(plugin, failure)
            raise RpcError(PLUGIN_ERROR, f"{plugin.path}: {failure.reason}") from None
        except PluginFailedError as failure:
            self._drop(plugin, failure)
            raise RpcError(PLUGIN_ERROR, f"{plugin.path}: {failure.reason}") from None

    async def stop(self, name: str) -> Plugin:
        """Stop a plugin by path or basename: SIGKILL at once, or 30 s after `shutdown` if it subscribed to that.

        Raises:
            RpcError: no such plugin, or not a dynamic one.
        """
        plugin = self.find(name)
        if plugin is None:
            raise RpcError(INVALID_PARAMS, f"Could not find plugin {name}")
        if not plugin.dynamic:
            raise RpcError(INVALID_PARAMS, f"{name} cannot be managed when lightningd is up")
        plugin.stopping = True
        if self.node.topics.subscribed(plugin, "shutdown"):
            self.node.topics.send(plugin, "shutdown", {})
            try:
                async with asyncio.timeout(self.node.faults.shutdown_timeout):
                    await plugin.gone.wait()
            except TimeoutError:
                self.node.log.unusual(plugin.source, "Timeout on shutdown: killing anyway")
        if plugin.state is not State.DEAD:
            self._drop(plugin, PluginFailedError("stopped by lightningd via RPC", "info"))
        return plugin

    # -- the steps of one plugin ------------------------------------------------------------------------------

    async def _spawn(self, plugin: Plugin) -> None:
        node = self.node
        pid = await plugin.spawn(environment(node.release.version), node.network_dir, self._on_message, self._on_end)
        node.log.debug("plugin-manager", f"started({pid}) {plugin.path}")

    async def _get_manifest(self, plugin: Plugin, client_id: str) -> None:
        plugin.state = State.AWAITING_MANIFEST
        self._note_pending()
        try:
            params = {"allow-deprecated-apis": self.node.options.value("allow-deprecated-apis")}
            reply = await self._ask_in_time(plugin, "getmanifest", params, client_id)
            if "result" not in reply.value:
                if plugin.broke_off:
                    raise PluginFailedError(plugin.broke_off, "")
                if plugin.gone.is_set():
                    self.node.log.info(plugin.source, "Killing plugin: exited before replying to getmanifest")
                    self.node.log.unusual(
                        plugin.source, f"Killing plugin: Invalid/missing result tok in '{reply.text}'"
                    )
                    raise PluginFailedError("exited before replying to getmanifest", "")
                raise PluginFailedError(f"Invalid/missing result tok in '{reply.text}'")
            manifest = read_manifest(reply.value["result"], plugin.path)
            self._admit(plugin, manifest)
            plugin.state = State.NEEDS_INIT
        finally:
            if plugin.state is State.AWAITING_MANIFEST:
                plugin.state = State.DEAD
            self._note_pending()

    def _note_pending(self) -> None:
        if any(plugin.state is State.AWAITING_MANIFEST for plugin in self.all):
            self._no_manifest_pending.clear()
        else:
            self._no_manifest_pending.set()

    def _admit(self, plugin: Plugin, manifest: Manifest) -> None:
        """Give the plugin its options, methods, hooks and subscriptions, or say why not."""
        node = self.node
        for option in manifest.options:
            if option.name in node.options.options:
                raise PluginFailedError(f'Option "{option.name}" already registered')
        for method in manifest.methods:
            if node.commands.is_core(method.name):
                node.crash("plugin_rpcmethod_add")
            owner = node.commands.owner_path(method.name)
            if owner is not None:
                raise PluginFailedError(
                    f'Could not register method "{method.name}", a method with that name is already registered '
                    f"by plugin {owner}"
                )
        for topic in manifest.subscriptions:
            if topic not in TOPICS and not self._is_emitted(topic):
                node.log.unusual(plugin.source, f"topic '{topic}' is not a known notification topic")
        plugin.dynamic = manifest.dynamic
        plugin.manifest = manifest
        node.options.register(manifest.options)

    def _is_emitted(self, topic: str) -> bool:
        return any(topic in plugin.manifest.notifications for plugin in self.all if plugin.manifest)

    async def _init(self, plugin: Plugin) -> None:
        node = self.node
        manifest = plugin.manifest
        if manifest is None:
            raise PluginFailedError("exited before we sent init")
        plugin.state = State.AWAITING_INIT
        configuration = {
            "lightning-dir": str(node.network_dir),
            "rpc-file": node.options.value("rpc-file"),
            "startup": not plugin.started_by_rpc,
            "network": node.network,
            "feature_set": node.release.features,
        }
        params = {"options": init_options(manifest.options, node.options), "configuration": configuration}
        reply = await self._ask_in_time(plugin, "init", params, "")
        if plugin.broke_off:
            raise PluginFailedError(plugin.broke_off, "")
        if plugin.gone.is_set():
            raise PluginFailedError("exited before replying to init", "info")
        result = reply.value.get("result")
        if isinstance(result, dict) and "disable" in result:
            raise PluginFailedError(f"disabled itself at init: {result['disable']}", "debug")
        plugin.state = State.ACTIVE
        self._tell("plugin_started", plugin, manifest)

    async def _ask_in_time(self, plugin: Plugin, method: str, params: Any, client_id: str) -> Message:
        async with asyncio.timeout(self.node.faults.plugin_timeout):
            return await self.ask(plugin, method, dumps(params), client_id)

    # -- talking ----------------------------------------------------------------------------------------------

    def next_id(self, method: str, client_id: str = "") -> str:
        """Return a fresh id for a request to a plugin: `cln:init#42`, or `1/cln:rpc_command#45` for a client's."""
        self._counter += 1
        prefix = f"{client_id}/" if client_id else ""
        return f"{prefix}cln:{method}#{self._counter}"

    async def ask(self, plugin: Plugin, method: str, params: str, client_id: str = "") -> Message:
        """Send a request and return the whole reply; a plugin that dies meanwhile gives an error reply."""
        identifier = self.next_id(method, client_id)
        text = f'{{"jsonrpc":"2.0","id":{dumps(identifier)},"method":{dumps(method)},"params":{params}}}'
        return await self.ask_verbatim(plugin, identifier, text)

    async def ask_verbatim(self, plugin: Plugin, identifier: str, text: str) -> Message:
        """Send the request `text`, whose id is `identifier`, and return the whole reply."""
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def answered(message: Message) -> None:
            if not answer.done():
                answer.set_result(message)

        plugin.ask(identifier, text, answered)
        return await answer

    def _on_message(self, plugin: Plugin, message: Message) -> None:
        value = message.value
        if not isinstance(value, dict) or "jsonrpc" not in value:
            reason = f"JSON-RPC message does not contain \"jsonrpc\" field: '{message.text}\n\n'"
            self._fail_whatever_waits(plugin, reason)
            return
        if "id" in value:
            answered = plugin.waiting.pop(str(value["id"]), None)
            if answered is None:
                self.node.log.debug(plugin.source, f"JSON reply with unknown id '{message.text}'")
            else:
                answered(message)
            return
        self._on_notification(plugin, str(value.get("method")), value.get("params"), message)

    def _on_notification(self, plugin: Plugin, method: str, params: Any, message: Message) -> None:
        if method == "log" and isinstance(params, dict):
            level = level_of_plugin(str(params.get("level", "info")))
            if level is None:
                self._fail_whatever_waits(plugin, f"Unknown log-level {params.get('level')}")
                return
            for line in str(params.get("message", "")).split("\n"):
                self.node.log.add(level, plugin.source, line)
        elif method in ("message", "progress") and isinstance(params, dict):
            self.node.rpc.relay_notification(str(params.get("id")), message)
        elif plugin.manifest and method in plugin.manifest.notifications:
            self.node.topics.publish_custom(plugin, method, params)
        else:
            self.node.log.unusual(plugin.source, f"Sent an unknown notification: {method}")

    def _fail_whatever_waits(self, plugin: Plugin, reason: str) -> None:
        """Kill a plugin for what it said; a pending `plugin start` gets the reason."""
        plugin.broke_off = reason
        self.node.log.unusual(plugin.source, f"Killing plugin: {reason}")
        self._remove(plugin)

    # -- the end ----------------------------------------------------------------------------------------------

    def _on_end(self, plugin: Plugin, reason: str) -> None:
        """React to the end of the plugin's stdout, or of its sense: it is dead, whether it knows it or not."""
        if plugin.state is State.DEAD:
            return
        if reason:
            self._fail_whatever_waits(plugin, reason)
            return
        before = plugin.state
        self._remove(plugin)
        if before in (State.ACTIVE, State.REGISTERED):
            level = "debug" if self.node.stopping else "info"
            self.node.log.add(level, plugin.source, "Killing plugin: exited during normal operation")
        elif before is State.NEEDS_INIT:
            self.node.log.info(plugin.source, "Killing plugin: exited before we sent init")
        if plugin.important and before is State.ACTIVE and not plugin.stopping and not self.node.stopping:
            self.node.log.broken(plugin.source, "Plugin marked as important, shutting down lightningd!")
            self.node.exit(1)

    def _drop(self, plugin: Plugin, failure: PluginFailedError) -> None:
        if failure.level:
            self.node.log.add(failure.level, plugin.source, f"Killing plugin: {failure.reason}")
        self._remove(plugin)

    def _remove(self, plugin: Plugin) -> None:
        if plugin in self.all:
            self.all.remove(plugin)
        self.node.options.unregister(plugin.path)
        known = plugin.manifest is not None and plugin.state is not State.DEAD
        plugin.end()
        self._note_pending()
        if known and plugin.manifest is not None and not self.node.stopping:
            self._tell("plugin_stopped", plugin, plugin.manifest)

    def _tell(self, topic: str, plugin: Plugin, manifest: Manifest) -> None:
        methods = [method.name for method in manifest.methods]
        about = {"plugin_name": plugin.name, "plugin_path": plugin.path, "methods": methods}
        self.node.topics.publish(topic, about)

    async def shut_down(self, wait: Iterable[Plugin], done: Callable[[], None] | None = None) -> None:
        """Tell the subscribers of `shutdown` and wait for them; then let the others see the end of stdin."""
        subscribers = [plugin for plugin in wait if self.node.topics.subscribed(plugin, "shutdown")]
        for plugin in subscribers:
            self.node.topics.send(plugin, "shutdown", {})
        deadline = time.monotonic() + self.node.faults.shutdown_timeout
        for plugin in subscribers:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await plugin.gone.wait()
            except TimeoutError:
                self.node.log.debug("lightningd", f"{plugin.name}: failed to self-terminate in time, killing.")
        for plugin in self.all:
            plugin.close_input()
        if done is not None:
            done()
