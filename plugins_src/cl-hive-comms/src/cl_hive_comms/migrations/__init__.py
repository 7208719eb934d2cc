"""Schema of cl_hive_comms.db, one file per step."""

from cl_hive_comms.migrations.m0001_base import BASE

MIGRATIONS = (BASE,)
