# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The dependency matrix: which plugins run together, how each says it runs then, and which set is refused.

What every combination has to show is listed here, and only what was seen counts: one that did not run has shown
nothing. Pure, controller only; the words are those of docs/design/startup.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_checks import Check
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import version_key

Json = dict[str, Any]

KIND = "matrix"
WARNED = "WARNED"
DAY = 86400
COMMS, ARCHON, HIVE = "cl-hive-comms", "cl-hive-archon", "cl-hive"
ORDER = (COMMS, ARCHON, HIVE)
# Every supported combination, and the `mode` that each of its plugins has to say.
SUPPORTED: Mapping[str, Mapping[str, str]] = {
    "comms": {COMMS: "standalone"},
    "comms+archon": {COMMS: "with-archon", ARCHON: "with-comms"},
    "comms+hive": {COMMS: "with-hive", HIVE: "with-comms"},
    "full": {COMMS: "full", ARCHON: "with-comms", HIVE: "full"},
    "hive": {HIVE: "monolith"},
}
REFUSED, MIXED, MONOLITH = "refuse-archon", "mixed", "monolith"
NAMES = (*SUPPORTED, REFUSED, MIXED, MONOLITH)
# What has to be seen of each plugin, and of the whole, before a combination counts.
OF_PLUGIN = ("starts", "active", "healthy", "mode", "stops")
OF_ALL = ("rpc surface", "log", "offline", "nothing left")
OF_REFUSAL = ("refused by the plan", "disables itself", "lightningd goes on", "nothing left")


@dataclass(frozen=True)
class Combination:
    """Plugins that are started together, by name.

    Attributes:
        modes: what each has to say, by plugin; empty where the set has to be refused.
    """

    name: str
    releases: Sequence[Release]
    modes: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The releases for people."""
        return ", ".join(f"{one.name} {one.version}" for one in self.releases)

    @property
    def required(self) -> set[tuple[str, str]]:
        """(plugin, check) of everything that has to be seen."""
        if not self.modes:
            return {("", name) for name in OF_REFUSAL}
        return {(one.name, name) for one in self.releases for name in OF_PLUGIN} | {("", name) for name in OF_ALL}


@dataclass
class Outcome:
    """What was seen of one name of the matrix: of one combination, or of several under `mixed`.

    Attributes:
        untested: why there was nothing to run; "" when there was.
        subjects: the artifacts that it is about.
        tested_with: what else took part, by name and sha256.
        missing: checks that were required and never made.
        until: when what it was read from ends to count; None where it was seen itself.
    """

    name: str
    subjects: Mapping[str, str]
    releases: Sequence[Json]
    started_at: float
    finished_at: float
    checks: Sequence[Check] = ()
    missing: Sequence[str] = ()
    tested_with: Mapping[str, str] = field(default_factory=dict)
    untested: str = ""
    figures: Json = field(default_factory=dict)
    until: float | None = None

    @property
    def result(self) -> str:
        """PASSED only for what was seen whole, WARNED for what there was not to see."""
        if self.untested:
            return WARNED
        bad = any(check.ok is False for check in self.checks)
        seen = any(check.ok for check in self.checks)
        return _evidence.PASSED if seen and not bad and not self.missing else _evidence.FAILED

    @property
    def reason(self) -> str:
        """The first thing that does not hold; "" when all does."""
        if self.untested:
            return self.untested
        bad = [check for check in self.checks if check.ok is False]
        if bad:
            return f"{bad[0].title}: {bad[0].detail or 'does not hold'}"
        if self.missing:
            return f"{self.missing[0]} was never seen"
        return "" if self.checks else "nothing ran"

    @property
    def line(self) -> str:
        """The outcome in one line."""
        if self.untested:
            return f"{self.name:14} untested: {self.untested}"
        words = "holds" if self.result == _evidence.PASSED else f"FAILED: {self.reason}"
        seconds = self.finished_at - self.started_at
        return f"{self.name:14} {words}, {sum(bool(check.ok) for check in self.checks)} checks in {seconds:.1f} s"


def combinations(stack: Mapping[str, Release]) -> list[Combination]:
    """The combinations that the releases of one stack can form, by plugin name."""
    found = [
        Combination(name, [stack[plugin] for plugin in ORDER if plugin in modes], modes)
        for name, modes in SUPPORTED.items()
        if modes.keys() <= stack.keys()
    ]
    return [*found, Combination(REFUSED, [stack[ARCHON]])] if ARCHON in stack else found


def mixtures(stack: Mapping[str, Release], older: Mapping[str, Release]) -> list[Combination]:
    """What runs side by side for a moment while a node is switched: each plugin old beside the others new, and new
    beside the others old. `older` has the release before, by plugin, where there is one."""
    names = [plugin for plugin in ORDER if plugin in stack]
    full = next((name for name, modes in SUPPORTED.items() if modes.keys() == set(names)), "")
    if len(names) < 2 or not full:
        return []
    found: dict[tuple[str, ...], Combination] = {}
    for odd in names:
        for one, others in ((older, stack), (stack, older)):
            picked = [one.get(odd) if name == odd else others.get(name) or stack[name] for name in names]
            releases = [release for release in picked if release is not None]
            digests = tuple(release.digest for release in releases)
            new = tuple(stack[name].digest for name in names)
            mixed = digests != new and any(digest in new for digest in digests)
            if len(releases) == len(names) and mixed:
                title = " + ".join(f"{release.name} {release.version}" for release in releases)
                found.setdefault(digests, Combination(f"{MIXED}: {title}", releases, SUPPORTED[full]))
    return list(found.values())


def before(version: str, versions: Sequence[str]) -> str:
    """The newest of `versions` that is older than `version`; "" for none."""
    older = [one for one in versions if version_key(one) < version_key(version)]
    return max(older, key=version_key, default="")


def described(releases: Sequence[Release]) -> list[Json]:
    """Releases as evidence names them."""
    return [
        {
            "name": one.name,
            "version": one.version,
            "digest": one.digest,
            "schema_version": int(one.manifest["schema_version"]),
        }
        for one in releases
    ]


def artifacts(releases: Sequence[Release]) -> dict[str, str]:
    """Artifact name to sha256."""
    return {f"{one.name}-{one.version}.pex": one.digest for one in releases}


def monolith(
    stack: Mapping[str, Release],
    proofs: Mapping[str, Sequence[_evidence.Evidence]],
    digests: Mapping[str, str],
    now: float,
) -> Outcome:
    """Up from the monolith and back, as runs on nodes have shown it: nothing else can.

    Args:
        proofs: evidence by kind (`adoption`, `carry-back`), the newest first.
        digests: sha256 of each of these files, by name.
    """
    releases = [stack[plugin] for plugin in ORDER if plugin in stack]
    wanted = {release.digest for release in releases}
    checks: list[Check] = []
    used: dict[str, str] = {}
    ends: list[float] = []
    for kind in ("adoption", "carry-back"):
        about = [one for one in proofs.get(kind, ()) if wanted & _digests(one)]
        if not about:
            return Outcome(
                MONOLITH,
                artifacts(releases),
                described(releases),
                now,
                now,
                untested=f"no run has shown an {kind} with these releases; rehearse it on a node that runs the "
                "monolith (docs/runbooks/adopt.md)"
                if kind == "adoption"
                else "no run has shown the way back to the monolith with these releases; rehearse it "
                "(docs/runbooks/adopt.md)",
            )
        newest = about[0]
        good = newest.result == _evidence.PASSED and not newest.expired(now)
        said = "" if good else f"{newest.path.name} {'has expired' if newest.expired(now) else 'FAILED'}"
        checks.append(Check(kind, good, said or newest.path.name))
        missing = sorted(release.name for release in releases if release.digest not in _digests(newest))
        checks.append(Check(f"{kind} of all plugins", not missing, f"without {missing[0]}" if missing else ""))
        used[newest.path.name] = digests[newest.path.name]
        ends += [] if newest.expires_at is None else [newest.expires_at]
    until = min(ends, default=None)
    return Outcome(MONOLITH, artifacts(releases), described(releases), now, now, checks, tested_with=used, until=until)


def _digests(found: _evidence.Evidence) -> set[str]:
    """The digests of all releases that a run left or reached, as its evidence has them."""
    nodes = found.facts.get("nodes")
    return {
        str(item["digest"])
        for node in (nodes.values() if isinstance(nodes, dict) else ())
        for side in ("before", "after")
        for item in node.get(side) or []
    }


def statement(outcome: Outcome, lightningd: Json, command: str, valid_days: int) -> Json:
    """What was seen as an in-toto statement about all artifacts of the combination."""
    own = round(outcome.finished_at, 3) + valid_days * DAY if valid_days else None
    # Nothing is younger because it was read again.
    ends = [end for end in (own, outcome.until) if end is not None]
    titles: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for check in outcome.checks:
        titles[check.ok].append(check.title)
    titles[None] += [outcome.name] if outcome.untested else []
    facts = {
        "kind": KIND,
        "label": outcome.name,
        "releases": list(outcome.releases),
        "lightningd": lightningd,
        "checks": [
            {"plugin": check.plugin, "name": check.name, "ok": check.ok, "detail": " ".join(check.detail.split())}
            for check in outcome.checks
        ],
        "reason": outcome.reason,
        "figures": {"seconds": round(outcome.finished_at - outcome.started_at, 2), **outcome.figures},
        "started_at": round(outcome.started_at, 3),
        "finished_at": round(outcome.finished_at, 3),
        "expires_at": min(ends, default=None),
        "command": command,
    }
    tested_with = {**outcome.tested_with}
    if lightningd.get("digest"):
        tested_with["scratch-lightningd.pex"] = lightningd["digest"]
    outcomes = _evidence.Outcomes(titles[True], [*titles[False], *outcome.missing], titles[None])
    return _evidence.statement(outcome.result, outcome.subjects, tested_with, outcomes, facts)
