"""Evidence: signed statements that verify, and everything that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.action.hive_drill import recent_evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _report_drills
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

NOW = 1_800_000_000.0
Json = dict[str, Any]


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> keys.Signer:
    found = keys.find_signer("", "", tmp_path_factory.mktemp("keys"), _evidence.NAMESPACE)
    keys.create_throwaway(found, "evidence@test")
    return found


def statement(result: str = "PASSED", at: float = NOW, expires: float | None = None, **facts: Any) -> Json:
    return _evidence.statement(
        result,
        {"cl-hive-0.1.0.pex": "ab" * 32},
        {"scratch-lightningd.pex": "cd" * 32},
        _evidence.Outcomes(["files"], [], ["identity"]),
        {"finished_at": at, "expires_at": expires, "set": {"id": "s1"}, "node": {"name": "alpha"}, **facts},
    )


def test_what_is_written_is_read_again_and_is_in_toto(tmp_path: Path, signer: keys.Signer) -> None:
    path = _evidence.write(tmp_path, "drill", "alpha", statement(expires=NOW + 60), signer)
    assert path.name == "drill-alpha-20270115T080000000Z.json"
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"{path.name}.sig"]
    found = _evidence.read(path, signer.allowed_signers)
    assert (found.result, found.signer, found.finished_at) == ("PASSED", "evidence@test", NOW)
    assert [found.expired(NOW + 59), found.expired(NOW + 60)] == [False, True]
    made = statement()
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert made["subject"] == [{"name": "cl-hive-0.1.0.pex", "digest": {"sha256": "ab" * 32}}]
    assert made["predicate"]["warnedTests"] == ["identity"]


def test_what_was_changed_or_lost_its_signature_is_none(tmp_path: Path, signer: keys.Signer) -> None:
    path = _evidence.write(tmp_path, "drill", "alpha", statement("FAILED"), signer)
    path.write_bytes(path.read_bytes().replace(b'"FAILED"', b'"PASSED"'))
    with pytest.raises(ReleaseError) as error:
        _evidence.read(path, signer.allowed_signers)
    assert error.value.code == "signature"
    _evidence.signature_of(path).unlink()
    with pytest.raises(ReleaseError) as error:
        _evidence.read(path, signer.allowed_signers)
    assert error.value.code == "unsigned"


def test_a_key_for_releases_signs_no_evidence(tmp_path: Path, signer: keys.Signer) -> None:
    releases = keys.find_signer("", "", tmp_path / "keys")
    keys.create_throwaway(releases, "release@test")
    path = _evidence.write(tmp_path, "drill", "alpha", statement(), releases)
    for listed in (releases.allowed_signers, signer.allowed_signers):
        with pytest.raises(ReleaseError):
            _evidence.read(path, listed)


def test_another_statement_under_our_name_is_none(tmp_path: Path, signer: keys.Signer) -> None:
    path = _evidence.write(tmp_path, "drill", "alpha", {**statement(), "predicateType": "https://else.where"}, signer)
    with pytest.raises(ReleaseError) as error:
        _evidence.read(path, signer.allowed_signers)
    assert error.value.code == "schema"


def test_the_newest_is_of_this_node_and_can_be_trusted(tmp_path: Path, signer: keys.Signer) -> None:
    assert _evidence.newest(tmp_path / "nowhere", "drill", "alpha", signer.allowed_signers) is None
    first = _evidence.write(tmp_path, "drill", "alpha", statement(at=NOW), signer)
    _evidence.write(tmp_path, "drill", "alpha-2", statement(at=NOW + 20), signer)
    later = _evidence.write(tmp_path, "drill", "alpha", statement(at=NOW + 10), signer)
    found = _evidence.newest(tmp_path, "drill", "alpha", signer.allowed_signers)
    assert found is not None
    assert found.path == later
    later.write_text("{}")
    found = _evidence.newest(tmp_path, "drill", "alpha", signer.allowed_signers)
    assert found is not None
    assert found.path == first


@pytest.mark.parametrize(
    ("result", "age", "expires", "wanted", "enough"),
    [
        ("PASSED", 30, None, "", True),
        ("PASSED", 30, None, "s1", True),
        ("PASSED", 30, None, "s2", False),
        ("PASSED", 61, None, "", False),
        ("PASSED", -5, None, "", False),
        ("PASSED", 30, -1, "", False),
        ("FAILED", 30, None, "", False),
    ],
)
def test_when_a_recent_drill_is_enough(
    tmp_path: Path, signer: keys.Signer, result: str, age: float, expires: float | None, wanted: str, enough: bool
) -> None:
    made = statement(result, NOW - age, None if expires is None else NOW + expires)
    _evidence.write(tmp_path, "drill", "alpha", made, signer)
    args = {"fresh_seconds": 60, "set": wanted}
    assert (recent_evidence(tmp_path, "alpha", signer.allowed_signers, args, NOW) is not None) == enough
    assert recent_evidence(tmp_path, "alpha", signer.allowed_signers, {**args, "fresh_seconds": 0}, NOW) is None


@pytest.mark.parametrize(
    ("made", "words", "state", "note"),
    [
        (statement(at=NOW - 7200), "2 h", "ok", ""),
        (statement(at=NOW - 7200, expires=NOW - 1), "2 h", "attention", "does not count any more"),
        (statement("FAILED", NOW - 5, reason="it does not hold"), "FAILED 5 s", "attention", "it does not hold"),
    ],
)
def test_status_tells_of_the_last_drill(
    tmp_path: Path, signer: keys.Signer, made: Json, words: str, state: str, note: str
) -> None:
    _evidence.write(tmp_path, "drill", "alpha", made, signer)
    nodes: dict[str, Json] = {name: {"state": "ok", "notes": []} for name in ("alpha", "bravo")}
    _report_drills.add(nodes, tmp_path, signer.allowed_signers, NOW)
    assert nodes["alpha"]["drill"]["words"] == words
    assert nodes["alpha"]["state"] == state
    assert note in " ".join(nodes["alpha"]["notes"])
    assert nodes["bravo"] == {"state": "ok", "notes": [], "drill": None}


def test_a_statement_is_what_it_was_written_as_and_nothing_else(tmp_path: Path, signer: keys.Signer) -> None:
    """Whoever can write the directory, but has no key, must not make one thing of another, nor old things new."""
    failed = _evidence.write(tmp_path, "runes", "alpha", statement("FAILED", NOW + 60), signer)
    passed = _evidence.write(tmp_path, "runes", "alpha", statement(at=NOW), signer)
    for name in ("runes-bravo-20270115T080000000Z.json", "drill-alpha-20270115T080000000Z.json", "runes-alpha-.json"):
        _replayed(passed, tmp_path / name)
        with pytest.raises(ReleaseError) as error:
            _evidence.read(tmp_path / name, signer.allowed_signers)
        assert error.value.code == "schema"
    _replayed(passed, tmp_path / "runes-alpha-20270115T090000000Z.json")
    assert _evidence.newest(tmp_path, "runes", "bravo", signer.allowed_signers) is None
    found = _evidence.newest(tmp_path, "runes", "alpha", signer.allowed_signers)
    assert found is not None
    assert (found.path, found.result) == (failed, "FAILED")


def _replayed(path: Path, copy: Path) -> None:
    """Copy a statement with its signature under another name."""
    copy.write_bytes(path.read_bytes())
    _evidence.signature_of(copy).write_bytes(_evidence.signature_of(path).read_bytes())


@pytest.mark.parametrize("field", ["finished_at", "expires_at"])
@pytest.mark.parametrize("moment", ["NaN", "Infinity", "-1", "0"])
def test_a_time_that_is_none_never_makes_evidence_last(tmp_path: Path, field: str, moment: str) -> None:
    made = statement(expires=NOW + 60, name="drill-alpha")
    made["predicate"]["hive"][field] = "here"
    data = json.dumps(made).replace('"here"', moment).encode()
    path = tmp_path / "drill-alpha-20270115T080000000Z.json"
    with pytest.raises(ReleaseError) as error:
        _evidence.parse(path, data, "evidence@test")
    assert error.value.code == "schema"
