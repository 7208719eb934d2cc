"""lightningd's own parser as the judge of a configuration, before it becomes the configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .. import _config
from .errors import HiveError
from .files import sync_dir, write_atomic
from .machine import Machine
from .processes import identity

CANDIDATE = "hive-candidate.conf"


@dataclass(frozen=True)
class ConfigFiles:
    """What a stack makes of the configuration files; None stands for a file that is to go.

    Attributes:
        include: text of the managed include.
        top: text of lightningd's own top file, with or without the line that includes it.
        setconfig: text of the file in which `setconfig` persists, None when there is none.
        cleared: the lines taken out of it, by number.
    """

    include: str | None
    top: str
    setconfig: str | None
    cleared: dict[int, str]


def candidate_lines(machine: Machine, files: ConfigFiles, argv: list[str]) -> list[_config.Line]:
    """Return every line lightningd would read if `files` were in place."""
    node = machine.node
    explicit = bool(_config.explicit_conf(argv))
    replaced = {node.config_file: files.top, node.include_file: files.include or ""}
    if files.setconfig is not None:
        replaced[_config.setconfig_file(node.config_file, node.network_dir, explicit)] = files.setconfig
    return _config.all_lines(node.config_file, node.network_dir, explicit, replaced)


def validate(machine: Machine, files: ConfigFiles, argv: list[str], seconds: float) -> None:
    """Let lightningd judge a configuration that is not in place yet; nothing that runs is touched.

    All files are written out into one beside the real one, in the order lightningd reads them, and given to it by
    --conf. It starts every plugin for that, so what it has accepted a moment ago, to the byte, it is not asked again.

    Raises:
        HiveError: lightningd would not start with it; with its reason and the real file and line.
    """
    node = machine.node
    sweep(node.config_file)
    lines = candidate_lines(machine, files, argv)
    path = node.config_file.parent / f".{CANDIDATE}.{os.getpid()}"
    text = "".join(f"{line.text}\n" for line in lines)
    asked = (text, *argv)
    if asked in machine.accepted:
        return
    write_atomic(path, text.encode("utf-8", "surrogateescape"), node.owner)
    try:
        inside = node.to_inside(path)
        done = machine.runtime.run([*_config.without_conf(argv), f"--conf={inside}", "--help"], seconds)
    finally:
        path.unlink()
    if done.rc == 0:
        machine.accepted.add(asked)
        return
    if done.rc is None:
        raise HiveError(
            f"lightningd does not finish reading the new configuration within {seconds:g} s: a plugin of this "
            "stack hangs in getmanifest; "
            "build that release again",
            "plugin-hangs",
        )
    if done.rc < 0 or done.rc >= 128:
        raise HiveError(
            "lightningd crashes when it reads the new configuration: a plugin of this stack registers the name "
            "of a built-in command; "
            "build that release again",
            "config-crashes",
            rc=done.rc,
        )
    reason = _config.explain(done.err, inside, lines) or f"exit status {done.rc}"
    raise HiveError(f"lightningd would not start with the new configuration: {reason}", "config-refused", rc=done.rc)


def sweep(config_file: Path) -> None:
    """Remove what engines that were killed left beside lightningd's configuration."""
    folder, name = config_file.parent, config_file.name
    # Files on their way carry the pid of who writes them.
    ways = [(f".{written}.", ".new") for written in (name, _config.INCLUDE_NAME, f"{name}.setconfig")]
    for before, after in [(f".{CANDIDATE}.", ""), *ways]:
        for path in folder.glob(f"{before}*{after}"):
            pid = path.name[len(before) : len(path.name) - len(after)]
            if pid.isdigit() and identity(int(pid)) is None:
                path.unlink(missing_ok=True)


def install_include(machine: Machine, files: ConfigFiles) -> None:
    """Put the include and the line that names it in place, in an order in which every moment between is valid."""
    node = machine.node
    if files.include is not None:
        replace(node.include_file, files.include, machine)
        replace(node.config_file, files.top, machine)
        return
    replace(node.config_file, files.top, machine)
    if node.include_file.exists():
        node.include_file.unlink()
        sync_dir(node.include_file.parent)


def replace(path: Path, text: str, machine: Machine) -> None:
    """Write a configuration file unless it already says exactly that; its mode stays."""
    if _config.read_config(path, {}) == text:
        return
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    write_atomic(path, text.encode("utf-8", "surrogateescape"), machine.node.owner, mode)
