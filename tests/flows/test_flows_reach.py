"""A look at another node reaches that node, whatever its inventory makes of its own name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from flows.flow_fleet import BIN, ROOT

INVENTORY = {
    "all": {
        "vars": {
            "ansible_connection": "ssh",
            "ansible_host": "{{ inventory_hostname }}.example",
            "ansible_ssh_common_args": "-o ProxyJump=jump-{{ inventory_hostname }}",
        },
        "hosts": {"alpha": {}, "bravo": {}, "charlie": {"ansible_host": "10.0.0.3", "ansible_user": "ops"}},
    }
}
LOOK = {"name": "Look", "ansible.builtin.raw": "true", "delegate_to": "{{ item }}", "loop": ["bravo", "charlie"]}


def reached(directory: Path, kept: bool) -> list[str]:
    """Where ssh goes when alpha's task looks at the two others."""
    log, ssh = directory / "ssh.log", directory / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$*" >>{log}\n')
    ssh.chmod(0o755)
    (directory / "hosts.yml").write_text(yaml.safe_dump(INVENTORY))
    keep = [{"ansible.builtin.import_tasks": str(ROOT / "playbooks/tasks/reach.yml")}] if kept else []
    plays = [
        {"hosts": "all", "gather_facts": False, "tasks": keep},
        {"hosts": "alpha", "gather_facts": False, "tasks": [LOOK]},
    ]
    (directory / "look.yml").write_text(yaml.safe_dump(plays))
    subprocess.run(
        [BIN / "ansible-playbook", "-i", directory / "hosts.yml", directory / "look.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_SSH_EXECUTABLE": str(ssh)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return log.read_text(encoding="utf-8").splitlines()


def test_every_node_is_reached_as_its_own_inventory_says(tmp_path: Path) -> None:
    bravo, charlie = reached(tmp_path, kept=True)
    assert "ProxyJump=jump-bravo" in bravo
    assert " bravo.example true" in bravo
    assert "ProxyJump=jump-charlie" in charlie
    assert " 10.0.0.3 true" in charlie
    assert "ops" in charlie


def test_ansible_itself_would_go_elsewhere(tmp_path: Path) -> None:
    """When this fails, Ansible has changed: tasks/reach.yml is not needed any more."""
    bravo, _ = reached(tmp_path, kept=False)
    if " bravo.example true" in bravo:
        pytest.fail("delegated nodes are reached by their own name now: take tasks/reach.yml away")
    assert " alpha.example true" in bravo
