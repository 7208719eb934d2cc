# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Pull a backup set from a node and encrypt it here, or open a copy here and send its set back to a node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import _copies
from ansible_collections.lightning_goats.hive.plugins.module_utils._copies_tar import tar_of
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import disk_error
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import project_path

Json = dict[str, Any]

ARGUMENTS: Json = {
    "node": {"type": "dict", "required": True},
    "state": {"type": "str", "choices": ["present", "fetched"], "default": "present"},
    "set": {"type": "str", "default": ""},
    "copies_dir": {"type": "str", "required": True},
    "recipients": {"type": "list", "elements": "str", "default": []},
    "identity": {"type": "str", "default": ""},
    "make_identity": {"type": "bool", "default": False},
    "keep": {"type": "int", "default": 10},
    "file": {"type": "str", "default": ""},
    "min_free_bytes": {"type": "int", "default": 268435456},
}
NO_RECIPIENTS = (
    "no copy leaves this node: hive_backup_age_recipients is empty; set it to the public key of an age identity that "
    "you keep elsewhere"
)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_copies.py for what it takes and returns."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        folder = _copies.Folder(project_path(variables, args["copies_dir"]), str(args["node"].get("name") or ""))
        result.update(changed=False, set=None, copy=None, channels="", removed=[], remark="")
        try:
            if args["state"] == "fetched":
                result.update(self._fetch(folder, args, variables))
            else:
                result.update(self._pull(folder, args, variables))
        except HiveError as error:
            raise AnsibleActionFail(error.message, result={"code": error.code, "changed": False}) from error
        except OSError as error:
            # Of this machine's own disk, which is as good as full when what was clear did not fit on it.
            told = disk_error(error, Path(str(error.filename or folder.path)))
            raise AnsibleActionFail(told.message, result={"code": told.code, "changed": False}) from error
        except _ModuleFailedError as error:
            result.update(error.result)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    @property
    def _here(self) -> bool:
        """Whether what lies on the node can be read and written from this very process."""
        return bool(self._connection.transport == "local" and not self._play_context.become)

    def _call(self, args: Json, variables: Json, **more: Any) -> Json:
        done: Json = self._execute_module(
            module_name="lightning_goats.hive.hive_copies",
            # Where the identity lies is nobody's business on the node.
            module_args={
                **{key: args[key] for key in ("node", "state", "set", "copies_dir", "min_free_bytes")},
                **more,
            },
            task_vars=variables,
        )
        if done.get("failed") or done.get("unreachable"):
            raise _ModuleFailedError(done)
        return done

    def _pull(self, folder: _copies.Folder, args: Json, variables: Json) -> Json:
        recipients = [str(name).strip() for name in args["recipients"]]
        own = None if recipients or not args["make_identity"] else project_path(variables, args["identity"])
        if own is not None:
            if self._task.check_mode and not own.exists():
                return remark(f"the key file {own} would be made, and with it a copy")
            recipients = [_copies.make_identity(own)]
        if not recipients:
            return remark(NO_RECIPIENTS)
        _copies.recipients_of(recipients)
        told = self._call(args, variables)
        found, channels = told.get("set"), told.get("channels")
        if found is None:
            return remark(f"there is no verified backup set on {folder.node} to copy")
        before = [copy.name for copy in folder.copies()]
        if self._task.check_mode:
            copy = self._sound(folder, found["id"], recipients)
            facts = {"changed": copy is None, "set": found, "copy": _copies.describe(copy) if copy else None}
            return {**facts, "msg": f"backup set {found['id']} {'has its copy' if copy else 'would be copied'}"}
        with folder.locked():
            copy = self._sound(folder, found["id"], recipients)
            made = copy is None
            if copy is None:
                with folder.workroom() as room:
                    chunks, promised = self._archive(args, variables, found, room)
                    copy = folder.make(room, found, chunks, promised, recipients)
            kept = False
            if channels is not None and folder.channels(recipients) != channels["sha256"]:
                kept = True
                with folder.workroom() as room:
                    chunks, promised = self._channels(args, variables, channels, room)
                    folder.keep_channels(room, chunks, promised, recipients)
            removed = folder.thin_out(int(args["keep"]))
        after = [copy.name for copy in folder.copies()]
        size = f"{copy.note['bytes'] / 2**10:.0f} KiB"
        words = f"encrypted copy of backup set {copy.name}, {size}, in {copy.path}"
        if own is not None:
            words += f"; only {own} opens it: keep that file apart from here, too"
        return {
            "msg": words if made else f"backup set {copy.name} has its copy in {copy.path}",
            "changed": made or kept or bool(removed),
            "set": found,
            "copy": _copies.describe(copy),
            "channels": str(folder.path / _copies.CHANNELS) if channels is not None else "",
            "removed": removed,
            "diff": {
                "before": "".join(f"{name}\n" for name in before),
                "after": "".join(f"{name}\n" for name in after),
            },
        }

    @staticmethod
    def _sound(folder: _copies.Folder, name: str, recipients: list[str]) -> _copies.Copy | None:
        """The copy of a set, when it is whole and made for exactly these keys."""
        copy = folder.find(name)
        if copy is None or copy.note.get("recipients") != sorted(recipients) or not copy.sound():
            return None
        return copy

    def _archive(self, args: Json, variables: Json, found: Json, room: Path) -> tuple[Iterator[bytes], str]:
        """The set as an archive, and what it hashes to where that is known beforehand."""
        if self._here:
            return tar_of(Path(found["path"])), ""
        return self._brought({**args, "set": found["id"]}, variables, "set", room)

    def _channels(self, args: Json, variables: Json, channels: Json, room: Path) -> tuple[Iterator[bytes], str]:
        """The same for the channel backup that the node's backups keep."""
        if self._here:
            return _copies.chunks_of(Path(channels["path"])), ""
        return self._brought(args, variables, "channels", room)

    def _brought(self, args: Json, variables: Json, what: str, room: Path) -> tuple[Iterator[bytes], str]:
        """What the node packs for us. It is clear until it is encrypted, so it lies where only we can look."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        packed = self._call(args, variables, pack_into=self._connection._shell.tmpdir, pack=what)["packed"]
        clear = room / "clear"
        self._connection.fetch_file(packed["path"], str(clear))
        return _copies.chunks_of(clear), packed["sha256"]

    def _fetch(self, folder: _copies.Folder, args: Json, variables: Json) -> Json:
        path = project_path(variables, args["file"])
        if not path.is_file():
            raise HiveError(f"there is no copy {path}; the copies of a node lie in {folder.path}", "no-copy")
        name = args["set"] or str(_copies.note_beside(path).get("set") or "")
        wanted = {**args, "set": name}
        copy = {"set": name, "path": str(path), "bytes": path.stat().st_size}
        found = self._call(wanted, variables).get("set")
        if found is not None or self._task.check_mode:
            told = f"backup set {name} {'is on the node' if found else 'would be brought back'}"
            return {"changed": found is None, "set": found, "copy": copy, "msg": told}
        identity = project_path(variables, args["identity"])
        with folder.locked(), folder.workroom() as room:
            clear = room / "clear"
            _copies.open_copy(path, identity, clear)
            done = self._call(wanted, variables, incoming=self._send(clear))
        name = done["set"]["id"]
        told = f"backup set {name} {'brought back' if done['changed'] else 'is on the node already'}, every file sound"
        return {"changed": done["changed"], "set": done["set"], "copy": {**copy, "set": name}, "msg": told}

    def _send(self, clear: Path) -> str:
        """Bring the opened archive to the node, unless it is there, and return where it is."""
        if self._here:
            return str(clear)
        shell = self._connection._shell
        if not shell.tmpdir:
            self._make_tmp_path()
        target = str(shell.join_path(shell.tmpdir, "hive-set-incoming.tar"))
        self._transfer_file(str(clear), target)
        self._fixup_perms2((shell.tmpdir, target), execute=False)
        return target


def remark(sentence: str) -> Json:
    """The result of a run that makes no copy."""
    return {"remark": sentence, "msg": sentence}


class _ModuleFailedError(Exception):
    """The part on the node failed; its own words are the result."""

    def __init__(self, result: Json) -> None:
        super().__init__(str(result.get("msg") or ""))
        self.result = result
