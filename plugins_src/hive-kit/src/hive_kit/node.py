"""Calls to lightningd, each with a deadline.

pyln's own client waits for ever: one hung sibling would take a thread of ours with it.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hive_kit.errors import UnavailableError

UNKNOWN_METHOD = -32601
_RECEIVE = 65_536


class RpcError(Exception):
    """lightningd, or the plugin that owns the method, answered with a JSON-RPC error."""

    def __init__(self, method: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{method}: {message}")
        self.method = method
        self.code = code
        self.message = message
        self.data = data


class Node(Protocol):
    """What plugins need of lightningd; tests give their own."""

    def call(self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 30.0) -> dict[str, Any]:
        """Result of a command.

        Args:
            method: built-in or plugin method.
            params: by name.
            timeout: seconds for the whole call.

        Raises:
            RpcError: it answered with an error.
            UnavailableError: nobody answered in time.
        """


class SocketNode:
    """lightningd behind its unix socket; one connection per call, so any thread may call."""

    def __init__(self, socket_path: Path, client: str) -> None:
        """Args: socket_path: lightning-rpc. client: caller's name, first part of request ids in lightningd's log."""
        self._path = socket_path
        self._client = client
        self._numbers = itertools.count(1)

    def call(self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 30.0) -> dict[str, Any]:
        """See `Node.call`."""
        deadline = time.monotonic() + timeout
        request = {
            "jsonrpc": "2.0",
            "id": f"{self._client}:{method}#{next(self._numbers)}",
            "method": method,
            "params": dict(params or {}),
        }
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout)
                self._connect(connection)
                connection.sendall(json.dumps(request).encode())
                reply = self._receive(connection, deadline)
        except TimeoutError as error:
            raise UnavailableError(f"{method} did not answer within {timeout:g} s") from error
        except OSError as error:
            raise UnavailableError(
                f"lightningd cannot be reached at {self._path}: {error.strerror or error}"
            ) from error
        if "error" in reply:
            failure = reply["error"]
            raise RpcError(method, int(failure.get("code", 0)), str(failure.get("message", "")), failure.get("data"))
        result = reply.get("result")
        if not isinstance(result, dict):
            raise RpcError(method, 0, "the answer is not an object")
        return result

    def _connect(self, connection: socket.socket) -> None:
        # A socket address holds 107 bytes; a directory handle makes every path short.
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)

    def _receive(self, connection: socket.socket, deadline: float) -> dict[str, Any]:
        buffer = bytearray()
        while not buffer.endswith(b"\n\n"):
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = connection.recv(_RECEIVE)
            if not chunk:
                raise ConnectionResetError("the connection was closed before the answer")
            buffer += chunk
        reply = json.loads(buffer)
        if not isinstance(reply, dict):
            raise ConnectionResetError("the answer is not a JSON-RPC object")
        return reply
