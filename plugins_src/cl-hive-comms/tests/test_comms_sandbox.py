"""comms under lightningd: the sandbox's fake one, and a real one where there is any."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cl_hive_comms.main import SPEC
from hive_sandbox.backend import SandboxError
from hive_sandbox.fleet import Fleet
from waiting import wait_until

FLAG = "hive-comms-liquidity-publish"


class Cli:
    """lightning-cli of one node."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = shutil.which("cl-hive-comms")

    def __call__(self, *arguments: str, named: bool = False) -> dict[str, Any]:
        command = [str(self.directory / "lightning-cli"), "-N", "none", "-J", *(["-k"] if named else []), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        reply: dict[str, Any] = json.loads(ended.stdout)
        assert ended.returncode == (1 if "code" in reply else 0), ended.stderr
        return reply

    def start(self, *options: str) -> dict[str, Any]:
        return self("plugin", "subcommand=start", f"plugin={self.program}", *options, named=True)

    def stop(self) -> dict[str, Any]:
        return self("plugin", "stop", str(self.program))


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.real)])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp(f"sandbox-{request.param}"))
    try:
        made.up(1, request.param)
        yield made
    except SandboxError as error:
        if request.param == "real" and "no lightningd" in str(error):
            pytest.skip(str(error))
        raise
    finally:
        made.down()


@pytest.fixture
def cli(fleet: Fleet) -> Iterator[Cli]:
    cli = Cli(fleet.root / "alpha")
    yield cli
    if any("cl-hive-comms" in plugin["name"] for plugin in cli("plugin", "list")["plugins"]):
        cli.stop()


def test_start_use_stop_start_again(cli: Cli) -> None:
    assert {"name": cli.program, "active": True, "dynamic": True} in cli.start()["plugins"]
    pubkey = cli("hive-client-identity")["pubkey"]
    assert cli("hive-client-authorize", "bob", "monitor,policy", "5000")["permissions"] == ["monitor", "policy"]
    assert cli("hive-client-alias", "action=set", "alias=b", "advisor=bob", named=True)["ok"] is True
    assert cli("hive-comms-health")["status"] == "ok"
    cli.stop()
    assert cli("hive-client-status")["code"] == -32601
    assert not list(cli.directory.glob("lightning/regtest/cl_hive_comms.db-*")), "checkpointed and closed"
    cli.start()
    assert cli("hive-client-identity")["pubkey"] == pubkey
    assert cli("hive-client-revoke", "b")["advisor"] == "bob"
    assert cli("hive-client-receipts", "verify=true", named=True)["verification"]["valid"] is True


def test_methods_and_options_are_those_of_the_manifest(cli: Cli) -> None:
    cli.start()
    methods = {entry["command"].split()[0] for entry in cli("help")["help"]}
    assert {name for name in methods if name.startswith(("hive-client-", "hive-comms-"))} == {
        SPEC.health_rpc,
        *(method.name for method in SPEC.methods),
    }
    configs = cli("listconfigs")["configs"]
    values = {
        name: next(entry[kind] for kind in ("value_str", "value_bool", "value_int") if kind in entry)
        for name, entry in configs.items()
        if entry.get("plugin") == cli.program
    }
    assert values == {option.name: option.wire_default for option in SPEC.options}
    assert {name for name in values if configs[name].get("dynamic")} == {o.name for o in SPEC.options if o.dynamic}


def test_errors_reach_the_caller(cli: Cli) -> None:
    cli.start()
    assert cli("hive-client-authorize", "bob", "monitor", "many") == {
        "code": -32602,
        "message": "daily_limit_sats: 'many' is not a whole number",
    }
    assert cli("hive-client-revoke", "nobody")["code"] == 6001


def test_a_flag_changes_while_it_runs(cli: Cli) -> None:
    cli.start()
    assert cli("hive-client-status")["features"]["liquidity"]["publish"] is True
    cli("setconfig", f"config={FLAG}", "val=false", "transient=true", named=True)
    assert cli("hive-client-status")["features"]["liquidity"]["publish"] is False


def test_a_bad_option_disables_with_the_reason(cli: Cli) -> None:
    refused = cli.start("hive-comms-policy-preset=wild")
    assert refused["code"] == -3
    sentence = (
        "disabled itself at init: hive-comms-policy-preset: 'wild' is not one of conservative, moderate, aggressive"
    )
    assert refused["message"] == f"{cli.program}: {sentence}"
    assert not any("cl-hive-comms" in plugin["name"] for plugin in cli("plugin", "list")["plugins"])
    assert cli.start("hive-comms-policy-preset=aggressive")["command"] == "start"
    assert cli("hive-client-policy")["policy"]["preset"] == "aggressive"


def test_a_killed_plugin_comes_back_with_its_data(cli: Cli) -> None:
    cli.start()
    token = cli("hive-client-authorize", "carol")["auth_token"]
    os.kill(plugin_pid(cli), signal.SIGKILL)
    wait_until(lambda: "code" in cli("hive-client-status"), 10, "lightningd noticed")
    cli.start()
    assert cli("hive-client-authorize", "carol")["auth_token"] == token


def plugin_pid(cli: Cli) -> int:
    """The child of this node's lightningd that runs our program."""
    parent = (cli.directory / "lightning" / "lightningd-regtest.pid").read_text("utf-8").strip()
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text("utf-8").split():
        if str(cli.program).encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"{cli.program} is not a child of {parent}")
