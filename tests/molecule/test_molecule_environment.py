"""The execution environment is what the lock says, and its builder takes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "execution-environment"


def test_requirements_are_those_of_the_lock() -> None:
    done = subprocess.run([HOME / "lock-requirements", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_core_is_the_locked_one_for_its_python() -> None:
    definition = yaml.safe_load((HOME / "execution-environment.yml").read_text(encoding="utf-8"))
    dependencies = definition["dependencies"]
    assert dependencies["python_interpreter"]["package_system"] == "python3.12"
    line = f"{dependencies['ansible_core']['package_pip']} ; python_full_version >= '3.12'"
    assert line in (HOME / "requirements.txt").read_text(encoding="utf-8").splitlines()


def test_ansible_builder_accepts_the_definition(tmp_path: Path) -> None:
    builder = Path(sys.executable).parent / "ansible-builder"
    definition = HOME / "execution-environment.yml"
    done = subprocess.run(
        [builder, "create", "--file", definition, "--context", tmp_path, "--output-filename", "Containerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    recipe = (tmp_path / "Containerfile").read_text(encoding="utf-8")
    assert 'ARG EE_BASE_IMAGE="registry.access.redhat.com/ubi9/ubi-minimal' in recipe
    assert "ansible-core==2.21.5" in recipe


def test_no_collection_has_to_be_fetched() -> None:
    wanted = yaml.safe_load((ROOT / "collections/requirements.yml").read_text(encoding="utf-8"))
    assert wanted == {"collections": []}
