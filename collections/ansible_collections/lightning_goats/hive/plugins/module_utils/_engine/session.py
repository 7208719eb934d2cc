"""Everything that works on one open transaction, put together."""

from __future__ import annotations

from .. import _config
from .files import sync_dir
from .guard import Look, Manifests
from .journal import Journal, Transaction
from .lightningd import Lightningd
from .machine import Machine
from .plugins import Plugins
from .proof import Proof
from .record import Record
from .request import Timeouts
from .revert import Revert
from .steps import Step
from .validate import ConfigFiles, install_include, replace, validate


class Session:
    """One transaction with its record, its plugins, its lightningd, its proof and its way back."""

    def __init__(self, machine: Machine, journal: Journal, txn: Transaction, timeouts: Timeouts) -> None:
        self.machine = machine
        self.node = machine.node
        self.timeouts = timeouts
        self.txn = txn
        self.record = Record(self.node, journal, txn)
        self.plugins = Plugins(machine, self.record, timeouts)
        self.lightningd = Lightningd(machine, self.record, timeouts)
        self.proof = Proof(machine, self.record, timeouts)

    @property
    def warnings(self) -> list[str]:
        """What is worth telling, each once."""
        return list(dict.fromkeys([*self.plugins.warnings, *self.proof.warnings]))

    def revert(self, reason: str, by: str, manifests: Manifests) -> None:
        """Undo the transaction; see `Revert`."""
        from .adoption import Undo  # which works on a session

        def undo(seen: Look, manifests: Manifests) -> list[str]:
            return Undo(self, seen, manifests).run()

        Revert(self.machine, self.record, self.timeouts, self.plugins, self.lightningd, self.proof, undo).run(
            reason, by, manifests
        )

    def clear(self, files: ConfigFiles) -> None:
        """Take values out of setconfig's file that would keep lightningd from starting, or shadow the stack's own."""
        if not files.cleared or files.setconfig is None:
            return
        path = _config.setconfig_file(
            self.node.config_file, self.node.network_dir, bool(_config.explicit_conf(self.record.argv))
        )
        facts = self.record.baseline()
        facts["cleared"] = {str(number): line for number, line in files.cleared.items()}
        facts["setconfig"] = str(path)
        self.record.keep_baseline(facts)
        with self.record.step(Step.CLEAR, file=str(path), lines=sorted(files.cleared)):
            replace(path, files.setconfig, self.machine)

    def write(self, files: ConfigFiles) -> None:
        """Put the managed include in place; a top file that only we needed goes with it."""
        top = self.node.config_file
        made = not top.exists()
        with self.record.step(Step.WRITE, file=str(self.node.include_file), **({"made": str(top)} if made else {})):
            install_include(self.machine, files)
            explicit = bool(_config.explicit_conf(self.record.argv))
            if files.include is None and not files.top and not explicit and self._made(str(top)) and top.exists():
                top.unlink()
                sync_dir(top.parent)

    def _made(self, path: str) -> bool:
        """Whether a switch of ours made a configuration file that was not there."""
        return any(entry["data"].get("made") == path for entry in self.record.journal.entries)

    def validate_in_place(self) -> None:
        """Let lightningd judge the configuration as it is on disk now."""
        top = _config.read_config(self.node.config_file, {}) or ""
        include = _config.read_config(self.node.include_file, {})
        files = ConfigFiles(include, top, None, {})
        self.lightningd.attend(
            lambda: validate(self.machine, files, self.record.argv, self.timeouts.validate), self.timeouts.validate
        )
