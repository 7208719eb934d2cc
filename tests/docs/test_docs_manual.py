"""The guide by hand, run from its Markdown; by itself, and in turns with Ansible on the same node."""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flows.flow_fleet import Fleet

from docs import hand, transcript

GUIDE = hand.MANUAL
FULL = [{"name": name, "version": "0.1.0"} for name in ("cl-hive-comms", "cl-hive-archon", "cl-hive")]
FULL[0]["options"] = {"hive-comms-policy-preset": "conservative"}  # type: ignore[assignment]
UPGRADED = [{**FULL[0], "version": "0.1.1"}, *FULL[1:]]
StartFleet = Callable[..., Fleet]


def values(fleet: Fleet, node: str) -> dict[str, str]:
    """What an operator of this node writes under "Your node"."""
    facts = json.loads((fleet.sandbox / node / "node.json").read_text(encoding="utf-8"))
    return {
        "LIGHTNING_DIR": facts["lightning_dir"],
        "NETWORK": facts["network"],
        "CONFIG": f"{facts['lightning_dir']}/config",
        "LIGHTNINGD": " ".join(facts["lightningd"]),
        "LIGHTNING_CLI": " ".join(facts["lightning_cli"]),
        "LIGHTNING_USER": pwd.getpwuid(os.getuid()).pw_name,
        "STATE_DIR": facts["state_dir"],
        "PYTHON": os.path.realpath(sys.executable),
        "INCOMING": str(fleet.shelf.releases),
        "SIGNERS": str(fleet.shelf.signers),
        "SIGNER": "release@sandbox",
    }


def plugin_pids(fleet: Fleet, node: str) -> set[int]:
    """The processes that run from the node's slots."""
    slots = f"{fleet.sandbox / node}/hive/slots/"
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if slots.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.slow
def test_the_guide_does_what_it_says_from_the_top_to_the_bottom(start_fleet: StartFleet) -> None:
    fleet = start_fleet(1)
    facts = values(fleet, "alpha")
    before = Path(facts["CONFIG"]).read_text(encoding="utf-8")
    done = transcript.run(GUIDE, facts, fleet.root, os.environ)
    assert done > 60
    assert Path(facts["CONFIG"]).read_text(encoding="utf-8") == before, "nothing is left behind"
    network = Path(facts["LIGHTNING_DIR"], facts["NETWORK"])
    assert (network / "cl_hive_comms.db").is_file(), "the data stays"
    saved = sorted(Path(facts["STATE_DIR"], "backups-by-hand").iterdir())
    assert {path.name for path in saved[0].iterdir()} >= {"cl_hive_comms.db", "comms.secrets", "hive.conf"}
    assert all(path.stat().st_mode & 0o077 == 0 for place in saved for path in place.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ansible_takes_over_what_was_made_by_hand_and_the_other_way_round(start_fleet: StartFleet) -> None:
    fleet = start_fleet(1, hive_stack=FULL, hive_python=os.path.realpath(sys.executable))
    operator = hand.Hand(fleet.root)
    with operator.shell:
        operator.do(GUIDE, hand.OWN, hand.TOOLS, values=values(fleet, "alpha"))
        operator.do(GUIDE, "Look first", "Install")

        # A node that was made by hand is taken over without stopping anything.
        lightningd, plugins = fleet.pid("alpha"), plugin_pids(fleet, "alpha")
        plan = fleet.good("rollout").text
        assert re.search(r"take over cl-hive-comms 0\.1\.0 \(\w+\), installed by hand", plan), plan
        assert not re.search(r"(start|stop) cl-hive", plan), plan
        assert fleet.report["nodes"]["alpha"]["result"] == "confirmed"
        assert (fleet.pid("alpha"), plugin_pids(fleet, "alpha")) == (lightningd, plugins)

        # What Ansible manages can be upgraded by hand, and that is taken over too.
        operator.do(GUIDE, "Look first", "Upgrade")
        assert fleet.version("alpha", "hive-comms") == "0.1.1"
        plugins = plugin_pids(fleet, "alpha")
        fleet.good("rollout", hive_stack=UPGRADED)
        assert plugin_pids(fleet, "alpha") == plugins
        assert "Nothing to change" in fleet.good("rollout", hive_stack=UPGRADED).text

        # The playbook takes back what was upgraded by hand, and hands take away what the playbook has put there.
        fleet.good("rollback")
        assert fleet.version("alpha", "hive-comms") == "0.1.0"
        operator.do(GUIDE, "Look first", "Uninstall")
        assert fleet.pid("alpha") == lightningd, "lightningd was never restarted"
        assert plugin_pids(fleet, "alpha") == set()
