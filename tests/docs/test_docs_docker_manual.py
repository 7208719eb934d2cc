"""The guide by hand in a container, run from its Markdown on a container laid out as the field's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.field_node import INSIDE_STATE, FieldNode, docker
from docs.hand import CONTAINER, MANUAL, OWN, TOOLS, Hand
from flows.flow_fleet import Shelf


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FieldNode]:
    """A running container that sees its slots."""
    made = FieldNode(tmp_path / "node", see_slots=True)
    try:
        made.run()
        yield made
    finally:
        made.remove()


def values(node: FieldNode, shelf: Shelf) -> dict[str, str]:
    """What an operator of this container writes under "Your node"."""
    return {
        "CONTAINER": node.name,
        "LIGHTNING_DIR": str(node.node.lightning_dir),
        "INSIDE_LIGHTNING_DIR": node.inside,
        "NETWORK": "regtest",
        "CONFIG": str(node.node.config_file),
        "LIGHTNING_USER": "0",
        "STATE_DIR": str(node.state_dir),
        "INSIDE_STATE_DIR": INSIDE_STATE,
        "PYTHON": "/usr/bin/python3",
        "INSIDE_PYTHON": "/usr/bin/python3",
        "INCOMING": str(shelf.releases),
        "SIGNERS": str(shelf.signers),
        "SIGNER": "release@sandbox",
    }


def ours(node: FieldNode) -> list[str]:
    """The names of the active plugins that run from slots."""
    listed = node.call("plugin", subcommand="list")["plugins"]
    return [Path(item["name"]).name for item in listed if item["name"].startswith(INSIDE_STATE) and item["active"]]


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_guide_does_in_a_container_what_it_says(node: FieldNode, plugins_shelf: Shelf, tmp_path: Path) -> None:
    operator = Hand(tmp_path)
    with operator.shell:
        operator.do(CONTAINER, OWN, values=values(node, plugins_shelf))
        operator.do(MANUAL, TOOLS)
        operator.do(CONTAINER, TOOLS)
        operator.do(MANUAL, "Look first", "Install")
        assert ours(node) == ["cl-hive-comms", "cl-hive-archon", "cl-hive"]

        docker("restart", node.name)
        node.wait()
        assert sorted(ours(node)) == ["cl-hive", "cl-hive-archon", "cl-hive-comms"], "they come back with lightningd"

        operator.do(MANUAL, "Look first", "Upgrade", "Rollback", "Uninstall", "When it goes wrong")
    assert ours(node) == []
    docker("restart", node.name)
    node.wait()
    assert ours(node) == [], "lightningd starts without them"
