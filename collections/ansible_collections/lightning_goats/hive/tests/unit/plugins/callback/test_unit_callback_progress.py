"""The callback on events as Ansible sends them: what is printed, what is not, and what only once."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.lightning_goats.hive.plugins.callback import progress
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_live import Activity, fitting

Json = dict[str, Any]


class Screen:
    """Takes what the callback displays."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.verbosity = 0

    def display(self, text: str, color: str | None = None, **_: Any) -> None:
        self.lines += text.split("\n")


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def callback(screen: Screen) -> Any:
    made = progress.CallbackModule()
    made._display = screen
    return made


class Line:
    """Takes what the last line of a terminal shows."""

    shown = True

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, activity: Activity) -> None:
        self.told.append(activity.line(200))

    def above(self, write: Callable[[], None]) -> None:
        write()

    def end(self) -> None:
        self.told.append("")


@pytest.fixture
def live(callback: Any) -> Line:
    callback._live = Line()
    return cast("Line", callback._live)


def play(name: str, serial: list[int] | None = None) -> Any:
    return SimpleNamespace(get_name=lambda: name, serial=serial or [])


def event(module: str, result: Json, node: str = "alpha", task: str = "hive_canary : Do it", diff: bool = False) -> Any:
    action = f"lightning_goats.hive.{module}" if module.startswith("hive_") else module
    return SimpleNamespace(
        host=SimpleNamespace(get_name=lambda: node),
        result=result,
        task=SimpleNamespace(
            get_name=lambda: task, resolved_action=action, action=action, _uuid="1", _role=object(), diff=diff
        ),
    )


def test_a_heading_comes_only_with_something_below_it(callback: Any, screen: Screen) -> None:
    callback.v2_playbook_on_play_start(play("Nothing happens"))
    callback.v2_runner_on_ok(event("ansible.builtin.assert", {"changed": False}))
    assert screen.lines == []
    callback.v2_playbook_on_play_start(play("Something happens"))
    callback.v2_runner_on_ok(event("hive_stage", {"changed": True}))
    assert screen.lines == ["", "Something happens", "  alpha     releases staged in 0.0 s"]


def test_stages_are_named_after_the_plan(callback: Any, screen: Screen) -> None:
    waves = [{"name": "canary", "nodes": ["alpha"]}, {"name": "wave 1", "nodes": ["bravo", "charlie"]}]
    callback.v2_runner_on_ok(event("hive_plan", {"lines": ["the plan"], "run": {"waves": waves}}))
    for _ in waves:
        callback.v2_playbook_on_play_start(play("Switch the nodes", [1, 2]))
        callback.v2_runner_on_ok(event("hive_judge", {"verdict": "healthy", "msg": "healthy: fine"}))
    assert [line for line in screen.lines if line.startswith("Stage")] == [
        "Stage 1 of 2, canary: alpha",
        "Stage 2 of 2, wave 1: bravo, charlie",
    ]


def test_a_failure_is_told_once_and_in_full(callback: Any, screen: Screen) -> None:
    callback.v2_runner_on_failed(event("hive_switch", {"msg": "cl-hive exited\nwith a reason", "failed": True}))
    callback.v2_runner_on_failed(event("ansible.builtin.fail", {"msg": "cl-hive exited\nwith a reason"}))
    assert screen.lines == ["  alpha     FAILED Do it: cl-hive exited", "            with a reason"]


def test_a_verdict_is_not_told_again_by_the_task_that_fails_on_it(callback: Any, screen: Screen) -> None:
    callback.v2_runner_on_ok(event("hive_judge", {"verdict": "failing", "msg": "failing: alpha: gone"}))
    callback.v2_runner_on_failed(event("ansible.builtin.fail", {"msg": "failing: alpha: gone"}))
    assert screen.lines == ["  verdict: failing: alpha: gone"]


def test_a_refused_plan_shows_its_sentences(callback: Any, screen: Screen) -> None:
    refused = {"failed": True, "msg": "alpha is still syncing.", "lines": ["REFUSED (syncing) alpha is still syncing."]}
    callback.v2_runner_on_failed(event("hive_plan", refused))
    callback.v2_runner_on_failed(event("ansible.builtin.fail", {"msg": "alpha is still syncing."}))
    assert screen.lines == ["  REFUSED (syncing) alpha is still syncing."]


def test_a_debug_message_that_was_told_is_not_repeated(callback: Any, screen: Screen) -> None:
    callback.v2_runner_on_ok(event("hive_release", {"changed": True, "lines": ["cl-hive 0.1.0 built"]}))
    callback.v2_runner_on_ok(event("ansible.builtin.debug", {"msg": ["cl-hive 0.1.0 built", "and more"]}))
    assert screen.lines == ["  cl-hive 0.1.0 built", "  and more"]


def test_an_unreachable_node_is_told_whether_or_not_it_is_ignored(callback: Any, screen: Screen) -> None:
    callback.v2_runner_on_ok(event("hive_observe", {"unreachable": True, "msg": "timed out"}))
    callback.v2_runner_on_unreachable(event("hive_observe", {"unreachable": True, "msg": "no route"}, "bravo"))
    assert screen.lines == ["  alpha     UNREACHABLE: timed out", "  bravo     UNREACHABLE: no route"]


def test_a_diff_is_shown_only_when_asked_for(callback: Any, screen: Screen) -> None:
    result = {"changed": True, "diff": {"before": "a\n", "after": "b\n"}}
    callback.v2_runner_on_ok(event("hive_stage", result))
    assert len(screen.lines) == 1
    callback.v2_runner_on_ok(event("hive_stage", result, diff=True))
    assert any("+b" in line for line in screen.lines)


def test_nothing_is_overwritten_where_there_is_no_terminal(
    callback: Any, screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    callback.v2_playbook_on_task_start(event("hive_stage", {}).task, False)
    callback.v2_runner_on_ok(event("hive_stage", {"changed": True}))
    assert capsys.readouterr().out == ""


WAVES = [{"name": "wave 1", "number": 1, "nodes": ["bravo"]}, {"name": "wave 2", "number": 2, "nodes": ["charlie"]}]


def begin(callback: Any, **run: Any) -> None:
    """Let a run begin that goes on with a rollout of three stages, and its first stage."""
    callback.v2_runner_on_ok(event("hive_plan", {"run": {"waves": WAVES, "total": 3, "parts": [60.0] * 10, **run}}))
    callback.v2_playbook_on_play_start(play("Switch the nodes", [1, 1]))


def start(callback: Any, module: str, task: str = "hive_canary : Do it") -> None:
    callback.v2_playbook_on_task_start(event(module, {}, task=task).task, False)


def samples(count: int, begin: float) -> Json:
    return {"samples": [{"time": begin + second} for second in range(count)]}


def test_the_live_line_tells_stage_window_and_samples(callback: Any, screen: Screen, live: Line) -> None:
    begin(callback)
    start(callback, "hive_switch", "hive_canary : Switch the node")
    start(callback, "hive_observe")
    for part in range(2):
        callback.v2_runner_on_ok(event("hive_observe", samples(7, 60.0 * part), "bravo"))
    start(callback, "ansible.builtin.raw", "hive_canary : Look for a brake")
    start(callback, "hive_judge", "hive_canary : Judge the batch")
    assert live.told == [
        "wave 1 (2 of 3): Switch the node",
        "wave 1 (2 of 3): watching the nodes  0:00 of 10:00 [------------]",
        "wave 1 (2 of 3): watching the nodes  0:00 of 10:00 [------------] 14 samples so far",
        "wave 1 (2 of 3): Judge the batch",
    ]
    assert screen.lines == ["", "Stage 2 of 3, wave 1: bravo", "  bravo     14 samples over 66.0 s"]


@pytest.mark.parametrize(("verdict", "again"), [("healthy", False), ("inconclusive", True)])
def test_only_a_verdict_that_tells_nothing_is_followed_by_another_window(
    callback: Any, screen: Screen, live: Line, verdict: str, again: bool
) -> None:
    begin(callback)
    start(callback, "hive_observe")
    callback.v2_runner_on_ok(event("hive_observe", samples(7, 0.0), "bravo"))
    start(callback, "hive_judge")
    judged = {"verdict": verdict, "msg": f"{verdict}: words", "samples": 7, "reasons": []}
    callback.v2_runner_on_ok(event("hive_judge", judged, "bravo"))
    start(callback, "hive_observe", "hive_canary : Sample the node once more")
    start(callback, "hive_switch", "hive_canary : Confirm the node")
    assert ("watching" in live.told[-1]) == again
    assert screen.lines[2:] == ["  bravo     7 samples over 6.0 s", f"  verdict: {verdict}: words"]


def test_the_next_stage_begins_anew(callback: Any, screen: Screen, live: Line) -> None:
    begin(callback)
    start(callback, "hive_observe")
    callback.v2_playbook_on_play_start(play("Switch the nodes", [1, 1]))
    start(callback, "hive_stage", "hive_stage : Stage it")
    callback.v2_playbook_on_play_start(play("Finish"))
    start(callback, "hive_report", "Report the run")
    assert live.told[1:] == ["wave 2 (3 of 3): Stage it", "Report the run"]


def test_where_no_line_counts_a_long_window_is_told_when_it_begins(callback: Any, screen: Screen) -> None:
    begin(callback)
    start(callback, "hive_observe")
    start(callback, "hive_observe")
    assert [line[:34] for line in screen.lines[2:]] == ["  watched for 10 min, until about "]


def test_a_short_window_is_not_told(callback: Any, screen: Screen) -> None:
    begin(callback, parts=[3.0])
    start(callback, "hive_observe")
    callback.v2_runner_on_ok(event("hive_observe", samples(4, 0.0), "bravo"))
    assert screen.lines[2:] == ["  bravo     4 samples over 3.0 s"]


def test_a_soak_has_its_bar_and_is_not_told_again_by_the_task_that_stops(callback: Any, screen: Screen) -> None:
    stage = {"name": "canary", "number": 0, "nodes": ["alpha"], "state": "paused", "msg": "canary: nothing to tell."}
    progress_ = {"minutes": [720, 4320], "forwards": [0, 20]}
    callback.v2_runner_on_ok(event("hive_judge_soak", {"stages": [{**stage, "progress": progress_}]}))
    callback.v2_runner_on_failed(event("ansible.builtin.fail", {"msg": "canary: nothing to tell.", "failed": True}))
    assert screen.lines == [
        "  canary: paused  [--------------------]  12 h of 3 d, 0 of 20 forwards",
        "  canary: nothing to tell.",
    ]


FINDINGS = [
    {"check": "A1", "gate": "A", "title": "the suites are green", "state": "pass", "detail": "1,284 tests"},
    {"check": "B1", "gate": "B", "title": "an upgrade was tried", "state": "block", "detail": "there is none " * 9},
]


def gates(*findings: Json, **more: Any) -> Json:
    return {"findings": list(findings), "advice": ["do it"], "lines": ["wide"], "msg": "The gates say no.", **more}


def test_the_table_of_the_gates_fits_the_terminal(
    callback: Any, screen: Screen, live: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "columns", lambda stream: 90)
    callback.v2_runner_on_failed(event("hive_gates", gates(*FINDINGS, failed=True)))
    assert [line.split()[:3] for line in screen.lines[:3]] == [
        ["GATE", "CHECK", "STATE"],
        ["A", "A1", "pass"],
        ["B", "B1", "block"],
    ]
    assert max(map(len, screen.lines)) <= 90
    assert screen.lines[-2:] == ["  do it", "  gates: 1 block, 1 pass"]


def test_gates_that_are_open_are_one_line_of_a_rollout_and_a_table_of_their_own_playbook(
    callback: Any, screen: Screen
) -> None:
    callback.v2_runner_on_ok(event("hive_gates", gates(FINDINGS[0])))
    assert screen.lines == ["  do it", "  gates: 1 pass"]
    callback.v2_playbook_on_start(SimpleNamespace(_file_name="/x/playbooks/gates.yml"))
    callback.v2_runner_on_ok(event("hive_gates", gates(FINDINGS[0])))
    assert len(screen.lines) == 6


def test_a_stage_of_many_nodes_has_a_short_heading(callback: Any, screen: Screen) -> None:
    nodes = [f"node{number:02}.example.org" for number in range(20)]
    waves = [{"name": "wave 1", "number": 1, "nodes": nodes}]
    callback.v2_runner_on_ok(event("hive_plan", {"run": {"waves": waves, "total": 2}}))
    callback.v2_playbook_on_play_start(play("Switch the nodes", [20]))
    callback.v2_runner_on_ok(event("hive_stage", {"changed": True}, nodes[0]))
    assert screen.lines[1] == "Stage 2 of 2, wave 1: 20 nodes, node00.example.org to node19.example.org"


def test_what_a_log_line_says_cannot_move_the_cursor(callback: Any, screen: Screen) -> None:
    callback.v2_runner_on_failed(event("hive_switch", {"msg": "bad\x1b[2J\r words", "failed": True}))
    assert screen.lines == ["  alpha     FAILED Do it: bad?[2J? words"]


@pytest.mark.parametrize(("width", "line"), [(40, "a word and more words"), (10, "a word ..."), (2, "...")])
def test_a_line_is_cut_where_it_ends(width: int, line: str) -> None:
    assert fitting("a word\tand more\nwords", width) == line


class Stats:
    """Counters of a run."""

    def __init__(self, **hosts: Json) -> None:
        self.processed = hosts

    def summarize(self, host: str) -> Json:
        return {"failures": 0, "unreachable": 0, "changed": 0, **self.processed[host]}


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        (Stats(a={"changed": 1}, b={}), "1 of 2 hosts changed"),
        (Stats(a={"failures": 1}, b={"unreachable": 1}), "failed on a, b"),
        (Stats(), "no host matched"),
    ],
)
def test_the_last_line(callback: Any, screen: Screen, stats: Stats, words: str) -> None:
    callback.v2_playbook_on_stats(stats)
    assert screen.lines[-1].startswith(words)
