"""lightningd's JSON-RPC: the unix socket where it can be reached, the node's lightning-cli where it cannot."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, Union

from ._engine.errors import HiveError, NodeDownError, RpcRefusedError, RpcTimeoutError

RECEIVE_BYTES = 1 << 16

Params = Union[dict[str, Any], list[Any]]


def connect(path: Path, timeout: float) -> socket.socket:
    """Connect to a unix socket, also when its path is longer than the 107 bytes the kernel takes.

    Raises:
        OSError: as the socket says.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout)
    try:
        if len(os.fsencode(path)) <= 100:
            client.connect(str(path))
        else:
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                client.connect(f"/proc/self/fd/{directory}/{path.name}")
            finally:
                os.close(directory)
    except OSError:
        client.close()
        raise
    return client


def listener_pid(client: socket.socket) -> int:
    """Return the process that listens on the other end, as this machine counts processes; 0 when it cannot be seen."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


class Rpc:
    """A client that keeps one connection and opens another after a time-out.

    Args:
        path: the socket `lightning-rpc`.
        timeout: seconds for a call that says nothing else.
        fallback: argv of a lightning-cli that reaches the node when the socket does not exist on this machine.
    """

    def __init__(self, path: Path, timeout: float = 15.0, fallback: list[str] | None = None) -> None:
        self.path = path
        self.timeout = timeout
        self.fallback = fallback or []
        self.pid = 0
        self._client: socket.socket | None = None
        self._next = 0
        self._pending = b""

    def close(self) -> None:
        """Drop the connection."""
        if self._client is not None:
            self._client.close()
        self._client, self._pending = None, b""

    def _connection(self, timeout: float) -> socket.socket:
        if self._client is None:
            try:
                self._client = connect(self.path, timeout)
            except OSError as error:
                raise NodeDownError(f"lightningd does not listen on {self.path} ({error.strerror or error})") from error
            self.pid = listener_pid(self._client)
        return self._client

    @property
    def uses_cli(self) -> bool:
        """Whether calls go through lightning-cli, because there is no socket to be seen from here."""
        return bool(self.fallback) and not self.path.exists()

    def call(self, method: str, params: Params | None = None, timeout: float | None = None) -> Any:
        """Return the result of one call.

        Raises:
            NodeDownError: nobody listens, or the connection was closed before the answer.
            RpcTimeoutError: no answer within `timeout` seconds.
            RpcRefusedError: a JSON-RPC error.
        """
        limit = self.timeout if timeout is None else timeout
        if self.uses_cli:
            return self._call_cli(method, {} if params is None else params, limit)
        reply = self._exchange(method, {} if params is None else params, limit)
        if "error" in reply:
            error = reply["error"] if isinstance(reply["error"], dict) else {}
            raise RpcRefusedError(method, int(error.get("code", -1)), str(error.get("message", "no reason given")))
        return reply.get("result")

    def _exchange(self, method: str, params: Params, limit: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit
        self._next += 1
        request = {"jsonrpc": "2.0", "id": f"hive:{method}#{self._next}", "method": method, "params": params}
        client = self._send(json.dumps(request).encode() + b"\n\n", limit)
        try:
            return self._receive(client, request["id"], deadline)
        except socket.timeout as error:
            self.close()
            raise RpcTimeoutError(f"lightningd did not answer {method} within {limit:g} s", method=method) from error
        except OSError as error:
            self.close()
            raise NodeDownError(
                f"lightningd closed the connection during {method} ({error.strerror or error})"
            ) from error

    def _send(self, message: bytes, limit: float) -> socket.socket:
        """Send a request and return the connection; one kept from an earlier life of lightningd is replaced."""
        kept = self._client is not None
        client = self._connection(limit)
        try:
            client.settimeout(limit)
            client.sendall(message)
        except OSError as error:
            self.close()
            if kept:
                return self._send(message, limit)
            raise NodeDownError(f"lightningd closed the connection ({error.strerror or error})") from error
        return client

    def _receive(self, client: socket.socket, request_id: Any, deadline: float) -> dict[str, Any]:
        decoder = json.JSONDecoder()
        scanned = 0
        while True:
            # A reply ends with an empty line; looking only at what is new keeps large replies linear.
            end = self._pending.find(b"\n\n", max(0, scanned - 1))
            if end >= 0:
                text = self._pending[:end].decode("utf-8", "replace").strip()
                self._pending = self._pending[end + 2 :]
                scanned = 0
                if not text:
                    continue
                reply, _ = decoder.raw_decode(text)
                if isinstance(reply, dict) and reply.get("id") == request_id:
                    return reply
                continue
            scanned = len(self._pending)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise socket.timeout
            client.settimeout(remaining)
            chunk = client.recv(RECEIVE_BYTES)
            if not chunk:
                raise ConnectionResetError(104, "connection closed")
            self._pending += chunk

    def _call_cli(self, method: str, params: Params, limit: float) -> Any:
        argv = [*self.fallback, "-J", "-N", "none"]
        if isinstance(params, list):
            argv += [method, *(value if isinstance(value, str) else json.dumps(value) for value in params)]
        else:
            argv += ["-k", method]
            argv += [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in params.items()]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=limit, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as error:
            raise RpcTimeoutError(f"lightningd did not answer {method} within {limit:g} s", method=method) from error
        except FileNotFoundError as error:
            # While lightningd is down there is no socket; a node that is reached by it has no need of a command.
            raise NodeDownError(
                f"there is no socket {self.path} and no command {argv[0]}; start lightningd, or set hive_lightning_cli"
            ) from error
        except OSError as error:
            raise HiveError(
                f"cannot run {argv[0]} ({error.strerror}); set hive_lightning_cli to the argv that reaches this node",
                "no-cli",
            ) from error
        text = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode == 0:
            try:
                return json.loads(text)
            except ValueError:
                return text
        try:
            error_reply = json.loads(text)
        except ValueError:
            error_reply = None
        if isinstance(error_reply, dict) and "code" in error_reply:
            raise RpcRefusedError(method, int(error_reply["code"]), str(error_reply.get("message", "")))
        raise NodeDownError(
            f"{argv[0]} cannot reach lightningd: {done.stderr.decode('utf-8', 'replace').strip()[:200]}"
        )

    def peek_pid(self, timeout: float = 2.0) -> int:
        """Return the pid of who listens on the socket without asking anything; 0 when nobody does."""
        try:
            client = connect(self.path, timeout)
        except OSError:
            return 0
        try:
            return listener_pid(client)
        finally:
            client.close()
