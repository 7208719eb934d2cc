# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The artifact: one PEX that carries the wheels for every supported CPython and machine, and tells what it is.

The wheels are stored as they are, so that the artifact's bytes do not depend on who builds it or when; the node unpacks
those it needs, without network, pip or compiler. Runs on the controller only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._getmanifest import UnanswerableError, ask, described
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    ReleaseError,
    plugin_part,
    validate_plugin,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import Sources
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_wheels import SOURCE_DATE_EPOCH, Target

# pyln-proto asks for this repackaging of coincurve, which would install over the very files of coincurve itself.
EXCLUDED = ("coincurve-cp314-fix",)
# Seconds are enough; but the first start unpacks it, and machines that build may be busy.
DESCRIBE_SECONDS = 300


def join(sources: Sources, wheels: list[Path], targets: list[Target], artifact: Path, cache: Path) -> None:
    """Write the PEX of ``wheels`` to ``artifact``. Raises ReleaseError ``build`` when they are not a closed set."""
    command = [
        sys.executable,
        "-m",
        "pex",
        sources.name,
        "--console-script",
        sources.name,
        "--output-file",
        str(artifact),
    ]
    command += ["--no-pypi", "--no-compile", "--no-pre-install-wheels", "--include-tools"]
    command += ["--python-shebang", "#!/usr/bin/env python3"]
    command += [word for wheel in wheels for word in ("--pre-resolved-dist", str(wheel))]
    given = {wheel.name.partition("-")[0].replace("_", "-") for wheel in wheels}
    excluded = (*EXCLUDED, *sources.without)
    command += [word for name in excluded if name not in given for word in ("--exclude", name)]
    for target in targets:
        platform = {"compatible_tags": [str(tag) for tag in target.ranks], "marker_environment": target.markers}
        command += ["--complete-platform", json.dumps(platform)]
    result = _run(command, cache, SOURCE_DATE_EPOCH=SOURCE_DATE_EPOCH)
    if result.returncode != 0:
        said = " / ".join(result.stderr.strip().splitlines()[-3:])
        raise ReleaseError(
            "build",
            f"pex could not join {sources.name} {sources.version} ({said}): if it names a "
            "requirement, bring pyproject.toml and uv.lock in line.",
        )


def describe(sources: Sources, artifact: Path, cache: Path) -> dict[str, Any]:
    """The plugin's part of the manifest, as ``artifact`` gives it. Raises ReleaseError ``describe`` unless usable."""
    part = (
        _own_words(sources, artifact, cache) if sources.declared is None else _as_lightningd(sources, artifact, cache)
    )
    try:
        validate_plugin(part)
    except ReleaseError as error:
        raise _undescribed(sources, str(error)) from error
    if (part["name"], part["version"]) != (sources.name, sources.version):
        raise _undescribed(sources, f"it calls itself {part['name']} {part['version']}")
    return plugin_part(part)


def _own_words(sources: Sources, artifact: Path, cache: Path) -> Any:
    """What it answers to --hive-manifest."""
    try:
        result = _run([sys.executable, str(artifact), "--hive-manifest"], cache, timeout=DESCRIBE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _undescribed(sources, f"it gave no answer within {DESCRIBE_SECONDS} s") from error
    if result.returncode != 0:
        said = (result.stderr.strip() or "no message").splitlines()[-1]
        raise _undescribed(sources, f"it ended with rc {result.returncode}: {said}")
    try:
        return json.loads(result.stdout)
    except ValueError as error:
        raise _undescribed(sources, "its answer is not JSON") from error


def _as_lightningd(sources: Sources, artifact: Path, cache: Path) -> dict[str, Any]:
    """What a foreign plugin answers to getmanifest, with what is declared of it."""
    try:
        answer = ask([sys.executable, str(artifact)], DESCRIBE_SECONDS, _environment(cache))
    except UnanswerableError as error:
        raise ReleaseError(
            "describe",
            f"The artifact of {sources.name} {sources.version} {error}: correct its entry, or release another ref.",
        ) from error
    if answer.get("dynamic") is False:
        raise ReleaseError(
            "describe",
            f"{sources.name} {sources.version} says that it is not dynamic: lightningd would have to be restarted for "
            "every switch, so it cannot be released.",
        )
    return {**(sources.declared or {}), **described(answer), "name": sources.name, "version": sources.version}


def _undescribed(sources: Sources, what: str) -> ReleaseError:
    return ReleaseError(
        "describe",
        f"The artifact of {sources.name} {sources.version} does not describe itself as a release needs it ({what}): "
        "correct the plugin, or what is declared of it.",
    )


def _run(
    command: list[str], cache: Path, timeout: float | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` with nothing of this process's Python or PEX settings in the environment."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=timeout,
        cwd=cache,
        env={**_environment(cache), **environment},
    )


def _environment(cache: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PEX_", "PYTHON", "PIP_"))}
    cache.mkdir(parents=True, exist_ok=True)
    return {**kept, "PEX_ROOT": str(cache), "PEX_IGNORE_RCFILES": "true"}
