"""Calls to lightningd's socket: framing, errors, deadlines, long paths."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hive_kit.errors import UnavailableError
from hive_kit.node import RpcError, SocketNode

Answer = Callable[[dict[str, Any]], list[bytes]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Answer], SocketNode]]:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = os.open(directory, os.O_PATH)
    listener.bind(f"/proc/self/fd/{handle}/lightning-rpc")
    os.close(handle)
    listener.listen()
    threads: list[threading.Thread] = []

    def start(answer: Answer) -> SocketNode:
        def accept() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):  # the caller may have given up
                request = json.loads(connection.recv(65_536))
                for chunk in answer(request):
                    connection.sendall(chunk)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        threads.append(thread)
        return SocketNode(directory / "lightning-rpc", "cl-hive")

    yield start
    listener.close()


def reply(request: dict[str, Any], **content: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], **content}).encode() + b"\n\n"


def test_a_result_may_come_in_pieces_and_the_path_may_be_long(serve: Callable[[Answer], SocketNode]) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> list[bytes]:
        seen.append(request)
        whole = reply(request, result={"alias": "ü"})
        return [whole[:7], whole[7:-1], whole[-1:]]

    assert serve(answer).call("getinfo", {"a": 1}) == {"alias": "ü"}
    assert seen[0]["method"] == "getinfo"
    assert seen[0]["params"] == {"a": 1}
    assert seen[0]["id"] == "cl-hive:getinfo#1"


def test_an_error_keeps_code_message_and_data(serve: Callable[[Answer], SocketNode]) -> None:
    node = serve(lambda request: [reply(request, error={"code": 1301, "message": "no", "data": {"k": 1}})])
    with pytest.raises(RpcError) as failed:
        node.call("checkmessage")
    assert (failed.value.code, failed.value.message, failed.value.data) == (1301, "no", {"k": 1})
    assert str(failed.value) == "checkmessage: no"


def test_a_result_that_is_no_object_is_an_error(serve: Callable[[Answer], SocketNode]) -> None:
    node = serve(lambda request: [reply(request, result=[1])])
    with pytest.raises(RpcError, match="the answer is not an object"):
        node.call("x")


def test_silence_ends_at_the_deadline(serve: Callable[[Answer], SocketNode]) -> None:
    release = threading.Event()
    node = serve(lambda request: [b"x" * release.wait(10)])
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"getinfo did not answer within 0\.2 s"):
        node.call("getinfo", timeout=0.2)
    assert time.monotonic() - started < 5
    release.set()


def test_a_closed_connection_and_a_missing_socket_are_named(
    serve: Callable[[Answer], SocketNode], tmp_path: Path
) -> None:
    with pytest.raises(UnavailableError, match="the connection was closed before the answer"):
        serve(lambda request: [b'{"half"']).call("stop")
    with pytest.raises(UnavailableError, match=r"lightningd cannot be reached at .*/lightning-rpc: No such file"):
        SocketNode(tmp_path / "lightning-rpc", "cl-hive").call("getinfo")
