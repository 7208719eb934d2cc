"""A fleet whose gates are all open, on disk and signed with keys of the occasion, and ways to spoil one thing of it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _approvals,
    _evidence,
    _gates,
    _gates_checks,
    _gates_gather,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import canonical

Json = dict[str, Any]

NOW = 1_800_000_000.0
FLEET = "main"
PLAN = hashlib.sha256(b"the plan").hexdigest()
OTHER = hashlib.sha256(b"something else").hexdigest()
RELEASES = tuple(
    _gates.Release(name, "0.1.0", hashlib.sha256(name.encode()).hexdigest(), schema)
    for name, schema in (("cl-hive", 3), ("cl-hive-archon", 1), ("cl-hive-comms", 2))
)
DIGESTS = {release.name: release.digest for release in RELEASES}
NODES = ("alpha", "bravo")
RUNTIMES = ("process", "systemd")
PEOPLE = ("alice", "bob", "runner", "evidence", "stranger")
REVIEWED = _gates_gather.reviewed(Path(_gates.__file__).with_name("_reviewed"))
# Which kinds of evidence each check looks at.
KINDS = {
    "A1": ["suite"],
    "B1": ["install"],
    "B2": ["upgrade"],
    "B3": ["rollback"],
    "B4": ["drill"],
    "C2": ["surface"],
    "C3": ["mcp-tools"],
    "C4": ["runes"],
    "C5": ["audit"],
    "C6": ["sbom"],
    "D1": ["matrix"],
    "D2": ["matrix"],
    "D3": ["matrix"],
}


def good(
    releases: Sequence[_gates.Release] = RELEASES,
    nodes: Sequence[str] = NODES,
    runtimes: Sequence[str] = RUNTIMES,
    fleet: str = FLEET,
) -> dict[str, Json]:
    """The evidence of a fleet whose gates are open, by kind and label."""
    every = {f"{release.name}-{release.version}.pex": release.digest for release in releases}
    digests = {release.name: release.digest for release in releases}
    found: dict[str, Json] = {"mcp-tools": {"subjects": {"mcp-server.py": OTHER, **every, **REVIEWED}}}
    for release in releases:
        own = {f"{release.name}-{release.version}.pex": release.digest}
        for kind in ("suite", "surface", "audit", "sbom"):
            found[f"{kind}-{release.name}"] = {"subjects": {**own, **REVIEWED} if kind == "surface" else own}
    for runtime in runtimes:
        for kind in ("install", "upgrade", "rollback"):
            found[f"{kind}-{runtime}"] = {"subjects": every}
    drilled = [{"name": r.name, "digest": r.digest, "schema_version": r.schema} for r in releases]
    for node in nodes:
        found[f"runes-{node}"] = {"subjects": REVIEWED, "facts": {"fleet": fleet}}
        figures = {"rto_seconds": 2.5, "rpo": {"age_seconds": 60}, "releases": drilled}
        found[f"drill-{node}"] = {"subjects": every, "facts": figures}
    for name, plugins in _gates_checks.COMBINATIONS.items():
        if plugins <= set(digests):
            found[f"matrix-{name}"] = {"subjects": {f"{p}-0.1.0.pex": digests[p] for p in sorted(plugins)}}
    for name in ("mixed", "monolith"):
        found[f"matrix-{name}"] = {"subjects": every}
    return found


def statement(name: str, spec: Mapping[str, Any], now: float = NOW) -> Json:
    """The statement of one spec: `subjects`, and maybe `result`, `age_days`, `expires_days`, `facts`."""
    finished = now - float(spec.get("age_days", 1)) * _gates.DAY
    expires = spec.get("expires_days", 20)
    facts = {
        "kind": name,
        "started_at": finished - 1,
        "finished_at": finished,
        "expires_at": None if expires is None else now + float(expires) * _gates.DAY,
        "command": "make it again",
        **spec.get("facts", {}),
    }
    result = str(spec.get("result", "PASSED"))
    return _evidence.statement(result, spec["subjects"], {}, _evidence.Outcomes(["all"], []), facts)


def evidence(name: str, spec: Mapping[str, Any]) -> _evidence.Evidence:
    """The same, as it is when its signature was verified."""
    made = statement(name, spec)
    own = made["predicate"][_evidence.OWN]
    own["name"] = name
    path = Path("/nowhere") / _evidence.file_name(name, own["finished_at"])
    return _evidence.parse(path, canonical(made), "evidence@test", "SHA256:evidence")


REGISTERS: Mapping[str, Any] = {
    "defects.yml": {"defects": [{"id": "D-1", "title": "slow", "priority": "low", "status": "open"}]},
    "findings.yml": {
        "findings": [
            {
                "id": "F-1",
                "title": "the token is long-lived",
                "severity": "medium",
                "status": "accepted",
                "owner": "alice",
                "control": "rotated weekly",
                "expires_at": "2027-06-01",
            }
        ]
    },
}


@dataclass
class World:
    """The controller's directories, below `root`."""

    root: Path
    now: float = NOW
    fleet: str = FLEET
    plan: str = PLAN
    signers: dict[str, keys.Signer] = field(default_factory=dict)

    @property
    def evidence(self) -> Path:
        return self.root / "evidence"

    @property
    def registers(self) -> Path:
        return self.root / "registers"

    @property
    def approvers(self) -> Path:
        return self.root / "keys/approvers"

    @property
    def places(self) -> _gates_gather.Places:
        signers = self.root / "keys/evidence_signers"
        lists = Path(_gates.__file__).with_name("_reviewed")
        return _gates_gather.Places(self.evidence, signers, self.registers, self.approvers, lists)

    def people(self) -> None:
        """Make everybody's key, and the lists of who may sign what."""
        directory = self.root / "keys"
        directory.mkdir(parents=True, exist_ok=True)
        for name in PEOPLE:
            if not (directory / name).exists():
                command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(directory / name)]
                subprocess.run(command, check=True, timeout=30)
        self.list_approvers("alice", "bob", "runner")
        self.listed("evidence_signers", {"evidence@test": "evidence"}, "evidence")

    def list_approvers(self, *people: str, **more: str) -> None:
        """Say who may approve; `more` are other names for somebody's key."""
        names = {**{f"{person}@test": person for person in people}, **{f"{k}@test": v for k, v in more.items()}}
        self.listed("approvers", names, "approval,git")

    def listed(self, file: str, people: Mapping[str, str], namespaces: str) -> None:
        """Write an allowed_signers file of identities and whose key each is."""
        lines = [f'{name} namespaces="{namespaces}" {self.public(person)}\n' for name, person in people.items()]
        (self.root / "keys" / file).write_text("".join(lines))

    def public(self, person: str) -> str:
        """The public key of somebody, without its comment."""
        return " ".join((self.root / "keys" / f"{person}.pub").read_text().split()[:2])

    def signer(self, person: str, namespace: str) -> keys.Signer:
        return keys.Signer(self.root / "keys" / person, self.approvers, throwaway=False, namespace=namespace)

    def add(self, name: str, spec: Mapping[str, Any]) -> Path:
        """Write one piece of evidence; `signed` is no, stranger, changed, approval (another namespace) or yes."""
        how = str(spec.get("signed", "yes"))
        person = "stranger" if how == "stranger" else "evidence"
        by = self.signer(person, "approval" if how == "approval" else "evidence")
        kind, _, label = name.partition("-")
        path = _evidence.write(self.evidence, kind, label, statement(name, spec, self.now), by)
        if how == "no":
            _evidence.signature_of(path).unlink()
        if how == "changed":
            path.write_bytes(path.read_bytes().replace(b'"make it again"', b'"make it up"'))
        return path

    def add_all(self, specs: Mapping[str, Mapping[str, Any]]) -> None:
        for name, spec in specs.items():
            self.add(name, spec)

    def register(self, changes: Mapping[str, Any] | None = None) -> None:
        """Write the registers; a change of None leaves one out, a text is written as it is."""
        (self.registers / "incidents").mkdir(parents=True, exist_ok=True)
        for name, content in {**REGISTERS, **(changes or {})}.items():
            if content is not None:
                text = content if isinstance(content, str) else yaml.safe_dump(content)
                (self.registers / name).write_text(text)

    def incident(self, **changes: Any) -> None:
        """Add an incident: Sev2, half a year ago, closed."""
        content = {
            "id": "2026-07-15-canary",
            "opened_at": "2026-07-15T08:00:00Z",
            "severity": 2,
            "title": "canary of rollout 7 failed and went back",
            "rollout": "7",
            "stage": "canary",
            "nodes": ["alpha"],
            "reasons": ["it was restarted"],
            "evidence": [],
            "status": "closed",
            "closed_at": "2026-07-16T08:00:00Z",
            **changes,
        }
        (self.registers / "incidents" / f"{content['id']}.yml").write_text(yaml.safe_dump(content))

    def waive(self, *entries: Mapping[str, Any], by: str = "alice", signed: bool = True) -> None:
        """Write waivers and have them signed."""
        path = self.registers / "waivers.yml"
        path.write_text(yaml.safe_dump({"waivers": [dict(entry) for entry in entries]}))
        if signed:
            _evidence.signature_of(path).unlink(missing_ok=True)
            keys.sign(path, self.signer(by, "approval"))

    def approve(self, person: str = "alice", **spec: Any) -> Path:
        """Write an approval: `as`, `age_days`, `days`, `plan`, `fleet`, `words`, `namespace`, `signed`."""
        name = str(spec.get("as", f"{person}@test"))
        at = self.now - float(spec.get("age_days", 1)) * _gates.DAY
        plan, fleet = str(spec.get("plan", self.plan)), str(spec.get("fleet", self.fleet))
        made = _approvals.statement(plan, fleet, name, at, at + float(spec.get("days", 7)) * _gates.DAY)
        if "words" in spec:
            made["predicate"]["statement"] = spec["words"]
        folder = self.evidence / _approvals.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _approvals.file_name(self.plan, name)
        path.write_bytes(canonical(made))
        keys.sign(path, self.signer(person, str(spec.get("namespace", "approval"))))
        if not spec.get("signed", True):
            _evidence.signature_of(path).unlink()
        return path

    def context(self, check: str = "", **changes: Any) -> _gates.Context:
        """What the checks look at, gathered from disk; without `check`, all of it."""
        asked: dict[str, Any] = {
            "fleet": self.fleet,
            "plan": self.plan,
            "releases": RELEASES,
            "nodes": NODES,
            "runtimes": RUNTIMES,
            "runner": "runner@test",
            **changes,
        }
        return _gates_gather.gather(self.places, _gates_gather.Asked(**asked), _gates_gather.GitHub(), self.now)


def repository(root: Path, world: World, tag: str = "v2.9.0", by: str = "alice") -> tuple[Path, str]:
    """A repository whose one commit has a signed tag; its path and the commit."""
    place = root / "production"
    place.mkdir(parents=True)
    git(place, "init", "-q", "-b", "main")
    git(place, "commit", "-q", "--allow-empty", "-m", "baseline")
    sign_tag(place, world, tag, by)
    return place, git(place, "rev-parse", "HEAD").strip()


def sign_tag(place: Path, world: World, tag: str, by: str) -> None:
    key = world.root / "keys" / by
    git(place, "-c", "gpg.format=ssh", "-c", f"user.signingkey={key}", "tag", "-s", "-m", "production", tag)


def git(place: Path, *arguments: str) -> str:
    """What git prints; nobody's own configuration is read."""
    done = subprocess.run(
        ["git", "-C", str(place), "-c", "user.name=Test", "-c", "user.email=test@example.net", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"},
    )
    return done.stdout


def finding(context: _gates.Context, check: str) -> _gates.Finding:
    """What one check says, waivers and all."""
    checks: Sequence[_gates.Check] = [one for one in _gates_checks.CHECKS if one.name == check]
    return _gates.decide(checks, context).findings[0]
