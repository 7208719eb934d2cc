"""docs/reference/cl-hive-comms.md names everything there is, and nothing else."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from cl_hive_comms.main import SPEC
from cl_hive_comms.services.advisor_service import PERMISSIONS
from cl_hive_comms.services.policy import PRESET_RULES
from hive_kit.store import schema_tables

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "cl-hive-comms.md").read_text("utf-8")


def test_options_and_their_defaults() -> None:
    listed = dict(re.findall(r"^\| `(hive-comms-[a-z-]+)` \| `([^`]*)`", PAGE, re.MULTILINE))
    shown = {option.name: str(option.wire_default) for option in SPEC.options}
    shown = {name: {"True": "true", "False": "false"}.get(value, value) for name, value in shown.items()}
    assert listed == shown


def test_methods_and_their_parameters() -> None:
    listed = re.findall(r"^### (hive-[a-z-]+)(?: `([^`]*)`)?$", PAGE, re.MULTILINE)
    known = [(method.name, method.usage) for method in SPEC.methods]
    assert sorted(listed) == sorted([*known, (SPEC.health_rpc, "")])


@pytest.mark.parametrize("method", SPEC.methods, ids=lambda method: str(method.name))
def test_other_spellings(method: object) -> None:
    for field in fields(method.params):  # type: ignore[attr-defined]
        for alias in field.metadata["hive_kit.param"].aliases:
            assert f"(`{alias}`)" in PAGE


@pytest.mark.parametrize(
    "rule", ["max_fee_change_per_24h_pct", "max_rebalance_sats", "confirm_from_danger", "max_danger"]
)
def test_numbers_of_the_presets(rule: str) -> None:
    numbers = [str(PRESET_RULES[preset][rule]) for preset in ("conservative", "moderate", "aggressive")]
    assert f"| `{rule}` | {' | '.join(numbers)} |" in PAGE


def test_permissions_and_tables() -> None:
    for name in (*PERMISSIONS, *schema_tables(SPEC.name, SPEC.migrations), SPEC.database, *SPEC.key_files):
        assert f"`{name}`" in PAGE
