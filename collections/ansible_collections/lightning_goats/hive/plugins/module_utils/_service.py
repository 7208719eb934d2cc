"""Bringing lightningd of a node to the unit, configuration and version that are wanted, with one conscious restart."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _config
from ._engine.commands import execute
from ._engine.drain import drain, restart_seconds
from ._engine.errors import HiveError, NodeDownError, RpcRefusedError, RpcTimeoutError
from ._engine.files import Owner, make_dir, read_bytes, write_atomic
from ._engine.journal import Journal
from ._engine.lock import engine_lock
from ._engine.machine import Machine
from ._engine.node import Node
from ._engine.processes import Identity, alive, arguments
from ._engine.request import Timeouts
from ._engine.validate import ConfigFiles, validate
from ._lightningd_install import parse_version
from ._probe_setup import systemctl
from ._service_look import Unit, show_unit

LOCK_SECONDS = 120.0
STOP_SECONDS = 60.0
UNITS = Path("/etc/systemd/system")
LOGROTATE = Path("/etc/logrotate.d")
SECRET = re.compile(r"(?im)^([^#=\n]*(?:pass|secret|token|cookie|macaroon|rune|key)[^=\n]*=).*$")
EVENT_BEGUN, EVENT_DONE = "provisioning", "provisioned"


@dataclass(frozen=True)
class Wanted:
    """What the node is to be.

    Attributes:
        unit, config, logrotate: texts; an empty logrotate wants none. The configuration comes without our include.
        program, cli: what the unit starts, and what stops it.
        version: of the program; empty in check mode when it is not installed yet.
        argv: how the unit starts it, for validation.
    """

    unit: str
    config: str
    logrotate: str
    program: str
    version: str
    argv: list[str]
    allow_restart: bool = False
    htlc_wait_seconds: float = 600.0
    htlc_margin_blocks: int = 18
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass
class Plan:
    """What would be done.

    Attributes:
        writes: files whose content changes, with the new text; None removes.
        restart: why lightningd has to be restarted; empty when it has not.
        start: whether it does not run and is to be started.
    """

    writes: dict[Path, str | None]
    before: dict[Path, str | None]
    restart: list[str]
    start: bool
    who: Identity | None
    running_version: str
    enable: bool

    @property
    def empty(self) -> bool:
        return not (self.writes or self.restart or self.start or self.enable)


class Service:
    """One node's lightningd as a unit that is ours."""

    def __init__(self, node: Node, wanted: Wanted) -> None:
        self.node = node
        self.wanted = wanted
        self.machine = Machine(node)
        self.unit_file = UNITS / f"{node.service}.service"
        self.logrotate_file = LOGROTATE / node.service

    def run(self, check_mode: bool) -> dict[str, Any]:
        """Plan, and unless in check mode do it.

        Raises:
            HiveError: something stands against it; nothing was changed then unless the sentence says so.
        """
        plan = self.plan()
        facts = self._facts(plan)
        if plan.empty or check_mode:
            return facts
        with engine_lock(self.node, LOCK_SECONDS):
            journal = Journal(self.node.journal_file, self.node.keeper)
            self._refuse(plan, journal)
            facts["restarted"], facts["seconds"], facts["drained"] = self._apply(plan, journal)
        return facts

    # Looking

    def plan(self) -> Plan:
        """Compare what is wanted with what is there."""
        unit = show_unit(self.node.service)
        who = self.machine.identity()
        running = self._running_version(who)
        self._refuse_downgrade(running or self._left_version(unit))
        wanted = self._texts()
        before = {path: _text(path) for path in wanted}
        writes = {path: text for path, text in wanted.items() if before[path] != text}
        reasons = self._reasons(writes, before, who, running) if alive(who) else []
        return Plan(
            writes=writes,
            before=before,
            restart=reasons,
            start=not alive(who),
            who=who,
            running_version=running,
            enable=unit.get("UnitFileState") != "enabled",
        )

    def _texts(self) -> dict[Path, str | None]:
        """Return the wanted text of each file; the configuration keeps our include where it has it."""
        current = _text(self.node.config_file)
        config = self.wanted.config
        if current is None or _config.has_include(current):
            config = _config.add_include(config)
        texts: dict[Path, str | None] = {}
        if _config.has_include(config) and _text(self.node.include_file) is None:
            # First of all: a missing include keeps lightningd from starting.
            texts[self.node.include_file] = _config.HEADER
        texts[self.node.config_file] = config
        texts[self.unit_file] = self.wanted.unit
        texts[self.logrotate_file] = self.wanted.logrotate or None
        return texts

    def _running_version(self, who: Identity | None) -> str:
        if not alive(who):
            return ""
        try:
            return str(self.machine.rpc.call("getinfo")["version"])
        except (NodeDownError, RpcTimeoutError, RpcRefusedError) as error:
            raise HiveError(
                f"lightningd of {self.node.name} runs but does not answer ({error.message}); look at its log first",
                "lightningd-silent",
            ) from error

    def _left_version(self, unit: Unit) -> str:
        """Return the version that ran last, as the journal remembers it."""
        journal = Journal(self.node.journal_file, self.node.keeper) if self.node.journal_file.exists() else None
        done = [entry for entry in journal.entries if entry["event"] == EVENT_DONE] if journal else []
        return str(done[-1]["data"]["version"]) if done else ""

    def _refuse_downgrade(self, version: str) -> None:
        new = self.wanted.version
        if version and new and parse_version(new) < parse_version(version):
            raise HiveError(
                f"{self.node.name} runs lightningd {version}, and {new} is older: lightningd does not start on a "
                "database that a newer one has used; name that version or a newer one",
                "downgrade",
            )

    def _reasons(
        self,
        writes: Mapping[Path, str | None],
        before: Mapping[Path, str | None],
        who: Identity | None,
        running: str,
    ) -> list[str]:
        new, reasons = self.wanted.version, []
        if new and running and parse_version(new) != parse_version(running):
            reasons.append(
                f"lightningd {running} becomes {new}, which may change its database: there is no way back to {running}"
            )
        elif who is not None and self.wanted.program not in arguments(who.pid):
            reasons.append(f"it does not run from {self.wanted.program}")
        if self.unit_file in writes:
            verb = "is new" if before[self.unit_file] is None else "changes"
            reasons.append(f"the unit {self.node.service} {verb}")
        if self.node.config_file in writes:
            reasons.append(f"{self.node.config_file} changes")
        if not reasons and self._interrupted(who):
            reasons.append("an earlier run was interrupted before it")
        return reasons

    def _interrupted(self, who: Identity | None) -> bool:
        """Whether files were written for a restart that has not come about."""
        if who is None or not self.node.journal_file.exists():
            return False
        entries = Journal(self.node.journal_file, self.node.keeper).entries
        last = [entry for entry in entries if entry["event"] in (EVENT_BEGUN, EVENT_DONE)][-1:]
        return bool(
            last
            and last[0]["event"] == EVENT_BEGUN
            and (last[0]["data"]["pid"], last[0]["data"]["started"]) == (who.pid, who.started)
        )

    # Saying

    def _facts(self, plan: Plan) -> dict[str, Any]:
        name = self.node.name
        lines = [f"{name}: {'write' if text is not None else 'remove'} {path}" for path, text in plan.writes.items()]
        if plan.restart:
            lines.append(f"{name}: RESTART of lightningd: {'; '.join(plan.restart)}")
            if not self.wanted.allow_restart:
                lines.append(f"{name}: the restart needs -e hive_allow_lightningd_restart=true")
        elif plan.start:
            lines.append(f"{name}: start lightningd {self.wanted.version}".rstrip())
        return {
            "changed": not plan.empty,
            "restart": "; ".join(plan.restart) or None,
            "restarted": False,
            "seconds": 0.0,
            "drained": None,
            "lines": lines or [f"{name}: lightningd {plan.running_version} runs as it should"],
            "diff": [
                {
                    "before_header": str(path),
                    "after_header": str(path),
                    "before": mask(plan.before[path] or ""),
                    "after": mask(text or ""),
                }
                for path, text in plan.writes.items()
            ],
        }

    # Doing

    def _refuse(self, plan: Plan, journal: Journal) -> None:
        """Refuse what must not be begun."""
        if journal.state().transaction is not None:
            raise HiveError(
                f"a switch is open on {self.node.name}; finish it first (rollout.yml, or confirm.yml)", "transaction"
            )
        if plan.restart and not self.wanted.allow_restart:
            raise HiveError(
                f"lightningd of {self.node.name} would have to be restarted ({'; '.join(plan.restart)}); allow it in a "
                "quiet hour with -e hive_allow_lightningd_restart=true",
                "restart-needed",
            )
        main = show_unit(self.node.service).get("MainPID", "0")
        if plan.who is not None and alive(plan.who) and main not in ("0", str(plan.who.pid)):
            raise HiveError(f"unit {self.node.service} runs another lightningd; set hive_service", "other-unit")
        if plan.who is not None and alive(plan.who) and main == "0":
            raise HiveError(
                f"the lightningd of {self.node.lightning_dir} runs, but not as unit {self.node.service}; stop and "
                "disable what started it, so that it is not started twice",
                "other-unit",
            )
        if self.wanted.logrotate and shutil.which("logrotate", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            raise HiveError(
                "logrotate is not installed, so the log would grow without end; install the package logrotate or set "
                "hive_node_log_rotation to false",
                "no-logrotate",
            )
        self._verify_unit()
        if plan.writes or plan.restart or plan.start:
            self._validate()

    def _verify_unit(self) -> None:
        tool = shutil.which("systemd-analyze")
        if tool is None:
            return
        with tempfile.TemporaryDirectory(prefix="hive-unit-") as directory:
            path = Path(directory) / self.unit_file.name
            path.write_text(self.wanted.unit, encoding="utf-8")
            argv = [tool, "verify", "--man=no", "--recursive-errors=no", str(path)]
            done = execute(argv, 30.0, {}, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, None)
        if done.rc != 0:
            reason = "; ".join(line for line in done.err.splitlines() if self.unit_file.name in line)[:300]
            raise HiveError(f"systemd would not take the unit {self.node.service}: {reason}", "unit-refused")

    def _validate(self) -> None:
        """Let the lightningd that is to run judge the configuration, with everything it includes."""
        make_dir(self.node.config_file.parent, self.node.owner)
        include = _text(self.node.include_file)
        text = self._texts()[self.node.config_file] or ""
        files = ConfigFiles(include if include is not None else _config.HEADER, text, None, {})
        # lightningd may make its log already now, which is nobody else's business.
        mask_before = os.umask(0o077)
        try:
            validate(self.machine, files, list(self.wanted.argv), self.wanted.timeouts.validate)
        finally:
            os.umask(mask_before)

    def _apply(self, plan: Plan, journal: Journal) -> tuple[bool, float, dict[str, Any] | None]:
        started = time.monotonic()
        seen = self.machine.rpc.call("getinfo") if alive(plan.who) else {}
        drained = None
        if plan.restart:
            # Waits and refuses as long as nothing is changed; a moment later it is asked again, and acted on.
            self._drain(self.wanted.htlc_wait_seconds, restart=False)
        begun = {
            "files": [str(path) for path in plan.writes],
            "reasons": plan.restart,
            "version": self.wanted.version,
            "pid": plan.who.pid if plan.who else 0,
            "started": plan.who.started if plan.who else 0,
        }
        journal.append(EVENT_BEGUN, begun)
        try:
            self._write(plan.writes)
            if plan.restart:
                drained = self._drain(0.0, restart=True)
                self._stop(plan.who)
            if plan.restart or plan.start:
                self._start()
                self._prove(seen)
        except HiveError as error:
            self._back(plan, error, journal)
        seconds = round(time.monotonic() - started, 3)
        journal.append(EVENT_DONE, {"version": self._now(), "restarted": bool(plan.restart), "seconds": seconds})
        return bool(plan.restart), seconds, drained

    def _drain(self, wait_seconds: float, restart: bool) -> dict[str, Any]:
        needed = restart_seconds(self.wanted.timeouts)
        return drain(self.machine, needed, wait_seconds, restart, self.wanted.htlc_margin_blocks)

    def _write(self, texts: Mapping[Path, str | None]) -> None:
        root = Owner(0, 0)
        for path, text in texts.items():
            ours = path in (self.unit_file, self.logrotate_file)
            if text is None:
                if path.exists():
                    path.unlink()
            else:
                write_atomic(
                    path,
                    text.encode("utf-8", "surrogateescape"),
                    root if ours else self.node.owner,
                    0o644 if ours else 0o600,
                )
        systemctl("daemon-reload")
        if self.unit_file.exists():
            systemctl("enable", "--quiet", f"{self.node.service}.service")

    def _stop(self, who: Identity | None) -> None:
        """Stop lightningd, by RPC: a signal would tell its plugins nothing."""
        self.machine.rpc.call("stop", timeout=STOP_SECONDS)
        self.machine.rpc.close()
        if not self.machine.wait_gone(who, STOP_SECONDS):
            raise HiveError(
                f"lightningd of {self.node.name} does not stop within {STOP_SECONDS:g} s; look at its log",
                "lightningd-stays",
            )

    def _start(self) -> None:
        since = time.time()
        try:
            self.machine.runtime.start_lightningd(list(self.wanted.argv), self.wanted.timeouts.ready + STOP_SECONDS)
        except HiveError as error:
            said = last_words(self.node.service, since)
            raise HiveError(
                f"{error.message.partition(': ')[0]}: {said}" if said else error.message, error.code
            ) from error
        if not self.machine.wait_answer(self.wanted.timeouts.ready):
            raise HiveError(
                f"lightningd of {self.node.name} was started and does not answer; look at its log and at "
                f"journalctl -u {self.node.service}",
                "lightningd-down",
            )
        self.machine.wait_ready(self.wanted.timeouts.ready)

    def _prove(self, seen: Mapping[str, Any]) -> None:
        """What runs now is the unit's, the wanted version, and the same node as before."""
        info = self.machine.rpc.call("getinfo")
        who = self.machine.identity()
        if self.wanted.version and parse_version(info["version"]) != parse_version(self.wanted.version):
            raise HiveError(
                f"lightningd {info['version']} runs and {self.wanted.version} should; is another one started?",
                "other-version",
            )
        expected = str(seen.get("id") or self.node.node_id)
        if expected and info["id"] != expected:
            raise HiveError(
                f"the node is {info['id']} now and was {expected}; look at hive_lightning_dir", "other-node"
            )
        if who is None or show_unit(self.node.service).get("MainPID") != str(who.pid):
            raise HiveError(f"the lightningd that answers is not that of unit {self.node.service}", "other-unit")

    def _now(self) -> str:
        return self.wanted.version or str(self.machine.rpc.call("getinfo")["version"])

    def _back(self, plan: Plan, error: HiveError, journal: Journal) -> None:
        """Put the files back as they were, start what ran before, and fail with the reason and how it stands now."""
        now = self.machine.identity()
        try:
            if alive(now) and now != plan.who:
                self._stop(now)
            self._write({path: plan.before[path] for path in plan.writes})
            if plan.who is not None and not alive(plan.who):
                self._start()
        except HiveError as second:
            raise HiveError(
                f"{error.message}; and the way back is barred too ({second.message}): if the new version has changed "
                "the database, only it, or a newer one, can run now",
                "lightningd-down",
            ) from error
        done = {"version": plan.running_version, "restarted": not alive(plan.who), "undone": error.code}
        journal.append(EVENT_DONE, done)
        how = "lightningd runs again as it did before" if plan.who is not None else "the files are as they were"
        raise HiveError(f"{error.message}; {how}", error.code) from error


def _text(path: Path) -> str | None:
    content = read_bytes(path)
    return None if content is None else content.decode("utf-8", "surrogateescape")


def last_words(service: str, since: float) -> str:
    """Return what lightningd itself said last in the journal of its unit; empty when it said nothing."""
    tool = shutil.which("journalctl")
    if tool is None:
        return ""
    argv = [tool, "--unit", service, "--since", f"@{int(since)}", "--no-pager", "--output", "cat"]
    done = execute(argv, 15.0, {}, {"PATH": "/usr/bin:/bin"}, None)
    lines = [line.strip() for line in done.out.splitlines() if line.startswith("lightningd: ")]
    return lines[-1].removeprefix("lightningd: ")[:300] if lines else ""


def mask(text: str) -> str:
    """Return a configuration with the values of everything that sounds secret left out."""
    return SECRET.sub(r"\1(not shown)", text)
