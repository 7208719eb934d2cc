# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_drill: builds the scratch lightningd once, brings it, lets the node drill, and signs what was found."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import project_path
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_tools import MACHINES, need_tools

Json = dict[str, Any]

KIND = "drill"
DAY = 86400
ARGUMENTS: Json = {
    "node": {"type": "dict", "required": True},
    "set": {"type": "str", "default": ""},
    "fresh_seconds": {"type": "int", "default": 0},
    "evidence_dir": {"type": "str", "required": True},
    "signing_key": {"type": "str", "default": ""},
    "allowed_signers": {"type": "str", "default": ""},
    "keys_dir": {"type": "str", "default": "var/keys"},
    "valid_days": {"type": "int", "default": 30},
    "sandbox": {"type": "str", "default": "sandbox"},
    "workspace": {"type": "str", "default": "."},
    "cache_dir": {"type": "str", "default": ".cache/release"},
    "architectures": {"type": "list", "elements": "str", "choices": MACHINES, "default": MACHINES},
    "timeouts": {"type": "dict", "default": {}},
    "min_free_bytes": {"type": "int", "default": 268435456},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_drill.py for what it takes and returns."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        node = str(args["node"].get("name", ""))
        directory = project_path(variables, args["evidence_dir"])
        try:
            signer = self._signer(args, variables)
            recent = recent_evidence(directory, node, signer.allowed_signers, args, time.time())
            if recent is not None:
                result.update(_as_found(recent))
                return result
            lightningd = {"digest": "", "wheels": {}}
            if not self._task.check_mode:
                lightningd = self._prepare(args, variables, signer)
            result.update(self._drill(args, lightningd, variables))
            if result.get("drill"):
                result["changed"] = True
                result.update(judged(result["drill"], directory, args, signer))
            elif self._task.check_mode and not result.get("failed"):
                result["changed"] = True
        except ReleaseError as error:
            result.update(failed=True, msg=str(error), code=error.code)
        except OSError as error:
            what = f"{error.filename or 'The disk'} cannot be used ({error.strerror or error})"
            result.update(
                failed=True, msg=f"{what}: free space or correct its owner, then run this again.", code="disk"
            )
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _signer(self, args: Json, variables: Mapping[str, Any]) -> keys.Signer:
        key, signers = (
            str(project_path(variables, args[name])) if args[name] else ""
            for name in ("signing_key", "allowed_signers")
        )
        return keys.find_signer(key, signers, project_path(variables, args["keys_dir"]), _evidence.NAMESPACE)

    def _prepare(self, args: Json, variables: Mapping[str, Any], signer: keys.Signer) -> Json:
        """Make the scratch lightningd and the throw-away key unless they are there; one node's task at a time."""
        need_tools()
        # Only now, because they need those tools.
        from ansible_collections.lightning_goats.hive.plugins.module_utils import _drill_artifact
        from ansible_collections.lightning_goats.hive.plugins.module_utils._release import alone

        source, workspace, cache = (
            project_path(variables, args[name]) for name in ("sandbox", "workspace", "cache_dir")
        )
        with alone(cache / "drill"):
            if signer.throwaway:
                keys.create_throwaway(signer, "evidence@sandbox")
            built = _drill_artifact.artifact(source, workspace, cache, args["architectures"])
        return {"digest": built.digest, "wheels": built.wheels, "incoming": str(built.file)}

    def _drill(self, args: Json, lightningd: Json, variables: Mapping[str, Any]) -> Json:
        """One module call when the node has the scratch lightningd or sees our file; else a transfer and another."""
        source = lightningd.get("incoming", "")
        if self._connection.transport != "local" or self._play_context.become:
            lightningd = {**lightningd, "incoming": ""}
        done = self._call(args, lightningd, variables)
        if done.get("missing") and not done.get("failed"):
            done = self._call(args, {**lightningd, "incoming": self._send(Path(source))}, variables)
        return done

    def _call(self, args: Json, lightningd: Json, variables: Mapping[str, Any]) -> Json:
        done: Json = self._execute_module(
            module_name="lightning_goats.hive.hive_drill",
            module_args={**args, "lightningd": lightningd},
            task_vars=variables,
        )
        return done

    def _send(self, source: Path) -> str:
        """Copy the scratch lightningd to the node and return where it is there."""
        shell = self._connection._shell
        if not shell.tmpdir:
            self._make_tmp_path()
        target = str(shell.join_path(shell.tmpdir, source.name))
        self._transfer_file(str(source), target)
        self._fixup_perms2((shell.tmpdir, target), execute=False)
        return target


def recent_evidence(
    directory: Path, node: str, allowed_signers: Path, args: Json, now: float
) -> _evidence.Evidence | None:
    """The evidence that makes another drill needless; None when there has to be one."""
    if args["fresh_seconds"] <= 0:
        return None
    found = _evidence.newest(directory, KIND, node, allowed_signers)
    if found is None or found.result != _evidence.PASSED or found.expired(now):
        return None
    same = not args["set"] or args["set"] == found.facts.get("set", {}).get("id")
    return found if same and 0 <= now - found.finished_at <= args["fresh_seconds"] else None


def judged(drill: Json, directory: Path, args: Json, signer: keys.Signer) -> Json:
    """Sign what was found; a set that does not hold makes the task fail."""
    node = str(drill["node"]["name"])
    path = _evidence.write(directory, KIND, node, statement(drill, args), signer)
    found = _evidence.read(path, signer.allowed_signers)
    failed = drill["result"] != _evidence.PASSED
    answer = {
        "failed": failed,
        "evidence": {
            "path": str(path),
            "signature": str(_evidence.signature_of(path)),
            "signer": found.signer,
            "expires_at": found.expires_at,
        },
    }
    if failed:
        return {**answer, "msg": f"{drill['reason']}; use another set, evidence: {path}", "code": "drill-failed"}
    return {**answer, "msg": f"{_told(drill)}; evidence: {path}"}


def _told(drill: Json) -> str:
    """A drill that passed, in one sentence."""
    held, untested = (sum(check["ok"] is ok for check in drill["checks"]) for ok in (True, None))
    more = f", {untested} could not be made" if untested else ""
    ahead = sum(
        count for tables in drill["rpo"]["rows_since"].values() for count in (tables or {}).values() if count > 0
    )
    return (
        f"set {drill['set']['id']} comes back whole: {held} checks hold{more}; restored and all plugins well in "
        f"{drill['rto_seconds']:.1f} s; the node is {drill['rpo']['age_seconds']:.0f} s and {ahead} rows ahead of it"
    )


def statement(drill: Json, args: Json) -> Json:
    """What was found as an in-toto statement."""
    titles: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for check in drill["checks"]:
        titles[check["ok"]].append(" ".join(word for word in (check["plugin"], check["name"]) if word))
    subjects = {f"{item['name']}-{item['version']}.pex": item["digest"] for item in drill["releases"]}
    tested_with = {"scratch-lightningd.pex": drill["lightningd"]["digest"]}
    if drill["set"]["manifest_sha256"]:
        subjects[f"backups/{drill['set']['id']}/manifest.json"] = drill["set"]["manifest_sha256"]
    facts = {
        "kind": KIND,
        **drill,
        "expires_at": drill["finished_at"] + args["valid_days"] * DAY if args["valid_days"] else None,
        "command": f"ansible-playbook playbooks/drill.yml --limit {drill['node']['name']} -e hive_drill_set="
        f"{drill['set']['id']}",
    }
    outcomes = _evidence.Outcomes(titles[True], titles[False], titles[None])
    # A statement has to be about something: where no release and no manifest is left, about what it was tried with.
    return _evidence.statement(drill["result"], subjects or tested_with, tested_with, outcomes, facts)


def _as_found(found: _evidence.Evidence) -> Json:
    """The result of a drill that was not necessary."""
    return {
        "changed": False,
        "set_id": found.facts["set"]["id"],
        "drill": found.facts,
        "evidence": {
            "path": str(found.path),
            "signature": str(_evidence.signature_of(found.path)),
            "signer": found.signer,
            "expires_at": found.expires_at,
        },
        "swept": [],
        "missing": [],
        "msg": f"the drill of {found.facts['node']['name']} is recent enough",
    }
