# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Evidence: what a test of a node has found, as a signed statement that anybody can verify later with ssh-keygen.

One file ``<directory>/<kind>-<label>-<time>.json``, an in-toto Statement with a test result, and its signature beside
it (``ssh-keygen -Y sign``, namespace ``evidence``). The label is what the statement is about beside its subjects: a
node, a plugin, a runtime. What the gates decided is one too, a verification summary. A file that was changed, or
signed by somebody who may not, is no evidence. Runs on the controller only.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _plain_files
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    ReleaseError,
    canonical,
    verify_signature,
)

Json = dict[str, Any]

NAMESPACE = "evidence"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
SUMMARY = "https://slsa.dev/verification_summary/v1"
PASSED, FAILED = "PASSED", "FAILED"
# Our own part of the predicate; in-toto says that whoever does not know a field passes it over.
OWN = "hive"
# Who decides, in a verification summary.
VERIFIER = "https://github.com/lightning-goats/hive-rollout/gates"
NAME = re.compile(r"(?P<name>[a-z][A-Za-z0-9+._@-]*)-(?P<stamp>[0-9]{8}T[0-9]{9}Z)\.json")
# A statement is some kilobytes; a file that claims to be one and is larger than this is not read.
MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Evidence:
    """One statement whose signature was verified.

    ``facts`` is our own part: times in unix seconds, checks, figures, and the command that does it again. ``subjects``
    are the names and sha256 of what the statement is about; ``key`` is the fingerprint of the key that signed, where it
    was looked at.
    """

    path: Path
    signer: str
    result: str
    facts: Json
    subjects: Mapping[str, str] = field(default_factory=dict)
    key: str = ""

    @property
    def finished_at(self) -> float:
        return float(self.facts["finished_at"])

    @property
    def expires_at(self) -> float | None:
        """When it ends to count; None for never."""
        found = self.facts.get("expires_at")
        return None if found is None else float(found)

    @property
    def name(self) -> str:
        """Kind and label, as in its file's name."""
        return split_name(self.path.name)[0]

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True)
class Outcomes:
    """The tests of a statement by how they ended; those that could not be made are warned of."""

    passed: Sequence[str]
    failed: Sequence[str]
    untested: Sequence[str] = ()


def statement(
    result: str,
    subjects: Mapping[str, str],
    configuration: Mapping[str, str],
    tests: Outcomes,
    facts: Mapping[str, Any],
) -> Json:
    """The statement that what is named with its sha256 in ``subjects`` was tested, with ``result``.

    ``configuration`` names, with their sha256, what it was tested with; ``facts`` need ``finished_at``.
    """
    return {
        "_type": STATEMENT,
        "subject": _described(subjects),
        "predicateType": PREDICATE,
        "predicate": {
            "result": result,
            "configuration": _described(configuration),
            "passedTests": list(tests.passed),
            "warnedTests": list(tests.untested),
            "failedTests": list(tests.failed),
            OWN: dict(facts),
        },
    }


def summary(
    result: str,
    subjects: Mapping[str, str],
    inputs: Mapping[str, str],
    policy: Mapping[str, str],
    facts: Mapping[str, Any],
) -> Json:
    """The statement that what is named in ``subjects`` was let pass, or not, on the grounds of ``inputs``.

    ``inputs`` are the names and sha256 of the statements that were looked at; ``policy`` has ``uri`` and ``sha256`` of
    what was asked for, ``facts`` need ``finished_at``, and ``resource`` names what is decided on.
    """
    return {
        "_type": STATEMENT,
        "subject": _described(subjects),
        "predicateType": SUMMARY,
        "predicate": {
            "verifier": {"id": VERIFIER},
            "timeVerified": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(facts["finished_at"]))),
            "resourceUri": str(facts["resource"]),
            "policy": {"uri": policy["uri"], "digest": {"sha256": policy["sha256"]}},
            "inputAttestations": [
                {"uri": name, "digest": {"sha256": digest}} for name, digest in sorted(inputs.items())
            ],
            "verificationResult": result,
            "verifiedLevels": ["HIVE_GATES"] if result == PASSED else [],
            OWN: dict(facts),
        },
    }


def _described(digests: Mapping[str, str]) -> list[Json]:
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]


def write(directory: Path, kind: str, node: str, made: Json, signer: keys.Signer) -> Path:
    """Sign ``made`` and publish it, whole; the file. Raises ReleaseError ``key``, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    finished = float(made["predicate"][OWN]["finished_at"])
    name = f"{kind}-{node}"
    path = directory / file_name(name, finished)
    # Signed with the rest, so that nobody can make it evidence of something else by another name.
    predicate = {**made["predicate"], OWN: {**made["predicate"][OWN], "name": name}}
    partial = path.with_name(f".{path.name}")
    signature = partial.with_name(f"{partial.name}.sig")
    try:
        partial.write_bytes(canonical({**made, "predicate": predicate}))
        signature.unlink(missing_ok=True)
        keys.sign(partial, signer)
        # The signature first: a statement without one is never seen.
        signature.replace(signature_of(path))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        signature.unlink(missing_ok=True)
    return path


def file_name(name: str, finished_at: float) -> str:
    """The one name of the file of a statement: kind and label, and when it was made."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(finished_at)) + f"{int(finished_at * 1000) % 1000:03d}Z"
    return f"{name}-{stamp}.json"


def signature_of(path: Path) -> Path:
    """Where the signature of a statement lies."""
    return path.with_name(f"{path.name}.sig")


def read(path: Path, allowed_signers: Path) -> Evidence:
    """One statement, verified. Raises ReleaseError when it is no evidence."""
    try:
        data = _plain_files.read(path, MAX_BYTES)
    except OSError as error:
        raise ReleaseError("missing", f"{path} cannot be read ({error.strerror}): make new evidence.") from error
    if len(data) > MAX_BYTES:
        raise ReleaseError("schema", f"{path} is larger than {MAX_BYTES} bytes: make new evidence.")
    signer = verify_signature(data, signature_of(path), allowed_signers, NAMESPACE)
    return parse(path, data, signer)


def parse(path: Path, data: bytes, signer: str, key: str = "") -> Evidence:
    """The statement in ``data``, whose signature was verified. Raises ReleaseError ``schema``."""
    try:
        made = json.loads(data)
        predicate = made["predicate"]
        if made["_type"] != STATEMENT:
            raise ValueError("an unknown statement")
        word = {PREDICATE: "result", SUMMARY: "verificationResult"}[made["predicateType"]]
        subjects = {str(item["name"]): str(item["digest"]["sha256"]) for item in made["subject"]}
        found = Evidence(path, signer, str(predicate[word]), dict(predicate[OWN]), subjects, key)
        times = (found.finished_at, 1.0 if found.expires_at is None else found.expires_at)
        if not all(math.isfinite(moment) and moment > 0 for moment in times):
            raise ValueError("no time")
        called = file_name(str(found.facts["name"]), found.finished_at)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReleaseError("schema", f"{path} is no statement that this release reads: make new evidence.") from error
    if path.name != called:
        raise ReleaseError("schema", f"{path} was written as {called}: give it that name again, or make new evidence.")
    return found


def split_name(name: str) -> tuple[str, str]:
    """(kind and label, time) of a file's name; two empty texts for a name that is none of evidence."""
    found = NAME.fullmatch(name)
    return (found["name"], found["stamp"]) if found else ("", "")


def newest(directory: Path, kind: str, node: str, allowed_signers: Path) -> Evidence | None:
    """The newest statement of one kind about one node that verifies, None for none."""
    return next((found for path in _files(directory, kind, node) if (found := _trusted(path, allowed_signers))), None)


def _trusted(path: Path, allowed_signers: Path) -> Evidence | None:
    """One statement; None when it cannot be trusted, because then it says nothing, neither good nor bad."""
    try:
        return read(path, allowed_signers)
    except ReleaseError:
        return None


def _files(directory: Path, kind: str, node: str) -> Iterator[Path]:
    """The statements of one kind about one node, the newest first."""
    name = re.compile(rf"{re.escape(kind)}-{re.escape(node)}-[0-9]{{8}}T[0-9]{{9}}Z\.json")
    found = directory.iterdir() if directory.is_dir() else iter(())
    yield from sorted((path for path in found if name.fullmatch(path.name)), key=lambda path: path.name, reverse=True)
