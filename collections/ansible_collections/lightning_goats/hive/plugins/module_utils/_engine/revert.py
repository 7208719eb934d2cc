"""The way back: the previous stack, proven healthy, from wherever a switch was left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import _config
from .._slots import SHORT, find_slot
from .aside import put_back
from .errors import HiveError, NodeDownError, RpcTimeoutError
from .guard import Look, Manifests, look, ours_running
from .lightningd import Lightningd
from .machine import Machine
from .plugins import Plugins
from .processes import alive
from .proof import Proof
from .quarantine import crash_log, disabled_paths, suspects
from .record import Record, identities
from .request import Timeouts
from .reserve import spend_reserve
from .stacks import active_items, by_name, option_kinds, replaced_by
from .steps import Step
from .validate import ConfigFiles, install_include, replace


class Revert:
    """Undoes one open transaction; may be called again after it was interrupted."""

    def __init__(
        self,
        machine: Machine,
        record: Record,
        timeouts: Timeouts,
        plugins: Plugins,
        lightningd: Lightningd,
        proof: Proof,
        undo_adoption: Callable[[Look, Manifests], list[str]],
    ) -> None:
        self.machine = machine
        self.node = machine.node
        self.record = record
        self.timeouts = timeouts
        self.plugins = plugins
        self.lightningd = lightningd
        self.proof = proof
        self.undo_adoption = undo_adoption
        self.txn = record.txn

    def run(self, reason: str, by: str, manifests: Manifests) -> None:
        """Bring back the previous stack and prove it healthy.

        Raises:
            HiveError: it could not be brought back; the journal says so and the transaction stays open.
        """
        spend_reserve(self.node)
        if self.txn.phase != "reverting":
            self.record.note("reverting", {"reason": reason, "by": by})
            self.txn.phase = "reverting"
        try:
            with self.record.step(Step.REVERT, by=by):
                seen = self._regain(manifests)
            self._return(seen, manifests)
        except HiveError as error:
            self.record.note("revert-failed", {"reason": error.message, "code": error.code})
            self.txn.phase = "revert-failed"
            raise HiveError(
                f"{reason}; and the previous stack could not be brought back: {error.message}",
                "revert-failed",
                cause=error.code,
            ) from error
        with self.record.step(Step.REVERTED):
            pass
        self.record.note("reverted", {"reason": reason, "by": by, "restarts": self.lightningd.restarts})
        self.txn.phase = "reverted"
        self.record.tidy()

    def _regain(self, manifests: Manifests) -> Look:
        """Get an answering lightningd: started again without the new plugins, or rid of plugins that hold it up."""
        who = self.machine.identity()
        if not alive(who) or who not in identities(self.txn):
            return self._resurrect(manifests)
        try:
            return self._look()
        except RpcTimeoutError:
            # Something holds up every RPC: the only way out is to end the plugins that came with this switch.
            for item in active_items(self.txn.target):
                if item not in active_items(self.txn.previous):
                    slot = self.node.slots_dir / item["name"] / item["digest"][:SHORT]
                    self.machine.end_plugin(self.node.to_inside(slot), who)
            self.machine.rpc.close()
            return self._look()
        except NodeDownError:
            self.machine.wait_gone(who, 5.0)
            return self._resurrect(manifests)

    def _look(self) -> Look:
        """Look at the node, after ending plugins of this switch that are stuck half-way."""
        listed = self.machine.plugins()
        for item in active_items(self.txn.target):
            for path in ours_running(self.machine, listed, item["name"]):
                if not listed[path]["active"]:
                    slot = str(self.node.to_outside(path).parent.parent)
                    self.machine.end_plugin(self.node.to_inside(slot), self.machine.identity())
        return look(self.machine, self.timeouts.ready)

    def _resurrect(self, manifests: Manifests) -> Look:
        """Bring back a lightningd that died, without what came with this switch, whoever else starts it as well.

        The configuration comes first: systemd, or a container's policy, may start lightningd at any moment.
        """
        log = crash_log(self.node.network_dir, self.txn)
        with self.record.step(Step.QUARANTINE, crash_log=log) as outcome:
            held = self.record.journal.state().quarantine
            found = suspects(self.txn, self.node, held)
            if found:
                self.record.note("quarantined", {"plugins": found, "crash_log": log})
            files = self._previous_files(manifests)
            install_include(self.machine, files)
            self._restore_setconfig()
            # Whichever lightningd is started after this line has read the previous stack and nothing else.
            self.record.note("configuration-restored", {})
            try:
                self.lightningd.revive()
            except HiveError as error:
                self._start_bare(files, manifests)
                raise HiveError(
                    f"{error.message}; it was started without any of our plugins instead", error.code
                ) from error
            now = self.machine.identity()
            outcome.update(pid=now.pid if now else 0, started=now.started if now else 0)
        return self._look()

    def _start_bare(self, files: ConfigFiles, manifests: Manifests) -> None:
        """Start lightningd without any plugin of ours: the node matters more, so without them it must come up.

        Whose place they had taken stays off: the monolith may have given its tables up, and would begin anew.
        """
        replaced = sorted(replaced_by(self.txn.previous))
        if replaced:
            install_include(self.machine, ConfigFiles(_config.bare(replaced), files.top, None, {}))
        else:
            install_include(self.machine, ConfigFiles(None, _config.drop_include(files.top), None, {}))
        explicit = bool(_config.explicit_conf(self.record.argv))
        path = _config.setconfig_file(self.node.config_file, self.node.network_dir, explicit)
        text = _config.read_config(path, {})
        if text is not None:
            names = {option["name"] for manifest in manifests.values() for option in manifest["options"]}
            replace(path, _config.clear_options(text, names)[0], self.machine)
        self.lightningd.revive()

    def _previous_files(self, manifests: Manifests) -> ConfigFiles:
        top = _config.read_config(self.node.config_file, {}) or ""
        previous = active_items(self.txn.previous)
        if not previous:
            return ConfigFiles(None, _config.drop_include(top), None, {})
        entries = {
            item["name"]: find_slot(self.node, item["name"], item["digest"]).inside(self.node) for item in previous
        }
        disabled = disabled_paths(self.record.journal.state().quarantine, self.txn.previous)
        include = _config.render(previous, entries, option_kinds(manifests, previous), disabled)
        return ConfigFiles(include, _config.add_include(top), None, {})

    def _restore_setconfig(self) -> None:
        facts = self.record.baseline()
        if not facts.get("cleared"):
            return
        path = Path(facts["setconfig"])
        text = _config.read_config(path, {})
        if text is not None:
            replace(
                path,
                _config.put_back(text, {int(number): line for number, line in facts["cleared"].items()}),
                self.machine,
            )

    def _return(self, seen: Look, manifests: Manifests) -> None:
        with self.record.step(Step.REVERT_WRITE, file=str(self.node.include_file)):
            install_include(self.machine, self._previous_files(manifests))
        with self.record.step(Step.REVERT_CLEAR):
            self._restore_setconfig()
        previous = by_name(active_items(self.txn.previous))
        listed = self.machine.plugins()
        root = self.node.to_inside(self.node.slots_dir) + "/"
        names = {path[len(root) :].split("/", 1)[0] for path in listed if path.startswith(root)}

        def order(name: str) -> tuple[int, str]:
            orders = [int(manifest["start_order"]) for manifest in manifests.values() if manifest["name"] == name]
            return (orders[0] if orders else 0, name)

        for name in sorted(names, key=order, reverse=True):
            item = previous.get(name)
            right = find_slot(self.node, name, item["digest"]).inside(self.node) if item else ""
            if ours_running(self.machine, listed, name) != [right] or not self._runs_as_before(name):
                self.plugins.stop(name, seen, Step.REVERT_STOP)
        self.plugins.stop_by_hand(self.txn.previous, Step.REVERT_STOP)
        if self.txn.data.get("aside"):
            with self.record.step(Step.REVERT_DATA):
                put_back(self.node, str(self.txn.data["aside"]))
        self.plugins.told += self.undo_adoption(seen, manifests)
        listed = self.machine.plugins()
        for name in sorted(previous, key=order):
            item = previous[name]
            if find_slot(self.node, name, item["digest"]).inside(self.node) not in listed:
                self.plugins.start(item, manifests[item["digest"]], seen, Step.REVERT_START)
        items = [previous[name] for name in sorted(previous, key=order)]
        self.plugins.give_values(items, manifests, seen, Step.REVERT_STOP, Step.REVERT_START)
        kept_off = replaced_by(self.txn.previous)
        paths = [path for path in replaced_by(self.txn.target) if path not in kept_off]
        self.plugins.start_by_hand(paths, seen, Step.REVERT_START)
        with self.record.step(Step.REVERT_VERIFY):
            self.proof.stack(self.txn.previous, manifests, strict=False)

    def _runs_as_before(self, name: str) -> bool:
        """Whether the plugin at the right path was not started with the new options by this transaction."""
        if self.txn.data.get("aside"):
            return self.record.started_since_stop(name, Step.REVERT_START) is not None
        if self.record.last("intent", Step.START, name) is None:
            return True
        return self.record.started_since_stop(name, Step.REVERT_START) is not None or self.lightningd.replaced
