# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What the operator reads while a run goes on: one line per thing that happened to a node. Pure, controller only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _report_adoption,
    _report_gates,
    _report_soak,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._report import Json, stack_words
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_restore import restore_command, restore_text
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_status import backup_notes

# What a node only writes down.
NOTED = {"soaked": "has soaked", "abandoned": "its plan is given up"}
GOOD, CHANGED, BAD, PLAIN = "good", "changed", "bad", "plain"
# How a run may end, for the colour of its last lines.
MOODS = {"success": GOOD, "unchanged": GOOD, "soaking": CHANGED, "paused": BAD, "running": PLAIN}
WIDTH = 150
MANY_LETTERS = 100


class Line(NamedTuple):
    """One line: the node ("" for the whole fleet), the words, and how it is meant."""

    node: str
    text: str
    mood: str = PLAIN


def event_lines(
    action: str,
    node: str,
    task: str,
    result: Mapping[str, Any],
    seconds: float,
    width: int = WIDTH,
    full: bool = True,
) -> list[Line]:
    """The lines for a task that did not fail.

    Args:
        action: full name of the module, for example ``lightning_goats.hive.hive_switch``.
        node: the host.
        task: the task's name, for modules that are not ours.
        result: what it returned.
        seconds: how long it took.
        width: of the terminal, for tables.
        full: whether also what is as it should be is told of the gates.
    """
    ours = action.rpartition(".")[2] if action.startswith("lightning_goats.hive.") else ""
    if ours == "hive_gates":
        mood = BAD if result.get("failed") or result.get("hold") else PLAIN
        return [Line("", text, mood) for text in _report_gates.lines(result, width, full)]
    teller = TELLERS.get(ours)
    if teller is not None:
        return teller(node, result, seconds)
    told = result.get("lines")
    if ours and isinstance(told, list):
        return [Line("", str(line)) for line in told]
    if action.rpartition(".")[2] == "debug":
        message = result.get("msg")
        return [Line("", str(line)) for line in (message if isinstance(message, list) else [message]) if line]
    if not result.get("changed"):
        return []
    said = str(result.get("msg") or "").strip()
    return [Line(node, said if ours and said else f"{task}: changed", CHANGED)]


def failure_text(result: Mapping[str, Any]) -> str:
    """Everything that a failed task says for itself, once, in full."""
    parts = [str(result.get("msg") or "").strip()]
    for key in ("reason", "stderr", "module_stderr", "module_stdout"):
        text = str(result.get(key) or "").strip()
        if text and not any(text in part for part in parts):
            parts.append(text)
    items = [item for item in result.get("results") or [] if isinstance(item, Mapping) and item.get("failed")]
    parts += [failure_text(item) for item in items]
    return "\n".join(part for part in parts if part) or "it failed and gave no reason"


def _observe(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    samples = result.get("samples") or []
    if samples:
        window = samples[-1]["time"] - samples[0]["time"]
        return [Line(node, f"{len(samples)} samples over {window:.1f} s", PLAIN)]
    seen = result.get("observed") or {}
    lightningd = seen.get("lightningd") or {}
    transaction = seen.get("transaction")
    # A node that is as it should be is told by the plan or the table that follows.
    if not lightningd.get("running"):
        return [Line(node, "lightningd does not answer", BAD)]
    if not lightningd.get("synced"):
        return [Line(node, f"still syncing at height {lightningd.get('blockheight')}", BAD)]
    if transaction:
        return [
            Line(node, f"has an open switch of rollout {transaction.get('rollout')} ({transaction.get('phase')})", BAD)
        ]
    return [Line(node, note, BAD) for note in backup_notes(seen, float(seen.get("time") or 0))]


def _plan(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    lines = [Line("", str(line)) for line in result.get("lines") or []]
    if result.get("resumed"):
        lines.insert(0, Line("", f"Resuming rollout {result.get('rollout')}, which was interrupted."))
    return lines


def _stage(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    if not result.get("changed"):
        return []
    return [Line(node, f"releases staged in {seconds:.1f} s", CHANGED)]


def _switch(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    phase = str(result.get("phase") or "")
    if not result.get("changed"):
        return []
    if phase in NOTED:
        return [Line(node, NOTED[phase], GOOD if phase == "soaked" else CHANGED)]
    words = {"confirmed": "confirmed", "reverted": "back on"}.get(phase, "switched to")
    text = words if phase == "confirmed" else f"{words} {stack_words(_stack(result.get('after')))}"
    downtime: Json = result.get("downtime_ms") or {}
    if downtime and phase != "confirmed":
        text += "; away: " + ", ".join(f"{plugin} {ms:.0f} ms" for plugin, ms in downtime.items())
    if phase != "confirmed" or result.get("downtime_ms"):
        text += _report_adoption.short(result.get("adoption"))
    restarts = result.get("lightningd_restarts") or 0
    if restarts:
        text += f"; lightningd restarted {restarts} times"
    return [Line(node, text, GOOD if phase == "confirmed" else CHANGED)]


def _stack(stack: Any) -> list[Json]:
    return [{**item, "enabled": item.get("enabled", True)} for item in stack or []]


def _backup(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    made = result.get("backup")
    if not made:
        sets = result.get("backups") or []
        return [Line(node, f"{one.get('id')} {one.get('bytes')} bytes") for one in sets] or [
            Line(node, "no backup set")
        ]
    size = f"{made.get('bytes', 0) / 2**10:.0f} KiB"
    if made.get("reused"):
        return [Line(node, f"backup set {made['id']} is recent enough")]
    sound = "every database read back and sound" if made.get("verified") else "A DATABASE IN IT IS NOT SOUND"
    mood = CHANGED if made.get("verified") else BAD
    line = Line(node, f"backup set {made['id']}, {size} in {made.get('duration_ms', 0):.0f} ms, {sound}", mood)
    return [line, *(Line("", str(remark), BAD) for remark in made.get("remarks") or [])]


def _copy(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    said = str(result.get("msg") or "")
    return [Line(node, said, CHANGED if result.get("changed") else PLAIN)] if said else []


def _restore(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    mood = CHANGED if result.get("changed") else PLAIN
    lines = [Line(node, text, mood) for text in restore_text(result)]
    if result.get("changed"):
        return lines
    lines += [Line("", str(reason), BAD) for reason in result.get("fence") or []]
    return [*lines, Line("", restore_command(node, result))]


def _judge(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    mood = GOOD if result.get("verdict") == "healthy" else BAD
    return [Line("", f"verdict: {result.get('msg')}", mood)]


def _judge_soak(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    lines = []
    for stage in result.get("stages") or []:
        soak = _report_soak.shaped(stage["name"], stage["number"], stage["nodes"], stage)
        mood = {_report_soak.SOAKED: GOOD, _report_soak.SOAKING: CHANGED}.get(soak["state"], BAD)
        told = _report_soak.lines([soak])
        # The judge's own sentence has the reasons, and says what to do.
        said = [str(stage["msg"])] if soak["state"] in _report_soak.ENDED and stage.get("msg") else []
        lines += [Line("", text, mood) for text in (told[:1] + said if said else told)]
    return lines


def _report(node: str, result: Mapping[str, Any], seconds: float) -> list[Line]:
    """The table plain, and how the run ended in the colour of how it ended."""
    word = str((result.get("report") or {}).get("result") or "")
    lines = [
        Line("", str(text), MOODS.get(word, BAD) if text == result.get("msg") else PLAIN)
        for text in result.get("lines") or []
    ]
    return [Line("", ""), *lines] if lines else []


def stage_heading(wave: Mapping[str, Any], place: int, total: int) -> str:
    """The heading of a stage; of many nodes it names the first and the last."""
    nodes = ", ".join(wave["nodes"])
    if len(nodes) > MANY_LETTERS:
        nodes = f"{len(wave['nodes'])} nodes, {wave['nodes'][0]} to {wave['nodes'][-1]}"
    return f"Stage {place} of {total}, {wave['name']}: {nodes}"


def sampled(samples: Mapping[str, list[Any]]) -> list[Line]:
    """What the nodes of a stage were watched for, when that was done in parts."""
    return [line for node, found in samples.items() for line in _observe(node, {"samples": found}, 0.0)]


TELLERS: Mapping[str, Callable[[str, Mapping[str, Any], float], list[Line]]] = {
    "hive_observe": _observe,
    "hive_plan": _plan,
    "hive_stage": _stage,
    "hive_switch": _switch,
    "hive_backup": _backup,
    "hive_copies": _copy,
    "hive_restic": _copy,
    "hive_restore": _restore,
    "hive_judge": _judge,
    "hive_judge_soak": _judge_soak,
    "hive_report": _report,
}
