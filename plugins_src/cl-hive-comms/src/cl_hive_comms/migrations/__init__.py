"""Schema of cl_hive_comms.db, one file per step."""

from cl_hive_comms.migrations.m0001_base import BASE
from cl_hive_comms.migrations.m0002_market import MARKET
from cl_hive_comms.migrations.m0003_management import MANAGEMENT

MIGRATIONS = (BASE, MARKET, MANAGEMENT)
