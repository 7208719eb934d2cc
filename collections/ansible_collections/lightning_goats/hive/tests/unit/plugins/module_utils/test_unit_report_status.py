"""The table of the fleet names what somebody should look at, in plain sentences."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _report_status
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    COMMS,
    Json,
    item,
    observation,
)

NOW = 2_000_000_000.0
CONTAINER: Json = {"name": "cln", "image": "i", "image_digest": None, "slots_mounted": True, "env": {"secret": "x"}}
OPEN: Json = {"id": "t", "rollout": "r", "phase": "switched", "deadline": NOW + 30, "target": [], "previous": []}


def status(**more: Any) -> Json:
    seen = {**observation("alpha", [item(COMMS)]), "backups": [{"created_at": NOW - 60}], **more}
    return _report_status.node_status(seen, "", NOW)


def test_a_node_without_anything_to_tell_is_ok() -> None:
    assert (status()["state"], status()["notes"]) == ("ok", [])
    assert status(container=CONTAINER, quarantine=[], deadman=None)["state"] == "ok"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"quarantine": [{"plugin": COMMS, "version": "0.2.0", "since": NOW - 7200, "reason": "lightningd died"}]},
            "0.2.0 is quarantined for 2 h (lightningd died)",
        ),
        ({"container": {**CONTAINER, "slots_mounted": False}}, "container cln does not see the slots"),
        ({"transaction": OPEN, "deadman": {"alive": True, "deadline": NOW + 30}}, "undoes itself in 30 s"),
        ({"transaction": OPEN, "deadman": {"alive": False, "deadline": NOW + 30}}, "has no dead-man running"),
        ({"probe": {"every": 30, "last_at": NOW - 3600}}, "the probe has taken no sample for 1 h"),
    ],
)
def test_what_needs_a_look_is_told(facts: Json, words: str) -> None:
    found = status(**facts)
    assert found["state"] == "attention"
    assert [note for note in found["notes"] if words in note], found["notes"]


def test_a_payment_that_expires_soon_is_told_and_one_that_does_not_is_not() -> None:
    height = observation("alpha", [])["lightningd"]["blockheight"]
    soon, later = ({"count": 1, "nearest_expiry": height + blocks} for blocks in (17, 18))
    assert status(pending_htlcs=soon)["notes"] == [
        "a payment in flight expires in 17 blocks: a switch would wait for it"
    ]
    assert status(pending_htlcs=later)["notes"] == []


def test_the_environment_of_a_container_stays_where_it_is() -> None:
    assert status(container=CONTAINER)["container"] == {
        "name": "cln",
        "image": "i",
        "image_digest": None,
        "slots_mounted": True,
    }
