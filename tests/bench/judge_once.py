"""One verdict in a process of its own, which says how long it took and how much memory: see suite_judge."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils import _judge_soak, _series

SINCE = 1_790_000_000.0


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    begun = time.process_time()
    series = {node: _series.unpack(packed) for node, packed in given["series"].items()}
    unpacked = time.process_time()
    subjects = {
        node: _judge_soak.SoakSubject(SINCE, 800_000, series.pop(node), given["expected"], 0) for node in given["stage"]
    }
    policy: dict[str, float] = {
        "minutes": 4320,
        "blocks": 432,
        "forwards": 20,
        "extend_minutes": 1440,
        "interval_seconds": 60,
    }
    policy |= {"now": SINCE + 4320 * 60.0, "accepted": False}
    answer = _judge_soak.judge_soak(subjects, series, policy)
    # From the very start, the interpreter and its libraries included.
    said = {"cpu": time.process_time(), "unpacking": round(unpacked - begun, 3), "verdict": answer["verdict"]}
    print(json.dumps({**said, "kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


if __name__ == "__main__":
    main()
