# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Sources of others: one commit of a git repository, read without a work tree. Runs on the controller only.

Whatever was asked for, a tag, a branch or a commit, what is used and recorded is the commit. The repository is mirrored
in the cache, so that a commit that was fetched once is there when its host is not.
"""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import re
import subprocess
import tarfile
import threading
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*")
URL = re.compile(r"(?:https?|ssh|git|file)://.+|[\w.-]+@[\w.-]+:.+")
PROTOCOLS = "file:git:http:https:ssh"
GIT_SECONDS = 600
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Commit:
    """One commit of a repository.

    ``repository`` is where it came from, without credentials; ``when`` its time (unix seconds); ``files`` has, by path,
    content and whether it is executable.
    """

    repository: str
    ref: str
    commit: str
    when: int
    files: dict[str, tuple[bytes, bool]]


def read_commit(repository: str, ref: str, base: Path, cache: Path) -> Commit:
    """The commit that ``ref`` names in ``repository``, a URL or a path from ``base``.

    Raises ReleaseError ``source``: the repository or the ref is not there, is ambiguous, or has uncommitted changes.
    """
    if not REF.fullmatch(ref) or ".." in ref:
        raise ReleaseError(
            "source", f"{ref!r} is no tag, branch or commit: give one as the ref of {_public(repository)}."
        )
    local = None if URL.fullmatch(repository) else (base / repository).resolve()
    if local is not None and not local.is_dir():
        raise ReleaseError("source", f"{local} is not there: give the path or the URL of a git repository.")
    origin = str(local) if local is not None else repository
    mirror = cache / "git" / f"{hashlib.sha256(origin.encode()).hexdigest()[:16]}.git"
    with _ONE_AT_A_TIME:
        if not (mirror / "HEAD").is_file():
            mirror.mkdir(parents=True, exist_ok=True)
            _git(mirror, "init", "--quiet", "--bare", what=origin)
        if not (COMMIT.fullmatch(ref) and _has(mirror, ref)):
            names = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            _git(mirror, "fetch", "--quiet", "--prune", "--no-recurse-submodules", origin, *names, what=origin)
        commit = _resolve(mirror, ref, origin)
    if local is not None:
        _refuse_dirty(local, commit)
    when = int(_git(mirror, "log", "-1", "--format=%ct", commit, what=origin).split()[0])
    return Commit(_public(repository), ref, commit, when, _files(mirror, commit, origin))


def commit_files(repository: Path, commit: str) -> dict[str, tuple[bytes, bool]]:
    """The files of one commit of a repository on this machine, whatever its work tree holds by now.

    Raises ReleaseError ``source``: it has no such commit.
    """
    return _files(repository, commit, str(repository))


def _has(mirror: Path, commit: str) -> bool:
    return _run(mirror, "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


def _resolve(mirror: Path, ref: str, origin: str) -> str:
    """The commit of a tag, a branch or a whole commit; a name that means two commits means none."""
    found = set()
    for name in (f"refs/tags/{ref}", f"refs/heads/{ref}", ref if COMMIT.fullmatch(ref) else ""):
        if name:
            done = _run(mirror, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
            found |= set(done.stdout.decode().split())
    if len(found) == 1:
        return found.pop()
    if found:
        raise ReleaseError(
            "source", f"{ref} is a tag and a branch of {_public(origin)}, of two commits: give the whole commit."
        )
    raise ReleaseError(
        "source",
        f"{_public(origin)} has no tag or branch {ref}, and no commit of that whole name: correct the ref.",
    )


def _refuse_dirty(local: Path, commit: str) -> None:
    """What lies in a work tree and is in no commit would not be in the release, though its author may think so."""
    head = _run(local, "rev-parse", "HEAD").stdout.decode().strip()
    status = _run(local, "status", "--porcelain")
    if head == commit and status.returncode == 0 and status.stdout.strip():
        changed = status.stdout.decode("utf-8", "replace").splitlines()[0][3:]
        raise ReleaseError(
            "source", f"{local} has changes that are in no commit ({changed}): commit them, or release another ref."
        )


def _files(mirror: Path, commit: str, origin: str) -> dict[str, tuple[bytes, bool]]:
    """The files of a commit, without those for its host; a link counts as what it points to."""
    done = _run(mirror, "-c", "tar.umask=0022", "-c", "core.autocrlf=false", "archive", "--format=tar", commit)
    if done.returncode != 0:
        raise ReleaseError("source", f"git could not read {commit[:12]} of {_public(origin)} ({_said(done)}).")
    files: dict[str, tuple[bytes, bool]] = {}
    links: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            if member.name.startswith("."):
                continue
            if member.issym():
                links[member.name] = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
            elif member.isfile():
                content = archive.extractfile(member)
                assert content is not None, "a file without content"
                files[member.name] = (content.read(), bool(member.mode & 0o100))
    for name, target in links.items():
        if target not in files:
            raise ReleaseError(
                "source",
                f"{name} of {_public(origin)} is a link to {target}, which is no file of it: release another ref.",
            )
    return {**files, **{name: files[target] for name, target in links.items()}}


def _public(repository: str) -> str:
    """A URL without the credentials in it."""
    return re.sub(r"^(\w+://)[^/@]*@", r"\1", repository)


def _git(directory: Path, *arguments: str, what: str) -> str:
    done = _run(directory, *arguments)
    if done.returncode != 0:
        raise ReleaseError(
            "source",
            f"git could not {arguments[0]} {_public(what)} ({_said(done)}): correct it, or its host's access.",
        )
    return done.stdout.decode()


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"rc {done.returncode}"]
    return _public(re.sub(r"(\w+://)[^/@\s]*@", r"\1", lines[-1]))


def _run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in ``directory``, never asking for a password."""
    # A repository given by GIT_DIR and the like is not the one that was asked for.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": PROTOCOLS, "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        return subprocess.run(
            ["git", "-c", "safe.directory=*", *arguments],
            cwd=directory,
            env={**quiet, **kept, "GIT_ALLOW_PROTOCOL": PROTOCOLS},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=GIT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise ReleaseError("source", "git was not found: install it on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError("source", f"git did not end within {GIT_SECONDS} s: look at the connection.") from error
