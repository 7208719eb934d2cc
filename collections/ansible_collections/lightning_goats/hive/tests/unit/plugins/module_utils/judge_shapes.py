"""Soaks for the judge's tests: six hours before the switch, an hour and a bit after it, a sample a minute."""

from __future__ import annotations

import functools
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _judge_soak
from ansible_collections.lightning_goats.hive.plugins.module_utils._series import from_samples
from sampled import samples

Json = dict[str, Any]

BEFORE, AFTER, MINUTE = 360, 62, 60.0
START = 1_790_000_000.0
SINCE = START + BEFORE * MINUTE
OLD, NEW = "a" * 64, "b" * 64
POLICY: Json = {"minutes": 60, "blocks": 6, "forwards": 2, "extend_minutes": 30, "interval_seconds": 60}
HIVE: Json = {"name": "cl-hive", "version": "0.1.1", "digest": NEW, "enabled": True}


def series(
    seed: int = 1, before: int = BEFORE, after: int = AFTER, change: dict[int, Json] | None = None, **what: Any
) -> Json:
    """The series of a node: `what` from the switch on, `change` to the samples after it by their number."""
    earlier: list[Json] = samples(SINCE - before * MINUTE, before, MINUTE, seed, digest=OLD) if before else []
    later: list[Json] = samples(SINCE, after, MINUTE, seed + 1000, digest=NEW, height=800_144, **what)
    for sample in later:
        # The same lightningd as before the switch.
        sample["lightningd"].update({"started_at": START} if sample["lightningd"]["running"] else {})
    for sample in earlier:
        sample["lightningd"].update(started_at=START)
    for number, facts in (change or {}).items():
        for name, value in facts.items():
            later[number].update({name: {**later[number][name], **value} if isinstance(value, dict) else value})
    return from_samples([*earlier, *later])


def subject(seed: int = 1, restarts_allowed: int = 0, expected: Any = (HIVE,), **what: Any) -> _judge_soak.SoakSubject:
    return _judge_soak.SoakSubject(SINCE, 800_144, series(seed, **what), list(expected), restarts_allowed)


def controls(count: int = 3, **what: Any) -> dict[str, Json]:
    """Other nodes at the same time, which still run the old release."""
    if not what:
        return {f"other{seed}": _quiet(seed + 50) for seed in range(count)}
    return {f"other{seed}": series(seed + 50, **what) for seed in range(count)}


@functools.cache
def _quiet(seed: int) -> Json:
    """A control, made once: nobody changes it."""
    return series(seed)


def judged(
    subjects: Any = None, beside: dict[str, Json] | None = None, minutes: float = AFTER - 0.5, **policy: Any
) -> Json:
    """The answer, so many minutes after the switch."""
    asked = {**POLICY, "now": SINCE + minutes * MINUTE, "accepted": False, **policy}
    held = {"alpha": subject()} if subjects is None else subjects
    return _judge_soak.judge_soak(held, controls() if beside is None else beside, asked)
