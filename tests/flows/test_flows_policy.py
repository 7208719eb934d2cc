"""The fleet's default stack: none before all nodes have stood on one; and who is told how a run ended."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flows.flow_fleet import PLUGIN, Fleet, Shelf

Json = dict[str, Any]


@pytest.fixture(scope="module")
def fleet(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two nodes whose inventory names no stack; the tests of this module come one after the other."""
    root = tmp_path_factory.mktemp("policy")
    fleet = Fleet(root, shelf, {"hive_stack": None, "hive_controller_metrics_dir": str(root / "metrics")})
    fleet.up(2)
    yield fleet
    fleet.down()


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, list[Json]]]:
    """A receiver of webhooks: its address and what it was told."""
    got: list[Json] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test looks at what was received."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hush-hush", got
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_without_a_stack_and_without_a_default_nothing_is_changed(fleet: Fleet) -> None:
    assert "has no default yet" in fleet.bad("rollout").text
    assert [fleet.version(node) for node in fleet.nodes] == ["", ""]


def test_a_webhook_that_makes_no_sense_stops_the_run_before_anything_is_changed(fleet: Fleet) -> None:
    stack = [{"name": PLUGIN, "version": "0.1.0"}]
    text = fleet.bad("rollout", hive_stack=stack, hive_webhooks=[{"name": "ops", "url": "ftp://hush-hush"}]).text
    assert "hive_webhooks, entry 1 (ops) has no url" in text
    assert "hush-hush" not in text
    assert [fleet.version(node) for node in fleet.nodes] == ["", ""]


def test_a_run_tells_who_wants_to_know_and_counts_itself(fleet: Fleet, told: tuple[str, list[Json]]) -> None:
    url, got = told
    hooks = [{"name": "ops", "url": url}, {"name": "pager", "url": url, "results": ["failed"]}]
    stack = [{"name": PLUGIN, "version": "0.1.0"}]
    outcome = fleet.good("rollout", hive_stack=stack, hive_webhooks=hooks)
    assert [(one["event"], one["nodes"]) for one in got] == [
        ("rollout.success", {"alpha": "confirmed", "bravo": "confirmed"})
    ]
    assert "hush-hush" not in outcome.text
    assert "hush-hush" not in (fleet.reports / "latest.json").read_text()
    metrics = (fleet.root / "metrics/hive_rollout_flows.prom").read_text()
    assert 'hive_rollout_result{fleet="flows",result="success"} 1.0' in metrics


def test_only_what_has_stood_for_long_enough_becomes_the_default(fleet: Fleet) -> None:
    text = fleet.good("finalize", "--check").text
    assert "no stack is the fleet's default yet: alpha has stood for 0.0 of 14.0 days" in text
    assert not (fleet.root / "registers/policy.yml").exists()
    text = fleet.good("finalize", hive_stability_seconds=0).text
    assert f"default: nodes of flows run {PLUGIN} 0.1.0" in text
    assert (fleet.root / "registers/policy.yml").is_file()


def test_from_then_on_a_node_without_a_stack_runs_it(fleet: Fleet) -> None:
    assert "Nothing to change: 2 nodes run what they should." in fleet.good("rollout").text
