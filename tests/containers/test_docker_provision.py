"""This repository's own image and compose file: valid for both composes, built without a registry, ended well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from containers.field_node import LABEL, REPOSITORY, START_SECONDS, base_image, build, docker, software
from containers.test_docker_compose import COMMANDS
from waiting import wait_until

pytestmark = pytest.mark.docker

NAME = f"hive-docker-provisioned-{os.getpid()}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A compose project as roles/hive_container lays it out; its container is removed afterwards."""
    directory = tmp_path / "project"
    directory.mkdir()
    shutil.copy(REPOSITORY / "docker/compose.yml", directory / "docker-compose.yml")
    lightning, slots = tmp_path / "lightning", tmp_path / "hive/slots"
    lightning.mkdir()
    slots.mkdir(parents=True)
    (lightning / "config").write_text("network=regtest\nalias=provisioned\nlog-file=lightningd.log\n")
    values = {
        "HIVE_IMAGE": f"{LABEL}-own:test",
        "HIVE_CONTAINER": NAME,
        "HIVE_NETWORK": "regtest",
        "HIVE_NETWORK_MODE": "none",
        "HIVE_UID": "0",
        "HIVE_GID": "0",
        "HIVE_LIGHTNINGD": software(),
        "HIVE_LIGHTNING_DIR": str(lightning),
        "HIVE_STATE_DIR": str(slots.parent),
        "HIVE_COMMS_ENABLED": "true",
        "HIVE_ARCHON_ENABLED": "false",
    }
    (directory / ".env").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    yield directory
    docker("rm", "--force", "--volumes", NAME, check=False)


def compose(version: str, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one of the two composes."""
    if subprocess.run([*COMMANDS[version], "version"], capture_output=True, check=False).returncode != 0:
        message = f"compose {version} is not installed: run scripts/ci-machine"
        assert os.environ.get("CI") != "true", message
        pytest.skip(message)
    return subprocess.run([*COMMANDS[version], *words], cwd=directory, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", list(COMMANDS))
def test_the_compose_file_is_valid_and_mounts_the_slots_read_only(project: Path, version: str) -> None:
    done = compose(version, project, "config")
    assert done.returncode == 0, done.stderr
    service = yaml.safe_load(done.stdout)["services"]["lightning"]
    assert service["environment"] == {"HIVE_COMMS_ENABLED": "true", "HIVE_ARCHON_ENABLED": "false"}
    mounts = [
        {"target": part.split(":")[1], "read_only": part.endswith(":ro")} if isinstance(part, str) else part
        for part in service["volumes"]
    ]
    slots = next(mount for mount in mounts if mount["target"] == "/opt/hive/slots")
    assert slots["read_only"]


@pytest.mark.parametrize("version", list(COMMANDS))
def test_a_value_that_is_missing_is_asked_for(project: Path, version: str) -> None:
    values = (project / ".env").read_text().splitlines()
    (project / ".env").write_text("\n".join(line for line in values if not line.startswith("HIVE_LIGHTNING_DIR=")))
    done = compose(version, project, "config")
    assert done.returncode != 0
    assert "Directory of the node" in done.stderr


def test_the_image_is_built_without_a_registry_and_stop_is_an_rpc_stop(project: Path) -> None:
    # Only what the base has already, so that nothing is downloaded.
    build(REPOSITORY / "docker", f"{LABEL}-own:test", f"BASE={base_image()}", "PACKAGES=python3")
    done = compose("v2", project, "up", "--detach")
    assert done.returncode == 0, done.stderr
    cli = ["exec", NAME, "lightning-cli", "--lightning-dir=/data/lightning", "--network=regtest", "-N", "none"]
    wait_until(lambda: docker(*cli, "getinfo", check=False), START_SECONDS, "lightningd answers")
    assert json.loads(docker(*cli, "getinfo"))["alias"] == "provisioned"
    docker("stop", "--time", "30", NAME)
    state = json.loads(docker("container", "inspect", NAME))[0]["State"]
    assert state["ExitCode"] == 0, "SIGTERM kills lightningd, the RPC stop ends it"
