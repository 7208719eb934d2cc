# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Gathers what the checks look at, each part within its deadline. Controller only.

Whatever cannot be had in time, or at all, becomes the reason why its checks block: nothing here ever raises for it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _approvals,
    _baseline,
    _evidence,
    _evidence_all,
    _incidents,
    _registers,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._gates import Context, Days, Release, Trouble
from ansible_collections.lightning_goats.hive.plugins.module_utils._gates_github import open_issues
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._signatures import Verifier, keys_of

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class GitHub:
    """Where issues are asked for; no repository means that nobody is asked."""

    url: str = "https://api.github.com"
    token: str = field(default="", repr=False)
    repositories: Sequence[str] = ()
    label: str = "high-priority"


@dataclass(frozen=True)
class Places:
    """Where everything lies on the controller; paths are absolute."""

    evidence: Path
    evidence_signers: Path
    registers: Path
    approvers: Path
    reviewed: Path
    own: Path | None = None


@dataclass(frozen=True)
class Asked:
    """What is decided on, and by which rules."""

    fleet: str
    plan: str
    releases: Sequence[Release]
    nodes: Sequence[str]
    runtimes: Sequence[str]
    runner: str = ""
    needed: int = 1
    approved: str = ""
    # Whose evidence counts is said by nobody: whoever runs this has made the key, and could sign anything with it.
    throwaway: bool = False
    days: Days = field(default_factory=Days)
    deadline_seconds: float = 20.0


def gather(places: Places, asked: Asked, github: GitHub, now: float) -> Context:
    """Everything that the checks look at; what has to be waited for is waited for at the same time."""
    seconds = asked.deadline_seconds
    digests = [release.digest for release in asked.releases]
    rules = _approvals.Rules(
        asked.needed, places.approvers, asked.runner, _evidence_all.keys_that_signed(places.evidence, digests)
    )
    calls: dict[str, Callable[[], Any]] = {
        "evidence": lambda: _collect(places, asked, seconds),
        "defects": lambda: _registers.read_defects(places.registers),
        "findings": lambda: _registers.read_findings(places.registers),
        "incidents": lambda: _read_incidents(places.registers),
        "waivers": lambda: _read_waivers(places.registers, places.approvers, asked.runner, seconds),
        "baseline": lambda: _baseline.verify(
            _registers.read_baseline(places.registers), places.registers, places.approvers, seconds
        ),
    }
    if asked.needed > 0 and asked.plan:
        calls["approvals"] = lambda: _approvals.look(places.evidence, asked.plan, asked.fleet, rules, now, seconds)
    if github.token or github.repositories:
        calls["issues"] = lambda: open_issues(github.url, github.repositories, github.label, github.token, seconds)
    found = within(calls, seconds)
    return Context(
        now=now,
        fleet=asked.fleet,
        plan=asked.plan,
        releases=asked.releases,
        nodes=asked.nodes,
        runtimes=asked.runtimes,
        evidence=found["evidence"],
        defects=found["defects"],
        findings=found["findings"],
        incidents=found["incidents"],
        waivers=found["waivers"],
        approvals=found.get("approvals") or _approvals.Approvals(),
        baseline=found["baseline"],
        issues=found.get("issues"),
        days=asked.days,
        needed=asked.needed,
        approved=asked.approved,
        reviewed=reviewed(places.reviewed, places.own),
    )


def within(calls: Mapping[str, Callable[[], T]], seconds: float) -> dict[str, T | Trouble]:
    """What each call returns, all at the same time; a Trouble for one that fails or is not back after ``seconds``."""
    found: dict[str, T | Trouble] = {}
    threads = {
        name: threading.Thread(target=_call, args=(name, call, found), daemon=True) for name, call in calls.items()
    }
    for thread in threads.values():
        thread.start()
    limit = time.monotonic() + seconds
    for thread in threads.values():
        thread.join(max(limit - time.monotonic(), 0.0))
    late = Trouble(f"it did not answer within {seconds:g} s: look at what it has to call, then run again")
    # A copy: a late thread must not change what was decided on.
    done = dict(found)
    return {name: done.get(name, late) for name in calls}


def _call(name: str, call: Callable[[], T], found: dict[str, T | Trouble]) -> None:
    try:
        answer: T | Trouble = call()
    except ReleaseError as error:
        answer = Trouble(str(error))
    except OSError as error:
        answer = Trouble(f"{error.filename or name} cannot be used ({error.strerror or type(error).__name__})")
    found[name] = answer


def _collect(places: Places, asked: Asked, seconds: float) -> _evidence_all.Collected:
    if asked.throwaway:
        raise ReleaseError(
            "signers",
            "evidence by a throw-away key counts only where nothing has to be approved: set "
            "hive_evidence_signing_key and hive_evidence_allowed_signers",
        )
    return _evidence_all.collect(places.evidence, places.evidence_signers, seconds)


def _read_incidents(registers: Path) -> list[_incidents.Incident]:
    directory = registers / _incidents.FOLDER
    if not directory.is_dir():
        raise ReleaseError("register", f"{directory} is not there: make it, even when it stays empty.")
    return _incidents.read_incidents(registers)


def _read_waivers(registers: Path, approvers: Path, runner: str, seconds: float) -> list[_registers.Waiver]:
    """The waivers, when an approver signed the file; none where there is no file."""
    path = registers / _registers.WAIVERS
    if not path.exists() and not path.is_symlink():
        return []
    data = _registers.read_bytes(path)
    waivers = _registers.parse_waivers(path, data)
    if not waivers:
        return []
    verifier = Verifier(approvers, _approvals.NAMESPACE, time.monotonic() + seconds)
    signer, key = verifier.verify(data, _evidence.signature_of(path))
    if runner and (signer == runner or key.fingerprint in keys_of(approvers, runner)):
        raise ReleaseError(
            "waivers", f"{path.name} is signed by {runner}, who runs this rollout: have another sign it."
        )
    return waivers


def reviewed(directory: Path, own: Path | None = None) -> dict[str, str]:
    """sha256 of each reviewed list that this checkout has, and ``own/`` of those that the operator has beside them."""
    places = {"": directory, **({"own/": own} if own is not None else {})}
    return {
        f"{prefix}{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for prefix, place in places.items()
        for path in (sorted(place.iterdir()) if place.is_dir() else ())
        if path.suffix == ".toml"
    }
