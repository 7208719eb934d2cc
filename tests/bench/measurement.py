"""What a benchmark says: a number, its unit, the goal it is held to, and what the peers did in the same run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Peers = dict[str, float | str]


@dataclass(frozen=True)
class Measurement:
    """One result.

    Attributes:
        name: what was measured, in words.
        value: the number, in `unit`.
        unit: "s", "ms", "ratio", "count", …
        goal: the bound as text, for example "<= 5 ms"; empty when the number is only informative.
        holds: whether the goal is met; None without a goal.
        peers: the same quantity for other ways of doing it, measured side by side in this run; a word where there is
            no number ("never", "not here: ...").
    """

    name: str
    value: float
    unit: str
    goal: str = ""
    holds: bool | None = None
    peers: Peers = field(default_factory=dict)


def at_most(name: str, value: float, unit: str, bound: float, peers: Peers | None = None) -> Measurement:
    """A measurement whose goal is `value <= bound`."""
    return Measurement(name, round(value, 4), unit, f"<= {bound:g} {unit}", value <= bound, peers or {})


def at_least(name: str, value: float, unit: str, bound: float, peers: Peers | None = None) -> Measurement:
    """A measurement whose goal is `value >= bound`."""
    return Measurement(name, round(value, 4), unit, f">= {bound:g} {unit}", value >= bound, peers or {})


def told(seconds: float) -> float | str:
    """A peer's number; what never ends has none."""
    return "never" if seconds == float("inf") else round(seconds, 3)


def median_of(runs: int, once: Callable[[], float]) -> float:
    """The median of `runs` calls: the build hosts are noisy and a single run says little."""
    return statistics.median(once() for _ in range(runs))


def write(path: Path, results: Sequence[Measurement]) -> None:
    """Write `results` as the JSON list that tools read; the old file stays until the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def table(results: Sequence[Measurement]) -> str:
    """The results as a plain table."""
    verdict = {True: "holds", False: "MISSED", None: ""}
    rows = [("what", "value", "goal", "", "peers")]
    rows += [
        (
            r.name,
            f"{r.value:g} {r.unit}",
            r.goal,
            verdict[r.holds],
            ", ".join(f"{who} {value if isinstance(value, str) else f'{value:g}'}" for who, value in r.peers.items()),
        )
        for r in results
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
