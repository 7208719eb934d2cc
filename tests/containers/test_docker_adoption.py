"""The monolith of the field's image gives way to our three plugins and comes back, in a container that starts it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.database_move import move_databases
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical, write_atomic
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.finalize import FinalizeRequest, finalize
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Request
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.switch import Switch
from containers.field_node import INSIDE_STATE, REPOSITORY, TIMEOUTS, FieldNode, Maker, base_image, docker
from fixtures import monolith
from hive_kit.keys import SchnorrKey

pytestmark = pytest.mark.docker

VERSION = "0.1.0"
SCRIPT = "/opt/cl-hive/cl-hive.py"
COMMS, ARCHON, HIVE = NAMES = ("cl-hive-comms", "cl-hive-archon", "cl-hive")
OFFERS = "liquidity_offers"
OFFER = (
    f"INSERT INTO {OFFERS} (offer_id, provider_id, service_type, capacity_sats, pricing_model, rate_json, created_at) "
    "VALUES (?, 'me', 1, 1, 'flat', '{}', 1)"
)
ENTRY = "#!/usr/bin/python3 -I\nimport sys\nsys.path.insert(0, {library!r})\nfrom {module}.main import main\nmain()\n"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the slots of our plugins hold beside them, for the Python of the image."""
    root = tmp_path_factory.mktemp("plugins")
    requirements, found = root / "requirements.txt", root / "lib"
    machine = f"{os.uname().machine}-manylinux_2_36"
    wanted = ["--python-version", "3.13", "--python-platform", machine, "--no-deps", "--require-hashes"]
    for argv in (
        ["export", "--frozen", "--no-dev", "--no-emit-workspace", "--package", "hive-kit", "-o", str(requirements)],
        ["pip", "install", "--target", str(found), *wanted, "--requirements", str(requirements)],
    ):
        program = [str(Path(sys.executable).with_name("uv")), *argv]
        subprocess.run(program, cwd=REPOSITORY, check=True, capture_output=True)
    for source in (REPOSITORY / "plugins_src").glob("*/src/*"):
        shutil.copytree(source, found / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        metadata = found / f"{source.name}-{VERSION}.dist-info/METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {source.name.replace('_', '-')}\nVersion: {VERSION}\n")
    compiling = ["--entrypoint", "/usr/bin/python3", base_image(), "-m", "compileall", "-q", str(found)]
    docker("run", "--rm", "--network", "none", "--volume", f"{found}:{found}", *compiling)
    return found


@cache
def described(module: str) -> dict[str, Any]:
    """What a plugin says of itself."""
    program = [sys.executable, "-c", f"from {module}.main import main; main()", "--hive-manifest"]
    found: dict[str, Any] = json.loads(subprocess.run(program, check=True, capture_output=True, text=True).stdout)
    return found


@dataclass
class Field:
    """A container whose image runs the monolith, and the slots of what is to take its place."""

    # Slots share their files.
    known: ClassVar[dict[tuple[int, int], str]] = {}
    node: FieldNode
    library: Path

    @property
    def path(self) -> Path:
        """The monolith's database, as this machine reaches it."""
        return self.node.node.network_dir / "cl_hive.db"

    @property
    def comms(self) -> Path:
        return self.node.node.network_dir / "cl_hive_comms.db"

    def restart(self) -> None:
        """Restart the container, whose entrypoint writes lightningd's configuration anew."""
        docker("restart", "--time", "10", self.node.name)
        self.node.wait()

    def start(self, layout: str) -> dict[str, int]:
        """Start the container with a database in it as a release of the field leaves it; returns its rows."""
        if layout == "2.2.1":
            self.path.parent.mkdir()
            counts = monolith.build(self.path, monolith.Wanted(layout, "tiny", 1))
            self.node.run()
            return counts
        # The key in a newer one is sealed by the node, which has to exist first.
        self.node.run()
        counts = self.rebuild(self.path)
        self.node.call("plugin", subcommand="start", plugin=SCRIPT)
        return counts

    def rebuild(self, path: Path) -> dict[str, int]:
        """Stop the monolith and make a database of the newest release for it."""
        self.node.call("plugin", subcommand="stop", plugin=SCRIPT)
        for old in path.parent.glob(f"{path.name}*"):
            old.unlink()
        signature = self.node.call("signmessage", message="nostr_key_derivation")["zbase"]
        return monolith.build(path, monolith.Wanted("2.10.0", "tiny", 1, signature=signature))

    def stack(self) -> list[dict[str, Any]]:
        """The three plugins, whose slots the container sees read-only."""
        items: list[dict[str, Any]] = [
            {"name": name, "version": VERSION, "digest": self._slot(name), "enabled": True, "options": {}}
            for name in NAMES
        ]
        return [*items[:-1], {**items[-1], "replaces": [SCRIPT]}]

    def _slot(self, name: str) -> str:
        node, module = self.node.node, name.replace("-", "_")
        digest = hashlib.sha256(name.encode()).hexdigest()
        slot, mark = _slots.slot_path(node, name, digest), _slots.marker_path(node, name, digest)
        if mark.exists():
            return digest
        shutil.copytree(self.library, slot / "lib", copy_function=os.link)
        entry = slot / "bin" / name
        entry.parent.mkdir()
        entry.write_text(ENTRY.format(module=module, library=node.to_inside(slot / "lib")))
        entry.chmod(0o755)
        manifest = {
            **described(module),
            "schema": 1,
            "released_at": 1_700_000_000,
            "expires_at": None,
            "entry": f"bin/{name}",
            "artifact": {"file": f"{name}.pex", "sha256": digest, "size": 1},
            "python": {"requires": ">=3.11", "tags": ["cp313"]},
        }
        digests = {"stat_digest": _slots.stat_digest(slot), "tree_digest": _slots.tree_digest(slot, self.known)}
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(mark, canonical({"schema": 1, "digest": digest, "manifest": manifest, **digests}), node.keeper)
        return digest

    def switch(self, state: str = "switched", stack: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Call the engine as hive_switch does, confirmed at once."""
        request = Request(
            state=state,
            rollout="r1",
            stack=stack or [],
            timeouts=TIMEOUTS,
            deadman_seconds=0.0,
            min_free_bytes=1 << 20,
            backup_max_age_seconds=0.0,
        )
        return Switch(self.node.node, request).run()

    def lightningd(self) -> tuple[int, float]:
        """Its pid and when it started."""
        facts = self.node.observed()["lightningd"]
        return facts["pid"], facts["started_at"]

    def running(self) -> set[str]:
        """Plugins that are active: ours by name, others by path."""
        slots = f"{INSIDE_STATE}/slots/"
        active = [str(one["name"]) for one in self.node.call("plugin", subcommand="list")["plugins"] if one["active"]]
        return {Path(path).name if path.startswith(slots) else path for path in active}

    def ours(self) -> bool:
        """Whether ours run in the monolith's place, and well."""
        healthy = self.node.call("hive-health")["status"] == self.node.call("hive-comms-health")["status"] == "ok"
        return healthy and self.running() >= set(NAMES) and SCRIPT not in self.running()

    def theirs(self) -> bool:
        """Whether the monolith runs, and none of ours."""
        return SCRIPT in self.running() and not self.running() & set(NAMES) and "rows" in self.node.call("hive-status")

    def offer(self, key: str) -> None:
        """Write a row as comms would."""
        with contextlib.closing(sqlite3.connect(self.comms, timeout=10)) as connection, connection:
            connection.execute(OFFER, (key,))


def count(path: Path, table: str, where: str = "1") -> int:
    """How many rows a table has."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])


@pytest.fixture
def field(field_node: Maker, library: Path) -> Callable[..., Field]:
    def make(**settings: Any) -> Field:
        return Field(field_node(monolith=True, see_slots=True, **settings), library)

    return make


@pytest.mark.parametrize(("nested", "layout"), [(True, "2.10.0"), (False, "2.2.1")], ids=["net/net", "net"])
def test_the_monolith_of_the_image_is_adopted_stays_off_and_comes_back(
    field: Callable[..., Field], nested: bool, layout: str
) -> None:
    there = field(nested=nested)
    node = there.node
    counts = there.start(layout)
    assert there.theirs(), "the image's own configuration loads it"
    # Asked how it is, it wrote a row.
    counts |= {"nostr_state": counts["nostr_state"] + 1} if "nostr_state" in counts else {}
    docker("exec", node.name, "sh", "-c", f"! touch {INSIDE_STATE}/slots/x 2>/dev/null")
    assert node.observed()["options"]["hive-db-path"]["value"] == f"{node.inside}/regtest/cl_hive.db"
    lightningd = there.lightningd()

    adopted = there.switch("switched", there.stack())["adoption"]["adopted"]
    assert there.ours()
    assert there.lightningd() == lightningd
    tables = {**adopted[COMMS]["tables"], **adopted[ARCHON]["tables"]}
    assert {name: (facts["source"], facts["adopted"]) for name, facts in tables.items()} == {
        name: (counts.get(name, 0), counts.get(name, 0)) for name in tables
    }
    new = OFFERS in counts
    assert (layout == "2.10.0", count(there.comms, OFFERS)) == (new, counts.get(OFFERS, 0))
    assert count(there.path, "hive_members") == counts["hive_members"]
    public = node.call("hive-client-identity")["pubkey"]
    assert (public == SchnorrKey.from_text(monolith.secret_of(1)).public_hex) == new, "the node keeps its identity"
    assert not list(node.node.network_dir.glob(".hive*")), "the copy that the container saw is gone"

    if new:
        # The entrypoint writes the line for the monolith once more; ours keeps it off.
        there.restart()
        assert f"plugin={SCRIPT}\n" in (node.node.lightning_dir / "config").read_text()
        assert there.ours()
    assert node.problems() == {}

    there.offer("ours")
    lightningd = there.lightningd()
    back = there.switch("rolled_back")["adoption"]["carried_back"][COMMS]
    assert there.theirs()
    assert there.lightningd() == lightningd
    if new:
        assert count(there.path, OFFERS, "offer_id = 'ours'") == 1
    else:
        left = {one["table"]: (one["rows"], one["reason"]) for one in back["left"]}
        assert left[OFFERS] == (1, "the monolith has no such table")
        there.restart()
        assert there.theirs(), "nothing is left that keeps it off"


def test_a_monolith_s_database_in_the_layer_is_refused_until_it_was_moved(
    field: Callable[..., Field], tmp_path: Path
) -> None:
    there = field(environment={"HIVE_DB_PATH": "~/.lightning/cl_hive.db"})
    node, stack, inside = there.node, there.stack(), "/root/.lightning/cl_hive.db"
    node.run()
    counts = there.rebuild(tmp_path / "cl_hive.db")
    docker("exec", node.name, "sh", "-c", f"rm {inside}*")
    docker("cp", "--archive", str(tmp_path / "cl_hive.db"), f"{node.name}:{inside}")
    node.call("plugin", subcommand="start", plugin=SCRIPT)
    lightningd = there.lightningd()
    with pytest.raises(HiveError) as refused:
        there.switch("switched", stack)
    assert refused.value.code == "adopt-elsewhere"
    assert refused.value.data["phase"] == "refused"
    assert inside in refused.value.message
    assert f"hive_move_databases={node.node.name}" in refused.value.message
    assert there.theirs()
    assert not there.comms.exists()

    assert move_databases(node.node, False, TIMEOUTS)["changed"]
    assert there.theirs()
    there.switch("switched", stack)
    assert there.ours()
    assert there.lightningd() == lightningd
    assert count(there.comms, OFFERS) == count(there.path, OFFERS) == counts[OFFERS]
    docker("exec", node.name, "test", "-L", inside)
    done = finalize(node.node, FinalizeRequest("f1", 0.0, early=node.node.name, timeouts=TIMEOUTS))
    assert done["finalized"]
    assert OFFERS in done["dropped"]
    assert there.ours()
