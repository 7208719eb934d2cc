"""Soaks: what the journal makes of them, and what a node must not survive while it soaks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import deadman, soak, soak_guard
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.drain import likely_blocks, worst_for
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.history import history
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.journal import Journal
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.prune import needed
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Request
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.runtimes_common import Runtime

Json = dict[str, Any]
STAGE = {"plan": "a" * 64, "name": "canary", "soak": {"minutes": 60, "blocks": 6, "forwards": 5}}


def item(version: str, name: str = "p", digest: str = "") -> Json:
    return {"name": name, "version": version, "digest": digest or f"{name}{version}", "enabled": True, "options": {}}


OLD, NEW, NEWER = [item("1")], [item("2")], [item("3")]


class Past:
    """A journal, told in short."""

    def __init__(self, path: Path) -> None:
        self.journal = Journal(path / "journal.jsonl", Owner(os.geteuid(), os.getegid()))
        self.count = 0

    def begin(self, target: list[Json], previous: list[Json], **data: Any) -> str:
        self.count += 1
        facts = {"kind": "switch", "target": target, "previous": previous, "found": previous, **data}
        stage = soak.stage_of(facts.pop("stage", None))
        self.journal.append("begin", {**facts, **({"stage": stage} if stage else {})}, f"t{self.count}", "r")
        return f"t{self.count}"

    def switch(self, target: list[Json], previous: list[Json], end: str = "confirmed", **data: Any) -> None:
        txn = self.begin(target, previous, **data)
        self.journal.append(end, {"by": "engine", "height": 100, "backup": f"set-{txn}"}, txn, "r")

    @property
    def soak(self) -> Json | None:
        return self.journal.state().soak


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)


@pytest.fixture
def soaking(past: Past) -> Past:
    past.switch(OLD, [])
    past.switch(NEW, OLD, stage=STAGE)
    return past


def state(past: Past) -> str:
    return "" if past.soak is None else str(past.soak["state"])


class TestJournal:
    def test_a_journal_without_stages_has_no_soak(self, past: Past) -> None:
        past.switch(OLD, [])
        assert (past.soak, past.journal.state().abandoned) == (None, [])
        assert soak.shown(past.soak) is None

    def test_it_begins_with_the_confirmation(self, past: Past) -> None:
        past.switch(OLD, [])
        txn = past.begin(NEW, OLD, stage=STAGE)
        assert past.soak is None
        past.journal.append("confirmed", {"by": "controller", "height": 7, "backup": "b"}, txn, "r")
        facts = soak.shown(past.soak)
        assert facts is not None
        assert (facts["state"], facts["stage"], facts["since_height"]) == ("soaking", "canary", 7)
        assert (facts["previous"], facts["target"], facts["rollout"]) == (OLD, NEW, "r")
        assert soak.held_set(past.soak) == "b"

    @pytest.mark.parametrize("end", ["reverted", "refused"])
    def test_a_switch_that_was_not_kept_does_not_soak(self, past: Past, end: str) -> None:
        past.switch(NEW, OLD, end, stage=STAGE)
        assert past.soak is None

    @pytest.mark.parametrize(
        ("target", "data", "after"),
        [
            (OLD, {"kind": "rollback"}, ""),
            (NEWER, {}, ""),
            (NEW, {}, "soaking"),
            (NEW, {"kind": "restore"}, "soaking"),
            (NEW, {"stage": STAGE}, "soaking"),
            (OLD, {"kind": "self-revert", "reason": "it was down"}, "self-reverted"),
        ],
    )
    def test_what_a_later_switch_makes_of_it(self, soaking: Past, target: list[Json], data: Json, after: str) -> None:
        since = (soaking.soak or {})["since"]
        soaking.switch(target, NEW, **data)
        assert state(soaking) == after
        if soaking.soak is not None:
            assert (soaking.soak["since"], soaking.soak["previous"]) == (since, OLD)
            assert soaking.soak["reason"] == data.get("reason", "")

    @pytest.mark.parametrize("end", ["reverted", "refused"])
    def test_a_later_switch_that_was_not_kept_leaves_it(self, soaking: Past, end: str) -> None:
        soaking.switch(NEWER, NEW, end, stage={**STAGE, "plan": "b" * 64})
        assert (state(soaking), (soaking.soak or {})["plan"]) == ("soaking", "a" * 64)

    def test_another_plan_soaks_for_itself_and_still_knows_the_way_back(self, soaking: Past) -> None:
        soaking.switch(NEW, NEW, stage={**STAGE, "plan": "b" * 64})
        assert soaking.soak is not None
        assert (soaking.soak["plan"], soaking.soak["previous"]) == ("b" * 64, OLD)
        soaking.switch(NEWER, NEW, stage={**STAGE, "plan": "c" * 64})
        assert soaking.soak["plan"] == "c" * 64
        assert soaking.soak["previous"] == NEW

    def test_it_is_tried_again_after_the_node_went_back(self, soaking: Past) -> None:
        soaking.switch(OLD, NEW, kind="self-revert", reason="it was down")
        soaking.switch(NEW, OLD, stage=STAGE)
        assert soaking.soak is not None
        assert (soaking.soak["state"], soaking.soak["tries"], soaking.soak["previous"]) == ("soaking", 0, OLD)

    def test_marks_of_another_stage_are_nothing_to_it(self, soaking: Past) -> None:
        for plan, stage in (("b" * 64, "canary"), ("a" * 64, "wave 1")):
            soaking.journal.append("soaked", {"plan": plan, "stage": stage, "verdict": "healthy"}, "t2", "r")
            assert state(soaking) == "soaking"
        soaking.journal.append("soaked", {"plan": "a" * 64, "stage": "canary", "verdict": "healthy"}, "t2", "r")
        assert state(soaking) == "soaked"
        assert soak.held_set(soaking.soak) == ""
        assert history(soaking.journal.entries)[0]["soak"] == "healthy"

    def test_what_did_not_work_is_told_and_tries_are_counted(self, soaking: Past) -> None:
        for _ in range(2):
            soaking.switch(OLD, NEW, "refused", kind="self-revert", reason="it was down")
        told = {"plan": "a" * 64, "stage": "canary", "reason": "no slot", "code": "slot-missing"}
        soaking.journal.append("self-revert-failed", told, "t2", "r")
        assert soaking.soak is not None
        assert (soaking.soak["tries"], soaking.soak["self_revert_failed"], state(soaking)) == (2, "no slot", "soaking")

    def test_a_plan_is_given_up_once(self, soaking: Past) -> None:
        for plan in ("x", "y", "x"):
            soaking.journal.append("abandoned", {"plan": plan}, "", "r")
        assert soaking.journal.state().abandoned == ["x", "y"]

    def test_its_slots_are_needed(self, soaking: Past) -> None:
        assert {"p1", "p2"} <= needed(soaking.journal.state())

    def test_the_longest_switch_knows_nothing_of_it(self) -> None:
        """Payments in flight have to outlast the window in which a switch can be undone, and not three days of soak."""
        plain = Request(state="switched", rollout="r", deadman_seconds=300.0)
        with_stage = replace(plain, stage={**STAGE, "soak": {"minutes": 4320, "extend_minutes": 1440}})
        assert worst_for(with_stage, 3) == worst_for(plain, 3)
        assert likely_blocks(worst_for(with_stage, 3)) < 12
        # Where all nodes are confirmed together, the dead-man waits longer, and that does count.
        assert worst_for(replace(plain, deadman_seconds=7200.0), 3) == worst_for(plain, 3) + 6900


class TestStage:
    @pytest.mark.parametrize("given", [None, {}])
    def test_none_is_none(self, given: Json | None) -> None:
        assert soak.stage_of(given) is None

    @pytest.mark.parametrize(
        "given",
        [{"name": "canary"}, {"plan": "a"}, {"plan": "a", "name": "b", "soak": {"minutes": "many"}}],
    )
    def test_what_cannot_be_one_is_refused(self, given: Json) -> None:
        with pytest.raises(HiveError) as caught:
            soak.stage_of(given)
        assert caught.value.code == "bad-stage"

    def test_it_has_one_form(self) -> None:
        found = soak.stage_of({"plan": "a", "name": "b", "soak": {"minutes": 1.0, "self_revert": False}})
        assert found is not None
        assert found["soak"] == {
            "minutes": 1,
            "blocks": 0,
            "forwards": 0,
            "extend_minutes": 0,
            "self_revert": False,
            "restarts_allowed": 0,
        }
        assert soak.stage_of(found) == found


NOTHING = {"lost": 0, "deaths": []}
UP = {"p": {"active": True, "digest": "p2", "health": "ok"}}


def a_soak(**changes: Any) -> Json:
    return {
        "previous": OLD,
        "target": NEW,
        "unhealthy": [],
        "found": ["p"],
        "channels": {"CHANNELD_NORMAL": 3},
        "soak": {"restarts_allowed": 0},
        **changes,
    }


class TestBreaches:
    @pytest.mark.parametrize(
        ("running", "key"),
        [
            (UP, ""),
            ({}, "plugin:p"),
            ({"p": {**UP["p"], "active": False}}, "plugin:p"),
            ({"p": {**UP["p"], "health": "degraded"}}, ""),
            ({"p": {**UP["p"], "health": "failed"}}, "health:p"),
            ({"p": {**UP["p"], "health": ""}}, "health:p"),
            # There was no time left to ask.
            ({"p": {"active": True, "digest": "p2"}}, ""),
            # Somebody has put another release there by hand, and has it in hand.
            ({"p": {"active": True, "digest": "p3", "health": "failed"}}, ""),
        ],
    )
    def test_a_plugin(self, running: dict[str, Json], key: str) -> None:
        found = soak_guard.breaches(a_soak(), running, {"CHANNELD_NORMAL": 3}, NOTHING)
        assert list(found) == ([key] if key else [])

    @pytest.mark.parametrize("changes", [{"unhealthy": ["p"]}, {"found": []}])
    def test_what_was_so_before_the_switch(self, changes: Json) -> None:
        assert soak_guard.breaches(a_soak(**changes), {}, None, NOTHING) == {}

    def test_a_plugin_that_is_new_cannot_have_been_down_before(self) -> None:
        assert list(soak_guard.breaches(a_soak(previous=[], found=[]), {}, None, NOTHING)) == ["plugin:p"]

    @pytest.mark.parametrize(
        ("lost", "channels", "breach"),
        [
            (1, {"CHANNELD_NORMAL": 2, "AWAITING_UNILATERAL": 1}, True),
            (1, {"CHANNELD_NORMAL": 3}, False),
            (0, {"CHANNELD_NORMAL": 2, "CLOSINGD_COMPLETE": 1}, False),
            (1, {"CHANNELD_NORMAL": 2, "CHANNELD_AWAITING_SPLICE": 1}, False),
            (1, None, False),
        ],
    )
    def test_channels(self, lost: int, channels: dict[str, int] | None, breach: bool) -> None:
        found = soak_guard.breaches(a_soak(), UP, channels, {**NOTHING, "lost": lost})
        assert ("channels" in found) == breach

    @pytest.mark.parametrize(("allowed", "breach"), [(0, True), (1, True), (2, False)])
    def test_deaths(self, allowed: int, breach: bool) -> None:
        facts = {**NOTHING, "deaths": ["p", "p"]}
        found = soak_guard.breaches(a_soak(soak={"restarts_allowed": allowed}), UP, None, facts)
        assert ("lightningd" in found) == breach


class TestLooks:
    """Looks at a node whose journal says that it soaks; nothing is started."""

    @pytest.fixture
    def node(self, tmp_path: Path) -> Node:
        (tmp_path / "lightning/regtest").mkdir(parents=True)
        return Node.from_params(
            {
                "name": "n",
                "runtime": "process",
                "lightning_dir": str(tmp_path / "lightning"),
                "network": "regtest",
                "state_dir": str(tmp_path),
            }
        )

    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[Json]:
        found: list[Json] = []
        monkeypatch.setattr(soak_guard, "launch", lambda node, settings: found.append(settings))
        return found

    def sample(self, node: Node, pid: int = 1, **changes: Any) -> Json:
        path = f"{node.slots_dir}/p/p2/bin/p"
        return {
            "time": 1000.0,
            "lightningd": {"running": True, "pid": pid, "started_at": 5.0},
            "plugins": [{"name": "p", "path": path, "active": True, "digest": "p2", "health": "ok"}],
            "channels": {},
            "lost": {"count": 0, "channels": []},
            **changes,
        }

    def look(self, node: Node, samples: list[Json]) -> list[Json]:
        found: list[Json] = []
        for sample in samples:
            facts = soak_guard.look(node, {}, sample, found[-1] if found else None)
            found.append(facts or {})
        return found

    def test_nothing_soaks(self, past: Past, node: Node, started: list[Json]) -> None:
        assert self.look(node, [self.sample(node)]) == [{}]
        past.switch(NEW, OLD)
        assert self.look(node, [self.sample(node)]) == [{}]
        assert started == []

    def test_a_soak_that_somebody_left_behind_takes_no_node_back(
        self, soaking: Past, node: Node, started: list[Json]
    ) -> None:
        facts = soak_guard.watched(node)
        assert facts is not None
        soak = facts["soak"]
        end = soak["since"] + 60 * (soak["soak"]["minutes"] + soak["soak"]["extend_minutes"])
        late = [self.sample(node, plugins=[], time=end + 60 * number) for number in range(1, 5)]
        assert [one["undo"] for one in self.look(node, late)] == ["", "", "", ""]
        assert started == []
        self.look(node, [self.sample(node, plugins=[], time=end - 60 * number) for number in (3, 2, 1)])
        assert len(started) == 1

    def test_three_in_a_row_and_no_fewer(self, soaking: Past, node: Node, started: list[Json]) -> None:
        bad, good = self.sample(node, plugins=[]), self.sample(node)
        self.look(node, [bad, bad, good, bad, bad, good])
        assert started == []
        found = self.look(node, [bad, bad, bad])
        assert [facts["undo"] for facts in found] == ["", "", "started"]
        assert found[-1]["times"] == {"plugin:p": [1000.0] * 3}
        assert "p 2 does not run" in found[-1]["breach"]
        assert list(soak_guard.shown(found[-1]) or {}) == ["plan", "stage", "state", "rows", "breach", "undo"]

    @pytest.mark.parametrize(
        "between",
        [
            {"lightningd": {"running": False}, "plugins": []},
            {"lightningd": {"running": True, "pid": 2}, "plugins": []},
            # Pids come back.
            {"lightningd": {"running": True, "pid": 1, "restarts": 1}, "plugins": []},
        ],
    )
    def test_another_lightningd_begins_anew(
        self, soaking: Past, node: Node, started: list[Json], between: Json
    ) -> None:
        bad = self.sample(node, plugins=[])
        self.look(node, [bad, bad, self.sample(node, **between), bad])
        assert started == []

    def test_a_clock_that_is_set_is_no_restart(self, soaking: Past, node: Node, started: list[Json]) -> None:
        lives = [{"running": True, "pid": 1, "restarts": 0, "started_at": at} for at in (5.0, 3605.0, 5.0)]
        self.look(node, [self.sample(node, plugins=[], lightningd=life) for life in lives])
        assert len(started) == 1

    def test_a_look_that_got_no_answer_tells_nothing(self, soaking: Past, node: Node, started: list[Json]) -> None:
        cut = self.sample(node)
        del cut["plugins"], cut["channels"]
        assert [facts["rows"] for facts in self.look(node, [cut] * 4)] == [{}] * 4
        assert started == []

    @pytest.mark.parametrize("soak_changes", [{"self_revert": False}, {"minutes": 0}])
    def test_where_it_is_not_asked_to(self, past: Past, node: Node, started: list[Json], soak_changes: Json) -> None:
        past.switch(NEW, OLD, stage={**STAGE, "soak": {**STAGE["soak"], **soak_changes}})  # type: ignore[dict-item]
        self.look(node, [self.sample(node, plugins=[])] * 4)
        assert started == []

    @pytest.mark.parametrize(
        ("text", "blamed"),
        [
            ("lightningd: FATAL SIGNAL 6\n2026 **BROKEN** plugin-p: gave an invalid answer\n", True),
            ("lightningd: FATAL SIGNAL 11\n\tdb_exec_prepared_v2\n2026 DEBUG plugin-p: I am well\n", False),
            ("lightningd: FATAL SIGNAL 11\n2026 **BROKEN** plugin-p-other: I am not\n", False),
        ],
    )
    def test_a_plugin_that_lightningd_dies_of(
        self, soaking: Past, node: Node, started: list[Json], text: str, blamed: bool
    ) -> None:
        (node.network_dir / "crash.log.1").write_text("**BROKEN** plugin-p: long ago\n")
        first = self.look(node, [self.sample(node)])[-1]
        (node.network_dir / "crash.log.2").write_text(text)
        facts = soak_guard.look(node, {}, self.sample(node, pid=2), first) or {}
        assert facts["deaths"] == (["p"] if blamed else [])
        assert (facts["undo"] == "started") == blamed
        # A restart that left no trace is nobody's fault.
        again = soak_guard.look(node, {}, self.sample(node, pid=3), first | {"crashes": ["crash.log.1", "crash.log.2"]})
        assert (again or {})["deaths"] == []

    @pytest.mark.parametrize(
        ("kind", "scheduler", "service"),
        [("timer", ["systemd-run"], True), ("timer", [], False), ("process", ["systemd-run"], False)],
    )
    def test_what_takes_the_node_back_outlives_the_probe(
        self, node: Node, monkeypatch: pytest.MonkeyPatch, kind: str, scheduler: list[str], service: bool
    ) -> None:
        """A service that a timer starts ends with all that it has started, so that it has to be one of its own."""
        served: list[Any] = []
        detached: list[Any] = []
        monkeypatch.setattr(Runtime, "deadman_scheduler", lambda self: scheduler)
        monkeypatch.setattr(deadman, "serve", lambda *arguments: served.append(arguments))
        monkeypatch.setattr(deadman, "detach", lambda *arguments: detached.append(arguments))
        soak_guard.launch(replace(node, name="a b"), {"kind": kind, "engine": "e1"})
        assert (len(served), len(detached)) == ((1, 0) if service else (0, 1))
        argv = served[0][3] if service else detached[0][0]
        assert argv[-4:] == [str(node.state_dir / "engine/e1/hive-engine.pyz"), *argv[-3:]]
        assert argv[-3:] == ["self-undo", "--node", str(node.state_dir / "probe.json")]
        if service:
            assert served[0][1].startswith("hive-self-undo-a-b-")

    def test_a_damaged_journal_stops_nothing(self, soaking: Past, node: Node, started: list[Json]) -> None:
        content = node.journal_file.read_bytes()
        node.journal_file.write_bytes(content.replace(b'"r"', b'"s"', 1))
        (facts,) = self.look(node, [self.sample(node, plugins=[])])
        assert facts["undo"] == "journal-damaged"
        assert started == []
