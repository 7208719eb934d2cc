# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What a release is made of, as CycloneDX 1.6: read from the artifact itself, and the same bytes every time.

Beside the artifact lies ``sbom.cdx.json``. Nothing in it is random or of the moment, so whoever has the artifact can
make it again and compare. Controller only.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.message import Message
from email.parser import HeaderParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release, ReleaseError
from packaging.utils import canonicalize_name, parse_wheel_filename

Json = dict[str, Any]

FILE = "sbom.cdx.json"
SPEC = "1.6"
DEPENDENCIES = ".deps/"
# Longer than any name of a licence; some packages put its whole text there.
LONGEST_LICENCE = 64
NO_LICENCE = ("", "UNKNOWN")
CLASSIFIER = "License :: "
# Ours, beside the plugin itself: on no index, so that one of that name there is somebody else's.
OWN = frozenset({"hive-kit"})


@dataclass(frozen=True)
class Distribution:
    """One project that an artifact carries, in one version, as one or more wheels.

    Attributes:
        wheels: file name and sha256 of each.
        spdx: whether the licence is an SPDX expression.
    """

    name: str
    version: str
    licence: str
    summary: str
    wheels: tuple[tuple[str, str], ...]
    spdx: bool


def distributions(release: Release) -> list[Distribution]:
    """Everything that the release's artifact carries, by name.

    Raises:
        ReleaseError: ``source``, the artifact is no PEX with wheels.
    """
    try:
        found = _read(release.artifact)
    except (OSError, KeyError, ValueError, StopIteration, zipfile.BadZipFile) as error:
        raise ReleaseError(
            "source", f"{release.artifact} is not a PEX that carries wheels ({error}): build it again."
        ) from error
    listed = {name for names in release.manifest["python"]["wheels"].values() for name in names}
    carried = {file for item in found for file, _ in item.wheels}
    if not carried or not listed <= carried:
        absent = ", ".join(sorted(listed - carried)) or "any wheel"
        raise ReleaseError("source", f"{release.artifact} does not carry {absent}: build it again.")
    return found


def _read(artifact: Path) -> list[Distribution]:
    wheels: dict[tuple[str, str], list[tuple[str, str]]] = {}
    told: dict[tuple[str, str], Message] = {}
    with zipfile.ZipFile(artifact) as archive:
        for member in sorted(archive.namelist()):
            if not (member.startswith(DEPENDENCIES) and member.endswith(".whl")):
                continue
            data, file = archive.read(member), member[len(DEPENDENCIES) :]
            name, version = parse_wheel_filename(file)[:2]
            key = (canonicalize_name(name), str(version))
            wheels.setdefault(key, []).append((file, hashlib.sha256(data).hexdigest()))
            told.setdefault(key, _metadata(data))
    return [
        Distribution(
            *key,
            _licence(told[key]),
            str(told[key].get("Summary") or ""),
            tuple(files),
            bool(told[key].get("License-Expression")),
        )
        for key, files in sorted(wheels.items())
    ]


def _metadata(wheel: bytes) -> Message:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        path = next(path for path in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", path))
        return HeaderParser().parsestr(archive.read(path).decode("utf-8", "replace"))


def _licence(metadata: Message) -> str:
    """The licence's SPDX expression, else its short name, else what its classifiers say."""
    expression = str(metadata.get("License-Expression") or "").strip()
    if expression:
        return expression
    text = str(metadata.get("License") or "").strip()
    if text not in NO_LICENCE and len(text) <= LONGEST_LICENCE and "\n" not in text:
        return text
    classified = [str(line) for line in metadata.get_all("Classifier") or [] if str(line).startswith(CLASSIFIER)]
    return ", ".join(sorted(line.rpartition(" :: ")[2] for line in classified))


def make(release: Release) -> bytes:
    """The SBOM of a release, always the same for the same release.

    Raises:
        ReleaseError: ``source``, the artifact is no PEX with wheels.
    """
    manifest = release.manifest
    found = distributions(release)
    name, version = str(manifest["name"]), str(manifest["version"])
    mine = next((item for item in found if (item.name, item.version) == (name, version)), None)
    main = f"pkg:generic/{name}@{version}"
    others = [item for item in found if item is not mine]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(manifest["released_at"], timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": main,
                "name": name,
                "version": version,
                **_words(mine),
                "hashes": [{"alg": "SHA-256", "content": str(manifest["artifact"]["sha256"])}],
                "purl": main,
            },
            "properties": [
                {"name": "hive:artifact", "value": str(manifest["artifact"]["file"])},
                {"name": "hive:source-commit", "value": str(manifest["source"]["commit"])},
                {"name": "hive:source-digest", "value": str(manifest["source"]["digest"])},
            ],
        },
        "components": [_component(item) for item in others],
        "dependencies": [
            {"ref": main, "dependsOn": [_purl(item) for item in others]},
            *({"ref": _purl(item)} for item in others),
        ],
    }
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode("ascii")


def _component(item: Distribution) -> Json:
    made: Json = {
        "type": "library",
        "bom-ref": _purl(item),
        "name": item.name,
        "version": item.version,
        **_words(item),
        "purl": _purl(item),
        "properties": [{"name": f"hive:wheel:{file}", "value": digest} for file, digest in item.wheels],
    }
    if len(item.wheels) == 1:
        made["hashes"] = [{"alg": "SHA-256", "content": item.wheels[0][1]}]
    return made


def _purl(item: Distribution) -> str:
    return f"pkg:{'generic' if item.name in OWN else 'pypi'}/{item.name}@{item.version}"


def _words(item: Distribution | None) -> Json:
    """Summary and licence, as far as there are any."""
    words: Json = {}
    if item is not None and item.summary:
        words["description"] = item.summary
    if item is not None and item.licence:
        words["licenses"] = [{"expression": item.licence}] if item.spdx else [{"license": {"name": item.licence}}]
    return words


def problem(document: bytes) -> str | None:
    """What is wrong with an SBOM by CycloneDX's own schema; empty when it holds, None when nobody here can tell."""
    if find_spec("cyclonedx") is None or find_spec("jsonschema") is None:
        return None
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode("utf-8"))
    return "" if found is None else " ".join(str(found.data.message).split())[:300]


def write(release: Release) -> tuple[Path, bytes, bool]:
    """Lay the SBOM beside the artifact; its path, its bytes, and whether it was not there like this before.

    Raises:
        ReleaseError: ``source``, the artifact is no PEX with wheels.
        OSError: it cannot be written.
    """
    path, made = release.directory / FILE, make(release)
    if path.is_file() and path.read_bytes() == made:
        return path, made, False
    partial = path.with_name(f".{FILE}.part")
    partial.write_bytes(made)
    partial.chmod(0o644)
    partial.replace(path)
    return path, made, True


def licences(document: Mapping[str, Any]) -> dict[str, int]:
    """How many components are under which licence."""
    counted: dict[str, int] = {}
    for component in document["components"]:
        for said in component.get("licenses") or [{"license": {"name": "not given"}}]:
            name = str(said.get("expression") or said["license"]["name"])
            counted[name] = counted.get(name, 0) + 1
    return dict(sorted(counted.items()))
