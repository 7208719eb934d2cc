"""Cases: JSON files in `data/`, and what their steps do.

A file is `{"recorded_with": "<version>", "about": "<sentence>", "cases": [case, ...]}`. A case has a `name` and may
have `plugins` ({file name: script}), `files` ({name below the lightning-dir: text}), `argv` (options of lightningd)
and `steps`. A step is an object with one of the verbs below; `{name}` in it stands for a path (see `Daemon.names`),
and replies are compared as `matching.py` says.

    rpc, params, result | error            one request
    rpc, params, reply | silent | closed   its whole reply; no answer within 1.5 s; the socket closes
    cli, rc, stdout | stdout_text, stderr_text
    send, replies                          raw text to the socket, and the messages that come back
    plugin_list                            what `plugin list` shows of this case's plugins
    log | no_log                           a regular expression some (no) line of the log since the case began contains
    received, message                      a message that the named plugin was sent
    kill                                   SIGKILL to the named plugin
    file, text                             a file below the lightning-dir
    link, to                               a symbolic link below the lightning-dir, made or turned
    ends                                   lightningd ends with this exit code (negative: signal)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from conformance.lab import wire
from conformance.lab.daemon import Daemon, Outcome
from conformance.lab.matching import difference, fill

DATA = Path(__file__).parent.parent / "data"
SILENCE_SECONDS = 1.5
Case = dict[str, Any]


def load(name: str) -> list[Any]:
    """The cases of a data file, as parameters of a test, named after themselves."""
    document = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    names = [case["name"] for case in document["cases"]]
    assert len(set(names)) == len(names), f"{name}.json names a case twice"
    return [pytest.param(case, id=case["name"]) for case in document["cases"]]


def expect(pattern: Any, actual: Any, daemon: Daemon, what: str) -> None:
    """Fail with one sentence unless `actual` matches."""
    sentence = difference(fill(pattern, daemon.names()), actual)
    assert sentence is None, f"{what}: {sentence}"


def prepare(case: Case, daemon: Daemon) -> list[str]:
    """Write what the case needs; returns the options for lightningd."""
    for name, script in case.get("plugins", {}).items():
        daemon.plugin(name, script)
    for name, text in case.get("files", {}).items():
        daemon.write(name, fill(text, daemon.names()))
    return [str(fill(option, daemon.names())) for option in case.get("argv", [])]


def play(case: Case, daemon: Daemon, since: int | None = None) -> None:
    """Do the steps of a case on a running daemon; the log counts from `since`, else from now."""
    since = len(daemon.log_text()) if since is None else since
    for number, step in enumerate(case.get("steps", []), 1):
        verb = next((name for name in VERBS if name in step), None)
        assert verb, f"step {number} has no verb: {step}"
        VERBS[verb](step, daemon, since)


def _rpc(step: Case, daemon: Daemon, since: int) -> None:
    params = fill(step.get("params", {}), daemon.names())
    if step.get("silent"):
        with pytest.raises(TimeoutError):
            daemon.rpc(step["rpc"], params, timeout=SILENCE_SECONDS)
        return
    if step.get("closed"):
        with pytest.raises((wire.ClosedError, ConnectionResetError)):
            daemon.rpc(step["rpc"], params)
        return
    reply = daemon.rpc(step["rpc"], params)
    expect(_reply(step), reply, daemon, step["rpc"])


def _reply(step: Case) -> Case:
    if "reply" in step:
        reply: Case = step["reply"]
        return reply
    kind = "error" if "error" in step else "result"
    return {"jsonrpc": "2.0", "id": 1, kind: step.get(kind, "<any>")}


def compare_outcome(step: Case, outcome: Outcome, daemon: Daemon, what: str) -> None:
    """Exit code, and whatever the case says of the outputs."""
    assert outcome.rc == step.get("rc", 0), f"{what} ended with {outcome.rc}: {outcome.stdout}{outcome.stderr}"
    if "stdout" in step:
        expect(step["stdout"], json.loads(outcome.stdout), daemon, f"{what} stdout")
    if "stdout_text" in step:
        expect(step["stdout_text"], outcome.stdout, daemon, f"{what} stdout")
    if "stderr_text" in step:
        expect(step["stderr_text"], outcome.stderr, daemon, f"{what} stderr")


def _cli(step: Case, daemon: Daemon, since: int) -> None:
    arguments = fill(step["cli"], daemon.names())
    compare_outcome(step, daemon.cli(*arguments), daemon, "lightning-cli " + " ".join(arguments))


def _send(step: Case, daemon: Daemon, since: int) -> None:
    expected = step["replies"]
    text = fill(step["send"], daemon.names())
    replies = wire.exchange(daemon.socket, text, max(len(expected), 1), 30.0 if expected else SILENCE_SECONDS)
    parsed = [
        json.loads(reply) if not isinstance(want, str) else reply
        for want, reply in zip(expected, replies, strict=False)
    ]
    expect(expected, parsed + replies[len(expected) :], daemon, f"reply to {text!r}")


def _plugin_list(step: Case, daemon: Daemon, since: int) -> None:
    expect(step["plugin_list"], daemon.listed(), daemon, "plugin list")


def _log(step: Case, daemon: Daemon, since: int) -> None:
    daemon.wait_for_log(fill("~" + step["log"], daemon.names())[1:], since=since)


def _no_log(step: Case, daemon: Daemon, since: int) -> None:
    pattern = fill("~" + step["no_log"], daemon.names())[1:]
    found = [line for line in daemon.log_text()[since:].splitlines() if re.search(pattern, line)]
    assert not found


def _received(step: Case, daemon: Daemon, since: int) -> None:
    plugin = daemon.plugins[step["received"]]
    message = fill(step["message"], daemon.names())

    def came() -> bool:
        return any(difference(message, candidate) is None for candidate in plugin.received())

    try:
        wait_until(came, 10.0, f"{step['received']} receives {message}")
    except AssertionError as late:
        raise AssertionError(f"{late}; it received {plugin.received()}") from late


def _kill(step: Case, daemon: Daemon, since: int) -> None:
    plugin = daemon.plugins[step["kill"]]
    assert plugin.pids(), f"{step['kill']} does not run"
    plugin.kill()


def _file(step: Case, daemon: Daemon, since: int) -> None:
    expect(step["text"], (daemon.dir / step["file"]).read_text(encoding="utf-8"), daemon, step["file"])


def _link(step: Case, daemon: Daemon, since: int) -> None:
    link = daemon.dir / step["link"]
    link.unlink(missing_ok=True)
    link.symlink_to(step["to"])


def _ends(step: Case, daemon: Daemon, since: int) -> None:
    assert daemon.ended() == step["ends"]


VERBS: dict[str, Callable[[Case, Daemon, int], None]] = {
    "rpc": _rpc,
    "cli": _cli,
    "send": _send,
    "plugin_list": _plugin_list,
    "log": _log,
    "no_log": _no_log,
    "received": _received,
    "kill": _kill,
    "file": _file,
    "link": _link,
    "ends": _ends,
}
