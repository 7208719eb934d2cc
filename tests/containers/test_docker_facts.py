"""What is seen of a container before anything is done to it, and lightningd brought back inside one."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import PROC
from containers.field_node import START_SECONDS, Maker, docker
from waiting import wait_until

pytestmark = pytest.mark.docker


def test_a_config_that_the_entrypoint_writes_anew_is_no_place_for_the_include(field_node: Maker) -> None:
    node = field_node()
    node.run()
    assert node.problems() == {}, "the network's own config is left alone by the entrypoint"
    good = node.node
    node.node = dataclasses.replace(good, config_file=good.lightning_dir / "config")
    problem = node.problems()["config-regenerated"]
    assert str(good.network_dir / "config") in problem


def test_a_user_that_lightningd_does_not_run_as_is_noticed(field_node: Maker) -> None:
    node = field_node()
    node.run()
    node.node = dataclasses.replace(node.node, user="")
    assert "hive_user" in node.problems()["owner-differs"]


def test_another_directory_than_the_containers_is_noticed(field_node: Maker) -> None:
    node = field_node()
    other = field_node()
    node.run()
    node.node = dataclasses.replace(node.node, lightning_dir=other.node.lightning_dir)
    assert str(node.volume) in node.problems()["other-directory"]


def test_a_container_that_is_not_there_is_a_sentence(field_node: Maker) -> None:
    node = field_node()
    observed = node.observed()
    assert observed["container"] is None
    assert any("hive_container" in item["message"] for item in observed["problems"])


def test_lightningd_that_died_under_a_supervisor_is_waited_for(field_node: Maker) -> None:
    node = field_node()
    node.run()
    machine = node.machine()
    who = machine.identity()
    assert who is not None
    container = node.document()["State"]["StartedAt"]
    os.kill(who.pid, signal.SIGKILL)
    machine.rpc.close()
    assert machine.wait_gone(who, 10)
    machine.runtime.start_lightningd([], 60.0)
    assert machine.wait_answer(START_SECONDS)
    assert node.document()["State"]["StartedAt"] == container, "the container itself was not restarted"
    machine.rpc.close()


def test_a_command_that_hangs_is_ended_inside(field_node: Maker) -> None:
    node = field_node()
    node.run()
    machine = node.machine()
    started = time.monotonic()
    done = machine.runtime.run(["sleep", "7531"], 1.0)
    assert done.rc is None
    assert time.monotonic() - started < 10

    def sleeps() -> bool:
        commands = [entry / "cmdline" for entry in PROC.iterdir() if entry.name.isdigit()]
        return any(b"sleep\0007531\0" in path.read_bytes() for path in commands if path.exists())

    wait_until(lambda: not sleeps(), 5, "no sleep is left behind")
    assert docker("exec", node.name, "echo", "still there") == "still there"
    machine.rpc.close()
