"""What compose has to know, so that a container which we made anew stays the one it would make."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .containers import LABEL
from .errors import HiveError
from .files import write_atomic
from .node import Node
from .runtimes_docker import DockerRuntime

HEADER = "# Managed by Lightning Hive Rollout: the mount that lets lightningd see the plugins' slots, read-only.\n"
# Read by compose of its own accord, together with its override, when no file is named.
DEFAULT_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
NAMED = "compose.hive.yml"
CONFIG_SECONDS = 60.0
VERSION_LINE = re.compile(r"^version:\s*['\"]?([0-9.]+)['\"]?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """The project that a container belongs to, and the override that gives its service one mount more.

    Attributes:
        files: the operator's files, in order.
        override: our file.
        found_by_itself: whether compose reads it without being told to.
    """

    name: str
    service: str
    directory: Path
    files: list[Path]
    override: Path
    found_by_itself: bool

    def arguments(self, files: list[Path]) -> list[str]:
        """Return the arguments that compose is called with for these files."""
        named = [word for file in files for word in ("--file", str(file))]
        return ["--project-name", self.name, "--project-directory", str(self.directory), *named]


def project_of(facts: dict[str, Any], node: Node) -> Project | None:
    """Return the compose project of a container; None when compose did not make it.

    Args:
        facts: the container's facts.

    Raises:
        HiveError: compose made it, and its files are not where the container says.
    """
    compose = facts["compose"]
    if compose is None:
        return None
    directory = Path(compose["working_dir"] or "/")
    files = [directory / name for name in compose["files"]]
    ours = [file for file in files if file.is_file() and _is_ours(file)]
    files = [file for file in files if file not in ours]
    gone = [str(file) for file in files if not file.is_file()]
    if gone or not files:
        raise HiveError(
            f"container {facts['name']} was made by compose from {', '.join(gone) or 'files it does not name'}, which "
            f"is not on the host of {node.name}; put the compose files back, so that both agree on the new mount",
            "compose-files-gone",
        )
    override, by_itself = override_place(directory, files)
    return Project(compose["project"], compose["service"], directory, files, override, by_itself)


def override_place(directory: Path, files: list[Path]) -> tuple[Path, bool]:
    """Return where our override goes, and whether compose finds it by itself; no file of the operator is replaced."""
    only = files[0]
    if len(files) == 1 and only.parent == directory and only.name in DEFAULT_NAMES:
        place = only.with_name(f"{only.stem}.override{only.suffix}")
        if not place.exists() or _is_ours(place):
            return place, True
    return directory / NAMED, False


def _is_ours(file: Path) -> bool:
    return file.read_bytes().startswith(HEADER.encode())


def override_text(first_file: str, service: str, outside: str, inside: str) -> str:
    """Return our override; compose v1 merges only files of one version.

    Args:
        first_file: text of the operator's first file.
    """
    version = VERSION_LINE.search(first_file)
    lines = [f"version: {json.dumps(version.group(1))}"] if version else []
    lines += [
        "services:",
        f"  {json.dumps(service)}:",
        "    volumes:",
        "      - type: bind",
        f"        source: {json.dumps(outside)}",
        f"        target: {json.dumps(inside)}",
        "        read_only: true",
    ]
    return HEADER + "".join(f"{line}\n" for line in lines)


def compose_command(runtime: DockerRuntime) -> list[str]:
    """Return the compose of the host: v2 (`docker compose`), else v1 (`docker-compose`).

    Raises:
        HiveError: there is neither.
    """
    if runtime.docker(["compose", "version", "--short"]).rc == 0:
        return [*runtime.node.docker_cli, "compose"]
    tool = shutil.which("docker-compose")
    if tool is None:
        raise HiveError(
            f"the container of {runtime.node.name} was made by compose, and its host has neither `docker compose` nor "
            "`docker-compose`; install one of them",
            "no-compose",
        )
    return [tool]


def write_override(project: Project, node: Node) -> bool:
    """Write our override beside the operator's files; whether it was not there like that."""
    text = override_text(
        project.files[0].read_text(errors="replace"),
        project.service,
        str(node.slots_dir),
        node.to_inside(node.slots_dir),
    ).encode()
    if project.override.is_file() and project.override.read_bytes() == text:
        return False
    write_atomic(project.override, text, node.keeper, 0o644)
    return True


def labels_for(project: Project, runtime: DockerRuntime) -> dict[str, str]:
    """Return the labels by which compose recognises a container as the one that its files, with our override, ask for.

    Raises:
        HiveError: compose refuses the files; with its words.
    """
    command = compose_command(runtime)
    files = [*project.files, project.override]
    done = runtime.on_host(
        [*command, *project.arguments(files), "config", "--hash", project.service], CONFIG_SECONDS, project.directory
    )
    fingerprint = hash_in(done.out, project.service) if done.rc == 0 else ""
    if not fingerprint:
        said = (done.err.strip() or done.out.strip() or "it says nothing").splitlines()[-1][:300]
        raise HiveError(
            f"compose does not take its files together with {project.override} ({said}); correct them first",
            "compose-refused",
        )
    return {LABEL + "config-hash": fingerprint, LABEL + "project.config_files": ",".join(map(str, files))}


def hash_in(text: str, service: str) -> str:
    """Return the fingerprint of one service out of what `config --hash` prints."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == service:
            return words[1]
    return ""


def command_hint(project: Project) -> str:
    """Return how compose must be called from now on, "" when as before."""
    if project.found_by_itself:
        return ""
    named = " ".join(f"-f {file.name if file.parent == project.directory else file}" for file in project.files)
    return (
        f"compose has to be called with our file from now on, in {project.directory}: "
        f"docker compose {named} -f {project.override.name} up -d"
    )
