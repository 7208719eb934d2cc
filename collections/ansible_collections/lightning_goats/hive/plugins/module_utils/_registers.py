# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The registers that people keep in git beside the inventory: defects, audit findings, waivers. Controller only.

Each is one YAML file with one list. What cannot be read, or says something that nobody here understands, is an error,
never an empty register. Incidents have a file each and are read by ``_incidents``.
"""

from __future__ import annotations

import calendar
import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plain_files
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

LEVELS = ("high", "medium", "low")
DEFECTS, FINDINGS, WAIVERS, BASELINE = "defects.yml", "findings.yml", "waivers.yml", "baseline.yml"
# Registers are reviewed by people; a file that is larger than this is not one of them.
MAX_BYTES = 1024 * 1024
TIME, DAY = "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"
# The subject of a waiver that holds for everything a check looks at.
FLEET = "fleet"


@dataclass(frozen=True)
class Defect:
    """A known defect of the plugins or of the deployment."""

    id: str
    title: str
    priority: str
    status: str

    @property
    def blocks(self) -> bool:
        return self.status == "open" and self.priority == "high"


@dataclass(frozen=True)
class AuditFinding:
    """A finding of an audit; an accepted one has an owner, a compensating control and an end."""

    id: str
    title: str
    severity: str
    status: str
    owner: str = ""
    control: str = ""
    expires_at: float | None = None

    def problem(self, now: float) -> str:
        """Why it stands against a release, "" when it does not."""
        if self.severity == "low" or self.status == "resolved":
            return ""
        if self.status == "open":
            return f"{self.id} ({self.severity}) is open: {self.title}"
        if self.expires_at is None or now >= self.expires_at:
            return f"{self.id} ({self.severity}) was accepted until {day(self.expires_at)}: {self.title}"
        return ""


@dataclass(frozen=True)
class Waiver:
    """Somebody answers for a check that does not pass: for one subject, with a control, until a time."""

    check: str
    subject: str
    owner: str
    reason: str
    control: str
    expires_at: float

    def as_dict(self) -> Json:
        return {key: getattr(self, key) for key in ("owner", "reason", "control", "expires_at")}


def read_defects(registers: Path) -> list[Defect]:
    """The register of defects. Raises ReleaseError ``register``."""
    return [_defect(*one) for one in _entries(registers / DEFECTS, "defects")]


def read_findings(registers: Path) -> list[AuditFinding]:
    """The register of audit findings. Raises ReleaseError ``register``."""
    return [_finding(*one) for one in _entries(registers / FINDINGS, "findings")]


def parse_waivers(path: Path, data: bytes) -> list[Waiver]:
    """The waivers in ``data``, whose signature was verified. Raises ReleaseError ``register``."""
    return [_waiver(*one) for one in _listed(path, data, "waivers")]


def read_baseline(registers: Path) -> Json:
    """What ``baseline.yml`` names: tag and commit, and the repository or the stored tag. Raises ReleaseError."""
    path = registers / BASELINE
    content = _mapping(path, read_bytes(path), {"tag", "commit"}, {"repository", "object"})
    wrong = Wrong(path, "it")
    found = {key: wrong.text(content, key) for key in content}
    if len(found["commit"]) not in (40, 64) or set(found["commit"]) - set("0123456789abcdef"):
        raise wrong("has a commit that is no full id: write what git rev-parse shows")
    if bool(found.get("repository")) == bool(found.get("object")):
        raise wrong("has to name either a repository or an object (the stored tag), and not both")
    return found


def day(moment: float | None) -> str:
    """A time as people write it."""
    return "never" if moment is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(moment)) + " UTC"


def _defect(entry: Mapping[str, Any], wrong: Wrong) -> Defect:
    wrong.keys(entry, {"id", "title", "priority", "status"}, {"remark"})
    return Defect(
        wrong.text(entry, "id"),
        wrong.text(entry, "title"),
        wrong.one_of(entry, "priority", LEVELS),
        wrong.one_of(entry, "status", ("open", "closed")),
    )


def _finding(entry: Mapping[str, Any], wrong: Wrong) -> AuditFinding:
    wrong.keys(entry, {"id", "title", "severity", "status"}, {"owner", "control", "expires_at", "remark"})
    status = wrong.one_of(entry, "status", ("open", "resolved", "accepted"))
    accepted = status == "accepted"
    return AuditFinding(
        wrong.text(entry, "id"),
        wrong.text(entry, "title"),
        wrong.one_of(entry, "severity", LEVELS),
        status,
        wrong.text(entry, "owner") if accepted else "",
        wrong.text(entry, "control") if accepted else "",
        wrong.moment(entry, "expires_at") if accepted else None,
    )


def _waiver(entry: Mapping[str, Any], wrong: Wrong) -> Waiver:
    words = ("check", "subject", "owner", "reason", "control")
    wrong.keys(entry, {*words, "expires_at"}, {"remark"})
    texts = {word: wrong.text(entry, word) for word in words}
    return Waiver(**texts, expires_at=wrong.moment(entry, "expires_at"))


class Wrong:
    """Says what is wrong with one entry of a register."""

    def __init__(self, path: Path, entry: str) -> None:
        self._path = path
        self._entry = entry

    def __call__(self, what: str) -> ReleaseError:
        return ReleaseError("register", f"{self._path} is no register to rely on: {self._entry} {what}; correct it.")

    def keys(self, entry: Any, needed: set[str], more: set[str]) -> None:
        """Refuse an entry that lacks something or says something that nobody reads."""
        if not isinstance(entry, Mapping):
            raise self("is no mapping")
        missing, unknown = sorted(needed - set(entry)), sorted(str(key) for key in set(entry) - needed - more)
        if missing or unknown:
            raise self(f"lacks {missing[0]}" if missing else f"has the unknown {unknown[0]}")

    def text(self, entry: Mapping[str, Any], key: str) -> str:
        """The text under ``key``, which must say something."""
        found = entry.get(key)
        if isinstance(found, (bool, list, Mapping)) or found is None or not str(found).strip():
            raise self(f"has no {key}" if found in (None, "") else f"has a {key} that is no text: {found!r}")
        return " ".join(str(found).split())

    def one_of(self, entry: Mapping[str, Any], key: str, words: Sequence[str]) -> str:
        """The word under ``key``, which must be one of ``words``."""
        found = self.text(entry, key)
        if found not in words:
            raise self(f"has {key} {found!r}, not {', '.join(words[:-1])} or {words[-1]}")
        return found

    def moment(self, entry: Mapping[str, Any], key: str) -> float:
        """The time under ``key`` in unix seconds; a day is its first second."""
        found = entry.get(key)
        if isinstance(found, datetime.datetime):
            found = found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)
            return found.timestamp()
        try:
            return float(calendar.timegm(time.strptime(str(found), TIME if "T" in str(found) else DAY)))
        except ValueError as error:
            example = "a day like 2026-12-31 or a time like 2026-12-31T12:00:00Z"
            raise self(f"has {key} {found!r}, not {example}") from error


Entry = tuple[Mapping[str, Any], Wrong]


def _entries(path: Path, word: str) -> list[Entry]:
    return _listed(path, read_bytes(path), word)


def _listed(path: Path, data: bytes, word: str) -> list[Entry]:
    """The entries of the one list of a register."""
    listed = _mapping(path, data, {word}, set())[word]
    if not isinstance(listed, list):
        raise Wrong(path, word)("is no list: write [] for none")
    return [(entry, Wrong(path, f"entry {number}")) for number, entry in enumerate(listed, 1)]


def read_bytes(path: Path) -> bytes:
    """The content of a register. Raises ReleaseError ``register``."""
    try:
        data = _plain_files.read(path, MAX_BYTES)
    except OSError as error:
        raise ReleaseError(
            "register", f"{path} cannot be read ({error.strerror}): write the register, even when it is empty."
        ) from error
    if len(data) > MAX_BYTES:
        raise Wrong(path, "it")(f"is larger than {MAX_BYTES} bytes")
    return data


def _mapping(path: Path, data: bytes, needed: set[str], more: set[str]) -> Mapping[str, Any]:
    wrong = Wrong(path, "it")
    try:
        content = _plain_files.load_yaml(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise wrong(f"is no YAML ({' '.join(str(error).split())[:120]})") from error
    wrong.keys(content, needed, more)
    found: Mapping[str, Any] = content
    return found
