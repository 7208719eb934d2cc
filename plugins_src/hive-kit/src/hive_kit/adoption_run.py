"""The commands `--hive-adopt`, `--hive-carry-back` and `--hive-hand-over`: JSON on stdin, one JSON object on stdout.

lightningd and the plugin do not run on the database meanwhile. Each may be killed anywhere and run again.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from hive_kit import adoption_place
from hive_kit.adoption import Adopts
from hive_kit.adoption_back import NO_TABLE, Back, BackTally, Monolith
from hive_kit.adoption_pass import Pass, Request, Tally
from hive_kit.adoption_record import QUARANTINE
from hive_kit.adoption_source import Source, set_digest
from hive_kit.app import PluginSpec
from hive_kit.errors import AdoptionError, HiveError
from hive_kit.store import Store, schema_tables

Json = dict[str, Any]
IDENTITIES: Final = ("refuse", "monolith", "present")
_SHOWN: Final = 100


def command(spec: PluginSpec[Any], flag: str, stdin: TextIO, stdout: TextIO) -> int:
    """Run one of `COMMANDS`. Returns the exit status; a refusal is `{"error": {"code", "message"}}`."""
    try:
        answer = COMMANDS[flag](spec, _read(stdin))
        status = 0
    except HiveError as error:
        answer, status = {"error": {"code": _code(error), "message": error.message}}, 1
    except sqlite3.Error as error:
        answer, status = {"error": {"code": "storage", "message": f"SQLite: {error}; nothing was kept"}}, 1
    stdout.write(json.dumps(answer, sort_keys=True) + "\n")
    stdout.flush()
    return status


def adopt(spec: PluginSpec[Any], given: Mapping[str, Any]) -> Json:
    """Bring the plugin's database up to a snapshot of the monolith's, or go on with the monolith's own file.

    Raises:
        HiveError: with the sentence for the operator; nothing was kept.
    """
    adopts, database = _adopts(spec), _path(given, "database")
    request = _request(given)
    if adopts.in_place:
        return {
            "plugin": spec.name,
            "identity": {"action": "none", "pubkey": ""},
            "quarantine": [],
            "final": request.final,
            "complete": True,
            **adoption_place.adopt_in_place(spec, database),
        }
    with (
        Source.snapshot(_path(given, "snapshot")) as source,
        Store.open(database, spec.name, spec.migrations, spec.version) as store,
    ):
        layout = source.layout()
        for prepare in adopts.preparations:
            prepare(store, source, request)
        with store.alone(), store.adopting(), store.atomic():
            tallies, identity = _passes(adopts, store, source, request, layout)
        shown = store.query(
            f"SELECT table_name, row_key, reason FROM {QUARANTINE} ORDER BY table_name, row_key LIMIT {_SHOWN}"
        )
    return {
        "plugin": spec.name,
        "source": {
            "layout": layout,
            "sha256": set_digest({table: tally.digest.hex() for table, tally in tallies.items()}),
            "tables": len(tallies),
        },
        "tables": {table: tally.describe() for table, tally in tallies.items()},
        "identity": identity,
        "quarantine": [{"table": row[0], "key": row[1], "reason": row[2]} for row in shown],
        "final": request.final,
        "complete": True,
    }


def carry_back(spec: PluginSpec[Any], given: Mapping[str, Any]) -> Json:
    """Write into the monolith what the plugin changed since adoption.

    Raises:
        HiveError: with the sentence for the operator; nothing was kept.
    """
    adopts, database = _adopts(spec), _path(given, "database")
    answer: Json = {"plugin": spec.name, "tables": {}, "left": [], "complete": True}
    if adopts.in_place or not database.exists():
        return answer  # its rows never left the file
    tallies: dict[str, BackTally] = {}
    with (
        Monolith.open(_path(given, "monolith"), adopts.tables) as monolith,
        Store.open(database, spec.name, spec.migrations, spec.version) as store,
    ):
        with store.adopting():
            monolith.begin()
            work = [(mover, Back(store, monolith, _request(given), mover.table)) for mover in adopts.movers]
            for mover, back in work:
                tallies[mover.table] = mover.carry_back(back)
            monolith.commit()
            with store.atomic():
                for _, back in work:
                    back.record()
        for table in schema_tables(spec.name, spec.migrations):
            if table in tallies:
                continue
            tallies[table] = BackTally()
            tallies[table].leave(NO_TABLE, int(store.value(f"SELECT count(*) FROM {table}")))
    answer["tables"] = {mover.table: tallies[mover.table].describe() for mover in adopts.movers}
    answer["left"] = [
        {"table": table, "rows": rows, "reason": reason}
        for table, tally in tallies.items()
        for reason, rows in tally.left.items()
    ]
    return answer


def hand_over(spec: PluginSpec[Any], given: Mapping[str, Any]) -> Json:
    """Drop the tables that others have taken from the monolith's file, each only while it is what they took.

    Raises:
        HiveError: with the sentence for the operator; nothing was dropped.
    """
    if not _adopts(spec).in_place:
        raise AdoptionError("nothing-to-hand-over", f"{spec.name} does not keep the monolith's file; ask cl-hive")
    tables = given.get("tables")
    if not isinstance(tables, dict):
        raise AdoptionError("bad-request", "tables is not an object of table names")
    return adoption_place.hand_over(spec.name, _path(given, "database"), tables)


COMMANDS: Final[dict[str, Callable[[PluginSpec[Any], Mapping[str, Any]], Json]]] = {
    "--hive-adopt": adopt,
    "--hive-carry-back": carry_back,
    "--hive-hand-over": hand_over,
}


def _passes(
    adopts: Adopts, store: Store, source: Source, request: Request, layout: str
) -> tuple[dict[str, Tally], dict[str, str]]:
    tallies: dict[str, Tally] = {}
    identity = {"action": "none", "pubkey": ""}
    for mover in adopts.movers:
        work = Pass(store, source, request, mover, layout)
        tallies[mover.table] = mover.adopt(work)
        work.close(tallies[mover.table])
        identity = work.identity or identity
    return tallies, identity


def _read(stdin: TextIO) -> Mapping[str, Any]:
    try:
        given = json.load(stdin)
    except ValueError as error:
        raise AdoptionError("bad-request", "stdin is not JSON") from error
    if not isinstance(given, dict):
        raise AdoptionError("bad-request", "stdin is not a JSON object")
    return given


def _request(given: Mapping[str, Any]) -> Request:
    signatures, identity = given.get("signatures", {}), given.get("identity", "refuse")
    if not isinstance(signatures, dict) or not all(isinstance(value, str) for value in signatures.values()):
        raise AdoptionError("bad-request", "signatures is not an object of texts")
    if identity not in IDENTITIES:
        raise AdoptionError("bad-request", f"identity is not one of {', '.join(IDENTITIES)}")
    return Request(
        str(given.get("node_id", "")),
        str(given.get("network", "")),
        signatures,
        str(identity),
        given.get("final") is True,
    )


def _path(given: Mapping[str, Any], name: str) -> Path:
    value = given.get(name)
    if not isinstance(value, str) or not value.startswith("/"):
        raise AdoptionError("bad-request", f"{name} is not an absolute path")
    return Path(value)


def _adopts(spec: PluginSpec[Any]) -> Adopts:
    if spec.adopts is None:
        raise AdoptionError("nothing-to-adopt", f"{spec.name} takes nothing over from the monolith")
    return spec.adopts


def _code(error: HiveError) -> str:
    """A stable word: an AdoptionError brings its own, the others are known by their class."""
    if isinstance(error, AdoptionError):
        return error.word
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()


def run(spec: PluginSpec[Any], flag: str) -> int:
    """`command` on the process's own pipes."""
    return command(spec, flag, sys.stdin, sys.__stdout__ or sys.stdout)
