"""Every module four times: check, real, check, real; changed, changed, ok, ok. And facts of the promised shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.modules import (
    hive_backup,
    hive_observe,
    hive_restore,
    hive_switch,
)
from faults.rig import NAME, Rig

Work = Callable[[dict[str, Any], bool], dict[str, Any]]

OBSERVED = {
    "schema",
    "name",
    "time",
    "lightningd",
    "channels",
    "pending_htlcs",
    "value_at_risk_msat",
    "plugins",
    "rpc_methods",
    "options",
    "slots",
    "stack",
    "managed_config",
    "databases",
    "backups",
    "transaction",
    "stable_stack",
    "previous_stack",
    "lock",
    "disk",
    "python",
    "journal",
    "problems",
    "soak",
    "abandoned",
    "brake",
    "pause",
}
SWITCHED = {
    "changed",
    "transaction",
    "phase",
    "before",
    "after",
    "downtime_ms",
    "switch_ms",
    "lightningd_restarts",
    "backup",
    "reverted",
    "reason",
    "journal",
    "journal_head",
}


def defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {name: option.get("default") for name, option in options.items()}


def four_times(work: Work, parameters: dict[str, Any]) -> list[bool]:
    return [bool(work(dict(parameters), check)["changed"]) for check in (True, False, True, False)]


def test_switch_is_honest_about_check_mode_and_does_nothing_twice(shared_rig: Rig) -> None:
    rig = shared_rig
    stack = [rig.item("0.1.0", options={f"{NAME}-note": "x"}), rig.second()]
    parameters = {**defaults(hive_switch.OPTIONS), "node": rig.node.as_params(), "state": "switched", "stack": stack}
    parameters.update(rollout="r1", deadman_seconds=0.0)
    assert four_times(hive_switch.work, parameters) == [True, True, False, False]
    outcome = hive_switch.work(parameters, False)
    assert set(outcome) >= SWITCHED
    json.dumps(outcome)
    removal = {**parameters, "stack": []}
    assert four_times(hive_switch.work, removal) == [True, True, False, False]
    rig.settle(stack)


def test_confirm_and_revert_are_honest_too(shared_rig: Rig) -> None:
    rig = shared_rig
    common = {**defaults(hive_switch.OPTIONS), "node": rig.node.as_params(), "rollout": "r1"}
    rig.run("switched", [rig.item("0.2.0"), rig.second()])
    assert four_times(hive_switch.work, {**common, "state": "confirmed"}) == [True, True, False, False]
    rig.run("switched", [rig.item("0.1.0"), rig.second()])
    assert four_times(hive_switch.work, {**common, "state": "reverted"}) == [True, True, False, False]


def test_backup_is_made_once_where_one_is_recent(shared_rig: Rig) -> None:
    rig = shared_rig
    rig.settle([rig.item("0.1.0"), rig.second()])
    parameters = {**defaults(hive_backup.OPTIONS), "node": rig.node.as_params(), "max_age_seconds": 3600.0}
    for path in rig.node.backups_dir.iterdir():
        path.rename(rig.root / path.name)
    assert four_times(hive_backup.work, parameters) == [True, True, False, False]
    listed = hive_backup.work({**parameters, "state": "listed"}, False)
    assert [item["verified"] for item in listed["backups"]] == [True]


def test_restore_without_apply_is_a_look(shared_rig: Rig) -> None:
    rig = shared_rig
    made = hive_backup.work({**defaults(hive_backup.OPTIONS), "node": rig.node.as_params()}, False)["backup"]
    parameters = {**defaults(hive_restore.OPTIONS), "node": rig.node.as_params(), "set": made["id"]}
    outcome = hive_restore.work(parameters, False)
    assert (outcome["changed"], outcome["phase"]) == (False, "planned")
    assert hive_restore.work({**parameters, "apply": True}, True)["changed"] is True


def test_observe_tells_all_and_takes_samples(shared_rig: Rig) -> None:
    rig = shared_rig
    rig.settle([rig.item("0.1.0", options={f"{NAME}-note": "seen"}), rig.second()])
    parameters = {**defaults(hive_observe.OPTIONS), "node": rig.node.as_params(), "soak_seconds": 0.3}
    result = hive_observe.observe({**parameters, "interval_seconds": 0.1}, False)
    observed = result["observed"]
    json.dumps(result)
    assert set(observed) >= OBSERVED
    assert observed["problems"] == []
    assert observed["stack"] == observed["stable_stack"]
    assert observed["lightningd"]["ready"]
    ours = [plugin for plugin in observed["plugins"] if plugin["ours"]]
    assert [plugin["health"]["status"] for plugin in ours] == ["ok", "ok"]
    assert all(plugin["pid"] and plugin["rss_bytes"] for plugin in ours)
    assert observed["rpc_methods"]["getinfo"] == "builtin"
    assert observed["rpc_methods"][f"{NAME}-health"] in [plugin["path"] for plugin in ours if plugin["name"] == NAME]
    assert observed["databases"][NAME]["user_version"] == 1
    assert len(result["samples"]) >= 2
    assert {plugin["health"] for plugin in result["samples"][0]["plugins"]} == {"ok"}


def test_observe_of_a_dead_node_is_data(fresh_rig: Rig) -> None:
    rig = fresh_rig
    rig.stop()
    observed = hive_observe.observe({**defaults(hive_observe.OPTIONS), "node": rig.node.as_params()}, False)["observed"]
    assert set(observed) >= OBSERVED
    assert observed["lightningd"]["running"] is False
    assert [problem["code"] for problem in observed["problems"]] == ["lightningd-down"]


def test_secrets_of_the_stack_stay_on_the_node(shared_rig: Rig) -> None:
    rig = shared_rig
    release = rig.item("0.5.0")
    mark = rig.node.state_dir / "markers" / NAME / f"{release['digest'][:12]}.json"
    marker = json.loads(mark.read_bytes())
    entry = rig.node.slots_dir / NAME / release["digest"][:12] / "lib/hive_fixture/__init__.py"
    token = {"name": f"{NAME}-token", "type": "string", "default": "", "description": "secret", "dynamic": False}
    entry.write_text(
        entry.read_text().replace("return [note, limit, *self.more_options]", f"return [note, limit, {token!r}]")
    )
    marker["manifest"]["options"].append(token)
    mark.write_text(json.dumps(marker))
    rig.remark(release)
    secret = "correct-horse-battery-staple"
    release["options"] = {f"{NAME}-token": secret}
    outcome = rig.run("switched", [release])
    assert outcome["phase"] == "switched", outcome.get("error")
    assert rig.call(f"{NAME}-status")["options"][f"{NAME}-token"] == secret
    observed = rig.observe()
    assert secret not in json.dumps([outcome, observed])
    assert secret not in rig.node.journal_file.read_text()
    assert rig.run("confirmed")["phase"] == "confirmed"
    rig.settle([rig.item("0.1.0")])
    assert rig.run("rolled_back", deadman_seconds=0.0)["phase"] == "confirmed"
    assert rig.call(f"{NAME}-status")["options"][f"{NAME}-token"] == secret, "the node still knows it"
