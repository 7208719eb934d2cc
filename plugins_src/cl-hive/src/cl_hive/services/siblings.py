"""The other plugins of this node, and what their presence makes of this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hive_kit.siblings import Sibling

COMMS: Final = "cl-hive-comms"
ARCHON: Final = "cl-hive-archon"


@dataclass(frozen=True)
class Siblings:
    """None where nothing watches them, as in tests."""

    comms: Sibling | None = None
    archon: Sibling | None = None

    @property
    def mode(self) -> str:
        """monolith, with-comms, with-archon or full."""
        comms = self.comms is not None and self.comms.present
        archon = self.archon is not None and self.archon.present
        return {
            (False, False): "monolith",
            (True, False): "with-comms",
            (False, True): "with-archon",
            (True, True): "full",
        }[comms, archon]
