"""hive-comms-*: the transports. (Health is the kit's.)"""

from __future__ import annotations

from hive_kit.app import Json, Method
from hive_kit.params import NoParams

from cl_hive_comms.app import Comms


def transports(app: Comms, _: NoParams) -> Json:
    """All transports and how each stands."""
    found = app.transports.transports()
    return {"ok": True, "count": len(found), "transports": found}


METHODS: tuple[Method[Comms], ...] = (
    Method("hive-comms-transports", transports, NoParams, "List the transports and how each stands"),
)
