"""Databases in a container's layer, brought into the network directory: what arrives, what is kept, after a kill."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.database_move import Step, move_databases
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from containers.field_node import TIMEOUTS, FieldNode, Maker, docker

pytestmark = pytest.mark.docker

REPOSITORY = Path(__file__).resolve().parents[2]
OLD = "/root/.lightning/cl_hive_comms.db"
ENGINE = """
import json, sys
sys.path.insert(0, {collections!r})
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.database_move import move_databases
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts
move_databases(Node.from_params(json.loads(sys.argv[1])), False, Timeouts(rpc=10.0, ready=30.0, engine=30.0))
"""


def moved(node: FieldNode, check_mode: bool = False) -> dict[str, Any]:
    """Move, as hive_databases does."""
    return move_databases(node.node, check_mode, TIMEOUTS)


def rows(path: Path) -> set[str]:
    """Return the keys in a database of the image's own plugin."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return {str(row[0]) for row in connection.execute("SELECT key FROM nostr_state")}
    finally:
        connection.close()


@pytest.mark.parametrize("nested", [True, False], ids=["net/net", "net"])
def test_an_identity_in_the_layer_is_reported_moved_and_survives_a_new_container(
    field_node: Maker, nested: bool
) -> None:
    node = field_node(environment={"HIVE_COMMS_ENABLED": "true"}, nested=nested)
    node.run()
    node.call("field-write", text="a row in the write-ahead log")
    identity = node.call("field-identity")
    problem = node.problems()["database-in-layer"]
    assert OLD in problem
    assert "Nostr identity" in problem
    assert "hive_move_databases=field" in problem
    with pytest.raises(HiveError) as refused:
        node.request()
    assert refused.value.code == "database-in-layer"
    planned = moved(node, check_mode=True)
    assert planned["changed"]
    assert OLD in node.observed()["container"]["databases_in_layer"], "check mode moved it"

    lightningd = node.call("getinfo")["id"], node.observed()["lightningd"]["pid"]
    result = moved(node)
    target = node.node.network_dir / "cl_hive_comms.db"
    assert [item["to"] for item in result["moved"]] == [node.node.to_inside(target)]
    assert rows(target) >= {"config:pubkey", "a row in the write-ahead log"}
    assert target.stat().st_mode & 0o777 == 0o600
    assert (target.with_name("comms.secrets").stat().st_mode & 0o777) == 0o400
    assert node.call("field-identity") == identity
    assert (node.call("getinfo")["id"], node.observed()["lightningd"]["pid"]) == lightningd, "lightningd was restarted"
    docker("exec", node.name, "test", "-f", result["moved"][0]["kept"])
    assert node.problems() == {}
    assert not moved(node)["changed"]

    # What the plugin writes now is in the new place, whoever starts it next.
    node.call("field-write", text="after the move")
    docker("restart", "--time", "10", node.name)
    node.wait()
    assert "after the move" in rows(target)
    assert node.call("field-identity")["pubkey"] == identity["pubkey"]

    node.request()
    node.request("confirmed")
    assert node.call("field-identity")["pubkey"] == identity["pubkey"]
    assert node.problems() == {}


def test_two_databases_of_one_plugin_are_for_the_operator_to_decide(field_node: Maker) -> None:
    node = field_node(environment={"HIVE_COMMS_ENABLED": "true"})
    node.run()
    other = node.node.network_dir / "cl_hive_comms.db"
    other.write_bytes(b"somebody's")
    with pytest.raises(HiveError, match="decide which one counts") as refused:
        moved(node)
    assert refused.value.code == "two-databases"
    assert other.read_bytes() == b"somebody's"
    assert node.call("field-identity")["rows"] == 1


@pytest.fixture(scope="module")
def killed_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FieldNode]:
    """One node for all kills."""
    node = FieldNode(tmp_path_factory.mktemp("killed"), environment={"HIVE_COMMS_ENABLED": "true"})
    try:
        node.run()
        yield node
    finally:
        node.remove()


# There is nothing before the first entry of the journal, and nothing after the last one.
POINTS = [(step, after) for step in Step for after in (False, True)][1:-1]


@pytest.mark.parametrize(("step", "after"), POINTS, ids=[f"{step.value}-{after}" for step, after in POINTS])
def test_killed_on_the_way_the_next_call_finishes(killed_node: FieldNode, step: Step, after: bool) -> None:
    node = killed_node
    node.call("field-write", text=f"{step.value} {after}")
    identity = node.call("field-identity")
    program = ENGINE.format(collections=str(REPOSITORY / "collections"))
    action = "kill-after" if after else "kill"
    environment = {**os.environ, "HIVE_FAULTS": "1", "HIVE_FAILPOINT": f"{step.value}:{action}"}
    argv = [sys.executable, "-c", program, json.dumps(node.node.as_params())]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert moved(node)["changed"]
    assert node.call("field-identity") == identity
    assert node.problems() == {}
    assert f"{step.value} {after}" in rows(node.node.network_dir / "cl_hive_comms.db")
    put_back(node)


def put_back(node: FieldNode) -> None:
    """Bring the database back into the layer, as if it had never been moved."""
    node.call("plugin", subcommand="stop", plugin="/opt/cl-hive-comms/cl-hive-comms.py")
    new = node.node.to_inside(node.node.network_dir)
    script = (
        f"cd {new} && rm -f {OLD} /root/.lightning/comms.secrets && mv cl_hive_comms.db comms.secrets /root/.lightning/"
    )
    docker("exec", node.name, "sh", "-c", f"{script} && rm -f cl_hive_comms.db-*")
    node.call("plugin", subcommand="start", plugin="/opt/cl-hive-comms/cl-hive-comms.py")
