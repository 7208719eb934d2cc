"""What a restore leaves beside a database: its data is older than the world, so who moves money holds back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hive_kit.errors import StorageError

SUFFIX = ".restored"


@dataclass(frozen=True)
class Restored:
    """The newest restore of a database.

    Args:
        set_id: the backup set it came from.
        created_at: unix time in seconds at which the set was made; what happened since is not in the data.
        restored_at: unix time in seconds at which it was put in place.
    """

    set_id: str
    created_at: float
    restored_at: float

    @property
    def key(self) -> str:
        """Names this restore, for a plugin that writes down that it has dealt with it."""
        return f"{self.set_id}@{self.restored_at:.3f}"


def read_note(database: Path) -> Restored | None:
    """The note beside a database; None when it was never restored.

    Raises:
        StorageError: there is a note and it cannot be read. Going on would be to forget that data is missing.
    """
    path = database.with_name(database.name + SUFFIX)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Restored(str(found["set"]), float(found["created_at"]), float(found["restored_at"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} says that data was restored and cannot be read ({error}); restore again, or remove it when the "
            "payments since then have been checked"
        ) from error
