"""What a look makes of lightningd's answers, and how it reads the list of forwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import (
    NodeDownError,
    RpcRefusedError,
    RpcTimeoutError,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_facts import (
    of_channels,
    of_log,
    of_lost,
    of_restarts,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_forwards import (
    PAGE,
    PAGES,
    look_at_forwards,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._rpc import Rpc


class TestSample:
    def test_channels_and_htlcs(self) -> None:
        normal = {"state": "CHANNELD_NORMAL", "htlcs": [{"expiry": 150}, {"expiry": 140}]}
        found = of_channels([normal, {**normal, "htlcs": []}, {"state": "ONCHAIN"}])
        assert found["channels"] == {"CHANNELD_NORMAL": 2, "ONCHAIN": 1}
        assert found["pending_htlcs"] == {"count": 2, "nearest_expiry": 140}

    def test_no_channels(self) -> None:
        assert of_channels([])["pending_htlcs"] == {"count": 0, "nearest_expiry": None}


class TestLost:
    def channel(self, number: int, state: str = "CHANNELD_NORMAL") -> dict[str, Any]:
        return {"channel_id": f"{number:064x}"[::-1], "short_channel_id": f"{number}x1x0", "state": state}

    def test_the_first_look_loses_none(self) -> None:
        found, live = of_lost([self.channel(1), self.channel(2, "ONCHAIN")], None)
        assert found == {"count": 0, "channels": []}
        assert live == [self.channel(1)["channel_id"][:16]]

    @pytest.mark.parametrize("state", ["AWAITING_UNILATERAL", "ONCHAIN", "FUNDING_SPEND_SEEN", "CHANNELD_BORKED"])
    def test_one_that_was_broken_off_is_lost_once(self, state: str) -> None:
        _, live = of_lost([self.channel(1), self.channel(2)], None)
        found, live = of_lost([self.channel(1, state), self.channel(2)], live)
        assert found == {"count": 1, "channels": ["1x1x0"]}
        assert of_lost([self.channel(1, state), self.channel(2)], live)[0]["count"] == 0

    @pytest.mark.parametrize("state", ["CHANNELD_SHUTTING_DOWN", "CLOSINGD_SIGEXCHANGE", "CLOSINGD_COMPLETE"])
    def test_one_that_is_closed_by_agreement_is_not_lost(self, state: str) -> None:
        _, live = of_lost([self.channel(1)], None)
        found, live = of_lost([self.channel(1, state)], live)
        assert found["count"] == 0
        assert of_lost([self.channel(1, "ONCHAIN")], live)[0]["count"] == 0

    def test_a_splice_loses_none(self) -> None:
        _, live = of_lost([self.channel(1)], None)
        _, live = of_lost([self.channel(1, "CHANNELD_AWAITING_SPLICE")], live)
        found, _ = of_lost([{**self.channel(1), "short_channel_id": "900x1x0"}], live)
        assert found["count"] == 0

    def test_one_that_is_gone_is_lost_and_only_some_are_named(self) -> None:
        _, live = of_lost([self.channel(number) for number in range(1, 9)], None)
        found, _ = of_lost([], live)
        assert (found["count"], len(found["channels"])) == (8, 5)


class TestLog:
    def marks(self, first: int, last: int, source: str = "lightningd") -> list[dict[str, str]]:
        return [{"time": f"{n}.5", "source": source, "log": "y" * 900} for n in range(first, last)]

    def test_the_first_look_begins_at_the_end(self) -> None:
        assert of_log(self.marks(1000, 1050), None) == ({"broken": [], "count": 0, "errors_count": 0}, "1049.5")
        assert of_log([], None) == ({"broken": [], "count": 0, "errors_count": 0}, "")

    def test_only_new_lines_and_not_too_many(self) -> None:
        found, mark = of_log(self.marks(1000, 1050, "plugin-x"), "1010.5")
        assert (found["count"], found["errors_count"], len(found["broken"])) == (39, 39, 10)
        assert all(line.startswith("plugin-x: y") and len(line) == 200 for line in found["broken"])
        assert of_log(self.marks(1000, 1050, "plugin-x"), mark)[0]["count"] == 0

    def test_after_nothing_everything_is_new(self) -> None:
        assert of_log(self.marks(1000, 1003), "")[0] == {
            "broken": [f"lightningd: {'y' * 188}"] * 3,
            "count": 3,
            "errors_count": 0,
        }

    def test_after_a_restart_of_lightningd_everything_is_new(self) -> None:
        found, mark = of_log(self.marks(2000, 2002), "1049.5")
        assert (found["count"], mark) == (2, "2001.5")

    def test_a_log_that_is_empty_after_a_restart_forgets_nothing(self) -> None:
        found, mark = of_log([], "1049.5")
        assert (found["count"], mark) == (0, "1049.5")

    def test_a_clock_that_was_set_back_hides_no_line(self) -> None:
        assert of_log([*self.marks(1000, 1002), *self.marks(500, 501)], "1001.5")[0]["count"] == 1


class TestRestarts:
    def plugin(self, pid: int) -> dict[str, Any]:
        return {"name": "p", "path": "/slots/p/1/p", "pid": pid}

    def looks(self, *seen: tuple[list[int], int]) -> list[tuple[int, int]]:
        before, found = None, []
        for life, pid in seen:
            plugins = [self.plugin(pid)] if pid else []
            restarts, before = of_restarts(plugins, life, before)
            found.append((restarts, plugins[0]["restarts"] if plugins else -1))
        return found

    def test_the_first_look_saw_none(self) -> None:
        assert self.looks(([1, 1], 20)) == [(0, 0)]

    def test_one_that_is_back_within_an_interval(self) -> None:
        assert self.looks(([1, 1], 20), ([1, 1], 21), ([1, 1], 21)) == [(0, 0), (0, 1), (0, 0)]

    def test_one_that_was_gone_for_a_look(self) -> None:
        assert self.looks(([1, 1], 20), ([1, 1], 0), ([1, 1], 21)) == [(0, 0), (0, -1), (0, 1)]

    def test_a_restart_of_lightningd_is_none_of_a_plugin(self) -> None:
        assert self.looks(([1, 1], 20), ([1, 2], 21), ([1, 2], 21)) == [(0, 0), (1, 0), (0, 0)]


class Forwarder:
    """lightningd's list of forwards, as `wait` and `listforwards` show it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.updates = 0
        self.created = 0
        self.pages = 0
        self.refuse: Exception | None = None

    def add(self, status: str, count: int = 1) -> None:
        for _ in range(count):
            self.created += 1
            row = {"created_index": self.created, "status": "offered", "in_msat": 1001, "out_msat": 1000, "fee_msat": 1}
            self.rows.append(row)
            if status == "local_failed":
                self.rows[-1] = {"created_index": self.created, "status": status, "in_msat": 1001}
            elif status != "offered":
                self.end(self.created, status)

    def end(self, number: int, status: str) -> None:
        self.updates += 1
        self.rows[number - 1] |= {"status": status, "updated_index": self.updates}

    def call(self, method: str, params: dict[str, Any], timeout: float = 0.0) -> Any:
        assert timeout > 0
        if self.refuse and method == "listforwards":
            raise self.refuse
        name = params.get("index") or params["indexname"]
        if method == "wait":
            assert params["nextvalue"] == 0, "it would wait for ever"
            return {"subsystem": "forwards", name: self.updates if name == "updated" else self.created}
        self.pages += 1
        rows = [row for row in self.rows if row.get(f"{name}_index", 0) >= params["start"]]
        return {"forwards": sorted(rows, key=lambda row: int(row[f"{name}_index"]))[: params["limit"]]}


def forwards(node: Forwarder, cursor: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    rpc = Rpc(Path("/nowhere"))
    rpc.call = node.call  # type: ignore[assignment,method-assign]
    return look_at_forwards(rpc, cursor, 3.0)


class TestForwards:
    def test_the_first_look_begins_at_the_end(self) -> None:
        node = Forwarder()
        node.add("settled", 5000)
        found, cursor = forwards(node, None)
        assert found == {"settled": 0, "failed": 0, "msat": 0, "fee_msat": 0, "created": 5000, "updated": 5000}
        assert (cursor, node.pages) == ({"created": 5000, "updated": 5000}, 0)

    def test_what_ended_since_is_counted_once(self) -> None:
        node = Forwarder()
        _, cursor = forwards(node, None)
        node.add("settled", 3)
        node.add("failed")
        node.add("local_failed", 2)
        node.add("offered")
        found, cursor = forwards(node, cursor)
        assert found == {"settled": 3, "failed": 3, "msat": 3000, "fee_msat": 3, "created": 7, "updated": 4}
        node.end(7, "settled")
        found, cursor = forwards(node, cursor)
        assert (found["settled"], found["failed"]) == (1, 0)
        pages = node.pages
        assert forwards(node, cursor)[0]["settled"] == 0
        assert node.pages == pages, "nothing has happened, so nothing is read"

    def test_one_that_was_sent_on_and_fails_here_later_is_counted_once(self) -> None:
        node = Forwarder()
        _, cursor = forwards(node, None)
        node.add("offered")
        _, cursor = forwards(node, cursor)
        node.end(1, "local_failed")
        assert forwards(node, cursor)[0]["failed"] == 1

    def test_more_than_a_page(self) -> None:
        node = Forwarder()
        _, cursor = forwards(node, None)
        node.add("settled", 2 * PAGE + 1)
        found, _ = forwards(node, cursor)
        assert found["settled"] == 2 * PAGE + 1
        assert "behind" not in found

    def test_more_than_one_look_reads(self) -> None:
        node = Forwarder()
        _, cursor = forwards(node, None)
        node.add("settled", PAGES * PAGE + 10)
        found, cursor = forwards(node, cursor)
        assert (found["settled"], found["behind"]) == (PAGES * PAGE, True)
        found, cursor = forwards(node, cursor)
        assert found["settled"] == 10
        assert "behind" not in found

    def test_those_that_were_deleted_are_passed_by(self) -> None:
        node = Forwarder()
        node.add("settled", 3)
        _, cursor = forwards(node, {"created": 0, "updated": 0})
        node.add("settled", 3)
        node.rows = node.rows[:3]
        found, cursor = forwards(node, cursor)
        assert (found["settled"], cursor) == (0, {"created": 6, "updated": 6})

    def test_a_list_that_is_shorter_than_before_is_begun_at_its_end(self) -> None:
        node = Forwarder()
        node.add("settled", 3)
        found, cursor = forwards(node, {"created": 900, "updated": 900})
        assert (found["settled"], cursor) == (0, {"created": 3, "updated": 3})

    @pytest.mark.parametrize("why", [RpcTimeoutError("slow"), RpcRefusedError("listforwards", -32602, "no index")])
    def test_what_was_not_answered_is_counted_the_next_time(self, why: Exception) -> None:
        node = Forwarder()
        _, cursor = forwards(node, None)
        node.add("settled", 2)
        node.refuse = why
        found, kept = forwards(node, cursor)
        assert set(found) == {"trouble"}
        assert kept == cursor
        node.refuse = None
        assert forwards(node, kept)[0]["settled"] == 2

    def test_a_lightningd_that_dies_is_not_hidden(self) -> None:
        node = Forwarder()
        node.add("settled")
        node.refuse = NodeDownError("gone")
        with pytest.raises(NodeDownError):
            forwards(node, {"created": 0, "updated": 0})
