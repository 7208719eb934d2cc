"""The entry of a plugin: speaks lightningd's plugin protocol through pyln. The only module that knows pyln.

    from hive_kit.plugin import run
    from cl_hive_comms.spec import SPEC

    def main() -> None:
        run(SPEC)

The manifest is answered before anything heavy is imported, every method runs in a pool, and a failed init disables the
plugin with its reason instead of leaving it half alive.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import json
import logging
import os
import signal
import sys
import tempfile
import types
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hive_kit.app import PluginSpec
from hive_kit.errors import HiveError
from hive_kit.manifest import SHUTDOWN, describe
from hive_kit.runtime import Runtime

if TYPE_CHECKING:
    from pyln.client.plugin import Plugin, Request

_INIT_SECONDS = 90.0  # lightningd kills a plugin after 120 s, and at its own start-up exits with it
_ADOPTION = ("--hive-adopt", "--hive-carry-back", "--hive-hand-over")
_LEVELS = ((logging.ERROR, "broken"), (logging.WARNING, "unusual"), (logging.INFO, "info"), (0, "debug"))


def run(spec: PluginSpec[Any], argv: Sequence[str] | None = None) -> NoReturn:
    """Be the plugin until lightningd ends it.

    Args:
        spec: its declaration.
        argv: arguments after the program name; `--hive-manifest` and `--hive-selfcheck` print JSON and exit, as do
            `--hive-adopt`, `--hive-carry-back` and `--hive-hand-over`, which read JSON from stdin.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--hive-manifest" in arguments:
        _print(describe(spec))
        sys.exit(0)
    if "--hive-selfcheck" in arguments:
        _print(_selfcheck(spec))
        sys.exit(0)
    if flag := next((flag for flag in arguments if flag in _ADOPTION), ""):
        from hive_kit.adoption_run import run as adopt

        sys.exit(adopt(spec, flag))
    if os.environ.get("LIGHTNINGD_PLUGIN") != "1":
        sys.stdout.write(
            f"{spec.name} {spec.version} is a plugin of Core Lightning: lightning-cli plugin start {sys.argv[0]}\n"
        )
        sys.exit(2)
    _serve(Runtime(spec))


def _serve(runtime: Runtime[Any]) -> NoReturn:
    plugin = _build(runtime)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    code = 1
    try:
        with contextlib.suppress(_Stop, BrokenPipeError):
            plugin.run()  # returns when lightningd closes our stdin
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # already leaving: the database is closed in peace
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        runtime.stop()
        code = 0
    finally:
        if code:
            logging.getLogger(runtime.spec.name).error("ended by a defect", exc_info=True)
        os._exit(code)  # work that ignores its deadline must not keep the process alive


class _Stop(BaseException):
    """Unwinds the thread that waits for lightningd."""


def _leave(*_: Any) -> NoReturn:
    raise _Stop


def _build(runtime: Runtime[Any]) -> Plugin:
    """A pyln plugin that hands everything to the runtime."""
    _pyln_without_gossip_map()
    from pyln.client.plugin import Method, MethodType, Plugin

    spec = runtime.spec

    class HivePlugin(Plugin):  # type: ignore[misc]
        """Binds no parameters itself: names such as `request` and `plugin` belong to our callers."""

        def _dispatch_request(self, request: Request) -> None:
            if request.method in runtime.methods:
                runtime.call(request.method, request.params, partial(self._reply, request.id))
            elif request.method in hooks:
                runtime.ask(request.method, request.params, request.set_result)
            elif request.method == "setconfig":
                self._set_option(request)
            else:
                super()._dispatch_request(request)

        def _set_option(self, request: Request) -> None:
            try:
                runtime.set_option(str(request.params["config"]), request.params.get("val"))
            except HiveError as error:
                self._reply(request.id, None, error)
            else:
                self._reply(request.id, {}, None)

        def _reply(self, identity: Any, result: dict[str, Any] | None, error: HiveError | None) -> None:
            answer: dict[str, Any] = {"jsonrpc": "2.0", "id": identity}
            if error is None:
                answer["result"] = result
            else:
                answer["error"] = {"code": error.code, "message": error.message}
                if error.data:
                    answer["error"]["data"] = error.data
            self._write_locked(answer)

        def _dispatch_notification(self, request: Request) -> None:
            if request.method == SHUTDOWN:
                raise _Stop
            payload = request.params.get(request.method, request.params)
            runtime.notify(request.method, payload if isinstance(payload, dict) else {"payload": payload})

    class HiveMethod(Method):  # type: ignore[misc]
        """Its usage comes from the parameter model."""

        def __init__(self, name: str, usage: str, description: str) -> None:
            super().__init__(name, _unused, MethodType.RPCMETHOD, None, description)
            self._usage = usage

        def get_usage(self) -> str:
            return self._usage

    plugin = HivePlugin(dynamic=True)
    _log_to(plugin)
    hooks = {hook.name for hook in spec.hooks}
    for method in runtime.methods.values():
        plugin.methods[method.name] = HiveMethod(method.name, method.usage, method.description)
    for hook in spec.hooks:
        plugin.add_hook(hook.name, _unused)
    for topic in (SHUTDOWN, *(subscription.topic for subscription in spec.subscriptions)):
        plugin.add_subscription(topic, _unused)

    for option in spec.options:
        plugin.add_option(
            option.name,
            option.wire_default,
            option.description,
            option.wire_type,
            dynamic=option.dynamic,
        )

    def init(options: dict[str, Any], configuration: dict[str, Any], **_: Any) -> dict[str, Any] | None:
        return _init(runtime, options, configuration)

    plugin.child_init = init
    original = plugin.methods["init"].func

    def init_then_go(request: Request, **params: Any) -> Any:
        result = original(request=request, **params)
        if runtime.app is not None:
            runtime.go()
        return result

    plugin.methods["init"].func = init_then_go
    return plugin


def _init(runtime: Runtime[Any], options: dict[str, Any], configuration: dict[str, Any]) -> dict[str, Any] | None:
    network_dir = Path(configuration["lightning-dir"])
    network, startup = str(configuration.get("network", "")), bool(configuration.get("startup", False))
    pool = ThreadPoolExecutor(1, thread_name_prefix="init")
    future = pool.submit(runtime.start, options, network_dir, network, startup)
    pool.shutdown(wait=False)
    try:
        error = future.exception(_INIT_SECONDS)
    except TimeoutError:
        return {"disable": f"init did not end within {_INIT_SECONDS:g} s; look for a busy disk or a huge database"}
    if error is None:
        return None
    if isinstance(error, HiveError):
        return {"disable": error.message}
    logging.getLogger(runtime.spec.name).error("init failed", exc_info=error)
    return {"disable": f"init failed inside the plugin ({type(error).__name__}: {error}); the log has the details"}


def _unused(**_: Any) -> None:
    """pyln wants a function for everything it registers; dispatch never reaches it."""


def _log_to(plugin: Plugin) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = next(name for number, name in _LEVELS if record.levelno >= number)
            with contextlib.suppress(BrokenPipeError):  # lightningd is gone: nobody is left to read it
                plugin.log(self.format(record), level)

    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)  # pyln's own calls a warning "info"
    handler = Handler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _pyln_without_gossip_map() -> None:
    """Let `pyln.client.plugin` be imported without what `pyln.client` imports beside it.

    The package's __init__ loads the gossip map and with it bolt7, bitstring and cryptography: 130 ms of 180 and 17 MB
    of 34 per plugin, none of which we use. An empty package with the same path leaves the modules as they are.
    """
    if "pyln.client" in sys.modules:
        return
    parent = importlib.util.find_spec("pyln")
    for place in (parent.submodule_search_locations or ()) if parent is not None else ():
        directory = Path(place) / "client"
        if (directory / "plugin.py").is_file():
            package = types.ModuleType("pyln.client")
            package.__path__ = [str(directory)]
            package.__spec__ = importlib.machinery.ModuleSpec("pyln.client", None, is_package=True)
            sys.modules["pyln.client"] = package
            return


def _selfcheck(spec: PluginSpec[Any]) -> dict[str, Any]:
    """Load what loads late and make the schema once: proves an artifact on the machine that will run it."""
    from hive_kit.keys import SchnorrKey, verify
    from hive_kit.sealed import Seal
    from hive_kit.store import Store

    _build(Runtime(spec))
    digest = bytes(32)
    key = SchnorrKey.generate()
    with tempfile.TemporaryDirectory(prefix="hive-selfcheck-") as directory:
        seal = Seal.create(Path(directory) / "key")
        opened = seal.unseal(seal.seal("text")) == "text"
        with Store.open(Path(directory) / spec.database, spec.name, spec.migrations, spec.version) as store:
            schema = store.schema_version
    return {
        "name": spec.name,
        "version": spec.version,
        "python": sys.version.split()[0],
        "schema_version": schema,
        "ok": opened and verify(key.public_hex, digest, key.sign(digest)),
    }


def _print(document: dict[str, Any]) -> None:
    sys.__stdout__.write(json.dumps(document, indent=1, sort_keys=True) + "\n")  # type: ignore[union-attr]
