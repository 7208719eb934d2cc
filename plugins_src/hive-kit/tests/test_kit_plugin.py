"""A plugin on real pipes, as lightningd drives it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hive_kit.plugin
import pytest
from hive_kit.runtime import Runtime
from hive_kit.testing import PluginProcess
from waiting import wait_until

DEMO = [sys.executable, str(Path(__file__).with_name("kit_demo_plugin.py"))]


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[PluginProcess]:
    process = PluginProcess(DEMO, tmp_path)
    yield process
    if process.process.poll() is None:
        process.kill()


def error_of(reply: dict[str, Any]) -> dict[str, Any]:
    assert "result" not in reply
    error: dict[str, Any] = reply["error"]
    return error


def test_manifest(plugin: PluginProcess) -> None:
    manifest = plugin.request("getmanifest", {"allow-deprecated-apis": False})["result"]
    assert [(entry["name"], entry["usage"]) for entry in manifest["rpcmethods"]] == [
        ("demo-put", "key [request] [plugin]"),
        ("demo-fail", ""),
        ("demo-limit", ""),
        ("demo-hang", ""),
        ("demo-shout", ""),
        ("demo-health", ""),
    ]
    assert sorted(manifest["subscriptions"]) == ["custommsg", "shutdown"]
    assert [hook["name"] for hook in manifest["hooks"]] == ["peer_connected"]
    assert manifest["dynamic"] is True
    options = {option["name"]: (option["type"], option["default"], option["dynamic"]) for option in manifest["options"]}
    assert options == {
        "demo-db-path": ("string", "demo.db", False),
        "demo-init": ("string", "run", False),
        "demo-flag": ("bool", True, True),
    }


def test_manifest_is_answered_before_heavy_imports(plugin: PluginProcess) -> None:
    plugin.request("getmanifest", {})
    mapped = Path(f"/proc/{plugin.process.pid}/maps").read_text("utf-8")
    for library in ("libsecp256k1", "coincurve", "nacl", "cryptography"):
        assert library not in mapped


def test_calls_positional_named_and_wrong(plugin: PluginProcess) -> None:
    assert plugin.start() == {"jsonrpc": "2.0", "id": "test:init#2", "result": None}
    assert plugin.call("demo-put", "a") == {"keys": ["a"]}
    assert plugin.call("demo-put", name="b", request="r", plugin="p") == {"keys": ["a", "b"]}
    assert error_of(plugin.request("demo-put", {"zz": 1}))["code"] == -32602
    assert error_of(plugin.request("demo-put", "text"))["message"] == "parameters must be a list or an object"
    assert error_of(plugin.request("demo-limit", {})) == {
        "code": 6007,
        "message": "no more today",
        "data": {"limit": 5},
    }


def test_a_defect_is_an_error_that_does_not_leak_and_the_plugin_goes_on(plugin: PluginProcess) -> None:
    plugin.start()
    assert error_of(plugin.request("demo-fail", [])) == {
        "code": -32603,
        "message": "demo-fail failed inside the plugin (ZeroDivisionError); the log has the details",
    }
    wait_until(lambda: any("ZeroDivisionError" in line for line in plugin.log), 5, "the traceback is in the log")
    assert any(line.startswith("broken: demo-fail failed") for line in plugin.log)
    assert plugin.call("demo-put", "a") == {"keys": ["a"]}


def test_what_a_library_prints_becomes_a_log_line(plugin: PluginProcess) -> None:
    plugin.start()
    plugin.call("demo-shout")
    wait_until(lambda: "info: hello, not JSON" in plugin.log, 5, "the line is in the log")


def test_calls_before_init_are_refused(plugin: PluginProcess) -> None:
    plugin.request("getmanifest", {})
    assert error_of(plugin.request("demo-put", ["a"]))["code"] == 6008


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"demo-init": "refuse"}, "demo does not want to; set demo-init=run"),
        ({"demo-init": "wild"}, "demo-init: 'wild' is not one of run, refuse, crash"),
        ({"demo-flag": "maybe"}, "demo-flag: 'maybe' is not true or false"),
        (
            {"demo-init": "crash"},
            "init failed inside the plugin (ZeroDivisionError: a defect); the log has the details",
        ),
    ],
)
def test_a_failed_init_disables_with_the_reason(plugin: PluginProcess, options: dict[str, Any], reason: str) -> None:
    assert plugin.start(options)["result"] == {"disable": reason}
    assert error_of(plugin.request("demo-put", ["a"]))["code"] == 6008
    assert not list(plugin.network_dir.glob("*-wal")), "the database is closed"


def test_an_init_that_hangs_disables_before_lightningd_loses_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    class Hanging(Runtime[Any]):
        def __init__(self) -> None:
            self.app = None

        def start(self, *_: Any, **__: Any) -> Any:
            gate.wait(10)

    monkeypatch.setattr(hive_kit.plugin, "_INIT_SECONDS", 0.05)
    reply = hive_kit.plugin._init(Hanging(), {}, {"lightning-dir": "/nowhere"})
    gate.set()
    assert reply == {"disable": "init did not end within 0.05 s; look for a busy disk or a huge database"}


def test_setconfig(plugin: PluginProcess) -> None:
    plugin.start()
    assert plugin.request("setconfig", {"config": "demo-flag", "val": "false"})["result"] == {}
    assert error_of(plugin.request("setconfig", {"config": "demo-flag", "val": "maybe"})) == {
        "code": 6009,
        "message": "demo-flag: 'maybe' is not true or false",
    }


def test_notifications_in_order_and_a_bad_one_does_no_harm(plugin: PluginProcess) -> None:
    plugin.start()
    plugin.notify("custommsg", {"peer_id": "p1"})
    plugin.notify("custommsg", {"no": "peer"})
    plugin.notify("custommsg", {"peer_id": "flooder"})
    plugin.notify("custommsg", {"peer_id": "p2"})
    plugin.notify("unknown", {"x": 1})

    def peers() -> bool:
        return [entry.get("peer") for entry in plugin.call("demo-shout")["heard"] if "peer" in entry] == ["p1", "p2"]

    wait_until(peers, 5, "both were heard in order")
    wait_until(lambda: any("handling custommsg failed" in line for line in plugin.log), 5, "the bad one is in the log")


def test_a_hook_answers_and_falls_back(plugin: PluginProcess) -> None:
    assert plugin.request("peer_connected", {"peer": {"id": "bad"}})["result"] == {"result": "continue"}, "before init"
    plugin.start()
    assert plugin.request("peer_connected", {"peer": {"id": "bad"}})["result"] == {"result": "reject"}
    assert plugin.request("peer_connected", {"nonsense": 1})["result"] == {"result": "continue"}


def test_health(plugin: PluginProcess) -> None:
    plugin.start()
    health = wait_until(lambda: first_run(plugin.call("demo-health")), 5, "the job ran")
    assert health["status"] == "ok"
    assert health["plugin"] == "cl-hive-comms"
    assert (health["schema_version"], health["mode"], health["threads_alive"]) == (1, "standalone", True)
    assert health["database"] == str(plugin.network_dir / "demo.db")
    assert [check["name"] for check in health["checks"]] == ["database", "threads", "jobs"]
    assert health["uptime_seconds"] >= 0


def first_run(health: dict[str, Any]) -> dict[str, Any]:
    return health if health["jobs"][0]["runs"] == 1 else {}


@pytest.mark.parametrize("how", ["shutdown", "SIGTERM", "closed stdin"])
def test_the_end_is_quick_and_leaves_a_checkpointed_database(plugin: PluginProcess, how: str) -> None:
    plugin.start()
    plugin.call("demo-put", "kept")
    started = time.monotonic()
    if how == "shutdown":
        plugin.notify("shutdown", {})
    elif how == "SIGTERM":
        plugin.process.send_signal(signal.SIGTERM)
    else:
        assert plugin.process.stdin is not None
        plugin.process.stdin.close()
    assert plugin.process.wait(10) == 0
    assert time.monotonic() - started < 2
    assert sorted(entry.name for entry in plugin.network_dir.iterdir()) == ["demo.db"]
    assert rows(plugin.network_dir / "demo.db") == ["kept"]


def test_a_hung_call_does_not_keep_the_plugin_alive(plugin: PluginProcess) -> None:
    plugin.start()
    plugin.call("demo-put", "kept")
    plugin._send({"jsonrpc": "2.0", "id": "hang", "method": "demo-hang", "params": {}})
    plugin.call("demo-put", "also")
    assert plugin.shutdown() == 0
    assert rows(plugin.network_dir / "demo.db") == ["also", "kept"]


def test_start_stop_start_restart_and_kill_keep_the_data(tmp_path: Path) -> None:
    expected = []
    for number, end in enumerate(["shutdown", "shutdown", "kill", "kill", "shutdown"]):
        plugin = PluginProcess(DEMO, tmp_path)
        assert plugin.start()["result"] is None
        expected.append(f"k{number}")
        assert plugin.call("demo-put", f"k{number}") == {"keys": expected}
        getattr(plugin, end)()
    assert rows(tmp_path / "demo.db") == expected


def test_the_manifest_of_a_release_needs_no_lightningd(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTNINGD")}
    printed = subprocess.run([*DEMO, "--hive-manifest"], capture_output=True, check=True, env=environment, cwd=tmp_path)
    manifest = json.loads(printed.stdout)
    assert manifest.pop("version")
    assert manifest == {
        "name": "cl-hive-comms",
        "start_order": 1,
        "rpc_methods": ["demo-fail", "demo-hang", "demo-health", "demo-limit", "demo-put", "demo-shout"],
        "options": [
            {
                "name": "demo-db-path",
                "type": "string",
                "default": "demo.db",
                "dynamic": False,
                "description": "Where the database is",
            },
            {"name": "demo-flag", "type": "bool", "default": True, "dynamic": True, "description": "A flag"},
            {"name": "demo-init", "type": "string", "default": "run", "dynamic": False, "description": "How init ends"},
        ],
        "hooks": ["peer_connected"],
        "subscriptions": ["custommsg", "shutdown"],
        "tables": ["nostr_state"],
        "database": "demo.db",
        "database_option": "demo-db-path",
        "key_files": ["demo.secrets"],
        "schema_version": 1,
        "readable_by": "0.1.0",
        "requires": {"plugins": [], "cln": "v25.02"},
        "conflicts": [],
        "health_rpc": "demo-health",
    }
    assert list(tmp_path.iterdir()) == []


def test_selfcheck_and_a_start_by_hand(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTNINGD")}
    checked = subprocess.run(
        [*DEMO, "--hive-selfcheck"], capture_output=True, check=True, env=environment, cwd=tmp_path
    )
    assert json.loads(checked.stdout)["ok"] is True
    by_hand = subprocess.run(DEMO, capture_output=True, check=False, env=environment, cwd=tmp_path)
    assert by_hand.returncode == 2
    assert b"is a plugin of Core Lightning" in by_hand.stdout
    assert list(tmp_path.iterdir()) == []


def rows(database: Path) -> list[str]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return [row[0] for row in connection.execute("SELECT key FROM nostr_state ORDER BY key")]
    finally:
        connection.close()
