# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The judge: do the nodes of a batch hold after their switch? A pure function over samples; controller only.

Hard invariants: one breach is enough. The answer is healthy, failing or inconclusive; what cannot be told is never
healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

HEALTHY, FAILING, INCONCLUSIVE = "healthy", "failing", "inconclusive"
# Channels in these states move payments; leaving them without being asked to is a loss.
LIVE_STATES = frozenset({"CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE"})
MIN_SAMPLES = 2


class Reason(NamedTuple):
    """One breach: the node, the check's stable name, what it means for the verdict, and a sentence with numbers."""

    node: str
    check: str
    verdict: str
    detail: str


class Subject(NamedTuple):
    """What is known of one node of the batch.

    Attributes:
        before: observation from before the switch.
        switch: result of hive_switch, None when it was not reached.
        samples: readings of the soak window, oldest first.
        error: why the switch or the probe failed or did not answer, "" when both did.
        expected: resolved stack that must run.
    """

    before: Json
    switch: Json | None
    samples: Sequence[Json]
    error: str
    expected: Sequence[Json]


Check = Callable[[Subject, Json], Iterator[tuple[str, str, str]]]


def judge(batch: Mapping[str, Subject], policy: Json) -> Json:
    """The verdict over a batch.

    Args:
        batch: one subject per node.
        policy: ``soak_seconds``: the window that the samples have to cover; ``allow_lightningd_restart``.

    Returns:
        ``{"verdict": ..., "reasons": [{node, check, verdict, detail}], "samples": n, "window_seconds": s}``, the
        gravest reasons first.
    """
    reasons: list[Reason] = []
    for node in sorted(batch):
        subject = batch[node]
        if subject.error:
            reasons.append(Reason(node, "switched", FAILING, subject.error))
            continue
        reasons += [Reason(node, *finding) for check in CHECKS for finding in check(subject, policy)]
    verdict = HEALTHY
    if not batch:
        verdict = INCONCLUSIVE
        reasons.append(Reason("", "samples", INCONCLUSIVE, "there was no node to judge"))
    for reason in reasons:
        verdict = FAILING if FAILING in (verdict, reason.verdict) else reason.verdict
    return {
        "verdict": verdict,
        "reasons": [reason._asdict() for reason in sorted(reasons, key=lambda r: (r.verdict != FAILING, r.node))],
        "samples": sum(len(subject.samples) for subject in batch.values()),
        "window_seconds": round(min((window(s.samples) for s in batch.values()), default=0.0), 3),
    }


def window(samples: Sequence[Json]) -> float:
    """Seconds between the first and the last sample."""
    return float(samples[-1]["time"] - samples[0]["time"]) if samples else 0.0


def _enough(subject: Subject, policy: Json) -> Iterator[tuple[str, str, str]]:
    count, seconds = len(subject.samples), window(subject.samples)
    least = MIN_SAMPLES if policy["soak_seconds"] > 0 else 1
    if count < least:
        yield "samples", INCONCLUSIVE, f"{count} samples of at least {least}"
    # The last sample may end a little before the window does; half of it missing is too much to promote on.
    elif seconds < 0.5 * policy["soak_seconds"]:
        yield "samples", INCONCLUSIVE, f"samples cover {seconds:.1f} s of {policy['soak_seconds']:g} s"


def _same_lightningd(subject: Subject, policy: Json) -> Iterator[tuple[str, str, str]]:
    down = [s for s in subject.samples if not s["lightningd"].get("running")]
    if down:
        yield "lightningd", FAILING, f"lightningd did not answer in {len(down)} of {len(subject.samples)} samples"
        return
    restarts = (subject.switch or {}).get("lightningd_restarts") or 0
    allowed = 1 if policy.get("allow_lightningd_restart") else 0
    if restarts > allowed:
        yield "lightningd", FAILING, f"lightningd restarted {restarts} times, allowed are {allowed}"
    born = subject.before["lightningd"] if not restarts else (subject.samples or [subject.before])[0]["lightningd"]
    for sample in subject.samples:
        now = sample["lightningd"]
        if now.get("pid") != born.get("pid"):
            yield "lightningd", FAILING, f"lightningd died: pid was {born.get('pid')}, is {now.get('pid')}"
            return
        started, began = now.get("started_at"), born.get("started_at")
        if started is not None and began is not None and abs(started - began) > 1:
            yield (
                "lightningd",
                FAILING,
                f"lightningd restarted: it started at {started:.0f}, before at {began:.0f}",
            )
            return


def _plugins(subject: Subject, policy: Json) -> Iterator[tuple[str, str, str]]:
    for item in subject.expected:
        if not item.get("enabled", True):
            continue
        name, wanted = item["name"], item["digest"]
        for number, sample in enumerate(subject.samples, 1):
            found = [p for p in sample["plugins"] if p.get("name") == name]
            running = [p for p in found if p.get("active") and p.get("digest") == wanted]
            where = f"in sample {number} of {len(subject.samples)}"
            if not running:
                other = next((f"{p.get('digest', '')[:12]} runs" for p in found if p.get("active")), "it does not run")
                yield "plugin", FAILING, f"{name} {item['version']} ({wanted[:12]}) is not active {where}: {other}"
                break
            health = running[0].get("health") or ""
            if health not in ("ok", "degraded"):
                yield "health", FAILING, f"{name} says {health or 'nothing'} to its health RPC {where}"
                break
        else:
            yield from _degraded(name, subject)


def _degraded(name: str, subject: Subject) -> Iterator[tuple[str, str, str]]:
    """Degraded is allowed where it was before or where the plugin is new: only getting worse counts."""
    # An observation has the whole answer of the health RPC, a sample only its status.
    answers = {p.get("name"): p.get("health") or {} for p in subject.before.get("plugins", []) if p.get("ours")}
    last = {p.get("name"): p.get("health") for p in subject.samples[-1]["plugins"]} if subject.samples else {}
    if last.get(name) == "degraded" and answers.get(name, {}).get("status") == "ok":
        yield "health", INCONCLUSIVE, f"{name} was ok before the switch and is degraded after it"


def _log(subject: Subject, policy: Json) -> Iterator[tuple[str, str, str]]:
    for level in ("broken", "errors"):
        lines = dict.fromkeys(line for s in subject.samples for line in s.get("log", {}).get(level, []))
        if lines:
            first = next(iter(lines))
            yield "log", FAILING, f"{len(lines)} new {level.upper()} lines in the log, the first: {first[:200]}"


def _channels(subject: Subject, policy: Json) -> Iterator[tuple[str, str, str]]:
    live = {c["short_channel_id"] for c in subject.before.get("channels", []) if c["state"] in LIVE_STATES}
    for sample in subject.samples:
        now = {c["short_channel_id"]: c["state"] for c in sample["channels"]}
        lost = sorted(scid for scid in live if now.get(scid) not in LIVE_STATES)
        if lost and sample["lightningd"].get("running"):
            states = ", ".join(f"{scid} ({now.get(scid, 'gone')})" for scid in lost[:3])
            yield "channels", FAILING, f"{len(lost)} of {len(live)} channels lost: {states}"
            return


def _synced(subject: Subject, policy: Json) -> Iterator[tuple[str, str, str]]:
    behind = [s for s in subject.samples if s["lightningd"].get("running") and not s["lightningd"].get("synced")]
    if behind and len(behind) == len(subject.samples):
        yield "sync", FAILING, f"not synced in any of {len(behind)} samples"
    elif behind and not subject.samples[-1]["lightningd"].get("synced"):
        yield (
            "sync",
            INCONCLUSIVE,
            f"not synced in {len(behind)} of {len(subject.samples)} samples and the last",
        )


CHECKS: tuple[Check, ...] = (_enough, _same_lightningd, _plugins, _log, _channels, _synced)


def sentence(verdict: Json) -> str:
    """The verdict with its three strongest reasons, for one line."""
    reasons = [f"{r['node']}: {r['detail']}" if r["node"] else r["detail"] for r in verdict["reasons"][:3]]
    if verdict["verdict"] == HEALTHY:
        return f"healthy: {verdict['samples']} samples over {verdict['window_seconds']:.1f} s, no invariant broken"
    return f"{verdict['verdict']}: " + "; ".join(reasons)
