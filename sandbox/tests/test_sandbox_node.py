"""One fake by itself: files, start and end, the database, and misbehaviour on demand."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hive_sandbox.fake.faults import FAULTS
from hive_sandbox.testing import FakeNode, open_channel
from waiting import wait_until

ECHO = str(Path(__file__).parent / "plugins" / "echo.py")


def data_version(node: FakeNode) -> int:
    """Return vars.data_version, read as a backup would: read-only."""
    with sqlite3.connect(f"file:{node.net}/lightningd.sqlite3?mode=ro", uri=True) as database:
        return int(database.execute("SELECT intval FROM vars WHERE name = 'data_version'").fetchone()[0])


class TestFiles:
    def test_modes(self, running: FakeNode) -> None:
        modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in running.net.iterdir()}
        assert modes["hsm_secret"] == modes["emergency.recover"] == 0o400
        assert modes["lightning-rpc"] == modes["gossip_store"] == 0o600
        assert stat.S_IMODE(running.net.stat().st_mode) == 0o700
        assert stat.S_IMODE((running.dir / "lightningd-regtest.pid").stat().st_mode) == 0o640

    def test_the_version_of_the_database_grows_with_every_change(self, running: FakeNode) -> None:
        before = data_version(running)
        running.rpc("listdatastore")
        assert data_version(running) == before
        running.rpc("datastore", ["k", "v"])
        assert data_version(running) == before + 1

    def test_identity_and_data_survive(self, running: FakeNode) -> None:
        before = running.rpc("getinfo")["id"]
        running.rpc("datastore", ["k", "v"])
        secret = running.rpc("makesecret", {"string": "x"})
        assert running.stop() == 0
        assert not (running.dir / "lightningd-regtest.pid").exists()
        assert (running.net / "lightning-rpc").exists()
        running.start()
        assert running.rpc("getinfo")["id"] == before
        assert running.rpc("listdatastore", ["k"])["datastore"][0]["string"] == "v"
        assert running.rpc("makesecret", {"string": "x"}) == secret

    def test_a_very_long_directory(self, tmp_path: Path) -> None:
        node = FakeNode(tmp_path / ("long" * 20) / ("longer" * 20))
        try:
            assert node.start().rpc("getinfo")["network"] == "regtest"
        finally:
            node.close()


class TestStart:
    def test_a_second_one_is_refused(self, running: FakeNode) -> None:
        done = running.run()
        assert done.returncode == 11
        assert "lightningd already running? Error locking PID file" in done.stderr
        assert running.rpc("getinfo")

    def test_a_daemon_says_when_it_is_ready(self, fake: FakeNode) -> None:
        # Not with pipes: as with the real one, plugins keep the stderr that lightningd had at the start.
        argv = fake.config(f"plugin={ECHO}").argv("--daemon", f"--log-file={fake.dir / 'log'}")
        code = subprocess.call(argv, stderr=subprocess.DEVNULL, env=fake.environment, timeout=30)
        try:
            assert code == 0
            assert fake.rpc("echo")["a"] is None
        finally:
            fake.rpc("stop")

    def test_a_daemon_that_does_not_start_says_so(self, fake: FakeNode) -> None:
        done = fake.config("bogus=1").run("--daemon", f"--log-file={fake.dir / 'log'}")
        assert done.returncode == 1
        assert "unknown option" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["--version"], 0, ""),
            (["--daemon"], 1, "--daemon needs --log-file"),
            (["--dev-bitcoind-poll=1"], 1, "requires --developer"),
            (["--log-level=loud"], 1, "unknown log level loud"),
            (["--wallet=postgres://x"], 1, "does not do this option"),
            (["--addr=0.0.0.0:9735"], 1, "listens on 127.0.0.1 only"),
            (["--network=bitcoin"], 1, "plays regtest only"),
            (["--plugin=/no/such"], 1, "Failed to register /no/such: No such file or directory"),
        ],
    )
    def test_exit_codes(self, arguments: list[str], code: int, said: str, fake: FakeNode) -> None:
        done = fake.run(*arguments)
        assert done.returncode == code
        assert said in done.stderr

    def test_a_secret_that_is_none(self, fake: FakeNode) -> None:
        fake.net.mkdir(mode=0o700)
        (fake.net / "hsm_secret").write_bytes(b"x")
        assert fake.run().returncode == 7

    def test_a_database_of_another_node(self, running: FakeNode) -> None:
        running.stop()
        (running.net / "hsm_secret").unlink()
        done = running.run()
        assert done.returncode == 30
        assert "Wallet sanity check failed." in done.stderr

    def test_there_is_no_way_back_to_an_older_version(self, fake: FakeNode) -> None:
        fake.release = "v26.06.6"
        fake.start().stop()
        fake.release = "v25.12.1"
        done = fake.run()
        assert (done.returncode, "Refusing to migrate down from version 282 to 280" in done.stderr) == (1, True)

    def test_an_upgrade_may_be_forbidden(self, fake: FakeNode) -> None:
        fake.start().stop()
        fake.release = "v26.06.6"
        assert "Refusing to upgrade db from version 280 to 282" in fake.run("--database-upgrade=false").stderr
        assert fake.start().rpc("getinfo")["version"] == "v26.06.6"

    def test_a_log_may_be_moved_away(self, running: FakeNode) -> None:
        assert running.process is not None
        (running.dir / "log").rename(running.dir / "old")
        os.kill(running.process.pid, 1)
        wait_until((running.dir / "log").exists, 5, "a new log is begun")
        assert "Ending log due to SIGHUP" in (running.dir / "old").read_text(encoding="utf-8")


class TestFaults:
    def test_every_fault_is_known_and_no_other(self, running: FakeNode) -> None:
        assert running.refused("sandbox-fault", {"fault": "no-such"})[0] == -32602
        for name in set(FAULTS) - {"hang-rpc", "slow-rpc", "drop-channel", "htlc-expiring"}:
            assert name in running.rpc("sandbox-fault", {"fault": name})["faults"]
        assert running.rpc("sandbox-fault", {"fault": "clear"}) == {"faults": {}}

    @pytest.mark.parametrize("verb", ["start", "stop"])
    def test_dying(self, verb: str, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        running.rpc("sandbox-fault", {"fault": f"die-on-plugin-{verb}"})
        with pytest.raises(ConnectionResetError):
            running.rpc("plugin", [verb, ECHO])
        assert running.wait() == -9

    def test_dying_of_any_command(self, running: FakeNode) -> None:
        running.rpc("sandbox-fault", {"fault": "die-on-command", "command": "listpeers"})
        running.rpc("getinfo")
        with pytest.raises(ConnectionResetError):
            running.rpc("listpeers")
        assert running.wait() == -9

    def test_refusing_and_being_slow(self, running: FakeNode) -> None:
        running.rpc("plugin", ["start", ECHO])
        running.rpc("sandbox-fault", {"fault": "refuse-plugin-stop"})
        assert running.refused("plugin", ["stop", ECHO])[0] == -3
        assert running.plugins() == [ECHO]
        running.rpc("sandbox-fault", {"fault": "clear"})
        running.rpc("sandbox-fault", {"fault": "slow-plugin-stop", "seconds": 30})
        with pytest.raises(TimeoutError):
            running.rpc("plugin", ["stop", ECHO], timeout=0.5)

    def test_hanging_until_told_otherwise(self, running: FakeNode) -> None:
        running.rpc("sandbox-fault", {"fault": "hang-rpc"})
        with pytest.raises(TimeoutError):
            running.rpc("getinfo", timeout=0.5)
        running.rpc("sandbox-fault", {"fault": "clear"})
        assert running.rpc("getinfo")

    def test_broken_lines(self, running: FakeNode) -> None:
        running.rpc("sandbox-fault", {"fault": "log-broken", "message": "oh no"})
        assert "**BROKEN** lightningd: oh no" in running.log()
        rows = running.rpc("getlog", ["broken"])["log"]
        assert [row["log"] for row in rows if row["type"] == "BROKEN"] == ["oh no"]

    @pytest.mark.parametrize(
        ("fault", "warning"),
        [("unsynced", "warning_lightningd_sync"), ("bitcoind-unsynced", "warning_bitcoind_sync")],
    )
    def test_being_behind(self, fault: str, warning: str, running: FakeNode) -> None:
        assert warning not in running.rpc("getinfo")
        running.rpc("sandbox-fault", {"fault": fault})
        assert warning in running.rpc("getinfo")

    def test_a_dropped_channel_is_dropped_on_both_sides(self, pair: tuple[FakeNode, FakeNode]) -> None:
        one, two = pair
        open_channel(one, two)
        one.rpc("sandbox-fault", {"fault": "drop-channel"})
        states = [node.rpc("listpeerchannels")["channels"][0]["state"] for node in pair[:1]]
        assert states == ["AWAITING_UNILATERAL"]
        wait_until(
            lambda: two.rpc("listpeerchannels")["channels"][0]["state"] == "AWAITING_UNILATERAL", 5, "the other knows"
        )

    def test_an_htlc_close_to_its_end(self, pair: tuple[FakeNode, FakeNode]) -> None:
        one, two = pair
        open_channel(one, two)
        one.rpc("sandbox-fault", {"fault": "htlc-expiring", "blocks": 4})
        (channel,) = one.rpc("listpeerchannels")["channels"]
        assert channel["htlcs"][0]["expiry"] == one.rpc("getinfo")["blockheight"] + 4
        assert len(one.rpc("listhtlcs")["htlcs"]) == 1
        one.rpc("sandbox-fault", {"fault": "clear"})
        assert one.rpc("listpeerchannels")["channels"][0]["htlcs"] == []

    def test_peers_may_be_kept_away(self, pair: tuple[FakeNode, FakeNode]) -> None:
        one, two = pair
        open_channel(one, two)
        two.rpc("sandbox-fault", {"fault": "disconnect-peers"})
        wait_until(lambda: not one.rpc("listpeers")["peers"][0]["connected"], 5, "the link is down")
        two.rpc("sandbox-fault", {"fault": "clear"})
        wait_until(lambda: one.rpc("listpeers")["peers"][0]["connected"], 15, "the link is up again")

    @pytest.mark.parametrize("content", [["unsynced"], {"unsynced": {}}])
    def test_a_file_sets_them_before_the_start(self, content: Any, fake: FakeNode) -> None:
        (fake.dir / "sandbox-faults.json").write_text(json.dumps(content), encoding="utf-8")
        assert "warning_lightningd_sync" in fake.start().rpc("getinfo")

    @pytest.mark.parametrize("content", ["{", '["no-such"]'])
    def test_a_file_that_is_wrong_refuses_the_start(self, content: str, fake: FakeNode) -> None:
        (fake.dir / "sandbox-faults.json").write_text(content, encoding="utf-8")
        assert "sandbox-faults.json" in fake.run().stderr


class TestRefusals:
    def test_what_it_does_not_do_it_says(self, running: FakeNode) -> None:
        code, message = running.refused("sql", ["SELECT 1"])
        assert code == -32601
        assert "does not do the command sql: use a real one" in message
        assert "sql query" in [row["command"] for row in running.rpc("help")["help"]]

    def test_a_bug_is_answered_and_logged(self, running: FakeNode) -> None:
        """Parameters that only a bug lets through must not leave the caller waiting."""
        code, message = running.refused("sendpay", {"route": [{"id": "x"}], "payment_hash": "ab" * 32})
        assert code in (-32602, -32603), message


class TestSetconfig:
    def test_beside_an_explicit_config_file(self, fake: FakeNode, tmp_path: Path) -> None:
        conf = tmp_path / "own.conf"
        conf.write_text(f"network=regtest\nlightning-dir={fake.dir}\n", encoding="utf-8")
        fake.options = (f"--conf={os.path.relpath(conf)}",)
        fake.start()
        entry = fake.rpc("setconfig", ["min-capacity-sat", 777])["config"]
        assert entry["source"] == f"{conf}.setconfig:2"
        assert "include own.conf.setconfig" in conf.read_text(encoding="utf-8")

    def test_a_value_is_replaced_where_it_stands(self, running: FakeNode) -> None:
        for value in (1, 2):
            running.rpc("setconfig", ["min-capacity-sat", value])
        running.rpc("setconfig", ["autoclean-cycle", 9])
        lines = (running.net / "config.setconfig").read_text(encoding="utf-8").splitlines()
        assert lines[1:] == ["min-capacity-sat=2", "autoclean-cycle=9"]
        assert (running.net / "config").read_text(encoding="utf-8").count("include") == 1
        running.stop()
        assert running.start().rpc("listconfigs", ["min-capacity-sat"])["configs"]["min-capacity-sat"] == {
            "value_int": 2,
            "source": f"{running.net}/config.setconfig:2",
            "dynamic": True,
        }

    def test_a_file_that_cannot_be_written(self, running: FakeNode) -> None:
        running.rpc("sandbox-fault", {"fault": "setconfig-read-only"})
        code, message = running.refused("setconfig", ["min-capacity-sat", 1])
        assert (code, message) == (-32602, f"Cannot write to config file {running.net}/config")
        running.rpc("setconfig", {"config": "min-capacity-sat", "val": 1, "transient": True})
