# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The signed tag of the last production baseline, verified in its repository or from the stored tag. Controller only.

``registers/baseline.yml`` names tag and commit, and either ``repository`` (a path) or ``object`` (a file beside it with
what ``git cat-file tag <tag>`` prints), so that a controller needs no repository.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _plain_files
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._signatures import Verifier

NAMESPACE = "git"
BEGIN = b"-----BEGIN SSH SIGNATURE-----"
GOOD = re.compile(r'^Good "git" signature for (?P<who>\S+) with ', re.M)
MAX_OBJECT_BYTES = 256 * 1024
# git reads no configuration of whoever runs this: what counts as a good signature is said here.
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}


@dataclass(frozen=True)
class Baseline:
    """A tag that was verified."""

    tag: str
    commit: str
    signer: str
    tagged_at: float | None


def verify(named: Mapping[str, Any], registers: Path, signers: Path, seconds: float) -> Baseline:
    """Verify the tag that the register names, within ``seconds``.

    Raises ReleaseError ``signers``, ``baseline`` or ``deadline``.
    """
    deadline = time.monotonic() + seconds
    verifier = Verifier(signers, NAMESPACE, deadline)
    if named.get("object"):
        return _stored(named, registers / str(named["object"]), verifier)
    return _in_repository(named, _place(registers, str(named["repository"])), signers, deadline)


def _place(registers: Path, repository: str) -> Path:
    path = (registers / Path(repository).expanduser()).resolve()
    if not path.is_dir():
        raise _wrong(f"the repository {path} is not there: clone it, or store the tag (see docs/design/gates.md)")
    return path


def _in_repository(named: Mapping[str, Any], place: Path, signers: Path, deadline: float) -> Baseline:
    tag = str(named["tag"])
    if tag.startswith("-"):
        raise _wrong(f"{tag} is no name of a tag")
    reference = f"refs/tags/{tag}"
    kind = _git(place, ["cat-file", "-t", reference], deadline)
    if kind.returncode != 0:
        raise _wrong(f"{place} has no tag {tag}: {_last(kind)}")
    if kind.stdout.strip() != "tag":
        raise _wrong(f"{tag} is a lightweight tag, which nobody has signed: make one with git tag -s")
    content = _git(place, ["cat-file", "tag", reference], deadline).stdout.encode()
    signed_as = dict(_header(content)).get("tag")
    if signed_as != tag:
        raise _wrong(f"{tag} was made as tag {signed_as} and given another name afterwards")
    if BEGIN not in content:
        # What is a good signature of another kind, the repository's own configuration would say.
        raise _wrong(f"{tag} is not signed by anybody whom {signers} lists for 'git' (it has no SSH signature)")
    settings = [
        "-c",
        "gpg.format=ssh",
        "-c",
        "gpg.ssh.program=ssh-keygen",
        "-c",
        f"gpg.ssh.allowedSignersFile={signers}",
    ]
    checked = _git(place, [*settings, "verify-tag", "--raw", reference], deadline)
    good = GOOD.search(checked.stderr + checked.stdout)
    if checked.returncode != 0 or good is None:
        raise _wrong(f"{tag} is not signed by anybody whom {signers} lists for 'git' ({_last(checked)})")
    points = _git(place, ["rev-parse", "--verify", f"{reference}^{{commit}}"], deadline)
    if points.stdout.strip() != named["commit"]:
        raise _wrong(f"{tag} is on commit {points.stdout.strip()[:12]}, the register says {named['commit'][:12]}")
    return Baseline(tag, str(named["commit"]), good["who"], _tagged_at(content))


def _stored(named: Mapping[str, Any], path: Path, verifier: Verifier) -> Baseline:
    try:
        data = _plain_files.read(path, MAX_OBJECT_BYTES)
    except OSError as error:
        raise _wrong(f"the stored tag {path} cannot be read ({error.strerror})") from error
    start = data.find(BEGIN)
    if start < 0:
        raise _wrong(f"{path} is not a tag that somebody has signed: store what git cat-file tag {named['tag']} prints")
    payload, signature = data[:start], data[start:]
    header = dict(_header(payload))
    if (header.get("type"), header.get("tag")) != ("commit", named["tag"]) or header.get("object") != named["commit"]:
        raise _wrong(
            f"{path} is tag {header.get('tag')} on {header.get('type')} {str(header.get('object'))[:12]}, the register "
            f"says {named['tag']} on {named['commit'][:12]}"
        )
    with tempfile.TemporaryDirectory() as directory:
        beside = Path(directory) / "tag.sig"
        beside.write_bytes(signature)
        try:
            signer, _ = verifier.verify(payload, beside)
        except ReleaseError as error:
            if error.code in ("deadline", "ssh-keygen"):
                raise
            raise _wrong(f"{path} is not signed by anybody whom the approvers' list names for 'git'") from error
    return Baseline(str(named["tag"]), str(named["commit"]), signer, _tagged_at(payload))


def _header(payload: bytes) -> list[tuple[str, str]]:
    """The fields of a tag object, in front of its message."""
    lines = payload.partition(b"\n\n")[0].decode("utf-8", "replace").splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def _tagged_at(payload: bytes) -> float | None:
    words = dict(_header(payload)).get("tagger", "").split()
    return float(words[-2]) if len(words) >= 2 and words[-2].isdigit() else None


def _git(place: Path, arguments: Sequence[str], deadline: float) -> subprocess.CompletedProcess[str]:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ReleaseError("deadline", "git did not answer in time")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(place), "-c", f"safe.directory={place}", *arguments]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env={**kept, **ENVIRONMENT},
            timeout=left,
            check=False,
        )
    except FileNotFoundError as error:
        raise _wrong("git was not found: install it, or store the tag (see docs/design/gates.md)") from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError("deadline", "git did not answer in time") from error


def _last(said: subprocess.CompletedProcess[str]) -> str:
    return ((said.stderr + said.stdout).strip().splitlines() or ["no reason given"])[-1][:200]


def _wrong(what: str) -> ReleaseError:
    return ReleaseError("baseline", what)
