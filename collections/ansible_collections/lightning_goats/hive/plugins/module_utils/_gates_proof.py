# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Whether there is evidence for what a check asks: signed, about exactly this artifact, passed, fresh. Pure.

The newest statement about the artifact decides. One that failed is not made good by an older one that passed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._evidence import PASSED, Evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils._gates import (
    DAY,
    Answer,
    Context,
    Gap,
    Trouble,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._registers import FLEET, day

Json = dict[str, Any]

# Clocks of two machines differ; evidence from further ahead than this was not made yet.
CLOCKS_SECONDS = 300.0


@dataclass
class Proofs:
    """Gathers what a check stands on, and what it misses.

    Attributes:
        days: how old evidence may be, 0 for any age.
    """

    context: Context
    days: float
    gaps: list[Gap] = field(default_factory=list)
    used: list[Evidence] = field(default_factory=list)

    def need(self, name: str, subject: str, command: str, about: Collection[str], fleet: str = "") -> Evidence | None:
        """Ask for evidence ``name`` (kind and label) about all digests of ``about``; None leaves a gap.

        ``fleet`` is asked for where the label alone does not say what was looked at: others have nodes of this name.
        """
        found = self.first([name], about, fleet)
        if isinstance(found, Evidence):
            self.use(found)
            return found
        self.gaps.append(Gap(subject, found, command))
        return None

    def first(self, names: Sequence[str], about: Collection[str], fleet: str = "") -> Evidence | str:
        """The first good statement of one of ``names``, else why there is none, by the one that came closest."""
        if isinstance(self.context.evidence, Trouble):
            return f"{' or '.join(names)}: {self.context.evidence.reason}"
        reasons = []
        for name in names:
            found = self._newest(name, about, fleet)
            if isinstance(found, Evidence):
                return found
            reasons.append(found)
        # A name of which there is something says more than one of which there is nothing.
        return max(reasons, key=lambda reason: "there is none" not in reason, default="there is nothing to look for")

    def use(self, found: Evidence) -> None:
        """Count a statement among those that the check stands on."""
        if found not in self.used:
            self.used.append(found)

    def fits(self, found: Evidence) -> str:
        """Why a statement does not count now, "" when it does."""
        age = self.context.now - found.finished_at
        if found.result != PASSED:
            why = str(found.facts.get("reason") or "")
            return f"{found.name} {found.result}{': ' + why if why else ''}"
        if age < -CLOCKS_SECONDS:
            return f"{found.name} is from the future, {day(found.finished_at)}: look at the clocks"
        if found.expired(self.context.now):
            return f"{found.name} expired {day(found.expires_at)}"
        if self.days and age > self.days * DAY:
            return f"{found.name} is {age / DAY:.1f} days old, {self.days:g} are allowed"
        return ""

    def answer(self, detail: str, **figures: Any) -> Answer:
        """The check's answer; its age is that of the oldest statement."""
        now = self.context.now
        ends = [
            min(one.finished_at + self.days * DAY, one.expires_at or float("inf")) for one in self.used if self.days
        ]
        return Answer(
            list(self.gaps),
            detail,
            sorted(one.path.name for one in self.used),
            max((now - one.finished_at for one in self.used), default=None),
            min(ends, default=None),
            figures,
        )

    def _newest(self, name: str, about: Collection[str], fleet: str) -> Evidence | str:
        evidence = self.context.evidence
        if isinstance(evidence, Trouble):
            return f"{name}: {evidence.reason}"
        there = evidence.found.get(name, ())
        here = [one for one in there if not fleet or one.facts.get("fleet") == fleet]
        bound = [one for one in here if set(about) <= set(one.subjects.values())]
        if bound:
            return self.fits(bound[0]) or bound[0]
        if there and not here:
            return f"{name} is of another fleet than {fleet}"
        if there:
            return f"{name} is about other artifacts than these"
        refused = evidence.refused.get(name, ())
        return f"{name} does not count: {refused[0]}" if refused else f"{name}: there is none"


def per_release(context: Context, kind: str, days: float, command: str, label: str = "") -> Proofs:
    """Ask for evidence of ``kind`` about each release, labelled with the plugin or with ``label``."""
    proofs = Proofs(context, days)
    for release in context.releases:
        proofs.need(f"{kind}-{label or release.name}", release.name, command, [release.digest])
    if not context.releases:
        proofs.gaps.append(Gap(FLEET, "there is no release to look at: hive_stack of the nodes is empty"))
    return proofs
