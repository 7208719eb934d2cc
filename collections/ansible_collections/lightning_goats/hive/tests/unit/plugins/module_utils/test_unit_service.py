"""What is said of a unit that is to be adopted, and what is shown of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import Identity
from ansible_collections.lightning_goats.hive.plugins.module_utils._service import mask
from ansible_collections.lightning_goats.hive.plugins.module_utils._service_look import (
    Findings,
    digest_of,
    fingerprint_parts,
    hides,
    judge_lightningd,
    judge_unit,
    seconds_of,
)

GOOD = {
    "LoadState": "loaded",
    "MainPID": "42",
    "UnitFileState": "enabled",
    "Type": "forking",
    "Restart": "on-failure",
    "ExecStop": "{ path=/usr/bin/lightning-cli ; argv[]=/usr/bin/lightning-cli stop ; ignore_errors=yes }",
    "User": "lightning",
    "UMask": "0077",
    "TimeoutStartUSec": "10min",
    "LimitMEMLOCK": "8388608",
    "ProtectSystem": "strict",
    "ReadWritePaths": "/srv/cln",
    "NeedDaemonReload": "no",
}
WHO = Identity(42, 1)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "cln/regtest").mkdir(parents=True)
    params = {"name": "lisbon", "runtime": "systemd", "network": "regtest", "state_dir": "/var/lib/hive"}
    return Node.from_params({**params, "lightning_dir": str(tmp_path / "cln"), "service": "cln"})


def judged(node: Node, **changes: str) -> Findings:
    found = Findings()
    judge_unit(node, {**GOOD, "ReadWritePaths": str(node.lightning_dir), **changes}, WHO, found)
    return found


class TestUnit:
    def test_a_unit_as_it_should_be(self, node: Node) -> None:
        assert judged(node) == Findings()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"LoadState": "not-found"}, "systemd knows no unit cln"),
            ({"MainPID": "43"}, "is process 42, and unit cln runs 43"),
            ({"InaccessiblePaths": "-/var/lib/hive"}, "sets InaccessiblePaths"),
            ({"NoExecPaths": "/"}, "sets NoExecPaths"),
        ],
    )
    def test_what_keeps_a_rollout_from_working(self, node: Node, changes: dict[str, str], words: str) -> None:
        found = judged(node, **changes)
        assert len(found.refusals) == 1
        assert words in found.refusals[0]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"Restart": "no"}, "does not bring lightningd back"),
            ({"ExecStop": ""}, "its plugins are told nothing"),
            ({"Type": "simple"}, "returns before the plugins are ready"),
            ({"TimeoutStartUSec": "15s"}, "slow to start"),
            ({"LimitMEMLOCK": "0"}, "LimitMEMLOCK=0"),
            ({"UMask": "0022"}, "others on the machine can read"),
            ({"User": ""}, "as root"),
            ({"UnitFileState": "disabled"}, "does not start with the machine"),
            ({"NeedDaemonReload": "yes"}, "daemon-reload"),
            ({"ReadWritePaths": "/elsewhere"}, "no ReadWritePaths"),
        ],
    )
    def test_what_could_be_better(self, node: Node, changes: dict[str, str], words: str) -> None:
        found = judged(node, **changes)
        assert found.refusals == []
        assert len(found.advice) == 1
        assert words in found.advice[0]

    @pytest.mark.parametrize(
        ("unit", "path", "hidden"),
        [
            ({"ProtectHome": "yes"}, "/home/cln/hive", "ProtectHome=yes"),
            ({"ProtectHome": "tmpfs"}, "/root", "ProtectHome=tmpfs"),
            ({"ProtectHome": "read-only"}, "/home/cln", ""),
            ({"PrivateTmp": "yes"}, "/var/tmp/hive", "PrivateTmp=yes"),
            ({"PrivateTmp": "yes", "ProtectHome": "yes"}, "/var/lib/hive", ""),
            ({"InaccessiblePaths": "/var/lib/hive/backups"}, "/var/lib/hive", ""),
        ],
    )
    def test_where_plugins_would_not_be_seen(self, unit: dict[str, str], path: str, hidden: str) -> None:
        assert hides(unit, Path(path)) == hidden

    @pytest.mark.parametrize(
        ("text", "seconds"), [("1min 30s", 90), ("500ms", 0.5), ("2h", 7200), ("infinity", 0), ("", 0)]
    )
    def test_spans_of_time(self, text: str, seconds: float) -> None:
        assert seconds_of(text) == seconds


INFO = {"network": "regtest", "id": "02aa"}


class TestLightningd:
    def judged(self, node: Node, info: dict[str, Any], argv: list[str]) -> list[str]:
        found = Findings()
        judge_lightningd(node, info, argv, found)
        return found.refusals

    def test_as_the_inventory_says(self, node: Node) -> None:
        assert self.judged(node, INFO, ["lightningd", "--daemon"]) == []

    def test_another_network(self, node: Node) -> None:
        assert "set hive_network" in self.judged(node, {**INFO, "network": "bitcoin"}, [])[0]

    def test_a_configuration_that_it_does_not_read(self, node: Node) -> None:
        assert "set hive_config_file to /etc/cln.conf" in self.judged(node, INFO, ["l", "--conf=/etc/cln.conf"])[0]

    def test_another_node(self, node: Node) -> None:
        other = Node.from_params({**node.as_params(), "node_id": "03bb"})
        assert "another machine" in self.judged(other, INFO, [])[0]


class TestFingerprint:
    def unit(self, tmp_path: Path) -> dict[str, str]:
        (tmp_path / "cln.service").write_text("[Service]\n")
        return {"FragmentPath": str(tmp_path / "cln.service"), "DropInPaths": ""}

    def test_our_include_does_not_count_and_all_else_does(self, node: Node, tmp_path: Path) -> None:
        unit = self.unit(tmp_path)
        node.config_file.write_text("alias=lisbon\n")
        before = digest_of(fingerprint_parts(node, unit))
        node.config_file.write_text("alias=lisbon\ninclude hive.conf\n")
        (node.config_file.parent / "hive.conf").write_text("plugin=/x\n")
        assert digest_of(fingerprint_parts(node, unit)) == before
        node.config_file.write_text("alias=oslo\ninclude hive.conf\n")
        assert digest_of(fingerprint_parts(node, unit)) != before

    @pytest.mark.parametrize("change", ["unit", "mode", "drop-in"])
    def test_what_else_is_noticed(self, node: Node, tmp_path: Path, change: str) -> None:
        unit = self.unit(tmp_path)
        node.config_file.write_text("alias=lisbon\n")
        before = digest_of(fingerprint_parts(node, unit))
        if change == "unit":
            (tmp_path / "cln.service").write_text("[Service]\nNice=1\n")
        elif change == "mode":
            node.config_file.chmod(0o640)
        else:
            (tmp_path / "more.conf").write_text("[Service]\n")
            unit["DropInPaths"] = str(tmp_path / "more.conf")
        assert digest_of(fingerprint_parts(node, unit)) != before


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("bitcoin-rpcpassword=abc", "bitcoin-rpcpassword=(not shown)"),
        ("hive-comms-api-token=x=y", "hive-comms-api-token=(not shown)"),
        ("alias=password", "alias=password"),
        ("# password=x", "# password=x"),
    ],
)
def test_secrets_are_not_shown(line: str, shown: str) -> None:
    assert mask(f"network=regtest\n{line}\n") == f"network=regtest\n{shown}\n"
