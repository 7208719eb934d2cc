"""wait_for: asked again until it is decided, and no longer than it may take."""

from __future__ import annotations

import time

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _waiting
from ansible_collections.lightning_goats.hive.plugins.module_utils._waiting import wait_for


class Clock:
    """A clock that moves only when somebody pauses."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_waiting, "time", clock)
    return clock


def test_the_first_answer_ends_it(clock: Clock) -> None:
    answers = iter([None, None, "here", "too late"])
    assert wait_for(lambda: next(answers), 10, 0.5) == "here"
    assert clock.pauses == [0.5, 0.5]


@pytest.mark.parametrize("answer", [False, 0, "", []])
def test_no_is_an_answer(clock: Clock, answer: object) -> None:
    assert wait_for(lambda: answer, 10) == answer
    assert clock.pauses == []


def test_it_is_asked_once_when_there_is_no_time(clock: Clock) -> None:
    asked: list[float] = []
    assert wait_for(lambda: asked.append(clock.now), 0) is None
    assert asked == [100.0]


def test_the_last_question_comes_when_the_time_has_passed(clock: Clock) -> None:
    asked: list[float] = []
    assert wait_for(lambda: asked.append(clock.now), 1.2, 0.5) is None
    assert asked == pytest.approx([100.0, 100.5, 101.0, 101.2])


def test_a_failure_ends_it(clock: Clock) -> None:
    def ask() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        wait_for(ask, 10)
    assert clock.now == 100.0


def test_it_looks_at_the_real_clock() -> None:
    began = time.monotonic()
    assert wait_for(lambda: None, 0.02, 0.005) is None
    assert time.monotonic() - began >= 0.02
