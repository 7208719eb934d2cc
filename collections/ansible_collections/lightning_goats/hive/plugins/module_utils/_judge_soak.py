# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The judge of a soak: do the nodes of a stage hold for days, and have they seen enough for that to mean something?

A pure function over what the probes saw; it keeps nothing, so that a lost controller loses nothing. What is compared
and how is in `_judge_findings` and what that imports; this is what comes of it: the verdict, the state, the time left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ._judge import FAILING, HEALTHY, INCONCLUSIVE

Json = dict[str, Any]

SOAKING, SOAKED, FAILED, PAUSED = "soaking", "soaked", "failed", "paused"
MIN_SAMPLES = 3
# Less than this part of the samples is not enough to promote on.
LEAST_COVERAGE = 0.5
# A newest sample older than so many intervals says that the probe has stopped.
STALE_SAMPLES = 5
BLOCK_SECONDS = 600.0
# A node that used to forward as often as this within such a soak is expected to do so again.
USUAL_FORWARDS = 3.0
STRONGEST = 3


class SoakSubject(NamedTuple):
    """One node of the stage.

    Attributes:
        since: unix time of the confirmation.
        since_height: block height then.
        series: everything that its ring has, from before and after `since`.
        expected: its stack: items with name, version, digest and enabled.
        restarts_allowed: how often lightningd may have restarted since.
    """

    since: float
    since_height: int
    series: Json
    expected: Sequence[Json]
    restarts_allowed: int


class Seen(NamedTuple):
    """What one node has gone through since its confirmation."""

    elapsed: float
    samples: int
    blocks: int
    forwards: int
    forwards_before: int
    seconds_before: float


def judge_soak(subjects: Mapping[str, SoakSubject], controls: Mapping[str, Json], policy: Json) -> Json:
    """The verdict over the soak of a stage.

    Args:
        subjects: the nodes of the stage.
        controls: series of nodes that were not switched, at the same time; those of the stage itself are left out.
        policy: ``minutes``, ``blocks``, ``forwards``: what a soak has to see; ``extend_minutes``: how much longer it
            may take to see it; ``interval_seconds`` of the probe; ``now``; ``accepted``: a human ends the soak, which
            helps where something was missing and not where something is wrong.

    Returns:
        ``verdict`` (healthy, failing or inconclusive), ``state`` (soaking, soaked, failed or paused), ``reasons``
        (``{node, check, verdict, detail, figures, command}``, the strongest first; healthy ones are remarks),
        ``progress`` (``{minutes, blocks, forwards: [have, need]}``), ``remaining_seconds`` and ``come_back_at`` (0 when
        there is nothing to wait for), ``samples`` and ``plots``.
    """
    # numpy is loaded only where there is something to judge.
    from ._judge_findings import findings, reason

    reasons, plots = findings(subjects, controls, policy)
    seen = {node: _seen(subject, policy) for node, subject in sorted(subjects.items())}
    progress = _progress(seen, policy)
    missing = [reason(*held) for held in _missing(seen, subjects, progress, policy)]
    reasons = _in_order(reasons, missing)
    verdict = _verdict(reasons)
    over = max((subject.since for subject in subjects.values()), default=policy["now"])
    over += 60.0 * (policy["minutes"] + policy["extend_minutes"])
    state = {FAILING: FAILED, HEALTHY: SOAKED}.get(verdict, PAUSED if policy["now"] >= over else SOAKING)
    if verdict == INCONCLUSIVE and policy["accepted"] and subjects:
        state = SOAKED
        reasons.insert(0, reason("", "accepted", INCONCLUSIVE, "a human accepted the stage as it is"))
    remaining = _remaining(seen, progress, policy, over) if state == SOAKING else 0
    return {
        "verdict": verdict,
        "state": state,
        "reasons": reasons,
        "progress": progress,
        "remaining_seconds": remaining,
        "come_back_at": int(policy["now"] + remaining) if remaining else 0,
        "samples": sum(node.samples for node in seen.values()),
        "plots": plots,
    }


def _verdict(reasons: Sequence[Json]) -> str:
    verdicts = {held["verdict"] for held in reasons}
    return next((verdict for verdict in (FAILING, INCONCLUSIVE) if verdict in verdicts), HEALTHY)


def _in_order(reasons: Sequence[Json], missing: Sequence[Json]) -> list[Json]:
    """What fails, then what cannot be told (first what nodes do, then what is only not there yet), then remarks."""
    grave = [held for held in reasons if held["verdict"] != HEALTHY]
    return [*grave, *missing, *(held for held in reasons if held["verdict"] == HEALTHY)]


def _seen(subject: SoakSubject, policy: Json) -> Seen:
    series = subject.series
    after = [number for number, when in enumerate(series["time"]) if when >= subject.since]
    known = [number for number, when in enumerate(series["time"]) if when < subject.since]
    heights = [series["height"][number] for number in after if series["up"][number]]
    return Seen(
        elapsed=max(0.0, series["time"][after[-1]] - subject.since) if after else 0.0,
        samples=len(after),
        blocks=max(0, max(heights, default=subject.since_height) - subject.since_height),
        forwards=sum(series["forwards"][number] for number in after),
        forwards_before=sum(series["forwards"][number] for number in known),
        seconds_before=series["time"][known[-1]] - series["time"][known[0]] if known else 0.0,
    )


def _progress(seen: Mapping[str, Seen], policy: Json) -> Json:
    """Of time and blocks what the slowest node has; forwards are those of all nodes of the stage together."""
    minutes = min((node.elapsed / 60.0 for node in seen.values()), default=0.0)
    return {
        # Cut and not rounded, so that it never says more than is there.
        "minutes": [policy["minutes"] if minutes >= policy["minutes"] else int(100 * minutes) / 100, policy["minutes"]],
        "blocks": [min((node.blocks for node in seen.values()), default=0), policy["blocks"]],
        "forwards": [sum(node.forwards for node in seen.values()), policy["forwards"]],
    }


Missing = tuple[str, str, str, str]


def _missing(
    seen: Mapping[str, Seen], subjects: Mapping[str, SoakSubject], progress: Json, policy: Json
) -> list[Missing]:
    """What cannot be told yet, or at all."""
    if not seen:
        return [("", "samples", INCONCLUSIVE, "there was no node to judge")]
    found: list[Missing] = []
    for node, held in seen.items():
        found += [(node, "samples", INCONCLUSIVE, words) for words in _too_few(held, subjects[node], policy)]
        expected = held.forwards_before / held.seconds_before * 60.0 * policy["minutes"] if held.seconds_before else 0
        if policy["forwards"] and not held.forwards and expected >= USUAL_FORWARDS:
            words = f"no forward since the switch; {expected:.0f} would be usual in {policy['minutes']:g} minutes"
            found.append((node, "progress", INCONCLUSIVE, words))
    for name, (have, need) in progress.items():
        if have < need:
            found.append(("", "progress", INCONCLUSIVE, f"{have:g} of {need:g} {name} so far"))
    return found


def _too_few(held: Seen, subject: SoakSubject, policy: Json) -> list[str]:
    if not held.samples:
        return ["no sample since the switch"]
    interval = float(policy["interval_seconds"])
    silent = policy["now"] - subject.since - held.elapsed
    planned = held.elapsed / interval
    least = min(MIN_SAMPLES, 1 + int(60.0 * policy["minutes"] / interval))
    if held.samples < least:
        return [f"{held.samples} samples of at least {least}"]
    if held.samples < LEAST_COVERAGE * planned:
        return [f"{held.samples} samples since the switch where {planned:.0f} were planned"]
    if silent > max(STALE_SAMPLES * interval, 60.0):
        return [f"the newest sample is {silent / 60.0:.0f} minutes old: does the probe run?"]
    return []


def _remaining(seen: Mapping[str, Seen], progress: Json, policy: Json, over: float) -> int:
    """Seconds until the soak can be over, by the rates so far; without any forward, until the pause."""
    elapsed = min((node.elapsed for node in seen.values()), default=0.0)
    (minutes, all_minutes), (blocks, all_blocks), (forwards, all_forwards) = (
        progress[name] for name in ("minutes", "blocks", "forwards")
    )
    left = over - float(policy["now"])
    needed: list[float] = [
        60.0 * (all_minutes - minutes),
        (all_blocks - blocks) * (elapsed / blocks if blocks else BLOCK_SECONDS),
    ]
    if forwards < all_forwards:
        needed.append((all_forwards - forwards) * elapsed / forwards if forwards else left)
    # When nothing is missing but a good moment to say so, the next samples will tell.
    soonest = 3.0 * float(policy["interval_seconds"])
    return max(1, round(min(max(*needed, soonest), max(left, soonest))))


def sentence(answer: Json) -> str:
    """The answer with its three strongest reasons, for one line."""
    progress = ", ".join(f"{have:g} of {need:g} {name}" for name, (have, need) in answer["progress"].items())
    if answer["verdict"] == HEALTHY:
        return f"healthy: {answer['samples']} samples, {progress}"
    grave = [held for held in answer["reasons"] if held["verdict"] == answer["verdict"]][:STRONGEST]
    told = "; ".join(f"{held['node']}: {held['detail']}" if held["node"] else held["detail"] for held in grave)
    head = answer["verdict"] if answer["state"] in (FAILED, PAUSED) else answer["state"]
    return f"{head}: {told}"
