"""Start, siblings, options, health: the plugin as lightningd and the fleet see it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cl_hive_archon.app import Archon
from cl_hive_archon.main import SPEC
from cl_hive_archon.services.signing_service import DOMAINS
from hive_kit.errors import OptionError, RefusedError, UnavailableError
from hive_kit.manifest import describe
from hive_kit.node import UNKNOWN_METHOD, RpcError
from hive_kit.runtime import Runtime
from hive_kit.testing import FakeNode, PluginProcess, application

Call = Callable[..., dict[str, Any]]


def checks(call: Call) -> dict[str, bool]:
    """Health's checks by name."""
    return {check["name"]: check["ok"] for check in call("hive-archon-health")["checks"]}


def test_it_refuses_to_start_where_comms_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="needs cl-hive-comms on the same node"), application(SPEC, tmp_path):
        pass


def test_a_comms_that_is_still_starting_is_waited_for_in_the_background(tmp_path: Path, node: FakeNode) -> None:
    def starting(_: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("init must not wait for comms")

    node.answers["hive-client-identity"] = starting
    runtime = Runtime(SPEC)
    app = runtime.start({}, tmp_path, "regtest", startup=True, node=node)
    try:
        assert app.mode == "waiting-for-comms"
        node.answers["hive-client-identity"] = {"ok": True}
        assert app.comms.look()
        assert app.mode == "with-comms"
    finally:
        runtime.stop()


def test_a_silent_lightningd_is_no_reason_to_refuse(tmp_path: Path, node: FakeNode) -> None:
    node.answers["help"] = UnavailableError("help did not answer within 10 s")
    with application(SPEC, tmp_path, {}, node) as (app, _):
        assert app.mode == "with-comms"


def test_it_degrades_when_comms_goes_and_recovers(running: tuple[Archon, Call], node: FakeNode) -> None:
    app, call = running
    call("hive-archon-provision")
    assert checks(call)["cl-hive-comms"]
    comms = node.answers.pop("hive-client-identity")
    assert not app.comms.look()
    assert call("hive-archon-health")["mode"] == "waiting-for-comms"
    assert (checks(call)["cl-hive-comms"], checks(call)["identity"]) == (False, True)
    with pytest.raises(UnavailableError, match="cl-hive-comms does not run on this node"):
        call("hive-archon-bind-nostr")
    assert call("hive-archon-sign-message", "hive|still signs")["ok"]
    assert call("hive-archon-bind-cln")["ok"]
    node.answers["hive-client-identity"] = comms
    assert app.comms.look()
    assert checks(call)["cl-hive-comms"]
    assert call("hive-archon-bind-nostr")["ok"]


def test_comms_dying_under_a_call_is_noticed(running: tuple[Archon, Call], node: FakeNode) -> None:
    app, call = running
    call("hive-archon-provision")
    node.answers["hive-client-identity"] = RpcError("hive-client-identity", -4, "Plugin terminated before replying")
    with pytest.raises(UnavailableError):
        call("hive-archon-bind-nostr")
    assert app.mode == "waiting-for-comms"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hive-archon-network-enabled": "true"}, "calls no gateway; set it to false"),
        ({"hive-archon-network-enabled": "maybe"}, "hive-archon-network-enabled"),
        ({"hive-archon-gateway": "http://archon.technology"}, "is not an https:// address"),
        ({"hive-archon-gateway": "https://user:secret@archon.technology"}, "is not an https:// address"),
        ({"hive-archon-gateway": "archon.technology"}, "is not an https:// address"),
        ({"hive-archon-gateway": "https://"}, "is not an https:// address"),
        ({"hive-archon-gateway": "https://[::1"}, "is not an https:// address"),
        ({"hive-archon-governance-min-bond": "-1"}, "less than the minimum 0"),
        ({"hive-archon-governance-min-bond": "many"}, "hive-archon-governance-min-bond"),
    ],
)
def test_bad_options_stop_the_start(tmp_path: Path, node: FakeNode, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence), application(SPEC, tmp_path, options, node):
        pass


def test_status_before_and_after(call: Call) -> None:
    empty = call("hive-archon-status")
    assert empty["identity"] is None
    assert empty["bindings"] == {"nostr": 0, "cln": 0}
    assert (empty["total_polls"], empty["total_votes"], empty["network_enabled"]) == (0, 0, False)
    assert (empty["min_governance_bond_sats"], empty["gateway_url"]) == (50_000, "https://archon.technology")
    did = call("hive-archon-provision", label="alpha")["did"]
    identity = call("hive-archon-status")["identity"]
    assert (identity["did"], identity["label"], identity["status"]) == (did, "alpha", "active")


def test_polls_are_counted_from_the_tables(running: tuple[Archon, Call]) -> None:
    app, call = running
    with app.context.store.atomic() as store:
        for number, status in enumerate(("active", "active", "completed")):
            store.execute(
                "INSERT INTO archon_polls (poll_id, poll_type, title, options_json, created_by, deadline, status, "
                "created_at, updated_at) VALUES (?, 'x', 'x', '[]', 'x', 0, ?, 0, 0)",
                (str(number), status),
            )
        store.execute(
            "INSERT INTO archon_votes (vote_id, poll_id, voter_id, choice, voted_at) VALUES ('v', '0', 'a', 'b', 0)"
        )
    shown = call("hive-archon-status")
    assert [shown[key] for key in ("active_polls", "completed_polls", "total_polls", "total_votes")] == [2, 1, 3, 1]


def test_the_manifest_names_everything() -> None:
    manifest = describe(SPEC)
    assert manifest["requires"]["plugins"] == ["cl-hive-comms"]
    assert manifest["start_order"] == 20
    assert manifest["subscriptions"] == ["plugin_started", "plugin_stopped", "shutdown"]
    own = [f"archon_{name}" for name in ("bindings", "identity", "outbox", "polls", "votes")]
    assert manifest["tables"] == [*own, "did_credentials", "did_reputation_cache"]
    assert manifest["rpc_methods"] == sorted(
        f"hive-archon-{name}" for name in ("bind-cln", "bind-nostr", "health", "provision", "sign-message", "status")
    )


def test_the_reference_names_every_method_option_and_domain() -> None:
    reference = (Path(__file__).parents[3] / "docs/reference/cl-hive-archon.md").read_text("utf-8")
    headings = re.findall(r"^### (hive-archon-\S+)(.*)$", reference, re.MULTILINE)
    usages = {method.name: method.usage for method in SPEC.methods}
    assert {name: text.strip(" `") for name, text in headings} == {**usages, SPEC.health_rpc: ""}
    for name in (*(option.name for option in SPEC.options), *DOMAINS):
        assert f"| `{name}` |" in reference


def test_on_pipes_it_runs_degraded_while_lightningd_says_nothing_of_comms(tmp_path: Path) -> None:
    """No socket: lightningd says nothing about comms, so init goes on and the plugin waits, and leaves at once."""
    plugin = PluginProcess([sys.executable, "-m", "cl_hive_archon.main"], tmp_path)
    try:
        assert not plugin.start()["result"]
        assert plugin.call("hive-archon-health")["status"] == "degraded"
        reply = plugin.request("hive-archon-sign-message", ["nostr_key_derivation"])
        assert reply["error"]["code"] == RefusedError.code
        assert plugin.request("hive-archon-bind-nostr", ["0x00"])["error"]["code"] == -32602
        assert plugin.shutdown() == 0
    finally:
        if plugin.process.poll() is None:
            plugin.kill()
    assert (tmp_path / "cl_hive_archon.db").stat().st_mode & 0o777 == 0o600


def test_on_pipes_a_gateway_is_refused_with_a_reason(tmp_path: Path) -> None:
    plugin = PluginProcess([sys.executable, "-m", "cl_hive_archon.main"], tmp_path)
    try:
        answer = plugin.start({"hive-archon-network-enabled": True})["result"]
        assert "set it to false" in answer["disable"]
    finally:
        plugin.kill()


def test_unknown_to_lightningd_is_the_only_no(tmp_path: Path, node: FakeNode) -> None:
    node.answers["help"] = RpcError("help", UNKNOWN_METHOD, "Unknown command 'hive-client-identity'")
    with pytest.raises(RefusedError), application(SPEC, tmp_path, {}, node):
        pass
    node.answers["help"] = RpcError("help", -1, "something else")
    with application(SPEC, tmp_path, {}, node) as (app, _):
        assert app.mode == "with-comms"
