"""Entry of the plugin."""

from __future__ import annotations

from typing import Final

from hive_kit.app import PluginSpec, Subscription
from hive_kit.plugin import run
from hive_kit.siblings import Probe

from cl_hive import options
from cl_hive.adoption import ADOPTS
from cl_hive.app import HiveApplication
from cl_hive.migrations import MIGRATIONS
from cl_hive.rpc import actions, membership, packets, settlement, status
from cl_hive.services.siblings import ARCHON, COMMS

SPEC: Final[PluginSpec[HiveApplication]] = PluginSpec(
    name="cl-hive",
    start_order=40,
    application=HiveApplication,
    options=options.OPTIONS,
    methods=(*membership.METHODS, *status.METHODS, *packets.METHODS, *settlement.METHODS, *actions.METHODS),
    migrations=MIGRATIONS,
    database=options.DATABASE,
    database_option="hive-db-path",
    health_rpc="hive-health",
    probes=(
        Probe(COMMS, "hive-client-identity", (("action", "get"),)),
        Probe(ARCHON, "hive-archon-status"),
    ),
    # The notification, not the hook of the same name: lightningd waits for nobody's answer to it.
    subscriptions=(
        Subscription("custommsg", HiveApplication.on_custommsg, HiveApplication.admit_custommsg),
        Subscription("connect", HiveApplication.on_connect),
        Subscription("disconnect", HiveApplication.on_disconnect),
        Subscription("plugin_started", HiveApplication.on_plugins_changed),
        Subscription("plugin_stopped", HiveApplication.on_plugins_changed),
    ),
    adopts=ADOPTS,
)


def main() -> None:
    """Be the plugin until lightningd ends it."""
    run(SPEC)


if __name__ == "__main__":
    main()
