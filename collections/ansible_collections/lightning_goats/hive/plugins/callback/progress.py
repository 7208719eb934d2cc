# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Stages, nodes and reasons instead of task noise."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_live import (
    Activity,
    LiveLine,
    columns,
    printable,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_page import prepare
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_progress import (
    BAD,
    CHANGED,
    GOOD,
    WIDTH,
    Line,
    event_lines,
    failure_text,
    sampled,
    stage_heading,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import duration

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Stages, nodes and reasons instead of task noise
description:
  - Prints one line for each thing that happened to a node, and a failure once and in full.
  - On a terminal the last line says what goes on, in which stage and for how long, and is replaced. Elsewhere nothing
    is overwritten, and a long window in which nodes are watched is told when it begins.
  - With C(-v) it is the default callback.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as C(stdout_callback) in the configuration
"""

COLORS = {GOOD: constants.COLOR_OK, CHANGED: constants.COLOR_CHANGED, BAD: constants.COLOR_ERROR}
# A window of this length is told when it begins, where no line counts it.
LONG_SECONDS = 60.0
# Its table is shown whole only by the playbook that is about it.
GATES_PLAYBOOK = "gates"


def _task_name(task: Any) -> str:
    """The task's own name, without that of its role."""
    name: str = task.get_name().strip()
    return name.rpartition(" : ")[2] if task._role else name


class CallbackModule(DefaultCallback):  # type: ignore[misc]  # ansible-core has no type hints
    """The stdout callback of this project."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lightning_goats.hive.progress"

    def __init__(self) -> None:
        super().__init__()
        self._heading = ""
        self._waves: list[dict[str, Any]] = []
        self._wave = 0
        self._started = time.monotonic()
        self._task_started: dict[tuple[str, str], float] = {}
        self._told: list[str] = []
        self._reported = False
        self._refused = False
        self._width = 8
        self._playbook = ""
        self._stage = ""
        self._total = 0
        self._window = 0.0
        self._parts = 0
        self._watch: Activity | None = None
        self._verdict = ""
        self._samples: dict[str, list[Any]] = {}
        self._live = LiveLine(sys.stdout)

    @property
    def _detailed(self) -> bool:
        return bool(self._display.verbosity > 0)

    def _show(self, line: Line) -> None:
        """One line under its heading; the heading only once there is something to say."""
        self._live.above(lambda: self._print(line))

    def _print(self, line: Line) -> None:
        if self._heading:
            self._display.display(f"\n{self._heading}", color=constants.COLOR_HIGHLIGHT)
            self._heading = ""
        rows = printable(line.text).splitlines() or [""]
        for number, row in enumerate(rows):
            label = line.node if number == 0 else ""
            text = f"  {label:<{self._width}}  {row}" if line.node else f"  {row}"
            self._display.display(text.rstrip(), color=COLORS.get(line.mood))

    def _tell_running(self, task: Any) -> None:
        """What goes on: the task, or the window in which the nodes of a stage are watched."""
        if self._action(task) == "hive_judge":
            self._watched()
        elif self._action(task) == "hive_observe" and self._watch is None and self._watching:
            self._watch = Activity(f"{self._stage}: watching the nodes", self._window)
            if not self._live.shown and self._window >= LONG_SECONDS:
                until = time.strftime("%H:%M", time.localtime(time.time() + self._window))
                self._show(Line("", f"watched for {duration(self._window)}, until about {until}"))
        stage = f"{self._stage}: " if self._stage else ""
        self._live.tell(self._watch or Activity(f"{stage}{_task_name(task)}"))

    @property
    def _watching(self) -> bool:
        """Whether a look at nodes is a window of this stage; a verdict that tells nothing is followed by another."""
        return bool(self._stage) and self._window > 0 and self._verdict in ("", "inconclusive")

    def _watched(self) -> None:
        """The window is over: what was sampled in parts is told as one."""
        self._watch = None
        for line in sampled(self._samples):
            self._show(line)
        self._samples = {}

    @staticmethod
    def _action(task: Any) -> str:
        """The name of one of our modules, "" for others."""
        name = str(task.resolved_action or task.action)
        return name.rpartition(".")[2] if name.startswith("lightning_goats.hive.") else ""

    def _columns(self) -> int:
        """How wide a table may be."""
        return columns(sys.stdout) - 2 if self._live.shown else WIDTH

    def v2_playbook_on_start(self, playbook: Any) -> None:
        if self._detailed:
            super().v2_playbook_on_start(playbook)
            return
        self._playbook = Path(str(playbook._file_name)).stem

    def v2_playbook_on_play_start(self, play: Any) -> None:
        if self._detailed:
            super().v2_playbook_on_play_start(play)
            return
        self._play = play
        self._heading, self._stage, self._verdict = str(play.get_name()), "", ""
        self._watched()
        if (
            self._waves
            and play.serial == [len(wave["nodes"]) for wave in self._waves]
            and self._wave < len(self._waves)
        ):
            wave = self._waves[self._wave]
            self._wave += 1
            # A run that goes on with a rollout begins with a later stage than the first.
            place = int(wave.get("number", self._wave - 1)) + 1
            self._heading = stage_heading(wave, place, self._total)
            self._stage = f"{wave['name']} ({place} of {self._total})"

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._detailed:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        if self._detailed:
            super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        if self._action(task) == "hive_report":
            # Each report is written by a process of its own, which inherits this.
            prepare()
        if self._detailed:
            super().v2_playbook_on_task_start(task, is_conditional)
            return
        self._tell_running(task)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._task_started[host.get_name(), task._uuid] = time.monotonic()
        if self._detailed:
            super().v2_runner_on_start(host, task)

    def v2_runner_on_ok(self, result: Any) -> None:
        if self._detailed:
            super().v2_runner_on_ok(result)
            return
        node, found = result.host.get_name(), result.result
        action = str(result.task.resolved_action or result.task.action)
        self._remember(found)
        begun = self._task_started.pop((node, result.task._uuid), time.monotonic())
        if found.get("unreachable"):
            self._unreachable(node, found)
            return
        if self._action(result.task) == "hive_judge":
            self._verdict = str(found.get("verdict") or "")
        if self._parts > 1 and self._action(result.task) == "hive_observe" and found.get("samples"):
            self._samples.setdefault(node, []).extend(found["samples"])
            if self._watch is not None:
                self._watch.samples = max(map(len, self._samples.values()))
            return
        full = self._playbook == GATES_PLAYBOOK
        for line in event_lines(
            action, node, _task_name(result.task), found, time.monotonic() - begun, self._columns(), full
        ):
            if action.endswith("debug") and line.text in self._told:
                continue
            self._told.append(line.text)
            self._show(line)
        if result.task.diff:
            self._diff(found)

    def _diff(self, found: Mapping[str, Any]) -> None:
        text = self._get_diff(found["diff"]) if found.get("diff") else ""
        if text:
            self._show(Line("", text))

    def _remember(self, found: Mapping[str, Any]) -> None:
        """What the rest of the output needs from a plan or a report, also when its task failed."""
        run = found.get("run")
        if isinstance(run, Mapping) and isinstance(run.get("waves"), list):
            self._waves, self._wave = run["waves"], 0
            self._total = int(run.get("total") or len(self._waves))
            parts = [float(seconds) for seconds in run.get("parts") or []]
            self._parts, self._window = len(parts), sum(parts)
            names = [node for wave in self._waves for node in wave["nodes"]]
            self._width = max([self._width, *(len(name) for name in names)])
        # The task that stops a run says again what a judged stage said.
        judged = found.get("stages") or []
        self._told += [str(stage["msg"]) for stage in judged if isinstance(stage, Mapping) and stage.get("msg")]
        if isinstance(found.get("report"), Mapping) and found["report"].get("result") != "running":
            self._reported = True

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if self._detailed:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        node, found = result.host.get_name(), result.result
        self._remember(found)
        text = failure_text(found)
        if found.get("lines"):
            self._refused = True
            action = str(result.task.resolved_action or result.task.action)
            for line in event_lines(action, node, "", found, 0.0, self._columns()):
                self._told.append(line.text)
                self._show(line._replace(mood=BAD))
            self._told.append(text)
            return
        if any(text in told or told.removeprefix("verdict: ") == text for told in self._told):
            return
        self._told.append(text)
        self._show(Line(node, f"FAILED {_task_name(result.task)}: {text}", BAD))
        self._handle_exception_quietly(found)

    def _handle_exception_quietly(self, found: Mapping[str, Any]) -> None:
        """A traceback is shown only when there is no sentence; -v has it always."""
        trace = str(found.get("exception") or "")
        if trace and not found.get("msg"):
            self._show(Line("", trace, BAD))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        if self._detailed:
            super().v2_runner_on_unreachable(result)
            return
        self._unreachable(result.host.get_name(), result.result)

    def _unreachable(self, node: str, found: Mapping[str, Any]) -> None:
        text = str(found.get("msg") or found.get("skip_reason") or "no answer").strip()
        self._told.append(text)
        self._show(Line(node, f"UNREACHABLE: {text}", BAD))

    def v2_runner_on_skipped(self, result: Any) -> None:
        if self._detailed:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if self._detailed:
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        if self._detailed:
            super().v2_runner_item_on_failed(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        if self._detailed:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_retry(self, result: Any) -> None:
        if self._detailed:
            super().v2_runner_retry(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if self._detailed:
            super().v2_playbook_on_include(included_file)

    def v2_on_file_diff(self, result: Any) -> None:
        if self._detailed:
            super().v2_on_file_diff(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self._detailed:
            super().v2_playbook_on_stats(stats)
            return
        self._live.end()
        hosts = sorted(stats.processed)
        failed = [h for h in hosts if stats.summarize(h)["failures"] or stats.summarize(h)["unreachable"]]
        changed = [h for h in hosts if stats.summarize(h)["changed"]]
        seconds = time.monotonic() - self._started
        words = f"failed on {', '.join(failed)}" if failed else f"{len(changed)} of {len(hosts)} hosts changed"
        if self._refused:
            words = "refused, nothing was changed"
        if self._display.verbosity == 0 and not hosts:
            words = "no host matched"
        self._display.display(
            f"\n{words}, {seconds:.1f} s" if not self._reported else f"\n{seconds:.1f} s",
            color=constants.COLOR_ERROR if failed else constants.COLOR_OK,
        )
