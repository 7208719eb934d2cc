"""Entry of cl-hive-archon."""

from __future__ import annotations

from typing import NoReturn

from hive_kit.app import PluginSpec, Subscription
from hive_kit.plugin import run
from hive_kit.siblings import Probe

from cl_hive_archon.adoption import ADOPTS
from cl_hive_archon.app import COMMS, COMMS_PROBE, Archon
from cl_hive_archon.migrations import MIGRATIONS
from cl_hive_archon.options import DATABASE, DB_PATH, OPTIONS
from cl_hive_archon.rpc import archon

SPEC = PluginSpec[Archon](
    name="cl-hive-archon",
    start_order=20,
    application=Archon,
    options=OPTIONS,
    methods=archon.METHODS,
    migrations=MIGRATIONS,
    database=DATABASE,
    database_option=DB_PATH,
    health_rpc="hive-archon-health",
    subscriptions=(
        Subscription("plugin_started", Archon.on_plugins_changed),
        Subscription("plugin_stopped", Archon.on_plugins_changed),
    ),
    requires=(COMMS,),
    probes=(Probe(COMMS, COMMS_PROBE, (("action", "get"),)),),
    adopts=ADOPTS,
)


def main() -> NoReturn:
    """Be the plugin."""
    run(SPEC)


if __name__ == "__main__":
    main()
