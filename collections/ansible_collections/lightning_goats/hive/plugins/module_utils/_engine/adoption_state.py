"""What a node's journal says of the monolith's rows: who has taken them over, since when, and if it gave them up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .journal import Entry

# Events of the journal.
ADOPTED = "adopted"
CARRIED = "carried-back"
HANDING = "handing-over"
HANDED = "handed-over"

Report = dict[str, Any]


@dataclass
class Adopted:
    """What stands, because the switch that did it was confirmed.

    Attributes:
        plugins: per plugin what it reported of the rows it took over.
        since: unix time at which the newest of these switches was confirmed.
        path: the monolith's database.
        handed: when its tables were given up; 0.0 while the way back is open.
        finished: whether all of that was done.
        kept: what finalize left, because it had changed since.
    """

    plugins: dict[str, Report] = field(default_factory=dict)
    since: float = 0.0
    path: str = ""
    handed: float = 0.0
    finished: bool = False
    kept: list[dict[str, str]] = field(default_factory=list)

    @property
    def tables(self) -> dict[str, dict[str, Any]]:
        """Rows and digest of every table that moved, as they were then; what stayed in its file has no digest."""
        return {
            name: {"rows": int(facts["source"]), "digest": str(facts["digest"])}
            for report in self.plugins.values()
            for name, facts in report["tables"].items()
            if facts["digest"]
        }


def adopted_by(entries: list[Entry]) -> Adopted:
    """Derive it from the history; pure."""
    state = Adopted()
    open_: dict[str, list[Entry]] = {}
    for entry in entries:
        event, data = entry["event"], entry["data"]
        if event in (ADOPTED, CARRIED):
            open_.setdefault(entry["txn"], []).append(entry)
        elif event == "confirmed":
            for done in open_.pop(entry["txn"], []):
                _apply(state, done, float(entry["time"]))
        elif event in ("reverted", "refused"):
            open_.pop(entry["txn"], None)
        elif event == HANDING:
            state.handed = state.handed or float(entry["time"])
        elif event == HANDED:
            state.finished, state.kept = not data["kept"], list(data["kept"])
    return state


def _apply(state: Adopted, entry: Entry, when: float) -> None:
    data = entry["data"]
    if entry["event"] == CARRIED:
        # The monolith has its place back and may write anything, also into what stayed in its own file.
        state.plugins.clear()
        return
    state.plugins.update(data["plugins"])
    state.since, state.path = when, str(data["path"])


def summary(entries: list[Entry]) -> dict[str, Any] | None:
    """Return what one transaction did with the monolith's rows, for its report; None when it did nothing."""
    found: dict[str, Any] = {}
    for entry in entries:
        data = entry["data"]
        if entry["event"] == "done" and data.get("step") == "adopt":
            found["first_ms"] = data["ms"]
        elif entry["event"] == ADOPTED:
            found.update(path=data["path"], delta_ms=data["ms"], delta_rows=data["delta_rows"], adopted=data["plugins"])
        elif entry["event"] == CARRIED:
            found.update(path=data["path"], carry_back_ms=data["ms"], carried_back=data["plugins"])
    return found or None
