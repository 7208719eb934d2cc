"""Roles, modules and playbooks say what they take, and say it once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_run
from contract.repository import COLLECTION, ROOT, load, modules, playbooks, roles, tracked

HEADINGS = ("What it does", "When", "Before you start", "Command", "Expected output", "Abort point", "Downtime", "Undo")


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.name


@pytest.mark.parametrize("role", roles(), ids=_name)
def test_defaults_and_argument_specs_say_the_same(role: Path) -> None:
    spec_file, defaults_file = role / "meta/argument_specs.yml", role / "defaults/main.yml"
    assert spec_file.is_file(), "every role describes its variables"
    spec = next(iter(load(spec_file)["argument_specs"].values())).get("options") or {}
    defaults = (load(defaults_file) or {}) if defaults_file.is_file() else {}
    assert set(defaults) <= set(spec), "a default without words"
    for name, option in spec.items():
        assert option.get("description"), f"{name} has no description"
        if name in defaults:
            assert option.get("default") == defaults[name], f"{name}: the two defaults differ"
            assert not option.get("required"), f"{name} has a default and is required"
        else:
            assert "default" not in option, f"{name}: default only in the words"


def test_defaults_that_are_needed_where_no_role_is_are_those_of_the_roles() -> None:
    """A run looks for brakes on all nodes of the fleet, also on those of whose roles it knows nothing."""
    assert load(ROOT / "roles/hive_common/defaults/main.yml")["hive_state_dir"] == _plan_run.STATE_DIR
    assert load(ROOT / "roles/hive_probe/defaults/main.yml")["hive_probe_interval_seconds"] == _plan_run.PROBE_SECONDS


@pytest.mark.parametrize("path", modules(), ids=_name)
def test_a_module_is_documented_and_honest_about_check_mode(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    blocks = {
        k: re.search(rf'^{k} = r?"""(.*?)"""', text, re.S | re.M) for k in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    }
    assert all(blocks.values()), "DOCUMENTATION, EXAMPLES and RETURN"
    documentation = yaml.safe_load(blocks["DOCUMENTATION"].group(1))  # type: ignore[union-attr]
    assert documentation["module"] == path.stem
    assert {"check_mode", "diff_mode"} <= set(documentation.get("attributes", {})), "say what check and diff do"
    examples = yaml.safe_load(blocks["EXAMPLES"].group(1))  # type: ignore[union-attr]
    assert any(f"lightning_goats.hive.{path.stem}" in task for task in examples), "examples use the full name"


@pytest.mark.parametrize("path", playbooks(), ids=_name)
def test_a_playbook_has_a_spec_and_a_runbook(path: Path) -> None:
    meta = path.with_suffix(".meta.yml")
    assert meta.is_file(), "argument spec beside the playbook"
    options = [name for spec in load(meta)["argument_specs"].values() for name in spec.get("options") or {}]
    runbook = ROOT / "docs/runbooks" / f"{path.stem}.md"
    assert runbook.is_file(), "a runbook with the playbook's name"
    text = runbook.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert [h for h in HEADINGS if h not in headings] == []
    assert f"playbooks/{path.name}" in text
    assert [name for name in options if f"`{name}" not in text] == [], "variables that the runbook leaves out"


def test_every_task_is_fully_named() -> None:
    """Only collections that a fresh checkout has: core's own and ours."""
    allowed = ("ansible.builtin.", "lightning_goats.hive.")
    found = {
        (str(path.relative_to(ROOT)), word)
        for path in tracked(".yml")
        if str(path.relative_to(ROOT)).startswith(("playbooks/", "roles/"))
        for word in re.findall(r"^\s+(?:- )?([a-z_]+\.[a-z_]+\.[a-z_]+):", path.read_text(encoding="utf-8"), re.M)
        if not word.startswith(allowed)
    }
    assert not found


def test_every_module_is_in_the_collection_s_runtime_group() -> None:
    runtime = load(COLLECTION / "meta/runtime.yml")
    assert sorted(runtime["action_groups"]["hive"]) == sorted(p.stem for p in modules())


def test_the_generated_reference_is_up_to_date() -> None:
    script = ROOT / "scripts/generate_reference.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_changelog_names_the_version() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert load(COLLECTION / "galaxy.yml")["version"] == version
