"""Private files and directories, made with their final mode: there is no moment at which another user can open them."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from hive_kit.errors import SecretError, StorageError

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600
KEY_FILE = 0o400


def make_private_directory(path: Path) -> None:
    """Create `path` and its missing parents with mode 0700; an existing directory is left as it is.

    Raises:
        StorageError: it cannot be made, or something else has that name.
    """
    missing = [path, *path.parents]
    for directory in reversed([p for p in missing if not p.exists()]):
        try:
            directory.mkdir(mode=PRIVATE_DIRECTORY)
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageError(
                f"cannot make the directory {directory}: {error.strerror}; make it or choose another"
            ) from error
    if not path.is_dir():
        raise StorageError(f"{path} is not a directory; move it away or choose another path")


def create_private_file(path: Path, mode: int = PRIVATE_FILE) -> bool:
    """Create an empty file with exactly `mode`. Returns False when it exists already.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(f"cannot make {path}: {error.strerror}; check the directory and the disk") from error
    os.fchmod(descriptor, mode)  # the umask may have taken bits away, never added any
    os.close(descriptor)
    return True


def write_key_file(path: Path, content: bytes) -> None:
    """Write a key once: complete and with mode 0400 from its first moment, or not at all; never over an existing file.

    Raises:
        SecretError: the file exists, or cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, KEY_FILE)
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(partial, path)  # unlike rename, refuses to replace
        finally:
            partial.unlink()
        sync_directory(path.parent)
    except FileExistsError as error:
        raise SecretError(f"{path} exists already; it is never overwritten") from error
    except OSError as error:
        raise SecretError(f"cannot write {path}: {error.strerror}; check the directory and the disk") from error


def read_key_file(path: Path) -> bytes:
    """Read a key that nobody but its owner can read.

    Raises:
        SecretError: it is missing, or its mode lets others read it.
    """
    try:
        with path.open("rb") as handle:
            mode = stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
            if mode & 0o077:
                raise SecretError(f"{path} has mode {mode:04o}, so others may have read it; set it to 0400")
            return handle.read()
    except FileNotFoundError as error:
        raise SecretError(f"{path} is missing; restore it from the newest backup set") from error
    except OSError as error:
        raise SecretError(f"cannot read {path}: {error.strerror}") from error


def sync_directory(path: Path) -> None:
    """Make names that were just created in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
