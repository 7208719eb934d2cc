"""lightningd's own commands, and lightning-cli."""

from __future__ import annotations

import os
import re
import signal
import sqlite3

import pytest

from conformance.lab.cases import Case, load, play
from conformance.lab.daemon import Daemon

PUBKEY = r"0[23][0-9a-f]{64}"


@pytest.mark.parametrize("case", load("commands"))
def test_a_command_answers_as_recorded(case: Case, node: Daemon) -> None:
    play(case, node)


@pytest.mark.parametrize("case", load("client"))
def test_lightning_cli_prints_and_exits_as_recorded(case: Case, node: Daemon) -> None:
    play(case, node)


def test_a_signature_is_by_the_node_and_binds_the_message(node: Daemon) -> None:
    signed = node.ok("signmessage", ["hello"])
    assert set(signed) == {"signature", "recid", "zbase"}
    assert re.fullmatch(r"[0-9a-f]{128}", signed["signature"])
    assert re.fullmatch(r"0[0-3]", signed["recid"])
    assert re.fullmatch(r"[ybndrfg8ejkmcpqxot1uwisza345h769]{104}", signed["zbase"])
    node_id = node.ok("getinfo")["id"]
    named = {"message": "hello", "zbase": signed["zbase"], "pubkey": node_id}
    assert node.ok("checkmessage", named) == {"pubkey": node_id, "verified": True}
    assert node.ok("checkmessage", {**named, "message": "hellO"})["verified"] is False


def test_without_a_key_the_signer_must_be_in_the_graph(node: Daemon) -> None:
    zbase = node.ok("signmessage", ["hello"])["zbase"]
    error = node.rpc("checkmessage", ["hello", zbase])["error"]
    assert error == {
        "code": 1301,
        "message": "pubkey not found in the graph",
        "data": {"claimed_key": node.ok("getinfo")["id"]},
    }


def test_a_recorded_signature_is_verified(node: Daemon) -> None:
    """Made by a real v26.06.6, so it shows that zbase32, prefix and double hash are the real ones."""
    zbase = "dhj3w6n7u6w8xt4csmx1nezt5wnr8r3dmc7ncmsroqearter71wd66ru1pm9dmqed5jzri4axhsmnkpu443kz19syr9bt4s4enwokqc9"
    key = "022e56d4e7cbd557caad1ea8be1cf18721a41ffc527d107b0259fdad731d1c8aa9"
    assert node.ok("checkmessage", {"message": "hello", "zbase": zbase, "pubkey": key})["verified"] is True
    claimed = node.rpc("checkmessage", ["hellO", zbase])["error"]["data"]["claimed_key"]
    assert claimed == "03674441facbc88fcb7d8f66df7cc6ac968fd70d1cf0e11d1d68f77f90e016d7f1"


def test_a_message_has_a_limit(node: Daemon) -> None:
    assert "result" in node.rpc("signmessage", ["x" * 65535])
    assert node.rpc("signmessage", ["x" * 65536])["error"]["code"] == -32602


def test_a_secret_is_the_same_every_time_and_differs_by_name(fresh: Daemon) -> None:
    fresh.start()
    hexed = fresh.ok("makesecret", ["68656c6c6f"])
    assert fresh.ok("makesecret", {"string": "hello"}) == hexed
    assert fresh.ok("makesecret", {"string": "hellp"}) != hexed
    fresh.stop()
    fresh.log_file.unlink()
    assert fresh.start().ok("makesecret", {"string": "hello"}) == hexed


def test_a_rune_permits_what_it_says(node: Daemon) -> None:
    rune = node.ok("createrune", {"restrictions": [["method=getinfo", "method=listpeers"], ["rate=60000"]]})
    assert node.ok("checkrune", {"rune": rune["rune"], "method": "getinfo"}) == {"valid": True}
    error = node.rpc("checkrune", {"rune": rune["rune"], "method": "pay"})["error"]
    assert error == {
        "code": 1502,
        "message": "Not permitted: method is not equal to getinfo AND method is not equal to listpeers",
    }
    number = int(rune["unique_id"])
    assert node.ok("blacklistrune", {"start": number, "end": number})["blacklist"]
    error = node.rpc("checkrune", {"rune": rune["rune"], "method": "getinfo"})["error"]
    assert error == {"code": 1503, "message": "Not authorized: Blacklisted rune"}


def test_a_rune_can_be_narrowed_but_not_widened(node: Daemon) -> None:
    wide = node.ok("createrune")["rune"]
    narrow = node.ok("createrune", {"rune": wide, "restrictions": [["method=getinfo"]]})["rune"]
    assert node.ok("checkrune", {"rune": narrow, "method": "getinfo"}) == {"valid": True}
    error = node.rpc("checkrune", {"rune": narrow, "method": "pay"})["error"]
    assert error == {"code": 1502, "message": "Not permitted: method is not equal to getinfo"}


def test_a_rune_has_a_rate(node: Daemon) -> None:
    rune = node.ok("createrune", {"restrictions": [["rate=2"]]})["rune"]
    assert node.ok("checkrune", {"rune": rune, "method": "getinfo"}) == {"valid": True}
    error = node.rpc("checkrune", {"rune": rune, "method": "getinfo"})["error"]
    assert error == {"code": 1502, "message": "Not permitted: too soon"}


def test_datastore_survives_a_restart(fresh: Daemon) -> None:
    fresh.start()
    fresh.ok("datastore", {"key": ["hive", "x"], "string": "kept"})
    fresh.stop()
    fresh.log_file.unlink()
    fresh.start()
    stored = fresh.ok("listdatastore", {"key": ["hive", "x"]})["datastore"]
    assert [entry["string"] for entry in stored] == ["kept"]


def test_what_is_set_survives_a_restart(fresh: Daemon) -> None:
    fresh.start()
    fresh.ok("setconfig", ["min-capacity-sat", 4321])
    fresh.ok("setconfig", ["min-capacity-sat", 5432])
    fresh.stop()
    fresh.log_file.unlink()
    fresh.start()
    shown = fresh.ok("listconfigs", ["min-capacity-sat"])["configs"]["min-capacity-sat"]
    assert shown == {"value_int": 5432, "source": f"{fresh.network_dir}/config.setconfig:2", "dynamic": True}


def test_the_log_has_its_form(node: Daemon) -> None:
    lines = node.log_text().splitlines()
    level = r"(DEBUG  |INFO   |UNUSUAL|\*\*BROKEN\*\*|TRACE  |IO_IN  |IO_OUT )"
    form = re.compile(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {level} ({PUBKEY}-)?[\w.-]+(#\d+)?: .*")
    assert [line for line in lines if not form.fullmatch(line)] == []
    started = [line for line in lines if "Server started with public key" in line]
    info = node.ok("getinfo")
    ending = (
        f"INFO    lightningd: Server started with public key {info['id']}, "
        f"alias {info['alias']} (color #{info['color']}) and lightningd {info['version']}"
    )
    assert [line.endswith(ending) for line in started] == [True]


def test_the_wallet_counts_its_changes(node: Daemon) -> None:
    """Backups compare `vars.data_version` to see that nothing moved between two looks."""

    def version() -> int:
        uri = f"file:{node.network_dir}/lightningd.sqlite3?mode=ro"
        with sqlite3.connect(uri, uri=True) as wallet:
            (value,) = wallet.execute("SELECT intval FROM vars WHERE name = 'data_version'").fetchone()
        assert isinstance(value, int)
        return value

    before = version()
    node.ok("datastore", {"key": ["count", "me"], "string": "1", "mode": "create-or-replace"})
    assert version() > before


def test_files_and_their_modes(node: Daemon) -> None:
    modes = {
        name: (node.network_dir / name).stat().st_mode & 0o777
        for name in ("hsm_secret", "emergency.recover", "lightning-rpc", "gossip_store")
    }
    assert modes == {"hsm_secret": 0o400, "emergency.recover": 0o400, "lightning-rpc": 0o600, "gossip_store": 0o600}
    assert node.network_dir.stat().st_mode & 0o777 == 0o700
    pid_file = node.dir / "lightningd-regtest.pid"
    assert int(pid_file.read_text(encoding="utf-8")) == node.process.pid


class TestClientWithoutServer:
    """Exit code 2: nobody was asked."""

    def test_no_directory(self, fresh: Daemon) -> None:
        outcome = fresh.cli("getinfo")
        assert (outcome.rc, outcome.stdout) == (2, "")
        assert "No such file or directory" in outcome.stderr
        assert outcome.stderr.startswith("lightning-cli: Moving into ")

    def test_a_socket_nobody_listens_on(self, fresh: Daemon) -> None:
        fresh.start()
        os.kill(fresh.process.pid, signal.SIGKILL)
        fresh.ended()
        outcome = fresh.cli("getinfo")
        assert (outcome.rc, outcome.stdout) == (2, "")
        assert outcome.stderr == "lightning-cli: Connecting to 'lightning-rpc': Connection refused\n"

    def test_stop_and_after_it(self, fresh: Daemon) -> None:
        fresh.start()
        outcome = fresh.cli("stop")
        assert (outcome.rc, outcome.stdout) == (0, '{\n   "result": "Shutdown complete"\n}\n')
        assert fresh.ended() == 0
        assert fresh.cli("stop").rc == 2
