# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Every check of every gate: what it asks for, and what makes it. Pure; words for people in docs/design/gates.md."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _approvals
from ansible_collections.lightning_goats.hive.plugins.module_utils._evidence import Evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils._gates import (
    DAY,
    Answer,
    Check,
    Context,
    Gap,
    Release,
    Trouble,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._gates_proof import Proofs, per_release
from ansible_collections.lightning_goats.hive.plugins.module_utils._registers import (
    BASELINE,
    DEFECTS,
    FINDINGS,
    FLEET,
    day,
)

Json = dict[str, Any]

COMMS, ARCHON, HIVE = "cl-hive-comms", "cl-hive-archon", "cl-hive"
# The dependency matrix: each combination, supported or refused, and the plugins it is of.
COMBINATIONS: Mapping[str, frozenset[str]] = {
    "comms": frozenset((COMMS,)),
    "comms+archon": frozenset((COMMS, ARCHON)),
    "comms+hive": frozenset((COMMS, HIVE)),
    "full": frozenset((COMMS, ARCHON, HIVE)),
    "hive": frozenset((HIVE,)),
    "refuse-archon": frozenset((ARCHON,)),
}
SUITES = "ansible-playbook playbooks/suites.yml"
MATRIX = "ansible-playbook playbooks/matrix.yml"
SECURITY = "ansible-playbook playbooks/security.yml"
DRILL = "ansible-playbook playbooks/drill.yml"
INSTALL = "ansible-playbook -i <a lab of {runtime} nodes without plugins> playbooks/rollout.yml"
REHEARSE = (
    "ansible-playbook -i <a lab of {runtime} nodes> playbooks/rehearse.yml -e "
    '\'{{"hive_rehearse_from": {{"<plugin>": "<version before>"}}}}\''
)
EXERCISES: Mapping[str, str] = {"install": INSTALL, "upgrade": REHEARSE, "rollback": REHEARSE}
TAG = f"git -c gpg.format=ssh -c user.signingkey=<key> tag -s <tag> <commit>, then name it in {BASELINE}"
DEADLINE_SECONDS = 20.0


# A: reliability


def suites(context: Context) -> Answer:
    """The suites of the exact sources of each release are green."""
    return per_release(context, "suite", context.days.suite, SUITES).answer("the suites of all releases are green")


def defects(context: Context) -> Answer:
    """No open defect of high priority, in the register nor among the issues."""
    gaps = []
    if isinstance(context.defects, Trouble):
        gaps.append(Gap(FLEET, context.defects.reason, f"write {DEFECTS}"))
    else:
        gaps += [Gap(FLEET, f"{one.id} is open: {one.title}") for one in context.defects if one.blocks]
    if isinstance(context.issues, Trouble):
        gaps.append(Gap(FLEET, context.issues.reason, "ansible-playbook playbooks/gates.yml, when GitHub answers"))
    elif context.issues is not None:
        gaps += [Gap(FLEET, issue) for repository in context.issues.values() for issue in repository]
    looked = f", nor in {', '.join(context.issues)}" if isinstance(context.issues, Mapping) else ""
    return Answer(gaps, f"no open defect of high priority in the register{looked}")


def incidents(context: Context) -> Answer:
    """No Sev1 or Sev2 incident within the days that the fleet has to be without one, and none open."""
    if isinstance(context.incidents, Trouble):
        return Answer([Gap(FLEET, context.incidents.reason, "write the register of incidents")])
    grave = [one for one in context.incidents if one.severity in (1, 2)]
    since = context.now - context.days.incident_free * DAY
    gaps = [
        Gap(
            FLEET,
            f"Sev{one.severity} {one.id} of {day(one.opened)}{'' if one.closed else ' is open'}: {one.title}",
        )
        for one in grave
        if not one.closed or one.opened > since
    ]
    last = max((one.opened for one in grave), default=None)
    told = "none ever" if last is None else f"the last one {(context.now - last) / DAY:.0f} days ago"
    return Answer(gaps, f"no Sev1 or Sev2 incident in {context.days.incident_free:g} days, {told}")


# B: operations


def exercised(kind: str, context: Context) -> Answer:
    """One kind of exercise, on each runtime of the fleet, with each release."""
    proofs = Proofs(context, context.days.exercise)
    for runtime in context.runtimes:
        command = EXERCISES[kind].format(runtime=runtime)
        found = per_release(context, kind, context.days.exercise, command, label=runtime)
        proofs.gaps += [Gap(gap.subject, f"{gap.subject}: {gap.what}", gap.command) for gap in found.gaps]
        for one in found.used:
            proofs.use(one)
    if not context.runtimes:
        proofs.gaps.append(Gap(FLEET, "the fleet has no node"))
    return proofs.answer(f"exercised on {', '.join(context.runtimes)}")


def installs(context: Context) -> Answer:
    """Installing was exercised."""
    return exercised("install", context)


def upgrades(context: Context) -> Answer:
    """Upgrading was exercised."""
    return exercised("upgrade", context)


def rollbacks(context: Context) -> Answer:
    """Going back was exercised."""
    return exercised("rollback", context)


def drills(context: Context) -> Answer:
    """A backup set of each release with a database came back in a drill, on its schema, measured."""
    proofs = Proofs(context, context.days.drill)
    names = sorted(name for name in _names(context) if name.startswith("drill-"))
    for release in [one for one in context.releases if one.schema]:
        found = proofs.first(names, [release.digest]) if names else "there is no drill"
        if isinstance(found, str):
            proofs.gaps.append(Gap(release.name, f"{release.label}: {found}", DRILL))
            continue
        proofs.use(found)
        schema = _schema(found, release.digest)
        if schema != release.schema:
            words = f"{release.label} has schema {release.schema}, {found.name} was on {schema if schema else 'none'}"
            proofs.gaps.append(Gap(release.name, words, DRILL))
    # One node whose newest set of these releases does not hold is not made good by another's that does.
    proofs.gaps += [
        Gap(FLEET, f"{one.name} FAILED: {one.facts.get('reason') or 'its set does not hold'}", DRILL)
        for name in names
        for one in _newest_about(context, name)
        if one.result != "PASSED" and one not in proofs.used and not _past(context, one)
    ]
    if not any(one.schema for one in context.releases) and not proofs.gaps:
        proofs.gaps.append(Gap(FLEET, "no release has a database: nothing was drilled"))
    rto = max((float(one.facts.get("rto_seconds") or 0) for one in proofs.used), default=0.0)
    rpo = max((float((one.facts.get("rpo") or {}).get("age_seconds") or 0) for one in proofs.used), default=0.0)
    return proofs.answer(
        f"restored in {rto:.1f} s (RTO), sets {rpo:.0f} s behind (RPO)", rto_seconds=rto, rpo_seconds=rpo
    )


def _past(context: Context, drill: Evidence) -> bool:
    """Whether a drill is of a node that is no more: it cannot be made again, so it ends like a good one."""
    if drill.name.removeprefix("drill-") in context.nodes:
        return False
    return drill.expired(context.now) or context.now - drill.finished_at > context.days.drill * DAY


def _newest_about(context: Context, name: str) -> Sequence[Evidence]:
    """The newest statement of one name that is about one of the releases."""
    digests = {release.digest for release in context.releases}
    if isinstance(context.evidence, Trouble):
        return ()
    return [one for one in context.evidence.found.get(name, ()) if digests & set(one.subjects.values())][:1]


def _names(context: Context) -> Collection[str]:
    """Kinds and labels of which there is anything, also what does not count."""
    if isinstance(context.evidence, Trouble):
        return ()
    return {*context.evidence.found, *context.evidence.refused}


def _schema(found: Evidence, digest: str) -> int:
    """The schema version that a drill met for an artifact, 0 when it says none."""
    releases = found.facts.get("releases")
    for one in releases if isinstance(releases, list) else []:
        if isinstance(one, Mapping) and one.get("digest") == digest:
            return int(one.get("schema_version") or 0)
    return 0


# C: security


def audit_findings(context: Context) -> Answer:
    """High and medium findings are resolved, or accepted with an owner, a control and an end that has not come."""
    if isinstance(context.findings, Trouble):
        return Answer([Gap(FLEET, context.findings.reason, f"write {FINDINGS}")])
    gaps = [Gap(FLEET, problem) for one in context.findings if (problem := one.problem(context.now))]
    accepted = [one for one in context.findings if one.status == "accepted" and one.severity != "low"]
    ends = min((one.expires_at for one in accepted if one.expires_at is not None), default=None)
    controls = "".join(f"; {one.id}: {one.control}" for one in accepted)
    return Answer(gaps, f"none is open, {len(accepted)} are accepted{controls}", expires_at=ends)


def rpc_surfaces(context: Context) -> Answer:
    """What each plugin shows by RPC is what was reviewed."""
    proofs = per_release(context, "surface", context.days.security, SECURITY)
    _reviewed(proofs, "rpc.toml")
    return proofs.answer("each plugin shows what was reviewed")


def mcp_tools(context: Context) -> Answer:
    """The tools of the MCP server are the reviewed ones."""
    proofs = Proofs(context, context.days.security)
    proofs.need("mcp-tools", FLEET, SECURITY, [release.digest for release in context.releases])
    _reviewed(proofs, "mcp-tools.toml")
    return proofs.answer("the tools are the reviewed ones")


def runes(context: Context) -> Answer:
    """The runes of each node are restricted to their roles, and were tried."""
    proofs = Proofs(context, context.days.security)
    for node in context.nodes:
        # A lab may have a node of the same name, and the same key to sign with.
        proofs.need(f"runes-{node}", node, f"{SECURITY} --limit {node}", [], context.fleet)
    if not context.nodes:
        proofs.gaps.append(Gap(FLEET, "the fleet has no node"))
    _reviewed(proofs, "runes.toml")
    return proofs.answer(f"the runes of {len(context.nodes)} nodes are restricted to their roles")


def audits(context: Context) -> Answer:
    """No dependency of a release has a known vulnerability."""
    proofs = per_release(context, "audit", context.days.security, SECURITY)
    return proofs.answer("no known vulnerability in what the releases carry")


def bills(context: Context) -> Answer:
    """Each release has a bill of what is in it."""
    return per_release(context, "sbom", 0, SECURITY).answer("each release has its bill of materials")


def _reviewed(proofs: Proofs, file: str) -> None:
    """What was held against a reviewed list has to have been held against the list as it is now."""
    reviewed = proofs.context.reviewed
    for one in proofs.used:
        # What the operator has reviewed beside the shipped list counts as little when it was changed, or is no more.
        if any(one.subjects.get(name) != reviewed.get(name) for name in (file, f"own/{file}")):
            proofs.gaps.append(Gap(FLEET, f"{one.name} was not held against {file} as it is reviewed now", SECURITY))


# D: compatibility


def matrix(context: Context) -> Answer:
    """Each combination that these releases can form was executed, the refused one too."""
    proofs = Proofs(context, context.days.matrix)
    digests: dict[str, list[str]] = {}
    for release in context.releases:
        digests.setdefault(release.name, []).append(release.digest)
    for name, plugins in COMBINATIONS.items():
        if plugins <= set(digests):
            sets = list(itertools.product(*(digests[plugin] for plugin in sorted(plugins))))
            # Where nodes run two versions of a plugin, each was executed with some of the others.
            for digest in sorted({digest for one in sets for digest in one}):
                _executed(proofs, f"matrix-{name}", [one for one in sets if digest in one])
    known = frozenset.union(*COMBINATIONS.values())
    proofs.gaps += [
        Gap(name, f"no combination with {name} is in the matrix") for name in sorted(digests) if name not in known
    ]
    if not digests:
        proofs.gaps.append(Gap(FLEET, "there is no release to look at: hive_stack of the nodes is empty"))
    done = [one.name.removeprefix("matrix-") for one in proofs.used]
    return proofs.answer(f"executed: {', '.join(done)}")


def _executed(proofs: Proofs, name: str, sets: Sequence[Sequence[str]]) -> None:
    """Ask for a combination with one of several sets of artifacts."""
    found = [proofs.first([name], one) for one in sets]
    good = [one for one in found if isinstance(one, Evidence)]
    if good:
        proofs.use(good[0])
    else:
        proofs.gaps.append(Gap(FLEET, str(found[0]), MATRIX))


def mixed(context: Context) -> Answer:
    """Nodes with these releases and nodes with the ones before work with each other."""
    proofs = per_release(context, "matrix", context.days.matrix, MATRIX, label="mixed")
    return proofs.answer("old and new releases work with each other")


def monolith(context: Context) -> Answer:
    """From the monolith and back: rows taken over and carried back."""
    proofs = Proofs(context, context.days.matrix)
    for release in context.releases:
        whole = proofs.first(["matrix-monolith"], [release.digest])
        if isinstance(whole, Evidence):
            proofs.use(whole)
            continue
        ways = [
            proofs.first([f"{kind}-{runtime}" for runtime in context.runtimes], [release.digest])
            for kind in ("adoption", "carry-back")
        ]
        found = [way for way in ways if isinstance(way, Evidence)]
        if len(found) == len(ways):
            for one in found:
                proofs.use(one)
        else:
            proofs.gaps.append(Gap(release.name, f"{whole}, nor adoption and the way back", MATRIX))
    if not context.releases:
        proofs.gaps.append(Gap(FLEET, "there is no release to look at: hive_stack of the nodes is empty"))
    return proofs.answer("from the monolith and back")


# S: acceptance (section 7 of the readiness plan)


def approvals(context: Context) -> Answer:
    """Enough people have signed exactly this plan."""
    approve = f"ansible-playbook playbooks/approve.yml -e hive_approve_plan={context.plan}"
    if not context.plan:
        return Answer([Gap(FLEET, "there is no plan to approve")])
    if context.needed <= 0:
        if context.approved == context.plan:
            return Answer(detail="hive_approved_plan names this plan; no signatures are asked for")
        rerun = f"ansible-playbook playbooks/rollout.yml -e hive_approved_plan={context.plan}"
        return Answer([Gap(FLEET, "hive_approved_plan does not name this plan", rerun)])
    if isinstance(context.approvals, Trouble):
        return Answer([Gap(FLEET, context.approvals.reason, approve)])
    there = context.approvals
    who = ", ".join(one.approver for one in there.valid)
    ages = [context.now - one.approved_at for one in there.valid]
    gaps = []
    if len(there.valid) < context.needed:
        notes = "".join(f"; {note}" for note in there.notes)
        what = f"{len(there.valid)} of {context.needed} approvals of this plan{f' ({who})' if who else ''}{notes}"
        gaps.append(Gap(FLEET, what, f"{approve} -e hive_approver=<name> -e hive_approval_key=<key>"))
    return Answer(
        gaps,
        f"{_approvals.WORDS} by {who}",
        [one.path.name for one in there.valid],
        max(ages, default=None),
        min((one.expires_at for one in there.valid), default=None),
        {"approvals": len(there.valid), "needed": context.needed},
    )


def baseline(context: Context) -> Answer:
    """The last production baseline is tagged, and somebody whom the approvers' list names signed the tag."""
    if isinstance(context.baseline, Trouble):
        return Answer([Gap(FLEET, context.baseline.reason, TAG)])
    found = context.baseline
    age = None if found.tagged_at is None else context.now - found.tagged_at
    return Answer(detail=f"{found.tag} on {found.commit[:12]}, signed by {found.signer}", age_seconds=age)


GATES: Mapping[str, str] = {
    "A": "reliability",
    "B": "operations",
    "C": "security",
    "D": "compatibility",
    "S": "acceptance",
}
CHECKS: Sequence[Check] = (
    Check("A1", "A", "suites of the exact release sources are green", DEADLINE_SECONDS, suites),
    Check("A2", "A", "no open defect of high priority", DEADLINE_SECONDS, defects),
    Check("A3", "A", "no Sev1 or Sev2 incident within the soak", 0, incidents),
    Check("B1", "B", "install exercised on each runtime", DEADLINE_SECONDS, installs),
    Check("B2", "B", "upgrade exercised on each runtime", DEADLINE_SECONDS, upgrades),
    Check("B3", "B", "rollback exercised on each runtime", DEADLINE_SECONDS, rollbacks),
    Check("B4", "B", "backup and restore drilled on this schema", DEADLINE_SECONDS, drills),
    Check("C1", "C", "audit findings resolved or accepted with controls", 0, audit_findings),
    Check("C2", "C", "RPC surface equals the reviewed one", DEADLINE_SECONDS, rpc_surfaces),
    Check("C3", "C", "MCP tools equal the reviewed ones", DEADLINE_SECONDS, mcp_tools),
    Check("C4", "C", "runes restricted to their roles", DEADLINE_SECONDS, runes),
    Check("C5", "C", "no known vulnerability in dependencies", DEADLINE_SECONDS, audits),
    Check("C6", "C", "bill of materials of each release", DEADLINE_SECONDS, bills),
    Check("D1", "D", "dependency matrix executed", DEADLINE_SECONDS, matrix),
    Check("D2", "D", "mixed versions work during a rollout", DEADLINE_SECONDS, mixed),
    Check("D3", "D", "monolith up and back", DEADLINE_SECONDS, monolith),
    Check("S1", "S", "this plan is approved", DEADLINE_SECONDS, approvals),
    Check("S2", "S", "the production baseline is tagged", DEADLINE_SECONDS, baseline),
)


def releases(stacks: Mapping[str, Sequence[Json]], manifests: Mapping[str, Json]) -> list[Release]:
    """The artifacts that nodes shall run, each once; ``manifests`` by digest give the schemas."""
    found = {}
    for stack in stacks.values():
        for item in stack:
            digest = str(item["digest"])
            schema = int((manifests.get(digest) or {}).get("schema_version") or 0)
            found[digest] = Release(str(item["name"]), str(item["version"]), digest, schema)
    return sorted(found.values(), key=lambda one: (one.name, one.version, one.digest))
