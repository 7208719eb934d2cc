"""The report says what became of every node, and its page needs nothing but itself."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _plan,
    _report,
    _report_files,
    _report_notes,
    _report_page,
)
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    COMMS,
    HIVE,
    Json,
    item,
    manifest,
    observation,
)

NODES = ("alpha", "bravo", "charlie")
OLD, NEW = [item(COMMS)], [item(COMMS, "0.1.1", options={"cl-hive-comms-token": "hunter2"})]
HEALTHY: Json = {"verdict": "healthy", "reasons": [], "samples": 6, "window_seconds": 3.0}
FAILING: Json = {
    "verdict": "failing",
    "reasons": [{"node": "alpha", "check": "log", "verdict": "failing", "detail": "1 new BROKEN lines"}],
    "samples": 6,
    "window_seconds": 3.0,
}


def observed() -> dict[str, Json]:
    return {name: observation(name, OLD, value_at_risk_msat=index) for index, name in enumerate(NODES)}


def planned(after: list[Json] = NEW, **policy: object) -> Json:
    manifests = {m["artifact"]["sha256"]: m for m in (manifest(COMMS), manifest(COMMS, "0.1.1"), manifest(HIVE))}
    return _plan.plan(dict.fromkeys(NODES, after), dict(observed()), manifests, {"fleet": "f", **policy})


def entry(seq: int, event: str, at: float) -> Json:
    return {"seq": seq, "time": at, "event": event, "data": {"step": "stop", "secret": "hunter2"}}


def switched(at: float = 1000.0) -> Json:
    return {
        "phase": "switched",
        "before": OLD,
        "after": NEW,
        "downtime_ms": {COMMS: 312.4},
        "switch_ms": 900.0,
        "lightningd_restarts": 0,
        "backup": {"id": "b1"},
        "journal": [entry(1, "begin", at), entry(2, "switched", at + 1)],
        "journal_head": "11" * 32,
    }


def confirmed(at: float = 1010.0) -> Json:
    return {"phase": "confirmed", "journal": [entry(3, "confirmed", at)], "journal_head": "22" * 32}


def facts(**more: object) -> _report.Facts:
    base = _report.Facts("f", "r1", 990.0, 1020.0, plan=planned(), nodes=NODES, observed=observed(), final=True)
    return replace(base, **more)  # type: ignore[arg-type]


def success() -> _report.Facts:
    return facts(
        switches={node: switched() for node in NODES},
        confirms={node: confirmed() for node in NODES},
        verdicts={"canary": HEALTHY, "wave 1": HEALTHY, "wave 2": HEALTHY},
    )


def test_a_good_run() -> None:
    report = _report.build(success())
    assert (report["result"], report["rollout"], report["plan_digest"]) == ("success", "r1", planned()["digest"])
    assert [(s["name"], s["nodes"], s["verdict"]["verdict"]) for s in report["stages"]] == [
        ("canary", ["alpha"], "healthy"),
        ("wave 1", ["bravo"], "healthy"),
        ("wave 2", ["charlie"], "healthy"),
    ]
    alpha = report["nodes"]["alpha"]
    assert (alpha["result"], alpha["downtime_ms"], alpha["lightningd_restarts"]) == ("confirmed", {COMMS: 312.4}, 0)
    assert [i["version"] for i in alpha["before"] + alpha["after"]] == ["0.1.0", "0.1.1"]
    assert (alpha["backup"], alpha["journal_head"]) == ("b1", "22" * 32)
    assert [event["event"] for event in alpha["timeline"]] == ["begin", "switched", "confirmed"]
    assert _report.summary(report) == "Rollout r1: 3 of 3 nodes changed and confirmed."


def test_a_run_without_changes() -> None:
    report = _report.build(facts(plan=planned(OLD)))
    assert report["result"] == "unchanged"
    assert {node["result"] for node in report["nodes"].values()} == {"unchanged"}
    assert "already run what they should" in _report.summary(report)


def test_a_failed_canary_is_reverted_and_the_others_are_untouched() -> None:
    report = _report.build(
        facts(
            final=False,
            failed=True,
            switches={"alpha": switched()},
            reverts={"alpha": {"phase": "reverted", "reverted": True, "journal_head": "33" * 32}},
            verdicts={"canary": FAILING},
            failures={"alpha": "failing: alpha: 1 new BROKEN lines"},
        )
    )
    assert report["result"] == "reverted"
    assert report["reasons"] == ["alpha: 1 new BROKEN lines"]
    assert {name: node["result"] for name, node in report["nodes"].items()} == {
        "alpha": "reverted",
        "bravo": "untouched",
        "charlie": "untouched",
    }
    assert [i["version"] for i in report["nodes"]["alpha"]["after"]] == ["0.1.0"]
    assert [s["verdict"]["verdict"] for s in report["stages"]] == ["failing", "none", "none"]


def test_a_switch_that_reverted_itself_needs_no_verdict() -> None:
    failed = {**switched(), "failed": True, "reverted": True, "msg": "comms exited"}
    report = _report.build(
        facts(final=False, failed=True, switches={"alpha": failed}, failures={"alpha": "comms exited"})
    )
    assert (report["result"], report["nodes"]["alpha"]["result"]) == ("reverted", "reverted")
    assert report["stages"][0]["verdict"]["verdict"] == "failing"
    assert report["reasons"] == ["comms exited"]


@pytest.mark.parametrize(
    ("switch", "result"), [({"unreachable": True}, "unreachable"), ({"failed": True, "msg": "x"}, "failed")]
)
def test_a_node_whose_state_is_not_known_fails_the_run(switch: Json, result: str) -> None:
    report = _report.build(facts(final=False, failed=True, switches={"alpha": switch}, failures={"alpha": "gone"}))
    assert (report["result"], report["nodes"]["alpha"]["result"]) == ("failed", result)
    assert report["nodes"]["alpha"]["after"] is None


def test_a_failure_after_the_last_stage_is_no_revert() -> None:
    report = _report.build(replace(success(), final=False, failed=True, failures={"bravo": "hive is incomplete"}))
    assert (report["result"], report["reasons"]) == ("failed", ["hive is incomplete"])


def test_a_refused_run_names_each_reason_once() -> None:
    plan = planned(waves=["x"])
    report = _report.build(facts(plan=plan, final=False, failed=True))
    assert report["result"] == "refused"
    assert len(report["reasons"]) == 1
    assert {node["result"] for node in report["nodes"].values()} == {"refused"}


def test_a_run_that_broke_before_the_plan_is_refused_with_its_reason() -> None:
    report = _report.build(facts(plan=None, final=False, failed=True, failures={"alpha": "no python there"}))
    assert (report["result"], report["reasons"]) == ("refused", ["no python there"])


def test_a_failure_before_the_first_switch_changed_nothing() -> None:
    report = _report.build(facts(final=False, failed=True, failures={"bravo": "the disk is full"}))
    assert (report["result"], report["reasons"]) == ("refused", ["the disk is full"])
    assert {node["result"] for node in report["nodes"].values()} == {"untouched"}


def test_in_the_middle_the_run_is_under_way() -> None:
    report = _report.build(facts(final=False, switches={"alpha": switched()}))
    assert (report["result"], report["finished_at"], report["nodes"]["alpha"]["result"]) == (
        "running",
        None,
        "switched",
    )


def test_a_rollback_is_confirmed_by_the_engine_itself() -> None:
    report = _report.build(facts(goal="previous", switches={n: {**switched(), "phase": "confirmed"} for n in NODES}))
    assert {node["result"] for node in report["nodes"].values()} == {"confirmed"}


def test_neither_option_values_nor_journal_data_are_told() -> None:
    report = _report.build(success())
    assert "hunter2" not in json.dumps(report)
    assert report["nodes"]["alpha"]["after"][0]["options"] == ["cl-hive-comms-token"]
    assert "hunter2" not in _report_page.html(report)


def test_the_final_table() -> None:
    lines = _report.table(_report.build(success()))
    assert lines[0].split() == ["NODE", "RESULT", "STACK", "DOWNTIME", "RESTARTS"]
    assert lines[1].split() == ["alpha", "confirmed", COMMS, "0.1.1", "312", "ms", "0"]


def test_what_the_node_warns_of_is_told() -> None:
    warned = {**switched(), "remarks": ["restart lightningd in a quiet hour"]}
    report = _report.build(replace(success(), switches=dict.fromkeys(NODES, warned)))
    assert _report.table(report)[-1] == "charlie: restart lightningd in a quiet hour"
    assert "restart lightningd in a quiet hour" in _report_page.html(report)


@pytest.mark.parametrize(("source", "told"), [("/ln/hive.conf:3", True), ("pluginstart", False), ("default", False)])
def test_options_that_lightningd_still_holds_are_told(source: str, told: bool) -> None:
    seen = observation("alpha", OLD)
    seen["options"] = {"cl-hive-comms-mode": {"value": "x", "source": source, "plugin": seen["plugins"][0]["path"]}}
    assert bool(_report_notes.orphans(seen, OLD, [])) == told
    assert _report_notes.orphans(seen, OLD, OLD) == []
    assert _report_notes.orphans(seen, OLD, None) == []


class Page(HTMLParser):
    """What a browser would make of the page: balanced tags, its references, rows and words."""

    VOID = frozenset({"meta", "br", "i", "b"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.nodes: list[str] = []
        self.stages: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action"):
                self.references.append(value or "")
            elif name == "data-node":
                self.nodes.append(value or "")
            elif name == "data-stage":
                self.stages.append(value or "")
        if tag in ("script", "link", "iframe", "img"):
            self.references.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data.strip())


@pytest.mark.parametrize("kind", ["success", "refused", "running", "reverted"])
def test_the_page_is_whole_and_needs_nothing_else(kind: str) -> None:
    cases = {
        "success": success(),
        "refused": facts(plan=None, final=False, failed=True, failures={"alpha": "<b>no & python</b>"}),
        "running": facts(final=False),
        "reverted": facts(
            final=False,
            failed=True,
            switches={"alpha": {**switched(), "failed": True, "reverted": True}},
            failures={"alpha": "comms exited"},
        ),
    }
    report = _report.build(cases[kind])
    text = _report_page.html(report)
    page = Page(text)
    assert page.open == []
    # It leads only to its own parts.
    assert [reference for reference in page.references if not reference.startswith("#")] == []
    assert "url(" not in text
    assert "@import" not in text
    assert page.nodes == list(NODES)
    assert page.stages == [stage["name"] for stage in report["stages"]]
    assert kind in page.words
    assert all(reason in page.words for reason in report["reasons"])
    assert "prefers-color-scheme: dark" in text


def test_the_files_lie_beside_each_other(tmp_path: Path) -> None:
    report = _report.build(success())
    paths = _report_files.write(report, tmp_path / "reports")
    assert sorted(p.name for p in (tmp_path / "reports").iterdir()) == [
        "latest.html",
        "latest.json",
        "r1.html",
        "r1.json",
    ]
    assert json.loads(Path(paths["json"]).read_text()) == report
    assert (tmp_path / "reports/latest.html").read_text() == Path(paths["html"]).read_text()


def test_rows_of_numbers_take_a_line_each() -> None:
    odd = {"value": [1.5, None, -2e-05], "words": ["[\n1,\n2\n]", '"[1'], "none": [], "pairs": [[1, 2], [3, 4]]}
    text = _report_files.data({"soaks": odd})
    assert json.loads(text) == {"soaks": odd}
    assert '"value": [1.5, null, -2e-05]' in text
    assert "[1, 2]" in text


def test_waits_restarts_and_quarantine_are_told_in_the_order_of_their_happening() -> None:
    journal: list[Json] = [
        {"event": "done", "data": {"step": "restart", "reason": "the container is made anew", "waited_seconds": 12.3}},
        {"event": "done", "data": {"step": "stop", "reason": "not told"}},
        {"event": "quarantined", "data": {"plugins": [{"plugin": COMMS, "version": "0.1.1"}]}},
        {"event": "reverted", "data": {"by": "deadman", "reason": "nobody confirmed the switch in time"}},
    ]
    told = _report_notes.notes({}, {"drained": {"waited_seconds": 41.0}}, journal, [], [])
    assert [line.split(":")[0] for line in told] == [
        "waited 41 s for payments in flight before the switch",
        "lightningd was restarted",
        f"{COMMS} 0.1.1 is quarantined",
        "it went back by itself (deadman)",
    ]
    assert told[1].endswith("the container is made anew, after 12 s for payments in flight")
    assert (
        _report_notes.notes({}, {"drained": None}, [{"event": "reverted", "data": {"by": "controller"}}], [], []) == []
    )
