"""What restoring a set would mean for a node: every row, key, identity and chain that would change; only looks."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._slots import Slot
from .._sqlite import check_copy, data_version, user_version
from .aside import Swap
from .backups import sources
from .compare import Difference, differences
from .contents import chain_break, contents, money_reasons
from .errors import HiveError
from .files import read_bytes
from .guard import Look
from .journal import State
from .node import Node
from .observe import database_path, options_of
from .restore_set import RestoreSet
from .stacks import version_key

Json = dict[str, Any]
FINGERPRINT = 16
# What a manifest says of a plugin's data: no identity is in it, or the release can part it from the one in it.
COMMS, HIVE = "cl-hive-comms", "cl-hive"
# How far the clock of an advisor may be off: messages are refused for that much longer.
SKEW_SECONDS = 300.0
NO_IDENTITY, APART = "none", "apart"


@dataclass(frozen=True)
class Wanted:
    """What the operator asked for beside the set: the name of another node to write to, and whether as whom."""

    restore_as: str = ""
    identity: bool = False


@dataclass
class Part:
    """One plugin's share of a restore.

    Attributes:
        copy: the set's database.
        database: where it goes.
        facts: what `hive_restore` returns about it.
    """

    name: str
    slot: Slot
    copy: Path
    database: Path
    facts: Json = field(default_factory=dict)

    @property
    def rows(self) -> Difference:
        """What happens to its rows, per table."""
        found: Difference = self.facts["rows"]
        return found


class Plan:
    """A set, looked at with the eyes of the node it would go to.

    Attributes:
        parts: one per plugin of the set; all go together, or none. Of another node's, those without an identity.
        swaps: what goes where.
        notes: what is worth knowing and no reason to stop.
    """

    def __init__(self, node: Node, chosen: RestoreSet, seen: Look, wanted: Wanted) -> None:
        self.node = node
        self.chosen = chosen
        self.manifest = chosen.manifest
        self.wanted = wanted
        self.notes: list[str] = []
        self.swaps: list[Swap] = []
        self._refuse_other_node(seen)
        found = [self._part(name, facts, seen) for name, facts in sorted(self.manifest["databases"].items())]
        self.parts = [part for part in found if part is not None]
        if not self.parts:
            why = f" that is not bound to another node's identity ({self.notes[0]})" if self.notes else ""
            raise HiveError(f"set {chosen.id} holds no data of a plugin{why}; choose another", "set-empty")
        self._note(seen)

    @property
    def rows(self) -> dict[str, Difference]:
        """What happens to the rows, per plugin and table."""
        return {part.name: part.rows for part in self.parts}

    @property
    def bytes(self) -> int:
        """How much is copied beside the present files."""
        return sum(item.source.stat().st_size for item in self.swaps)

    @property
    def broken_chains(self) -> dict[str, Json]:
        """Per plugin, what happens to a chain of receipts that would end earlier."""
        return {part.name: part.facts["receipts"] for part in self.parts if part.facts["receipts"]}

    # What is refused

    def _refuse_other_node(self, seen: Look) -> None:
        manifest, node, wanted = self.manifest, self.node, self.wanted
        if wanted.restore_as and wanted.restore_as != node.name:
            raise HiveError(
                f"hive_restore_as names {wanted.restore_as} and this is {node.name}; limit the run to the node that "
                "is to be written to",
                "other-node",
            )
        if manifest["network"] != seen.info["network"]:
            raise HiveError(
                f"set {self.chosen.id} is of {manifest['network']} and {node.name} is on {seen.info['network']}; "
                "restore a set of this node",
                "other-node",
            )
        if self.chosen.foreign and not wanted.restore_as:
            raise HiveError(
                f"set {self.chosen.id} is of node {manifest['node_id']}, not of {node.name}; restore a set of this "
                f"node, or put the other one's data here with -e hive_restore_as={node.name}",
                "other-node",
            )

    def _refuse_schema(self, name: str, slot: Slot, schema: int, readable_by: str, seen: Look) -> None:
        """Refuse data that the release which is there cannot read; what is older, it takes forward itself."""
        knows = int(slot.manifest["schema_version"])
        if schema < knows:
            self.notes.append(
                f"{name}: the set has schema {schema}; {slot.version} takes it forward to {knows} when it starts"
            )
        if schema <= knows:
            return
        writers = [item for item in seen.by_entry.values() if item.name == name]
        known = [
            str(item.manifest["readable_by"]) for item in writers if int(item.manifest["schema_version"]) == schema
        ]
        oldest = known[0] if known else readable_by
        if oldest and version_key(slot.version) >= version_key(oldest):
            self.notes.append(
                f"{name}: the set has schema {schema}, newer than {slot.version} knows but readable by it"
            )
            return
        made_by = [str(item["version"]) for item in self.manifest["stack"] if item["name"] == name]
        release = oldest or (made_by[0] if made_by else "a newer release")
        raise HiveError(
            f"the set's {name} data has schema {schema} and {name} {slot.version} knows up to {knows}; "
            f"switch to {name} {release} first",
            "schema-too-new",
        )

    # The parts

    def _part(self, name: str, facts: Json, seen: Look) -> Part | None:
        node, manifest, owner = self.node, self.manifest, self.node.owner
        slot = sources(node, seen).get(name)
        if slot is None:
            raise HiveError(
                f"the set holds data of {name}, which was never staged on {node.name}; stage it first", "no-slot"
            )
        part = Part(name, slot, self.chosen.path / facts["file"], node.network_dir)
        part.database = database_path(node, slot.manifest, options_of(seen.configs))
        found = check_copy(part.copy)
        if found["check"] != "ok":
            raise HiveError(
                f"{facts['file']} of set {self.chosen.id} is damaged: {found['check']}; use another set", "set-damaged"
            )
        then = contents(part.copy, owner, immutable=True)
        if self.chosen.foreign and self._stays_out(part, then):
            return None
        schema = int(found["schema_version"])
        self._refuse_schema(name, slot, schema, str(then.get("readable_by", "")), seen)
        self.swaps.append(
            Swap(part.copy, part.database, 0o600, database=True, sha256=manifest["files"][facts["file"]]["sha256"])
        )
        there = part.database.is_file()
        now = contents(part.database, owner) if there else {}
        if there:
            rows = differences(part.database, part.copy, owner)
        else:
            rows = {table: {"now": 0, "then": n, "lost": 0, "back": n} for table, n in found["rows"].items()}
        part.facts = {
            "database": str(part.database),
            "there": there,
            "schema": {
                "now": self._schema_now(part.database),
                "then": schema,
                "after": max(schema, int(slot.manifest["schema_version"])),
            },
            "rows": rows,
            "key_files": self._keys(part),
            "identity": {"now": str(now.get("identity", "")), "after": str(then.get("identity", ""))},
            "receipts": chain_break(part.database, owner, now.get("receipts", {}), then.get("receipts", {}))
            if there
            else None,
        }
        return part

    def _schema_now(self, database: Path) -> int | None:
        try:
            return user_version(database, self.node.owner)
        except HiveError:
            # It cannot even be opened, which is why it is to be replaced.
            return None

    def _keys(self, part: Part) -> dict[str, dict[str, str]]:
        """Take key files along, without which the data cannot be opened; return by fingerprint what would change."""
        found = {}
        for key_file in part.slot.manifest.get("key_files", []):
            inside = f"{part.name}/{key_file}"
            target = part.database.parent / key_file
            if inside not in self.manifest["files"]:
                raise HiveError(
                    f"set {self.chosen.id} holds the data of {part.name} and not {key_file}, without which it cannot "
                    "be opened; use another set",
                    "set-mixed",
                )
            source = self.chosen.path / inside
            self.swaps.append(
                Swap(source, target, 0o400, database=False, sha256=self.manifest["files"][inside]["sha256"])
            )
            found[key_file] = {"now": _fingerprint(target), "then": _fingerprint(source)}
        return found

    def _stays_out(self, part: Part, then: Json) -> bool:
        """Whether another node's data is left out, because who holds it is that node.

        Whom it obeys, what it signed and what it may spend belong to an identity: without it they would be lies here.
        """
        if then.get("bound"):
            self.notes.append(f"{part.name} stays out: {then['identity']} is derived from the other node's id")
            return True
        keys = list(part.slot.manifest.get("key_files", []))
        if self.wanted.identity or not (keys or then.get("identity")):
            return False
        who = str(then.get("identity", ", ".join(keys)))
        self.notes.append(
            f"{part.name} stays out: its data belongs to the identity {who} of the other node, which comes along only "
            "with -e hive_restore_identity=true"
        )
        return True

    def _note(self, seen: Look) -> None:
        node, manifest = self.node, self.manifest
        if not self.chosen.signed:
            self.notes.append("the set is not signed: nobody can prove that this node made it, or that it is unchanged")
        for name, slot in sorted(sources(node, seen).items()):
            path = database_path(node, slot.manifest, options_of(seen.configs))
            if name not in manifest["databases"] and path.is_file():
                self.notes.append(f"{name} has data that is not in the set; it stays as it is")
        if self.chosen.foreign:
            self.notes.append(f"the set is of node {manifest['node_id']} ({manifest.get('node', 'without a name')})")

    # The fence

    def fence(self, state: State) -> list[str]:
        """Return why the set must not simply be restored, what was paid first; empty when nothing would be lost."""
        manifest, owner = self.manifest, self.node.owner
        created = float(manifest["created_at"])
        when = _utc(created)
        reasons = [
            reason
            for part in self.parts
            if part.facts["there"]
            for reason in money_reasons(part.database, part.copy, owner, part.rows)
        ]
        if self.chosen.foreign and self.wanted.identity:
            reasons.append(
                f"with its keys two nodes would speak as one, unless node {manifest['node_id']} never runs its plugins "
                "again"
            )
        if created > time.time():
            reasons.append(f"the set is of {when}, which has not come yet: made before a clock was put right")
        if state.data_changed_at > created:
            reasons.append(
                f"the set is of {when}, older than the change of the databases at {_utc(state.data_changed_at)}"
            )
        lost = {
            f"{name}.{table}": facts["lost"]
            for name, tables in self.rows.items()
            for table, facts in tables.items()
            if facts["lost"]
        }
        if lost:
            worst = sorted(lost.items(), key=lambda pair: -pair[1])[:4]
            listed = ", ".join(f"{count} of {table}" for table, count in worst)
            reasons.append(f"rows written since {when} would be lost ({listed})")
        for name, chain in self.broken_chains.items():
            reasons.append(broken_words(name, chain))
        unreadable = sorted(part.name for part in self.parts if part.facts["there"] and not part.rows)
        if unreadable:
            reasons.append(
                f"the present database of {unreadable[0]} cannot be read, so nobody can say what would be lost"
            )
        now = data_version(self.node.network_dir / "lightningd.sqlite3")
        then = None if self.chosen.foreign else manifest["data_version"]
        if now is not None and then is not None and now > int(then) and lost:
            reasons.append(f"lightningd has committed {now - int(then)} changes since then, payments among them")
        return reasons

    def described(self) -> Json:
        """Return what the module says of the plan."""
        keys = ("id", "created_at", "blockheight", "cln_version", "stack", "databases", "node_id")
        allowed = {
            "hive_restore_unsigned": not self.chosen.signed,
            "hive_restore_as": self.wanted.restore_as,
            "hive_restore_identity": self.wanted.identity,
        }
        return {
            "set": {**{key: self.manifest[key] for key in keys}, "signed": self.chosen.signed},
            "plugins": {part.name: part.facts for part in self.parts},
            "loss": self.rows,
            "files": [str(item.target) for item in self.swaps],
            "passed_over": list(self.chosen.passed_over),
            "notes": list(self.notes),
            "allowed": {name: value for name, value in allowed.items() if value},
        }


def broken_words(name: str, chain: Json) -> str:
    """Say in one sentence what happens to a chain of receipts."""
    ends = chain["then"]["count"] if chain["then"] else 0
    text = f"{name}'s receipts end at number {chain['now']['count']} now and at {ends} in the set"
    if chain["parted"]:
        return f"{text}, and the two chains are not the same one"
    which = f" ({chain['first']} to {chain['last']})" if chain["gone"] else ""
    return f"{text}: {chain['gone']} receipts{which} would be gone"


def follows(plan: Plan, restored_at: float) -> list[str]:
    """Return what the plugins do, and what the operator has to do, once data older than the world is in place."""
    created = _utc(float(plan.manifest["created_at"]))
    names = {part.name for part in plan.parts}
    told = [
        f"{broken_words(name, chain)}, which the journal of the node keeps"
        for name, chain in plan.broken_chains.items()
    ]
    if COMMS in names:
        told.append(
            f"{COMMS} refuses every management message until {_utc(restored_at + SKEW_SECONDS)}, and later on those "
            "signed up to then: what was carried out before the restore cannot be played to it again"
        )
        told.append(
            f"{COMMS} counts anew what was spent since {created} before it pays anything, so that the limits of the "
            "day and the week hold"
        )
    if HIVE in names:
        told.append(
            f"{HIVE} pays no settlement until you have compared what was paid since {created} with what lightningd "
            "paid: lightning-cli hive-settlement-reconcile"
        )
    return told


def _fingerprint(path: Path) -> str:
    """Return the beginning of a key file's digest; empty when it is not there."""
    content = read_bytes(path)
    return "" if content is None else hashlib.sha256(content).hexdigest()[:FINGERPRINT]


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
