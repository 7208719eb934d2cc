# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""All evidence of a directory at once, each statement verified, in about a second for some hundred. Controller only."""

from __future__ import annotations

import concurrent.futures
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _plain_files
from ansible_collections.lightning_goats.hive.plugins.module_utils._evidence import Evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._signatures import Verifier, signing_key

# Of one kind and label only the newest are looked at: what is older than these decides nothing.
NEWEST = 50
# ssh-keygen is a process for each signature; more threads than this only wait for each other.
THREADS = 8


@dataclass(frozen=True)
class Collected:
    """What was found, by kind and label (``drill-alpha``), the newest first.

    Attributes:
        found: statements whose signature was verified.
        refused: why each of the others is no evidence, as sentences.
    """

    found: Mapping[str, Sequence[Evidence]] = field(default_factory=dict)
    refused: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def keys(self, digests: Iterable[str]) -> frozenset[str]:
        """The fingerprints of the keys that signed statements about one of ``digests``."""
        wanted = set(digests)
        return frozenset(
            one.key for group in self.found.values() for one in group if wanted & set(one.subjects.values())
        )


def collect(directory: Path, allowed_signers: Path, seconds: float) -> Collected:
    """Read and verify the evidence in ``directory``; what takes longer than ``seconds`` is refused, not waited for.

    Raises ReleaseError ``signers`` where there is evidence and no list of who may sign it.
    """
    paths = _newest(directory)
    if not paths:
        return Collected()
    verifier = Verifier(allowed_signers, _evidence.NAMESPACE, time.monotonic() + seconds)
    found: dict[str, list[Evidence]] = {}
    refused: dict[str, list[str]] = {}
    with concurrent.futures.ThreadPoolExecutor(min(THREADS, 2 * (os.cpu_count() or 1))) as pool:
        for path, answer in zip(paths, pool.map(lambda path: _read(path, verifier), paths), strict=True):
            name, _ = _evidence.split_name(path.name)
            if isinstance(answer, Evidence):
                found.setdefault(name, []).append(answer)
            else:
                refused.setdefault(name, []).append(answer)
    return Collected(found, refused)


def _newest(directory: Path) -> list[Path]:
    """The newest files of each kind and label."""
    groups: dict[str, list[tuple[str, Path]]] = {}
    for path in directory.iterdir() if directory.is_dir() else ():
        name, stamp = _evidence.split_name(path.name)
        if name:
            groups.setdefault(name, []).append((stamp, path))
    return [
        path
        for name in sorted(groups)
        for _, path in sorted(groups[name], key=lambda one: one[0], reverse=True)[:NEWEST]
    ]


def _read(path: Path, verifier: Verifier) -> Evidence | str:
    """One statement, or why it is none."""
    try:
        data = _bytes(path)
        signer, key = verifier.verify(data, _evidence.signature_of(path))
        return _evidence.parse(path, data, signer, key.fingerprint)
    except ReleaseError as error:
        return f"{path.name}: {error}"


def _bytes(path: Path) -> bytes:
    try:
        data = _plain_files.read(path, _evidence.MAX_BYTES)
    except OSError as error:
        raise ReleaseError("missing", f"it cannot be read ({error.strerror})") from error
    if len(data) > _evidence.MAX_BYTES:
        raise ReleaseError("schema", f"it is larger than {_evidence.MAX_BYTES} bytes")
    return data


def keys_that_signed(directory: Path, digests: Iterable[str]) -> frozenset[str]:
    """The fingerprints of the keys under whose signature there is a statement about one of ``digests``.

    Nothing is verified: whoever may have signed evidence of a release is not to approve it, so in doubt a key counts.
    """
    wanted = set(digests)
    return frozenset(key for path in _newest(directory) if (key := _claimed_key(path, wanted)))


def _claimed_key(path: Path, digests: set[str]) -> str:
    try:
        subjects = json.loads(_bytes(path))["subject"]
        if digests & {item["digest"]["sha256"] for item in subjects}:
            return signing_key(_evidence.signature_of(path)).fingerprint
    except (ReleaseError, ValueError, KeyError, TypeError, RecursionError):
        # No evidence for anybody, so nobody signed any.
        return ""
    return ""
