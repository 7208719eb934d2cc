# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_security: looks at the releases of the fleet and signs what was found. It connects to no node."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _audit,
    _evidence,
    _plan_hosts,
    _releases_wanted,
    _sbom,
    _security,
    _surface,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release, ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import project_path

Json = dict[str, Any]
Variables = Mapping[str, Any]
Make = Callable[[], _security.Finding]

IDENTITY = "evidence@sandbox"
RUNES = "__hive_runes_result"
CHECKS = ["surface", "mcp", "audit", "sbom"]
ARGUMENTS: Json = {
    "checks": {"type": "list", "elements": "str", "choices": CHECKS, "default": CHECKS},
    "versions": {"type": "dict", "default": {}},
    "live": {"type": "bool", "default": True},
    "releases_dir": {"type": "str", "required": True},
    "release_signers": {"type": "str", "required": True},
    "reviewed_dir": {"type": "str", "default": ""},
    "mcp_server": {"type": "str", "default": ""},
    "advisories": {"type": "str", "default": ""},
    "advisories_max_age_days": {"type": "int", "default": 14},
    "audit_online": {"type": "bool", "default": False},
    "evidence_dir": {"type": "str", "required": True},
    "signing_key": {"type": "str", "default": ""},
    "allowed_signers": {"type": "str", "default": ""},
    "keys_dir": {"type": "str", "default": "var/keys"},
    "valid_days": {"type": "int", "default": 30},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_security.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Variables | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        result.update(changed=False, findings=[], lines=[], evidence=[], bad=[], missing=[])
        try:
            self._look(args, variables, result)
        except ReleaseError as error:
            result.update(failed=True, msg=str(error), code=error.code)
        except OSError as error:
            what = f"{error.filename or 'The disk'} cannot be used ({error.strerror or error})"
            result.update(
                failed=True, msg=f"{what}: free space or correct its owner, then run this again.", code="disk"
            )
        return result

    def _look(self, args: Json, variables: Variables, result: Json) -> None:
        signer = signer_of(args, variables)
        hosts = _plan_hosts.Hosts(variables)
        place, signers = (project_path(variables, args[name]) for name in ("releases_dir", "release_signers"))
        wanted = _releases_wanted.wanted_versions(hosts, args["versions"])
        releases = {pair: _releases_wanted.verified(place, signers, *pair) for pair in wanted}
        if not self._task.check_mode and signer.throwaway:
            keys.create_throwaway(signer, IDENTITY)
        look = _Look(args, variables, hosts, releases, bool(self._task.check_mode))
        rows = rows_of_nodes(hosts)
        for check in args["checks"]:
            for name, make in look.of(check):
                started = time.time()
                try:
                    finding = make()
                except ReleaseError as error:
                    # The others are looked at all the same.
                    rows.append({"name": name, "state": "none", "detail": str(error), "ok": False, "wrong": True})
                    continue
                rows.append(finding.row)
                result["changed"] |= finding.changed or finding.state != "none"
                if finding.state != "none" and not self._task.check_mode:
                    path = write(finding, started, args, variables, signer)
                    result["evidence"].append(str(path))
        told(rows, result)


def signer_of(args: Json, variables: Variables) -> keys.Signer:
    """Who signs the evidence."""
    key, signers = (
        str(project_path(variables, args[name])) if args[name] else "" for name in ("signing_key", "allowed_signers")
    )
    return keys.find_signer(key, signers, project_path(variables, args["keys_dir"]), _evidence.NAMESPACE)


def write(finding: _security.Finding, started: float, args: Json, variables: Variables, signer: keys.Signer) -> Path:
    """Sign one finding."""
    made = _security.statement(finding, started, args["valid_days"])
    return _evidence.write(project_path(variables, args["evidence_dir"]), finding.kind, finding.label, made, signer)


def told(rows: list[Json], result: Json) -> None:
    """Put what was found into the result."""
    bad = [row for row in rows if row["state"] == _evidence.FAILED or row.get("wrong")]
    missing = [row["name"] for row in rows if row["state"] == "none"]
    said = f"{sum(row['ok'] for row in rows)} of {len(rows)} hold"
    result.update(
        findings=rows,
        lines=_security.table(rows),
        missing=missing,
        bad=[f"{row['name']}: {row['detail'].rstrip('.')}" for row in bad],
        msg=said + (f"; no evidence of {', '.join(missing)}" if missing else ""),
    )


def rows_of_nodes(hosts: _plan_hosts.Hosts) -> list[Json]:
    """What hive_runes found on each node, and why it found nothing."""
    rows = []
    for node in hosts.names:
        found = hosts.result(node, RUNES)
        trouble = _plan_hosts.trouble(node, found)
        if trouble:
            rows.append({"name": f"runes-{node}", "state": "none", "detail": trouble, "ok": False})
        elif found is not None:
            rows.append(dict(found["finding"]))
    return rows


class _Look:
    """What is looked at, and with what."""

    def __init__(
        self,
        args: Json,
        variables: Variables,
        hosts: _plan_hosts.Hosts,
        releases: Mapping[tuple[str, str], Release],
        check_mode: bool,
    ) -> None:
        self.args = args
        self.variables = variables
        self.hosts = hosts
        self.releases = releases
        self.check_mode = check_mode
        self.own = project_path(variables, args["reviewed_dir"]) if args["reviewed_dir"] else None
        # By plugin: of two versions in one fleet each gets evidence of its own, the newest last.
        self.ordered = [releases[pair] for pair in sorted(releases)]

    def of(self, check: str) -> list[tuple[str, Make]]:
        """One call for each finding of a kind, by the finding's name."""
        if check == "mcp":
            return [("mcp-tools", self._tools)]
        makers: dict[str, Callable[[Release], _security.Finding]] = {
            "surface": self._surface,
            "audit": self._audit,
            "sbom": lambda one: _security.sbom(one, self.check_mode),
        }
        return [(f"{check}-{one.name}", partial(makers[check], one)) for one in self.ordered]

    def _surface(self, release: Release) -> _security.Finding:
        return _security.surface(release, _surface.read(_surface.RPC, self.own), self.live)

    def _tools(self) -> _security.Finding:
        server = project_path(self.variables, self.args["mcp_server"]) if self.args["mcp_server"] else None
        return _security.tools(server, _surface.read(_surface.TOOLS, self.own), self.ordered)

    def _audit(self, release: Release) -> _security.Finding:
        _audit.need_pip_audit()
        asked = self.carried[release.digest]
        found = self.advisories
        if isinstance(found, ReleaseError):
            raise found
        if found is None:
            return _security.Finding("audit", release.name, missing=_security.NO_DATABASE)
        service, source = found
        return _security.audit(release, _audit.audit(asked, service), len(asked), source)

    @cached_property
    def carried(self) -> dict[str, dict[str, str]]:
        """By artifact, name and version of what it carries of others; what is ours is on no index."""
        return {
            one.digest: {
                item.name: item.version
                for item in _sbom.distributions(one)
                if item.name != one.name and item.name not in _sbom.OWN
            }
            for one in self.ordered
        }

    @cached_property
    def advisories(self) -> tuple[Any, Json] | ReleaseError | None:
        """Where advisories come from and what evidence says of it, read once; None when nothing was given.

        What was given and cannot be used, or is too old, is the error that says so.
        """
        if self.args["advisories"]:
            path = project_path(self.variables, self.args["advisories"])
            days = self.args["advisories_max_age_days"]
            try:
                database = _audit.load(path, {name for there in self.carried.values() for name in there})
                return _audit.service(database), _security.source_of(path, str(path), database, days, time.time())
            except ReleaseError as error:
                return error
        return (_audit.online(), {"name": "pypi.org", "title": "pypi.org"}) if self.args["audit_online"] else None

    @cached_property
    def live(self) -> dict[str, tuple[list[str], list[Release]]]:
        """By node, what its lightningd lists and the releases that run there, of nodes that run nothing else of ours.

        A node before its rollout runs older releases; what these show says nothing about the new ones.
        """
        found = {}
        for node in self.hosts.names if self.args["live"] else ():
            told = self.hosts.result(node, RUNES) or {}
            running = [self._release(item) for item in told.get("running") or ()]
            there = [release for release in running if release is not None]
            if there and len(there) == len(running):
                found[node] = (list(told["commands"]), there)
        return found

    def _release(self, running: Json) -> Release | None:
        """The release that a plugin runs, None when it is none of those that are looked at."""
        name, slot = str(running["name"]), str(running["slot"])
        return next((one for one in self.ordered if one.name == name and one.digest.startswith(slot)), None)
