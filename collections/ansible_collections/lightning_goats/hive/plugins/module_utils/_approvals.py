# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Approvals: n of m people sign the digest of exactly the plan that they have read. Controller only.

One file ``<evidence>/approvals/<plan digest, 16>-<approver>.json`` with its signature (namespace ``approval``). Who
runs the rollout does not approve it, nor does a key that signed evidence of what is rolled out; each person, each key
counts once, and an approval ends. A refused plan waits in ``<reports>/plans/<digest>.json`` to be read and signed.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _plain_files, _plan
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError, canonical
from ansible_collections.lightning_goats.hive.plugins.module_utils._registers import day
from ansible_collections.lightning_goats.hive.plugins.module_utils._signatures import (
    Key,
    keys_of,
    signing_key,
    verify_as,
)

Json = dict[str, Any]

NAMESPACE = "approval"
PREDICATE = "https://github.com/lightning-goats/hive-rollout/approval/v1"
# What the readiness plan wants maintainers to say, word for word.
WORDS = "Execution Approved"
FOLDER, PLANS = "approvals", "plans"
DIGEST = re.compile(r"[0-9a-f]{64}")
PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,99}")
# Clocks of two people differ; an approval from further ahead than this was not given yet.
CLOCKS_SECONDS = 300
MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Rules:
    """Whose approvals count.

    Attributes:
        needed: how many.
        approvers: the ssh-keygen file of who may approve.
        runner: the principal that runs the rollout.
        evidence_keys: fingerprints of keys that signed evidence of what is rolled out.
    """

    needed: int
    approvers: Path
    runner: str
    evidence_keys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Approval:
    """One approval that counts."""

    path: Path
    approver: str
    approved_at: float
    expires_at: float


@dataclass(frozen=True)
class Approvals:
    """What there is for one plan: approvals that count, and why others do not, as sentences."""

    valid: Sequence[Approval] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def file_name(digest: str, approver: str) -> str:
    """The name of an approval's file."""
    return f"{digest[:16]}-{approver}.json"


def statement(digest: str, fleet: str, approver: str, approved_at: float, expires_at: float) -> Json:
    """What an approver signs."""
    return {
        "_type": _evidence.STATEMENT,
        "subject": [{"name": "plan", "digest": {"sha256": digest}}],
        "predicateType": PREDICATE,
        "predicate": {
            "statement": f"{WORDS}: plan {digest} of fleet {fleet}, valid until {day(expires_at)}.",
            "approver": approver,
            "fleet": fleet,
            "approved_at": approved_at,
            "expires_at": expires_at,
        },
    }


def check_runner(runner: str) -> None:
    """Raise ReleaseError ``runner`` unless it is said who runs: without a name nobody can be told from them."""
    if not runner:
        raise ReleaseError(
            "runner",
            "nobody says who runs this rollout: set hive_runner to your name in the approvers' list, or a name.",
        )


def look(directory: Path, digest: str, fleet: str, rules: Rules, now: float, seconds: float) -> Approvals:
    """The approvals of one plan in ``directory`` (that of the evidence), verified within ``seconds``.

    Raises ReleaseError ``runner`` or ``signers``.
    """
    check_runner(rules.runner)
    barred = keys_of(rules.approvers, rules.runner)
    deadline = time.monotonic() + seconds
    valid: list[Approval] = []
    notes: list[str] = []
    used: set[str] = set()
    folder = directory / FOLDER
    for path in sorted(folder.glob(f"{digest[:16]}-*.json")) if folder.is_dir() else ():
        try:
            found, key = _read(path, digest, fleet, rules, deadline)
            _count(found, key, rules, barred, now)
            if key.fingerprint in used or found.approver in {one.approver for one in valid}:
                raise _none("is by a key or a person that has approved already")
        except ReleaseError as error:
            notes.append(f"{path.name} {error}")
            continue
        used.add(key.fingerprint)
        valid.append(found)
    return Approvals(valid, notes)


def _read(path: Path, digest: str, fleet: str, rules: Rules, deadline: float) -> tuple[Approval, Key]:
    """One approval whose signature is that of its approver. Raises ReleaseError with the end of a sentence."""
    try:
        data = _plain_files.read(path, MAX_BYTES)
        made = json.loads(data)
        said = made["predicate"]
        approver, words = str(said["approver"]), str(said["statement"])
        found = Approval(path, approver, float(said["approved_at"]), float(said["expires_at"]))
        subjects = [item["digest"]["sha256"] for item in made["subject"]]
        if not (math.isfinite(found.approved_at) and math.isfinite(found.expires_at)):
            raise ValueError("no time")
        known = made["_type"] == _evidence.STATEMENT and made["predicateType"] == PREDICATE
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _none("is no approval that this release reads") from error
    if not known or not PRINCIPAL.fullmatch(approver) or not words.startswith(f"{WORDS}: plan {digest} "):
        raise _none(f"does not say '{WORDS}' of this plan")
    if subjects != [digest] or said.get("fleet") != fleet:
        raise _none("is of another plan or fleet")
    signature = _evidence.signature_of(path)
    left = deadline - time.monotonic()
    if left <= 0:
        raise _none("could not be verified in time")
    try:
        key = signing_key(signature)
        verify_as(approver, data, signature, rules.approvers, NAMESPACE, left)
    except ReleaseError as error:
        if error.code == "unsigned":
            raise _none("has no signature") from error
        raise _none(f"was not signed by a key that {rules.approvers} lists for {approver}") from error
    return found, key


def _count(found: Approval, key: Key, rules: Rules, barred: frozenset[str], now: float) -> None:
    """Raise ReleaseError with the end of a sentence unless this approval counts."""
    if key.certified:
        raise _none("was signed with a certificate, of which one person may have many: sign with the key itself")
    if found.approver == rules.runner or key.fingerprint in barred:
        raise _none(f"is by {rules.runner}, who runs this rollout")
    if key.fingerprint in rules.evidence_keys:
        raise _none(f"is by the key {key.fingerprint}, which signed evidence of these releases")
    if found.approved_at > now + CLOCKS_SECONDS:
        raise _none(f"was given in the future, {day(found.approved_at)}: look at the clocks")
    if now >= found.expires_at:
        raise _none(f"ended {day(found.expires_at)}")


def _none(what: str) -> ReleaseError:
    return ReleaseError("not-approved", what)


def problem(digest: str, needed: int, there: Approvals) -> str:
    """Why ``there`` is not enough for the plan, "" when it is."""
    if len(there.valid) >= needed:
        return ""
    by = f" ({', '.join(one.approver for one in there.valid)})" if there.valid else ""
    notes = "".join(f"; {note}" for note in there.notes)
    return (
        f"This plan has {len(there.valid)} of {needed} approvals{by}{notes}: let an approver read and sign it with "
        f"ansible-playbook playbooks/approve.yml -e hive_approve_plan={digest} -e hive_approver=<name> "
        "-e hive_approval_key=<key>"
    )


# The plan that is read and signed


def plan_path(reports: Path, digest: str) -> Path:
    """Where a plan waits for its approvals."""
    return reports / PLANS / f"{digest}.json"


def write_plan(reports: Path, plan: Mapping[str, Any], spent: Collection[str], now: float) -> None:
    """Keep what the digest of ``plan`` speaks of, and nothing else, for those who approve it. Raises OSError.

    ``spent`` are the digests of plans that were given up. A rollout under way no longer shows all that it began with;
    what was kept when it began stays.
    """
    part = signed_part(plan, spent)
    if _digest(part) != plan["digest"]:
        return
    path = plan_path(reports, str(plan["digest"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_bytes(canonical({**part, "digest": plan["digest"], "written_at": round(now, 3)}))
    partial.chmod(0o644)
    partial.replace(path)


def signed_part(plan: Mapping[str, Any], spent: Collection[str]) -> Json:
    """What the digest of a plan covers."""
    return {
        **{key: plan[key] for key in ("schema", "fleet", "terms", "waves")},
        "spent": sorted(spent),
        "nodes": {
            node: {key: step[key] for key in ("action", "before", "after")}
            for node, step in plan["nodes"].items()
            if step["action"] != "none"
        },
    }


def _digest(plan: Mapping[str, Any]) -> str:
    return _plan.digest(dict(plan), _plan.fingerprints(plan["nodes"]), plan["spent"])


def read_plan(reports: Path, digest: str) -> Json:
    """The plan that waits under ``digest``. Raises ReleaseError ``unknown-plan`` or ``plan-damaged``."""
    path = plan_path(reports, digest)
    advice = "run playbooks/rollout.yml, which writes the plan that it asks an approval for."
    if not DIGEST.fullmatch(digest) or not path.is_file():
        raise ReleaseError("unknown-plan", f"There is no plan {digest[:64]!r} in {path.parent}: {advice}")
    try:
        plan: Json = json.loads(path.read_bytes())
        same = _digest(plan) == digest
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        same = False
    if not same:
        raise ReleaseError("plan-damaged", f"{path} is not the plan of its name, somebody has changed it: {advice}")
    return plan


def lines(plan: Mapping[str, Any]) -> list[str]:
    """What is signed, in words that are made of what the digest covers and of nothing else."""
    told = [f"plan {plan['digest']} of fleet {plan['fleet']}"]
    told += [f"{name}: {json.dumps(value, sort_keys=True)}" for name, value in sorted(plan["terms"].items())]
    for wave in plan["waves"]:
        told.append(f"{wave['name']}: {', '.join(wave['nodes'])}")
        for node in wave["nodes"]:
            step = plan["nodes"][node]
            told.append(f"  {node}: {step['action']}")
            told += [f"    {line}" for line in _changes(step["before"], step["after"])]
    idle = sorted(set(plan["nodes"]) - {node for wave in plan["waves"] for node in wave["nodes"]})
    return [*told, f"unchanged: {', '.join(idle)}"] if idle else told


def _changes(before: Sequence[Json], after: Sequence[Json]) -> list[str]:
    """What changes between two stacks, with whole digests: the signer compares them with those of the releases."""
    old, new = ({item["name"]: item for item in stack} for stack in (before, after))
    told = [f"remove {name} {old[name]['version']}" for name in old if name not in new]
    for name, item in new.items():
        was = old.get(name)
        if was is None or was["digest"] != item["digest"]:
            came = f"{was['version']} -> " if was else ""
            told.append(f"{name} {came}{item['version']}, sha256 {item['digest']}")
        if was is not None and was.get("enabled", True) != item.get("enabled", True):
            told.append(f"{name}: enabled {str(item.get('enabled', True)).lower()}")
        options, earlier = item.get("options") or {}, (was or {}).get("options") or {}
        told += [
            f"{name}: {option} {_plan.shown(option, earlier.get(option))} -> {_plan.shown(option, options.get(option))}"
            for option in sorted({*options, *earlier})
            if options.get(option) != earlier.get(option)
        ]
    return told or ["nothing of the stack changes"]


def sign(
    directory: Path, plan: Mapping[str, Any], approver: str, key: Path, rules: Rules, now: float, days: float
) -> Path:
    """Sign ``plan`` as ``approver`` and keep it, once it counts; the file.

    Raises ReleaseError ``runner``, ``approver``, ``key``, ``signers`` or ``not-approved``; OSError.
    """
    check_runner(rules.runner)
    if not PRINCIPAL.fullmatch(approver):
        raise ReleaseError("approver", f"{approver!r} is no name of an approver: give the one in {rules.approvers}.")
    digest, fleet = str(plan["digest"]), str(plan["fleet"])
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(digest, approver)
    partial = path.with_name(f".{path.name}")
    signature = _evidence.signature_of(partial)
    try:
        partial.write_bytes(canonical(statement(digest, fleet, approver, round(now, 3), round(now + days * 86400, 3))))
        signature.unlink(missing_ok=True)
        keys.sign(partial, keys.Signer(key, rules.approvers, throwaway=False, namespace=NAMESPACE))
        found, used = _read(partial, digest, fleet, rules, time.monotonic() + 30)
        _count(found, used, rules, keys_of(rules.approvers, rules.runner), now)
        for file in (partial, signature):
            file.chmod(0o644)
        signature.replace(_evidence.signature_of(path))
        partial.replace(path)
    except ReleaseError as error:
        if error.code == "not-approved":
            raise ReleaseError("not-approved", f"The approval of {approver} {error}.") from error
        raise
    finally:
        partial.unlink(missing_ok=True)
        signature.unlink(missing_ok=True)
    return path
