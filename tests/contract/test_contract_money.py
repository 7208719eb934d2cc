"""The money rules: nothing here writes, moves or restores what holds the operator's funds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from contract.repository import ROOT, tracked

# lightningd's wallet, the seed, and the newest channel backup.
SACRED = re.compile(r"lightningd\.sqlite3|hsm_secret|emergency\.recover")
# The fake *is* a lightningd: it keeps its own wallet, as the real one does.
OF_LIGHTNINGD_ITSELF = ("sandbox/",)
TESTS = ("/tests/", "tests/", "molecule/")
WRITING = re.compile(
    r"\b(unlink|rename|replace|write_text|write_bytes|copy2?|copyfile|move|rmtree|remove|truncate|chmod|symlink|link|"
    r"backup|executescript)\b|mode\s*=\s*[\"'](rw|rwc)|open\([^)]*[\"'][wax+]"
)
IN_YAML = re.compile(r"^\s*(src|dest|path|argv|cmd|creates)\s*:", re.I)


def _code() -> list[Path]:
    return [
        p
        for p in tracked(".py", ".yml", ".sh", ".j2", "")
        if not str(p.relative_to(ROOT)).startswith((*OF_LIGHTNINGD_ITSELF, *TESTS))
        and "/tests/" not in str(p.relative_to(ROOT))
        and p.suffix != ".md"
    ]


def _mentions() -> list[tuple[Path, int, str]]:
    return [
        (path, number, line)
        for path in _code()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if SACRED.search(line)
    ]


def test_no_line_writes_what_holds_funds() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, number, line in _mentions()
        if not line.lstrip().startswith("#")
        and (WRITING.search(line) or (path.suffix == ".yml" and IN_YAML.match(line)))
    ]
    assert not found


def test_the_wallet_is_only_ever_opened_read_only() -> None:
    """Whoever names lightningd's database in code opens it through the one read-only door."""
    openers = {path for path, _, line in _mentions() if "lightningd.sqlite3" in line and path.suffix == ".py"}
    for path in openers:
        text = path.read_text(encoding="utf-8")
        if "sqlite3.connect" in text:
            assert "mode=ro" in text, f"{path.relative_to(ROOT)} opens a database and names the wallet without mode=ro"


@pytest.mark.parametrize("name", ["lightningd.sqlite3", "hsm_secret", "emergency.recover"])
def test_the_rule_would_notice(name: str) -> None:
    """The check above is not blind: lines that break the rule match it."""
    for line in (
        f'shutil.copy2(src, "{name}")',
        f'os.replace(tmp, net / "{name}")',
        f'(net / "{name}").unlink()',
        f'open(net + "/{name}", "wb")',
    ):
        assert SACRED.search(line), line
        assert WRITING.search(line), line


def test_a_rescue_fails_again() -> None:
    """A rescued failure counts as success for Ansible: a canary that was undone would let the fleet go on."""
    import yaml

    found = []

    def walk(node: object, path: Path) -> None:
        if isinstance(node, list):
            for child in node:
                walk(child, path)
        elif isinstance(node, dict):
            if "rescue" in node:
                text = yaml.safe_dump(node["rescue"][-1])
                if "fail" not in text:
                    found.append(f"{path.relative_to(ROOT)}: the last task of a rescue does not fail")
            for child in node.values():
                walk(child, path)

    for path in tracked(".yml"):
        if str(path.relative_to(ROOT)).startswith(("playbooks/", "roles/")):
            walk(yaml.safe_load(path.read_text(encoding="utf-8")), path)
    assert not found
