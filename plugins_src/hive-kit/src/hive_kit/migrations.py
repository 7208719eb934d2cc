"""Numbered schema changes: each runs once, in one transaction with the record that it ran."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hive_kit.canonical import sha256_hex

MIGRATIONS_TABLE = "kit_migrations"
CREATE_BOOKKEEPING = f"""
CREATE TABLE IF NOT EXISTS {MIGRATIONS_TABLE} (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    readable_by TEXT NOT NULL,
    plugin_version TEXT NOT NULL,
    applied_at INTEGER NOT NULL
)"""


@dataclass(frozen=True)
class Migration:
    """One step from schema `version - 1` to `version`. Never edited once released: add the next one.

    Args:
        version: 1, 2, 3 and so on without a gap.
        name: a few words for the record.
        statements: SQL, one statement each. Only tables the plugin owns.
        readable_by: oldest release of the plugin that can run on the schema after this step.
    """

    version: int
    name: str
    statements: tuple[str, ...]
    readable_by: str

    @property
    def digest(self) -> str:
        """SHA-256 over the statements, blanks folded; tells a rewritten migration from the one that ran."""
        return sha256_hex("\n".join(" ".join(statement.split()) for statement in self.statements))


def check_sequence(migrations: Sequence[Migration]) -> None:
    """Refuse a list with a gap, a repetition or no entry.

    Raises:
        ValueError: versions are not 1..n in order.
    """
    versions = [migration.version for migration in migrations]
    if not versions or versions != list(range(1, len(versions) + 1)):
        raise ValueError(f"migrations must be numbered 1, 2, 3 ... without a gap, not {versions}")


def version_key(version: str) -> tuple[int, ...]:
    """Order of release versions: the numbers at the beginning, so that 0.10.0 is newer than 0.9.1.

    Raises:
        ValueError: the text does not begin with numbers and dots.
    """
    match = re.match(r"\d+(?:\.\d+)*", version)
    if match is None:
        raise ValueError(f"{version!r} is not a version such as 0.1.0")
    return tuple(int(part) for part in match.group().split("."))
