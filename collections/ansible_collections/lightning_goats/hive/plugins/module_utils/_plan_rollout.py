# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The rollout that is under way, as the journals of its nodes tell it, and how it goes on. Pure, controller only.

A rollout outlives its runs: a stage soaks for hours or days after its run has ended, and the next run goes on. What
there is to know of it stands in the nodes: each one that was switched has the plan's digest, all waves with a
fingerprint of what is done to every node, and what it ran before. From these the plan comes out again with the same
digest, so that its approval holds; when it does not, it is another plan, and this says what has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan, _plan_remarks
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_guards as guards
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Json, Refusal, Stack, same_stack

# What has become of a node of the rollout.
TO_DO, SOAKING, SOAKED, FAILED, LEFT = "todo", "soaking", "soaked", "failed", "left"
SELF_REVERTED = "self-reverted"
NOTHING_UNDER_WAY = "no rollout is under way, so there is nothing to give up; use playbooks/rollback.yml to go back"
NO_SOAK: Json = {"minutes": 0, "blocks": 0, "forwards": 0, "extend_minutes": 0}


class AnotherPlanError(Exception):
    """The rollout under way does not go on in this run; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class UnderWay:
    """A rollout of which nodes speak.

    Attributes:
        rollout, plan: its id and the digest of its plan.
        waves: all its waves, ``name``, ``nodes`` and ``steps`` (a fingerprint for each of the nodes).
        records: what each node that was switched and stays so says of its stage.
        failed: nodes that were tried and went back, and why.
        self_reverted: those of them that went back by themselves, with no run to see it.
    """

    rollout: str
    plan: str
    waves: Sequence[Json]
    records: Mapping[str, Json]
    failed: Mapping[str, str]
    self_reverted: frozenset[str] = frozenset()

    @property
    def members(self) -> list[str]:
        return [str(node) for wave in self.waves for node in wave["nodes"]]

    def complete(self) -> bool:
        """Whether every node has either soaked or failed; one of which nothing is known may still have to be done."""
        soaked = {node for node, record in self.records.items() if record["state"] == SOAKED}
        return set(self.members) <= soaked | set(self.failed)

    def overdrawn(self, budget: int) -> bool:
        """Whether more nodes have failed than may; a canary never may."""
        return len(self.failed) > budget or bool(set(self.waves[0]["nodes"]) & set(self.failed))


def under_way(observed: Mapping[str, Json | None]) -> UnderWay | None:
    """The newest rollout that the nodes speak of; None when there is none, or when it was given up."""
    records = {node: dict(seen["soak"]) for node, seen in observed.items() if seen and seen.get("soak")}
    dead = abandoned(observed)
    living = {node: record for node, record in records.items() if record["plan"] not in dead}
    if not living:
        return None
    newest = max(living.values(), key=lambda record: (float(record["since"]), str(record["plan"])))
    own = {
        node: record
        for node, record in living.items()
        if (record["rollout"], record["plan"]) == (newest["rollout"], newest["plan"])
    }
    failed = {node: str(record.get("reason") or "") for node, record in own.items() if record["state"] == SELF_REVERTED}
    kept = {node: record for node, record in own.items() if node not in failed}
    for wave in newest["waves"]:
        for node in wave["nodes"]:
            why = _went_back(observed.get(node), str(newest["rollout"])) if node not in own else ""
            if why:
                failed[node] = why
    alone = frozenset(set(own) - set(kept))
    return UnderWay(str(newest["rollout"]), str(newest["plan"]), newest["waves"], kept, failed, alone)


def abandoned(observed: Mapping[str, Json | None]) -> set[str]:
    """The digests of all plans that were given up on one of the nodes."""
    return {str(plan) for seen in observed.values() if seen for plan in seen.get("abandoned") or []}


def _went_back(seen: Json | None, rollout: str) -> str:
    """Why a node is back on what it ran before after this rollout had tried it, "" when it was not tried."""
    for past in (seen or {}).get("history") or []:
        if past.get("rollout") != rollout:
            continue
        if past["result"] == "reverted" or (past["kind"] == "rollback" and past["result"] == "confirmed"):
            return str(past.get("reason") or f"{past['kind']} after {past.get('stage') or 'its stage'}")
        return ""
    return ""


def carry_on(
    going: UnderWay,
    desired: Mapping[str, Stack],
    observed: Mapping[str, Json | None],
    manifests: Mapping[str, Json],
    policy: Json,
    refusals: Sequence[Refusal] = (),
) -> Json:
    """The plan of a rollout that is under way, in the form of ``_plan.plan``.

    Each of its nodes has ``state`` beside its step, the plan ``later`` (nodes that need work and are not part of it)
    and ``under_way`` (its rollout). Refusals that concern only stages still to come do not keep a stage that soaks
    from being judged: with such a stage they are ``held`` instead.

    Args:
        policy: as of ``_plan.plan``, with ``failure_budget`` and ``fleet_nodes``, the names in the inventory.

    Raises:
        AnotherPlanError: what was approved is not what would be done now.
    """
    strange = sorted(set(going.records) - set(going.members))
    if strange:
        # Under its old name it would be left out, and its stage with it.
        raise AnotherPlanError(f"{strange[0]} soaks in it under another name, which the inventory does not have")
    part = _Part(going, desired, observed, manifests, {**policy, "rollout": going.rollout}, refusals)
    for node in going.members:
        part.member(node)
    later = part.others()
    states = part.states
    budget = int(policy.get("failure_budget") or 0)
    if going.overdrawn(budget) and not going.self_reverted and SOAKING not in states.values():
        why = "; ".join(f"{node}: {going.failed[node]}" for node in going.members if node in going.failed)
        raise AnotherPlanError(f"more of its nodes failed than hive_failure_budget allows ({why})")
    steps = {node: step for node, (_, step) in part.steps.items()}
    result: Json = {
        "schema": _plan.SCHEMA,
        "fleet": policy.get("fleet", ""),
        "terms": policy.get("terms") or {},
        "waves": [{"name": wave["name"], "nodes": list(wave["nodes"])} for wave in going.waves],
        "nodes": part.nodes,
        "refused": [refusal.as_dict() for refusal in part.refused],
        "held": [],
        "changes": len([node for node, state in states.items() if state in (TO_DO, SOAKING)]),
        "left": part.left,
        "later": later,
        "states": states,
        "under_way": {"rollout": going.rollout, "failed": dict(going.failed)},
    }
    result["spent"] = sorted(set(policy.get("spent") or ()) - {going.plan})
    result["digest"] = _plan.digest(result, steps, result["spent"])
    if result["digest"] != going.plan:
        raise AnotherPlanError("the soaks, the failure budget or hive_commit were changed since it was approved")
    if later and not {TO_DO, SOAKING} & set(states.values()):
        # A node that is gone for good never soaks; nobody waits for it.
        raise AnotherPlanError("nothing of it is left to do")
    if to_judge(result, going, budget):
        # What concerns the run as a whole forbids judging too: another that is under way, settings that make no sense.
        lost = [node for node, state in states.items() if state == SOAKING and node not in part.nodes]
        hard = [one for one in result["refused"] if one["node"] in lost or one["node"] not in states]
        result["held"] = [refusal for refusal in result["refused"] if refusal not in hard]
        result["refused"] = hard
    result["remarks"] = _remarks(result, policy)
    result["htlc_wait_seconds"] = policy.get("htlc_wait_seconds") or 0
    return result


@dataclass
class _Part:
    """What each node has to do with the rollout under way."""

    going: UnderWay
    desired: Mapping[str, Stack]
    observed: Mapping[str, Json | None]
    manifests: Mapping[str, Json]
    policy: Json
    given: Sequence[Refusal]

    def __post_init__(self) -> None:
        self.nodes: Json = {}
        self.states: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.refused: list[Refusal] = [*self.given, *guards.twins(self.observed)]
        numbers = [int(record["number"]) for record in self.going.records.values()]
        # A stage begins only once every earlier one has soaked.
        self.proven = max(numbers, default=0)
        self.steps = {
            str(node): (number, str(step))
            for number, wave in enumerate(self.going.waves)
            for node, step in zip(wave["nodes"], wave["steps"], strict=True)
        }

    def member(self, node: str) -> None:
        seen = self.observed.get(node)
        if node not in self.desired:
            if node in (self.policy.get("fleet_nodes") or []):
                raise AnotherPlanError(f"{node} is part of it and not of this run (--limit)")
            self._leave(node, f"{node} is no longer in the inventory")
        elif seen is None or not guards.reachable(seen):
            self._lost(node, seen)
        elif node in self.going.records:
            self._switched(node, seen, self.going.records[node])
        elif node in self.going.failed:
            self._state(node, seen, FAILED, self._idle(node, seen))
        else:
            self._to_do(node, seen)

    def others(self) -> list[str]:
        """The nodes of the run that are not in the rollout; those that need work, which a later one does."""
        later = []
        for node in sorted(set(self.desired) - set(self.going.members)):
            seen = self.observed.get(node)
            if seen is None or not guards.reachable(seen) or any(refusal.node == node for refusal in self.given):
                later.append(node)
                continue
            step = _plan.node_plan(seen, self.desired[node], self.manifests, self.policy)
            if step["action"] != "none":
                later.append(node)
            self.nodes[node] = {**self._idle(node, seen), "payments": _plan_remarks.payments(seen, [], self.policy)}
        # They are not touched, so what is wrong with them is no reason to stop.
        self.refused = [refusal for refusal in self.refused if refusal.node not in later]
        return later

    def _lost(self, node: str, seen: Json | None) -> None:
        number, _ = self.steps[node]
        found = guards.guard(node, seen, [], [], self.manifests, self.policy)
        if self.policy.get("unreachable") == "leave" and (number > 0 or self.proven > 0):
            self._leave(node, found[0].message)
            return
        self.refused += found
        # Of a node of a stage that soaks nothing can be judged without it.
        self.states[node] = SOAKING if number <= self.proven else TO_DO

    def _leave(self, node: str, why: str) -> None:
        self.left[node] = why
        self.states[node] = LEFT

    def _switched(self, node: str, seen: Json, record: Json) -> None:
        """A node that this rollout has switched: it is not planned again, its judge decides."""
        after = self.desired[node]
        if any(refusal.node == node for refusal in self.given):
            # Its own release cannot be had any more, but what it runs still has to be judged.
            after = record["target"]
        if not same_stack(record["target"], after):
            raise AnotherPlanError(f"hive_stack of {node}, which it has already changed, was changed since")
        if record["state"] == SOAKED:
            step = _plan.node_plan(seen, after, self.manifests, self.policy)
            if step["action"] not in ("none", "resume"):
                raise AnotherPlanError(f"{node}, which has soaked, needs work again ({step['steps'][0].strip()})")
            if step["action"] == "resume" and not record["soak"]["minutes"]:
                # Killed between its confirmation and the end of the run: the lock is still to be given back.
                self._state(node, seen, TO_DO, step)
                return
        before = _plan.normal(record["previous"])
        step = {**self._idle(node, seen), "action": record["action"], "before": before, "after": _plan.normal(after)}
        step["rollback"] = guards.rollback_class(before, after, self.manifests)
        self._state(node, seen, str(record["state"]), step)

    def _to_do(self, node: str, seen: Json) -> None:
        if any(refusal.node == node for refusal in self.given):
            raise AnotherPlanError(f"hive_stack of {node} was changed since")
        step, found = _plan.node_step(node, seen, self.desired[node], self.manifests, self.policy)
        if step["action"] not in ("resume", "revert", "none"):
            now = _plan.fingerprints({node: step})[node]
            if now != self.steps[node][1]:
                raise AnotherPlanError(f"hive_stack of {node}, or what runs there, was changed since")
        if step["action"] == "none":
            # Its stage did not soak, or the node was left on the target by something else than this rollout.
            self._state(node, seen, SOAKED, step)
            return
        self.refused += found
        self._state(node, seen, TO_DO, step)

    def _idle(self, node: str, seen: Json) -> Json:
        """The step of a node to which nothing is done in this run."""
        running = _plan.normal(_plan.running_stack(seen))
        nothing: Json = {"stage": [], "steps": [], "restart": None, "remake_container": False, "rollback": "safe"}
        return {"action": "none", "before": running, "after": running, **nothing}

    def _state(self, node: str, seen: Json, state: str, step: Json) -> None:
        self.states[node] = state
        self.nodes[node] = {**step, "payments": _plan_remarks.payments(seen, self.desired[node], self.policy)}


def unjudged(plan: Json, observed: Mapping[str, Json | None]) -> list[str]:
    """What an approver has to know of a plan that stands in for a rollout: who stays on what nobody judges any more."""
    found = []
    for node, step in plan["nodes"].items():
        soak = (observed.get(node) or {}).get("soak") or {}
        if step["action"] == "none" and soak.get("state") == SOAKING:
            found.append(
                f"{node} soaks in {soak['stage']} of rollout {soak['rollout']}, keeps what it runs, and is not judged "
                "any more; to take it back first, use playbooks/abort.yml"
            )
    return found


def _remarks(plan: Json, policy: Json) -> list[str]:
    found = [f"left out: {why}" for why in plan["left"].values()]
    if plan["later"]:
        who = ", ".join(plan["later"])
        found.append(f"not in this rollout, which began without them: {who}; run again when it is complete")
    todo = [node for node, state in plan["states"].items() if state == TO_DO and node in plan["nodes"]]
    if todo:
        found += _plan_remarks.terms(plan["terms"])
        most = max(plan["nodes"][node]["payments"]["blocks_needed"] for node in todo)
        found.append(f"payments in flight: a switch may need {most} blocks at worst, there and back")
    return found


def to_do(plan: Json, soaks: Mapping[str, Json], whole_fleet: bool = False) -> list[Json]:
    """The stages that this run takes, in order: those still to be done, up to the first that has to soak after it.

    Args:
        plan: of ``_plan.plan`` or ``carry_on``.
        soaks: ``canary`` and ``wave``: how long each has to soak.
        whole_fleet: whether nothing is kept before all of it is switched, so that no stage can soak in between.

    Returns:
        ``{"name", "number", "nodes", "soak"}`` each; the nodes are those still to be done.
    """
    states = plan.get("states") or {}
    stages = []
    for number, wave in enumerate(plan["waves"]):
        nodes = [node for node in wave["nodes"] if states.get(node, TO_DO) == TO_DO and node in plan["nodes"]]
        if not nodes:
            continue
        soak = soaks["canary" if number == 0 else "wave"]
        stages.append({"name": wave["name"], "number": number, "nodes": nodes, "soak": soak})
        if soak["minutes"] > 0 and not whole_fleet:
            break
    return stages


def to_judge(plan: Json, going: UnderWay, budget: int) -> list[Json]:
    """The stages to be judged before anything else is done.

    Args:
        plan: of ``carry_on``.
        going: its rollout.
        budget: how many nodes may fail.

    Returns:
        ``{"name", "number", "nodes", "failed", "soak"}`` each: the nodes that soak, and those that went back by
        themselves with the reason. A stage of which nodes are still to be done is finished first, unless one failed.
    """
    states, stages = plan["states"], []
    for number, wave in enumerate(plan["waves"]):
        nodes = [node for node in wave["nodes"] if states[node] == SOAKING and node in going.records]
        waiting = [node for node in wave["nodes"] if states[node] == TO_DO]
        alone = [node for node in wave["nodes"] if node in going.self_reverted]
        failed = {node: going.failed[node] for node in wave["nodes"] if node in going.failed}
        broken = bool(alone or (nodes and failed)) and going.overdrawn(budget)
        if not broken and (not nodes or waiting):
            continue
        soak = going.records[nodes[0]]["soak"] if nodes else NO_SOAK
        stages.append({"name": wave["name"], "number": number, "nodes": nodes, "failed": failed, "soak": soak})
    return stages


def given_up(observed: Mapping[str, Json | None]) -> Json:
    """What each node of the rollout under way needs so that it is given up.

    Returns:
        ``{"rollout", "nodes": {node: {"open", "back", "about"}}, "words"}``: whether its switch is still open, whether
        it was kept and goes back, and the stage to write down. No nodes when nothing is under way: a rollout that is
        complete is not given up, it is rolled back.
    """
    going = under_way(observed)
    rollout, nodes = "", {}
    if going is not None and not going.complete():
        rollout = going.rollout
        for number, wave in enumerate(going.waves):
            about = {"plan": going.plan, "name": wave["name"], "number": number}
            for node in wave["nodes"]:
                if node in going.records or node in going.self_reverted:
                    nodes[node] = {"open": False, "back": node in going.records, "about": about}
    for node, seen in observed.items():
        begun = (seen or {}).get("transaction") or {}
        if begun.get("stage") and begun["rollout"] == (rollout or begun["rollout"]):
            rollout = str(begun["rollout"])
            kept = nodes.get(node)
            nodes[node] = {"open": True, "back": kept is not None, "about": kept["about"] if kept else begun["stage"]}
    words = f"rollout {rollout} is given up: {', '.join(sorted(nodes))} goes back" if nodes else NOTHING_UNDER_WAY
    return {"rollout": rollout, "nodes": nodes, "words": words}
