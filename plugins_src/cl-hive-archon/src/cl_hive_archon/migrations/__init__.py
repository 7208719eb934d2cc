"""Schema of cl_hive_archon.db, one file per step."""

from cl_hive_archon.migrations.m0001_base import BASE
from cl_hive_archon.migrations.m0002_did import DID

MIGRATIONS = (BASE, DID)
