"""An envelope is carried out at most once: whatever the order, the spelling, the restarts and the threads."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hive_kit.errors import ConflictError, HiveError, LimitError, StorageError
from hive_kit.keys import SchnorrKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

START = 1_700_000_000
SKEW = 300
NONCES = st.integers(0, 12)


class Replays(RuleBasedStateMachine):
    """Two advisors, one with a token and one with a key, and somebody who captures every envelope and sends it again.

    The clock jumps, the plugin restarts. The model knows only this: what was carried out once is never carried out
    again, and a key's nonces only grow.
    """

    open_desk: Any

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.directory = Path(self.stack.enter_context(TemporaryDirectory()))
        self.key = SchnorrKey.generate()
        self.captured: list[tuple[str, dict[str, Any]]] = []
        self.done: set[str] = set()
        self.highest: dict[str, int] = {}
        self.time = START

    @initialize()
    def begin(self) -> None:
        self._open()
        self.desk.advisor("bob")
        self.desk.call("hive-client-alias", "set", "b", "bob")
        self.desk.advisor(self.key.npub)
        self.tokens = self.desk.tokens

    def _open(self) -> None:
        self.running = ExitStack()
        self.desk = self.running.enter_context(self.open_desk(self.directory))
        self.desk.time = self.time
        # How often somebody may ask is not the subject here.
        self.desk.app.management._rate.take = lambda name: None

    @rule(signer=st.sampled_from(["bob", "key"]), nonce=NONCES, skew=st.integers(-SKEW - 2, SKEW + 2))
    def ask(self, signer: str, nonce: int, skew: int) -> None:
        key = self.key if signer == "key" else signer
        made = self.desk.made(key, "alias", {"action": "list"}, nonce=nonce, timestamp=self.time + skew)
        self.captured.append((signer, made))
        self._send(signer, self.key.npub if signer == "key" else "bob", made)

    @rule(data=st.data(), spelling=st.integers(0, 2))
    def replay(self, data: Any, spelling: int) -> None:
        if self.captured:
            signer, made = data.draw(st.sampled_from(self.captured))
            bob = self.desk.app.advisors.find("bob").advisor_id
            names = {"bob": ("bob", "b", bob), "key": (self.key.npub, self.key.npub.upper(), self.key.npub)}
            self._send(signer, names[signer][spelling], made)

    @rule(seconds=st.integers(-400, 400))
    def clock(self, seconds: int) -> None:
        self.time += seconds
        self.desk.time = self.time

    @rule()
    def restart(self) -> None:
        self.running.close()
        self._open()
        self.desk.tokens = self.tokens

    def _send(self, signer: str, sender: str, made: dict[str, Any]) -> None:
        fresh = abs(made["timestamp"] - self.time) <= SKEW and made["nonce"] > self.highest.get(signer, -1)
        if not fresh:
            with pytest.raises(HiveError):
                self.desk.send(sender, made)
            return
        self.desk.send(sender, made)
        assert made["signature"] not in self.done
        self.done.add(made["signature"])
        self.highest[signer] = made["nonce"]

    @invariant()
    def every_one_has_its_receipt(self) -> None:
        if self.done:
            receipts = self.desk.call("hive-client-receipts", limit=500)["receipts"]
            used = [r["params"]["nonce"] for r in receipts if r["action"] == "list"]
            assert len(used) == len(self.done)

    def teardown(self) -> None:
        if hasattr(self, "running"):
            self.running.close()
        self.stack.close()


def test_whatever_happens_nothing_is_carried_out_twice(open_desk: Any) -> None:
    Replays.open_desk = staticmethod(open_desk)
    machine = Replays.TestCase
    machine.settings = settings(
        max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine("runTest").debug()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nonces=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=12))
def test_the_nonces_that_pass_are_the_strict_maxima(desk: Any, nonces: list[int]) -> None:
    key = SchnorrKey.generate().public_hex
    store = desk.app.management._replay
    passed = [nonce for nonce in nonces if store.consume(f"bip340:{key}", "a" * 32, nonce, START, START)]
    expected = [nonce for place, nonce in enumerate(nonces) if nonce > max(nonces[:place], default=-1)]
    assert passed == expected


def test_one_nonce_for_all_schemas_and_all_names_of_the_sender(desk: Any) -> None:
    desk.call("hive-client-alias", "set", "b", "bob")
    desk.ask("bob", "monitor", nonce=5)
    for sender in ("bob", "BOB", "b", desk.app.advisors.find("bob").advisor_id):
        with pytest.raises(ConflictError, match="nonce not monotonic; the last one was 5"):
            desk.send(sender, desk.made("bob", "policy", nonce=5))


def test_a_replay_is_told_before_policy_and_rate_are_asked(desk: Any) -> None:
    asked = desk.made("bob", "authorize", {"advisor": "eve"})
    desk.send("bob", asked)
    desk.call("hive-client-policy", action="set", overrides={"blocked_schemas": ["authorize"]})
    for _ in range(6):
        with pytest.raises(ConflictError, match="replay rejected"):
            desk.send("bob", asked)


def test_of_many_at_once_one_passes(desk: Any) -> None:
    asked = desk.made("bob", "authorize", {"advisor": "eve", "access": "monitor"})
    outcomes: list[str] = []
    begin = threading.Barrier(6)

    def send() -> None:
        begin.wait(10)
        try:
            desk.send("bob", asked)
            outcomes.append("done")
        except (ConflictError, LimitError) as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes.count("done") == 1
    receipts = desk.call("hive-client-receipts", limit=50)["receipts"]
    assert len([r for r in receipts if r["action"] == "authorize" and r["params"].get("nonce")]) == 1


def test_a_failure_of_the_disk_leaves_nonce_action_and_receipt_undone(desk: Any, monkeypatch: Any) -> None:
    asked = desk.made("bob", "policy", {"action": "set", "overrides_json": {"max_danger": 9}})
    before = desk.call("hive-client-status")
    original = desk.app.receipts._receipts.append

    def full(created_at: int, actor: str, schema: str, action: str, params: Any, result: Any) -> Any:
        if "payload_sha256" in params:  # the last write of the transaction
            raise StorageError("database or disk is full; make room on the disk")
        return original(created_at, actor, schema, action, params, result)

    monkeypatch.setattr(desk.app.receipts._receipts, "append", full)
    with pytest.raises(StorageError):
        desk.send("bob", asked)
    assert desk.call("hive-client-status") == before
    monkeypatch.undo()
    assert desk.send("bob", asked)["ok"] is True
