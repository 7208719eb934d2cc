"""The playbooks on a container of the field's layout: adopt, install with the one restart, restart, remove."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from containers.field_node import INSIDE_STATE, FieldNode, Maker, docker
from flows.flow_fleet import ROOT, Shelf

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="session")
def good_release() -> Shelf:
    """A release of the fixture that behaves."""
    shelf = Shelf(ROOT / ".cache/flows")
    shelf.build(("good", "0.1.0"))
    return shelf


class Operator:
    """Somebody with an inventory of one node in a container."""

    def __init__(self, node: FieldNode, shelf: Shelf) -> None:
        self.node = node
        self.inventory = node.root / "hosts.yml"
        variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "hive_runtime": "docker",
            "hive_network": "regtest",
            "hive_container": node.name,
            "hive_lightning_dir": str(node.node.lightning_dir),
            "hive_inside_lightning_dir": node.inside,
            "hive_state_dir": str(node.state_dir),
            "hive_inside_state_dir": INSIDE_STATE,
            "hive_config_file": str(node.node.config_file),
            "hive_user": "root",
            "hive_approval_required": False,
            "hive_gates_required": False,
            "hive_soak_seconds": 1,
            "hive_soak_interval_seconds": 0.5,
            "hive_canary_soak_minutes": 0,
            "hive_wave_soak_minutes": 0,
            "hive_probe": False,
            "hive_releases_dir": str(shelf.releases),
            "hive_allowed_signers": str(shelf.signers),
            "hive_reports_dir": str(node.root / "reports"),
            "hive_evidence_dir": str(node.root / "evidence"),
            "hive_evidence_keys_dir": str(node.root / "keys"),
            "hive_registers_dir": str(node.root / "registers"),
            "hive_stack": [{"name": "hive-fixture", "version": "0.1.0"}],
        }
        self.inventory.write_text(json.dumps({"hive_nodes": {"hosts": {"field": variables}}}))

    def run(self, playbook: str, *more: str) -> tuple[int, str]:
        """Run a playbook; its exit status and what it printed."""
        argv = ["ansible-playbook", "-i", str(self.inventory), str(ROOT / f"playbooks/{playbook}.yml"), *more]
        environment = {**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def ours(self) -> list[str]:
        """The names of what runs from our slots."""
        listed = self.node.call("plugin", subcommand="list")["plugins"]
        return [Path(item["name"]).name for item in listed if item["name"].startswith(f"{INSIDE_STATE}/slots/")]


def test_the_fields_container_from_adoption_to_removal(field_node: Maker, good_release: Shelf) -> None:
    node = field_node()
    node.run()
    operator = Operator(node, good_release)
    first = node.document()["Id"]

    status, said = operator.run("node")
    assert status == 0, said
    assert "the slots are not mounted" in said
    status, said = operator.run("rollout")
    assert status != 0
    assert "needs-restart" in said
    assert node.document()["Id"] == first

    status, said = operator.run("rollout", "-e", "hive_allow_lightningd_restart=true")
    assert status == 0, said
    assert operator.ours() == ["hive-fixture"]
    assert node.document()["Id"] != first
    assert node.leftovers() == [node.name], "the old container is gone once the node is confirmed"

    # The entrypoint writes lightningd's config anew; the plugin is there all the same.
    docker("restart", "--time", "10", node.name)
    node.wait()
    assert operator.ours() == ["hive-fixture"]
    status, said = operator.run("rollout")
    assert status == 0, said
    assert "Nothing to change" in said

    status, said = operator.run("uninstall")
    assert status == 0, said
    assert operator.ours() == []
    docker("restart", "--time", "10", node.name)
    node.wait()
    assert node.problems() == {}
