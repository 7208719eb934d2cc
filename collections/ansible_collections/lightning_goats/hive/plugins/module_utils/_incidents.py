# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Incidents: one YAML file for each stage of a rollout that failed, in a register that people review and close in git.

A run only ever adds a file. Whatever somebody has written into one stays, above all that it is closed. Controller only.
"""

from __future__ import annotations

import calendar
import datetime
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plain_files
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

FOLDER = "incidents"
OPEN, CLOSED = "open", "closed"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
DAY = "%Y-%m-%dT%H:%M:%SZ"
# An incident is some lines; a file that claims to be one and is larger than this is not read.
MAX_BYTES = 256 * 1024
MAX_REASONS = 20
# Every field of an incident, and what it holds. `closed_at` is empty while it is open.
FIELDS: Mapping[str, type] = {
    "id": str,
    "opened_at": str,
    "severity": int,
    "title": str,
    "rollout": str,
    "stage": str,
    "nodes": list,
    "reasons": list,
    "evidence": list,
    "status": str,
    "closed_at": str,
}
# What the register adds for people, if they like.
OPTIONAL = ("remark",)
# Severity 1 by what the engine or the judge call it: lightningd died or stayed down, a channel was lost.
GRAVE_CODES = frozenset(
    ("lightningd-down", "lightningd-stays", "lightningd-does-not-start", "channel-lost", "revert-failed")
)
GRAVE_CHECKS = frozenset(("lightningd", "channels"))
# What a node is at the end of a stage that failed, when it runs what it should.
BACK = frozenset(("reverted", "confirmed", "unchanged", "untouched", "refused", "rolled_back"))
HEADER = (
    "# Written by a run that failed. To close it: status: closed, closed_at: <time>, and what was done as remark.\n"
)


@dataclass(frozen=True)
class Incident:
    """One failed stage. Times are UTC text, so that people can read and write them; severity 1 is the gravest."""

    id: str
    opened_at: str
    severity: int
    title: str
    rollout: str
    stage: str
    nodes: Sequence[str]
    reasons: Sequence[str]
    evidence: Sequence[str]
    status: str = OPEN
    closed_at: str = ""

    @property
    def opened(self) -> float:
        """When it began, in unix seconds."""
        return _seconds(self.opened_at)

    @property
    def closed(self) -> bool:
        return self.status == CLOSED


@dataclass(frozen=True)
class Failure:
    """A stage that failed, as the run knows it.

    Attributes:
        results: what became of each node of the stage (``reverted``, ``failed``, ``unreachable`` and so on).
        codes: the codes of what went wrong on the nodes.
        checks: the names of the judge's checks that failed.
        restarts: restarts of lightningd that nobody had allowed.
        reasons: sentences for people.
        evidence: names of the evidence files that tell more.
    """

    rollout: str
    stage: str
    at: float
    results: Mapping[str, str]
    reasons: Sequence[str]
    codes: frozenset[str] = frozenset()
    checks: frozenset[str] = frozenset()
    restarts: int = 0
    evidence: Sequence[str] = ()


def severity(failure: Failure) -> int | None:
    """1, 2, or None where nothing that ran was touched."""
    if not set(failure.results.values()) - {"refused", "unchanged", "untouched"}:
        return None
    if failure.restarts or failure.codes & GRAVE_CODES or failure.checks & GRAVE_CHECKS:
        return 1
    return 2 if set(failure.results.values()) <= BACK else 1


def write_incident(registers: Path, failure: Failure) -> Path | None:
    """Add the incident of ``failure`` to the register, whole, unless it is there; its file, None for no incident.

    The same stage of the same rollout has one open incident. After that one was closed it gets another.

    Raises:
        OSError: the register cannot be written.
        ReleaseError: what stands there under this name cannot be read.
    """
    grade = severity(failure)
    if grade is None:
        return None
    directory = registers / FOLDER
    directory.mkdir(parents=True, exist_ok=True)
    base = _slug(f"{failure.rollout}-{failure.stage}")
    number = 1
    while True:
        name = base if number == 1 else f"{base}-{number}"
        path = directory / f"{name}.yml"
        if path.exists():
            if not read_incident(path).closed:
                return path
        elif _add(path, _incident(name, grade, failure)):
            return path
        else:
            # Somebody else has just added it: look at that one.
            continue
        number += 1


def _incident(name: str, grade: int, failure: Failure) -> Incident:
    nodes = sorted(node for node, result in failure.results.items() if result not in ("unchanged", "untouched"))
    what = "is not back on a healthy stack" if set(failure.results.values()) - BACK else "went back"
    return Incident(
        id=name,
        opened_at=time.strftime(DAY, time.gmtime(failure.at)),
        severity=grade,
        title=f"{failure.stage} of rollout {failure.rollout} failed and {what}",
        rollout=failure.rollout,
        stage=failure.stage,
        nodes=nodes,
        reasons=[" ".join(reason.split()) for reason in failure.reasons[:MAX_REASONS]] or ["no reason was given"],
        evidence=sorted(failure.evidence),
    )


def _add(path: Path, incident: Incident) -> bool:
    """Write a file that is not there yet; False when it is. Nobody ever sees half of it."""
    text = HEADER + yaml.safe_dump({**asdict(incident), **_lists(incident)}, sort_keys=False, width=120)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a rename, a link never takes the place of a file that came meanwhile.
            os.link(partial, path)
        except FileExistsError:
            return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _lists(incident: Incident) -> Json:
    return {key: list(getattr(incident, key)) for key in ("nodes", "reasons", "evidence")}


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:100] or "rollout"


# Reading


def read_incidents(registers: Path) -> list[Incident]:
    """All incidents of the register, the oldest first; [] where there is none.

    Raises:
        ReleaseError: one of them is not readable. An incident that nobody can read is not one that nobody had.
    """
    directory = registers / FOLDER
    if not directory.is_dir():
        return []
    found = [read_incident(path) for path in sorted(directory.iterdir()) if _is_incident(path)]
    return sorted(found, key=lambda incident: (incident.opened, incident.id))


def _is_incident(path: Path) -> bool:
    return path.suffix in (".yml", ".yaml") and not path.name.startswith(".")


def read_incident(path: Path) -> Incident:
    """One incident. Raises ReleaseError ``register`` with one sentence."""
    try:
        data = _plain_files.read(path, MAX_BYTES)
        if len(data) > MAX_BYTES:
            raise _wrong(path, f"it is larger than {MAX_BYTES} bytes")
        content = _plain_files.load_yaml(data)
    except OSError as error:
        raise _wrong(path, f"it cannot be read, {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _wrong(path, f"it is not YAML, {' '.join(str(error).split())[:120]}") from error
    if isinstance(content, dict):
        content = {key: _text(value) for key, value in content.items()}
    wrong = problem(content, path.stem)
    if wrong:
        raise _wrong(path, wrong)
    return Incident(**{key: content[key] for key in FIELDS})


def problem(content: Any, name: str) -> str:
    """What is wrong with the content of incident file ``name``, "" when nothing is."""
    if not isinstance(content, dict):
        return "it is no mapping"
    missing = [key for key in FIELDS if key not in content]
    unknown = sorted(str(key) for key in content if key not in FIELDS and key not in OPTIONAL)
    if missing or unknown:
        return f"it lacks {missing[0]}" if missing else f"it has the unknown {unknown[0]}"
    for key, kind in FIELDS.items():
        value = content[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"its {key} is {value!r}"
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            return f"its {key} holds something that is no text"
    if not NAME.fullmatch(content["id"]) or content["id"] != name:
        return f"its id is {content['id']!r}, not the name of its file"
    if content["severity"] not in (1, 2, 3):
        return f"its severity is {content['severity']}, not 1, 2 or 3"
    if content["status"] not in (OPEN, CLOSED):
        return f"its status is {content['status']!r}, not {OPEN} or {CLOSED}"
    if not _is_time(content["opened_at"]):
        return f"its opened_at is {content['opened_at']!r}, not a time like 2026-11-28T17:00:00Z"
    closed = content["status"] == CLOSED
    if closed and not _is_time(content["closed_at"]):
        return "it is closed, but its closed_at is not a time like 2026-11-28T17:00:00Z"
    return "" if closed or not content["closed_at"] else "it has a closed_at, but is open"


def _text(value: Any) -> Any:
    """A time without quotes, which YAML reads as one, as the text that it was."""
    if not isinstance(value, datetime.date):
        return value
    if isinstance(value, datetime.datetime):
        # YAML has already taken a time zone into account.
        value = value.astimezone(datetime.timezone.utc) if value.tzinfo else value
    return value.strftime(DAY)


def _is_time(text: str) -> bool:
    try:
        _seconds(text)
    except ValueError:
        return False
    return True


def _seconds(text: str) -> float:
    return float(calendar.timegm(time.strptime(text, DAY)))


def _wrong(path: Path, what: str) -> ReleaseError:
    return ReleaseError("register", f"{path} is no incident: {what}; correct it.")
