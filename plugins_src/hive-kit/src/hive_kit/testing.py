"""Tools for tests of plugins: a lightningd of prepared answers, a plugin in-process, a plugin on real pipes."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hive_kit.app import A, Json, PluginSpec
from hive_kit.node import UNKNOWN_METHOD, RpcError
from hive_kit.runtime import Runtime

NODE_ID = "02" + "ab" * 32


class FakeNode:
    """A lightningd of prepared answers. Answers are objects, functions of the parameters, or exceptions."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers: dict[str, Any] = {"getinfo": {"id": NODE_ID, "network": "regtest", "blockheight": 100}}
        self.answers.update(answers or {})
        self.calls: list[tuple[str, Json]] = []

    def call(self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 30.0) -> Json:
        """See `hive_kit.node.Node.call`; unknown methods give the error lightningd gives."""
        given = dict(params or {})
        self.calls.append((method, given))
        if method not in self.answers:
            raise RpcError(method, UNKNOWN_METHOD, f"Unknown command '{method}'")
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        result: Json = answer(given) if callable(answer) else answer
        return result


@contextmanager
def application(
    spec: PluginSpec[A], directory: Path, options: Mapping[str, Any] | None = None, node: FakeNode | None = None
) -> Iterator[tuple[A, Callable[..., Json]]]:
    """Run a plugin in-process on real files: gives the application and `call(method, *positional, **named)`.

    `call` raises the HiveError that the caller would get. Periodic jobs and probes do not run.
    """
    runtime = Runtime(spec)
    app = runtime.start(options or {}, directory, "regtest", startup=False, node=node or FakeNode())

    def call(method: str, *positional: Any, **named: Any) -> Json:
        return runtime.methods[method].call(app, list(positional) if positional else named)

    try:
        yield app, call
    finally:
        runtime.stop()


class PluginProcess:
    """A plugin started as lightningd starts it: on pipes, in the network directory."""

    def __init__(self, argv: Sequence[str], network_dir: Path) -> None:
        """Args: argv: the program. network_dir: its working directory, which must exist."""
        self.network_dir = network_dir
        self.log: list[str] = []
        environment = {**os.environ, "LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": "v25.12.1"}
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=network_dir, env=environment
        )
        self._replies: queue.Queue[Json] = queue.Queue()
        self._number = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def request(self, method: str, params: Any, timeout: float = 20.0) -> Json:
        """Send one request and give its whole answer, with `result` or `error`. One at a time."""
        self._number += 1
        identity = f"test:{method}#{self._number}"
        self._send({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})
        reply = self._replies.get(timeout=timeout)
        if reply["id"] != identity:
            raise AssertionError(f"the plugin answered {reply['id']} instead of {identity}")
        return reply

    def call(self, method: str, *positional: Any, **named: Any) -> Json:
        """Result of an RPC method; an error of the plugin is an AssertionError."""
        reply = self.request(method, list(positional) if positional else named)
        if "error" in reply:
            raise AssertionError(f"{method}: {reply['error']}")
        result: Json = reply["result"]
        return result

    def start(self, options: Mapping[str, Any] | None = None) -> Json:
        """getmanifest and init; gives the answer to init."""
        manifest = self.request("getmanifest", {"allow-deprecated-apis": False})["result"]
        values = {option["name"]: option["default"] for option in manifest["options"] if "default" in option}
        configuration = {
            "lightning-dir": str(self.network_dir),
            "rpc-file": "lightning-rpc",
            "startup": False,
            "network": "regtest",
            "feature_set": {},
        }
        return self.request("init", {"options": {**values, **(options or {})}, "configuration": configuration})

    def notify(self, topic: str, payload: Json) -> None:
        """Send a notification, wrapped under its own name as lightningd does."""
        self._send({"jsonrpc": "2.0", "method": topic, "params": {topic: payload}})

    def shutdown(self, timeout: float = 10.0) -> int:
        """Send the shutdown notification; gives the exit code."""
        self.notify("shutdown", {})
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, as `plugin stop` does to plugins without a shutdown subscription, or a crash."""
        self.process.kill()
        self.wait(10)

    def wait(self, timeout: float) -> int:
        """Wait for the end of the process and of what it said; gives the exit code."""
        code = self.process.wait(timeout)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._reader.join(timeout)
        return code

    def _send(self, message: Json) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n\n")
        self.process.stdin.flush()

    def _read(self) -> None:
        # Nobody else closes this pipe: its number would be given to the next plugin's pipe, and a reader just
        # about to read would take that plugin's answer.
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            text = b""
            while chunk := os.read(pipe.fileno(), 65_536):
                text += chunk
                *messages, text = text.split(b"\n\n")
                for raw in messages:
                    message = json.loads(raw)
                    if "id" in message:
                        self._replies.put(message)
                    else:
                        self.log.append(f"{message['params'].get('level')}: {message['params'].get('message')}")
