"""Incidents: graded by rule, added once, never changed once people have them, and never half written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _incidents
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

FAILURE = _incidents.Failure(
    "20261128T170000Z-abcdef12", "wave 1", 1_800_000_000.0, {"alpha": "reverted"}, ["alpha: 1 new\nBROKEN lines"]
)


def failure(**changes: Any) -> _incidents.Failure:
    return replace(FAILURE, **changes)


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({}, 2),
        ({"results": {"alpha": "reverted", "bravo": "confirmed"}}, 2),
        ({"results": {"alpha": "failed"}}, 1),
        ({"results": {"alpha": "reverted", "bravo": "unreachable"}}, 1),
        ({"codes": frozenset({"lightningd-down"})}, 1),
        ({"codes": frozenset({"channel-lost"})}, 1),
        ({"codes": frozenset({"unhealthy"})}, 2),
        ({"checks": frozenset({"lightningd"})}, 1),
        ({"checks": frozenset({"channels", "log"})}, 1),
        ({"checks": frozenset({"self-reverted"})}, 2),
        ({"restarts": 1}, 1),
        ({"results": {"alpha": "refused"}}, None),
        ({"results": {"alpha": "untouched", "bravo": "unchanged"}}, None),
        ({"results": {}}, None),
    ],
)
def test_the_grade_follows_from_what_happened(tmp_path: Path, changes: dict[str, Any], grade: int | None) -> None:
    assert _incidents.severity(failure(**changes)) == grade
    path = _incidents.write_incident(tmp_path, failure(**changes))
    assert (None if path is None else _incidents.read_incident(path).severity) == grade
    assert len(_incidents.read_incidents(tmp_path)) == (grade is not None)


def test_it_is_added_once_and_says_what_is_known(tmp_path: Path) -> None:
    path = _incidents.write_incident(tmp_path, failure(evidence=["b.json", "a.json"]))
    assert path == tmp_path / "incidents/20261128T170000Z-abcdef12-wave-1.yml"
    text = path.read_text(encoding="utf-8")
    assert _incidents.write_incident(tmp_path, failure(reasons=["something else"])) == path
    assert path.read_text(encoding="utf-8") == text
    found = _incidents.read_incident(path)
    assert (found.opened_at, found.opened, found.closed) == ("2027-01-15T08:00:00Z", 1_800_000_000.0, False)
    assert found.reasons == ["alpha: 1 new BROKEN lines"]
    assert found.evidence == ["a.json", "b.json"]
    assert "wave 1 of rollout 20261128T170000Z-abcdef12 failed and went back" in found.title


def test_what_people_wrote_stays_and_a_closed_one_is_followed_by_another(tmp_path: Path) -> None:
    path = _incidents.write_incident(tmp_path, FAILURE)
    assert path is not None
    content = {**yaml.safe_load(path.read_text()), "severity": 3, "remark": "we know why"}
    path.write_text(yaml.safe_dump(content))
    assert _incidents.write_incident(tmp_path, FAILURE) == path
    # Without quotes, as people write times.
    closed = yaml.safe_dump({**content, "status": "closed"}).replace("''", "2027-01-16T10:00:00+02:00")
    path.write_text(closed)
    assert _incidents.read_incident(path).closed_at == "2027-01-16T08:00:00Z"
    second = _incidents.write_incident(tmp_path, FAILURE)
    assert second == path.with_name(f"{path.stem}-2.yml")
    assert path.read_text() == closed
    assert [one.closed for one in _incidents.read_incidents(tmp_path)] == [True, False]
    assert _incidents.write_incident(tmp_path, FAILURE) == second


def test_nobody_sees_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="Input/output error"):
        _incidents.write_incident(tmp_path, FAILURE)
    assert list((tmp_path / "incidents").iterdir()) == []
    monkeypatch.undo()
    # What a power cut leaves lies under a hidden name.
    (tmp_path / "incidents/.half.yml.7").write_text("id: ha")
    (tmp_path / "incidents/.half.yml").write_text("id: ha")
    assert _incidents.read_incidents(tmp_path) == []


def test_one_that_comes_at_the_same_moment_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "incidents/20261128T170000Z-abcdef12-wave-1.yml"
    theirs = _incidents.write_incident(tmp_path / "other", FAILURE)
    assert theirs is not None
    link = os.link

    def late(source: Any, target: Any) -> None:
        if not path.exists():
            path.write_text(theirs.read_text())
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert _incidents.write_incident(tmp_path, failure(reasons=["ours"])) == path
    assert path.read_text() == theirs.read_text()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"severity": 4}, "its severity is 4"),
        ({"severity": True}, "its severity is True"),
        ({"severity": "1"}, "its severity is '1'"),
        ({"status": "done"}, "its status is 'done'"),
        ({"status": "closed"}, "its closed_at is not a time"),
        ({"closed_at": "2027-01-15T08:00:00Z"}, "it has a closed_at, but is open"),
        ({"opened_at": "yesterday"}, "its opened_at is 'yesterday'"),
        ({"id": "another"}, "not the name of its file"),
        ({"nodes": ["alpha", 7]}, "its nodes holds something that is no text"),
        ({"reasons": "bad"}, "its reasons is 'bad'"),
        ({"extra": 1}, "it has the unknown extra"),
        ({"rollout": None}, "its rollout is None"),
    ],
)
def test_a_file_that_is_none_is_refused_with_what_is_wrong(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = _incidents.write_incident(tmp_path, FAILURE)
    assert path is not None
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    with pytest.raises(ReleaseError, match=words) as error:
        _incidents.read_incidents(tmp_path)
    assert error.value.code == "register"
    with pytest.raises(ReleaseError):
        _incidents.write_incident(tmp_path, FAILURE)


@pytest.mark.parametrize("content", [b"", b"- a\n", b"id: [", b"\xff\xfe", b"x: " + b"y" * _incidents.MAX_BYTES])
def test_a_file_that_is_no_incident_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "incidents").mkdir()
    (tmp_path / "incidents/bad.yml").write_bytes(content)
    with pytest.raises(ReleaseError) as error:
        _incidents.read_incidents(tmp_path)
    assert error.value.code == "register"
