"""The callback on events as Ansible sends them: what is printed, what is not, and what only once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.callback import progress

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
