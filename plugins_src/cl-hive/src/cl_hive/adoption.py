"""cl-hive takes nothing over: it goes on with the monolith's own file."""

from __future__ import annotations

from typing import Final

from hive_kit.adoption import Adopts

ADOPTS: Final = Adopts(in_place=True)
