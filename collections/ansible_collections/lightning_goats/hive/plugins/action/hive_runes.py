# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_runes: reads the roles here, lets the node make and try their runes, brings copies, and signs what was found."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.action.hive_security import IDENTITY, signer_of, write
from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _security, _surface
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import plain, project_path
from ansible_collections.lightning_goats.hive.plugins.module_utils._runes import Role

Json = dict[str, Any]

ARGUMENTS: Json = {
    "node": {"type": "dict", "required": True},
    "fleet": {"type": "str", "default": ""},
    "roles": {"type": "list", "elements": "raw", "default": []},
    "rotate": {"type": "bool", "default": False},
    "max_age_days": {"type": "int", "default": 0},
    "runes_dir": {"type": "str", "default": ""},
    "reviewed_dir": {"type": "str", "default": ""},
    "evidence_dir": {"type": "str", "required": True},
    "signing_key": {"type": "str", "default": ""},
    "allowed_signers": {"type": "str", "default": ""},
    "keys_dir": {"type": "str", "default": "var/keys"},
    "valid_days": {"type": "int", "default": 30},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_runes.py for what it takes and returns."""

    TRANSFERS_FILES = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            result.update(self._keep(args, variables))
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

    def _keep(self, args: Json, variables: Mapping[str, Any]) -> Json:
        started, node = time.time(), str(args["node"].get("name", ""))
        own = project_path(variables, args["reviewed_dir"]) if args["reviewed_dir"] else None
        rpc, rules = _surface.read(_surface.RPC, own), _surface.read(_surface.RUNES, own)
        methods = _surface.classes(rpc)
        roles = _surface.roles(rules, methods, plain(args["roles"]))
        signer = signer_of(args, variables)
        asked = {
            "node": args["node"],
            "evidence_dir": args["evidence_dir"],
            "roles": [role.as_json() for role in roles],
            "refused": _surface.refused(rules, methods),
            "takes_over": list(rules.content.get("takes_over") or []),
            "rotate": args["rotate"],
            "max_age_days": args["max_age_days"],
        }
        done = self._call(asked, variables)
        if done.get("failed") or done.get("unreachable"):
            return done
        copied = self._copies(args, roles, asked, done, variables)
        finding = _security.runes(node, done, rpc, rules, args["fleet"])
        done["changed"] = bool(done["changed"]) or copied
        done["evidence"] = None
        done["diff"] = _diff(done)
        done["finding"] = finding.row
        done["msg"] = _said(done)
        if not self._task.check_mode:
            if signer.throwaway:
                keys.create_throwaway(signer, IDENTITY)
            path = write(finding, started, args, variables, signer)
            found = _evidence.read(path, signer.allowed_signers)
            done["evidence"] = {
                "path": str(path),
                "signature": str(_evidence.signature_of(path)),
                "signer": found.signer,
                "expires_at": found.expires_at,
            }
        return done

    def _call(self, asked: Json, variables: Mapping[str, Any], **more: Any) -> Json:
        done: Json = self._execute_module(
            module_name="lightning_goats.hive.hive_runes", module_args={**asked, **more}, task_vars=variables
        )
        return done

    def _copies(self, args: Json, roles: Sequence[Role], asked: Json, done: Json, variables: Mapping[str, Any]) -> bool:
        """Bring the runes here, each into a file that only its owner can read, and remove those of roles that are gone.

        They come as files and never in a result, which would be shown, kept and logged.
        """
        if not args["runes_dir"]:
            return False
        place = project_path(variables, args["runes_dir"]) / str(args["node"]["name"])
        wanted = {f"{entry['label']}.rune" for entry in done["runes"] if not entry["failed"]}
        there = {path.name for path in place.glob("*.rune")} if place.is_dir() else set()
        news = {f"{entry['label']}.rune" for entry in done["runes"] if entry["changed"]}
        bring = wanted - there | wanted & news
        if self._task.check_mode or (not bring and there <= wanted):
            return bool(bring or there - wanted)
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.chmod(0o700)
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        into = self._connection._shell.tmpdir
        files = self._call(asked, variables, hand_out=into).get("files") or []
        for source in files:
            label = str(source).rpartition("/hiverole-")[2]
            partial, target = place / f".{label}.part", place / f"{label}.rune"
            # Made by us and empty first: whoever fetches keeps the mode of what is there.
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
            self._connection.fetch_file(str(source), str(partial))
            partial.chmod(0o600)
            partial.replace(target)
        for name in there - wanted:
            (place / name).unlink()
        return True


def _said(done: Json) -> str:
    """What was changed, for people."""
    made = [entry["label"] for entry in done["runes"] if entry["changed"] and not entry["failed"]]
    words = [f"runes made for {', '.join(made)}"] if made else []
    words += [f"{len(done['revoked'])} revoked"] if done["revoked"] else []
    return "; ".join(words) or "no rune was changed"


def _diff(done: Json) -> Json:
    """Roles with the numbers of their runes; never a rune."""
    revoked = {entry["label"]: entry["id"] for entry in done["revoked"]}
    now = {entry["label"]: entry["id"] for entry in done["runes"]}
    kept = {entry["label"]: entry["id"] for entry in done["runes"] if not entry["changed"]}
    return {"before": {**revoked, **kept}, "after": now}
