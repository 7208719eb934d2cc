# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The lock of a foreign plugin: its unpinned requirements resolved once, by uv, and kept with hashes (PEP 751).

The lock is kept where the operator keeps the inventory, one file for each version, so that whoever builds that version
again gets the same bytes. Runs on the controller only.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tomllib
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError, canonical
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import Locked, find_uv

FILE = "pylock.toml"
HEADER = "# Made by playbooks/release.yml. Keep it: the same lock gives the same release. requirements-sha256: "
LOCK_SECONDS = 300
OTHER_FILE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[=\s]\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Lock:
    """What a foreign plugin needs. ``text`` is for ``path`` and empty when nothing is needed."""

    path: Path
    text: str
    locked: tuple[Locked, ...]


def lock(name: str, files: dict[str, tuple[bytes, bool]], entry: str, oldest: str, path: Path) -> Lock:
    """The lock in ``path`` when it is there, else a new one of the requirements file ``entry`` among ``files``.

    ``oldest`` is the oldest Python to serve, for example ``3.11``. Nothing is written. Raises ReleaseError ``lock``.
    """
    texts = _requirements(name, files, entry)
    if not any(_asks(text) for text in texts.values()):
        return Lock(path, "", ())
    digest = hashlib.sha256(canonical([oldest, texts])).hexdigest()
    if not path.is_file():
        text = f"{HEADER}{digest}\n{_resolve(name, texts, entry, oldest)}"
    else:
        text = path.read_text(encoding="utf-8")
        if text.partition("\n")[0] != f"{HEADER}{digest}":
            raise ReleaseError(
                "lock", f"{path} was made for other requirements of {name}: remove it to have it made again."
            )
    return Lock(path, text, _parse(name, text, path))


def read_lock(name: str, path: Path) -> tuple[Locked, ...]:
    """What the lock in ``path`` pins for ``name``. Raises ReleaseError ``lock``."""
    return _parse(name, path.read_text(encoding="utf-8"), path)


def _requirements(name: str, files: dict[str, tuple[bytes, bool]], entry: str) -> dict[str, str]:
    """The requirements file and those it names, by path."""
    texts: dict[str, str] = {}
    todo = [entry] if entry else []
    while todo:
        path = todo.pop()
        if path not in files:
            raise ReleaseError("lock", f"{name} has no file {path}: correct its requirements.")
        texts[path] = files[path][0].decode("utf-8", "replace")
        named = [
            posixpath.normpath(posixpath.join(posixpath.dirname(path), n)) for n in OTHER_FILE.findall(texts[path])
        ]
        todo += [other for other in named if other not in texts]
    return texts


def _asks(text: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith(("#", "-")) for line in text.splitlines())


def _resolve(name: str, texts: dict[str, str], entry: str, oldest: str) -> str:
    """Let uv choose versions that hold for every Python from ``oldest`` on."""
    with tempfile.TemporaryDirectory(prefix="hive-lock-") as directory:
        for path, text in texts.items():
            target = Path(directory, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        command = [
            find_uv(),
            "pip",
            "compile",
            entry,
            "--universal",
            "--python-version",
            oldest,
            "--no-config",
            "--quiet",
        ]
        command += ["--format", FILE, "--no-header", "--no-annotate", "--only-binary", ":all:", "--no-python-downloads"]
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env={"UV_SYSTEM_CERTS": "true", **os.environ},
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=LOCK_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ReleaseError(
                "lock", f"uv did not resolve {entry} of {name} within {LOCK_SECONDS} s: look at the connection."
            ) from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"rc {done.returncode}"
        raise ReleaseError(
            "lock", f"The requirements of {name} in {entry} cannot be resolved ({said[:400]}): release another ref."
        )
    return done.stdout


def _parse(name: str, text: str, path: Path) -> tuple[Locked, ...]:
    try:
        packages = tomllib.loads(text)["packages"] if "[[packages]]" in text else []
        locked = tuple(
            Locked(
                str(package["name"]),
                str(package["version"]),
                str(package.get("marker", "")),
                tuple(
                    (str(wheel.get("url") or wheel["path"]).rsplit("/", 1)[1], str(wheel["hashes"]["sha256"]))
                    for wheel in package["wheels"]
                ),
            )
            for package in packages
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, IndexError) as error:
        raise ReleaseError(
            "lock",
            f"{path} does not pin {name} to wheels by sha256 ({error}): remove it to have it made again, and require "
            "only what the index has as a wheel.",
        ) from error
    names = {item.name for item in locked}
    # Two packages with the very same files; what asks for one of them works with the other.
    return tuple(item for item in locked if not (item.name == "coincurve-cp314-fix" and "coincurve" in names))
