"""A container made anew: what stays, what is refused, and where a kill or a failure leaves the node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.container_settings import differences
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.recreation import Step
from containers.field_node import INSIDE_STATE, TIMEOUTS, FieldNode, Maker, docker
from waiting import wait_until

pytestmark = pytest.mark.docker

REPOSITORY = Path(__file__).resolve().parents[2]
SLOTS = f"{INSIDE_STATE}/slots"
ENGINE = """
import json, sys
sys.path.insert(0, {collections!r})
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.recreate import ContainerRequest, container
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts
node = Node.from_params(json.loads(sys.argv[1]))
timeouts = Timeouts(rpc=10.0, ready=30.0, engine=60.0)
container(node, ContainerRequest("mounted", "test", allow_restart=True, wait_seconds=1.0, timeouts=timeouts))
"""


def die_at(node: FieldNode, step: Step, after: bool) -> None:
    """Run the engine in a process of its own that is killed at a step."""
    program = ENGINE.format(collections=str(REPOSITORY / "collections"))
    environment = {
        **os.environ,
        "HIVE_FAULTS": "1",
        "HIVE_FAILPOINT": f"{step.value}:{'kill-after' if after else 'kill'}",
    }
    argv = [sys.executable, "-c", program, json.dumps(node.node.as_params())]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def runs_as_before(node: FieldNode, container: str) -> bool:
    """Whether the node's own container, the old one, runs and its lightningd answers."""
    found = docker("container", "inspect", "--format", "{{.Id}} {{.State.Running}}", node.name, check=False)
    machine = node.machine()
    try:
        return found == f"{container} true" and machine.answers(2.0)
    finally:
        machine.rpc.close()


def test_everything_but_the_mount_stays(field_node: Maker) -> None:
    node = field_node()
    node.run()
    before, info = node.document(), node.call("getinfo")
    result = node.request()
    after = node.document()
    assert result["changed"]
    assert result["phase"] == "mounted"
    assert after["Id"] != before["Id"]
    assert differences(before, after, SLOTS) == []
    assert after["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]
    assert node.call("getinfo")["id"] == info["id"]
    docker("exec", node.name, "sh", "-c", f"! touch {SLOTS}/x 2>/dev/null")
    kept = node.document(result["kept"])
    assert kept["Id"] == before["Id"]
    assert not kept["State"]["Running"]
    # Docker must never bring the old one back by itself: two lightningds with the same keys.
    assert kept["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert node.observed()["container"]["kept"] == result["kept"]
    assert not node.request()["changed"]
    assert node.request("confirmed")["changed"]
    assert node.leftovers() == [node.name]
    assert not node.request("confirmed")["changed"]
    assert not list((node.state_dir / "container").glob("2*.json")), "the operator's environment is kept no longer"


def test_the_journal_holds_no_secret_of_the_environment(field_node: Maker) -> None:
    node = field_node()
    node.run()
    node.request()
    assert "a-secret-of-the-operator" not in node.node.journal_file.read_text()
    assert "a-secret-of-the-operator" not in json.dumps(node.observed())


def test_without_leave_it_only_says_why(field_node: Maker) -> None:
    node = field_node()
    node.run()
    container = node.document()["Id"]
    with pytest.raises(HiveError, match="hive_allow_lightningd_restart=true") as refused:
        node.request(allow_restart=False)
    assert refused.value.code == "needs-restart"
    assert node.request(check_mode=True)["phase"] == "planned"
    assert node.document()["Id"] == container


def test_a_payment_that_could_expire_keeps_it_as_it_is(field_node: Maker) -> None:
    node = field_node()
    node.run()
    container, started = node.document()["Id"], node.document()["State"]["StartedAt"]
    node.open_channel()
    node.call("sandbox-fault", fault="htlc-expiring")
    with pytest.raises(HiveError) as refused:
        node.request()
    assert refused.value.code == "htlc-expiry"
    assert node.document()["Id"] == container
    assert node.document()["State"]["StartedAt"] == started, "lightningd was not restarted"
    assert node.document()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert node.leftovers() == [node.name]


def test_a_new_container_that_does_not_start_gives_way_to_the_old_one(field_node: Maker) -> None:
    node = field_node(environment={"BREAK_WITH_SLOTS": "yes"})
    node.run()
    container = node.document()["Id"]
    with pytest.raises(HiveError, match="the old container runs again") as failed:
        node.request()
    assert failed.value.data["phase"] == "undone"
    assert runs_as_before(node, container)
    assert node.document()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert node.leftovers() == [node.name]


def test_it_can_be_taken_back(field_node: Maker) -> None:
    node = field_node()
    node.run()
    container = node.document()["Id"]
    node.request()
    assert node.request("reverted")["phase"] == "undone"
    assert runs_as_before(node, container)
    assert node.leftovers() == [node.name]


@pytest.fixture(scope="module")
def killed_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FieldNode]:
    """One node for all kills: after each, the old container runs again."""
    node = FieldNode(tmp_path_factory.mktemp("killed"))
    try:
        node.run()
        yield node
    finally:
        node.remove()


STEPS = [Step.STOP, Step.RENAME, Step.CREATE, Step.START, Step.VERIFY]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.value)
def test_killed_on_the_way_the_old_container_comes_back(killed_node: FieldNode, step: Step, after: bool) -> None:
    container = killed_node.document()["Id"]
    die_at(killed_node, step, after)
    wait_until(lambda: runs_as_before(killed_node, container), 60, "the watcher brings the old container back")
    wait_until(lambda: "recreation-open" not in killed_node.problems(), 20, "the journal says so")
    assert killed_node.leftovers() == [killed_node.name]
    assert killed_node.document()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


@pytest.mark.parametrize("step", [Step.BEGIN, Step.CREATE], ids=lambda step: step.value)
def test_with_the_watcher_killed_too_the_next_call_goes_on(field_node: Maker, step: Step) -> None:
    node = field_node()
    node.run()
    watcher = node.state_dir / "container" / "watch.json"
    # Stopped, it cannot act before it is killed for good.
    program = subprocess.Popen(
        [
            "sh",
            "-c",
            f"until pid=$(grep -o '\"watcher\":[1-9][0-9]*' {watcher} 2>/dev/null); do :; done; kill -9 ${{pid#*:}}",
        ]
    )
    try:
        die_at(node, step, after=step is Step.BEGIN)
    finally:
        if step is Step.BEGIN:
            program.kill()
        program.wait(30)
    assert "recreation-open" in node.problems()
    result = node.request(timeouts=TIMEOUTS)
    assert result["phase"] == "mounted"
    assert node.observed()["container"]["slots_mounted"]
    node.request("confirmed")
    assert node.leftovers() == [node.name]
