"""Plugins under the fake: their life, their options, what they hear."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hive_sandbox.testing import FakeNode
from waiting import wait_until

ECHO = str(Path(__file__).parent / "plugins" / "echo.py")


LOOP = """
import json, os, pathlib, sys, time
for line in sys.stdin:
    message = json.loads(line) if line.strip() else {}
    method, result = message.get("method"), {}
    if "id" not in message:
        continue
    if method == "getmanifest":
        result = MANIFEST
    SPECIAL
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + "\\n", flush=True)
"""


def minimal(path: Path, special: str = "pass", methods: tuple[str, ...] = (), **manifest: Any) -> str:
    """Write a plugin without any library and return its path.

    Args:
        path: of the plugin.
        special: a statement that sees `message`, `method` and `line`, and may set `result` or `continue`.
        methods: names of its RPC methods.
        manifest: further members of its manifest.
    """
    rpcmethods = [{"name": name, "usage": ""} for name in methods]
    full = {"options": [], "rpcmethods": rpcmethods, "dynamic": True, **manifest}
    path.write_text(
        f"#!/usr/bin/env python3\nMANIFEST = {full!r}\n{LOOP.replace('SPECIAL', special)}", encoding="utf-8"
    )
    path.chmod(0o755)
    return str(path)


class TestLife:
    def test_start_call_stop_and_again(self, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        first = running.rpc("echo", [1, "two"])
        assert (first["a"], first["b"]) == (1, "two")
        assert running.rpc("plugin", ["stop", "echo.py"])["result"] == "Successfully stopped echo.py."
        assert running.refused("echo") == (-32601, "Unknown command 'echo'")
        running.rpc("plugin", ["start", ECHO])
        assert running.rpc("echo")["pid"] != first["pid"]

    def test_a_subscriber_of_shutdown_may_say_goodbye(self, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        running.rpc("plugin", ["stop", ECHO])
        assert "plugin-echo.py: echo says goodbye" in running.log()

    def test_the_end_of_lightningd_is_told(self, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        assert running.stop() == 0
        assert "plugin-echo.py: echo says goodbye" in running.log()

    def test_a_plugin_may_call_back(self, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        assert running.rpc("echo-getinfo")["id"] == running.rpc("getinfo")["id"]

    def test_its_errors_pass_through(self, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        assert running.refused("echo-fail")[0] == -5

    def test_death_in_a_call_is_an_error_and_not_the_end(self, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        assert running.refused("echo-die") == (-4, "Plugin terminated before replying to RPC call.")
        assert running.plugins() == []
        running.rpc("plugin", ["start", ECHO])

    def test_stop_in_the_middle_of_a_call(self, running: FakeNode, tmp_path: Path) -> None:
        slow = minimal(tmp_path / "slow.py", "if method == 'slow': continue", ("slow",))
        running.rpc("plugin", ["start", slow])
        answers: list[tuple[int, str]] = []
        caller = threading.Thread(target=lambda: answers.append(running.refused("slow")))
        caller.start()
        wait_until(lambda: "slow" in str(running.rpc("help")), 5, "slow is a command")
        running.rpc("plugin", ["stop", slow])
        caller.join(10)
        assert answers[0][0] in (-4, -32601)

    def test_the_other_plugin_keeps_its_methods(self, running: FakeNode, tmp_path: Path) -> None:
        one = minimal(tmp_path / "one.py", methods=("same",))
        two = minimal(tmp_path / "two.py", methods=("same",))
        running.rpc("plugin", ["start", one])
        code, message = running.refused("plugin", ["start", two])
        assert (code, message) == (
            -3,
            f'{two}: Could not register method "same", a method with that name is already registered by plugin {one}',
        )
        assert running.rpc("same") == {}

    def test_a_method_of_lightningd_is_its_death(self, running: FakeNode, tmp_path: Path) -> None:
        clash = minimal(tmp_path / "clash.py", methods=("getinfo",))
        with pytest.raises(ConnectionResetError):
            running.rpc("plugin", ["start", clash])
        assert running.wait() == -11
        assert list(running.net.glob("crash.log.*"))

    def test_a_method_of_a_built_in_plugin_is_an_error(self, running: FakeNode, tmp_path: Path) -> None:
        clash = minimal(tmp_path / "clash.py", methods=("sql",))
        assert running.refused("plugin", ["start", clash])[0] == -3

    def test_neighbours_hear_who_comes_and_goes(self, running: FakeNode, tmp_path: Path) -> None:
        running.rpc("plugin", ["start", ECHO])
        other = minimal(tmp_path / "other.py")
        running.rpc("plugin", ["start", other])
        running.rpc("plugin", ["stop", other])
        shy = minimal(tmp_path / "shy.py", "if method == 'init': result = {'disable': 'no'}")
        running.refused("plugin", ["start", shy])
        expected = [["started", "echo.py"], ["started", "other.py"], ["stopped", "other.py"], ["stopped", "shy.py"]]

        def told() -> list[Any]:
            return [entry["payload"] for entry in running.rpc("echo-heard")["heard"] if entry.get("topic") == "plugin"]

        wait_until(lambda: told() == expected, 5, "all of it is heard")

    def test_an_early_start_never_ends(self, fake: FakeNode, tmp_path: Path) -> None:
        """While another plugin is still at its init, lightningd answers but must not be given plugins."""
        slow = minimal(tmp_path / "slow.py", "if method == 'init': time.sleep(4)")
        early = minimal(tmp_path / "early.py")
        fake.spawn(f"--plugin={slow}")
        wait_until(lambda: fake.socket.exists() and _answers(fake), 10, "getinfo answers")
        with pytest.raises(TimeoutError):
            fake.rpc("plugin", ["start", early], timeout=1)
        states = {row["name"]: row["active"] for row in fake.rpc("plugin", ["list"])["plugins"]}
        assert (states[slow], states[early]) == (False, False)
        assert fake.refused("plugin", ["start", early]) == (-32602, f"{early}: Invalid argument")
        wait_until(lambda: "Server started" in fake.log(), 5, "the wait for the init was broken off")
        fake.rpc("plugin", ["stop", early])
        fake.rpc("plugin", ["start", early])

    def test_important_plugins_take_lightningd_with_them(self, fake: FakeNode) -> None:
        fake.start(f"--important-plugin={ECHO}")
        os.kill(fake.rpc("echo")["pid"], 9)
        assert fake.wait() == 1
        assert "Plugin marked as important, shutting down lightningd!" in fake.log()

    def test_sigterm_tells_nobody(self, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        assert running.process is not None
        running.process.terminate()
        assert running.wait() == -15
        assert "goodbye" not in running.log()
        assert (running.dir / "lightningd-regtest.pid").exists()


def _answers(node: FakeNode) -> bool:
    try:
        node.rpc("getinfo")
    except ConnectionRefusedError:
        return False
    return True


class TestOptions:
    def test_every_source_and_every_type(self, fake: FakeNode) -> None:
        fake.config(f"plugin={ECHO}", "echo-number=11", "echo-many=a", "echo-many=b", "echo-flag", "echo-yes=true")
        fake.start()
        given = fake.rpc("echo-init")["options"]
        assert given["echo-number"] == 11
        assert given["echo-many"] == ["a", "b"]
        assert (given["echo-flag"], given["echo-yes"], given["echo-text"]) == (True, True, "hello")
        entry = fake.rpc("listconfigs", ["echo-number"])["configs"]["echo-number"]
        assert entry == {"value_int": 11, "source": f"{fake.dir}/config:2", "plugin": ECHO}

    def test_an_unknown_option_refuses_the_start(self, fake: FakeNode) -> None:
        done = fake.config("bogus=1").run()
        assert (done.returncode, done.stderr) == (
            1,
            f"lightningd: Config file {fake.dir}/config line 1: bogus=1: unknown option\n",
        )

    def test_help_is_the_dry_run(self, fake: FakeNode) -> None:
        good = fake.config(f"plugin={ECHO}", "echo-number=11").run("--help")
        assert good.returncode == 0
        assert "--echo-number" in good.stdout
        assert not (fake.net / "hsm_secret").exists()
        assert fake.config("echo-number=11").run("--help").returncode == 1

    def test_setconfig_reaches_the_plugin_and_the_file(self, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        entry = running.rpc("setconfig", ["echo-live", "d1"])["config"]
        assert entry["source"] == f"{running.net}/config.setconfig:2"
        assert "echo-live=d1" in (running.net / "config.setconfig").read_text(encoding="utf-8")
        assert running.refused("setconfig", ["echo-text", "x"])[0] == -32602
        running.stop()
        # The bomb: nothing starts the plugin now, and its option is written down.
        assert "config.setconfig line 2: echo-live=d1: unknown option" in running.run().stderr

    def test_the_orphan_of_a_stopped_plugin_kills_lightningd(self, fake: FakeNode, tmp_path: Path) -> None:
        fake.config(f"plugin={ECHO}", "echo-number=11").start()
        other = minimal(tmp_path / "other.py")
        fake.rpc("plugin", ["stop", ECHO])
        fake.rpc("plugin", ["start", other])
        with pytest.raises(ConnectionResetError):
            fake.rpc("setconfig", ["min-capacity-sat", 5])
        assert fake.wait() == -11


class TestCalls:
    def test_what_a_client_sends_arrives_as_it_was(self, running: FakeNode, tmp_path: Path) -> None:
        raw = minimal(tmp_path / "raw.py", "if method == 'raw': result = {'line': line}", ("raw",))
        running.rpc("plugin", ["start", raw])
        line = running.rpc("raw", {"n": 1.50})["line"]
        assert '"params": {"n": 1.5}' in line
        assert "/cln:raw#" in line

    def test_a_message_on_the_way_is_for_those_who_asked(self, running: FakeNode) -> None:
        import socket

        running.rpc("plugin", ["start", ECHO])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(running.socket))
            client.sendall(b'{"jsonrpc":"2.0","id":"a","method":"notifications","params":{"enable":true}}')
            client.sendall(b'{"jsonrpc":"2.0","id":"b","method":"echo-slow","params":{"seconds":0}}')
            received = b""
            while b'"slept"' not in received:
                received += client.recv(1 << 16)
        messages = [json.loads(text) for text in received.decode().split("\n\n") if text]
        assert messages[1]["method"] == "message"
        assert (messages[1]["params"]["id"], messages[1]["params"]["message"]) == ("b", "half way")

    @pytest.mark.parametrize("answer", ["return", "replace"])
    def test_rpc_command_may_answer_or_replace(self, answer: str, running: FakeNode, tmp_path: Path) -> None:
        other: dict[str, Any] = {"jsonrpc": "2.0", "id": 0, "method": "listpeers", "params": {}}
        decided: dict[str, Any] = {"return": {"result": {"mine": True}}} if answer == "return" else {"replace": other}
        special = (
            "if method == 'rpc_command' and message['params']['rpc_command']['method'] == 'listfunds': "
            f"result = {decided!r}"
        )
        hook = minimal(tmp_path / "hook.py", special, hooks=[{"name": "rpc_command"}])
        running.rpc("plugin", ["start", hook])
        expected: dict[str, Any] = {"mine": True} if answer == "return" else {"peers": []}
        assert running.rpc("listfunds") == expected
        assert "id" in running.rpc("getinfo")

    def test_a_hook_that_hangs_stops_everything_until_it_dies(self, running: FakeNode, tmp_path: Path) -> None:
        pid = tmp_path / "pid"
        note = f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))"
        special = f"{note}\n    if method == 'rpc_command': continue"
        hook = minimal(tmp_path / "hook.py", special, hooks=["rpc_command"])
        running.rpc("plugin", ["start", hook])
        with pytest.raises(TimeoutError):
            running.rpc("getinfo", timeout=0.5)
        os.kill(int(pid.read_text()), 9)
        assert "id" in running.rpc("getinfo")
