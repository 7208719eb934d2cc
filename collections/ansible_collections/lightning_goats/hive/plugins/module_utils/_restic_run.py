"""Runs restic for one node: every secret goes by file or by the child's own environment, every answer is JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._engine.backup_lightningd import NEWEST
from ._engine.backup_list import SET_NAME
from ._engine.commands import execute
from ._engine.errors import HiveError
from ._engine.files import make_dir
from ._engine.node import Node
from ._restic import (
    CHANNELS_TAG,
    SET_TAG,
    TAG,
    Policy,
    check_place,
    check_url,
    forgettable,
    is_whole,
    parse_environment,
    refusal,
    tag,
    tags_of,
    trouble,
)
from ._waiting import wait_for

Json = dict[str, Any]

INHERITED = ("PATH", "HOME", "TMPDIR", "SSH_AUTH_SOCK")
LOCK_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Settings:
    """Where the repository is and how it is opened."""

    repository: str
    password_file: str
    environment_file: str = ""
    program: str = "restic"
    options: tuple[str, ...] = ()
    init: bool = False
    dry_run: bool = False
    lock_seconds: float = 120.0
    timeout: float = 3600.0


def secret_text(path: str, variable: str) -> str:
    """Read a file of this node that is nobody else's business.

    Raises:
        HiveError: it is missing, empty, or others can read or change it.
    """
    if not path.startswith("/"):
        raise HiveError(f"{variable} is {path!r}; give an absolute path on the node", "offsite-secret")
    try:
        with Path(path).open(encoding="utf-8") as file:
            facts = os.fstat(file.fileno())
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise HiveError(
            f"{path} cannot be read ({reason}), and without it nothing is copied; put it there (mode 0600) or set "
            f"{variable}",
            "offsite-secret",
        ) from error
    if facts.st_mode & 0o077 or facts.st_uid not in (0, os.geteuid()):
        raise HiveError(f"others can read or change {path}; chown and chmod 600 it, then run again", "offsite-secret")
    if not text.strip():
        raise HiveError(f"{path} is empty, and without it nothing is copied; put the secret there", "offsite-secret")
    return text


class Repository:
    """One restic repository, as one node uses it."""

    def __init__(self, node: Node, settings: Settings) -> None:
        """Check everything that can be checked before restic runs, and refuse rather than do without.

        Raises:
            HiveError: restic, the password or the address is missing or unusable.
        """
        self._node = node
        self._settings = settings
        program = shutil.which(settings.program)
        if program is None:
            raise HiveError(
                f"{settings.program} is not installed on {node.name}; install Debian's restic, or run with -e "
                "hive_offsite_install=true",
                "no-restic",
            )
        self._program = program
        secret_text(settings.password_file, "hive_offsite_password_file")
        given = {}
        if settings.environment_file:
            text = secret_text(settings.environment_file, "hive_offsite_environment_file")
            given = parse_environment(text, settings.environment_file)
        if settings.repository:
            given["RESTIC_REPOSITORY"] = check_url(settings.repository)
        check_place(given.get("RESTIC_REPOSITORY", ""))
        inherited = {key: os.environ[key] for key in INHERITED if key in os.environ}
        self._environment = {"HOME": "/root", **inherited, "LC_ALL": "C", **given}

    def _run(self, arguments: Sequence[str], cwd: Path | None = None, check: bool = False) -> str:
        """Run restic, wait while the repository is locked, and return what it wrote to stdout.

        Raises:
            HiveError: it failed.
        """
        cache = self._node.state_dir / "restic-cache"
        make_dir(cache, self._node.keeper)
        extended = [part for option in self._settings.options for part in ("-o", option)]
        argv = [
            self._program,
            "--password-file",
            self._settings.password_file,
            "--cache-dir",
            str(cache),
            *extended,
            *arguments,
        ]
        locked: list[HiveError] = []

        def attempt() -> str | None:
            done = execute(argv, self._settings.timeout, {}, self._environment, cwd)
            failure = trouble(done.rc, done.err, check)
            if failure is None:
                return done.out
            if failure.code != "restic-locked":
                raise failure
            if not locked:
                # Takes away only what a process that is gone has left.
                execute([*argv[: len(argv) - len(arguments)], "unlock"], 60.0, {}, self._environment, None)
            locked.append(failure)
            return None

        answer = wait_for(attempt, self._settings.lock_seconds, LOCK_POLL_SECONDS)
        if answer is None:
            raise locked[-1]
        return answer

    def _json(self, arguments: Sequence[str], cwd: Path | None = None) -> list[Any]:
        """What restic answers, one value a line."""
        return [json.loads(line) for line in self._run(["--json", *arguments], cwd).splitlines() if line.strip()]

    def snapshots(self) -> list[Json]:
        """The sets of this node, oldest first; makes the repository when there is none and that is wanted."""
        arguments = ["snapshots", "--host", self._node.name, "--tag", f"{SET_TAG},node={self._node.name}"]
        try:
            found = self._json(arguments)
        except HiveError as error:
            if error.code != "restic-missing" or not self._settings.init:
                raise
            if not self._settings.dry_run:
                self._run(["init"])
            return []
        return sorted((found[0] if found else None) or [], key=lambda item: str(item["time"]))

    def whole(self, snapshot: Mapping[str, Any]) -> bool:
        """Whether all that the snapshot promises is listed in it."""
        return is_whole(snapshot, self._json(["ls", str(snapshot["id"])]))

    def newest(self, snapshots: Sequence[Json], name: str = "") -> Json | None:
        """The newest whole one of a set, or of any set when `name` is empty."""
        found = [item for item in snapshots if not name or tag(item, "set") == name]
        return next((item for item in reversed(found) if self.whole(item)), None)

    def named(self, snapshot: str) -> Json:
        """A snapshot of any node by its id.

        Raises:
            HiveError: there is none, it is not ours, or not whole.
        """
        found = self._json(["snapshots", "--tag", SET_TAG, snapshot])
        known = [item for item in (found[0] if found else None) or [] if str(item["id"]).startswith(snapshot)]
        if len(known) != 1 or not self.whole(known[0]):
            raise refusal("no-snapshot", snapshot)
        chosen: Json = known[0]
        return chosen

    def copy(self, name: str, manifest: Json) -> str:
        """Copy a set of the node, prove that all of it arrived, and return the snapshot.

        Raises:
            HiveError: it failed; what arrived of it is forgotten again.
        """
        tags = tags_of(self._node.name, str(manifest.get("node_id") or ""), manifest)
        # From inside the directory, so that it comes back under its own name whatever lies above it.
        arguments = ["backup", "--quiet", "--host", self._node.name, "--tag", ",".join(tags), name]
        try:
            answer = self._json(arguments, self._node.backups_dir)
        except HiveError as error:
            if error.code == "restic-incomplete":
                self.forget([str(item["id"]) for item in self.snapshots() if tag(item, "set") == name])
            raise
        made = next((str(item["snapshot_id"]) for item in answer if item.get("message_type") == "summary"), "")
        if not made or not self.whole({"id": made, "tags": tags}):
            self.forget([made] if made else [])
            raise refusal("restic-incomplete")
        return made

    def copy_channels(self, sha256: str, dry_run: bool) -> bool:
        """Keep the newest channel backup and no other; whether the repository did not have it.

        The older ones go with the next set that is forgotten.
        """
        tags = f"{TAG},{CHANNELS_TAG},node={self._node.name}"
        found = self._json(["snapshots", "--host", self._node.name, "--tag", tags])
        snapshots = (found[0] if found else None) or []
        older = [str(item["id"]) for item in snapshots if tag(item, "sha256") != sha256]
        there = len(older) < len(snapshots)
        if not dry_run:
            if not there:
                arguments = ["backup", "--quiet", "--host", self._node.name, "--tag", f"{tags},sha256={sha256}", NEWEST]
                self._json(arguments, self._node.backups_dir)
            # Also those that a run left which was killed in between.
            if older:
                self._run(["forget", *older])
        return not there

    def check(self, subset: str) -> None:
        """Check the repository's structure, and read a part of its data back.

        Raises:
            HiveError: it is damaged.
        """
        self._run(["check", f"--read-data-subset={subset}"], check=True)

    def thin_out(self, policy: Policy) -> tuple[list[Json], list[Json]]:
        """What the policy keeps of this node's snapshots, and what it gives up; `forget` takes the second.

        The last whole one is never given up.
        """
        scope = ["--host", self._node.name, "--tag", f"{SET_TAG},node={self._node.name}", "--group-by", "host"]
        found = self._json(["forget", "--dry-run", *scope, *policy.arguments()])
        groups = (found[0] if found else None) or []
        keep = [item for group in groups for item in group.get("keep") or []]
        remove = [item for group in groups for item in group.get("remove") or []]
        doomed = forgettable(keep, remove, self.whole)
        everything = sorted([*keep, *remove], key=lambda item: str(item["time"]))
        return [item for item in everything if item["id"] not in doomed], [
            item for item in everything if item["id"] in doomed
        ]

    def forget(self, ids: Sequence[str]) -> None:
        """Forget snapshots and give their room back."""
        if ids:
            self._run(["forget", "--prune", *ids])

    def restore(self, snapshot: Mapping[str, Any]) -> Callable[[Path], Path]:
        """How `take_in` fills its directory from a snapshot."""

        def fill(room: Path) -> Path:
            self._run(["restore", str(snapshot["id"]), "--target", str(room)])
            directory = room / tag(snapshot, "set")
            strange = SET_NAME.fullmatch(tag(snapshot, "set")) is None
            # A tag is what somebody wrote: as a path it could lead out of the room.
            if strange or sorted(path.name for path in room.iterdir()) != [directory.name]:
                raise HiveError(
                    f"snapshot {str(snapshot['id'])[:8]} does not hold what its tags say; take another", "set-damaged"
                )
            return directory

        return fill
