"""The laboratory itself: a comparison that cannot fail proves nothing, and what is missing is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hive_sandbox.real_backend import find as find_backend
from hive_sandbox.real_binaries import Binaries, RealLightningMissingError, find

from conformance.lab.matching import difference, fill

KEY = "02" + "ab" * 32


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1}, {"a": 1}),
        ({"a": 1, "...": 0}, {"a": 1, "b": 2}),
        ({"a?": 1}, {}),
        ("~a.c", "abc"),
        (["<each>", "<int>"], [1, 2]),
        (["<has>", {"n": 1}], [{"n": 2}, {"n": 1}]),
        ("<pubkey>", KEY),
        ("<any>", None),
    ],
)
def test_a_match(expected: Any, actual: Any) -> None:
    assert difference(expected, actual) is None


@pytest.mark.parametrize(
    ("expected", "actual", "where"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, "unexpected member 'b'"),
        ({"a": 1}, {}, "no member 'a'"),
        ({"a?": 1}, {"a": 2}, "$.a"),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, "$.a.b[0]"),
        (1, True, "expected 1"),
        (1, 1.0, "expected 1"),
        ("~a.c", "abcd", "a text like"),
        (["<each>", "<int>"], [1, "2"], "$[1]"),
        (["<has>", {"n": 1}], [{"n": 2}], "nothing like"),
        ([1], [1, 2], "expected 1 elements"),
        ("<int>", True, "expected <int>"),
        ("<pubkey>", KEY[2:], "expected <pubkey>"),
    ],
)
def test_a_difference_is_named(expected: Any, actual: Any, where: str) -> None:
    assert where in (difference(expected, actual) or "")


def test_names_are_filled_in_and_escaped_in_patterns() -> None:
    names = {"dir": "/tmp/a+b"}
    assert fill({"x": "{dir}/c"}, names) == {"x": "/tmp/a+b/c"}
    assert difference(fill("~{dir}/.*", names), "/tmp/a+b/c") is None


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_real_programs_are_found_below_the_prefixes(tmp_path: Path) -> None:
    for name in ("lightningd", "lightning-cli"):
        _program(tmp_path / "cln/bin" / name)
    environment = {"CLN_PREFIX": str(tmp_path / "cln"), "PATH": str(tmp_path)}
    with pytest.raises(RealLightningMissingError, match="no bitcoind: set BITCOIN_PREFIX"):
        find(environment)
    for name in ("bitcoind", "bitcoin-cli"):
        _program(tmp_path / "btc/usr/bin" / name)
    found = find({**environment, "BITCOIN_PREFIX": str(tmp_path / "btc")})
    assert found.lightningd == tmp_path / "cln/bin/lightningd"
    assert found.bitcoin_cli == tmp_path / "btc/usr/bin/bitcoin-cli"
    with pytest.raises(RealLightningMissingError, match="no lightningd: set CLN_PREFIX"):
        find({"PATH": str(tmp_path)})


def test_a_sandbox_remembers_its_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLN_PREFIX", "BITCOIN_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_backend(tmp_path) is None
    paths = [_program(tmp_path / "p/bin" / name) for name in ("lightningd", "lightning-cli", "bitcoind", "bitcoin-cli")]
    (tmp_path / "bitcoin").mkdir()
    Binaries(*paths).save(tmp_path / "bitcoin/programs.json")
    backend = find_backend(tmp_path)
    assert backend is not None
    assert backend.program() == [str(paths[0])]
    paths[0].unlink()
    assert find_backend(tmp_path) is None
