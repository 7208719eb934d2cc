"""Restoring plugins' data from a backup set: behind a fence, as a transaction, with what is replaced kept aside."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._slots import Slot
from .._sqlite import check_copy, data_version, losses
from .aside import Swap, aside_dir, leave_note, swap
from .backups import BackupRequest, sources, take_backup, verify_set
from .bundle import engine_archive
from .errors import HiveError
from .forward import Forward
from .guard import Guard, Look, look
from .journal import Transaction
from .node import Node
from .observe import database_path, list_backups, options_of
from .request import Request
from .sealed import seal
from .session import Session
from .stacks import active_items, stack_digest, version_key
from .steps import Step
from .switch import Switch

Loss = dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True)
class RestoreRequest:
    """One call of hive_restore.

    Attributes:
        set_id: name of the backup set; "" for the newest verified one.
        apply: whether to restore, or only to say what that would mean.
        phrase: what the operator typed; must be the exact phrase when data would be lost.
    """

    set_id: str
    apply: bool
    phrase: str
    request: Request


class Restore(Switch):
    """Restores one set on one node."""

    def __init__(self, node: Node, wanted: RestoreRequest) -> None:
        super().__init__(node, wanted.request)
        self.wanted = wanted
        self.set_path = node.backups_dir / wanted.set_id

    @property
    def phrase(self) -> str:
        """What must be typed to go behind the fence."""
        return f"restore {self.wanted.set_id} on {self.node.name} and lose what came after"

    def _load_and_run(self) -> dict[str, Any]:
        self._load()
        if "/" in self.wanted.set_id or not self.wanted.set_id or self.wanted.set_id.startswith("."):
            raise HiveError(
                f"{self.wanted.set_id!r} is not the name of a backup set; list them with backup.yml", "no-set"
            )
        manifest = verify_set(self.set_path)
        txn = self.state.transaction
        if txn is not None:
            if self.wanted.apply and not self.request.check_mode:
                self._take_node()
                session = Session(self.machine, self.journal, txn, self.request.timeouts)
                session.revert("a restore was asked for", "engine", self.manifests(txn.target, txn.previous))
                self._load()
            else:
                raise HiveError(
                    f"rollout {txn.rollout} has an open switch on {self.node.name}; confirm or revert it first",
                    "unconfirmed",
                )
        seen = look(self.machine, self.request.timeouts.ready)
        self.before = seen.stack
        self._refuse_other_node(manifest, seen)
        swaps = self._swaps(manifest, seen)
        loss = self._loss(manifest, seen)
        fence = self._fence(manifest, loss)
        facts = {
            "set": {
                key: manifest[key] for key in ("id", "created_at", "blockheight", "cln_version", "stack", "databases")
            },
            "loss": loss,
            "fence": fence,
            "phrase": self.phrase if fence else "",
            "files": [str(item.target) for item in swaps],
            "aside": "",
            "notes": [],
        }
        if not self.wanted.apply or self.request.check_mode:
            return self.result(self.request.check_mode and self.wanted.apply, "planned", seen.stack, **facts)
        if fence and self.wanted.phrase != self.phrase:
            refusal = (
                f"{fence[0]}; when that is what you want, run again with -e 'hive_restore_phrase=\"{self.phrase}\"'"
            )
            error = self._fail(HiveError(refusal, "fenced"), "refused", seen.stack, reverted=False)
            error.data.update(facts)
            raise error
        self._take_node()
        return self._restore(manifest, seen, swaps, facts)

    # Before anything is changed

    def _refuse_other_node(self, manifest: dict[str, Any], seen: Look) -> None:
        if manifest["node_id"] != seen.info["id"] or manifest["network"] != seen.info["network"]:
            raise HiveError(
                f"set {self.wanted.set_id} is of node {manifest['node_id']} on {manifest['network']}, not of "
                f"{self.node.name}; "
                "restore a set of this node",
                "other-node",
            )
        if not manifest["verified"]:
            raise HiveError(
                f"set {self.wanted.set_id} holds a database that was not sound when it was made; use another",
                "set-damaged",
            )

    def _places(self, seen: Look) -> dict[str, tuple[Slot, Path]]:
        configs = options_of(seen.configs)
        return {
            name: (slot, database_path(self.node, slot.manifest, configs))
            for name, slot in sources(self.node, seen).items()
        }

    def _swaps(self, manifest: dict[str, Any], seen: Look) -> list[Swap]:
        """Return what goes where; refuse what the running release could not read."""
        places = self._places(seen)
        swaps = []
        for name, facts in manifest["databases"].items():
            if name not in places:
                raise HiveError(
                    f"the set holds data of {name}, which was never staged on {self.node.name}; stage it first",
                    "no-slot",
                )
            slot, database = places[name]
            file = self.set_path / facts["file"]
            found = check_copy(file)
            if found["check"] != "ok":
                raise HiveError(
                    f"{facts['file']} of set {self.wanted.set_id} is damaged: {found['check']}; use another set",
                    "set-damaged",
                )
            self._refuse_schema(name, slot, int(found["schema_version"]), manifest)
            swaps.append(Swap(file, database, 0o600, database=True))
            for key_file in slot.manifest.get("key_files", []):
                source = self.set_path / name / key_file
                if source.is_file():
                    swaps.append(Swap(source, database.parent / key_file, 0o400, database=False))
        if not swaps:
            raise HiveError(f"set {self.wanted.set_id} holds no data of a plugin; choose another", "set-empty")
        return swaps

    def _refuse_schema(self, name: str, slot: Slot, schema: int, manifest: dict[str, Any]) -> None:
        if schema <= int(slot.manifest["schema_version"]):
            return
        version = next((str(item["version"]) for item in manifest["stack"] if item["name"] == name), "a newer release")
        if version_key(slot.version) < version_key(version):
            raise HiveError(
                f"the set's {name} data has schema {schema} and {name} {slot.version} knows up to "
                f"{slot.manifest['schema_version']}; "
                f"switch to {name} {version} first",
                "schema-too-new",
            )

    def _loss(self, manifest: dict[str, Any], seen: Look) -> Loss:
        """Return, per plugin and table, the rows that are there now and would not be afterwards."""
        places = self._places(seen)
        return {
            name: losses(places[name][1], self.set_path / facts["file"], self.node.owner)
            for name, facts in manifest["databases"].items()
            if places[name][1].is_file()
        }

    def _fence(self, manifest: dict[str, Any], loss: Loss) -> list[str]:
        """Return why the set must not simply be restored; empty when nothing would be lost."""
        reasons = []
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(manifest["created_at"])))
        if float(manifest["created_at"]) > time.time():
            reasons.append(f"the set is of {when}, which has not come yet: made before a clock was put right")
        if self.state.data_changed_at > float(manifest["created_at"]):
            changed = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.state.data_changed_at))
            reasons.append(f"the set is of {when}, older than the change of the databases at {changed}")
        lost = {
            f"{name}.{table}": facts["lost"]
            for name, tables in loss.items()
            for table, facts in tables.items()
            if facts["lost"]
        }
        if lost:
            worst = ", ".join(
                f"{count} of {table}" for table, count in sorted(lost.items(), key=lambda pair: -pair[1])[:4]
            )
            reasons.append(f"rows written since {when} would be lost ({worst})")
        unreadable = sorted(name for name, tables in loss.items() if not tables)
        if unreadable:
            reasons.append(
                f"the present database of {unreadable[0]} cannot be read, so nobody can say what would be lost"
            )
        now = data_version(self.node.network_dir / "lightningd.sqlite3")
        if now is not None and manifest["data_version"] is not None and now > int(manifest["data_version"]) and lost:
            reasons.append(
                f"lightningd has committed {now - int(manifest['data_version'])} changes since then, payments "
                "among them"
            )
        return reasons

    # The transaction

    def _restore(
        self, manifest: dict[str, Any], seen: Look, swaps: list[Swap], facts: dict[str, Any]
    ) -> dict[str, Any]:
        txn = self._begin_restore(seen, manifest)
        session = self.session = Session(self.machine, self.journal, txn, self.request.timeouts)
        manifests = self.manifests(seen.stack)
        marks = [mark["time"] for mark in self.machine.log_marks()]
        session.record.keep_baseline(
            {"argv": seen.argv, "channels": seen.channel_states, "other_methods": None, "marks": marks}
        )
        session.record.note("begin", txn.data)
        forward = Forward(self.machine, self.request, session)
        aside = str(txn.data["aside"])
        affected = [item for item in active_items(seen.stack) if item["name"] in manifest["databases"]]
        try:
            with session.record.step(Step.GUARD):
                guard = Guard(self.machine, self.request, seen, seen.stack, manifests)
                guard.window()
                guard.disk()
            with session.record.step(Step.BACKUP) as outcome:
                wanted = BackupRequest(f"before restore of {self.wanted.set_id}", max(2, self.request.backup_keep + 1))
                self.backup = take_backup(self.node, seen, wanted)
                outcome["id"] = self.backup["id"]
            forward.arm()
            for item in reversed(affected):
                session.plugins.stop(item["name"], seen)
            with session.record.step(Step.DATA, aside=aside):
                swap(self.node, aside, swaps)
            note = {
                "set": self.wanted.set_id,
                "created_at": manifest["created_at"],
                "restored_at": round(time.time(), 3),
            }
            for placed in swaps:
                if placed.database:
                    leave_note(self.node, placed.target, dict(note))
            for item in affected:
                session.plugins.start(item, manifests[item["digest"]], seen)
            with session.record.step(Step.VERIFY):
                session.lightningd.prove_same()
                session.proof.stack(seen.stack, manifests, strict=False)
        except HiveError as error:
            raise self._undo(error, manifests) from error
        session.record.note("restored", {"set": self.wanted.set_id, "aside": aside, "loss": facts["loss"]})
        facts["aside"] = str(aside_dir(self.node, aside))
        return {**self._confirm("engine"), **facts}

    def _begin_restore(self, seen: Look, manifest: dict[str, Any]) -> Transaction:
        self.vault.keep(seen.stack)
        identifier = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"
        data = {
            "kind": "restore",
            "set": self.wanted.set_id,
            "aside": identifier,
            "target": seal(seen.stack),
            "previous": seal(seen.stack),
            "found": seal(seen.stack),
            "target_digest": stack_digest(seal(seen.stack)),
            "plugins": sorted(manifest["databases"]),
            "deadman_seconds": 0,
            "owner": self.request.owner,
            "changes_data": True,
            "lightningd": {"pid": seen.who.pid, "started": seen.who.started, "version": seen.info["version"]},
            "engine": engine_archive()[1],
            "pid": os.getpid(),
        }
        return Transaction(identifier, self.request.rollout, "open", seen.stack, seen.stack, data)


def restore(node: Node, wanted: RestoreRequest) -> dict[str, Any]:
    """Run one request; the function the module calls."""
    if not wanted.set_id:
        wanted = replace(wanted, set_id=_newest_verified(node))
    return Restore(node, wanted).run()


def _newest_verified(node: Node) -> str:
    found = [item["id"] for item in list_backups(node) if item["verified"]]
    if not found:
        raise HiveError(f"{node.name} has no verified backup set; take one with backup.yml", "no-set")
    return str(found[-1])
