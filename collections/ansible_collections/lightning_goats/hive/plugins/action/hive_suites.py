# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_suites: runs the tests of releases in the controller's own machine and signs what they found."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _plan_hosts, _releases_wanted
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release, ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import project_path
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_tools import need_tools

Json = dict[str, Any]

IDENTITY = "evidence@sandbox"
ARGUMENTS: Json = {
    "versions": {"type": "dict", "default": {}},
    "sources": {"type": "dict", "default": {}},
    "releases_dir": {"type": "str", "required": True},
    "release_signers": {"type": "str", "required": True},
    "evidence_dir": {"type": "str", "required": True},
    "signing_key": {"type": "str", "default": ""},
    "allowed_signers": {"type": "str", "default": ""},
    "keys_dir": {"type": "str", "default": "var/keys"},
    "valid_days": {"type": "int", "default": 30},
    "workspace": {"type": "str", "default": "."},
    "cache_dir": {"type": "str", "default": ".cache/release"},
    "locks_dir": {"type": "str", "default": "var/locks"},
    "seconds": {"type": "float", "default": 1800},
    "workers": {"type": "int", "default": 1},
    "fresh_seconds": {"type": "int", "default": 0},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_suites.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        result.update(changed=False, suites=[], lines=[], evidence=[])
        try:
            need_tools()
            signer = self._signer(args, variables)
            place, signers = (project_path(variables, args[name]) for name in ("releases_dir", "release_signers"))
            wanted = _releases_wanted.wanted_versions(_plan_hosts.Hosts(variables), args["versions"])
            releases = [_releases_wanted.verified(place, signers, *pair) for pair in wanted]
            for release in releases:
                self._one(release, args, variables, signer, result)
        except ReleaseError as error:
            result.update(failed=True, msg=str(error), code=error.code)
        except OSError as error:
            what = f"{error.filename or 'The disk'} cannot be used ({error.strerror or error})"
            result.update(
                failed=True, msg=f"{what}: free space or correct its owner, then run this again.", code="disk"
            )
        return result

    def _signer(self, args: Json, variables: Mapping[str, Any]) -> keys.Signer:
        key, signers = (
            str(project_path(variables, args[name])) if args[name] else ""
            for name in ("signing_key", "allowed_signers")
        )
        return keys.find_signer(key, signers, project_path(variables, args["keys_dir"]), _evidence.NAMESPACE)

    def _one(
        self,
        release: Release,
        args: Json,
        variables: Mapping[str, Any],
        signer: keys.Signer,
        result: Json,
    ) -> None:
        """Test one release; the others follow whatever comes of it."""
        # Only now, because it needs the tools that releases are built with.
        from ansible_collections.lightning_goats.hive.plugins.module_utils import _suites, _suites_run

        title = f"{release.name} {release.version}  {release.digest[:12]}"
        directory = project_path(variables, args["evidence_dir"])
        recent = recent_evidence(directory, release, signer.allowed_signers, args["fresh_seconds"], time.time())
        if recent is not None:
            result["lines"].append(f"{title}  green: its evidence is recent enough")
            result["evidence"].append(str(recent.path))
            return
        result["changed"] = True
        if self._task.check_mode:
            result["lines"].append(f"{title}  its tests would run")
            return
        workspace, cache, locks = (
            project_path(variables, args[name]) for name in ("workspace", "cache_dir", "locks_dir")
        )
        settings = _suites_run.Settings(workspace, cache, locks, args["seconds"], args["workers"])
        try:
            source = args["sources"].get(release.name, f"plugins_src/{release.name}")
            outcome = _suites_run.test(release, workspace / str(source), settings)
        except ReleaseError as error:
            result["lines"].append(f"{title}  NOT TESTED: {error}")
            if not result.get("failed"):
                result.update(failed=True, msg=str(error), code=error.code)
            return
        if signer.throwaway:
            keys.create_throwaway(signer, IDENTITY)
        made = _suites.statement(outcome, args["valid_days"])
        made["predicate"][_evidence.OWN]["command"] = command(release)
        path = _evidence.write(directory, _suites.KIND, release.name, made, signer)
        result["suites"].append(made["predicate"][_evidence.OWN])
        result["evidence"].append(str(path))
        result["lines"] += [outcome.line] if outcome.passed else [outcome.line, f"  evidence: {path}"]
        if not outcome.passed and not result.get("failed"):
            said = f"{release.name} {release.version} is not green: {'; '.join(outcome.troubles)}; evidence: {path}"
            result.update({"failed": True, "msg": said, "code": "suite-failed"})


def recent_evidence(
    directory: Path, release: Release, allowed_signers: Path, fresh_seconds: int, now: float
) -> _evidence.Evidence | None:
    """The green evidence about this very artifact that makes another run needless; None when there has to be one."""
    if fresh_seconds <= 0:
        return None
    found = _evidence.newest(directory, "suite", release.name, allowed_signers)
    if found is None or found.result != _evidence.PASSED or found.expired(now):
        return None
    same = (found.facts.get("release") or {}).get("digest") == release.digest
    return found if same and 0 <= now - found.finished_at <= fresh_seconds else None


def command(release: Release) -> str:
    """What runs the tests of one release again."""
    versions = json.dumps({"hive_release_versions": {release.name: release.version}})
    return f"ansible-playbook playbooks/suites.yml -e '{versions}'"
