"""Releases of lightningd for metal12, signed by a maintainer made for the occasion, from the software of the machines.

Usage: archives.py DIRECTORY SOFTWARE

Makes DIRECTORY/{old,new,broken}, each with an archive, the signed list of checksums and the maintainer's key, a
stranger's key, and releases.json, which says what is where. `broken` answers and validates, but does not start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from signed_archives import Maintainer, Member, maintainers, publish

FAKES = {"old": "v25.12.1", "new": "v26.06.6"}
BROKEN = "v26.09"
# lightningd finds its parts from where it lies itself, as the real one does.
LAUNCHER = """#!/usr/bin/python3 -I
import os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib"))
{start}
"""
FAKE = """sys.argv.insert(1, "--sandbox-cln={version}")
from runpy import run_module

run_module("hive_sandbox.fake", run_name="__main__", alter_sys=True)"""
CLI = """from hive_sandbox.lightning_cli import main

sys.exit(main(sys.argv[1:]))"""
DEAD = """#!/bin/sh
case " $* " in
  *" --version "*) echo {version} ;;
  *" --help "*) ;;
  *) echo "lightningd: this one does not start" >&2; exit 1 ;;
esac
"""


def of_fake(software: Path, version: str) -> list[Member]:
    """The members of an archive with the fake."""
    launcher = LAUNCHER.format(start=FAKE.format(version=version))
    library = [path for path in sorted((software / "lib").rglob("*")) if path.is_file()]
    return [
        Member("./usr/bin/lightningd", launcher.encode(), 0o755),
        Member("./usr/bin/lightning-cli", LAUNCHER.format(start=CLI).encode(), 0o755),
        *(Member(f"./usr/lib/{path.relative_to(software / 'lib')}", path.read_bytes()) for path in library),
    ]


def of_real(prefix: Path, readme: str) -> list[Member]:
    """The members of an archive with the real one, which is the same twice but for a text beside it."""
    parts = [*sorted(prefix.glob("bin/lightning*")), *sorted((prefix / "libexec").rglob("*"))]
    files = [path for path in parts if path.is_file()]
    members = [
        Member(f"./usr/{path.relative_to(prefix)}", path.read_bytes(), path.stat().st_mode & 0o777) for path in files
    ]
    return [*members, Member("./usr/share/doc/README", readme.encode())]


def of_broken() -> list[Member]:
    """The members of an archive whose lightningd does everything but start."""
    program = DEAD.format(version=BROKEN).encode()
    return [Member("./usr/bin/lightningd", program, 0o755), Member("./usr/bin/lightning-cli", program, 0o755)]


def main() -> None:
    directory, software = Path(sys.argv[1]), Path(sys.argv[2])
    real = Path(os.environ["CLN_PREFIX"]) if os.environ.get("CLN_PREFIX") else None
    releases = {}

    def add(name: str, version: str, signer: Maintainer, members: list[Member]) -> None:
        made = publish(directory / name, version, signer, members)
        facts = {"version": version, "archive": str(made.archive), "sha256": made.sha256}
        releases[name] = facts | {"key": str(made.key), "signer": made.signer}

    with maintainers() as people:
        alice = people.get("alice")
        for name, version in FAKES.items():
            if real is None:
                add(name, version, alice, of_fake(software, version))
            else:
                said = subprocess.run(
                    [real / "bin/lightningd", "--version"], check=True, capture_output=True, text=True
                )
                add(name, said.stdout.split()[-1], alice, of_real(real, name))
        add("broken", BROKEN, alice, of_broken())
        (directory / "stranger.asc").write_bytes(people.get("bob").public)
    (directory / "releases.json").write_text(json.dumps(releases, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
