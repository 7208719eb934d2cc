#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_samples
short_description: Read what a node's probe saw
description:
  - Returns the samples that the probe of M(lightning_goats.hive.hive_probe) keeps on the node, as columns over time
    and packed into one word - a week of them is some hundred kilobytes. The judge of a soak and the report read it.
  - A node without a probe, or one whose samples are damaged, has none. It changes nothing.
author: [Lightning Hive Rollout contributors]
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  since:
    description: Unix time of the first sample to return. V(0) is everything that is kept.
    type: float
    default: 0
attributes:
  check_mode:
    support: full
    description: Looks only.
  diff_mode:
    support: none
    description: Changes nothing, so there is nothing to show.
"""

EXAMPLES = r"""
- name: Read what the probe saw since yesterday
  lightning_goats.hive.hive_samples:
    node: "{{ __hive_common_node }}"
    since: "{{ now(utc=true).timestamp() - 86400 }}"
  register: samples
"""

RETURN = r"""
series:
  description: The columns, as base64 of zlib of canonical JSON.
  type: str
  returned: success
count:
  description: How many samples it holds.
  type: int
  returned: success
first:
  description: Unix time of the oldest, null when there is none.
  type: float
  returned: success
last:
  description: Unix time of the newest, null when there is none.
  type: float
  returned: success
"""

import math
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe import ring_file
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_ring import each_sample
from ansible_collections.lightning_goats.hive.plugins.module_utils._series import cut, from_samples, pack

OPTIONS: dict[str, Any] = {"since": {"type": "float", "default": 0.0}}
# What was before tells a restart from a plugin that is new.
EARLIER_SECONDS = 3600


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Read, and say in one sentence how much."""
    node, since = Node.from_params(parameters["node"]), float(parameters["since"])
    series = cut(from_samples(each_sample(ring_file(node), since - EARLIER_SECONDS)), since, math.inf)
    facts = {name: series[name] for name in ("count", "first", "last")}
    return {"changed": False, "series": pack(series), **facts, "msg": f"{series['count']} samples"}


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
