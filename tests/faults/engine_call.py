"""The engine as a program for fault tests: one request as JSON on the command line, one outcome as JSON on stdout."""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.finalize import FinalizeRequest, finalize
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Request
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.restore import RestoreRequest, restore
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.soak_undo import undo
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.switch import Switch
from faults.rig import TIMEOUTS


def main() -> int:
    call = json.loads(sys.argv[1])
    changes: dict[str, Any] = {
        "deadman_seconds": 60.0,
        "min_free_bytes": 1 << 20,
        "backup_max_age_seconds": 0.0,
        "backup_keep": 3,
    }
    changes |= {"rollout": "r1", **call["changes"]}
    if "file_bytes" in changes:
        # A file that may not grow any more is a full disk to whoever writes it.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = int(changes.pop("file_bytes"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    node = Node.from_params(call["node"])
    set_id, phrase = changes.pop("set_id", ""), changes.pop("phrase", "")
    early, settings = changes.pop("early", ""), changes.pop("self_undo", None)
    request = Request(state=call["state"], stack=call["stack"], timeouts=TIMEOUTS, **changes)
    try:
        if settings is not None:
            outcome = {"told": undo(node, settings)}
        elif set_id:
            outcome = restore(node, RestoreRequest(set_id, True, phrase, request))
        elif early:
            outcome = finalize(node, FinalizeRequest(request.rollout, 0.0, early, timeouts=TIMEOUTS))
        else:
            outcome = Switch(node, request).run()
    except HiveError as error:
        sys.stdout.write(json.dumps({**error.data, "error": error.message, "code": error.code}))
        return 1
    sys.stdout.write(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
