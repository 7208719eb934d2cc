"""The life of a plugin's process, from its start to its end, and what its end does to callers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from waiting import wait_until

from conformance.lab import wire
from conformance.lab.daemon import Daemon
from conformance.lab.scripted import ScriptedPlugin

METHOD = [{"name": "d-x", "usage": "", "description": "x"}, {"name": "d-y", "usage": "", "description": "y"}]
SILENT: dict[str, Any] = {}
TERMINATED = {"code": -4, "message": "Plugin terminated before replying to RPC call."}


def start(daemon: Daemon, name: str, script: dict[str, Any]) -> ScriptedPlugin:
    plugin = daemon.plugin(name, script)
    daemon.ok("plugin", ["start", str(plugin.path)])
    return plugin


class Call(threading.Thread):
    """A request in the background: `reply` is the answer, or the error of the connection."""

    def __init__(self, daemon: Daemon, method: str, params: Any = None, timeout: float = 60.0) -> None:
        super().__init__(daemon=True)
        self.reply: Any = None
        self._ask: Callable[[], dict[str, Any]] = lambda: daemon.rpc(method, params, timeout)
        self.start()

    def run(self) -> None:
        try:
            self.reply = self._ask()
        except (OSError, wire.ClosedError) as error:
            self.reply = error

    def result(self, timeout: float = 60.0) -> Any:
        self.join(timeout)
        assert not self.is_alive(), "the call is still unanswered"
        return self.reply


def wait_received(plugin: ScriptedPlugin, method: str) -> None:
    wait_until(lambda: any(m["method"] == method for m in plugin.received()), 10, f"the plugin receives {method}")


def test_the_process_as_lightningd_starts_it(node: Daemon) -> None:
    plugin = start(node, "env.py", {"on": {"start": {"stderr": "words on stderr\n"}}})
    first = plugin.log()[0]
    assert first["start"]["argv"] == [str(plugin.path)]
    assert first["start"]["cwd"] == str(node.network_dir)
    version = node.ok("getinfo")["version"]
    assert first["start"]["env"] == {"LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": version}
    assert os.getsid(first["pid"]) == os.getsid(node.process.pid)
    assert "words on stderr" in node.stderr()
    assert "words on stderr" not in node.log_text()


def test_a_plugin_that_did_not_ask_is_killed_without_a_word(node: Daemon) -> None:
    plugin = start(node, "quiet.py", {"manifest": {"rpcmethods": METHOD}})
    node.ok("plugin", ["stop", str(plugin.path)])
    wait_until(lambda: not plugin.pids(), 5, "the process is gone")
    assert [m["method"] for m in plugin.received()] == ["getmanifest", "init"]
    assert not any("eof" in entry or "exit" in entry for entry in plugin.log())


def test_a_subscriber_is_told_and_waited_for(node: Daemon) -> None:
    script = {"manifest": {"subscriptions": ["shutdown"]}, "on": {"shutdown": {"delay_ms": 700, "exit": 0}}}
    plugin = start(node, "subscriber.py", script)
    reply = node.ok("plugin", ["stop", str(plugin.path)])
    assert reply == {"command": "stop", "result": "Successfully stopped subscriber.py."}
    assert plugin.received()[-1] == {"jsonrpc": "2.0", "method": "shutdown", "params": {"shutdown": {}}}
    assert plugin.log()[-1]["exit"] == 0, "the reply came before the plugin had left"


def test_calls_under_way_when_the_plugin_is_stopped(node: Daemon) -> None:
    plugin = start(node, "slow.py", {"manifest": {"rpcmethods": METHOD}, "on": {"d-x": SILENT}})
    call = Call(node, "d-x")
    wait_received(plugin, "d-x")
    assert node.ok("d-y", [1])["params"] == [1], "a hanging method does not hang the others"
    node.ok("plugin", ["stop", str(plugin.path)])
    assert call.result()["error"] == TERMINATED


def test_calls_under_way_when_the_plugin_is_killed(node: Daemon) -> None:
    plugin = start(node, "slow.py", {"manifest": {"rpcmethods": METHOD}, "on": {"d-x": SILENT}})
    call = Call(node, "d-x")
    wait_received(plugin, "d-x")
    plugin.kill()
    assert call.result()["error"] == TERMINATED
    assert node.listed() == []


def test_calls_under_way_when_lightningd_stops(fresh: Daemon) -> None:
    fresh.start()
    plugin = start(fresh, "slow.py", {"manifest": {"rpcmethods": METHOD}, "on": {"d-x": SILENT}})
    call = Call(fresh, "d-x")
    wait_received(plugin, "d-x")
    assert fresh.stop() == 0
    assert isinstance(call.result(), wire.ClosedError | ConnectionResetError)


def test_stop_tells_subscribers_and_leaves_the_others_their_end_of_file(fresh: Daemon) -> None:
    fresh.start()
    told = start(fresh, "told.py", {"manifest": {"subscriptions": ["shutdown"]}})
    quiet = start(fresh, "quiet.py", {"manifest": {"rpcmethods": METHOD}})
    assert fresh.rpc("stop") == {"jsonrpc": "2.0", "id": 1, "result": {"result": "Shutdown complete"}}
    assert fresh.ended() == 0
    wait_until(lambda: not told.pids() and not quiet.pids(), 5, "both are gone")
    assert told.received()[-1] == {"jsonrpc": "2.0", "method": "shutdown", "params": {"shutdown": {}}}
    assert [m["method"] for m in quiet.received()] == ["getmanifest", "init"]
    assert any("eof" in entry for entry in quiet.log())
    assert fresh.socket.exists()
    assert not (fresh.dir / "lightningd-regtest.pid").exists()


def test_a_plugin_may_outlive_lightningd(fresh: Daemon) -> None:
    fresh.start()
    stubborn = start(fresh, "stubborn.py", {"on": {"eof": {"linger": True}}})
    assert fresh.stop() == 0
    wait_until(lambda: any("eof" in entry for entry in stubborn.log()), 5, "it sees the end of its input")
    assert stubborn.pids()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_signal_ends_it_without_goodbye(number: signal.Signals, fresh: Daemon) -> None:
    fresh.start()
    told = start(fresh, "told.py", {"manifest": {"subscriptions": ["shutdown"]}})
    os.kill(fresh.process.pid, number)
    assert fresh.ended() == -number
    wait_until(lambda: not told.pids(), 5, "the plugin sees the end of its input")
    assert "shutdown" not in [m["method"] for m in told.received()]
    assert fresh.socket.exists()
    assert (fresh.dir / "lightningd-regtest.pid").exists()


def test_it_starts_again_after_a_kill(fresh: Daemon) -> None:
    fresh.start()
    before = fresh.ok("getinfo")["id"]
    os.kill(fresh.process.pid, signal.SIGKILL)
    fresh.ended()
    fresh.log_file.unlink()
    fresh.start()
    assert fresh.ok("getinfo")["id"] == before


def test_sighup_starts_a_new_log(fresh: Daemon) -> None:
    fresh.start()
    old = fresh.log_file.rename(fresh.dir / "log.old")
    os.kill(fresh.process.pid, signal.SIGHUP)
    fresh.wait_for_log("INFO +lightningd: Started log due to SIGHUP")
    assert "Ending log due to SIGHUP" in old.read_text(encoding="utf-8").splitlines()[-1]
    assert fresh.alive()


def test_a_hung_rpc_command_hook_freezes_every_call(node: Daemon) -> None:
    hook = {"hooks": [{"name": "rpc_command"}]}
    hung = node.plugin("hung.py", {"manifest": hook, "on": {"rpc_command": SILENT}})
    node.ok("plugin", ["start", str(hung.path)])
    with pytest.raises(TimeoutError):
        node.rpc("getinfo", timeout=1.0)
    with pytest.raises(TimeoutError):
        node.rpc("plugin", ["stop", str(hung.path)], timeout=1.0)
    hung.kill()
    assert "result" in node.rpc("getinfo")


def test_an_rpc_command_hook_sees_the_whole_request(node: Daemon) -> None:
    plugin = start(node, "hook.py", {"manifest": {"hooks": [{"name": "rpc_command"}]}})
    wire.exchange(node.socket, '{"jsonrpc":"2.0","id":"me","method":"listpeers","params":{"level":"info"}}')
    seen = [m["params"]["rpc_command"] for m in plugin.received() if m["method"] == "rpc_command"]
    assert {"jsonrpc": "2.0", "id": "me", "method": "listpeers", "params": {"level": "info"}} in seen


def test_an_rpc_command_hook_can_filter(node: Daemon) -> None:
    plugin = start(node, "hook.py", {"manifest": {"hooks": [{"name": "rpc_command", "filters": ["listpeers"]}]}})
    for method in ("getinfo", "listpeers", "listconfigs"):
        node.ok(method)
    calls = [m["params"]["rpc_command"]["method"] for m in plugin.received() if m["method"] == "rpc_command"]
    assert calls == ["listpeers"]


def test_an_rpc_command_hook_can_answer_itself(node: Daemon) -> None:
    answers = {"return": {"result": {"instead": True}}}
    start(node, "hook.py", {
        "manifest": {"hooks": [{"name": "rpc_command", "filters": ["listpeers"]}]},
        "on": {"rpc_command": {"result": answers}},
    })  # fmt: skip
    assert node.ok("listpeers") == {"instead": True}


def test_a_start_that_hangs_holds_up_the_next_one(node: Daemon) -> None:
    hung = node.plugin("hung.py", {"on": {"getmanifest": SILENT}})
    first = Call(node, "plugin", ["start", str(hung.path)])
    wait_until(hung.received, 5, "getmanifest is sent")
    assert {"name": str(hung.path), "active": False, "dynamic": False} in node.listed()
    reply = node.rpc("plugin", ["stop", str(hung.path)])
    assert reply["error"] == {"code": -32602, "message": f"{hung.path} cannot be managed when lightningd is up"}
    other = node.plugin("other.py", {})
    second = Call(node, "plugin", ["start", str(other.path)])
    wait_until(other.received, 5, "the other is asked for its manifest")
    assert second.reply is None
    assert "result" in node.rpc("getinfo")
    hung.kill()
    assert first.result()["error"]["message"] == f"{hung.path}: exited before replying to getmanifest"
    assert "result" in second.result()


def test_starts_side_by_side_are_answered_together(node: Daemon) -> None:
    slow = node.plugin("slow.py", {"on": {"getmanifest": {"delay_ms": 800, "result": _empty()}}})
    quick = node.plugin("quick.py", {})
    calls = [Call(node, "plugin", ["start", str(plugin.path)]) for plugin in (slow, quick)]
    for call in calls:
        names = [p["name"] for p in call.result()["result"]["plugins"]]
        assert str(slow.path) in names
    assert all(plugin["active"] for plugin in node.listed())


def test_a_start_before_start_up_is_complete_is_never_answered(fresh: Daemon) -> None:
    """The reason why everyone who starts a plugin first waits until all the others are active."""
    slow = fresh.plugin("slow.py", {"on": {"init": {"delay_ms": 4000, "result": {}}}})
    early = fresh.plugin("early.py", {})
    fresh.launch(f"--plugin={slow.path}")
    wait_until(lambda: fresh.try_rpc("getinfo"), 30, "getinfo answers")
    assert [p["active"] for p in fresh.listed()] == [False]
    with pytest.raises(TimeoutError):
        fresh.rpc("plugin", ["start", str(early.path)], timeout=1.0)
    wait_until(lambda: any("out" in entry and "init" in entry["out"] for entry in slow.log()), 20, "init is answered")
    wait_until(lambda: {p["name"]: p["active"] for p in fresh.listed()}[str(slow.path)], 10, "the slow one is active")
    assert {"name": str(early.path), "active": False, "dynamic": True} in fresh.listed()
    reply = fresh.rpc("plugin", ["start", str(early.path)])
    assert reply["error"] == {"code": -32602, "message": f"{early.path}: Invalid argument"}
    fresh.ok("plugin", ["stop", str(early.path)])
    fresh.ok("plugin", ["start", str(early.path)])
    assert all(plugin["active"] for plugin in fresh.listed())


def test_subscription_to_everything(node: Daemon) -> None:
    plugin = start(node, "all.py", {"manifest": {"subscriptions": ["*"], "rpcmethods": METHOD}})
    other = start(node, "other.py", {})
    node.ok("plugin", ["stop", str(other.path)])
    wait_until(
        lambda: {"plugin_started", "plugin_stopped"} & {m["method"] for m in plugin.received()}, 5, "it hears of others"
    )
    heard = next(m for m in plugin.received() if m["method"] == "plugin_started")
    assert set(heard) == {"jsonrpc", "method", "params"}
    assert set(heard["params"]) == {"plugin_started"}, f"wrapped in its own name: {json.dumps(heard)}"


def _empty() -> dict[str, Any]:
    return {"options": [], "rpcmethods": [], "subscriptions": [], "hooks": [], "dynamic": True}


class TestPatience:
    """Long time-outs: two minutes and half a minute on the real one."""

    def test_getmanifest_is_not_waited_for_for_ever(self, hurried: Daemon) -> None:
        hurried.start()
        plugin = hurried.plugin("hang.py", {"on": {"getmanifest": SILENT}})
        reply = hurried.rpc("plugin", ["start", str(plugin.path)], timeout=hurried.flavour.timeout + 20)
        message = f"{plugin.path}: timed out before replying to getmanifest"
        assert reply["error"] == {"code": -3, "message": message}
        assert not plugin.pids()

    def test_init_is_not_waited_for_for_ever(self, hurried: Daemon) -> None:
        hurried.start()
        plugin = hurried.plugin("hang.py", {"on": {"init": SILENT}})
        reply = hurried.rpc("plugin", ["start", str(plugin.path)], timeout=hurried.flavour.timeout + 20)
        assert reply["error"] == {"code": -3, "message": f"{plugin.path}: timed out before replying to init"}

    def test_a_word_printed_instead_of_json_looks_like_silence(self, hurried: Daemon) -> None:
        hurried.start()
        plugin = hurried.plugin("print.py", {"on": {"getmanifest": {"text": "hello this is a print\n\n"}}})
        reply = hurried.rpc("plugin", ["start", str(plugin.path)], timeout=hurried.flavour.timeout + 20)
        message = f"{plugin.path}: timed out before replying to getmanifest"
        assert reply["error"] == {"code": -3, "message": message}

    @pytest.mark.parametrize("moment", ["getmanifest", "init"])
    def test_at_start_up_it_is_the_end(self, moment: str, hurried: Daemon) -> None:
        plugin = hurried.plugin("hang.py", {"on": {moment: SILENT}})
        outcome = hurried.run(f"--plugin={plugin.path}", timeout=hurried.flavour.timeout + 20)
        assert outcome.rc == 1
        assert "Can't recover from plugin failure, terminating." in outcome.stderr

    def test_a_subscriber_that_stays_is_killed(self, hurried: Daemon) -> None:
        hurried.start()
        plugin = start(hurried, "stays.py", {"manifest": {"subscriptions": ["shutdown"]}, "on": {"shutdown": SILENT}})
        timeout = hurried.flavour.shutdown_timeout + 10
        reply = hurried.ok("plugin", ["stop", str(plugin.path)], timeout=timeout)
        assert reply["result"] == "Successfully stopped stays.py."
        wait_until(lambda: not plugin.pids(), 5, "it is gone")
        hurried.wait_for_log("UNUSUAL plugin-stays.py: Timeout on shutdown: killing anyway")

    def test_a_subscriber_that_stays_delays_the_end_of_lightningd(self, hurried: Daemon) -> None:
        hurried.start()
        start(hurried, "stays.py", {"manifest": {"subscriptions": ["shutdown"]}, "on": {"shutdown": SILENT}})
        hurried.rpc("stop", timeout=hurried.flavour.shutdown_timeout + 10)
        assert hurried.ended() == 0
