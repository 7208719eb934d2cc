"""The journal: a chain that shows every change, a torn end that is forgiven, and the state that follows from it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.clock import uptime
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.journal import Journal, parse, stacks_at
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import TICKS, Identity

ME = Owner(os.geteuid(), os.getegid())
OLD = [{"name": "p", "version": "1", "digest": "a", "enabled": True, "options": {}}]
NEW = [{"name": "p", "version": "2", "digest": "b", "enabled": True, "options": {}}]


def begin(journal: Journal, txn: str, target: list[dict[str, Any]], previous: list[dict[str, Any]]) -> None:
    journal.append("begin", {"target": target, "previous": previous}, txn, "r1")


def started(seconds: float) -> Identity:
    """A process that was started so many seconds after the machine was."""
    return Identity(1, int(seconds * TICKS))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "journal.jsonl", ME)


def test_what_was_appended_is_read_back_in_order(journal: Journal) -> None:
    journal.append("note", {"n": 1})
    journal.append("note", {"n": 2})
    again = Journal(journal.path, ME)
    assert [entry["data"]["n"] for entry in again.entries] == [1, 2]
    assert [entry["seq"] for entry in again.entries] == [1, 2]
    assert again.entries[1]["prev"] == again.entries[0]["hash"] == journal.entries[0]["hash"]
    assert journal.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_forgiven_and_repaired(journal: Journal, cut: int) -> None:
    journal.append("note", {"n": 1})
    journal.append("note", {"n": 2})
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    again = Journal(journal.path, ME)
    assert len(again.entries) == 1
    again.append("note", {"n": 3})
    final = Journal(journal.path, ME)
    assert [entry["event"] for entry in final.entries] == ["note", "repaired", "note"]
    assert final.torn == b""


@pytest.mark.parametrize("line", [0, 1])
def test_a_changed_line_is_found(journal: Journal, line: int) -> None:
    for number in range(3):
        journal.append("note", {"n": number})
    lines = journal.path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"n":', b'"m":')
    with pytest.raises(HiveError, match=f"line {line + 1} of"):
        parse(b"".join(lines), journal.path)


def test_a_removed_line_is_found(journal: Journal) -> None:
    for number in range(3):
        journal.append("note", {"n": number})
    lines = journal.path.read_bytes().splitlines(keepends=True)
    with pytest.raises(HiveError, match="line 2 of"):
        parse(lines[0] + lines[2], journal.path)


def test_a_confirmed_switch_becomes_stable_and_the_one_before_it_previous(journal: Journal) -> None:
    begin(journal, "t1", OLD, [])
    journal.append("confirmed", {}, "t1", "r1")
    begin(journal, "t2", NEW, OLD)
    journal.append("armed", {"deadline": 5.0}, "t2", "r1")
    journal.append("switched", {}, "t2", "r1")
    state = journal.state()
    assert state.stable == OLD
    assert state.transaction is not None
    assert (state.transaction.phase, state.transaction.deadline) == ("switched", 5.0)
    journal.append("confirmed", {}, "t2", "r1")
    state = journal.state()
    assert (state.stable, state.previous, state.transaction) == (NEW, OLD, None)


@pytest.mark.parametrize("event", ["reverted", "refused"])
def test_an_undone_switch_changes_nothing(journal: Journal, event: str) -> None:
    begin(journal, "t1", OLD, [])
    journal.append("confirmed", {}, "t1", "r1")
    begin(journal, "t2", NEW, OLD)
    journal.append(event, {"reason": "x"}, "t2", "r1")
    state = journal.state()
    assert (state.stable, state.previous, state.transaction) == (OLD, [], None)
    assert state.last is not None
    assert state.last.phase == event


def test_watermarks_only_rise(journal: Journal) -> None:
    for when in (5, 9, 7):
        journal.append("accepted", {"name": "p", "released_at": when})
    assert journal.state().watermarks == {"p": 9}


def test_both_sides_of_an_open_switch_may_have_been_read_at_a_start(journal: Journal) -> None:
    begin(journal, "t1", OLD, [])
    journal.append("confirmed", {}, "t1", "r1")
    begin(journal, "t2", NEW, OLD)
    assert stacks_at(journal.entries, started(uptime() + 1)) == [NEW, OLD]
    assert stacks_at(journal.entries, started(0.0)) == []


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_what_stood_on_disk_at_a_start_does_not_depend_on_the_clock(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    begin(journal, "t1", OLD, [])
    journal.append("confirmed", {}, "t1", "r1")
    later = started(uptime() + 1)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
    begin(journal, "t2", NEW, OLD)
    journal.entries[-1]["up"][1] += 5
    assert stacks_at(journal.entries, later) == [OLD]


def test_entries_of_an_earlier_start_of_the_machine_come_before_everything(journal: Journal) -> None:
    begin(journal, "t1", OLD, [])
    journal.append("confirmed", {}, "t1", "r1")
    for entry in journal.entries:
        entry["up"] = ["an-earlier-one", 10_000_000.0]
    assert stacks_at(journal.entries, started(5.0)) == [OLD]


def test_entries_without_a_boot_clock_go_by_their_time(journal: Journal) -> None:
    begin(journal, "t1", OLD, [])
    journal.append("confirmed", {}, "t1", "r1")
    for entry in journal.entries:
        del entry["up"]
    assert stacks_at(journal.entries, started(uptime() + 1)) == [OLD]
    assert stacks_at(journal.entries, started(0.0)) == []


QUARANTINED = {"plugin": "p", "version": "2", "digest": "d2", "path": "/p2", "fallback": "d1", "reason": "it died"}


@pytest.mark.parametrize(
    ("running", "held"),
    [
        ([{"name": "p", "digest": "d1", "enabled": True}], True),
        ([{"name": "p", "digest": "d2", "enabled": True}], False),
        ([{"name": "p", "digest": "d3", "enabled": True}], False),
        ([{"name": "p", "digest": "d1", "enabled": False}, {"name": "q", "digest": "x", "enabled": True}], False),
        ([{"name": "p", "digest": "d1", "enabled": True}, {"name": "q", "digest": "x", "enabled": True}], True),
        ([], False),
    ],
)
def test_a_quarantine_ends_with_the_next_good_switch_of_that_plugin(
    journal: Journal, running: list[dict[str, Any]], held: bool
) -> None:
    journal.append("quarantined", {"plugins": [QUARANTINED]})
    assert set(journal.state().quarantine) == {"d2"}
    begin(journal, "t1", running, OLD)
    journal.append("confirmed", {}, "t1", "r1")
    assert (set(journal.state().quarantine) == {"d2"}) is held
