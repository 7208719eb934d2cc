"""The variables of a fleet are checked all at once, and each mistake is one sentence with the nodes that share it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _inputs

Json = dict[str, Any]

OPTIONS: dict[str, Json] = {
    "hive_runtime": {"type": "str", "choices": ["systemd", "docker", "process"], "default": "systemd"},
    "hive_container": {"type": "str", "default": ""},
    "hive_soak_seconds": {"type": "float", "default": 600},
    "hive_waves": {"type": "list", "elements": "raw", "default": [1]},
}


def test_good_variables_and_those_of_others_are_fine() -> None:
    good = {"hive_soak_seconds": "3", "hive_waves": [1, "25%"], "other": object()}
    assert _inputs.check(OPTIONS, {"a": good, "b": {}}) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hive_soak_seconds": "long"}, "hive_soak_seconds"),
        ({"hive_runtime": "podman"}, "hive_runtime must be one of: systemd, docker, process, got: podman"),
        ({"hive_runtime": "docker"}, "hive_container, the name of lightningd's container, is not set"),
        ({"hive_runtime": "docker", "hive_container": ""}, "hive_container"),
    ],
)
def test_a_mistake_names_its_nodes_once(values: Json, words: str) -> None:
    (sentence,) = _inputs.check(OPTIONS, {"alpha": values, "bravo": {}, "charlie": dict(values)})
    assert sentence.startswith("alpha, charlie: ")
    assert words in sentence
    assert sentence.endswith("then run again.")


def test_a_docker_node_with_a_container_is_fine() -> None:
    assert _inputs.check(OPTIONS, {"a": {"hive_runtime": "docker", "hive_container": "cln"}}) == []
