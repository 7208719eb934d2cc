"""What comms takes over from the monolith."""

from __future__ import annotations

from typing import Final

from hive_kit.adoption import Adopts

from cl_hive_comms.adoption_identity import DERIVATION, NostrState, prepare
from cl_hive_comms.adoption_receipts import Receipts
from cl_hive_comms.adoption_tables import TABLES

ADOPTS: Final = Adopts(
    (NostrState(), Receipts(), *TABLES),
    signatures=(DERIVATION,),
    preparations=(prepare,),
)
