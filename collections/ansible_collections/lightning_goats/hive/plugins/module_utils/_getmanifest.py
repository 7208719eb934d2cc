"""Asks a plugin what it is in the way lightningd does, for plugins that cannot say it by themselves.

Used by the controller, which describes a release of foreign code with it, and on the node, where it runs as a program,
`python -IS -c <this source> <seconds> <plugin>`, with lightningd's rights, to prove that the plugin starts there.
Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

REQUEST = {"jsonrpc": "2.0", "id": "hive:getmanifest#1", "method": "getmanifest", "params": {}}
# What plugins find in their environment under lightningd; some refuse to start without.
ENVIRONMENT = {"LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": "v25.02"}
MAX_BYTES = 8 << 20
STOP_SECONDS = 2.0


class UnanswerableError(Exception):
    """A plugin that does not answer; the message is the end of a sentence that begins with its name."""


def ask(command: list[str], seconds: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """Start a plugin, ask for its manifest, end it with everything it started, and return its answer.

    Raises:
        UnanswerableError: it cannot start, ends early, stays silent for `seconds`, or talks no JSON-RPC.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, **ENVIRONMENT},
            start_new_session=True,
        )
    except OSError as error:
        raise UnanswerableError(f"cannot start ({error.strerror})") from error
    try:
        return _answer(process, time.monotonic() + seconds, seconds)
    finally:
        _end(process)


def _answer(process: subprocess.Popen[bytes], deadline: float, seconds: float) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(REQUEST).encode() + b"\n\n")
        process.stdin.flush()
    said, errors = b"", b""
    streams = [process.stdout, process.stderr]
    while streams:
        ready, _, _ = select.select(streams, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise UnanswerableError(f"does not answer getmanifest within {seconds:g} s")
        for stream in ready:
            block = os.read(stream.fileno(), 1 << 16)
            if not block:
                streams.remove(stream)
            elif stream is process.stderr:
                errors = (errors + block)[-4096:]
            else:
                said += block
                found = _reply(said)
                if found is not None:
                    return found
                if len(said) > MAX_BYTES:
                    raise UnanswerableError(f"writes more than {MAX_BYTES >> 20} MiB and no answer to getmanifest")
    reason = errors.decode("utf-8", "replace").strip().splitlines() or ["no message"]
    raise UnanswerableError(f"ends without an answer to getmanifest ({reason[-1][:300]})")


def _reply(said: bytes) -> dict[str, Any] | None:
    """The answer among what a plugin has said so far; log notifications may come before it."""
    decoder, text, position = json.JSONDecoder(), said.decode("utf-8", "replace"), 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        try:
            found, position = decoder.raw_decode(text, position)
        except ValueError:
            return None
        if isinstance(found, dict) and found.get("id") == REQUEST["id"]:
            if not isinstance(found.get("result"), dict):
                raise UnanswerableError(f"refuses getmanifest ({json.dumps(found.get('error'))[:300]})")
            return dict(found["result"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it as lightningd does, by closing its input; what does not go by itself is killed."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def described(answer: dict[str, Any]) -> dict[str, Any]:
    """The part of a release manifest that an answer to getmanifest holds; lists are sorted."""
    options = []
    for option in answer.get("options") or []:
        default = option.get("default")
        options.append(
            {
                "name": str(option.get("name", "")),
                "type": str(option.get("type", "string")),
                "default": default if default is None or isinstance(default, (str, int, bool)) else str(default),
                "dynamic": bool(option.get("dynamic", False)),
                "description": str(option.get("description", "")),
            }
        )
    hooks = [hook if isinstance(hook, str) else str(hook.get("name", "")) for hook in answer.get("hooks") or []]
    return {
        "rpc_methods": sorted({str(method.get("name", "")) for method in answer.get("rpcmethods") or []}),
        "options": sorted(options, key=lambda option: str(option["name"])),
        "hooks": sorted(set(hooks)),
        "subscriptions": sorted({str(topic) for topic in answer.get("subscriptions") or []}),
    }


def main(arguments: list[str]) -> int:
    """Print what the plugin `arguments[1:]` says of itself, or why it says nothing."""
    try:
        answer = ask(arguments[1:], float(arguments[0]), os.environ)
    except UnanswerableError as error:
        sys.stderr.write(f"it {error}\n")
        return 1
    sys.stdout.write(json.dumps(described(answer)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
