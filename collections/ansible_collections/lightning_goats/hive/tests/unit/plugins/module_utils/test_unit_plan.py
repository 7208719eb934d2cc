"""The plan is a pure function: what it decides, what it refuses, and what its digest covers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan, _plan_guards, _plan_waves
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    ARCHON,
    COMMS,
    HIVE,
    Json,
    digest_of,
    item,
    manifest,
    observation,
)

POLICY: Json = {"fleet": "test", "rollout": "r1", "waves": [1, "25%", "100%"], "min_free_bytes": 0}
FULL = [item(COMMS), item(ARCHON), item(HIVE)]


def manifests(*extra: Json) -> dict[str, Json]:
    all_of = [manifest(COMMS), manifest(ARCHON), manifest(HIVE), manifest(COMMS, "0.1.1"), *extra]
    return {m["artifact"]["sha256"]: m for m in all_of}


def one(seen: Json | None, after: list[Json], *extra: Json, **policy: Any) -> Json:
    return _plan.plan({"alpha": after}, {"alpha": seen}, manifests(*extra), {**POLICY, **policy})


def codes(result: Json) -> list[str]:
    return [refusal["code"] for refusal in result["refused"]]


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [
        ([], FULL, "install"),
        (FULL, FULL, "none"),
        (FULL, [], "remove"),
        ([item(COMMS)], [item(COMMS, "0.1.1")], "upgrade"),
        ([item(COMMS, "0.1.1")], [item(COMMS)], "downgrade"),
        ([item(COMMS)], [item(COMMS, options={"cl-hive-comms-mode": "lite"})], "change"),
        ([item(COMMS)], [item(COMMS, enabled=False)], "change"),
        ([item(COMMS), item(HIVE)], [item(COMMS)], "remove"),
        ([item(COMMS)], [item(COMMS, "0.1.1"), item(HIVE)], "upgrade"),
    ],
)
def test_the_action_names_the_change(before: list[Json], after: list[Json], action: str) -> None:
    result = one(observation(stack=before), after)
    assert codes(result) == []
    assert result["nodes"]["alpha"]["action"] == action
    assert result["changes"] == (action != "none")


def test_an_install_says_every_act_in_order() -> None:
    step = one(observation(), [item(COMMS, options={"cl-hive-comms-token": "x1", "cl-hive-comms-mode": "lite"})])[
        "nodes"
    ]["alpha"]
    assert step["stage"] == [digest_of(COMMS, "0.1.0")]
    assert step["steps"] == [
        f"stage {COMMS} 0.1.0 ({digest_of(COMMS, '0.1.0')[:12]})",
        f"start {COMMS} 0.1.0 ({digest_of(COMMS, '0.1.0')[:12]})",
        "  cl-hive-comms-mode: default -> lite",
        "  cl-hive-comms-token: default -> (hidden)",
    ]


def test_an_upgrade_backs_up_and_stops_in_reverse_order() -> None:
    before = [item(COMMS), item(HIVE)]
    after = [item(COMMS, "0.1.1"), item(HIVE, options={"cl-hive-limit": "7"})]
    words = [line.split(" (")[0] for line in one(observation(stack=before), after)["nodes"]["alpha"]["steps"]]
    assert words == [
        "stage cl-hive-comms 0.1.1",
        "back up the data of cl-hive-comms, cl-hive",
        "stop cl-hive 0.1.0",
        "stop cl-hive-comms 0.1.0",
        "start cl-hive-comms 0.1.1",
        "start cl-hive 0.1.0",
        "  cl-hive-limit: default -> 7",
    ]


def test_option_values_compare_as_lightningd_writes_them() -> None:
    seen = observation(stack=[item(COMMS, options={"cl-hive-comms-limit": 7, "cl-hive-comms-enabled": True})])
    wanted = [item(COMMS, options={"cl-hive-comms-limit": "7", "cl-hive-comms-enabled": "true"})]
    assert one(seen, wanted)["nodes"]["alpha"]["action"] == "none"


def test_a_disabled_plugin_is_known_from_the_journal() -> None:
    wanted = [item(COMMS), item(HIVE, enabled=False)]
    seen = observation(stack=[item(COMMS)], stable_stack=wanted)
    assert one(seen, wanted)["nodes"]["alpha"]["action"] == "none"
    died = observation(stack=[], stable_stack=wanted)
    assert one(died, wanted)["nodes"]["alpha"]["action"] == "install"


def test_drift_is_put_right() -> None:
    seen = observation(stack=FULL)
    seen["managed_config"]["drift"] = True
    seen["problems"] = [{"code": "config-drift", "message": "hive.conf names other plugins than those that run"}]
    step = one(seen, FULL)["nodes"]["alpha"]
    assert (step["action"], step["steps"]) == ("change", ["put hive.conf back to what was confirmed"])


def test_a_plugin_that_died_is_started_again() -> None:
    seen = observation(stack=[item(COMMS)], stable_stack=FULL)
    seen["managed_config"]["drift"] = True
    seen["problems"] = [{"code": "config-drift", "message": "hive.conf names other plugins than those that run"}]
    plan = one(seen, FULL)
    assert plan["refused"] == []
    assert plan["nodes"]["alpha"]["after"] == FULL


def test_what_was_installed_by_hand_is_taken_over() -> None:
    seen = observation(stack=FULL, stable_stack=None)
    seen["slots"][0]["complete"] = False
    seen["problems"] = [{"code": "by-hand", "message": "cl-hive-comms 0.1.0 was installed by hand"}]
    plan = one(seen, FULL)
    step = plan["nodes"]["alpha"]
    assert plan["refused"] == []
    assert (step["action"], step["stage"]) == ("take over", [FULL[0]["digest"]])
    assert step["steps"] == [f"take over cl-hive-comms 0.1.0 ({FULL[0]['digest'][:12]}), installed by hand"]

    upgrade = one(seen, [item(COMMS, "0.1.1"), *FULL[1:]])["nodes"]["alpha"]
    assert upgrade["action"] == "upgrade"
    assert set(upgrade["stage"]) == {digest_of(COMMS, "0.1.1"), FULL[0]["digest"]}, "the way back needs its slot"


class TestDigest:
    def test_volatile_values_do_not_count(self) -> None:
        seen = observation()
        later = copy.deepcopy(seen)
        later["time"] += 60
        later["lightningd"].update(blockheight=130, rpc_ms=9.0)
        later["disk"]["free_bytes"] -= 1000
        assert one(seen, FULL)["digest"] == one(later, FULL)["digest"]

    @pytest.mark.parametrize("change", ["version", "option", "before", "fleet"])
    def test_what_runs_counts(self, change: str) -> None:
        base = one(observation(), FULL)["digest"]
        stack, seen, policy = copy.deepcopy(FULL), observation(), {}
        if change == "version":
            stack[0] = item(COMMS, "0.1.1")
        elif change == "option":
            stack[0]["options"] = {"cl-hive-comms-limit": "6"}
        elif change == "before":
            seen = observation(stack=[item(COMMS)])
        else:
            policy = {"fleet": "other"}
        assert one(seen, stack, **policy)["digest"] != base

    def test_the_order_of_nodes_counts(self) -> None:
        nodes = {"alpha": FULL, "bravo": FULL}
        seen = {"alpha": observation("alpha"), "bravo": observation("bravo")}
        first = _plan.plan(nodes, seen, manifests(), POLICY)
        seen["alpha"]["value_at_risk_msat"] = 5
        assert _plan.plan(nodes, seen, manifests(), POLICY)["digest"] != first["digest"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "change", "words"),
        [
            ("syncing", {"lightningd": {"synced": False, "warnings": ["catching up"]}}, "still syncing at height 120"),
            ("not-ready", {"lightningd": {"ready": False}}, "still starting"),
            ("cln-too-old", {"lightningd": {"version": "v24.11.1"}}, "needs lightningd v25.02"),
            ("disk-full", {"disk": {"free_bytes": 10**8}}, "make room"),
            ("python-unsupported", {"python": {"path": "/p", "version": "3.9.2", "tag": "cp39"}}, "set hive_python"),
            ("rpc-collision", {"rpc_methods": {"cl-hive-health": "/opt/monolith.py"}}, "from /opt/monolith.py"),
            ("rpc-collision", {"rpc_methods": {"cl-hive-health": "builtin"}}, "lightningd itself"),
            ("rpc-collision", {"rpc_methods": {"cl-hive-health": ""}}, "another plugin"),
            (
                "option-collision",
                {"options": {"cl-hive-mode": {"value": "x", "source": "default", "plugin": "/opt/x"}}},
                "already has from /opt/x",
            ),
            ("htlc-expiring", {"pending_htlcs": {"count": 1, "nearest_expiry": 125}}, "expires in 5 blocks"),
            (
                "locked",
                {"lock": {"owner": "ann", "rollout": "r0", "since": 1, "expires_at": 2, "stale": False}},
                "playbooks/confirm.yml",
            ),
            (
                "stale-lock",
                {"lock": {"owner": "ann", "rollout": "r0", "since": 1, "expires_at": 2, "stale": True}},
                "hive_break_lock",
            ),
            (
                "schema-too-new",
                {"databases": {HIVE: {"path": "", "size": 1, "user_version": 3}}},
                "playbooks/restore.yml",
            ),
            (
                "quarantined",
                {"quarantine": [{"plugin": HIVE, "digest": FULL[-1]["digest"], "since": 1.0, "reason": "it died"}]},
                "hive_lift_quarantine",
            ),
            ("journal-damaged", {"problems": [{"code": "journal-damaged", "message": "line 3 is damaged"}]}, "line 3"),
        ],
    )
    def test_a_node_that_is_not_fit_keeps_the_fleet_as_it_is(self, code: str, change: Json, words: str) -> None:
        result = one(observation(**change), FULL, htlc_margin_blocks=18)
        assert codes(result) == [code]
        assert words in result["refused"][0]["message"]
        assert result["waves"] == []

    def test_no_observation_is_unreachable(self) -> None:
        assert codes(one(None, FULL)) == ["unreachable"]

    def test_the_reason_of_an_unreachable_node_is_passed_on(self) -> None:
        seen = {"problems": [{"code": "unreachable", "message": "bravo does not answer over SSH"}]}
        result = one(seen, FULL)
        assert codes(result) == ["unreachable"]
        assert result["refused"][0]["message"] == "bravo does not answer over SSH"

    def test_a_stopped_lightningd_is_refused_even_without_a_change(self) -> None:
        assert codes(one(observation(lightningd={"running": False}), [])) == ["lightningd-down"]

    def test_an_unchanged_node_is_not_guarded(self) -> None:
        assert codes(one(observation(stack=FULL, lightningd={"synced": False}), FULL)) == []

    def test_our_own_plugin_is_no_collision(self) -> None:
        seen = observation(stack=[item(COMMS)])
        seen["options"] = {
            "cl-hive-comms-mode": {"value": "x", "source": "default", "plugin": seen["plugins"][0]["path"]}
        }
        assert codes(one(seen, [item(COMMS, "0.1.1")])) == []

    def test_own_lock_and_broken_lock_pass(self) -> None:
        lock = {"owner": "ann", "rollout": "r1", "since": 1, "expires_at": 2, "stale": False}
        stale = {**lock, "rollout": "r0", "stale": True}
        assert codes(one(observation(lock=lock), FULL)) == []
        assert codes(one(observation(lock=stale), FULL, break_lock=True)) == []
        assert codes(one(observation(lock={**stale, "stale": False}), FULL, break_lock=True)) == ["locked"]

    def test_a_restart_needs_permission(self) -> None:
        seen = observation(stack=[item(COMMS)])
        seen["plugins"][0]["dynamic"] = False
        assert codes(one(seen, [item(COMMS, "0.1.1")])) == ["needs-restart"]
        allowed = one(seen, [item(COMMS, "0.1.1")], allow_lightningd_restart=True)
        assert codes(allowed) == []
        assert "cannot be stopped" in allowed["nodes"]["alpha"]["restart"]

    def test_bad_waves(self) -> None:
        result = one(observation(), FULL, waves=["half"])
        assert codes(result) == ["bad-waves"]
        assert "'half'" in result["refused"][0]["message"]

    def test_one_unfit_node_stops_all(self) -> None:
        seen = {"alpha": observation("alpha"), "bravo": observation("bravo", lightningd={"synced": False})}
        result = _plan.plan({"alpha": FULL, "bravo": FULL}, seen, manifests(), POLICY)
        assert (codes(result), result["waves"]) == (["syncing"], [])


class TestRollbackClass:
    @pytest.mark.parametrize(
        ("fresh", "expected"),
        [
            (manifest(COMMS, "0.2.0"), "safe"),
            (manifest(COMMS, "0.2.0", schema_version=2, readable_by="0.1.0"), "safe"),
            (manifest(COMMS, "0.2.0", schema_version=2, readable_by="0.2.0"), "needs-restore"),
        ],
    )
    def test_the_schema_decides(self, fresh: Json, expected: str) -> None:
        result = one(observation(stack=[item(COMMS)]), [item(COMMS, "0.2.0")], fresh)
        assert result["nodes"]["alpha"]["rollback"] == expected

    def test_an_unknown_release_has_no_way_back(self) -> None:
        result = one(observation(stack=[item(COMMS, "0.0.9")]), [item(COMMS)])
        assert result["nodes"]["alpha"]["rollback"] == "impossible"

    def test_a_downgrade_that_can_read_the_data_is_allowed(self) -> None:
        fresh = manifest(COMMS, "0.2.0", schema_version=2, readable_by="0.1.0")
        seen = observation(stack=[item(COMMS, "0.2.0")], databases={COMMS: {"path": "", "size": 1, "user_version": 2}})
        assert codes(one(seen, [item(COMMS)], fresh)) == []


class TestUnfinished:
    def transaction(self, phase: str, target: list[Json]) -> Json:
        return {
            "id": "t1",
            "rollout": "r1",
            "phase": phase,
            "target": target,
            "previous": [],
            "deadline": 0,
            "armed": True,
        }

    @pytest.mark.parametrize(
        ("phase", "target", "action"),
        [
            ("open", FULL, "resume"),
            ("switched", FULL, "resume"),
            ("reverting", FULL, "revert"),
            ("switched", [item(COMMS)], "revert"),
            ("revert-failed", FULL, "revert"),
        ],
    )
    def test_an_open_switch_is_resumed_or_undone(self, phase: str, target: list[Json], action: str) -> None:
        seen = observation(stack=target, transaction=self.transaction(phase, target))
        step = one(seen, FULL)["nodes"]["alpha"]
        assert step["action"] == action
        assert step["before"] == []

    def test_the_switch_of_a_foreign_run_is_undone(self) -> None:
        seen = observation(stack=FULL, transaction={**self.transaction("switched", FULL), "rollout": "r0"})
        assert one(seen, FULL)["nodes"]["alpha"]["action"] == "revert"

    def test_a_lock_left_by_the_interrupted_run_is_given_back(self) -> None:
        lock = {"owner": "ann", "rollout": "r1", "since": 1, "expires_at": 2, "stale": False}
        step = one(observation(stack=FULL, lock=lock), FULL)["nodes"]["alpha"]
        assert (step["action"], step["steps"]) == ("resume", ["give back the lock of rollout r1"])

    def test_unfinished_nodes_come_first_and_together(self) -> None:
        seen = {name: observation(name) for name in ("alpha", "bravo", "charlie", "delta")}
        for name in ("charlie", "delta"):
            seen[name]["transaction"] = self.transaction("switched", FULL)
        result = _plan.plan(dict.fromkeys(seen, FULL), seen, manifests(), POLICY)
        assert result["waves"][0] == {"name": "resume", "nodes": ["charlie", "delta"]}
        assert [wave["nodes"] for wave in result["waves"][1:]] == [["alpha"], ["bravo"]]


class TestWaves:
    @pytest.mark.parametrize(
        ("entries", "total", "expected"),
        [
            ([1, "25%", "100%"], 1, [1]),
            ([1, "25%", "100%"], 3, [1, 1, 1]),
            ([1, "25%", "100%"], 10, [1, 2, 7]),
            ([2], 5, [2, 2, 1]),
            (["100%"], 4, [4]),
        ],
    )
    def test_sizes(self, entries: list[Any], total: int, expected: list[int]) -> None:
        assert _plan_waves.sizes(entries, total) == expected

    @pytest.mark.parametrize("entries", [[], [0], ["0%"], ["x"], [True], [-1], [1.5]])
    def test_bad_sizes(self, entries: list[Any]) -> None:
        with pytest.raises(_plan_waves.WavesError, match="hive_waves"):
            _plan_waves.sizes(entries, 3)

    def test_the_canary_has_least_to_lose(self) -> None:
        seen = {name: observation(name, value_at_risk_msat=sats) for name, sats in (("a", 9), ("b", 1), ("c", 5))}
        assert _plan_waves.waves(list(seen), [], seen) == [
            {"name": "canary", "nodes": ["b"]},
            {"name": "wave 1", "nodes": ["c"]},
            {"name": "wave 2", "nodes": ["a"]},
        ]

    def test_both_ends_of_a_channel_are_never_in_one_wave(self) -> None:
        names = [f"n{i}" for i in range(10)]
        seen: dict[str, Json | None] = {
            name: observation(name, channels=[{"peer_id": f"02n{(i + 1) % 10}", "short_channel_id": f"1x{i}x0"}])
            for i, name in enumerate(names)
        }
        waves = _plan_waves.waves(names, [], seen)
        adjacent = _plan_waves.neighbours(seen)
        assert sorted(node for wave in waves for node in wave["nodes"]) == sorted(names)
        assert not [w for w in waves for a in w["nodes"] for b in w["nodes"] if b in adjacent[a]]
        together = _plan_waves.waves(names, [], seen, separate_peers=False)
        assert [len(wave["nodes"]) for wave in together] == [1, 2, 7]


class TestWords:
    def test_the_plan_is_printed_with_its_digest(self) -> None:
        result = one(observation(), FULL)
        lines = _plan.describe(result)
        assert lines[0] == "canary: alpha"
        assert lines[1] == "  alpha: install, code rollback safe"
        assert lines[-1] == f"plan digest: {result['digest']}"

    def test_nothing_to_do_is_said(self) -> None:
        assert _plan.describe(one(observation(stack=FULL), FULL)) == [
            "Nothing to change: 1 nodes run what they should."
        ]

    def test_a_refusal_is_one_sentence(self) -> None:
        lines = _plan.describe(one(observation(lightningd={"synced": False}), FULL))
        assert len(lines) == 1
        assert lines[0].startswith("REFUSED (syncing) alpha is still syncing at height 120")

    def test_mib(self) -> None:
        assert _plan_guards.mib(52428800) == "50 MiB"
