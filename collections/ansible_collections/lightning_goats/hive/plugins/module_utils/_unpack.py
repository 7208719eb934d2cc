"""Makes slots of artifacts: the wheels of each are checked, unpacked for this interpreter and byte-compiled.

A program of its own, `python -IS -c <this source> <request>`: it runs with the rights and the interpreter that
lightningd has, and needs neither pip nor venv there. Every distinct wheel is unpacked and compiled once; further slots
get hard links to its read-only files, so that three plugins with the same libraries cost little more than one, on disk
and, while they run, in memory. It writes one JSON object to stdout.
"""

from __future__ import annotations

import base64
import configparser
import csv
import errno
import functools
import hashlib
import importlib.util
import io
import json
import marshal
import os
import re
import stat
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Dated like the archives we make: byte code is tied to the time of its source, and equal slots are equal.
EPOCH = 315532800
NICE = 5
NOWHERE = Path()
LIBC = "CS_GNU_LIBC_VERSION"
RECORD = re.compile(r"[^/]+\.dist-info/RECORD(\.jws|\.p7s)?")
HASHES = ("sha256", "sha384", "sha512")
# The kernel reads no longer first line than this, and splits it at blanks.
LONGEST_SHEBANG = 120
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SCRIPT = """import sys

from {module} import {first}

if __name__ == "__main__":
    sys.exit({call}())
"""


class RefusalError(Exception):
    """Why a slot is not made; `code` is stable, the message one sentence without the name of the release."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class File:
    """One file of a wheel: where it belongs inside a slot, what it is, and where it was written first."""

    def __init__(self, place: str, sha256: bytes, content: bytes, executable: bool) -> None:
        self.place = place
        self.sha256 = sha256
        self.content = content
        self.mode = 0o555 if executable else 0o444
        self.origin = NOWHERE
        self.python = place.endswith(".py")


class Wheel:
    """One wheel, read, with every file checked against its own record."""

    def __init__(self, name: str, data: bytes, library: str) -> None:
        self.name = name
        self.scripts: dict[str, str] = {}
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.files = list(self._read(archive, library))

    def _read(self, archive: zipfile.ZipFile, library: str) -> Iterator[File]:
        recorded = self._recorded(archive)
        for info in archive.infolist():
            check_path(self.name, info)
            if info.is_dir():
                continue
            content = archive.read(info)
            digest = hashlib.sha256(content).digest()
            # The record and what signs it cannot list themselves.
            if not RECORD.fullmatch(info.filename):
                kind, listed = recorded.pop(info.filename, ("", b""))
                if not kind or hashlib.new(kind, content).digest() != listed:
                    raise RefusalError(
                        "bad-wheel", f"{self.name} holds {info.filename} but its record does not list it as it is"
                    )
            if re.fullmatch(r"[^/]+\.dist-info/entry_points\.txt", info.filename):
                self.scripts = console_scripts(content.decode("utf-8"))
            place = place_of(info.filename, library)
            if place:
                yield File(place, digest, content, bool(info.external_attr >> 16 & stat.S_IXUSR))
        if recorded:
            raise RefusalError("bad-wheel", f"{self.name} lists {min(recorded)} but does not hold it")

    def _recorded(self, archive: zipfile.ZipFile) -> dict[str, tuple[str, bytes]]:
        names = [name for name in archive.namelist() if RECORD.fullmatch(name) and name.endswith("/RECORD")]
        if len(names) != 1:
            raise RefusalError("bad-wheel", f"{self.name} has no record of its files")
        found = {}
        for row in csv.reader(io.StringIO(archive.read(names[0]).decode("utf-8"))):
            kind, _, digest = (row[1] if len(row) > 1 else "").partition("=")
            if kind in HASHES:
                found[row[0]] = (kind, base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)))
        return found


def check_path(wheel: str, info: zipfile.ZipInfo) -> None:
    """Refuse whatever could be written outside of the slot, or is no plain file."""
    parts = info.orig_filename.rstrip("/").split("/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise RefusalError(
            "bad-path", f"{wheel} holds a file with the path {info.orig_filename!r}, which leaves its slot"
        )
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RefusalError("bad-path", f"{wheel} holds {info.filename}, which is a link or a device instead of a file")


def place_of(name: str, library: str) -> str:
    """Where a file of a wheel belongs in a slot; empty for what only serves people at a command line."""
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return f"{library}/{name}"
    kind, _, rest = rest.partition("/")
    if kind in ("purelib", "platlib"):
        return f"{library}/{rest}"
    return rest if kind == "data" and not rest.startswith(("bin/", "lib/", "pyvenv.cfg")) else ""


def console_scripts(text: str) -> dict[str, str]:
    """The commands of a wheel, each with `module:function`."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return dict(parser["console_scripts"]) if parser.has_section("console_scripts") else {}


class Slot:
    """A slot to be: its files by their places, and what its script calls."""

    def __init__(self, target: Path, script: str, function: str, files: dict[str, File]) -> None:
        self.target = target
        self.script = script
        self.function = function
        self.files = files

    def begin(self) -> None:
        """Make its directory, which must not be there."""
        self.target.mkdir(mode=0o755)

    def write(self) -> None:
        """Write what no slot before it has, and link to the rest."""
        for place, file in self.files.items():
            path = self.target / place
            if path == file.origin or not link(file.origin, path):
                write(path, file.content, file.mode)
        self._environment()
        write(self.target / "bin" / self.script, self._starter(), 0o555)

    def share(self) -> None:
        """Link to the byte code of what it shares."""
        for place, file in self.files.items():
            path = self.target / place
            if file.python and path != file.origin and cache_of(file.origin).exists():
                link(cache_of(file.origin), cache_of(path))

    def _environment(self) -> None:
        """Make it a virtual environment, which to an interpreter is a file beside a link to it."""
        # Not through a link that the next upgrade of the system turns to another Python.
        base = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
        version = ".".join(str(part) for part in sys.version_info[:3])
        lines = [f"home = {base.parent}", "include-system-site-packages = false", f"version = {version}", ""]
        write(self.target / "pyvenv.cfg", "\n".join(lines).encode(), 0o444)
        (self.target / "bin").mkdir(mode=0o755)
        (self.target / "bin/python3").symlink_to(base)

    def _starter(self) -> bytes:
        module, _, call = self.function.partition(":")
        interpreter = str(self.target / "bin/python3")
        first = f"#!{interpreter} -I\n"
        if len(first) > LONGEST_SHEBANG or " " in interpreter:
            quoted = interpreter.replace("'", "'\"'\"'")
            first = f"#!/bin/sh\n'''exec' '{quoted}' -I \"$0\" \"$@\"\n' '''\n"
        return (first + SCRIPT.format(module=module, first=call.partition(".")[0], call=call)).encode()


class Compiler:
    """Writes byte code in a process beside this one, while this one writes everything else."""

    def __init__(self, files: list[File]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            os.write(writer, json.dumps(guarded("", lambda: self._run(files))).encode())
            os._exit(0)
        os.close(writer)
        self.reader = reader

    @staticmethod
    def _run(files: list[File]) -> None:
        for file in files:
            code = byte_code(file.origin, file.content)
            if code:
                write(cache_of(file.origin), code, 0o444)

    def wait(self) -> dict[str, Any]:
        """Why it failed; empty when it did not."""
        with os.fdopen(self.reader, "rb") as pipe:
            said = pipe.read()
        os.waitpid(self.pid, 0)
        lost = {"slot": "", "code": "io-error", "message": "its byte code could not be written"}
        return dict(json.loads(said)) if said else lost


class Builder:
    """Plans slots, and remembers which wheels it has read."""

    def __init__(self) -> None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self.library = f"lib/python{version}/site-packages"
        machine = os.uname().machine if struct.calcsize("P") == 8 else "a 32-bit machine"
        self.tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
        self.machine = machine
        self.wheels: dict[str, Wheel] = {}
        self.slots: list[Slot] = []
        self.fresh: list[File] = []

    def plan(self, request: dict[str, Any]) -> None:
        """Read what `request` asks for: artifact, target, script and, by interpreter and machine, wheels."""
        wheels = [self._wheel(data, name) for name, data in self._read(request)]
        files: dict[str, File] = {}
        bringers: dict[str, str] = {}
        for wheel in wheels:
            for file in wheel.files:
                if files.setdefault(file.place, file).sha256 != file.sha256:
                    raise RefusalError(
                        "collision",
                        f"{bringers[file.place]} and {wheel.name} both bring {file.place}, each with another content",
                    )
                bringers.setdefault(file.place, wheel.name)
        script = str(request["script"])
        functions = {wheel.scripts[script] for wheel in wheels if script in wheel.scripts}
        if len(functions) != 1:
            raise RefusalError("no-entry", f"its wheels name {len(functions)} functions for {script}, not one")
        function = functions.pop()
        if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", function):
            raise RefusalError("no-entry", f"it names {function!r} as what to call, which is no function")
        slot = Slot(Path(request["target"]), script, function, files)
        for place, file in files.items():
            if file.origin == NOWHERE:
                file.origin = slot.target / place
                self.fresh.append(file)
        check_room(slot.target.parent, sum(len(file.content) for file in self.fresh))
        self.slots.append(slot)

    def make(self) -> dict[str, Any]:
        """Write what was planned; why it failed, empty when it did not."""
        failed: dict[str, Any] = {}
        for slot in self.slots:
            # Before the compiler begins: it may be the first to write below one of them.
            failed = failed or guarded(str(slot.target), slot.begin)
        compiler = Compiler([] if failed else [file for file in self.fresh if file.python])
        for slot in self.slots:
            failed = failed or guarded(str(slot.target), slot.write)
        failed = {**compiler.wait(), **failed}
        for slot in self.slots:
            failed = failed or guarded(str(slot.target), slot.share)
        return {**failed, "slot": failed["slot"] or str(self.slots[0].target)} if failed else {}

    def _read(self, request: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        """The wheels of the artifact that this interpreter needs."""
        names = request["wheels"].get(f"{self.tag}-{self.machine}")
        if names is None:
            tags = sorted({key.partition("-")[0] for key in request["wheels"]})
            if self.tag not in tags:
                raise RefusalError(
                    "wrong-python", f"it is built for {', '.join(tags)} and {sys.executable} is {self.tag}"
                )
            machines = sorted({key.partition("-")[2] for key in request["wheels"]})
            raise RefusalError("wrong-machine", f"it is built for {', '.join(machines)} and this is {self.machine}")
        with zipfile.ZipFile(request["artifact"]) as archive:
            for name in names:
                check_libc(name)
                try:
                    yield name, archive.read(f".deps/{name}")
                except KeyError:
                    raise RefusalError("bad-artifact", f"its artifact lacks {name}, which its manifest names") from None

    def _wheel(self, data: bytes, name: str) -> Wheel:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self.wheels:
            self.wheels[digest] = Wheel(name, data, self.library)
        return self.wheels[digest]


def check_libc(wheel: str) -> None:
    """Refuse a wheel that needs a newer C library than there is, or another one."""
    needed = min((int(minor) for minor in re.findall(r"manylinux_2_([0-9]+)_", wheel)), default=0)
    if not needed and "-manylinux" not in wheel:
        return
    found = re.fullmatch(r"glibc 2\.([0-9]+).*", (os.confstr(LIBC) or "") if LIBC in os.confstr_names else "")
    if not found:
        raise RefusalError("wrong-machine", f"{wheel} needs glibc, and this system has another C library")
    if int(found.group(1)) < needed:
        raise RefusalError("wrong-machine", f"{wheel} needs glibc 2.{needed}, and this system has 2.{found.group(1)}")


def check_room(above: Path, size: int) -> None:
    """Refuse before the first byte what cannot fit; byte code and directories take about half as much again."""
    facts = os.statvfs(above)
    if facts.f_bavail * facts.f_frsize < size * 3 // 2:
        raise RefusalError("disk-full", f"it needs {(size * 3 // 2 >> 20) + 1} MiB at {above}")


def write(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not be there yet."""
    handle = open_in(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(handle, mode)
        os.utime(handle, (EPOCH, EPOCH))


def open_in(path: Path, flags: int) -> int:
    """Open a file, making its directory on the way if need be."""
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def link(origin: Path, path: Path) -> bool:
    """Give a file a second name; whether that was possible."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        os.link(origin, path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
            return False
        raise
    return True


def cache_of(path: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(path), optimization=""))


def byte_code(path: Path, source: bytes) -> bytes:
    """The content of a .pyc; empty for what does not compile, as templates and files for other Pythons do not."""
    try:
        code = compile(source, str(path), "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError):
        return b""
    header = importlib.util.MAGIC_NUMBER + struct.pack("<LLL", 0, EPOCH, len(source) & 0xFFFFFFFF)
    return header + marshal.dumps(code)


def guarded(target: str, work: Callable[[], None]) -> dict[str, Any]:
    """Do a part of the work for a slot; why it failed, empty when it did not."""
    try:
        work()
    except RefusalError as refusal:
        return {"slot": target, "code": refusal.code, "message": str(refusal)}
    except (zipfile.BadZipFile, UnicodeDecodeError, configparser.Error, ValueError, NotImplementedError) as error:
        return {"slot": target, "code": "bad-artifact", "message": f"its artifact cannot be read ({error})"}
    except OSError as error:
        code = "disk-full" if error.errno in FULL else "io-error"
        return {"slot": target, "code": code, "message": f"{error.filename}: {error.strerror}"}
    return {}


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Make the slots of `request`: all of them are read and found good before the first file is written."""
    os.umask(0o022)
    builder = Builder()
    failed: dict[str, Any] = {}
    for slot in request["slots"]:
        failed = failed or guarded(slot["target"], functools.partial(builder.plan, slot))
    return failed or builder.make() or {"python": builder.tag, "machine": builder.machine}


if __name__ == "__main__":
    os.nice(NICE)
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))))
