"""The adopted one is untouched; the provisioned one runs as a hardened unit of its own user."""

from __future__ import annotations

import re
from typing import Any

import pytest

# systemd's measure, from 0 (nothing allowed) to 10. A unit without a word about it has 9.6.
EXPOSURE = 1.5


def test_the_adopted_one_is_as_it_was(metal: Any) -> None:
    files = f"/etc/systemd/system/{metal.service}.service {metal.config_file}"
    now = {
        "files": metal.outside.check_output(f"sha256sum {files}; stat -c '%n %a %U %G %Y' {files}"),
        "names": metal.outside.check_output(f"ls -A {metal.lightning_dir} {metal.config_file.rpartition('/')[0]}"),
        "process": metal.lightningd(),
    }
    assert now == metal.remembered("adopted")


def test_it_answers(second: Any) -> None:
    info = second.rpc("getinfo")
    assert (info["alias"], info["network"]) == (second.service, "regtest")
    assert info["blockheight"] >= 0


def test_it_runs_from_the_verified_archive(second: Any, releases: dict[str, dict[str, str]]) -> None:
    started = second.show("ExecStart")
    if second.service == "satoshi":
        assert "path=/opt/cln/bin/lightningd" in started
        return
    assert f"path=/opt/lightningd/{releases['old']['sha256'][:12]}/root/usr/bin/lightningd" in started
    assert second.rpc("getinfo")["version"] == releases["old"]["version"]


def test_nobody_but_root_can_change_the_program(second: Any) -> None:
    program = second.show("ExecStart").partition("path=")[2].split()[0]
    assert second.as_it(f"touch {program} {program.rpartition('/')[0]}/x").rc != 0
    assert second.host.check_output(f"stat -c '%U %G %a' {program}") == "root root 755"


def test_its_unit_starts_with_the_machine_and_comes_back(second: Any) -> None:
    assert second.host.check_output(f"systemctl is-enabled {second.service}") == "enabled"
    assert (second.show("Type"), second.show("Restart")) == ("forking", "on-failure")


def test_systemd_has_nothing_to_say_about_the_unit(second: Any) -> None:
    done = second.host.run(f"systemd-analyze verify --man=no /etc/systemd/system/{second.service}.service")
    about = [line for line in (done.stdout + done.stderr).splitlines() if second.service in line]
    assert (done.rc, about) == (0, [])


def test_the_exposure_is_small(second: Any) -> None:
    told = second.host.check_output(f"systemd-analyze security --no-pager {second.service}.service")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert found is not None
    assert float(found.group(1)) <= EXPOSURE, told


def test_the_process_has_no_rights_to_spare(second: Any) -> None:
    status = second.status()
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["Umask"] == "0077"
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert second.host.user(second.user).uid == int(status["Uid"].split()[0])


@pytest.mark.parametrize("path", ["/etc", "/usr", "/opt/cln", "/var/lib", "/home", "/root"])
def test_it_cannot_write_elsewhere(second: Any, path: str) -> None:
    assert second.as_it(f"touch {path}/x").rc != 0


def test_it_can_write_its_own_directory(second: Any) -> None:
    assert second.as_it(f"touch {second.lightning_dir}/x && rm {second.lightning_dir}/x").rc == 0


def test_nobody_else_reads_its_files(second: Any) -> None:
    loose = second.host.check_output(f"find {second.lightning_dir} -type f -perm /077")
    assert loose.splitlines() == []


def test_its_configuration_includes_ours(second: Any) -> None:
    name = "node.conf" if second.service == "satoshi" else "config"
    lines = second.host.file(f"{second.lightning_dir}/{name}").content_string.splitlines()
    assert lines[-1] == "include hive.conf"
    assert f"alias={second.service}" in lines
    assert "encrypted-hsm" not in lines
    if second.service == "satoshi":
        assert [line for line in lines if line.startswith("log-level")] == ["log-level=info", "log-level=debug:plugin"]


def test_the_log_is_turned_over_without_a_restart(second: Any) -> None:
    rules = second.host.file(f"/etc/logrotate.d/{second.service}")
    if second.service == "satoshi":
        assert not rules.exists
        return
    pid, log = second.pid, f"{second.lightning_dir}/lightningd.log"
    second.host.check_output(f"logrotate --force {rules.path}")
    waited = f"for n in $(seq 100); do grep -q 'Started log due to SIGHUP' {log} && exit 0; sleep 0.1; done; exit 1"
    assert second.host.run(waited).rc == 0
    assert second.host.check_output(f"stat -c '%U %a' {log} {log}.1").splitlines() == [f"{second.user} 600"] * 2
    assert second.pid == pid
