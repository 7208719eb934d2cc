# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The decision of the gates as signed evidence: a verification summary of what was looked at. Controller only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _approvals, _evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._gates import Context, Decision
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import canonical

Json = dict[str, Any]

KIND = "decision"
POLICY = "docs/design/gates.md"


def statement(decision: Decision, context: Context, directory: Path) -> Json:
    """What was decided on which grounds; ``directory`` is that of the evidence."""
    subjects = {f"{release.name}-{release.version}.pex": release.digest for release in context.releases}
    if context.plan:
        subjects["plan"] = context.plan
    rules = {
        "days": vars(context.days),
        "needed": context.needed,
        "checks": [[finding.check, finding.title] for finding in decision.findings],
    }
    ends = [finding.expires_at for finding in decision.findings if finding.expires_at is not None]
    facts = {
        "kind": KIND,
        "label": context.fleet,
        "resource": f"fleet/{context.fleet}",
        "started_at": context.now,
        "finished_at": context.now,
        "expires_at": max(min(ends, default=context.now), context.now + 1),
        "decision": decision.word,
        "findings": [finding.as_dict() for finding in decision.findings],
        "remarks": list(decision.remarks),
        "command": "ansible-playbook playbooks/gates.yml",
    }
    names = sorted({name for finding in decision.findings for name in finding.evidence})
    inputs = {name: digest for name in names if (digest := _sha256_of(directory, name))}
    policy = {"uri": POLICY, "sha256": hashlib.sha256(canonical(rules)).hexdigest()}
    result = _evidence.PASSED if decision.allowed else _evidence.FAILED
    # Without any release there is still a fleet that was decided on.
    subjects = subjects or {f"fleet/{context.fleet}": policy["sha256"]}
    return _evidence.summary(result, subjects, inputs, policy, facts)


def _sha256_of(directory: Path, name: str) -> str:
    """sha256 of a file of evidence or of an approval, "" when it is gone since it was looked at."""
    for path in (directory / name, directory / _approvals.FOLDER / name):
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


def write(decision: Decision, context: Context, directory: Path, signer: keys.Signer) -> Path | None:
    """Sign the decision and keep it; None where there is no key to sign with. Raises ReleaseError ``key``, OSError."""
    if not signer.key.is_file():
        return None
    label = "".join(char if char.isalnum() or char in "-_." else "_" for char in context.fleet) or "fleet"
    return _evidence.write(directory, KIND, label, statement(decision, context, directory), signer)
