"""Mounts that only the calling thread and what it starts can see: small disks and read-only directories for tests."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.rig import Rig

NEW_MOUNTS = 0x00020000
LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def own_mounts() -> Iterator[None]:
    """Give the calling thread a mount namespace of its own, and take it back to the common one.

    Whatever was mounted goes with the last process in it, also when the test is killed.
    """
    if os.geteuid() != 0:
        pytest.skip("mounts need root: run the tests as root")
    here = Path.cwd()
    common = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    try:
        _checked(LIBC.unshare(NEW_MOUNTS))
        _mount("--make-rprivate", "/")
        yield
    finally:
        _checked(LIBC.setns(common, NEW_MOUNTS))
        os.close(common)
        os.chdir(here)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def small_disk(path: Path, kib: int) -> None:
    """Make `path` a disk of so many KiB."""
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={kib}k,mode=700", "tmpfs", path)


@contextmanager
def rig_on_disks(root: Path, **kib: int) -> Iterator[Rig]:
    """Give a started node some of whose directories (`hive`, `lightning`) are disks of so many KiB each."""
    with own_mounts():
        for name, size in kib.items():
            small_disk(root / name, size)
        rig = Rig(root)
        rig.start()
        try:
            yield rig
        finally:
            rig.stop()


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Let nobody write below `path` for a while."""
    _mount("--bind", path, path)
    try:
        _mount("-o", "remount,bind,ro", path)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def room(path: Path, pages: int) -> Iterator[None]:
    """Leave so many pages of a small disk free for a while."""
    size = os.sysconf("SC_PAGE_SIZE")
    ballast = path / ".ballast"
    with ballast.open("wb") as file:
        free = os.statvfs(path)
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize // size - pages) * size)
    try:
        yield
    finally:
        ballast.unlink()
