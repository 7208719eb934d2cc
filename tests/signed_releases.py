"""Releases made by hand, in milliseconds: for tests of those who verify, move and refuse them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    MANIFEST_FILE,
    canonical,
    release_directory,
)

ARTIFACT = b"not a real artifact, but bytes to be signed for\n"


def manifest(name: str = "hive-fixture", version: str = "0.1.0", **changes: Any) -> dict[str, Any]:
    """A valid manifest of `ARTIFACT`, with `changes` on its top level."""
    return {
        "schema": 1,
        "name": name,
        "version": version,
        "source": {"commit": "0" * 40, "dirty": False, "digest": "1" * 64},
        "released_at": 1_700_000_000,
        "expires_at": None,
        "artifact": {
            "file": f"{name}-{version}.pex",
            "sha256": hashlib.sha256(ARTIFACT).hexdigest(),
            "size": len(ARTIFACT),
        },
        "build": {"python": "3.11.2", "pex": "2.105.2"},
        "python": {
            "requires": ">=3.11,<3.14",
            "tags": ["cp311", "cp312", "cp313"],
            "wheels": {
                f"{tag}-{machine}": [f"{name.replace('-', '_')}-{version}-py3-none-any.whl"]
                for tag in ("cp311", "cp312", "cp313")
                for machine in ("aarch64", "x86_64")
            },
        },
        "entry": f"bin/{name}",
        "start_order": 10,
        "rpc_methods": [f"{name}-health", f"{name}-status"],
        "options": [
            {"name": f"{name}-note", "type": "string", "default": "", "dynamic": False, "description": "Any text"}
        ],
        "hooks": [],
        "subscriptions": ["shutdown"],
        "tables": ["fixture_starts"],
        "database": "hive_fixture.db",
        "database_option": "",
        "key_files": [],
        "schema_version": 1,
        "readable_by": "0.1.0",
        "requires": {"plugins": [], "cln": "v25.02"},
        "conflicts": [],
        "health_rpc": f"{name}-health",
        **changes,
    }


def signer(directory: Path, identity: str = "release@sandbox") -> keys.Signer:
    """A signer whose key and list of allowed signers are in `directory`; made when it is not there."""
    found = keys.find_signer("", "", directory)
    keys.create_throwaway(found, identity)
    return found


def write(releases: Path, by: keys.Signer, content: dict[str, Any] | None = None) -> Path:
    """Write and sign a release below `releases`; gives its directory."""
    content = manifest() if content is None else content
    directory = release_directory(releases, str(content["name"]), str(content["version"]))
    directory.mkdir(parents=True)
    (directory / f"{content['name']}-{content['version']}.pex").write_bytes(ARTIFACT)
    (directory / MANIFEST_FILE).write_bytes(canonical(content))
    keys.sign(directory / MANIFEST_FILE, by)
    return directory
