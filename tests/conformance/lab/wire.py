"""Bytes to and from the JSON-RPC socket, as a client sees them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

END = b"\n\n"


class ClosedError(ConnectionError):
    """The daemon closed the socket before it answered."""


@contextlib.contextmanager
def connection(socket_path: Path) -> Iterator[socket.socket]:
    """A connection; the directory may be longer than a socket address can hold."""
    directory = os.open(socket_path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(f"/proc/self/fd/{directory}/{socket_path.name}")
            yield client
    finally:
        os.close(directory)


def receive(client: socket.socket, count: int, timeout: float) -> list[str]:
    """Up to `count` messages, each without its end; fewer when `timeout` seconds pass.

    Raises:
        ClosedError: the daemon hung up first.
    """
    deadline = time.monotonic() + timeout
    buffer = b""
    while buffer.count(END) < count:
        client.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            chunk = client.recv(1 << 20)
        except TimeoutError:
            break
        if not chunk:
            raise ClosedError(f"socket closed after {buffer[-200:]!r}")
        buffer += chunk
    whole = buffer.split(END)
    return [part.decode() for part in whole[:-1]]


def exchange(socket_path: Path, text: str, count: int = 1, timeout: float = 30.0) -> list[str]:
    """Send `text` as it is and return the messages that come back."""
    with connection(socket_path) as client:
        client.sendall(text.encode())
        return receive(client, count, timeout)


def call(socket_path: Path, method: str, params: Any, timeout: float = 30.0) -> dict[str, Any]:
    """One request; the whole reply: {jsonrpc, id, result|error}.

    Raises:
        TimeoutError: no reply in `timeout` seconds.
        ClosedError: the daemon hung up.
    """
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    replies = exchange(socket_path, request, 1, timeout)
    if not replies:
        raise TimeoutError(f"{method} was not answered in {timeout:g} s")
    reply: dict[str, Any] = json.loads(replies[0])
    return reply
