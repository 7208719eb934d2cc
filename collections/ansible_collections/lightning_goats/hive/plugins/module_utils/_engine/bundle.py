"""The engine as one file that runs without Ansible: a zip of its own sources, the same bytes wherever it is made."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import zipfile
from typing import Any

from .errors import HiveError

PACKAGE = "hive_engine"
FILES = (
    "_config",
    "_getmanifest",
    "_rpc",
    "_slots",
    "_sqlite",
    "_unpack",
    "_waiting",
    "_engine",
    "_engine.adoption",
    "_engine.adoption_place",
    "_engine.adoption_state",
    "_engine.adoption_work",
    "_engine.aside",
    "_engine.backup_digest",
    "_engine.backup_lightningd",
    "_engine.backup_list",
    "_engine.backup_retention",
    "_engine.backup_state",
    "_engine.backup_timer",
    "_engine.backups",
    "_engine.builtins",
    "_engine.brake",
    "_engine.bundle",
    "_engine.by_hand",
    "_engine.channels",
    "_engine.cli",
    "_engine.clock",
    "_engine.commands",
    "_engine.compose",
    "_engine.container_facts",
    "_engine.container_settings",
    "_engine.containers",
    "_engine.database_places",
    "_engine.deadman",
    "_engine.deadman_unit",
    "_engine.deadman_watch",
    "_engine.docker_api",
    "_engine.drain",
    "_engine.errors",
    "_engine.files",
    "_engine.forward",
    "_engine.guard",
    "_engine.history",
    "_engine.journal",
    "_engine.lightningd",
    "_engine.loaders",
    "_engine.lock",
    "_engine.machine",
    "_engine.monolith",
    "_engine.node",
    "_engine.observe",
    "_engine.options",
    "_engine.plugins",
    "_engine.probe",
    "_engine.probe_facts",
    "_engine.probe_forwards",
    "_engine.probe_look",
    "_engine.probe_ring",
    "_engine.processes",
    "_engine.proof",
    "_engine.prune",
    "_engine.quarantine",
    "_engine.reading",
    "_engine.record",
    "_engine.recreate",
    "_engine.recreation",
    "_engine.request",
    "_engine.reserve",
    "_engine.revert",
    "_engine.runtimes",
    "_engine.runtimes_common",
    "_engine.runtimes_docker",
    "_engine.runtimes_process",
    "_engine.runtimes_systemd",
    "_engine.sealed",
    "_engine.session",
    "_engine.soak",
    "_engine.soak_guard",
    "_engine.soak_undo",
    "_engine.stacks",
    "_engine.stages",
    "_engine.steps",
    "_engine.switch",
    "_engine.switch_base",
    "_engine.validate",
)
EPOCH = (1980, 1, 1, 0, 0, 0)


def source_of(name: str) -> str:
    """Return the source of a module of ours through its loader, which also reads from Ansible's zip and from our own.

    Raises:
        HiveError: the module was not shipped.
    """
    full = f"{__package__.rpartition('.')[0]}.{name}"
    spec = importlib.util.find_spec(full)
    loader: Any = spec.loader if spec is not None else None
    source = loader.get_source(full) if hasattr(loader, "get_source") else None
    if source is None:
        raise HiveError(
            f"the engine cannot find its own part {name}; the collection is incomplete, install it again",
            "engine-incomplete",
        )
    # Ansible's own loader, in the controller's process, gives it as bytes.
    return source.decode() if isinstance(source, bytes) else str(source)


# The probe runs every half minute, so it does not load the rest.
START = f"""import sys

if sys.argv[1:2] == ["probe"]:
    from {PACKAGE}._engine.probe import main
elif sys.argv[1:2] == ["backup"]:
    from {PACKAGE}._engine.backup_timer import main
elif sys.argv[1:2] == ["container"]:
    from {PACKAGE}._engine.recreate import main
elif sys.argv[1:2] == ["self-undo"]:
    from {PACKAGE}._engine.soak_undo import main
else:
    from {PACKAGE}._engine.cli import main

raise SystemExit(main())
"""


@functools.lru_cache(maxsize=1)
def engine_archive() -> tuple[bytes, str]:
    """Return the archive and its digest."""
    # Nothing else imports the programs the archive starts with, and Ansible ships only what something imports.
    from . import backup_timer, cli, probe, recreate, soak_undo

    return _archive(backup_timer.__name__, cli.__name__, probe.__name__, recreate.__name__, soak_undo.__name__)


@functools.lru_cache(maxsize=1)
def engine_digest() -> str:
    """Return the digest that `engine_archive` has, where all sources are at hand (the controller), at less cost."""
    return _archive()[1]


def _archive(*_loaded: str) -> tuple[bytes, str]:
    members = {f"{PACKAGE}/__init__.py": "", "__main__.py": START}
    for name in FILES:
        spec = "/".join(name.split("."))
        members[f"{PACKAGE}/{spec}/__init__.py" if name == "_engine" else f"{PACKAGE}/{spec}.py"] = source_of(name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(members):
            info = zipfile.ZipInfo(path, EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[path])
    content = buffer.getvalue()
    return content, hashlib.sha256(content).hexdigest()[:16]
