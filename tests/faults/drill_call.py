"""`python -m faults.drill_call <node> <artifact> <set>`, all JSON: a drill in a process that can be killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils._drill import Drill, DrillRequest
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_scratch import Artifact
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node

if __name__ == "__main__":
    node, lightningd, set_id = (json.loads(word) for word in sys.argv[1:])
    brought = Artifact(lightningd["digest"], lightningd["wheels"], Path(lightningd["incoming"]))
    sys.stdout.write(json.dumps(Drill(Node.from_params(node), DrillRequest(brought, set_id)).run()))
