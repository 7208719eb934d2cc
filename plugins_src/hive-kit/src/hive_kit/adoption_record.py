"""The kit's own tables about an adoption; only an adoption writes them."""

from __future__ import annotations

from typing import Final

ADOPTIONS: Final = "kit_adoptions"
BASIS: Final = "kit_adopted_rows"
QUARANTINE: Final = "kit_quarantine"
ADOPTION_TABLES: Final = frozenset({ADOPTIONS, BASIS, QUARANTINE})

# `kit_adopted_rows` remembers what each row was when it was taken: from it a later pass tells who changed a row since,
# the monolith or the plugin. Half a digest is enough for that, and keeps a million rows small.
CREATE_RECORD: Final = (
    f"""CREATE TABLE IF NOT EXISTS {ADOPTIONS} (
        adoption_id INTEGER PRIMARY KEY,
        table_name TEXT NOT NULL UNIQUE,
        layout TEXT NOT NULL,
        source_rows INTEGER NOT NULL,
        source_digest TEXT NOT NULL,
        final INTEGER NOT NULL,
        detail TEXT NOT NULL DEFAULT '',
        adopted_at INTEGER NOT NULL
    )""",
    f"""CREATE TABLE IF NOT EXISTS {BASIS} (
        adoption_id INTEGER NOT NULL,
        row_key TEXT NOT NULL,
        digest BLOB NOT NULL,
        PRIMARY KEY (adoption_id, row_key)
    ) WITHOUT ROWID""",
    f"""CREATE TABLE IF NOT EXISTS {QUARANTINE} (
        table_name TEXT NOT NULL,
        row_key TEXT NOT NULL,
        reason TEXT NOT NULL,
        row_json TEXT NOT NULL,
        noted_at INTEGER NOT NULL,
        PRIMARY KEY (table_name, row_key)
    ) WITHOUT ROWID""",
)
# The name under which a file that went on in place is marked; no table is called so.
IN_PLACE: Final = "(in place)"
