#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_observe
short_description: Look at a node and return everything that decisions are made from
description:
  - One call returns lightningd, its channels and plugins, our slots and configuration, databases, backups and the
    open transaction.
  - A lightningd that does not answer is a fact (RV(observed.lightningd.running=false)), not a failure.
  - With O(soak_seconds) it also samples the node for a while, in the same call. It ends early when somebody sets the
    node's brake.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  soak_seconds:
    description: Seconds to sample for. V(0) takes no samples.
    type: float
    default: 0
  interval_seconds:
    description: Seconds between two samples.
    type: float
    default: 1
  since:
    description: Unix time before which lines of lightningd's log do not count in samples.
    type: float
    default: 0
attributes:
  check_mode:
    description: Looks only.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Look at the node
  lightning_goats.hive.hive_observe:
    node: "{{ __hive_common_node }}"
  register: __hive_preflight_result

- name: Sample it for a minute
  lightning_goats.hive.hive_observe:
    node: "{{ __hive_common_node }}"
    soak_seconds: 60
    interval_seconds: 5
"""

RETURN = r"""
observed:
  description: The facts. Unix times in seconds, amounts in msat, sizes in bytes.
  returned: always
  type: dict
  contains:
    lightningd:
      description: Whether it runs, since when, which version, node id, network, height, whether it is synced and ready.
      type: dict
    channels:
      description: Channels with their state, balance and HTLCs.
      type: list
    plugins:
      description: What C(plugin list) shows, with health and memory of ours.
      type: list
    stack:
      description: The resolved stack that runs from our slots.
      type: list
    transaction:
      description: The open switch, null when there is none.
      type: dict
    soak:
      description:
        - The stage that the node soaks in or has soaked in, null when there is none. Its rollout, plan, stage, number,
          waves, action and windows (C(soak)), since when and from which height, what it runs (C(target)), what it goes
          back to (C(previous)), and its C(state).
        - C(state) is soaking, soaked, or self-reverted when the node itself went back; C(reason) says why. When it
          could not, C(self_revert_failed) says why not.
      type: dict
    abandoned:
      description: Digests of the plans that were given up, the newest last, 20 at most.
      type: list
    brake:
      description: Why the brake is set, empty when it is not.
      type: str
    pause:
      description: Why the node is paused, empty when it is not.
      type: str
    problems:
      description: What an operator should know, each with a code and a sentence.
      type: list
samples:
  description:
    - Readings of the soak, the first at once, the last at the end of the window, or when the brake was set.
  returned: when O(soak_seconds) is not 0
  type: list
brake:
  description: Why the samples end early, empty when they do not.
  returned: when O(soak_seconds) is not 0
  type: str
"""

import time
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.brake import read_brake
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.observe import Observer

OPTIONS = {
    "soak_seconds": {"type": "float", "default": 0.0},
    "interval_seconds": {"type": "float", "default": 1.0},
    "since": {"type": "float", "default": 0.0},
}


# How soon a brake ends a soak.
SLICE_SECONDS = 1.0


def observe(parameters: dict[str, Any], _check_mode: bool) -> dict[str, Any]:
    """Sample for as long as asked, then return the whole picture."""
    node = Node.from_params(parameters["node"])
    result: dict[str, Any] = {"changed": False}
    if parameters["soak_seconds"] > 0:
        result.update(soak(node, parameters["soak_seconds"], parameters["interval_seconds"], parameters["since"]))
    result["observed"] = Observer(node).everything()
    return result


def soak(node: Node, seconds: float, interval: float, since: float) -> dict[str, Any]:
    """Sample a node until the time is over or its brake is set."""
    observer = Observer(node)
    end = time.monotonic() + seconds
    samples = [observer.sample(since)]
    following = time.monotonic() + interval
    braked = read_brake(node)
    while not braked and time.monotonic() < end:
        # A soak is time that passes; the node is asked at even distances and nothing announces the next one.
        time.sleep(max(0.0, min(SLICE_SECONDS, following - time.monotonic(), end - time.monotonic())))
        braked = read_brake(node)
        if braked or time.monotonic() >= min(following, end):
            samples.append(observer.sample(since))
            following = time.monotonic() + interval
    return {"samples": samples, "brake": braked}


def main() -> None:
    run(OPTIONS, observe)


if __name__ == "__main__":
    main()
