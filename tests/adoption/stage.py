"""A monolith's database and the plugins' commands on it, called in this process: what the tests of adoption share."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cl_hive.main import SPEC as HIVE
from cl_hive_archon.main import SPEC as ARCHON
from cl_hive_comms.main import SPEC as COMMS
from fixtures.monolith import NODE_ID, SIGNATURE, Wanted, build
from hive_kit.adoption_run import command
from hive_kit.app import PluginSpec

Json = dict[str, Any]
DATABASES = {"cl-hive-comms": "cl_hive_comms.db", "cl-hive-archon": "cl_hive_archon.db", "cl-hive": "cl_hive.db"}
ZERO = "0" * 64


class Stage:
    """One node's directory: `cl_hive.db` of the monolith, and the plugins' databases as they come."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.monolith = directory / "cl_hive.db"

    def build(self, layout: str = "2.10.0", size: str = "tiny", *hazards: str, signature: str = SIGNATURE) -> Stage:
        """Make the monolith's database."""
        build(self.monolith, Wanted(layout, size, 1, frozenset(hazards), signature))
        return self

    def copy(self, name: str) -> Stage:
        """The whole directory once more."""
        target = self.directory.with_name(name)
        shutil.copytree(self.directory, target)
        return Stage(target)

    def database(self, spec: PluginSpec[Any]) -> Path:
        """Where a plugin's database is."""
        return self.directory / DATABASES[spec.name]

    def adopt(self, spec: PluginSpec[Any] = COMMS, **changes: Any) -> Json:
        """Answer of --hive-adopt."""
        given = {"database": str(self.database(spec)), "final": False, **changes}
        if "snapshot" not in given:
            given["snapshot"] = "" if spec is HIVE else str(self.snapshot())
        return self.run(spec, "--hive-adopt", given)

    def carry_back(self, spec: PluginSpec[Any] = COMMS, **changes: Any) -> Json:
        """Answer of --hive-carry-back."""
        given = {"database": str(self.database(spec)), "monolith": str(self.monolith)}
        return self.run(spec, "--hive-carry-back", {**given, **changes})

    def hand_over(self, tables: Mapping[str, Any]) -> Json:
        """Answer of --hive-hand-over."""
        return self.run(HIVE, "--hive-hand-over", {"database": str(self.monolith), "tables": tables})

    def run(self, spec: PluginSpec[Any], flag: str, given: Json) -> Json:
        """Answer of a command; a refusal must come with exit status 1."""
        whole = {"node_id": NODE_ID, "network": "regtest", "signatures": {"nostr_key_derivation": SIGNATURE}, **given}
        out = io.StringIO()
        status = command(spec, flag, io.StringIO(json.dumps(whole)), out)
        answer: Json = json.loads(out.getvalue())
        assert status == (1 if "error" in answer else 0)
        return answer

    def snapshot(self) -> Path:
        """A copy of the monolith's database as it is now."""
        target = self.directory / "snapshot.db"
        target.unlink(missing_ok=True)
        with opened(self.monolith) as source, opened(target) as copy:
            source.backup(copy)
        return target

    def rows(self, path: Path, table: str) -> list[tuple[Any, ...]]:
        """All rows of a table, sorted by their text."""
        with opened(path) as connection:
            return sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file in the hands of somebody else, such as the monolith; commits at the end."""
    connection = sqlite3.connect(path)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def change(path: Path, *statements: str) -> None:
    """Run statements on a database, as its owner would."""
    with opened(path) as connection:
        for statement in statements:
            connection.execute(statement)


def counts(answer: Json, table: str) -> tuple[int, int, int, int, int]:
    """(adopted, inserted, updated, deleted, quarantined) of one table."""
    assert "error" not in answer, answer
    found = answer["tables"][table]
    return (found["adopted"], found["inserted"], found["updated"], found["deleted"], found["quarantined"])


__all__ = ["ARCHON", "COMMS", "HIVE", "ZERO", "Json", "Stage", "change", "counts", "opened"]
