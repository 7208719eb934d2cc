"""docs/reference/cl-hive.md names everything there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from cl_hive import errors
from cl_hive.main import SPEC
from cl_hive.options import DECLARED_ONLY, HONOURED
from cl_hive.protocol.features import REQUIREMENTS
from cl_hive.protocol.messages import TABLE
from hive_kit.errors import HiveError
from hive_kit.store import schema_tables

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "cl-hive.md").read_text("utf-8")
SERVICES = Path(__file__).parents[1] / "src" / "cl_hive" / "services"


def test_options_and_their_defaults() -> None:
    shown = {option.name: str(option.wire_default) for option in SPEC.options}
    shown = {name: {"True": "true", "False": "false"}.get(value, value) for name, value in shown.items()}
    cells = re.findall(r"\| `(hive-[a-z-]+)` \| (?:`([^`]*)` )?\|", PAGE)
    assert dict(cells) == shown
    assert len(cells) == len(shown)


def test_which_options_have_an_effect() -> None:
    effective, declared = PAGE.split("Checked but without effect")
    assert set(re.findall(r"^\| `(hive-[a-z-]+)`", effective, re.MULTILINE)) == HONOURED
    assert all(f"| `{name}` |" in declared for name in DECLARED_ONLY)


def test_methods_and_their_parameters() -> None:
    listed = re.findall(r"^### (hive-[a-z0-9-]+)(?: `([^`]*)`)?$", PAGE, re.MULTILINE)
    known = [(method.name, method.usage) for method in SPEC.methods]
    assert sorted(listed) == sorted([*known, (SPEC.health_rpc, "")])


def test_codes() -> None:
    own = {
        str(kind.code)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, HiveError) and kind.code > 6100
    }
    assert set(re.findall(r"^\| (61\d\d) \|", PAGE, re.MULTILINE)) == own


def test_messages_with_their_fields() -> None:
    rows = {cells[1]: cells for cells in (line.strip("|").split(" | ") for line in PAGE.splitlines() if "| 32" in line)}
    assert {name: int(cells[0]) for name, cells in rows.items()} == {spec.name: spec.number for spec in TABLE}
    for spec in TABLE:
        signature = spec.signed.field if spec.signed else ""
        missing = [name for name in spec.required if name not in rows[spec.name][2] and name != signature]
        assert not missing, f"{spec.name} lacks {missing}"


def test_reasons_a_joiner_may_hear() -> None:
    said = re.findall(r'_RefusalError\(\s*"([a-z_]+)"', (SERVICES / "gatekeeper.py").read_text("utf-8"))
    assert said
    assert not [code for code in said if code != "not_you" and f"`{code}`" not in PAGE]
    told = re.findall(r'reason="([a-z_]+)"', (SERVICES / "joiner.py").read_text("utf-8"))
    assert told
    assert not [code for code in told if f"`{code}`" not in PAGE]


def test_tables_and_requirements() -> None:
    for name in (*schema_tables(SPEC.name, SPEC.migrations), SPEC.database):
        assert f"`{name}`" in PAGE
    for requirement in REQUIREMENTS:
        assert f"{requirement.bit} {requirement.name.replace('onion-messages', 'onion messages')}" in PAGE
