# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_release: builds and signs releases in this process, with the tools beside Ansible. It connects to no node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_tools import MACHINES, need_tools

# What describes the source of a plugin; the module's documentation says which goes with which.
WORDS = (
    "name",
    "version",
    "git",
    "ref",
    "entry",
    "requirements",
    "python",
    "artifact",
    "sha256",
    "manifest",
    "signature",
)
ARGUMENTS: dict[str, Any] = {
    "plugins": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "source": {"type": "path"},
            **{word: {"type": "str", "default": ""} for word in WORDS},
            "declares": {"type": "dict", "default": {}},
        },
    },
    "versions": {"type": "dict", "default": {}},
    "workspace": {"type": "path"},
    "releases_dir": {"type": "path", "required": True},
    "cache_dir": {"type": "path", "required": True},
    "keys_dir": {"type": "path", "required": True},
    "locks_dir": {"type": "path", "default": "var/locks"},
    "signing_key": {"type": "path", "default": ""},
    "allowed_signers": {"type": "path", "default": ""},
    "identity": {"type": "str", "default": "release@sandbox"},
    "valid_days": {"type": "int", "default": 0},
    "replace": {"type": "bool"},
    "architectures": {"type": "list", "elements": "str", "choices": MACHINES, "default": MACHINES},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_release.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, parameters = self.validate_argument_spec(argument_spec=ARGUMENTS)
        base = Path(self._loader.get_basedir()).resolve()
        try:
            result.update(release(parameters, base, bool(self._task.check_mode)))
        except ReleaseError as error:
            result.update(failed=True, msg=str(error), code=error.code)
        except OSError as error:
            what = f"{error.filename or 'The disk'} cannot be used ({error.strerror or error})"
            result.update(
                failed=True, msg=f"{what}: free space or correct its owner, then run this again.", code="disk"
            )
        return result


def release(parameters: Mapping[str, Any], directory: Path, check_mode: bool) -> dict[str, Any]:
    """Release what ``parameters`` ask for; the action's result. Without a workspace, paths start at ``directory``.

    Raises ReleaseError with one sentence; then nothing was published.
    """
    need_tools()
    # Only now, because it needs those tools.
    from ansible_collections.lightning_goats.hive.plugins.module_utils import _release

    if not parameters["architectures"]:
        raise ReleaseError("source", "No architecture is given: name x86_64, aarch64 or both.")
    if parameters["valid_days"] < 0:
        raise ReleaseError("source", "The days of validity are negative: use 0 for releases that do not expire.")
    base = (directory / (parameters["workspace"] or "")).resolve()
    outcome = _release.release(
        [_release.Wanted(base=base, **_given(item)) for item in parameters["plugins"]],
        {str(name): str(version) for name, version in parameters["versions"].items()},
        _release.Settings(
            releases=base / parameters["releases_dir"],
            cache=base / parameters["cache_dir"],
            keys=base / parameters["keys_dir"],
            workspace=base if parameters["workspace"] else None,
            signing_key=str(base / parameters["signing_key"]) if parameters["signing_key"] else "",
            allowed_signers=str(base / parameters["allowed_signers"]) if parameters["allowed_signers"] else "",
            identity=parameters["identity"],
            valid_days=parameters["valid_days"],
            replace=parameters["replace"],
            machines=tuple(parameters["architectures"]),
            locks=base / parameters["locks_dir"],
        ),
        check_mode,
    )
    titles = [f"{item['name']} {item['version']}" for item in outcome.releases]
    return {
        "changed": outcome.changed,
        "releases": outcome.releases,
        "lines": [_line(title, item) for title, item in zip(titles, outcome.releases, strict=True)],
        "allowed_signers": outcome.allowed_signers,
        "diff": {
            "before": {title: item["previous_digest"] for title, item in zip(titles, outcome.releases, strict=True)},
            "after": {title: item["digest"] for title, item in zip(titles, outcome.releases, strict=True)},
        },
    }


def _given(item: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of one plugin, without what is left out."""
    given = {key: value for key, value in item.items() if value}
    return {**given, "source": Path(given["source"])} if "source" in given else given


def _line(title: str, item: Mapping[str, Any]) -> str:
    if not item["digest"]:
        return f"{title}  would be built: {item['reason']}"
    size = item["manifest"]["artifact"]["size"] / 1e6
    done = f"built: {item['reason']}" if item["changed"] else "unchanged"
    return f"{title}  {item['digest'][:12]}  {size:.1f} MB  signed by {item['signer']}  {done}"
