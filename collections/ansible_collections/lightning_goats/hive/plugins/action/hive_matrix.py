# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_matrix: starts every combination of the plugins on scratch nodes of this machine, and signs what was seen."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _matrix, _plan_hosts
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_checks import Check
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release, ReleaseError, load_release
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import project_path
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_tools import MACHINES, need_tools
from ansible_collections.lightning_goats.hive.plugins.module_utils._releases_wanted import verified, wanted_stacks

Json = dict[str, Any]
Stack = dict[str, Release]

IDENTITY = "evidence@sandbox"
RUNTIMES = ("docker", "systemd", "process")
ARGUMENTS: Json = {
    "versions": {"type": "dict", "default": {}},
    "older": {"type": "dict", "default": {}},
    "combinations": {
        "type": "list",
        "elements": "str",
        "choices": list(_matrix.NAMES),
        "default": list(_matrix.NAMES),
    },
    "releases_dir": {"type": "str", "required": True},
    "release_signers": {"type": "str", "required": True},
    "evidence_dir": {"type": "str", "required": True},
    "signing_key": {"type": "str", "default": ""},
    "allowed_signers": {"type": "str", "default": ""},
    "keys_dir": {"type": "str", "default": "var/keys"},
    "valid_days": {"type": "int", "default": 30},
    "sandbox": {"type": "str", "default": "sandbox"},
    "workspace": {"type": "str", "default": "."},
    "cache_dir": {"type": "str", "default": ".cache/release"},
    "architectures": {"type": "list", "elements": "str", "choices": MACHINES, "default": MACHINES},
    "patience_seconds": {"type": "float", "default": 60},
    "seconds": {"type": "float", "default": 900},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_matrix.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        result.update(changed=False, lines=[], evidence=[], outcomes=[])
        try:
            need_tools()
            run_ = _Run(args, variables, time.monotonic() + args["seconds"])
            stacks = run_.stacks(_plan_hosts.Hosts(variables))
            result["changed"] = True
            if self._task.check_mode:
                result["lines"] = [f"{name:14} would run" for stack in stacks for name in run_.names(stack)]
                return result
            for outcome, path in run_.everything(stacks):
                result["lines"].append(outcome.line)
                result["evidence"].append(str(path))
                result["outcomes"].append({"name": outcome.name, "result": outcome.result, "reason": outcome.reason})
                if outcome.result != _evidence.FAILED:
                    continue
                result["lines"].append(f"  evidence: {path}")
                if not result.get("failed"):
                    said = f"The combination {outcome.name} does not hold: {outcome.reason}; evidence: {path}"
                    result.update({"failed": True, "msg": said, "code": "matrix-failed"})
        except ReleaseError as error:
            result.update(failed=True, msg=str(error), code=error.code)
        except HiveError as error:
            result.update(failed=True, msg=error.message, code=error.code)
        except OSError as error:
            what = f"{error.filename or 'The disk'} cannot be used ({error.strerror or error})"
            result.update(
                failed=True, msg=f"{what}: free space or correct its owner, then run this again.", code="disk"
            )
        return result


class _Run:
    """One call: what is there, and what comes of it."""

    def __init__(self, args: Json, variables: Mapping[str, Any], deadline: float) -> None:
        self.args = args
        self.deadline = deadline
        self.releases, self.release_signers, self.evidence, self.cache, self.workspace, self.sandbox = (
            project_path(variables, args[name])
            for name in ("releases_dir", "release_signers", "evidence_dir", "cache_dir", "workspace", "sandbox")
        )
        key, signers = (
            str(project_path(variables, args[name])) if args[name] else ""
            for name in ("signing_key", "allowed_signers")
        )
        self.signer = keys.find_signer(key, signers, project_path(variables, args["keys_dir"]), _evidence.NAMESPACE)

    def stacks(self, hosts: _plan_hosts.Hosts) -> list[Stack]:
        """The releases of every stack that a node is to run, verified, without plugins of others."""
        found: list[Stack] = []
        for versions in wanted_stacks(hosts, self.args["versions"]):
            stack = {
                name: verified(self.releases, self.release_signers, name, versions[name])
                for name in _matrix.ORDER
                if name in versions
            }
            if stack and stack not in found:
                found.append(stack)
        if not found:
            raise ReleaseError(
                "matrix-empty", "No node's hive_stack has one of our plugins, so there is no combination to try."
            )
        return found

    def names(self, stack: Stack) -> list[str]:
        """The names of the matrix that this stack can fill."""
        made = [one.name for one in _matrix.combinations(stack)]
        return [name for name in [*made, _matrix.MIXED, _matrix.MONOLITH] if name in self.args["combinations"]]

    def everything(self, stacks: Sequence[Stack]) -> Iterator[tuple[_matrix.Outcome, Path]]:
        """Run what can be run, and give each outcome with its evidence as soon as it is there."""
        # Only now, because they need the tools that releases are built with.
        from ansible_collections.lightning_goats.hive.plugins.module_utils import _drill_artifact, _matrix_run
        from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_scratch import Artifact
        from ansible_collections.lightning_goats.hive.plugins.module_utils._release import alone

        with alone(self.cache / "drill"):
            built = _drill_artifact.artifact(self.sandbox, self.workspace, self.cache, self.args["architectures"])
            if self.signer.throwaway:
                keys.create_throwaway(self.signer, IDENTITY)
        artifact = Artifact(built.digest, built.wheels, built.file)
        with alone(self.cache / "matrix"):
            _matrix_run.remove_left(self.cache)
            for stack in stacks:
                older, why = self._older(stack)
                needed = {one.digest: one for one in (*stack.values(), *older.values())}
                with (
                    tempfile.TemporaryDirectory(dir=self.cache, prefix=".matrix-") as directory,
                    _matrix_run.bench(
                        Path(directory),
                        list(needed.values()),
                        self.release_signers,
                        artifact,
                        self.args["patience_seconds"],
                    ) as bench,
                ):
                    for outcome in self._outcomes(bench, stack, older, why):
                        yield outcome, self._sign(outcome, built.digest)

    def _outcomes(self, bench: Any, stack: Stack, older: Stack, why: str) -> Iterator[_matrix.Outcome]:
        wanted = self.names(stack)
        for combination in _matrix.combinations(stack):
            if combination.name in wanted:
                yield self._tried(bench, combination.name, [combination], stack)
        if _matrix.MIXED in wanted:
            mixtures = _matrix.mixtures(stack, older)
            if mixtures:
                yield self._tried(bench, _matrix.MIXED, mixtures, stack)
            else:
                now, releases = time.time(), list(stack.values())
                yield _matrix.Outcome(
                    _matrix.MIXED, _matrix.artifacts(releases), _matrix.described(releases), now, now, untested=why
                )
        if _matrix.MONOLITH in wanted:
            yield self._monolith(stack)

    def _tried(
        self, bench: Any, name: str, combinations: Sequence[_matrix.Combination], stack: Stack
    ) -> _matrix.Outcome:
        from ansible_collections.lightning_goats.hive.plugins.module_utils import _matrix_run

        begun = time.time()
        checks: list[Check] = []
        missing: list[str] = []
        figures: Json = {}
        for combination in combinations:
            # Several under one name are told apart by their versions.
            which = f" ({combination.title})" if len(combinations) > 1 else ""
            if time.monotonic() >= self.deadline:
                late = f"the time of {self.args['seconds']:g} s was over before it began"
                checks.append(Check(f"time{which}", False, late))
                missing.append(f"everything{which}")
                continue
            done, absent, figure = _matrix_run.run(bench, combination)
            checks += [Check(f"{one.name}{which}", one.ok, one.detail, one.plugin) for one in done.done]
            missing += [f"{title}{which}" for title in absent]
            figures.update({f"{key}{which}": value for key, value in figure.items()})
        about = {one.digest: one for combination in combinations for one in combination.releases}
        own = [one for one in about.values() if stack[one.name].digest == one.digest]
        others = [one for one in about.values() if one not in own]
        return _matrix.Outcome(
            name,
            _matrix.artifacts(own),
            _matrix.described(list(about.values())),
            begun,
            time.time(),
            checks,
            missing,
            tested_with=_matrix.artifacts(others),
            figures=figures,
        )

    def _older(self, stack: Stack) -> tuple[Stack, str]:
        """The release before each of a stack, and why there is none when there is not one."""
        found: Stack = {}
        for name, release in stack.items():
            place = self.releases / name
            there = [path.name for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")]
            version = str(self.args["older"].get(name) or _matrix.before(release.version, there))
            if version:
                # It may have expired: nodes run it all the same until they are switched.
                found[name] = load_release(place / version, self.release_signers, name, version)
        if len(stack) < 2:
            return found, "one plugin alone is never mixed"
        return found, "" if found else f"there is no older release of any of these plugins in {self.releases}"

    def _monolith(self, stack: Stack) -> _matrix.Outcome:
        proofs: dict[str, list[_evidence.Evidence]] = {}
        for kind in ("adoption", "carry-back"):
            found = [
                _evidence.newest(self.evidence, kind, runtime, self.signer.allowed_signers) for runtime in RUNTIMES
            ]
            proofs[kind] = sorted((one for one in found if one is not None), key=lambda one: -one.finished_at)
        digests = {
            one.path.name: hashlib.sha256(one.path.read_bytes()).hexdigest() for some in proofs.values() for one in some
        }
        return _matrix.monolith(stack, proofs, digests, time.time())

    def _sign(self, outcome: _matrix.Outcome, lightningd: str) -> Path:
        given = {"hive_matrix_combinations": [outcome.name]}
        command = f"ansible-playbook playbooks/matrix.yml -e '{json.dumps(given)}'"
        # What is read from other evidence had no scratch node.
        known = {} if outcome.name == _matrix.MONOLITH or outcome.untested else {"digest": lightningd}
        made = _matrix.statement(outcome, known, command, self.args["valid_days"])
        return _evidence.write(self.evidence, _matrix.KIND, outcome.name, made, self.signer)
