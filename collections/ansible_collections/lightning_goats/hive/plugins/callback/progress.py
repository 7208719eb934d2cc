# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Stages, nodes and reasons instead of task noise."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from ansible import constants
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_progress import (
    BAD,
    CHANGED,
    GOOD,
    Line,
    event_lines,
    failure_text,
)

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Stages, nodes and reasons instead of task noise
description:
  - Prints one line for each thing that happened to a node, and a failure once and in full.
  - On a terminal the task that runs is shown in a last line that the next one replaces. Elsewhere nothing is
    overwritten.
  - With C(-v) it is the default callback.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as C(stdout_callback) in the configuration
"""

COLORS = {GOOD: constants.COLOR_OK, CHANGED: constants.COLOR_CHANGED, BAD: constants.COLOR_ERROR}
CLEAR = "\r\x1b[2K"


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
        self._live = False

    @property
    def _detailed(self) -> bool:
        return bool(self._display.verbosity > 0)

    def _show(self, line: Line) -> None:
        """One line under its heading; the heading only once there is something to say."""
        self._wipe()
        if self._heading:
            self._display.display(f"\n{self._heading}", color=constants.COLOR_HIGHLIGHT)
            self._heading = ""
        rows = line.text.splitlines() or [""]
        for number, row in enumerate(rows):
            label = line.node if number == 0 else ""
            text = f"  {label:<{self._width}}  {row}" if line.node else f"  {row}"
            self._display.display(text.rstrip(), color=COLORS.get(line.mood))

    def _wipe(self) -> None:
        if self._live:
            sys.stdout.write(CLEAR)
            sys.stdout.flush()
            self._live = False

    def _tell_running(self, name: str) -> None:
        if sys.stdout.isatty():
            sys.stdout.write(f"{CLEAR}  ... {name}"[:100])
            sys.stdout.flush()
            self._live = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        if self._detailed:
            super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        if self._detailed:
            super().v2_playbook_on_play_start(play)
            return
        self._play = play
        self._heading = str(play.get_name())
        if (
            self._waves
            and play.serial == [len(wave["nodes"]) for wave in self._waves]
            and self._wave < len(self._waves)
        ):
            wave = self._waves[self._wave]
            self._wave += 1
            self._heading = f"Stage {self._wave} of {len(self._waves)}, {wave['name']}: {', '.join(wave['nodes'])}"

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._detailed:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        if self._detailed:
            super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        if self._detailed:
            super().v2_playbook_on_task_start(task, is_conditional)
            return
        self._tell_running(_task_name(task))

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
        for line in event_lines(action, node, _task_name(result.task), found, time.monotonic() - begun):
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
            names = [node for wave in self._waves for node in wave["nodes"]]
            self._width = max([self._width, *(len(name) for name in names)])
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
            for line in event_lines("lightning_goats.hive.hive_plan", node, "", found, 0.0):
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
        self._wipe()
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
