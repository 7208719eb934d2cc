# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Webhooks against receivers on the loopback: what they get, how often, and what the output says of those that fail."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _notify
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

REPORT: Json = {
    "result": "soaking",
    "fleet": "north",
    "rollout": "R1",
    "goal": "stack",
    "reasons": ["one", "two", "three", "four"],
    "nodes": {"alpha": {"result": "soaking", "before": []}, "bravo": {"result": "untouched"}},
    "soaks": [{"stage": "canary", "nodes": ["alpha"], "state": "soaking", "come_back_at": 20.0, "plots": {"x": 1}}],
    "gates": {"decision": "allowed", "findings": []},
    "started_at": 1.0,
    "finished_at": 9.0,
}


class Receiver:
    """Answers with the given codes, one after the other, the last one for ever."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.codes.pop(0) if len(receiver.codes) > 1 else receiver.codes[0])
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: the test looks at what was received."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook?token=hush"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    made: list[Receiver] = []
    yield made
    for one in made:
        one.close()


def told() -> Json:
    return _notify.message(REPORT, "Rollout R1: canary soaks.", "/r/R1.html")


def send(*hooks: Json) -> list[str]:
    return _notify.send(_notify.hooks(hooks), told(), backoff_factor=0.0)


def test_a_receiver_gets_one_signed_message(receivers: list[Receiver]) -> None:
    receivers.append(Receiver(204))
    assert send({"name": "ops", "url": receivers[0].url, "secret": "s3cret"}) == []
    ((headers, body),) = receivers[0].got
    message = json.loads(body)
    assert headers[_notify.SIGNATURE] == _notify.signature("s3cret", body)
    assert headers[_notify.DELIVERY] == _notify.delivery(message)
    assert message["event"] == "rollout.soaking"
    assert message["text"] == "[north] Rollout R1: canary soaks. one two three"
    assert message["nodes"] == {"alpha": "soaking", "bravo": "untouched"}
    assert message["soaks"][0]["come_back_at"] == 20.0
    assert "plots" not in message["soaks"][0]
    assert message["gates"] == "allowed"


def test_a_receiver_that_is_busy_is_asked_again_with_the_same_delivery(receivers: list[Receiver]) -> None:
    receivers.append(Receiver(500, 429, 200))
    assert send({"name": "ops", "url": receivers[0].url}) == []
    assert len({headers[_notify.DELIVERY] for headers, _ in receivers[0].got}) == 1
    assert len(receivers[0].got) == 3
    assert _notify.SIGNATURE not in receivers[0].got[0][0]


@pytest.mark.parametrize(
    ("code", "tries", "why"),
    [(503, _notify.TRIES, "HTTP 503 in 4 tries"), (404, 1, "HTTP 404"), (302, 1, "HTTP 302")],
)
def test_one_that_refuses_costs_a_line_without_its_address(
    receivers: list[Receiver], code: int, tries: int, why: str
) -> None:
    receivers += [Receiver(code), Receiver(200)]
    lines = send({"name": "down", "url": receivers[0].url}, {"name": "up", "url": receivers[1].url})
    assert lines == [f"webhook down was not told: {why}"]
    assert len(receivers[0].got) == tries
    assert len(receivers[1].got) == 1


def test_one_that_is_not_there_costs_a_line_without_its_address(receivers: list[Receiver]) -> None:
    receivers.append(Receiver(200))
    url = receivers[0].url
    receivers.pop().close()
    (line,) = send({"name": "gone", "url": url})
    assert line.startswith("webhook gone was not told: ")
    assert "hush" not in line
    assert "127.0.0.1" not in line


def test_who_asked_for_other_results_hears_nothing(receivers: list[Receiver]) -> None:
    receivers.append(Receiver(200))
    assert send({"name": "pager", "url": receivers[0].url, "results": ["failed", "reverted"]}) == []
    assert receivers[0].got == []


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ("https://example.org", "write name and url"),
        ({"name": "a", "url": "https://example.org", "events": []}, "write name and url"),
        ({"url": "https://example.org"}, "has no name"),
        ({"name": "a"}, "has no url"),
        ({"name": "a", "url": "ftp://example.org/x"}, "has no url"),
        ({"name": "a", "url": "https://"}, "has no url"),
        ({"name": "a", "url": "https://example.org:99999/"}, "has no url"),
        ({"name": "a", "url": "https://example.org/", "results": ["won"]}, "won is no result"),
        ({"name": "a", "url": "https://example.org/", "results": "failed"}, "failed is no result"),
    ],
)
def test_what_makes_no_receiver_is_said_without_its_address(hook: Any, why: str) -> None:
    with pytest.raises(ReleaseError, match=why) as caught:
        _notify.hooks([hook])
    assert caught.value.code == "webhook"
    assert "example.org" not in str(caught.value)


def test_two_of_one_name_are_refused_and_secrets_are_in_no_repr() -> None:
    hook = {"name": "a", "url": "https://example.org/hush", "secret": "hush"}
    with pytest.raises(ReleaseError, match="has a twice"):
        _notify.hooks([hook, hook])
    assert "hush" not in repr(_notify.hooks([hook]))


def test_the_address_stands_in_no_log(receivers: list[Receiver], caplog: pytest.LogCaptureFixture) -> None:
    """Ansible keeps what libraries log where it is told to keep a log."""
    receivers.append(Receiver(503))
    hook = {"name": "ops", "url": receivers[0].url}
    with caplog.at_level(logging.DEBUG):
        assert send(hook)
        receivers[0].close()
        assert send(hook)
    assert "hush" not in caplog.text
    # Others are not silenced.
    logging.getLogger("urllib3.connectionpool").warning("heard")
    assert "heard" in caplog.text
