#!/usr/bin/python3 -IS
"""A plugin that does what its script says, and writes down everything it was told. Standard library only.

Beside the executable `<path>` lie `<path>.script` (JSON, see `scripted.py`) and `<path>.log` (JSON lines).
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

Message = dict[str, Any]

ME = sys.argv[0]


def note(**entry: Any) -> None:
    with Path(ME + ".log").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"pid": os.getpid(), **entry}) + "\n")


def emit(text: str) -> None:
    os.write(1, text.encode())
    note(out=text)


def send(message: Message) -> None:
    emit(json.dumps({"jsonrpc": "2.0", **message}) + "\n\n")


def leave(code: int) -> NoReturn:
    note(exit=code)
    os._exit(code)


def linger() -> NoReturn:
    """Stay without doing anything; the test ends us, and this bound does if the test cannot."""
    time.sleep(90)
    leave(9)


def act(action: Message, message: Message) -> None:
    """Do one action of the script; `message` is what we answer."""
    if "stderr" in action:
        os.write(2, action["stderr"].encode())
    if "delay_ms" in action:
        time.sleep(action["delay_ms"] / 1000)
    for notification in action.get("notify", []):
        text = json.dumps(notification).replace('"$id"', json.dumps(message.get("id")))
        send(json.loads(text))
    if "text" in action:
        emit(action["text"])
    if "text_with_id" in action:
        emit(action["text_with_id"].replace("$id", json.dumps(message.get("id"))))
    if "exit" in action:
        leave(action["exit"])
    if "result" in action:
        send({"id": message["id"], "result": action["result"]})
    elif "error" in action:
        send({"id": message["id"], "error": action["error"]})
    elif action.get("echo"):
        send({"id": message["id"], "result": {"method": message["method"], "params": message["params"]}})


def standard(script: Message, message: Message) -> Message:
    """What a plugin does where its script is silent."""
    method = message["method"]
    if method == "getmanifest":
        manifest = {"options": [], "rpcmethods": [], "subscriptions": [], "hooks": [], "dynamic": True}
        return {"result": {**manifest, **script.get("manifest", {})}}
    if method == "init":
        return {"result": {}}
    if method == "shutdown":
        return {"exit": 0}
    if "id" not in message:
        return {}
    hooks = script.get("manifest", {}).get("hooks", [])
    if method in [hook["name"] if isinstance(hook, dict) else hook for hook in hooks]:
        return {"result": {"result": "continue"}}
    return {"echo": True}


def main() -> NoReturn:
    script = json.loads(Path(ME + ".script").read_text(encoding="utf-8"))
    on = script.get("on", {})
    note(
        start={
            "argv": sys.argv,
            "cwd": str(Path.cwd()),
            "env": {name: os.environ.get(name) for name in ("LIGHTNINGD_PLUGIN", "LIGHTNINGD_VERSION")},
        }
    )
    act(on.get("start", {}), {})
    buffer = b""
    while True:
        select.select([0], [], [])
        chunk = os.read(0, 65536)
        if not chunk:
            note(eof=True)
            if on.get("eof", {}).get("linger"):
                linger()
            leave(0)
        buffer += chunk
        while b"\n\n" in buffer:
            raw, buffer = buffer.split(b"\n\n", 1)
            message = json.loads(raw)
            note(**{"in": message, "raw": raw.decode()})
            act(on.get(message["method"], standard(script, message)), message)


main()
