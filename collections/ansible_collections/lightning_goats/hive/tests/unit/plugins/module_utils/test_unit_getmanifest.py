"""Asking a plugin as lightningd does: what it says is found among what it chatters, and silence has an end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _getmanifest
from ansible_collections.lightning_goats.hive.plugins.module_utils._getmanifest import (
    UnanswerableError,
    ask,
    described,
)

PLUGIN = """#!{python}
import json, os, sys, time
text = ""
while "\\n\\n" not in text:
    text += os.read(0, 4096).decode()
request = json.loads(text)
def say(value):
    sys.stdout.write(json.dumps(value) + "\\n\\n")
    sys.stdout.flush()
{behaviour}
"""
RESULT = {
    "rpcmethods": [{"name": "b-status"}, {"name": "a-status"}],
    "options": [{"name": "z-path", "type": "string", "default": ["x"], "description": "A path"}, {"name": "a"}],
    "hooks": [{"name": "peer_connected", "before": []}, "custommsg"],
    "subscriptions": ["*", "connect"],
}
CHATTER = 'say({"jsonrpc": "2.0", "method": "log", "params": {"message": "starting"}})\n'
ANSWER = f'say({{"jsonrpc": "2.0", "id": request["id"], "result": json.loads({json.dumps(json.dumps(RESULT))})}})\n'
# One that would live on: it must not be left behind.
STAYS = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)\n"


def plugin(directory: Path, behaviour: str) -> list[str]:
    path = directory / "plugin"
    path.write_text(PLUGIN.format(python=sys.executable, behaviour=behaviour))
    path.chmod(0o755)
    return [str(path)]


def test_the_answer_is_found_after_chatter_and_the_plugin_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_getmanifest, "STOP_SECONDS", 0.2)
    note = tmp_path / "pid"
    behaviour = f"open({str(note)!r}, 'w').write(str(os.getpid()))\n{CHATTER}{ANSWER}{STAYS}"
    answer = ask(plugin(tmp_path, behaviour), 20.0, os.environ)
    assert answer == RESULT
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_what_it_says_becomes_the_manifest_s_part() -> None:
    part = described(RESULT)
    assert part["rpc_methods"] == ["a-status", "b-status"]
    assert part["hooks"] == ["custommsg", "peer_connected"]
    assert part["subscriptions"] == ["*", "connect"]
    assert [(option["name"], option["type"], option["default"], option["dynamic"]) for option in part["options"]] == [
        ("a", "string", None, False),
        ("z-path", "string", "['x']", False),
    ]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("sys.exit('no database here')\n", "ends without an answer to getmanifest (no database here)"),
        ("sys.stdout.write('hello, I am a plugin')\n", "ends without an answer"),
        ('say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -1}})\n', "refuses getmanifest"),
        ("time.sleep(600)\n", "does not answer getmanifest within 0.5 s"),
        ("sys.stdout.write('x' * (9 << 20)); sys.stdout.flush(); time.sleep(600)\n", "writes more than 8 MiB"),
    ],
)
def test_no_answer_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, words: str
) -> None:
    monkeypatch.setattr(_getmanifest, "STOP_SECONDS", 0.2)
    seconds = 0.5 if "within" in words else 20.0
    begun = time.monotonic()
    with pytest.raises(UnanswerableError) as caught:
        ask(plugin(tmp_path, behaviour), seconds, os.environ)
    assert words in str(caught.value)
    assert time.monotonic() - begun < 60


def test_what_cannot_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnanswerableError, match="cannot start"):
        ask([str(tmp_path / "nothing")], 1.0, os.environ)


def test_it_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    """As the node runs it: source on the command line, no imports but the standard library."""
    source = Path(_getmanifest.__file__).read_text(encoding="utf-8")
    command = [sys.executable, "-IS", "-c", source, "20", *plugin(tmp_path, CHATTER + ANSWER)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == described(RESULT)
