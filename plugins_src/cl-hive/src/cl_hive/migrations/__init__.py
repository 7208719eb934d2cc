"""Schema of `cl_hive.db`, step by step. A released step is never edited."""

from __future__ import annotations

from typing import Final

from hive_kit.migrations import Migration

from cl_hive.migrations import step_1, step_2

MIGRATIONS: Final[tuple[Migration, ...]] = (step_1.MIGRATION, step_2.MIGRATION)
