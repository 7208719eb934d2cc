"""A node that runs the three plugins from slots made in milliseconds, drilled in this process."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill import Drill, DrillRequest
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_artifact import artifact
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_scratch import Artifact
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_list import MANIFEST, SIGNATURE
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import (
    BackupRequest,
    describe,
    sign,
    take_backup,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical, write_atomic
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.guard import look
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import children
from faults.rig import REPOSITORY, TIMEOUTS, Rig

PLUGINS = {"cl-hive-comms": "cl_hive_comms", "cl-hive-archon": "cl_hive_archon", "cl-hive": "cl_hive"}
ENTRY = "#!{python} -I\nfrom {package}.main import main\nmain()\n"

Json = dict[str, Any]


def scratch_lightningd() -> Artifact:
    """The artifact that drill.yml brings to nodes; kept between sessions."""
    built = artifact(REPOSITORY / "sandbox", REPOSITORY, REPOSITORY / ".cache/release", [platform.machine()])
    return Artifact(built.digest, built.wheels, built.file)


class DrillRig(Rig):
    """The node, its plugins with an operator's rows, and one backup set of them."""

    lightningd: Artifact
    set_id: str

    def prepare(self) -> None:
        """Start all of it and take the set."""
        self.lightningd = scratch_lightningd()
        self.start()
        self.settle([self._hive_item(name) for name in PLUGINS])
        self.call("hive-archon-provision")
        self.call("hive-genesis")
        for number in range(3):
            self.call("hive-client-authorize", advisor=f"advisor-{number}")
        self.set_id = self.backup()
        shutil.copytree(self.set_path, self.root / "kept")

    def backup(self) -> str:
        return str(take_backup(self.node, look(self.machine, 10.0), BackupRequest("test", 20))["id"])

    @property
    def set_path(self) -> Path:
        return self.node.backups_dir / self.set_id

    def heal_set(self) -> None:
        """Make the set what it was."""
        shutil.rmtree(self.set_path)
        shutil.copytree(self.root / "kept", self.set_path)

    def forge(self, **changes: Any) -> None:
        """Let the node sign the set as it is now, as somebody would who has the node's key and hides what he did."""
        manifest = json.loads((self.set_path / MANIFEST).read_bytes())
        files = [path for path in self.set_path.rglob("*") if path.is_file() and path.name not in (MANIFEST, SIGNATURE)]
        manifest["files"] = {str(path.relative_to(self.set_path)): describe(path) for path in files}
        manifest.update(changes)
        content = canonical(manifest)
        (self.set_path / MANIFEST).write_bytes(content)
        (self.set_path / SIGNATURE).write_text(sign(self.node, content))

    def drill(self, **changes: Any) -> Json:
        """Drill the set in this process."""
        request = DrillRequest(self.lightningd, self.set_id, TIMEOUTS)
        found: Json = Drill(self.node, DrillRequest(**{**request.__dict__, **changes})).run()
        return found

    def fingerprint(self) -> Json:
        """What a drill must leave as it is: who runs, which files there are, and those that nobody writes meanwhile."""
        who = self.machine.identity()
        assert who is not None
        files = {path: path.stat() for path in self.lightning_dir.rglob("*") if path.is_file()}
        names = ("config", "hive.conf", "comms.secrets", "hsm_secret")
        steady = {str(path): (facts.st_mtime_ns, facts.st_ino) for path, facts in files.items() if path.name in names}
        return {
            "lightningd": who,
            "plugins": sorted(children(who.pid)),
            "files": sorted(str(path) for path in files if path.suffix not in (".db-wal", ".db-shm")),
            "steady": steady,
        }

    def _hive_item(self, name: str) -> Json:
        digest = hashlib.sha256(name.encode()).hexdigest()
        slot = _slots.slot_path(self.node, name, digest)
        entry = slot / "bin" / name
        entry.parent.mkdir(parents=True)
        entry.write_text(ENTRY.format(python=sys.executable, package=PLUGINS[name]))
        entry.chmod(0o755)
        done = subprocess.run([str(entry), "--hive-manifest"], check=True, capture_output=True, text=True)
        manifest = {
            **json.loads(done.stdout),
            "schema": 1,
            "released_at": 1_700_000_000,
            "expires_at": None,
            "entry": f"bin/{name}",
            "artifact": {"file": f"{name}.pex", "sha256": digest, "size": 1},
            "python": {"requires": ">=3.11", "tags": ["cp311", "cp312", "cp313"]},
        }
        self._mark(name, digest, manifest)
        return {"name": name, "version": manifest["version"], "digest": digest, "enabled": True, "options": {}}

    def _mark(self, name: str, digest: str, manifest: Json) -> None:
        slot = _slots.slot_path(self.node, name, digest)
        marker = {
            "schema": 1,
            "digest": digest,
            "manifest": manifest,
            "stat_digest": _slots.stat_digest(slot),
            "tree_digest": _slots.tree_digest(slot),
        }
        path = _slots.marker_path(self.node, name, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, canonical(marker), self.node.keeper)
