"""Reports of runs that ended in every way, as their own builder makes them: for the browser to draw."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan, _report, _report_soak
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    ARCHON,
    COMMS,
    HIVE,
    Json,
    item,
    manifest,
    observation,
)

NOW = 1_795_880_000.0
HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}"
LONG = "x" * 300
SECRET = "hunter2"
PLUGINS = (COMMS, ARCHON, HIVE)
NAMES = ("alpha", "bravo", "charlie", "delta", "echo")
MINUTE = 60.0
OLD = [item(name) for name in PLUGINS]
NEW = [item(COMMS, "0.1.1", options={"cl-hive-comms-token": SECRET, "cl-hive-comms-limit": 9}), *OLD[1:]]


def planned(nodes: Sequence[str], **policy: Any) -> Json:
    """The plan that takes every node from the old stack to the new one."""
    manifests = {m["artifact"]["sha256"]: m for m in (*map(manifest, PLUGINS), manifest(COMMS, "0.1.1"))}
    seen = {name: observed(name, index) for index, name in enumerate(nodes)}
    return _plan.plan(dict.fromkeys(nodes, NEW), dict(seen), manifests, {"fleet": "main", **policy})


def observed(name: str, index: int) -> Json:
    """A node with a past."""
    past = [
        {
            "rollout": f"2026111{number}T101500Z-35bca87{number}",
            "kind": ("upgrade", "upgrade", "install")[number],
            "stage": "canary" if index == 0 else "wave 1",
            "begun_at": NOW - 86400.0 * (number + 2),
            "ended_at": NOW - 86400.0 * (number + 2) + 611,
            "result": ("reverted", "confirmed", "confirmed")[number],
            "by": ("deadman", "controller", "controller")[number],
            "reason": ("nobody confirmed the switch in time", "", "")[number],
            "before": OLD[: 2 - number],
            "after": OLD[: 3 - number],
            "downtime_ms": {COMMS: 312.4},
            "restarts": 0,
            "soak": ("", "healthy", "")[number],
        }
        for number in range(3)
    ]
    return observation(name, OLD, value_at_risk_msat=index, history=past)


def switched(at: float) -> Json:
    """What hive_switch says of a good switch at `at`."""
    events = [("begin", 0.0), ("intent", 0.1), ("done", 0.8), ("switched", 1.3)]
    return {
        "phase": "switched",
        "before": OLD,
        "after": NEW,
        "downtime_ms": {COMMS: 312.4, HIVE: 498.0},
        "switch_ms": 1312.0,
        "lightningd_restarts": 0,
        "backup": {"id": "20261128T120000Z-a1b2c3"},
        "journal": [entry(number, event, at + offset) for number, (event, offset) in enumerate(events, 1)],
        "journal_head": "1f" * 32,
    }


def entry(seq: int, event: str, at: float) -> Json:
    """An entry of a journal; its data is none of a report's business."""
    return {"seq": seq, "time": at, "event": event, "data": {"step": "stop", "secret": SECRET}}


def closed(event: str, at: float) -> Json:
    """What hive_switch says of the end of a switch."""
    return {"phase": event, event: True, "journal": [entry(9, event, at)], "journal_head": "2e" * 32}


def verdict(word: str = "healthy", *reasons: Json) -> Json:
    """What hive_judge says."""
    return {"verdict": word, "reasons": list(reasons), "samples": 61, "window_seconds": 600.4}


def facts(nodes: Sequence[str] = NAMES[:3], **more: Any) -> _report.Facts:
    """A run on these nodes."""
    given = {
        "plan": planned(nodes),
        "observed": {n: observed(n, i) for i, n in enumerate(nodes)},
        "final": True,
        **more,
    }
    return _report.Facts("main", "20261128T121500Z-35bca879", NOW, NOW + 2100.0, nodes=nodes, **given)


def through(plan: Json, last: int | None = None) -> Json:
    """Every node of the first `last` stages switched and confirmed, one stage after the other."""
    found: Json = {"switches": {}, "confirms": {}, "verdicts": {}}
    for number, wave in enumerate(plan["waves"][:last]):
        found["verdicts"][wave["name"]] = verdict()
        for offset, node in enumerate(wave["nodes"]):
            at = NOW + 20 + 680 * number + 0.4 * offset
            found["switches"][node] = switched(at)
            found["confirms"][node] = closed("confirmed", at + 606)
    return found


def gates(blocked: bool = False) -> Json:
    """What hive_gates says."""
    titles = {
        "A1": ("A", "the test suites of exactly these sources are green"),
        "A2": ("A", "no open defect of high priority"),
        "A3": ("A", "no incident of severity 1 or 2 within 14 days"),
        "B1": ("B", "upgrade and rollback were exercised with this release"),
        "B2": ("B", "a restore was exercised and its databases are sound"),
        "C1": ("C", "findings of high or medium severity are resolved or waived"),
        "C4": ("C", "no dependency with a known vulnerability"),
        "D1": ("D", "the dependency matrix was executed"),
        "S1": ("7", "one of two approvers signed this plan"),
    }
    findings: list[Json] = [
        {
            "check": check,
            "gate": gate,
            "title": title,
            "state": "pass",
            "detail": "1,284 tests, 0 failures" if check == "A1" else "",
            "evidence": [f"suite-{COMMS}-20261128T080000Z.json"] if check in ("A1", "B1", "B2", "D1") else [],
            "age_seconds": 3600.0 * (5 + index * 7),
            "expires_at": NOW + 86400 * 7,
            "figures": {"tests": 1284},
            "command": "make test",
            "waiver": None,
        }
        for index, (check, (gate, title)) in enumerate(titles.items())
    ]
    findings[6] |= {
        "state": "waived",
        "detail": "CVE-2026-11111 in coincurve 21.0.0",
        "waiver": {
            "owner": "dora",
            "reason": "the function is never called",
            "control": "import is tested",
            "expires_at": "2026-12-31",
        },
    }
    if blocked:
        findings[3] |= {
            "state": "block",
            "detail": "there is no evidence of an upgrade with this release: exercise it",
            "command": "ansible-playbook playbooks/exercise.yml",
            "age_seconds": None,
        }
    return {"decision": "denied" if blocked else "allowed", "findings": findings, "path": ""}


def wave(points: int, middle: float, wobble: float, seed: int, shift: float = 0.0) -> list[float | None]:
    """A measurement of a day that goes up and down; in its last third it moves by `shift`."""
    rng = random.Random(seed)
    found: list[float | None] = [
        round(
            middle
            + wobble * math.sin(n / points * 12)
            + rng.gauss(0, wobble / 2)
            + (shift if n > points * 2 / 3 else 0),
            2,
        )
        for n in range(points)
    ]
    found[points // 4] = None
    return found


def plots(points: int = 200, shift: float = 0.0) -> Json:
    """What the judge saw of one node."""
    since = NOW - 12 * 3600
    times = [since - 24 * 3600 + 36 * 3600 * n / points for n in range(points)]
    rng = random.Random(7)
    counts = [float(rng.random() < 0.04) for _ in times]
    series: Json = {
        f"{COMMS} rpc_ms": (wave(points, 12, 2, 1, shift), [9.0, 15.5]),
        f"{COMMS} rss_bytes": (
            [None if v is None else v * 2**20 for v in wave(points, 61, 1.5, 2)],
            [59 * 2**20, 64 * 2**20],
        ),
        "errors": (counts, None),
        "forwards": ([float(rng.randrange(4)) for _ in times], None),
        "height": ([900_000.0 + n // 3 for n in range(points)], None),
    }
    return {
        name: {
            "time": times,
            "value": values,
            "since": since,
            "before_band": band,
            "control": wave(points, 11, 1, 9) if "rpc" in name else None,
        }
        for name, (values, band) in series.items()
    }


def soak(state: str = "soaking", **more: Any) -> Json:
    """The soak of a canary, twelve hours after its confirm."""
    answer: Json = {
        "verdict": {"soaking": "inconclusive", "failed": "failing", "paused": "inconclusive"}.get(state, "healthy"),
        "state": state,
        "reasons": [
            {
                "node": "alpha",
                "check": "forwards",
                "verdict": "inconclusive",
                "detail": "3 forwards of 20 since the confirm",
                "figures": {"have": 3, "need": 20, "p": 0.0313},
                "command": "lightning-cli listforwards status=settled",
            }
        ],
        "progress": {"minutes": [720, 4320], "blocks": [70, 432], "forwards": [3, 20]},
        "remaining_seconds": 60 * 3600.0,
        "come_back_at": NOW + 2100 + 60 * 3600,
        "samples": 720,
        "plots": {"alpha": plots()},
        **more,
    }
    return _report_soak.shaped("canary", 0, ["alpha"], answer)


def success() -> _report.Facts:
    return facts(gates=gates(), soaks=[soak("soaked")], **through(planned(NAMES[:3])))


def failed_canary() -> _report.Facts:
    line = "plugin-cl-hive-comms: **BROKEN** Traceback (most recent call last): KeyError: 'relay'"
    reason = {
        "node": "alpha",
        "check": "log",
        "verdict": "failing",
        "detail": f"1 new BROKEN lines in the log, the first: {line}",
    }
    return facts(
        final=False,
        failed=True,
        gates=gates(),
        switches={"alpha": switched(NOW + 20)},
        reverts={
            "alpha": {
                **closed("reverted", NOW + 31),
                "journal": [entry(8, "reverting", NOW + 29), entry(9, "reverted", NOW + 31)],
            }
        },
        verdicts={"canary": verdict("failing", reason)},
        failures={"alpha": f"failing: alpha: {reason['detail']}"},
        incidents=_report.files(["registers/incidents/20261128T122000Z-main.yml"]),
        evidence=_report.files(["evidence/rollback-process-20261128T122000Z.json"]),
    )


def soaking() -> _report.Facts:
    return facts(gates=gates(), soaks=[soak()], **through(planned(NAMES[:3]), 1))


def paused() -> _report.Facts:
    return facts(
        final=False,
        failed=True,
        plan=planned(NAMES[:3]),
        soaks=[soak("paused", remaining_seconds=0, come_back_at=None)],
    )


def failed_soak() -> _report.Facts:
    reasons = [
        {
            "node": "alpha",
            "check": "latency",
            "verdict": "failing",
            "detail": "RPC latency of cl-hive-comms rose by 58 % (p = 0.00002)",
            "figures": {"before": 12.1, "since": 19.2},
            "command": "lightning-cli hive-comms-health",
        }
    ]
    return facts(
        final=False,
        failed=True,
        soaks=[soak("failed", reasons=reasons, plots={"alpha": plots(shift=7.0)})],
        backs={"alpha": {**switched(NOW + 20), "phase": "confirmed"}},
    )


def refused() -> _report.Facts:
    plan = planned(NAMES[:3]) | {
        "waves": [],
        "refused": [
            {
                "node": "",
                "code": "gates",
                "message": "The gates say no: 1 check blocks (B1): exercise the upgrade, then run again.",
            }
        ],
    }
    return facts(plan=plan, failed=True, final=False, gates=gates(blocked=True))


def braked() -> _report.Facts:
    return facts(final=False, failed=True, brakes={"bravo": "dora saw payments fail"}, **through(planned(NAMES[:3]), 1))


def many() -> _report.Facts:
    nodes = [f"node{number:02}.lightning.example.org" for number in range(1, 21)]
    return facts(nodes, gates=gates(), **through(planned(nodes)))


def hostile() -> _report.Facts:
    nodes = [HOSTILE, LONG, "bravo"]
    reason = {"node": HOSTILE, "check": HOSTILE, "detail": LONG, "command": HOSTILE + LONG}
    drawn = {HOSTILE: {HOSTILE: plots(20)["height"]}}
    finding = {"check": HOSTILE, "title": LONG, "state": HOSTILE, "detail": HOSTILE, "evidence": [LONG]}
    return facts(
        nodes,
        final=False,
        failed=True,
        switches={HOSTILE: switched(NOW + 5)},
        failures={HOSTILE: f"{HOSTILE} {LONG}"},
        soaks=[_report_soak.shaped(HOSTILE, 0, nodes[:2], {"reasons": [reason], "plots": drawn})],
        gates={"decision": "denied", "findings": [finding | {"waiver": {"owner": HOSTILE, "reason": LONG}}]},
        incidents=_report.files([f"{LONG}/{HOSTILE}.yml"]),
        brakes={HOSTILE: HOSTILE},
    )


def empty() -> _report.Facts:
    return facts((), plan=None, observed={}, failed=True, final=False)


SAMPLES: dict[str, Callable[[], _report.Facts]] = {
    made.__name__: made
    for made in (success, failed_canary, soaking, paused, failed_soak, refused, braked, many, hostile, empty)
}
