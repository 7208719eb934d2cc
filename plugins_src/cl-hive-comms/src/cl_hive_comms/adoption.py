"""What comms takes over from the monolith."""

from __future__ import annotations

from typing import Final

from hive_kit.adoption import Adopts

from cl_hive_comms.adoption_tables import TABLES

ADOPTS: Final = Adopts(TABLES, signatures=("nostr_key_derivation",))
