# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Verify a release of lightningd here, and send it to the node only then."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from lzma import LZMAError
from pathlib import Path
from typing import Any
from urllib.error import URLError

from ansible.errors import AnsibleActionFail
from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._lightningd_archive import (
    Release,
    file_sum,
    prove,
    release_version,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._lightningd_install import SHORT
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import project_path

NEEDED = {
    "sha256": "hive_node_archive_sha256",
    "key": "hive_node_signer_key",
    "signer": "hive_node_signer",
}
SCHEMES = ("https://", "http://")
SECONDS = 60
ROOT = "/opt/lightningd"


def foreseen(archive: Path, release: Release, root: str) -> dict[str, str]:
    """What the module is going to say of an archive that it has not unpacked yet, as far as its names tell."""
    try:
        with tarfile.open(archive) as tar:
            names = [name.removeprefix("./") for name in tar.getnames()]
    except (tarfile.TarError, EOFError, LZMAError) as error:
        raise AnsibleActionFail(f"{archive} is damaged or no archive ({error}); fetch it again.") from error
    program = next((name for name in names if name.endswith("bin/lightningd")), "usr/bin/lightningd")
    prefix = f"{root}/{release.sha256[:SHORT]}/root/{program.removesuffix('/bin/lightningd')}"
    return {
        "version": release_version(release.name),
        "program": f"{prefix}/bin/lightningd",
        "cli": f"{prefix}/bin/lightning-cli",
        "prefix": prefix,
        "digest": release.sha256,
        "signer": release.signer,
    }


class ActionModule(ActionBase):  # type: ignore[misc]
    """One module call when the node has that version; verification, a transfer and a second call otherwise."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = {key: value for key, value in self._task.args.items() if key != "incoming"}
        variables = task_vars or {}
        if not arguments.get("program"):
            self._check(arguments)
        try:
            result.update(self._call(arguments, task_vars))
            if not result.get("missing") or result.get("failed"):
                return result
            archive, release = self._verified(arguments, variables)
            if self._task.check_mode:
                result["lightningd"] = foreseen(archive, release, str(arguments.get("root") or ROOT))
            else:
                sent = {**arguments, "signer": release.signer, "incoming": self._send(archive, release.name)}
                result.update(self._call(sent, task_vars))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _call(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        done: dict[str, Any] = self._execute_module(
            module_name="lightning_goats.hive.hive_lightningd", module_args=arguments, task_vars=task_vars
        )
        return done

    @staticmethod
    def _check(arguments: Mapping[str, Any]) -> None:
        if not arguments.get("archive"):
            raise AnsibleActionFail(
                "Name a release archive (hive_node_archive) or a lightningd that is on the node (hive_node_lightningd)."
            )
        for name, variable in NEEDED.items():
            if not arguments.get(name):
                raise AnsibleActionFail(f"{variable} is empty: an archive is installed only when it can be verified.")

    def _verified(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> tuple[Path, Release]:
        """The archive on the controller, proven, and what was proven."""
        source = str(arguments["archive"])
        name = source.rpartition("/")[2]
        try:
            sums = str(arguments.get("sums") or f"{source[: -len(name)]}SHA256SUMS-{release_version(name)}")
            signature = str(arguments.get("signature") or f"{sums}.asc")
            archive = self._archive(source, name, arguments, variables)
            release = prove(
                archive,
                name,
                str(arguments["sha256"]),
                self._read(sums, variables),
                self._read(signature, variables),
                self._read(str(arguments["key"]), variables),
                str(arguments["signer"]),
            )
        except HiveError as error:
            raise AnsibleActionFail(error.message, result={"code": error.code}) from error
        return archive, release

    def _archive(self, source: str, name: str, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> Path:
        """The archive as a file; one that has to be fetched is kept under its checksum."""
        if not source.startswith(SCHEMES):
            return project_path(variables, source)
        directory = project_path(variables, str(arguments.get("cache_dir") or "var/lightningd"))
        path = directory / str(arguments["sha256"]).lower() / name
        if path.is_file() and file_sum(path) == str(arguments["sha256"]).lower():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            partial = Path(file.name)
            try:
                with self._open(source) as answer:
                    shutil.copyfileobj(answer, file)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        return path

    def _read(self, source: str, variables: Mapping[str, Any]) -> bytes:
        if source.startswith(SCHEMES):
            with self._open(source) as answer:
                content: bytes = answer.read()
            return content
        path = project_path(variables, source)
        try:
            return path.read_bytes()
        except OSError as error:
            raise AnsibleActionFail(f"{path} cannot be read ({error.strerror}); is the path right?") from error

    @staticmethod
    def _open(url: str) -> Any:
        try:
            return open_url(url, timeout=SECONDS)
        except (URLError, OSError, ValueError) as error:
            raise AnsibleActionFail(
                f"{url} cannot be fetched ({error}); fetch it yourself and give its path instead."
            ) from error

    def _send(self, archive: Path, name: str) -> str:
        """Copy the archive to the node, unless the node is this machine, and return where it is there."""
        if self._connection.transport == "local" and not self._play_context.become:
            return str(archive)
        shell = self._connection._shell
        if not shell.tmpdir:
            self._make_tmp_path()
        target: str = shell.join_path(shell.tmpdir, name)
        self._transfer_file(str(archive), target)
        self._fixup_perms2((shell.tmpdir, target), execute=False)
        return target
