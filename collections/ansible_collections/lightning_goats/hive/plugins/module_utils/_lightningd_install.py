"""Versions of lightningd side by side on a node, each under the digest of the archive it came from."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ._engine.commands import execute
from ._engine.errors import HiveError
from ._engine.files import Owner, canonical, disk_error, read_json, remove_tree, sync_dir, write_atomic
from ._engine.processes import in_use
from ._slots import stat_digest, tree_digest

SHORT = 12
MARKER = "release.json"
UNITS = Path("/etc/systemd/system")
VERSION_SECONDS = 20.0
MEMBERS = 20_000
BYTES = 2 << 30
BLOCK = 1 << 20
VERSION = re.compile(r"v?\d+\.\d+\S*")
# e_machine of an ELF file, by what uname calls the machine.
MACHINES = {"x86_64": 62, "aarch64": 183, "armv7l": 40, "riscv64": 243, "ppc64le": 21}

Rights = dict[str, Any]


@dataclass(frozen=True)
class Installed:
    """One version on the node.

    Attributes:
        prefix: the directory with `bin` in it.
        digest: sha256 of its archive; empty for one that was there already.
    """

    version: str
    prefix: Path
    digest: str
    signer: str = ""

    @property
    def program(self) -> Path:
        return self.prefix / "bin" / "lightningd"

    def as_facts(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "program": str(self.program),
            "cli": str(self.prefix / "bin" / "lightning-cli"),
            "prefix": str(self.prefix),
            "digest": self.digest,
            "signer": self.signer,
        }


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a version for comparing: v25.12.1 -> (25, 12, 1); a candidate is older than its release."""
    numbers = re.match(r"v?(\d+(?:\.\d+)*)(rc(\d+))?", text)
    if numbers is None:
        raise HiveError(f"{text!r} is no version of lightningd", "version")
    parts = [int(part) for part in numbers.group(1).split(".")]
    parts += [0] * (4 - len(parts))
    return (*parts, int(numbers.group(3)) if numbers.group(2) else 1 << 30)


def directory_of(root: Path, digest: str) -> Path:
    """Return where the version of an archive lies."""
    return root / digest[:SHORT]


def find(root: Path, digest: str) -> Installed | None:
    """Return a version that is there whole; None when it is not, or was changed since."""
    path = directory_of(root, digest)
    marker = read_json(path / MARKER)
    if not isinstance(marker, dict) or marker.get("digest") != digest:
        return None
    tree = path / "root"
    if marker.get("stat") != stat_digest(tree) and marker.get("tree") != tree_digest(tree):
        return None
    return Installed(marker["version"], tree / marker["prefix"], digest, marker.get("signer", ""))


def installed(root: Path) -> list[dict[str, Any]]:
    """Return all versions on the node, oldest first."""
    if not root.is_dir():
        return []
    markers = [read_json(path / MARKER) for path in root.iterdir() if len(path.name) == SHORT]
    found = [find(root, marker["digest"]) for marker in markers if isinstance(marker, dict)]
    kept = [one for one in found if one is not None]
    return [one.as_facts() for one in sorted(kept, key=lambda one: parse_version(one.version))]


def install(archive: Path, digest: str, signer: str, root: Path, rights: Rights) -> Installed:
    """Unpack an archive beside the other versions; it appears whole or not at all.

    Args:
        rights: what makes a command run as lightningd's user, so that nothing that was unpacked runs as root.

    Raises:
        HiveError: the archive holds what it must not, is not for this machine, or its lightningd does not run here.
    """
    target = directory_of(root, digest)
    partial = root / f".{target.name}.partial"
    keeper = Owner(os.geteuid(), os.getegid())
    try:
        remove_tree(partial)
        partial.mkdir(mode=0o755, parents=True)
        unpack(archive, partial / "root")
        prefix = find_prefix(partial / "root")
        check_machine(partial / "root" / prefix / "bin" / "lightningd", os.uname().machine)
        version = version_of(partial / "root" / prefix / "bin" / "lightningd", rights)
        marker = {
            "schema": 1,
            "digest": digest,
            "signer": signer,
            "version": version,
            "prefix": prefix,
            "stat": stat_digest(partial / "root"),
            "tree": tree_digest(partial / "root"),
        }
        write_atomic(partial / MARKER, canonical(marker), keeper, 0o644)
        os.sync()
        # What lies there is no whole version (find has said so), and lightningd cannot run from it.
        remove_tree(target)
        partial.rename(target)
        sync_dir(root)
    except OSError as error:
        raise disk_error(error, partial) from error
    finally:
        remove_tree(partial)
    return Installed(version, target / "root" / prefix, digest, signer)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar archive into a new directory: files, directories and links that stay inside, and nothing else.

    Files belong to whoever runs this and are writable by nobody else, whatever the archive says.

    Raises:
        HiveError: it holds something else, or is damaged.
    """
    target.mkdir(mode=0o755)
    links: list[tuple[Path, str]] = []
    try:
        with tarfile.open(archive) as tar:
            for member, name in _members(tar):
                path = target / name
                if member.isdir():
                    path.mkdir(mode=0o755, parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                if member.issym():
                    links.append((path, member.linkname))
                    continue
                content = tar.extractfile(member)
                if content is not None:
                    _write(path, content, 0o755 if member.mode & stat.S_IXUSR else 0o644)
    except (tarfile.TarError, EOFError, LZMAError) as error:
        raise HiveError(f"{archive.name} is damaged or no archive ({error}); fetch it again", "archive") from error
    # Links come last, so that nothing was ever written through one.
    for path, link in links:
        path.symlink_to(link)
    inside = target.resolve()
    for path, link in links:
        # Each of them stays inside when read by itself; a chain of them might still lead out.
        if inside not in path.resolve().parents:
            raise _leads_out(path.name, link)


def _members(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str]]:
    seen: set[str] = set()
    size = 0
    for number, member in enumerate(tar, 1):
        name = _safe_name(member.name)
        size += member.size
        if number > MEMBERS or size > BYTES:
            raise HiveError("that archive is larger than any release of lightningd; do not use it", "archive-size")
        if not (member.isreg() or member.isdir() or member.issym()):
            raise HiveError(f"{member.name} in that archive is neither file, directory nor link", "archive-member")
        if member.issym():
            _check_link(name, member.linkname)
        if name in seen and not member.isdir():
            raise HiveError(f"{member.name} is in that archive twice; do not use it", "archive-member")
        if name:
            seen.add(name)
            yield member, name


def _safe_name(name: str) -> str:
    """Return a member's name below the target, empty for the target itself."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(ord(letter) < 32 for letter in name):
        raise HiveError(f"{name!r} in that archive would be written elsewhere; do not use it", "archive-traversal")
    return "" if str(path) == "." else str(path)


def _check_link(name: str, link: str) -> None:
    """Refuse a link that leads out of the archive."""
    path = PurePosixPath(link)
    parts = list(PurePosixPath(name).parent.parts)
    for part in path.parts:
        if part == ".." and not parts:
            break
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    else:
        if not path.is_absolute():
            return
    raise _leads_out(name, link)


def _leads_out(name: str, link: str) -> HiveError:
    return HiveError(f"the link {name} in that archive leads out of it, to {link}; do not use it", "archive-link")


def _write(path: Path, content: IO[bytes], mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, mode)
        while block := content.read(BLOCK):
            file.write(block)


def find_prefix(tree: Path) -> str:
    """Return the directory, below an unpacked archive, that has `bin/lightningd` in it: usr, or usr/local.

    Raises:
        HiveError: there is none, or more than one.
    """
    programs = [path for path in tree.glob("**/bin/lightningd") if path.is_file() and not path.is_symlink()]
    if len(programs) != 1:
        raise HiveError(
            f"that archive holds {len(programs) or 'no'} bin/lightningd; give one of a release's binary archives, not "
            "its sources",
            "archive-content",
        )
    if not (programs[0].parent / "lightning-cli").is_file():
        raise HiveError("that archive holds no lightning-cli beside lightningd; do not use it", "archive-content")
    return str(programs[0].parent.parent.relative_to(tree))


def check_machine(program: Path, machine: str) -> None:
    """Refuse a program for another kind of processor. A script is for all of them."""
    head = program.read_bytes()[:20] if program.stat().st_size < 20 else _head(program)
    if head[:4] != b"\x7fELF":
        return
    order = "<" if head[5] == 1 else ">"
    (found,) = struct.unpack(f"{order}H", head[18:20])
    if found != MACHINES.get(machine, found):
        names = {number: name for name, number in MACHINES.items()}
        raise HiveError(
            f"that archive is for {names.get(found, f'machine type {found}')} and this node is {machine}; "
            "take the archive of that name",
            "archive-machine",
        )


def _head(program: Path) -> bytes:
    with program.open("rb") as file:
        return file.read(20)


def version_of(program: Path, rights: Rights) -> str:
    """Return the version a lightningd says it has; it does not read any configuration for that.

    Raises:
        HiveError: it does not run on this machine, with its reason.
    """
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": "/nonexistent"}
    done = execute([str(program), "--version"], VERSION_SECONDS, rights, environment, Path("/"))
    lines = done.out.split()
    if done.rc == 0 and lines and VERSION.fullmatch(lines[-1]):
        return lines[-1]
    reason = (done.err.strip() or done.out.strip() or f"exit status {done.rc}").splitlines()[-1][:300]
    missing = re.search(r"loading shared libraries: (\S+?):", reason)
    advice = f"install the package with {missing.group(1)}" if missing else "take the archive made for this system"
    raise HiveError(f"{program} does not run on this node: {reason}; {advice}", "lightningd-broken")


def existing(program: Path, rights: Rights) -> Installed:
    """Return the version of a lightningd that was installed by other means.

    Raises:
        HiveError: it is not there, or not one.
    """
    if not program.is_absolute() or program.name != "lightningd" or program.parent.name != "bin":
        raise HiveError(f"{program} must be the absolute path of a bin/lightningd", "bad-program")
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise HiveError(f"{program} is not there; install it, or name an archive (hive_node_archive)", "no-program")
    return Installed(version_of(program, rights), program.parent.parent, "")


def keep_newest(root: Path, keep: int, wanted: str, units: Path = UNITS) -> list[str]:
    """Remove the oldest versions beyond `keep`, but none that runs or that a unit names; return what was removed.

    Args:
        wanted: digest of the one that is about to be used, which may well be older than others.
    """
    named = "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(units.glob("*.service")))
    found = [directory_of(root, one["digest"]) for one in installed(root) if one["digest"] != wanted]
    spare = [
        path for path in found[: max(0, len(found) + 1 - keep)] if not in_use(str(path)) and f"{path}/" not in named
    ]
    for path in spare:
        remove_tree(path)
    return [str(path) for path in spare]


def as_text(facts: list[dict[str, Any]]) -> str:
    """Return versions as they are shown in a diff."""
    return "".join(json.dumps({key: one[key] for key in ("version", "digest", "prefix")}) + "\n" for one in facts)
