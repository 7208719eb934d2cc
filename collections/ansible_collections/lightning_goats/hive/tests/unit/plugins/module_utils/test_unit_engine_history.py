"""What a journal says of a node's past, in the words of a report."""

from __future__ import annotations

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.history import history

Json = dict[str, Any]
STACK = [
    {"name": "cl-hive", "version": "0.1.0", "digest": "d", "enabled": True, "options": {"cl-hive-token": "hunter2"}}
]


def entry(txn: str, event: str, at: float, **data: Any) -> Json:
    return {"txn": txn, "rollout": f"r-{txn}", "event": event, "time": at, "data": data}


def begin(txn: str, at: float, **data: Any) -> Json:
    return entry(txn, "begin", at, kind="upgrade", previous=[], target=STACK, **data)


def test_the_newest_transaction_comes_first() -> None:
    found = history(
        [
            entry("", "accepted", 1.0, name="cl-hive"),
            begin("a", 10.0, stage={"name": "canary"}),
            entry("a", "switched", 11.0, downtime_ms={"cl-hive": 312.5}),
            entry("a", "confirmed", 20.0, by="controller"),
            entry("a", "soaked", 90.0, verdict="healthy"),
            begin("b", 100.0),
            entry("b", "reverted", 104.0, by="deadman", reason="nobody confirmed it", restarts=1),
            begin("c", 200.0),
        ]
    )
    assert [(one["rollout"], one["result"], one["ended_at"]) for one in found] == [
        ("r-c", "open", None),
        ("r-b", "reverted", 104.0),
        ("r-a", "confirmed", 20.0),
    ]
    assert (found[1]["by"], found[1]["reason"], found[1]["restarts"]) == ("deadman", "nobody confirmed it", 1)
    assert (found[2]["stage"], found[2]["downtime_ms"], found[2]["soak"]) == ("canary", {"cl-hive": 312.5}, "healthy")
    assert found[2]["after"] == [{"name": "cl-hive", "version": "0.1.0", "enabled": True}]


def test_only_so_many_and_no_option() -> None:
    found = history([begin(str(number), float(number)) for number in range(30)], count=4)
    assert [one["begun_at"] for one in found] == [29.0, 28.0, 27.0, 26.0]
    assert "hunter2" not in str(found)


def test_what_is_under_way_says_how_far_it_is() -> None:
    found = history([begin("a", 1.0), entry("a", "switched", 2.0), entry("a", "reverting", 3.0, reason="it crashed")])
    assert (found[0]["result"], found[0]["reason"]) == ("reverting", "it crashed")
