"""One plugin process: two pipes, messages in both directions, and its end."""

from __future__ import annotations

import asyncio
import enum
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from ..errors import PLUGIN_TERMINATED
from ..jsontext import Message, NotJsonError, Stream, dumps, parse
from .manifest import Manifest

_READ_BYTES = 1 << 20


class State(enum.Enum):
    """How far a plugin is."""

    REGISTERED = "registered"
    AWAITING_MANIFEST = "awaiting manifest"
    NEEDS_INIT = "needs init"
    AWAITING_INIT = "awaiting init"
    ACTIVE = "active"
    DEAD = "dead"


@dataclass(eq=False)
class Plugin:
    """One plugin that lightningd knows, with its process while it runs.

    `path` is resolved; it is the name of the plugin, its argv[0], and what `plugin list` shows.
    """

    path: str
    important: bool = False
    built_in: bool = False
    started_by_rpc: bool = False
    state: State = State.REGISTERED
    dynamic: bool = False
    manifest: Manifest | None = None
    process: subprocess.Popen[bytes] | None = None
    stopping: bool = False
    # Why lightningd cut it off, when it said something that cannot be said.
    broke_off: str = ""
    waiting: dict[str, Callable[[Message], None]] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _to_plugin: asyncio.WriteTransport | None = None
    _from_plugin: asyncio.ReadTransport | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return Path(self.path).name

    @property
    def source(self) -> str:
        """Who the log says is speaking."""
        return f"plugin-{self.name}"

    async def spawn(
        self,
        environment: dict[str, str],
        directory: Path,
        on_message: Callable[[Plugin, Message], None],
        on_end: Callable[[Plugin, str], None],
    ) -> int:
        """Start the process and return its pid.

        Args:
            environment: of the process.
            directory: it starts in.
            on_message: gets every message it writes.
            on_end: called once when its stdout has ended, or with a reason when it writes what is no JSON.

        Raises:
            OSError: it cannot be executed.
        """
        self.process = subprocess.Popen(
            [self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=directory, env=environment, bufsize=0
        )
        loop = asyncio.get_running_loop()
        stdin, stdout = cast("IO[bytes]", self.process.stdin), cast("IO[bytes]", self.process.stdout)
        self._to_plugin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, stdin)
        self._from_plugin, _ = await loop.connect_read_pipe(lambda: _Reader(self, on_message, on_end), stdout)
        return self.process.pid

    def send(self, text: str) -> None:
        """Write one message; to a process that is gone nothing happens."""
        if self._to_plugin is not None and not self._to_plugin.is_closing():
            self._to_plugin.write((text + "\n\n").encode("utf-8", "replace"))

    def ask(self, identifier: str, text: str, answered: Callable[[Message], None]) -> None:
        """Send a request with the id `identifier`; `answered` gets the reply, or an error when the plugin dies."""
        self.waiting[identifier] = answered
        self.send(text)

    def close_input(self) -> None:
        """Let the plugin see the end of its stdin."""
        if self._to_plugin is not None:
            self._to_plugin.close()

    def end(self) -> None:
        """Kill the process, reap it, and answer every request that it still owed an answer."""
        self.state = State.DEAD
        for transport in (self._to_plugin, self._from_plugin):
            if transport is not None:
                transport.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        owed, self.waiting = self.waiting, {}
        for identifier, answered in owed.items():
            answered(terminated(identifier))
        self.gone.set()


def terminated(identifier: str) -> Message:
    """Return what lightningd answers in the place of a dead plugin, blanks as in the original."""
    return parse(
        f'{{"jsonrpc": "2.0","id": {dumps(identifier)},"error": {{"code":{PLUGIN_TERMINATED}, '
        '"message":"Plugin terminated before replying to RPC call."}}'
    )


class _Reader(asyncio.Protocol):
    def __init__(
        self, plugin: Plugin, on_message: Callable[[Plugin, Message], None], on_end: Callable[[Plugin, str], None]
    ) -> None:
        self._plugin, self._on_message, self._on_end = plugin, on_message, on_end
        self._stream = Stream(strict=True)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._stream.feed(data):
                self._on_message(self._plugin, message)
        except NotJsonError as error:
            self._on_end(self._plugin, f"Failed to parse RPC JSON response '{error.text}'")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._on_end(self._plugin, "")


def environment(version: str) -> dict[str, str]:
    """Return the environment of plugin processes: lightningd's own and two more variables."""
    return {**os.environ, "LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": version}
