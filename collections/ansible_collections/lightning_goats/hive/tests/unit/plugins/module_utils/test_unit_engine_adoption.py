"""What follows from a journal that speaks of the monolith, and the include that keeps it off."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _config
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.adoption_state import adopted_by, summary
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.stacks import normalise, replaced_by

PATH = "/home/cln/bin/cl-hive/cl-hive.py"
STACK = [
    {"name": "cl-hive", "version": "1", "digest": "1" * 64, "enabled": True, "options": {"o": 1}, "replaces": [PATH]}
]


def entry(event: str, txn: str = "t1", when: float = 100.0, **data: Any) -> dict[str, Any]:
    return {"event": event, "txn": txn, "time": when, "data": data}


def adopted(txn: str = "t1", name: str = "cl-hive-comms") -> dict[str, Any]:
    table = {"source": 5, "adopted": 5, "quarantined": 0, "digest": "ab"}
    plugins = {name: {"tables": {"nostr_state": table, "hive_members": {**table, "digest": ""}}}}
    return entry("adopted", txn, path="/ln/cl_hive.db", ms=10.0, delta_rows=1, plugins=plugins)


def test_what_was_taken_over_stands_once_its_switch_is_confirmed() -> None:
    open_ = [entry("begin"), adopted()]
    assert adopted_by(open_).plugins == {}
    state = adopted_by([*open_, entry("confirmed", when=200.0)])
    assert (set(state.plugins), state.since, state.path) == ({"cl-hive-comms"}, 200.0, "/ln/cl_hive.db")
    assert state.tables == {"nostr_state": {"rows": 5, "digest": "ab"}}, "what stayed in its file did not move"
    assert adopted_by([*open_, entry("reverted"), entry("confirmed")]).plugins == {}


def test_when_the_monolith_has_its_place_back_all_is_to_be_taken_over_again() -> None:
    there = [adopted(), adopted(name="cl-hive"), entry("confirmed")]
    back = [entry("carried-back", "t2", path="/ln/cl_hive.db", ms=1.0, plugins={}), entry("confirmed", "t2")]
    assert set(adopted_by(there).plugins) == {"cl-hive-comms", "cl-hive"}
    assert adopted_by([*there, *back]).plugins == {}


def test_giving_up_begins_before_the_first_table_goes_and_ends_when_none_is_left() -> None:
    there = [adopted(), entry("confirmed"), entry("handing-over", "", 300.0, set="s", tables=[])]
    assert (adopted_by(there).handed, adopted_by(there).finished) == (300.0, False)
    kept = [{"table": "nostr_state", "reason": "it changed"}]
    half = adopted_by([*there, entry("handed-over", "", 301.0, dropped=[], kept=kept)])
    assert (half.finished, half.kept) == (False, kept)
    assert adopted_by([*there, entry("handed-over", "", 301.0, dropped=["nostr_state"], kept=[])]).finished


def test_the_report_of_a_switch_that_moved_nothing_has_nothing_of_it() -> None:
    assert summary([entry("begin"), entry("done", step="start")]) is None
    facts = summary([entry("done", step="adopt", ms=7.0), adopted()])
    assert facts is not None
    assert (facts["first_ms"], facts["delta_rows"]) == (7.0, 1)


def test_the_include_names_what_is_replaced_and_reads_it_back() -> None:
    text = _config.render(STACK, {"cl-hive": "/slots/cl-hive"}, {}, ["/slots/quarantined"])
    kept_off = [line for line in text.splitlines() if line.startswith("disable-plugin=")]
    assert kept_off == [f"disable-plugin={PATH}", "disable-plugin=/slots/quarantined"], "no other plugin of that name"
    assert _config.parse_replaced(text) == {"/slots/cl-hive": [PATH]}, "what is quarantined is replaced by nobody"
    assert _config.parse_include(text) == (["/slots/cl-hive"], {"o": "1"})


def test_a_stack_that_replaces_nobody_has_the_digest_it_always_had() -> None:
    plain = [{key: value for key, value in STACK[0].items() if key != "replaces"}]
    assert normalise([{**plain[0], "replaces": []}]) == plain
    assert normalise(STACK) == STACK
    assert replaced_by(STACK) == {PATH: "cl-hive"}
    assert replaced_by([{**STACK[0], "enabled": False}]) == {}
    with pytest.raises(HiveError, match="no absolute path"):
        normalise([{**STACK[0], "replaces": ["cl-hive.py"]}])
