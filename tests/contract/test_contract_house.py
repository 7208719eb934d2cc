"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from contract.repository import ROOT, tracked

LIMIT = 500


@pytest.mark.parametrize("path", tracked(".py", ".yml"), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_one_room(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LIMIT, f"{lines} lines: split it by what it is about"


def test_the_top_level_is_what_the_readme_promises() -> None:
    folders = "collections roles plugins_src playbooks inventories molecule docs sandbox tests"
    files = "pyproject.toml uv.lock ansible.cfg Makefile README.md CHANGELOG.md LICENSE .ci/run"
    missing = [name for name in f"{folders} {files}".split() if not (ROOT / name).exists()]
    assert not missing
    assert not (ROOT / "galaxy.yml").exists(), "molecule would change modes"


def test_nothing_is_swallowed() -> None:
    """No bare or blanket except that continues, and no ignore_errors."""
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno} bare except"
        for path in tracked(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    ignored = [
        f"{path.relative_to(ROOT)}:{number} ignore_errors"
        for path in tracked(".yml")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.match(r"\s*-?\s*ignore_errors\s*:", line)
    ]
    assert bare + ignored == []


def test_tests_wait_for_conditions() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in tracked(".py")
        if path.name.startswith("test_") or path.name == "conftest.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "sleep"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "time"
    ]
    assert not found, "use waiting.wait_until"


def test_no_path_of_one_machine() -> None:
    mine = Path(__file__).name
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(".py", ".yml", ".md", ".toml", ".sh", ".cfg", ".j2", "")
        if path.name not in (mine, "uv.lock")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        # Users that exist only on the machines and units of the tests are nobody's.
        if f"{ROOT}/" in line or re.search(r"/(home|Users)/(?!(deploy|cln|lightning)/)\w+/", line)
    ]
    assert not found


def test_the_lock_names_only_the_public_index() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text(encoding="utf-8")))
    assert hosts <= {"pypi.org", "files.pythonhosted.org"}


@pytest.mark.parametrize("target", ["rollout", "test", "lint", "bench", "sandbox-down", "clean"])
def test_make_has_the_target(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
