"""Calls to a lightningd, real or fake, over its socket."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

_SUN_PATH_MAX = 107


class RpcFailedError(Exception):
    """lightningd answered with an error: its code and its sentence."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {message} ({code})")
        self.code = code
        self.message = message


def call(socket_path: Path, method: str, params: dict[str, Any] | list[Any] | None = None, timeout: float = 30) -> Any:
    """Call a method and return its result.

    Args:
        socket_path: may be longer than the 107 bytes that a socket address holds.
        timeout: seconds for each step of the conversation.

    Raises:
        RpcFailedError: the answer is an error.
        OSError: nobody listens, or no answer came in time.
    """
    message = {"jsonrpc": "2.0", "id": f"hive-sandbox:{method}#{os.getpid()}", "method": method, "params": params or {}}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        _connect(connection, socket_path)
        connection.sendall(json.dumps(message).encode())
        received = b""
        while not received.endswith(b"\n\n"):
            data = connection.recv(1 << 20)
            if not data:
                raise ConnectionResetError(f"{socket_path}: the socket was closed during {method}")
            received += data
    reply = json.loads(received)
    if reply.get("error") is not None:
        raise RpcFailedError(method, int(reply["error"].get("code", 0)), str(reply["error"].get("message")))
    return reply["result"]


def _connect(connection: socket.socket, path: Path) -> None:
    if len(os.fsencode(path)) <= _SUN_PATH_MAX:
        connection.connect(str(path))
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
