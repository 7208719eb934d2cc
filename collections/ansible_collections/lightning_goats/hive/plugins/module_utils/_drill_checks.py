"""What a drill asks of restored data: before the plugins start, of the files; afterwards, of the plugins themselves."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ._engine.backup_digest import table_facts
from ._engine.errors import HiveError
from ._engine.machine import Machine
from ._slots import Slot

COMMS, ARCHON, HIVE = "cl-hive-comms", "cl-hive-archon", "cl-hive"
MEMBERS = "hive_members"
RPC_SECONDS = 60.0

Json = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One statement about the set.

    Attributes:
        ok: None when it was not tested; `detail` says why.
        plugin: whose data it is about, empty for the whole set.
    """

    name: str
    ok: bool | None
    detail: str = ""
    plugin: str = ""

    @property
    def title(self) -> str:
        return f"{self.plugin} {self.name}" if self.plugin else self.name


@dataclass
class Checks:
    """The statements of one drill, in the order in which they were tested."""

    done: list[Check] = field(default_factory=list)

    def note(self, name: str, ok: bool | None, detail: str = "", plugin: str = "") -> bool:
        """Write one down; whether it holds."""
        self.done.append(Check(name, ok, detail, plugin))
        return ok is True

    @contextmanager
    def tried(self, name: str, plugin: str = "", good: str = "") -> Iterator[None]:
        """Write down that something was tried: what it is refused with is why it does not hold."""
        try:
            yield
        except HiveError as error:
            self.note(name, False, error.message, plugin)
        else:
            self.note(name, True, good, plugin)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.done if check.ok is False]

    def as_list(self) -> list[Json]:
        return [asdict(check) for check in self.done]


# Before the plugins start


def database(checks: Checks, plugin: str, path: Path, facts: Json, slot: Slot | None) -> None:
    """Test a restored database against what the manifest of its set says."""
    import sqlite3  # imported late: nothing else here opens a database

    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
            # SQLite says several faults on several lines of one answer.
            checks.note("integrity", found == ["ok"], "" if found == ["ok"] else " ".join(found[0].split()), plugin)
            foreign = connection.execute("PRAGMA foreign_key_check").fetchone()
            said = f"row {foreign[1]} of {foreign[0]} names a row of {foreign[2]} that is not there" if foreign else ""
            checks.note("foreign keys", not foreign, said, plugin)
            schema = int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()
        _schema(checks, plugin, schema, facts, slot)
        _tables(checks, plugin, table_facts(path), facts)
    except sqlite3.DatabaseError as error:
        checks.note("integrity", False, str(error), plugin)


def _schema(checks: Checks, plugin: str, schema: int, facts: Json, slot: Slot | None) -> None:
    wrong = (
        "" if schema == int(facts["schema_version"]) else f"it is {schema}, the manifest says {facts['schema_version']}"
    )
    if slot is not None and schema > int(slot.manifest["schema_version"]):
        wrong = f"it is {schema}, and {plugin} {slot.version} knows up to {slot.manifest['schema_version']}"
    checks.note("schema", not wrong, wrong or f"schema {schema}", plugin)


def _tables(checks: Checks, plugin: str, found: dict[str, Json], facts: Json) -> None:
    counts = {name: int(table["rows"]) for name, table in found.items()}
    wanted: dict[str, Any] = facts.get("tables") or facts["rows"]
    # A set made before tables had digests has only their counts.
    have: dict[str, Any] = found if facts.get("tables") else counts
    differing = sorted(name for name in have.keys() | wanted.keys() if have.get(name) != wanted.get(name))
    wrong = f"{', '.join(differing[:3])} is not what the manifest says" if differing else ""
    what = "counts and digests" if facts.get("tables") else "counts"
    checks.note(
        "rows", not differing, wrong or f"{sum(counts.values())} rows in {len(found)} tables, {what} equal", plugin
    )


# With the plugins running


def excused(plugin: str, report: Json, did: str) -> bool:
    """Whether a plugin that calls itself failed does so for the one reason that a scratch node gives it.

    The scratch node has a key of its own, and archon says of a DID that it belongs to another node. That it names the
    very DID of the set, and complains of nothing else, is what it has to do here.
    """
    bad = [check for check in report.get("checks", []) if not check.get("ok") and check.get("critical")]
    if plugin != ARCHON or not did or len(bad) != 1:
        return False
    return bool(bad[0].get("name") == "identity" and bad[0].get("detail") == f"{did} is another node's")


class Semantics:
    """Asks the restored plugins what they know, and compares it with the rows of the set and with the running node."""

    def __init__(self, checks: Checks, scratch: Machine, live: Machine | None, manifest: Json) -> None:
        """Args: live: the node's own lightningd, None when it does not answer."""
        self.checks = checks
        self.scratch = scratch
        self.live = live
        self.manifest = manifest

    def of(self, plugin: str, database: Path) -> None:
        """Test what is particular to one plugin; `database` is the one of the set, not the one that it runs on."""
        tests = {COMMS: (self._receipts, self._pubkey), ARCHON: (self._did,), HIVE: (self._members,)}.get(plugin, ())
        for test in tests:
            test(database)

    def _ask(self, name: str, plugin: str, method: str, **params: Any) -> Json | None:
        """What the restored plugin answers; a refusal is written down as why the check does not hold."""
        try:
            reply = self.scratch.rpc.call(method, params, timeout=RPC_SECONDS)
        except HiveError as error:
            self.checks.note(name, False, error.message, plugin)
            return None
        return reply if isinstance(reply, dict) else {}

    def _ask_live(self, method: str) -> Json:
        """What the running plugin says; nothing when it does not run."""
        if self.live is None:
            return {}
        try:
            reply = self.live.rpc.call(method)
        except HiveError:
            return {}
        return reply if isinstance(reply, dict) else {}

    def _receipts(self, database: Path) -> None:
        rows = int(read(database, "SELECT count(*) FROM management_receipts")[0][0])
        reply = self._ask("receipts", COMMS, "hive-client-receipts", limit=1, verify=True)
        if reply is not None:
            proof = reply.get("verification") or {}
            # One more is written at the start, for the relays that the scratch node is given.
            ok = proof.get("valid") is True and int(proof.get("checked", -1)) >= rows
            self.checks.note("receipts", ok, f"{proof.get('checked')} verified, {rows} in the set", COMMS)

    def _pubkey(self, database: Path) -> None:
        stored = read(database, "SELECT value FROM nostr_state WHERE key = 'config:pubkey'")
        wanted = str(stored[0][0]) if stored else ""
        reply = self._ask("identity", COMMS, "hive-client-identity")
        if reply is not None:
            self._equal("identity", COMMS, wanted, str(reply.get("pubkey", "")))
        self._live("identity of the running node", COMMS, wanted, self._ask_live("hive-client-identity").get("pubkey"))

    def _did(self, database: Path) -> None:
        stored = read(database, "SELECT did, source FROM archon_identity WHERE singleton_id = 1")
        wanted = str(stored[0][0]) if stored else ""
        reply = self._ask("identity", ARCHON, "hive-archon-status")
        if reply is not None:
            self._equal("identity", ARCHON, wanted, str((reply.get("identity") or {}).get("did", "")))
        if stored and stored[0][1] == "local-fallback":
            derived = local_did(str(self.manifest["node_id"]), str(self.manifest["network"]))
            self._equal("identity follows from the node", ARCHON, derived, wanted)
        running = self._ask_live("hive-archon-status").get("identity") or {}
        self._live("identity of the running node", ARCHON, wanted, running.get("did"))

    def _members(self, database: Path) -> None:
        rows = read(database, f"SELECT peer_id, tier, joined_at FROM {MEMBERS} ORDER BY peer_id")
        reply = self._ask("members", HIVE, "hive-members")
        if reply is not None:
            found = sorted((item["peer_id"], item["tier"], item["joined_at"]) for item in reply.get("members", []))
            self.checks.note("members", found == rows, f"{len(found)} listed, {len(rows)} in the set", HIVE)

    def _equal(self, name: str, plugin: str, wanted: str, found: str) -> None:
        same = wanted == found
        self.checks.note(
            name, same, (found or "none") if same else f"{found or 'none'}, not {wanted or 'none'}", plugin
        )

    def _live(self, name: str, plugin: str, wanted: str, running: Any) -> None:
        if running:
            self._equal(name, plugin, wanted, str(running))
        else:
            self.checks.note(name, None, f"{plugin} tells of none on the node", plugin)


def read(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on a database that nobody writes.

    Raises:
        HiveError: it has no such table, or cannot be read.
    """
    import sqlite3  # imported late, as above

    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        return [tuple(row) for row in connection.execute(query)]
    except sqlite3.DatabaseError as error:
        raise HiveError(f"{path.name} does not answer {query!r} ({error}); use another set", "set-damaged") from error
    finally:
        connection.close()


def local_did(node_id: str, network: str) -> str:
    """Return the DID that follows from a node's id alone, as cl-hive-archon makes it without a gateway."""
    document = {
        "type": "agent",
        "registration": {"version": 1, "type": "agent", "registry": "local"},
        "data": {"node_pubkey": node_id, "network": network},
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    cid = b"\x01\x80\x04\x12\x20" + hashlib.sha256(text.encode()).digest()
    return f"did:cid:b{base64.b32encode(cid).decode().rstrip('=').lower()}"
