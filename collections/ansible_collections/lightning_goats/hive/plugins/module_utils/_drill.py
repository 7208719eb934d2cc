"""A drill: the newest backup set, restored into a scratch node beside the real one, and asked whether all is there.

The node itself is only read: its set, its slots, what its lightningd and its plugins say, and how many rows they have
by now. Nothing is ever written into its lightning directory, and the scratch node is gone at the end, also of a drill
that was killed.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ._drill_checks import ARCHON, Check, Checks, Json, Semantics, database, excused, read
from ._drill_scratch import Artifact, Scratch, alone, home_of, program, sweep
from ._engine.backup_list import MANIFEST
from ._engine.backups import verify_set, verify_signature
from ._engine.errors import HiveError
from ._engine.files import disk_error, read_bytes, read_json
from ._engine.journal import Journal
from ._engine.machine import Machine
from ._engine.node import Node
from ._engine.observe import list_backups
from ._engine.processes import Identity
from ._engine.proof import GOOD
from ._engine.request import Timeouts
from ._engine.reserve import need_room
from ._engine.runtimes import runtime_of
from ._engine.sealed import is_sealed
from ._slots import Slot, find_slot, verify_slot
from ._sqlite import open_read_only, quoted, tables
from ._waiting import wait_for

NOTE = ".restored"
# What would reach for the network, and what keeps it from that wherever the kernel does not.
OFFLINE: Json = {"hive-archon-network-enabled": False, "hive-comms-nostr-relays": "ws://127.0.0.1:9"}
# The plugins of a set start on data that may be large, on a machine that is busy with the real node.
HEALTHY_SECONDS = 60.0
# What a manifest has to say, also one that is not the node's own and is found out only later.
KEYS = {"files", "databases", "node_id", "network", "verified", "bytes", "created_at"}
DATABASE_KEYS = {"file", "source", "rows", "schema_version"}


@dataclass(frozen=True)
class DrillRequest:
    """One call of hive_drill. An empty `set_id` takes the newest set, whole or not: a drill has to notice.

    Attributes:
        min_free_bytes: what has to stay free on the disk beside the scratch node.
    """

    artifact: Artifact
    set_id: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)
    check_mode: bool = False
    min_free_bytes: int = 0


@dataclass(frozen=True)
class Member:
    """One plugin of the set, the slot it is started from, and whether the set was made under that very release."""

    name: str
    slot: Slot
    options: Json
    same_release: bool


class Drill:
    """One drill of one node."""

    def __init__(self, node: Node, request: DrillRequest) -> None:
        self.node = node
        self.request = request
        self.runtime = runtime_of(node)
        self.checks = Checks()
        self.live: Machine | None = None
        self.node_id = node.node_id
        self.members: list[Member] = []
        self.slots: dict[str, Slot] = {}
        self.seconds: dict[str, float] = {}

    def run(self) -> Json:
        """Drill, and return what was found; a set that does not hold is a result, not an error.

        Raises:
            HiveError: there is nothing to drill, or no scratch node can be made here.
        """
        set_path = self.node.backups_dir / (self.request.set_id or self._newest())
        if set_path.parent != self.node.backups_dir or not set_path.is_dir():
            raise HiveError(
                f"there is no backup set {self.request.set_id!r} on {self.node.name}; list them with backup.yml -e "
                "hive_backup_state=listed",
                "no-set",
            )
        facts: Json = {"set_id": set_path.name, "missing": [], "drill": None, "swept": []}
        if self.request.check_mode:
            return facts
        with alone(self.node):
            facts["swept"] = sweep(self.node, self.runtime)
            # A copy of the set, and as much again; lightningd may write to the same disk.
            size = 2 * sum(path.lstat().st_size for path in set_path.rglob("*"))
            need_room(self.node, home_of(self.node), size, max(1, self.request.min_free_bytes), "a drill")
            lightningd = program(self.node, self.runtime, self.request.artifact)
            if lightningd is None:
                return {**facts, "missing": [self.request.artifact.digest]}
            return {**facts, "drill": self._drill(set_path, lightningd)}

    def _newest(self) -> str:
        found = list_backups(self.node)
        if not found:
            raise HiveError(f"{self.node.name} has no backup set; take one with backup.yml", "no-set")
        return str(found[-1]["id"])

    def _drill(self, set_path: Path, lightningd: Path) -> Json:
        started_at = time.time()
        before = self._look_at_node()
        scratch = Scratch(self.node, self.runtime)
        manifest: Json = {}
        rows_since: Json | None = None
        try:
            manifest = self._restore(set_path, scratch, lightningd)
            machine = self._signed(set_path, manifest, scratch)
            if machine is not None and not self.checks.failed:
                self._start(machine, set_path, manifest)
                self._ask(machine, set_path, manifest)
                sockets = scratch.internet_sockets()
                self.checks.note("offline", not sockets, sockets[0] if sockets else f"kept so by {scratch.network}")
                rows_since = self._rows_since(manifest)
        except HiveError as error:
            self.checks.note("drill", False, error.message)
        except (AttributeError, KeyError, TypeError, ValueError):
            # Whoever forges a set must not be able to end the drill before it has said so.
            self.checks.note("drill", False, "what stands in it is not what a backup writes; use another set")
        except OSError as error:
            self.checks.note("drill", False, disk_error(error, Path(str(error.filename or scratch.directory))).message)
        finally:
            left = scratch.end()
        self.checks.note("nothing left", not left, f"processes {left}" if left else "")
        if before is None:
            self.checks.note("node untouched", None, "its lightningd did not answer before the drill")
        else:
            same = self._look_at_node() == before
            self.checks.note("node untouched", same, "" if same else "its lightningd is not the process it was before")
        return self._result(set_path, manifest or _lenient(set_path), started_at, scratch, rows_since)

    def _look_at_node(self) -> Identity | None:
        """Return who the node's own lightningd is, and remember how to ask it."""
        machine = Machine(self.node)
        if not machine.answers(self.request.timeouts.rpc):
            return None
        self.live = machine
        self.node_id = str(machine.rpc.call("getinfo")["id"])
        return machine.identity()

    # The set

    def _restore(self, set_path: Path, scratch: Scratch, lightningd: Path) -> Json:
        """Verify the set and put it into the scratch node; start its lightningd.

        Raises:
            HiveError: the set is not even whole, so that there is nothing to go on with.
        """
        started = time.monotonic()
        manifest = _whole(set_path)
        self.checks.note("files", True, f"{len(manifest['files'])} files as the manifest says")
        self._origin(manifest)
        self._find_members(set_path, manifest)
        scratch.make()
        for name in manifest["databases"]:
            if name in self.slots:
                self._place(name, set_path, manifest, scratch)
        scratch.give()
        self.seconds["restore"] = time.monotonic() - started
        scratch.start(lightningd)
        begun = time.monotonic()
        for name, facts in manifest["databases"].items():
            if name in self.slots:
                path = scratch.network_dir / str(self.slots[name].manifest["database"])
                database(self.checks, name, path, facts, self.slots[name])
        self.seconds["checks"] = time.monotonic() - begun
        return manifest

    def _origin(self, manifest: Json) -> None:
        wrong = ""
        if not self.node_id:
            wrong = "lightningd does not answer and hive_node_id is empty, so nobody knows whose set this should be"
        elif manifest["node_id"] != self.node_id or manifest["network"] != self.node.network:
            wrong = f"it is of node {manifest['node_id']} on {manifest['network']}, not of {self.node.name}"
        self.checks.note("of this node", not wrong, wrong)
        self.checks.note(
            "holds data", bool(manifest["databases"]), f"databases of {len(manifest['databases'])} plugins"
        )
        sound = manifest["verified"] is True
        self.checks.note("sound when made", sound, "" if sound else "the manifest says that it was not")

    def _find_members(self, set_path: Path, manifest: Json) -> None:
        """Find the slot of each plugin: of the very release the set was made under, else of the one that runs now."""
        stack = {item["name"]: item for item in read_json(set_path / "stack.json") or []}
        now = {item["name"]: item for item in Journal(self.node.journal_file, self.node.keeper).state().stable or []}
        for name in sorted({*stack, *manifest["databases"]}):
            wanted = stack.get(name) or manifest.get("artifacts", {}).get(name) or now.get(name)
            with self.checks.tried("release", name):
                slot, same = self._slot(name, wanted, now.get(name))
                verify_slot(slot)
                self.slots[name] = slot
                if name in stack and not slot.manifest.get("foreign"):
                    self.members.append(Member(name, slot, self._options(stack[name], slot), same))
            keys = slot_keys(self.slots.get(name)) if name in manifest["databases"] else []
            missing = [key for key in keys if f"{name}/{key}" not in manifest["files"]]
            if keys:
                self.checks.note("key file", not missing, f"{missing[0]} is not in the set" if missing else "", name)
        self.members.sort(key=lambda member: (int(member.slot.manifest["start_order"]), member.name))

    def _slot(self, name: str, wanted: Json | None, now: Json | None) -> tuple[Slot, bool]:
        if wanted is not None:
            with suppress(HiveError):
                return find_slot(self.node, name, str(wanted["digest"])), True
        if now is None:
            raise HiveError(
                f"no release of {name} is staged on {self.node.name}, so its data cannot be tried; stage it, then "
                "drill again",
                "no-slot",
            )
        return find_slot(self.node, name, str(now["digest"])), False

    def _options(self, item: Json, slot: Slot) -> Json:
        """Return what a plugin is started with: as in the set, but offline, and with its database where we put it."""
        known = {option["name"] for option in slot.manifest["options"]}
        kept = {
            name: value
            for name, value in item["options"].items()
            # The set has no secret values, and a path of the real node is the last thing to start a copy with.
            if name in known and name != slot.manifest["database_option"] and not is_sealed(value)
        }
        return {**kept, **{name: value for name, value in OFFLINE.items() if name in known}}

    def _place(self, name: str, set_path: Path, manifest: Json, scratch: Scratch) -> None:
        """Put one plugin's database, its key files and the note of a restore where the plugin will look."""
        slot, facts = self.slots[name], manifest["databases"][name]
        where = str(slot.manifest["database"])
        files = {str(facts["file"]): (where, 0o600)}
        files.update({f"{name}/{key}": (key, 0o400) for key in slot_keys(slot) if f"{name}/{key}" in manifest["files"]})
        for file, (target, mode) in files.items():
            if scratch.put(set_path / file, target, mode) != manifest["files"][file]["sha256"]:
                raise HiveError(f"{file} of set {set_path.name} changed while it was read; drill again", "set-damaged")
        note = {"set": set_path.name, "created_at": manifest["created_at"], "restored_at": round(time.time(), 3)}
        (scratch.network_dir / f"{where}{NOTE}").write_text(json.dumps(note), encoding="utf-8")

    def _signed(self, set_path: Path, manifest: Json, scratch: Scratch) -> Machine | None:
        """Let the scratch lightningd verify the node's signature over the set; the node's own could be anybody's."""
        machine = scratch.machine(self.request.timeouts.ready)
        with self.checks.tried("signature", good="the node's own"):
            verify_signature(set_path, manifest, machine)
        return machine

    # The plugins

    def _start(self, machine: Machine, set_path: Path, manifest: Json) -> None:
        """Start the plugins of the set in their order and wait until each is well."""
        started = time.monotonic()
        timeouts = self.request.timeouts
        machine.wait_ready(timeouts.ready)
        for member in self.members:
            slot = member.slot
            with self.checks.tried("starts", member.name, slot.version):
                machine.start_plugin(
                    slot.inside(self.node),
                    self.node.to_inside(slot.path),
                    member.options,
                    str(slot.manifest["rpc_methods"][0]),
                    timeouts.getmanifest,
                    timeouts.init,
                )
            if self.checks.failed:
                return
        for member in self.members:
            self._healthy(machine, member, _did_of(set_path, manifest))
        self.seconds["start"] = time.monotonic() - started

    def _healthy(self, machine: Machine, member: Member, did: str) -> None:
        report: Json = {}

        def settled() -> bool | None:
            nonlocal report
            report = machine.health_of(member.slot.manifest, self.request.timeouts.rpc) or {}
            return True if report.get("status") in GOOD or excused(member.name, report, did) else None

        good = wait_for(settled, max(HEALTHY_SECONDS, self.request.timeouts.healthy), 0.05) is True
        bad = [
            f"{check['name']}: {check.get('detail', '')}" for check in report.get("checks", []) if not check.get("ok")
        ]
        said = f"{report.get('status', 'silent')}{' (' + '; '.join(bad) + ')' if bad else ''}"
        if good and report["status"] not in GOOD:
            said += ", as it has to on a scratch node, which has a key of its own"
        self.checks.note("healthy", good, said, member.name)
        schema, known = int(report.get("schema_version") or 0), int(member.slot.manifest["schema_version"])
        self.checks.note("runs on schema", schema == known, f"{schema} of {known}", member.name)

    def _ask(self, machine: Machine, set_path: Path, manifest: Json) -> None:
        if self.checks.failed:
            return
        semantics = Semantics(self.checks, machine, self.live, manifest)
        for member in self.members:
            facts = manifest["databases"].get(member.name)
            if facts is not None:
                semantics.of(member.name, set_path / str(facts["file"]))

    # Figures

    def _rows_since(self, manifest: Json) -> Json:
        """Return, per plugin and table, by how many rows the node is ahead of the set; None where nobody can say."""
        import sqlite3  # imported late, as elsewhere

        found: Json = {}
        for name, facts in manifest["databases"].items():
            path = Path(str(facts["source"]))
            try:
                connection = open_read_only(path, self.node.owner)
            except HiveError:
                found[name] = None
                continue
            try:
                now = {
                    table: int(connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0])
                    for table in tables(connection)
                }
            except sqlite3.DatabaseError:
                # The present one is damaged: then a set that holds is worth all the more.
                found[name] = None
                continue
            finally:
                connection.close()
            ahead = {table: count - int(facts["rows"].get(table, 0)) for table, count in now.items()}
            found[name] = {table: count for table, count in ahead.items() if count}
        return found

    def _result(
        self, set_path: Path, manifest: Json, started_at: float, scratch: Scratch, rows_since: Json | None
    ) -> Json:
        failed = self.checks.failed
        created = float(manifest.get("created_at") or 0)
        seconds = {name: round(value, 3) for name, value in self.seconds.items()}
        return {
            "result": "FAILED" if failed else "PASSED",
            "reason": _reason(set_path.name, failed[0]) if failed else "",
            "checks": self.checks.as_list(),
            "node": {"name": self.node.name, "node_id": self.node_id, "network": self.node.network},
            "set": {
                "id": set_path.name,
                "manifest_sha256": _digest(set_path),
                **{key: manifest.get(key) for key in ("created_at", "blockheight", "cln_version", "node_id", "bytes")},
            },
            "releases": [
                {
                    "name": member.name,
                    "version": member.slot.version,
                    "digest": member.slot.digest,
                    "schema_version": int(member.slot.manifest["schema_version"]),
                    "same_as_in_set": member.same_release,
                }
                for member in self.members
            ],
            "lightningd": {"digest": self.request.artifact.digest, "network": scratch.network},
            "rto_seconds": round(seconds["restore"] + seconds["start"], 3) if "start" in seconds else None,
            "seconds": seconds,
            "rpo": {"age_seconds": round(started_at - created, 1) if created else None, "rows_since": rows_since},
            "started_at": round(started_at, 3),
            "finished_at": round(time.time(), 3),
        }


def _whole(set_path: Path) -> Json:
    """Return the manifest of a set whose files are what it says, and which says all that is needed here.

    Raises:
        HiveError: it is not.
    """
    try:
        manifest = verify_set(set_path)
        complete = manifest.keys() >= KEYS and all(
            facts.keys() >= DATABASE_KEYS for facts in manifest["databases"].values()
        )
    except (AttributeError, KeyError, TypeError, ValueError, OSError):
        complete = False
    if not complete:
        raise HiveError(f"the manifest of backup set {set_path.name} is damaged; use another set", "set-damaged")
    return manifest


def slot_keys(slot: Slot | None) -> list[str]:
    """Return the key files of a plugin; none of one that is not there."""
    return [str(name) for name in slot.manifest.get("key_files", [])] if slot is not None else []


def _did_of(set_path: Path, manifest: Json) -> str:
    """Return the DID in the set; empty when there is none."""
    facts = manifest["databases"].get(ARCHON)
    if facts is None:
        return ""
    with suppress(HiveError):
        rows = read(set_path / str(facts["file"]), "SELECT did FROM archon_identity WHERE singleton_id = 1")
        return str(rows[0][0]) if rows else ""
    return ""


def _digest(set_path: Path) -> str:
    content = read_bytes(set_path / MANIFEST)
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _lenient(set_path: Path) -> Json:
    """Return what a damaged set's manifest says of itself, for the evidence alone."""
    found = read_json(set_path / MANIFEST)
    return found if isinstance(found, dict) else {}


def _reason(set_id: str, check: Check) -> str:
    """Say in one sentence what does not hold."""
    return f"backup set {set_id} cannot be relied on: {check.title}: {check.detail or 'does not hold'}"
