# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What gate C stands on, put together: each thing that was looked at as one statement, or why there can be none.

Controller only.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _audit, _evidence, _mcp, _sbom, _surface
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release, ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._runes import CLASSES
from ansible_collections.lightning_goats.hive.plugins.module_utils._surface import Book, Check

Json = dict[str, Any]

DAY = 86400
COMMAND = "ansible-playbook playbooks/security.yml"
NO_DATABASE = (
    "there is no database of advisories: set hive_advisories to one of OSV or PyPA, or hive_audit_online to true "
    "(docs/runbooks/security.md says how to fetch one)"
)
NO_SERVER = "no MCP server was given: set hive_mcp_server to its source, or to its answer to tools/list as JSON"
# In a line for people; all of them stand in the evidence.
SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """What came of looking at one thing.

    Attributes:
        kind: of the evidence: surface, mcp, runes, audit, sbom.
        label: what it is about: a plugin, a node, or `tools`.
        subjects: by name, the sha256 of what was looked at.
        configuration: the same of what it was held against.
        missing: why nothing could be looked at; then there is no evidence.
    """

    kind: str
    label: str
    subjects: Mapping[str, str] = field(default_factory=dict)
    configuration: Mapping[str, str] = field(default_factory=dict)
    checks: Sequence[Check] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""
    missing: str = ""
    command: str = COMMAND
    changed: bool = False

    @property
    def name(self) -> str:
        """Kind and label, as evidence is called."""
        return f"{self.kind}-{self.label}"

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    @property
    def state(self) -> str:
        """`none`, `PASSED` or `FAILED`."""
        if self.missing:
            return "none"
        return _evidence.FAILED if self.failed else _evidence.PASSED

    @property
    def line(self) -> str:
        """For people: what holds, or what does not."""
        return self.missing or self.reason or self.words

    @property
    def row(self) -> Json:
        """For results and tables."""
        return {"name": self.name, "state": self.state, "detail": self.line, "ok": not self.failed and not self.missing}

    @property
    def reason(self) -> str:
        """What does not hold; empty when all does."""
        told = [f"not so: {check.name}{f' ({check.detail})' if check.detail else ''}" for check in self.failed]
        more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        return "; ".join(told[:SHOWN]) + more


def statement(finding: Finding, started: float, valid_days: float, finished: float | None = None) -> Json:
    """The finding as an in-toto statement."""
    now = time.time() if finished is None else finished
    facts = {
        "kind": finding.name,
        "started_at": started,
        "finished_at": now,
        "expires_at": now + valid_days * DAY if valid_days else None,
        "figures": dict(finding.figures),
        "checks": [check.as_json() for check in finding.checks],
        "reason": finding.reason,
        "command": finding.command,
        **finding.facts,
    }
    outcomes = _evidence.Outcomes(
        [check.name for check in finding.checks if check.ok], [check.name for check in finding.failed]
    )
    return _evidence.statement(finding.state, finding.subjects, finding.configuration, outcomes, facts)


def _subject(release: Release) -> dict[str, str]:
    return {str(release.manifest["artifact"]["file"]): release.digest}


def _about(release: Release) -> Json:
    return {"release": {"name": release.name, "version": release.version, "digest": release.digest}}


def _held_against(book: Book) -> tuple[dict[str, str], dict[str, str]]:
    """The lists, the shipped one and the operator's own: gates look at both among the subjects."""
    return dict(book.digests), dict(book.digests)


def surface(release: Release, book: Book, live: Mapping[str, tuple[Sequence[str], Sequence[Release]]]) -> Finding:
    """Whether a release shows what was reviewed, and lightningd of each node that runs it lists the same.

    Args:
        live: by node, the methods its lightningd knows, and all releases that run there.
    """
    entry = _surface.entry_of(book, release.name, release.version)
    checks = _surface.compare(entry, release.manifest)
    looked = []
    for node, (commands, running) in sorted(live.items()):
        if entry is None or release.digest not in {one.digest for one in running}:
            continue
        reviewed = [found for one in running if (found := _surface.entry_of(book, one.name, one.version))]
        checks += _surface.compare_live(reviewed, release.name, commands, node)
        looked.append(node)
    methods = dict((entry or {}).get("methods") or {})
    by_class = {word: sum(said["class"] == word for said in methods.values()) for word in CLASSES}
    ours, lists = _held_against(book)
    told = ", ".join(f"{count} {word}" for word, count in by_class.items() if count)
    return Finding(
        "surface",
        release.name,
        {**_subject(release), **ours},
        lists,
        checks,
        {"methods": len(methods), "by_class": by_class, "live": len(looked)},
        {**_about(release), "methods": methods, "nodes": looked},
        f"{told} methods, as reviewed" + (f"; the same on {', '.join(looked)}" if looked else ""),
    )


def tools(server: Path | None, book: Book, releases: Sequence[Release]) -> Finding:
    """Whether an MCP server offers the reviewed tools, and calls none read-only that is not."""
    if server is None:
        return Finding("mcp", "tools", missing=NO_SERVER)
    found = _mcp.read(server)
    reviewed = book.content.get("tools") or {}
    checks = _mcp.compare(reviewed, found)
    answered = {str(method) for release in releases for method in release.manifest["rpc_methods"]}
    figures = _mcp.figures(reviewed, found, answered)
    ours, lists = _held_against(book)
    artifacts = {key: digest for release in releases for key, digest in _subject(release).items()}
    by_class = ", ".join(f"{count} {word}" for word, count in figures["by_class"].items())
    return Finding(
        "mcp",
        "tools",
        {found.path.name: found.digest, **artifacts, **ours},
        lists,
        checks,
        figures,
        {"server": found.path.name},
        f"{figures['tools']} tools, as reviewed: {by_class}; these releases answer {figures['answered']}",
    )


def audit(release: Release, found: Sequence[_audit.Found], count: int, source: Mapping[str, Any]) -> Finding:
    """What is known against the things a release carries.

    Args:
        count: how many distributions were asked about.
        source: where the advisories come from: `name`, and of a database `sha256`, `advisories` and `modified_at`.
    """
    checks = [Check(f"{one.package} {one.version} is free of {one.name}", False, one.sentence) for one in found]
    checks = checks or [Check(f"nothing is known against {count} distributions", True)]
    digest = source.get("sha256")
    return Finding(
        "audit",
        release.name,
        _subject(release),
        {str(source["name"]): str(digest)} if digest else {},
        checks,
        {"distributions": count, "vulnerabilities": len(found)},
        {**_about(release), "advisories": dict(source), "vulnerabilities": [one.as_json() for one in found]},
        f"nothing known against {count} distributions, by {source['title']}",
    )


def sbom(release: Release, check_mode: bool = False) -> Finding:
    """The SBOM beside the artifact: made when it is not there, and held against what the artifact says itself."""
    made, path = _sbom.make(release), release.directory / _sbom.FILE
    words = "would be written" if check_mode else "written now"
    before = path.read_bytes() if path.is_file() else None
    if before is None and not check_mode:
        _sbom.write(release)
    document = json.loads(made)
    checks = [
        Check(
            f"{_sbom.FILE} is what the artifact itself says",
            before in (None, made),
            "another one lies there: remove it",
        ),
        _valid(made),
    ]
    checks = [check if not check.ok else Check(check.name, True) for check in checks]
    components = len(document["components"])
    return Finding(
        "sbom",
        release.name,
        {**_subject(release), _sbom.FILE: hashlib.sha256(made).hexdigest()},
        {},
        checks,
        {"components": components, "licences": _sbom.licences(document)},
        {**_about(release), "file": str(path), "format": f"CycloneDX {_sbom.SPEC}"},
        f"{components} components, CycloneDX {_sbom.SPEC}" + ("" if before else f", {words}"),
        changed=before is None,
    )


def _valid(document: bytes) -> Check:
    """Whether it follows CycloneDX's schema. Whoever cannot tell does not say that it does."""
    wrong = _sbom.problem(document)
    name = f"it follows the schema of CycloneDX {_sbom.SPEC}"
    if wrong is None:
        return Check(name, False, "cyclonedx-python-lib and jsonschema are not here: run 'make venv'")
    return Check(name, not wrong, wrong)


def runes(node: str, told: Mapping[str, Any], book: Book, rules: Book, fleet: str) -> Finding:
    """What was found of the runes of a node of a fleet; never a rune."""
    checks: list[Check] = []
    # A dry run makes none, so there is nothing to try.
    planned = [rune["label"] for rune in told["runes"] if rune["made_at"] is None and not rune["failed"]]
    for rune in told["runes"]:
        if rune["label"] in planned:
            continue
        title = f"rune {rune['id']} of {node} does what {rune['label']} may and nothing else"
        checks.append(Check(title, not rune["failed"] and rune["tried"] > 0, "; ".join(rune["failed"][:SHOWN])))
    for other in told["foreign"]:
        if other["unrestricted"]:
            checks.append(
                Check(f"rune {other['id']} of {node} is restricted", False, "whoever holds it can do everything")
            )
        elif other["could_call"]:
            could = ", ".join(other["could_call"])
            checks.append(
                Check(f"rune {other['id']} of {node} cannot take the node over", False, f"it could call {could}")
            )
    safe = sum(not other["unrestricted"] and not other["could_call"] for other in told["foreign"])
    checks.append(Check(f"every rune of {node} that is not ours was looked at ({len(told['foreign'])})", True))
    ours, lists = _held_against(rules)
    shown = [
        {key: rune[key] for key in ("role", "subject", "id", "restrictions", "made_at", "tried")}
        for rune in told["runes"]
    ]
    tried = sum(rune["tried"] for rune in told["runes"])
    names = ", ".join(rune["label"] for rune in told["runes"]) or "no role"
    rest = f"{safe} of others are harmless" if told["foreign"] else "there is none of others"
    later = f"; {', '.join(planned)} would be made" if planned else ""
    return Finding(
        "runes",
        node,
        ours,
        {**lists, **book.digests},
        checks,
        {"runes": len(shown), "tried": tried, "foreign": len(told["foreign"]), "foreign_safe": safe},
        {
            "fleet": fleet,
            "node": {"name": node},
            "runes": shown,
            "revoked": list(told["revoked"]),
            "foreign": list(told["foreign"]),
        },
        f"{names}: {tried} calls tried, each as it should be; {rest}{later}",
        command=f"{COMMAND} --limit {node}",
    )


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each row of a finding, in columns."""
    width = max((len(row["name"]) for row in rows), default=0)
    return [f"{row['name']:<{width}}  {row['state']:<6}  {row['detail']}" for row in rows]


def source_of(path: Path, shown_as: str, database: _audit.Database, max_age_days: float, now: float) -> Json:
    """What evidence says of a database.

    Raises:
        ReleaseError: ``advisories``, it is too old to count.
    """
    old = _audit.stale(database, max_age_days, now)
    if old:
        raise ReleaseError("advisories", f"{shown_as}: {old}.")
    day = time.strftime("%Y-%m-%d", time.gmtime(database.modified_at))
    return {
        "name": path.name,
        "sha256": database.digest,
        "advisories": database.count,
        "modified_at": database.modified_at,
        "title": f"{database.count} advisories up to {day}",
    }
