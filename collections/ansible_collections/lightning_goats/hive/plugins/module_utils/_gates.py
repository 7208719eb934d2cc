# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The gates: what a check is, what it looks at, and how findings and waivers become a decision. Pure, controller only.

A check passes only when everything that it asks for is there. What is missing, old, about something else, unsigned or
late blocks. The checks themselves stand in ``_gates_checks``, what they look at is gathered by ``_gates_gather``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._approvals import Approvals
from ansible_collections.lightning_goats.hive.plugins.module_utils._baseline import Baseline
from ansible_collections.lightning_goats.hive.plugins.module_utils._evidence_all import Collected
from ansible_collections.lightning_goats.hive.plugins.module_utils._incidents import Incident
from ansible_collections.lightning_goats.hive.plugins.module_utils._registers import (
    FLEET,
    AuditFinding,
    Defect,
    Waiver,
    day,
)

Json = dict[str, Any]

PASS, BLOCK, WAIVED = "pass", "block", "waived"
ALLOWED, DENIED = "allowed", "denied"
DAY = 86400.0
# Nobody may answer for these with words: who approved what, the way back, the way back of the data, and who may spend.
NEVER_WAIVED = frozenset(("B3", "B4", "C4", "S1", "S2"))


@dataclass(frozen=True)
class Trouble:
    """Why something could not be looked at. It blocks every check that asks for it."""

    reason: str


@dataclass(frozen=True)
class Release:
    """One artifact that is to be rolled out; ``schema`` is that of its database, 0 for none."""

    name: str
    version: str
    digest: str
    schema: int = 0

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Days:
    """How old evidence may be, by what it is about, and how long the fleet has to be without an incident."""

    suite: float = 30
    exercise: float = 30
    drill: float = 30
    security: float = 7
    matrix: float = 30
    incident_free: float = 14


@dataclass(frozen=True)
class Context:
    """Everything that the checks look at.

    Attributes:
        plan: the digest of the plan, "" when there is none.
        approved: the digest that was passed as approved, where no signatures are asked for.
        needed: how many approvals are asked for.
        issues: open issues of high priority, by repository; None when nobody gave a token.
        reviewed: sha256 of the reviewed lists by file name, for evidence that is about them.
    """

    now: float
    fleet: str
    plan: str
    releases: Sequence[Release]
    nodes: Sequence[str]
    runtimes: Sequence[str]
    evidence: Collected | Trouble
    defects: Sequence[Defect] | Trouble
    findings: Sequence[AuditFinding] | Trouble
    incidents: Sequence[Incident] | Trouble
    waivers: Sequence[Waiver] | Trouble
    approvals: Approvals | Trouble
    baseline: Baseline | Trouble
    issues: Mapping[str, Sequence[str]] | Trouble | None = None
    days: Days = field(default_factory=Days)
    needed: int = 1
    approved: str = ""
    reviewed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gap:
    """One thing that is not as a check asks for: of whom, what, and how to mend it."""

    subject: str
    what: str
    command: str = ""


@dataclass(frozen=True)
class Finding:
    """What one check says."""

    check: str
    gate: str
    title: str
    state: str
    detail: str
    gaps: Sequence[Gap] = ()
    evidence: Sequence[str] = ()
    age_seconds: float | None = None
    expires_at: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    waiver: Waiver | None = None

    def as_dict(self) -> Json:
        """The finding for reports and statements."""
        return {
            "check": self.check,
            "gate": self.gate,
            "title": self.title,
            "state": self.state,
            "detail": self.detail,
            "evidence": list(self.evidence),
            "age_seconds": self.age_seconds,
            "expires_at": self.expires_at,
            "figures": dict(self.figures),
            "command": next((gap.command for gap in self.gaps if gap.command), ""),
            "waiver": self.waiver.as_dict() if self.waiver else None,
        }


@dataclass(frozen=True)
class Answer:
    """What a check found, before it has a name: what is missing, and on what the rest stands."""

    gaps: Sequence[Gap] = ()
    detail: str = ""
    evidence: Sequence[str] = ()
    age_seconds: float | None = None
    expires_at: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One testable statement of a gate. ``deadline_seconds`` is how long what it calls may take; 0 calls nothing."""

    name: str
    gate: str
    title: str
    deadline_seconds: float
    look: Callable[[Context], Answer]

    def evaluate(self, context: Context) -> Finding:
        """What the check says of the context."""
        answer = self.look(context)
        return Finding(
            self.name,
            self.gate,
            self.title,
            BLOCK if answer.gaps else PASS,
            _told(answer.gaps) if answer.gaps else answer.detail,
            answer.gaps,
            answer.evidence,
            answer.age_seconds,
            answer.expires_at,
            answer.figures,
        )


@dataclass(frozen=True)
class Decision:
    """All findings, and whether the rollout may start."""

    findings: Sequence[Finding]
    remarks: Sequence[str] = ()

    @property
    def allowed(self) -> bool:
        return bool(self.findings) and all(finding.state in (PASS, WAIVED) for finding in self.findings)

    @property
    def word(self) -> str:
        return ALLOWED if self.allowed else DENIED


def decide(checks: Sequence[Check], context: Context) -> Decision:
    """The findings of all checks, after the waivers; a waived check is never a passed one."""
    remarks: list[str] = []
    waivers: Sequence[Waiver] = ()
    if isinstance(context.waivers, Trouble):
        remarks.append(f"No waiver counts: {context.waivers.reason}")
    else:
        waivers = context.waivers
    findings = [_waived(check.evaluate(context), waivers, context.now) for check in checks]
    return Decision(findings, [*remarks, *_useless(waivers, findings, context.now)])


def _waived(finding: Finding, waivers: Sequence[Waiver], now: float) -> Finding:
    """The finding, waived when there is a valid waiver for each thing that is missing."""
    if finding.state != BLOCK or finding.check in NEVER_WAIVED:
        return finding
    valid = [one for one in waivers if one.check == finding.check and now < one.expires_at]
    used = [next((one for one in valid if one.subject in (gap.subject, FLEET)), None) for gap in finding.gaps]
    if None in used:
        return finding
    counted = list(dict.fromkeys(one for one in used if one is not None))
    first = min(counted, key=lambda one: one.expires_at)
    owners = ", ".join(dict.fromkeys(one.owner for one in counted))
    detail = (
        f"{owners} answers until {day(first.expires_at)}: {first.reason} (control: {first.control}); {finding.detail}"
    )
    return replace(finding, state=WAIVED, detail=detail, waiver=first, expires_at=first.expires_at)


def _useless(waivers: Sequence[Waiver], findings: Sequence[Finding], now: float) -> list[str]:
    """What to say of waivers that cannot work as they were meant."""
    known = {finding.check: finding for finding in findings}
    remarks = []
    for one in waivers:
        what = f"The waiver of {one.check} for {one.subject} by {one.owner}"
        if one.check not in known:
            remarks.append(f"{what} is of no check that there is: correct it.")
        elif one.check in NEVER_WAIVED:
            remarks.append(f"{what} does not count: {one.check} cannot be waived.")
        elif now >= one.expires_at:
            remarks.append(f"{what} ended {day(one.expires_at)}.")
    return remarks


def _told(gaps: Sequence[Gap]) -> str:
    """What is missing, each thing once."""
    return "; ".join(dict.fromkeys(gap.what for gap in gaps))
