# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Finished artifacts: fetched by their sha256, with the manifest and signature of who built them, or without.

One that comes signed is taken over byte by byte, if a key we trust signed it. A bare one gets its manifest here: what
it carries is read from it, what it is is asked of it. Runs on the controller only.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import urllib.error
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from ansible.module_utils.urls import open_url
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    NAME,
    SHA256,
    SIGNATURE_FILE,
    VERSION,
    ReleaseError,
    canonical,
    load_release,
    read_manifest,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_foreign import complete
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import RECIPE, Finished, Sources
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_wheels import Target
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

MAX_BYTES = 1 << 30
SECONDS = 120
DEPENDENCIES = ".deps/"


def read_finished(wanted: Any, signers: Path, cache: Path, targets: list[Target]) -> Sources:
    """The sources of an artifact that is there already; ``wanted`` is a ``_release.Wanted``.

    Raises ReleaseError ``source`` when it is not what its sha256 says or carries no usable wheels, and what
    ``load_release`` raises when its signature is not one of ``signers``.
    """
    if not SHA256.fullmatch(wanted.sha256):
        raise ReleaseError("source", f"{wanted.artifact} is given without its sha256: add it, 64 hex digits.")
    if not wanted.manifest and not (NAME.fullmatch(wanted.name) and VERSION.fullmatch(wanted.version)):
        raise ReleaseError(
            "source",
            f"{wanted.name!r} {wanted.version!r} is not a plugin's name and version: a bare artifact needs both.",
        )
    kept = cache / "artifacts" / wanted.sha256
    artifact = _fetch(wanted.artifact, wanted.base, kept / "artifact.pex", MAX_BYTES, wanted.sha256)
    if wanted.manifest:
        return _signed(wanted, signers, kept, artifact)
    declared = complete(wanted.name, wanted.version, wanted.declares) if wanted.declares else None
    wheels, requires_python = _contents(wanted.name, artifact, targets)
    facts = {"recipe": RECIPE, "artifact": wanted.sha256, "name": wanted.name, "version": wanted.version}
    digest = hashlib.sha256(canonical({**facts, "declared": declared, "wheels": wheels})).hexdigest()
    return Sources(
        name=wanted.name,
        version=wanted.version,
        packages=(),
        locked=(),
        requires_python=requires_python,
        commit="",
        dirty=True,
        released_at=int(time.time()),
        digest=digest,
        declared=declared,
        origin={"repository": "", "ref": ""} if declared else None,
        finished=Finished(kept, artifact.name, False, wheels),
    )


def _signed(wanted: Any, signers: Path, kept: Path, artifact: Path) -> Sources:
    """Check everything now, so that nothing is left to be wrong when it is published."""
    _fetch(wanted.manifest, wanted.base, kept / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    _fetch(wanted.signature or f"{wanted.manifest}.sig", wanted.base, kept / SIGNATURE_FILE, MAX_MANIFEST_BYTES)
    manifest, _ = read_manifest(kept, signers, now=time.time())
    named = kept / str(manifest["artifact"]["file"])
    if not named.exists():
        shutil.copyfile(artifact, named)
    name = wanted.name or str(manifest["name"])
    load_release(kept, signers, name, wanted.version, wanted.sha256, now=time.time())
    return Sources(
        name=name,
        version=str(manifest["version"]),
        packages=(),
        locked=(),
        requires_python=str(manifest["python"]["requires"]),
        commit=str(manifest["source"]["commit"]),
        dirty=bool(manifest["source"]["dirty"]),
        released_at=int(manifest["released_at"]),
        digest=str(manifest["source"]["digest"]),
        finished=Finished(kept, named.name, True, manifest["python"]["wheels"]),
    )


def _fetch(source: str, base: Path, target: Path, limit: int, sha256: str = "") -> Path:
    """Bring a file from a path or a URL to ``target``; one that is there with its sha256 stays."""
    if sha256 and target.is_file() and _sha256(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    try:
        if re.match(r"https?://", source):
            with open_url(source, timeout=SECONDS) as answer, partial.open("wb") as file:
                while block := answer.read(1 << 20):
                    file.write(block)
                    if file.tell() > limit:
                        raise ReleaseError("source", f"{source} is larger than {limit >> 20} MiB: give another one.")
        elif (base / source).stat().st_size > limit:
            raise ReleaseError("source", f"{source} is larger than {limit >> 20} MiB: give another one.")
        else:
            shutil.copyfile(base / source, partial)
        if sha256 and _sha256(partial) != sha256:
            raise ReleaseError(
                "source", f"{source} has sha256 {_sha256(partial)}, not {sha256}: take it again from who built it."
            )
        partial.replace(target)
    except (OSError, urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ReleaseError("source", f"{source} cannot be read ({reason}): correct the path or the URL.") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _contents(name: str, artifact: Path, targets: list[Target]) -> tuple[dict[str, list[str]], str]:
    """The wheels of the artifact for each target that it serves whole, and the Pythons its plugin is for."""
    try:
        with zipfile.ZipFile(artifact) as archive:
            info = json.loads(archive.read("PEX-INFO"))
            metadata = {
                member[len(DEPENDENCIES) :]: _metadata(archive, member)
                for member in archive.namelist()
                if member.startswith(DEPENDENCIES) and member.endswith(".whl")
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ReleaseError("source", f"The artifact of {name} is not a PEX ({error}): build it with pex.") from error
    if not metadata:
        raise ReleaseError(
            "source", f"The artifact of {name} carries no wheels: build it with pex --no-pre-install-wheels."
        )
    excluded: set[str] = {canonicalize_name(word) for word in info.get("excluded", [])}
    served, absent = {}, ""
    for target in targets:
        try:
            chosen = _closure(list(info.get("requirements", [])), metadata, target, excluded)
        except LookupError as error:
            absent = str(error.args[0])
            continue
        served[f"{target.tag}-{target.machine}"] = sorted(chosen)
    if not served:
        raise ReleaseError(
            "source", f"The artifact of {name} serves no CPython that we know, {absent}: build it for one of them."
        )
    ours = [found for file, found in metadata.items() if canonicalize_name(file.partition("-")[0]) == name]
    return served, (ours[0].get("Requires-Python") or "") if ours else ""


def _metadata(archive: zipfile.ZipFile, member: str) -> Any:
    with archive.open(member) as file, zipfile.ZipFile(file) as wheel:
        path = next(path for path in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", path))
        return HeaderParser().parsestr(wheel.read(path).decode("utf-8", "replace"))


def _closure(roots: list[str], metadata: dict[str, Any], target: Target, excluded: set[str]) -> set[str]:
    """The wheels that ``target`` needs for ``roots``. Raises LookupError with what it lacks."""
    chosen: dict[str, str] = {}
    todo = [(text, "") for text in roots]
    seen = set()
    while todo:
        text, extra = todo.pop()
        if (text, extra) in seen:
            continue
        seen.add((text, extra))
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise LookupError(f"because it requires {text}") from error
        project = canonicalize_name(requirement.name)
        if project in excluded:
            continue
        if requirement.marker and not requirement.marker.evaluate({**target.markers, "extra": extra}):
            continue
        file = chosen.get(project) or _best(project, metadata, target)
        if not file:
            raise LookupError(f"for want of {requirement.name} for CPython {target.python} on {target.machine}")
        chosen[project] = file
        needs = metadata[file].get_all("Requires-Dist") or []
        todo += [(need, wanted) for need in needs for wanted in ("", *sorted(requirement.extras))]
    return set(chosen.values())


def _best(project: str, metadata: dict[str, Any], target: Target) -> str:
    ranked = sorted(
        (rank, file)
        for file in metadata
        if canonicalize_name(parse_wheel_filename(file)[0]) == project
        and SpecifierSet(metadata[file].get("Requires-Python") or "").contains(target.python + ".0")
        and (rank := target.rank(file)) is not None
    )
    return ranked[0][1] if ranked else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
