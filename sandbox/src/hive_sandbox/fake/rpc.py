"""The JSON-RPC socket: framing, what a request must have, and who answers it."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, UNKNOWN_COMMAND, RpcError, refused
from .filters import apply_filter, check_filter
from .jsontext import Message, Stream, dumps, parse

if TYPE_CHECKING:
    from .node import Node
    from .plugins.process import Plugin

_READ_BYTES = 1 << 20


@dataclass(eq=False)
class Connection:
    """One client of the socket."""

    writer: asyncio.StreamWriter
    wants_notifications: bool = False
    requests: dict[str, Request] = field(default_factory=dict)

    def send(self, text: str) -> None:
        """Write one message; a client that is gone is harmless."""
        if not self.writer.is_closing():
            self.writer.write((text + "\n\n").encode("utf-8", "surrogateescape"))


@dataclass(eq=False)
class Request:
    """One request of a client. `client_id` is its id as text, which goes into the ids of what it causes."""

    message: Message
    connection: Connection
    client_id: str
    method: str
    params: Any
    args: dict[str, Any] = field(default_factory=dict)


class RpcServer:
    """Listens on `rpc-file` in the network directory, which is the working directory."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, path: str, mode: int) -> None:
        """Begin to accept clients; a socket file of a dead process is replaced.

        Raises:
            OSError: the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX)
        if os.path.lexists(path):
            os.unlink(path)  # noqa: PTH108 - relative to the network directory
        listener.bind(path)
        os.chmod(path, mode)  # noqa: PTH101
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    def stop_listening(self) -> None:
        """Refuse new clients; those that are connected keep their connection."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer)
        self.connections.add(connection)
        stream = Stream()
        try:
            while data := await reader.read(_READ_BYTES):
                for message in stream.feed(data):
                    self.node.keep(asyncio.create_task(self._answer(connection, message)))
        except (ConnectionError, OverflowError) as error:
            self.node.log.debug("lightningd", f"Dropping an RPC connection: {error}")
        finally:
            self.connections.discard(connection)
            writer.close()

    async def _answer(self, connection: Connection, message: Message) -> None:
        try:
            request = _read_request(connection, message)
        except BadRequestError as bad:
            connection.send(_error(bad.identifier, bad.error))
            return
        connection.requests[request.client_id] = request
        reply = ""
        try:
            reply = await self.dispatch(request)
        finally:
            connection.requests.pop(request.client_id, None)
            # A bug of the fake ends up in its log and is no reason to leave the client waiting.
            failed = RpcError(INTERNAL_ERROR, f"the fake lightningd failed in {request.method}; its log says how")
            connection.send(reply or _error(message.raw("id") or "null", failed))

    async def dispatch(self, request: Request) -> str:
        """Return the whole reply to a request, after the rpc_command hook has had its say."""
        identifier = request.message.raw("id") or "null"
        try:
            decided = None
            if not request.method.startswith("sandbox-"):
                await self._misbehave(request.method)
                decided = await self._ask_hook(request)
            if decided is not None:
                return f'{{"jsonrpc":"2.0","id":{identifier},{decided}}}'
            plugin = self.node.plugins.method_owner(request.method)
            if plugin is not None:
                return await self._pass_on(plugin, request)
            check_filter(request.message.value.get("filter"))
            result = apply_filter(await self.run(request), request.message.value.get("filter"))
        except RpcError as error:
            if error.code == INVALID_PARAMS:
                self.node.log.info("lightningd", f"JSON COMMAND {request.method}: {error.message}")
            return _error(identifier, error)
        return f'{{"jsonrpc":"2.0","id":{identifier},"result":{dumps(result)}}}'

    async def _misbehave(self, method: str) -> None:
        faults = self.node.faults
        if faults.has("die-on-command") and faults.active["die-on-command"].get("command") == method:
            self.node.die()
        await faults.hold_rpc()

    async def run(self, request: Request) -> dict[str, Any]:
        """Do a built-in command.

        Raises:
            RpcError: the command's own error, or that there is no such command here.
        """
        commands = self.node.commands
        if commands.available(request.method) is None:
            raise RpcError(UNKNOWN_COMMAND, f"Unknown command '{request.method}'")
        done = commands.done.get(request.method)
        if done is None:
            raise refused(f"the command {request.method}")
        if not done.free_form:
            request.args = commands.read(request.method, request.params)
        return await done.run(self.node, request)

    async def _ask_hook(self, request: Request) -> str | None:
        """Return the reply that a plugin decided on in the rpc_command hook; let it replace the request."""
        for plugin, hook in self.node.hooks.chain("rpc_command"):
            if hook.filters and request.method not in hook.filters:
                continue
            raw = {name: request.message.raw(name) or "null" for name in ("id", "method", "params")}
            params = (
                f'{{"rpc_command":{{"jsonrpc":"2.0","id":{raw["id"]},"method":{raw["method"]},'
                f'"params":{raw["params"]}}}}}'
            )
            reply = await self.node.plugins.ask(plugin, "rpc_command", params, request.client_id)
            if plugin.gone.is_set():
                self.node.log.debug("lightningd", "Plugin died from rpc_command hook call")
                continue
            answer = reply.value.get("result")
            if not isinstance(answer, dict):
                continue
            if isinstance(answer.get("return"), dict):
                return _decided(answer["return"])
            if isinstance(answer.get("replace"), dict):
                self._replace(request, answer["replace"])
                return None
        return None

    def _replace(self, request: Request, other: dict[str, Any]) -> None:
        text = dumps({**other, "id": request.message.value["id"]})
        request.message = parse(text)
        request.method, request.params = str(other.get("method")), other.get("params", {})

    async def _pass_on(self, plugin: Plugin, request: Request) -> str:
        """Send the request to a plugin as it came, with another id, and its reply back as it came."""
        identifier = self.node.plugins.next_id(request.method, request.client_id)
        text = request.message.with_member("id", dumps(identifier))
        reply = await self.node.plugins.ask_verbatim(plugin, identifier, text)
        return reply.with_member("id", request.message.raw("id") or "null")

    def relay_notification(self, identifier: str, message: Message) -> None:
        """Pass a plugin's `message` or `progress` to the client whose request it is about, if that one wants them."""
        client_id = identifier.rsplit("/cln:", 1)[0]
        for connection in self.connections:
            request = connection.requests.get(client_id)
            if request is None or not connection.wants_notifications:
                continue
            params = message.raw("params") or "{}"
            own = parse(params).with_member("id", request.message.raw("id") or "null")
            connection.send(f'{{"jsonrpc":"2.0","method":{dumps(message.value["method"])},"params":{own}}}')


class BadRequestError(Exception):
    """Something that is no request; `identifier` is the raw id for the reply."""

    def __init__(self, code: int, sentence: str, identifier: str = "null") -> None:
        super().__init__(sentence)
        self.error = RpcError(code, sentence)
        self.identifier = identifier


def _read_request(connection: Connection, message: Message) -> Request:
    value = message.value
    if not isinstance(value, dict) or "jsonrpc" not in value:
        raise BadRequestError(INVALID_REQUEST, f"JSON-RPC message does not contain \"jsonrpc\" field: '{message.text}'")
    if value["jsonrpc"] != "2.0":
        raise BadRequestError(INVALID_REQUEST, 'jsonrpc: "2.0" must be specified in the request')
    if "id" not in value:
        raise BadRequestError(INVALID_REQUEST, "No id")
    if isinstance(value["id"], dict | list):
        raise BadRequestError(INVALID_REQUEST, "Expected string/primitive for id")
    identifier = message.raw("id") or "null"
    if "method" not in value:
        raise BadRequestError(INVALID_REQUEST, "No method", identifier)
    if not isinstance(value["method"], str):
        raise BadRequestError(INVALID_REQUEST, "Expected string for method", identifier)
    if "params" not in value:
        raise BadRequestError(INVALID_REQUEST, "No params", identifier)
    if not isinstance(value["params"], dict | list):
        raise BadRequestError(INVALID_PARAMS, "Expected array or object for params", identifier)
    client_id = value["id"] if isinstance(value["id"], str) else identifier
    return Request(message, connection, client_id, value["method"], value["params"])


def _error(identifier: str, error: RpcError) -> str:
    return f'{{"jsonrpc":"2.0","id":{identifier},"error":{dumps(error.body())}}}'


def _decided(answer: dict[str, Any]) -> str:
    member = "error" if "error" in answer else "result"
    return f'"{member}":{dumps(answer.get(member))}'
