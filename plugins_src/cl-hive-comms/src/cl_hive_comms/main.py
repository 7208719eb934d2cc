"""Entry of cl-hive-comms."""

from __future__ import annotations

from typing import NoReturn

from hive_kit.app import PluginSpec
from hive_kit.plugin import run
from hive_kit.siblings import Probe

from cl_hive_comms.adoption import ADOPTS
from cl_hive_comms.app import ARCHON, HIVE, Comms
from cl_hive_comms.migrations import MIGRATIONS
from cl_hive_comms.options import DATABASE, DB_PATH, OPTIONS
from cl_hive_comms.rpc import client, comms, management
from cl_hive_comms.services.identity_service import KEY_FILE

SPEC = PluginSpec[Comms](
    name="cl-hive-comms",
    start_order=10,
    application=Comms,
    options=OPTIONS,
    methods=(*client.METHODS, *management.METHODS, *comms.METHODS),
    migrations=MIGRATIONS,
    database=DATABASE,
    database_option=DB_PATH,
    health_rpc="hive-comms-health",
    key_files=(KEY_FILE,),
    probes=(Probe(ARCHON, "hive-archon-status"), Probe(HIVE, "hive-status")),
    adopts=ADOPTS,
)


def main() -> NoReturn:
    """Be the plugin."""
    run(SPEC)


if __name__ == "__main__":
    main()
