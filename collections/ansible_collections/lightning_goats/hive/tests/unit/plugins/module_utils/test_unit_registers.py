"""Registers: what they hold, and that one which nobody can rely on is never an empty one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _registers
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

NOW = 1_800_000_000.0
DEFECT = {"id": "D-1", "title": "slow", "priority": "high", "status": "open"}
FINDING = {"id": "F-1", "title": "old token", "severity": "medium", "status": "open"}
ACCEPTED = {**FINDING, "status": "accepted", "owner": "alice", "control": "rotated", "expires_at": "2027-02-01"}
WAIVER = {
    "check": "C5",
    "subject": "cl-hive",
    "owner": "alice",
    "reason": "tool down",
    "control": "by hand",
    "expires_at": "2027-02-01T12:00:00Z",
}


def write(directory: Path, name: str, content: Any) -> Path:
    path = directory / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_defects_block_when_they_are_open_and_of_high_priority(tmp_path: Path) -> None:
    entries = [DEFECT, {**DEFECT, "priority": "medium"}, {**DEFECT, "status": "closed"}, {**DEFECT, "remark": "soon"}]
    write(tmp_path, "defects.yml", {"defects": entries})
    assert [one.blocks for one in _registers.read_defects(tmp_path)] == [True, False, False, True]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (FINDING, "F-1 (medium) is open: old token"),
        ({**FINDING, "severity": "high"}, "F-1 (high) is open: old token"),
        ({**FINDING, "severity": "low"}, ""),
        ({**FINDING, "status": "resolved"}, ""),
        (ACCEPTED, ""),
        ({**ACCEPTED, "expires_at": "2027-01-15T08:00:00Z"}, "F-1 (medium) was accepted until 2027-01-15 08:00 UTC"),
    ],
)
def test_findings_stand_against_a_release_until_they_are_resolved_or_accepted(
    tmp_path: Path, entry: Any, problem: str
) -> None:
    write(tmp_path, "findings.yml", {"findings": [entry]})
    found = _registers.read_findings(tmp_path)[0].problem(NOW)
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


def test_a_waiver_has_all_that_it_needs(tmp_path: Path) -> None:
    data = yaml.safe_dump({"waivers": [WAIVER]}).encode()
    one = _registers.parse_waivers(tmp_path / "waivers.yml", data)[0]
    assert (one.check, one.subject, one.expires_at) == ("C5", "cl-hive", 1_801_483_200.0)


@pytest.mark.parametrize("missing", sorted(WAIVER))
def test_a_waiver_without_one_of_them_spoils_the_register(tmp_path: Path, missing: str) -> None:
    for entry in ({key: value for key, value in WAIVER.items() if key != missing}, {**WAIVER, missing: ""}):
        with pytest.raises(ReleaseError, match=missing):
            _registers.parse_waivers(tmp_path / "waivers.yml", yaml.safe_dump({"waivers": [entry]}).encode())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("defects: [", "is no YAML"),
        ("", "is no mapping"),
        ("[]", "is no mapping"),
        ({"defects": None}, "is no list: write [] for none"),
        ({"defects": [], "more": 1}, "has the unknown more"),
        ({"defects": ["D-1"]}, "entry 1 is no mapping"),
        (
            {"defects": [DEFECT, {**DEFECT, "priority": "urgent"}]},
            "entry 2 has priority 'urgent', not high, medium or low",
        ),
        ({"defects": [{**DEFECT, "staus": "open"}]}, "has the unknown staus"),
        ({"defects": [{**DEFECT, "status": True}]}, "has a status that is no text"),
        ("x" * (2**20 + 1), "is larger than"),
        ("!!python/object/apply:os.system [true]", "is no YAML"),
    ],
)
def test_a_register_that_nobody_can_rely_on(tmp_path: Path, content: Any, words: str) -> None:
    if content is not None:
        write(tmp_path, "defects.yml", content)
    with pytest.raises(ReleaseError) as error:
        _registers.read_defects(tmp_path)
    assert error.value.code == "register"
    assert words in str(error.value)


@pytest.mark.parametrize("moment", ["soon", "2027-13-01", 5, None, "2027-01-01T00:00:00+02:00x"])
def test_a_time_that_is_none(tmp_path: Path, moment: Any) -> None:
    write(tmp_path, "findings.yml", {"findings": [{**ACCEPTED, "expires_at": moment}]})
    with pytest.raises(ReleaseError, match="a day like 2026-12-31"):
        _registers.read_findings(tmp_path)


def test_times_without_quotes_are_times_too(tmp_path: Path) -> None:
    text = yaml.safe_dump({"findings": [ACCEPTED, dict(ACCEPTED)]}).replace("'", "")
    write(tmp_path, "findings.yml", text.replace("2027-02-01", "2027-02-01T00:00:00Z", 1))
    assert {one.expires_at for one in _registers.read_findings(tmp_path)} == {1_801_440_000.0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"tag": "v1", "commit": "ab" * 20}, "either a repository or an object"),
        ({"tag": "v1", "commit": "ab" * 20, "repository": "r", "object": "o"}, "either a repository or an object"),
        ({"tag": "v1", "commit": "ab12", "repository": "r"}, "no full id"),
        ({"tag": "v1", "repository": "r"}, "lacks commit"),
    ],
)
def test_a_baseline_that_names_nothing(tmp_path: Path, content: Any, words: str) -> None:
    write(tmp_path, "baseline.yml", content)
    with pytest.raises(ReleaseError, match=words):
        _registers.read_baseline(tmp_path)


OPEN = "id: D-1, title: lost, priority: high, status: open"
# Some hundred characters that would be gigabytes in the sentence that says what is wrong.
BOMB = "".join(f"{a}: &{a} [{f'*{b}, ' * 9}]\n" for a, b in zip("bcdefghij", "abcdefghi", strict=True))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"defects:\n- {{{OPEN}}}\ndefects: []\n", "defects stands there twice"),
        (f"defects:\n- {{{OPEN}, status: closed}}\n", "status stands there twice"),
        (f"defects:\n- &one {{{OPEN}}}\n- {{<<: *one, status: closed}}\n", "write out what"),
        (f"a: &a [x]\n{BOMB}defects: *j\n", "write out what"),
    ],
)
def test_what_a_reviewer_overlooks_is_no_register(tmp_path: Path, content: str, words: str) -> None:
    """A merge in git may leave a key twice; YAML takes the last one."""
    write(tmp_path, "defects.yml", content)
    with pytest.raises(ReleaseError, match=words):
        _registers.read_defects(tmp_path)
    write(tmp_path, "waivers.yml", content)
    with pytest.raises(ReleaseError, match=words):
        _registers.parse_waivers(tmp_path / "waivers.yml", content.encode())
