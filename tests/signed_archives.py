"""Archives of lightningd as its maintainers publish them, signed by keys made for the occasion. Needs gpg."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from waiting import wait_until

NAME = "clightning-{version}-Debian-12-amd64.tar.xz"
# Enough of a lightningd for `--version`; tests that run a node put the sandbox's fake in its place.
PROGRAM = '#!/bin/sh\n[ "$1" = --version ] && echo {version}\n'


@dataclass(frozen=True)
class Member:
    """One member of an archive; `link` makes it a symbolic link, `kind` something else."""

    name: str
    content: bytes = b""
    mode: int = 0o644
    link: str = ""
    kind: bytes = b""


def release_members(version: str, program: bytes | None = None, prefix: str = "usr") -> list[Member]:
    """Return what an official archive holds, in small."""
    script = PROGRAM.format(version=version).encode()
    return [
        Member(f"./{prefix}/bin/lightningd", program or script, 0o755),
        Member(f"./{prefix}/bin/lightning-cli", script, 0o755),
        Member(f"./{prefix}/libexec/c-lightning/plugins/pay", script, 0o755),
        Member(f"./{prefix}/share/doc/README", b"words\n"),
    ]


def write_archive(path: Path, members: list[Member]) -> str:
    """Write a tar.xz and return its sha256."""
    with tarfile.open(path, "w:xz") as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.mode, info.size = member.mode, len(member.content)
            if member.link:
                info.type, info.linkname = tarfile.SYMTYPE, member.link
            if member.kind:
                info.type, info.linkname = member.kind, member.name
            tar.addfile(info, io.BytesIO(member.content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Maintainer:
    """Somebody with a key."""

    home: Path
    name: str
    fingerprint: str = ""
    public: bytes = b""

    def gpg(self, *words: str, data: bytes | None = None) -> bytes:
        argv = ["gpg", "--batch", "--quiet", "--no-options", "--homedir", str(self.home), "--pinentry-mode", "loopback"]
        return subprocess.run([*argv, "--passphrase", "", *words], input=data, capture_output=True, check=True).stdout

    def sign(self, content: bytes) -> bytes:
        """Return a detached signature."""
        return self.gpg("--armor", "--local-user", self.fingerprint, "--detach-sign", data=content)


@dataclass
class Maintainers:
    """People whose keys lie in one place, away from whoever runs the tests."""

    home: Path
    made: dict[str, Maintainer] = field(default_factory=dict)

    def get(self, name: str, *words: str, validity: str = "never") -> Maintainer:
        """Return the maintainer of that name, with a key made at the first call; `words` go to gpg."""
        if name not in self.made:
            one = Maintainer(self.home, name)
            one.gpg(*words, "--quick-gen-key", f"{name} <{name}@example.net>", "ed25519", "sign", validity)
            listed = one.gpg("--with-colons", "--list-keys", f"{name}@example.net").decode()
            one.fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
            one.public = one.gpg("--armor", "--export", one.fingerprint)
            self.made[name] = one
        return self.made[name]


def gone(home: Path) -> bool:
    """Remove a directory; whether that worked."""
    shutil.rmtree(home, ignore_errors=True)
    return not home.exists()


@contextmanager
def maintainers() -> Iterator[Maintainers]:
    """Yield people to get keys from; what gpg started for them is ended. The path is short because of its sockets."""
    home = Path(tempfile.mkdtemp(prefix="hive-gpg-"))
    try:
        yield Maintainers(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
        # The agent takes its sockets away itself, a moment later.
        wait_until(lambda: gone(home), 20, "gpg's files are gone")


@dataclass(frozen=True)
class Published:
    """A release in one directory, as it is published."""

    archive: Path
    sha256: str
    sums: Path
    signature: Path
    key: Path
    signer: str


def publish(directory: Path, version: str, signer: Maintainer, members: list[Member]) -> Published:
    """Write an archive, the list of checksums and its signature, and the key beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    archive = directory / NAME.format(version=version)
    sha256 = write_archive(archive, members)
    sums = directory / f"SHA256SUMS-{version}"
    sums.write_text(f"{'0' * 64}  clightning-{version}.zip\n{sha256}  {archive.name}\n", encoding="utf-8")
    signature = sums.with_name(f"{sums.name}.asc")
    signature.write_bytes(signer.sign(sums.read_bytes()))
    key = directory / "maintainer.asc"
    key.write_bytes(signer.public)
    return Published(archive, sha256, sums, signature, key, signer.fingerprint)
