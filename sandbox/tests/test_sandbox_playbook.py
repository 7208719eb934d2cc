"""playbooks/sandbox.yml as an operator runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hive_sandbox.fleet import Fleet

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Where the nodes of a test live."""
    yield tmp_path / "sandbox"
    Fleet(tmp_path / "sandbox").reset()


def play(root: Path, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the playbook with JSON output and these variables."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal",
        "HIVE_SANDBOX_ROOT": str(root),
    }
    extra = json.dumps({"sandbox_lightningd": "fake", "sandbox_nodes": 1, **variables})
    argv = ["ansible-playbook", "playbooks/sandbox.yml", "-e", extra, *arguments]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=120, cwd=REPOSITORY, env=environment
    )


def changed(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a run that went well changed something."""
    assert done.returncode == 0, done.stdout + done.stderr
    return "| CHANGED =>" in done.stdout


@pytest.mark.slow
def test_check_and_real_twice_then_down_and_reset(root: Path) -> None:
    assert [changed(play(root, *arguments)) for arguments in (["--check"], [], ["--check"], [])] == [
        True,
        True,
        False,
        False,
    ]
    assert changed(play(root, sandbox_state="down"))
    assert not changed(play(root, sandbox_state="down"))
    assert changed(play(root, sandbox_state="reset"))
    assert not root.exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"sandbox_nodes": "many"}, "sandbox_nodes"),
        ({"sandbox_nodes": 0}, "a sandbox has 1 to 100 nodes, not 0"),
        ({"sandbox_state": "sideways"}, "sandbox_state"),
        ({"sandbox_lightningd": "imaginary"}, "sandbox_lightningd"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(variables: dict[str, Any], said: str, root: Path) -> None:
    done = play(root, **variables)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert not root.exists()
