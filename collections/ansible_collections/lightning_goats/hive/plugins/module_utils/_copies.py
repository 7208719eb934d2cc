# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Encrypted copies of backup sets on the controller: made, counted, checked, thinned out, opened. Controller only."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_lightningd import NEWEST
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import (
    Owner,
    canonical,
    disk_error,
    make_dir,
    read_json,
    sync_dir,
)

Json = dict[str, Any]

SUFFIX = ".tar.age"
CHANNELS = f"{NEWEST}.age"
PARTIAL = ".partial-"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Copy:
    """One copy on the controller, and what its note says of it."""

    path: Path
    note: Json

    @property
    def name(self) -> str:
        """The set it is a copy of."""
        return str(self.note["set"])

    @property
    def created_at(self) -> float:
        """When the set was made."""
        return float(self.note["created_at"])

    def sound(self) -> bool:
        """Whether the file is still the one that was written; reads all of it."""
        try:
            if self.path.stat().st_size != int(self.note["bytes"]):
                return False
            return bool(_sum(self.path) == self.note["sha256"])
        except (OSError, KeyError):
            return False


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _age() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise HiveError(
            "pyrage, which encrypts the copies, is not installed on the controller; run `make venv` or pip install "
            "pyrage, or set hive_backup_age_recipients to an empty list",
            "no-age",
        ) from error
    return pyrage


def recipients_of(names: Sequence[str]) -> list[Any]:
    """Read age public keys.

    Raises:
        HiveError: one is none.
    """
    age = _age()

    def read(name: str) -> Any:
        try:
            return age.x25519.Recipient.from_str(name.strip())
        except age.RecipientError as error:
            raise HiveError(
                f"{name[:12]}... in hive_backup_age_recipients is no age public key ({error}); they begin with age1 "
                "and age-keygen shows them",
                "age-recipient",
            ) from error

    return [read(name) for name in names]


def private_text(path: Path, variable: str) -> str:
    """Read a file that only its owner may read.

    Raises:
        HiveError: it is missing, or others can read it too.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise HiveError(
            f"{path} cannot be read ({reason}); set {variable} to the right file", "offsite-secret"
        ) from error
    if mode & 0o077:
        raise HiveError(f"others can read {path}; chmod 600 it, and think about whether they have", "offsite-secret")
    return text


def identities_of(path: Path) -> list[Any]:
    """Read the identities of an age key file.

    Raises:
        HiveError: it is missing, open to others, or has none.
    """
    age = _age()
    lines = [line.strip() for line in private_text(path, "hive_backup_age_identity").splitlines()]
    try:
        found = [age.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except age.IdentityError as error:
        # What it says may quote the line.
        raise HiveError(
            f"{path} is no age key file; each line of one is AGE-SECRET-KEY-1...", "offsite-secret"
        ) from error
    if not found:
        raise HiveError(f"{path} has no age identity; it is one line AGE-SECRET-KEY-1...", "offsite-secret")
    return found


def make_identity(path: Path) -> str:
    """Make an identity unless there is one, and return its public key. The operator has to keep it safe."""
    age = _age()
    if not path.exists():
        identity = age.x25519.Identity.generate()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"# opens copies of backup sets; keep it safe. public key: {identity.to_public()}\n{identity}\n")
        # Several nodes ask at once: whoever links first has made the one that counts.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(name)
        Path(name).unlink()
    return str(identities_of(path)[0].to_public())


class Reading:
    """An iterator of bytes as a file for pyrage, counted and hashed; keeps the error that pyrage would swallow."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._digest = hashlib.sha256()
        self.failure: Exception | None = None

    @property
    def sha256(self) -> str:
        """Of what was read so far."""
        return self._digest.hexdigest()

    def read(self, size: int) -> bytes:
        try:
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        except StopIteration:
            return b""
        except (HiveError, OSError) as error:
            self.failure = error
            raise
        piece = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        self._digest.update(piece)
        return piece


class Writing:
    """A file without a buffer, hashed while it is written: a buffer would fail a second time when it is closed."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0
        self.failure: OSError | None = None

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            self.failure = error
            raise
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()


def chunks_of(path: Path) -> Iterator[bytes]:
    """The content of a file, piece by piece."""
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


class Folder:
    """The copies of one node's sets. Used under `locked` when anything changes.

    Each is a pair: ``<set>.tar.age`` and, written after it, the note ``<set>.json``. A file without its note does not
    count.
    """

    def __init__(self, copies_dir: Path, node: str) -> None:
        self.path = copies_dir / node
        self.node = node

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time; what one that died has left is removed.

        Raises:
            HiveError: another run is at it.
        """
        try:
            make_dir(self.path, Owner(os.geteuid(), os.getegid()))
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise disk_error(error, self.path) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for leftover in self.path.glob(f"{PARTIAL}*"):
                shutil.rmtree(leftover)
            yield
        except BlockingIOError as error:
            raise HiveError(
                f"another run is copying backup sets of {self.node}; wait until it has finished, then run again",
                "copies-busy",
            ) from error
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def workroom(self) -> Iterator[Path]:
        """A closed directory for what is not finished, removed at the end however that comes."""
        room = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self.path))
        try:
            yield room
        finally:
            shutil.rmtree(room)

    def copies(self) -> list[Copy]:
        """All that have a note, oldest first; nothing is read but the notes."""
        found = []
        for path in self.path.glob("*.json"):
            note = read_json(path)
            if isinstance(note, dict) and {"set", "created_at", "bytes", "sha256"} <= set(note):
                found.append(Copy(path.with_suffix(SUFFIX), note))
        return sorted(found, key=lambda copy: (copy.created_at, copy.name))

    def find(self, name: str) -> Copy | None:
        """The copy of a set."""
        return next((copy for copy in self.copies() if copy.name == name), None)

    def make(self, room: Path, facts: Json, source: Iterable[bytes], promised: str, recipients: Sequence[str]) -> Copy:
        """Encrypt a set into the folder; it appears whole or not at all.

        Args:
            room: from `workroom`.
            facts: id and created_at of the set.
            source: its archive.
            promised: what the archive has to hash to, "" when nobody knows.
            recipients: age public keys.

        Raises:
            HiveError: it cannot be read or written, or is not what was promised.
        """
        note = {"set": facts["id"], "created_at": facts["created_at"]}
        return Copy(*self._encrypt(room, str(facts["id"]) + SUFFIX, note, source, promised, recipients))

    def channels(self, recipients: Sequence[str]) -> str:
        """What the channel backup that has a sound copy for these keys hashes to, "" when there is none."""
        path = self.path / CHANNELS
        copy = Copy(path, note_beside(path))
        if copy.note.get("recipients") != sorted(recipients) or not copy.sound():
            return ""
        return str(copy.note.get("archive_sha256"))

    def keep_channels(self, room: Path, source: Iterable[bytes], promised: str, recipients: Sequence[str]) -> Path:
        """Encrypt a channel backup in place of the one before; arguments and errors as of `make`."""
        return self._encrypt(room, CHANNELS, {}, source, promised, recipients)[0]

    def _encrypt(
        self, room: Path, name: str, about: Json, source: Iterable[bytes], promised: str, recipients: Sequence[str]
    ) -> tuple[Path, Json]:
        age, keys = _age(), recipients_of(recipients)
        partial, reading = room / f"{name}.new", Reading(source)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
            writing = Writing(file)
            try:
                age.encrypt_io(reading, writing, keys)
                writing.flush()
                os.fsync(file.fileno())
            except (age.EncryptError, OSError, HiveError) as error:
                cause = reading.failure or writing.failure or error
                if isinstance(cause, OSError):
                    raise disk_error(cause, partial) from error
                if isinstance(cause, HiveError):
                    raise cause from error
                raise HiveError(f"age could not encrypt the copy ({cause}); run again", "no-age") from error
        if promised and reading.sha256 != promised:
            raise HiveError(f"what {self.node} sent was damaged on its way to the controller; run again", "set-damaged")
        note = {
            **about,
            "schema": 1,
            "node": self.node,
            "copied_at": round(time.time(), 3),
            "bytes": writing.size,
            "sha256": writing.sha256,
            "archive_sha256": reading.sha256,
            "recipients": sorted(recipients),
        }
        target = self.path / name
        written = room / f"{name}.note"
        written.write_bytes(canonical(note) + b"\n")
        written.chmod(0o600)
        partial.replace(target)
        written.replace(_note_path(target))
        sync_dir(self.path)
        return target, note

    def thin_out(self, keep: int) -> list[str]:
        """Remove the oldest copies beyond `keep`, and return their names; one that is sound always stays."""
        doomed = removable(self.copies(), keep, Copy.sound)
        for copy in doomed:
            # The note first: a file without one counts for nothing.
            _note_path(copy.path).unlink()
            copy.path.unlink(missing_ok=True)
        return [copy.name for copy in doomed]


def removable(copies: Sequence[Copy], keep: int, sound: Callable[[Copy], bool]) -> list[Copy]:
    """Which copies may go: the oldest beyond `keep`, but never the last one that is sound.

    Args:
        copies: oldest first.
        sound: reads a copy; asked only until one says yes.
    """
    surplus = max(0, len(copies) - max(1, keep))
    doomed, kept = list(copies[:surplus]), copies[surplus:]
    if not doomed or any(sound(copy) for copy in reversed(kept)):
        return doomed
    spared = next((copy for copy in reversed(doomed) if sound(copy)), None)
    return [copy for copy in doomed if copy is not spared]


def open_copy(path: Path, identity: Path, target: Path) -> None:
    """Decrypt a copy into a new file, readable by its owner only.

    Raises:
        HiveError: the copy is missing or damaged, or was made for another identity.
    """
    age, identities = _age(), identities_of(identity)
    try:
        source = path.open("rb")
    except OSError as error:
        raise HiveError(f"the copy {path} cannot be read ({error.strerror}); is the path right?", "no-copy") from error
    with source, os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
        writing = Writing(file)
        try:
            age.decrypt_io(source, writing, identities)
            writing.flush()
        except (age.DecryptError, OSError) as error:
            if writing.failure is not None:
                raise disk_error(writing.failure, target) from error
            if "matching keys" in str(error):
                raise HiveError(
                    f"{identity} does not open {path.name}; name the identity it was made for in "
                    "hive_backup_age_identity",
                    "age-identity",
                ) from error
            raise HiveError(
                f"{path.name} is damaged or cut off; fetch the set from another copy", "copy-damaged"
            ) from error


def _note_path(copy: Path) -> Path:
    return copy.with_name(copy.name.removesuffix(".age").removesuffix(".tar") + ".json")


def note_beside(path: Path) -> Json:
    """What the note beside a copy says, {} when it has none."""
    note = read_json(_note_path(path))
    return note if isinstance(note, dict) else {}


def describe(copy: Copy) -> Json:
    """What a result says of a copy."""
    return {"set": copy.name, "path": str(copy.path), "bytes": int(copy.note["bytes"])}
