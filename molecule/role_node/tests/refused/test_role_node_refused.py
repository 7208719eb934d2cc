"""After everything that was refused: the old version, the old files, and nothing half done."""

from __future__ import annotations

from typing import Any


def test_the_old_version_runs(metal: Any, second: Any, releases: dict[str, dict[str, str]]) -> None:
    if metal.name == "metal12":
        assert second.rpc("getinfo")["version"] == releases["old"]["version"]
    assert second.show("ActiveState") == "active"


def test_the_files_are_as_they_were(metal: Any, second: Any, releases: dict[str, dict[str, str]]) -> None:
    unit = second.host.file(f"/etc/systemd/system/{second.service}.service").content_string
    wanted = releases["old"]["sha256"][:12] if metal.name == "metal12" else "/opt/cln/bin/lightningd"
    assert wanted in unit
    assert not second.host.file("/etc/systemd/system/third.service").exists
    assert second.host.run(f"grep -rl no-such-option {second.lightning_dir}/config*").stdout == ""


def test_only_the_version_that_did_not_start_cost_a_restart(metal: Any, second: Any) -> None:
    if metal.name != "metal12":
        assert second.show("NRestarts") == "0"
        return
    text = second.host.file("/var/lib/second-hive/journal.jsonl").content_string
    begun = [line for line in text.splitlines() if '"event":"provisioning"' in line]
    undone = [line for line in text.splitlines() if '"undone":' in line]
    assert (len(begun), len(undone)) == (2, 1)


def test_nothing_half_done_is_left(second: Any) -> None:
    assert second.host.check_output("ls -A /opt/lightningd 2>/dev/null | grep partial || true") == ""
