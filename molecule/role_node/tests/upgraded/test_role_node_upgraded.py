"""The new version runs, the old one lies beside it, and lightningd comes back when it dies."""

from __future__ import annotations

from typing import Any


def test_the_new_version_runs(metal: Any, second: Any, releases: dict[str, dict[str, str]]) -> None:
    if metal.name == "metal12":
        assert second.rpc("getinfo")["version"] == releases["new"]["version"]
        assert releases["new"]["sha256"][:12] in second.show("ExecStart")
    assert second.show("ActiveState") == "active"


def test_versions_lie_side_by_side(metal: Any, second: Any, releases: dict[str, dict[str, str]]) -> None:
    names = second.host.run("ls -A /opt/lightningd").stdout.split()
    wanted = {facts["sha256"][:12] for facts in releases.values()} if metal.name == "metal12" else set()
    assert set(names) == wanted


def test_it_comes_back_when_it_dies(second: Any) -> None:
    before = second.pid
    second.host.check_output(f"kill -KILL {before}")
    waited = (
        f"for n in $(seq 150); do now=$(systemctl show {second.service} -p MainPID --value); "
        f'[ "$now" != 0 ] && [ "$now" != {before} ] && systemctl -q is-active {second.service} && exit 0; '
        "sleep 0.1; done; exit 1"
    )
    assert second.host.run(waited).rc == 0
    assert second.show("NRestarts") == "1"
    assert second.rpc("getinfo")["network"] == "regtest"


def test_stopping_it_is_clean(second: Any) -> None:
    second.host.check_output(f"systemctl stop {second.service}")
    assert (second.show("Result"), second.show("ActiveState")) == ("success", "inactive")
    second.host.check_output(f"systemctl start {second.service}")
    assert second.rpc("getinfo")["network"] == "regtest"
