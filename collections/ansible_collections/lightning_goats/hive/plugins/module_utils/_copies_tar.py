"""A backup set as one stream and back: each file is held against the manifest on its way, in both directions."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ._engine.backup_list import MANIFEST, SET_NAME, SIGNATURE
from ._engine.errors import HiveError
from ._engine.files import Owner, disk_error, make_dir, sync_dir

# What is in a set without being named by its manifest: the signature over the manifest.
UNNAMED = (SIGNATURE,)
CHUNK = 1 << 20
MANIFEST_BYTES = 64 << 20


def damaged(name: str, where: str) -> HiveError:
    """The refusal of a file that is not what the manifest says."""
    return HiveError(f"{name} of {where} is missing or damaged; use another set or copy", "set-damaged", file=name)


def tar_of(directory: Path) -> Iterator[bytes]:
    """Give a set as a tar archive, piece by piece, the same bytes each time; the manifest comes first.

    Raises:
        HiveError: a file is not what the manifest says, or cannot be read.
    """
    where = f"backup set {directory.name}"
    try:
        content = (directory / MANIFEST).read_bytes()
        files = _files(content, where)
        yield from _member(MANIFEST, len(content), [content])
        for name in UNNAMED:
            if (directory / name).is_file():
                content = (directory / name).read_bytes()
                yield from _member(name, len(content), [content])
        for name in sorted(files):
            yield from _file(directory, name, files[name], where)
    except FileNotFoundError as error:
        raise damaged(str(Path(str(error.filename)).name), where) from error
    except OSError as error:
        raise HiveError(
            f"{error.filename or directory} cannot be read ({error.strerror}); run as the user who owns it or as "
            "root (ansible_become)",
            "not-allowed",
        ) from error
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _file(directory: Path, name: str, facts: dict[str, Any], where: str) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    with (directory / name).open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if length != int(facts["bytes"]):
            raise damaged(name, where)

        def read() -> Iterator[bytes]:
            nonlocal size
            for chunk in iter(lambda: file.read(CHUNK), b""):
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        yield from _member(name, length, read())
    if size != length or digest.hexdigest() != facts["sha256"]:
        raise damaged(name, where)


def _member(name: str, length: int, content: Any) -> Iterator[bytes]:
    """One file of the archive: nothing of the machine it comes from, no owner and no time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = length, 0o600
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield from content
    yield b"\0" * (-length % tarfile.BLOCKSIZE)


def unpack(stream: IO[bytes], parent: Path, owner: Owner) -> Path:
    """Write the set of an archive below ``parent``, under its own name, and return its directory.

    Nothing but regular files that the manifest names is taken, and each only with the content that it promises.

    Raises:
        HiveError: the archive is none, not whole, or holds what a set never holds.
    """
    where = "the copy"
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            members = iter(archive)
            first = next(members, None)
            if first is None or first.name != MANIFEST or not first.isreg() or first.size > MANIFEST_BYTES:
                raise damaged(MANIFEST, where)
            content = _content(archive, first)
            files = _files(content, where)
            directory = parent / _name(content, where)
            where = f"the copy of backup set {directory.name}"
            make_dir(directory, owner)
            _write(directory / MANIFEST, io.BytesIO(content), owner)
            seen = set()
            for member in members:
                if not member.isreg() or member.name in seen or member.name not in (*files, *UNNAMED):
                    raise HiveError(
                        f"{where} holds {member.name!r}, which its manifest does not name; do not use it", "set-damaged"
                    )
                seen.add(member.name)
                target = directory / member.name
                make_dir(target.parent, owner)
                source = archive.extractfile(member)
                digest = _write(target, source or io.BytesIO(), owner)
                facts = files.get(member.name)
                if facts is not None and (digest != facts["sha256"] or member.size != int(facts["bytes"])):
                    raise damaged(member.name, where)
            for name in sorted(set(files) - seen):
                raise damaged(name, where)
    except (tarfile.TarError, EOFError) as error:
        raise HiveError(
            f"{where} is cut off or no archive of a backup set ({error}); use another", "set-damaged"
        ) from (error)
    for folder in sorted({directory, *(path.parent for path in directory.rglob("*"))}):
        sync_dir(folder)
    return directory


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = archive.extractfile(member)
    return source.read() if source is not None else b""


def _write(path: Path, source: IO[bytes], owner: Owner) -> str:
    """Write a new file, synced, and return its sha256."""
    digest = hashlib.sha256()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            if owner.foreign:
                os.fchown(handle, owner.uid, owner.gid)
            for chunk in iter(lambda: source.read(CHUNK), b""):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(handle)
    except OSError as error:
        raise disk_error(error, path) from error
    return digest.hexdigest()


def _manifest(content: bytes, where: str) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise damaged(MANIFEST, where)
    return manifest


def _files(content: bytes, where: str) -> dict[str, dict[str, Any]]:
    """What the manifest names, by path inside the set."""
    files: dict[str, dict[str, Any]] = _manifest(content, where)["files"]
    for name, facts in files.items():
        path = PurePosixPath(name)
        strange = path.is_absolute() or ".." in path.parts or str(path) != name or name in (MANIFEST, *UNNAMED)
        if strange or not isinstance(facts, dict) or not {"sha256", "bytes"} <= set(facts):
            raise HiveError(f"the manifest of {where} names {name!r}, which no set has; do not use it", "set-damaged")
    return files


def _name(content: bytes, where: str) -> str:
    name = str(_manifest(content, where).get("id"))
    if SET_NAME.fullmatch(name) is None:
        raise damaged(MANIFEST, where)
    return name
