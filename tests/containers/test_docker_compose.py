"""A container of compose, v2 and v1: made anew, it is what compose would make; no file of the operator changes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.container_settings import differences
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from containers.field_node import INSIDE_STATE, LABEL, FieldNode, Maker, field_image

pytestmark = pytest.mark.docker

COMMANDS = {"v2": ["docker", "compose"], "v1": ["docker-compose"]}
FILE = """\
version: "3.8"
services:
  lightning:
    image: {image}
{name}    network_mode: none
    restart: unless-stopped
    stop_grace_period: 8s
    labels: [{label}]
    environment:
      NETWORK: regtest
      HIVE_COMMS_ENABLED: ${{HIVE_COMMS_ENABLED:-false}}
      HIVE_ARCHON_ENABLED: ${{HIVE_ARCHON_ENABLED:-false}}
    volumes:
      - data:/data/lightning
      - {software}
volumes:
  data:
    external: true
    name: {volume}
"""


class Project:
    """A compose project around a node's container."""

    def __init__(self, node: FieldNode, version: str, name: bool = True) -> None:
        if subprocess.run([*COMMANDS[version], "version"], capture_output=True, check=False).returncode != 0:
            message = f"compose {version} is not installed: run scripts/ci-machine"
            assert os.environ.get("CI") != "true", message
            pytest.skip(message)
        self.command = COMMANDS[version]
        self.directory = node.root / node.name
        self.directory.mkdir()
        self.file = self.directory / "docker-compose.yml"
        text = FILE.format(
            image=field_image(),
            name=f"    container_name: {node.name}\n" if name else "",
            label=LABEL,
            software=node.volumes()[1],
            volume=node.volume,
        )
        self.file.write_text(text)
        (self.directory / ".env").write_text("HIVE_COMMS_ENABLED=false\n")
        if version == "v1":
            # A host that has no v2.
            client = node.root / "docker"
            client.write_text(f'#!/bin/sh\n[ "$1" != compose ] || exit 1\nexec {shutil.which("docker")} "$@"\n')
            client.chmod(0o755)
            node.node = dataclasses.replace(node.node, docker_cli=(str(client),))

    def run(self, *words: str) -> str:
        """Run compose in the project's directory, as an operator does."""
        done = subprocess.run(
            [*self.command, *words], cwd=self.directory, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.mark.parametrize("version", list(COMMANDS))
def test_compose_finds_the_new_container_up_to_date(field_node: Maker, version: str) -> None:
    node = field_node()
    project = Project(node, version)
    project.run("up", "-d")
    node.wait()
    before, text = node.document(), project.file.read_text()
    facts = node.observed()["container"]["compose"]
    assert (facts["service"], facts["files"]) == ("lightning", [str(project.file)]) or version == "v1"
    result = node.request()
    after = node.document()
    assert after["Id"] != before["Id"]
    assert differences(before, after, f"{INSIDE_STATE}/slots") == []
    assert project.file.read_text() == text
    assert (project.directory / "docker-compose.override.yml").is_file()
    assert result["remarks"] == []
    node.request("confirmed")
    # What would make the container anew here is a difference between what runs and what the files say.
    project.run("up", "-d")
    assert node.document()["Id"] == after["Id"]
    project.run("up", "-d", "--force-recreate")
    node.wait()
    assert node.observed()["container"]["slots_mounted"]
    assert not node.request()["changed"]


def test_an_override_of_the_operator_stays_and_compose_has_to_be_told(field_node: Maker) -> None:
    node = field_node()
    project = Project(node, "v2")
    override = project.directory / "docker-compose.override.yml"
    override.write_text('version: "3.8"\nservices:\n  lightning:\n    labels: [their-own]\n')
    project.run("up", "-d")
    node.wait()
    text = override.read_text()
    remark = node.request()["remarks"][0]
    assert "-f docker-compose.yml -f docker-compose.override.yml -f compose.hive.yml up -d" in remark
    assert override.read_text() == text
    node.request("confirmed")
    files = [word for name in ("docker-compose.yml", override.name, "compose.hive.yml") for word in ("-f", name)]
    container = node.document()["Id"]
    project.run(*files, "up", "-d")
    assert node.document()["Id"] == container


@pytest.mark.parametrize("version", list(COMMANDS))
def test_the_name_that_the_other_compose_gives_is_understood(field_node: Maker, version: str) -> None:
    node = field_node()
    project = Project(node, version, name=False)
    other = "_" if version == "v2" else "-"
    try:
        project.run("up", "-d")
        node.node = dataclasses.replace(node.node, container=f"{node.name}{other}lightning{other}1")
        node.wait()
        mine = "-" if version == "v2" else "_"
        assert node.observed()["container"]["name"] == f"{node.name}{mine}lightning{mine}1"
    finally:
        project.run("down")


def test_files_that_are_gone_or_wrong_are_a_reason_not_to_begin(field_node: Maker) -> None:
    node = field_node()
    project = Project(node, "v2")
    project.run("up", "-d")
    node.wait()
    container, text = node.document()["Id"], project.file.read_text()
    project.file.write_text(text + "nonsense: [\n")
    with pytest.raises(HiveError) as refused:
        node.request()
    assert refused.value.code == "compose-refused"
    project.file.unlink()
    with pytest.raises(HiveError, match="put the compose files back") as refused:
        node.request()
    assert refused.value.code == "compose-files-gone"
    assert node.document()["Id"] == container
    assert node.leftovers() == [node.name]
    project.file.write_text(text)
    assert not Path(project.directory / "docker-compose.override.yml").exists()
