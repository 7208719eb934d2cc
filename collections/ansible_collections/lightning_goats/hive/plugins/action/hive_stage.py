# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Bring the files of releases to the node, then let the module verify and unpack them there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import project_path

FILES = ("manifest.json", "manifest.json.sig")


class ActionModule(ActionBase):  # type: ignore[misc]
    """One module call when the node has everything or sees our files; a transfer and a second call otherwise."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        releases = arguments.get("releases") or []
        if not isinstance(releases, list):
            raise AnsibleActionFail("releases must be a list; see the module's documentation")
        arguments["signers_text"] = self._read(project_path(task_vars or {}, str(arguments.get("allowed_signers", ""))))
        arguments["incoming"] = {}
        if self._connection.transport == "local" and not self._play_context.become:
            arguments["incoming"] = {str(item["digest"]): str(Path(str(item["path"])).absolute()) for item in releases}
        try:
            result.update(self._call(arguments, task_vars))
            missing = set(result.get("missing") or [])
            if missing and not result.get("failed") and not self._task.check_mode:
                arguments["incoming"] = {
                    str(item["digest"]): self._send(item) for item in releases if str(item["digest"]) in missing
                }
                first = result.get("staged") or []
                result.update(self._call(arguments, task_vars))
                result["changed"] = bool(result.get("changed") or first)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _call(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        done: dict[str, Any] = self._execute_module(
            module_name="lightning_goats.hive.hive_stage", module_args=arguments, task_vars=task_vars
        )
        return done

    def _read(self, name: Path) -> str:
        try:
            return name.read_text(encoding="utf-8")
        except OSError as error:
            raise AnsibleActionFail(
                f"The list of allowed signers {str(name)!r} cannot be read ({error.strerror}); build the "
                "releases first "
                "(playbooks/release.yml) or set hive_allowed_signers."
            ) from error

    def _send(self, item: dict[str, Any]) -> str:
        """Copy one release directory to the node and return where it is there."""
        source = Path(str(item["path"]))
        shell = self._connection._shell
        if not shell.tmpdir:
            self._make_tmp_path()
        target = shell.join_path(shell.tmpdir, str(item["digest"])[:16])
        self._low_level_execute_command(f"mkdir -p {target}", sudoable=False)
        names = [*FILES, *sorted(path.name for path in source.glob("*.pex"))]
        for name in names:
            if not (source / name).is_file():
                raise AnsibleActionFail(f"{source / name} is missing; build the release again (playbooks/release.yml).")
            self._transfer_file(str(source / name), shell.join_path(target, name))
        self._fixup_perms2((shell.tmpdir, target, *(shell.join_path(target, name) for name in names)), execute=False)
        return str(target)
