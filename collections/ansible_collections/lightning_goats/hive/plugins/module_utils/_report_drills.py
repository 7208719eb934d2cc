# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The last drill of every node in the fleet's status, from evidence that verifies. Pure but for the files it reads."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils._report import Json
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_status import age_words

KIND = "drill"


def add(nodes: dict[str, Json], directory: Path, allowed_signers: Path, now: float) -> None:
    """Give each node of a status its ``drill``, None where there is no evidence, and a note when it needs a look."""
    for name, entry in nodes.items():
        found = _evidence.newest(directory, KIND, name, allowed_signers)
        entry["drill"] = None if found is None else _facts(found, now)
        note = "" if found is None else _note(found, now)
        if note:
            entry["notes"].append(note)
            entry["state"] = "attention" if entry["state"] == "ok" else entry["state"]


def _facts(found: _evidence.Evidence, now: float) -> Json:
    age = round(now - found.finished_at, 1)
    return {
        "result": found.result,
        "age_seconds": age,
        "expired": found.expired(now),
        "set": found.facts.get("set", {}).get("id", ""),
        "rto_seconds": found.facts.get("rto_seconds"),
        "words": age_words(age) if found.result == _evidence.PASSED else f"FAILED {age_words(age)}",
    }


def _note(found: _evidence.Evidence, now: float) -> str:
    if found.result != _evidence.PASSED:
        return f"the last drill failed {age_words(now - found.finished_at)} ago: {found.facts.get('reason', '')}"
    if found.expired(now):
        return "the evidence of the last drill does not count any more: playbooks/drill.yml drills again"
    return ""
