"""hive_samples by its table of truth: since x check mode; it never changes anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_ring import Ring
from ansible_collections.lightning_goats.hive.plugins.module_utils._series import from_samples, unpack
from ansible_collections.lightning_goats.hive.plugins.modules import hive_samples
from sampled import samples

START = 1_700_000_000.0
TAKEN = samples(START, 30, 60, 7, broken_per_hour=20, crashes_per_hour=6)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A node whose probe has looked for half an hour."""
    root = tmp_path_factory.mktemp("samples")
    (root / "lightning").mkdir()
    (root / "hive").mkdir()
    ring = Ring(root / "hive/probe.sqlite3", keep_seconds=604800, max_bytes=1 << 25)
    for sample in TAKEN:
        ring.add(sample)
    return {
        "name": "alpha",
        "runtime": "process",
        "lightning_dir": str(root / "lightning"),
        "network": "regtest",
        "state_dir": str(root / "hive"),
    }


def files(node: dict[str, Any]) -> dict[str, tuple[int, int]]:
    found = [path for path in Path(node["state_dir"]).parent.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("since", "count", "first", "last"),
    [
        (0.0, 30, START, START + 1740),
        (START + 600, 20, START + 600, START + 1740),
        (START + 601, 19, START + 660, START + 1740),
        (START + 9999, 0, None, None),
    ],
)
def test_it_reads_and_changes_nothing(
    node: dict[str, Any], since: float, count: int, first: float | None, last: float | None, check: bool
) -> None:
    before = files(node)
    found = hive_samples.work({"node": node, "since": since}, check)
    assert (found["changed"], found["count"], found["first"], found["last"]) == (False, count, first, last)
    assert unpack(found["series"])["count"] == count
    assert found["msg"] == f"{count} samples"
    assert files(node) == before
    json.dumps(found)


def test_a_part_counts_as_the_whole_does(node: dict[str, Any]) -> None:
    whole = from_samples(TAKEN)
    part = unpack(hive_samples.work({"node": node, "since": START + 600}, False)["series"])
    assert unpack(hive_samples.work({"node": node, "since": 0.0}, False)["series"]) == whole
    assert sum(whole["plugins"]["cl-hive"]["restarts"]) > 0
    assert part["plugins"]["cl-hive"]["restarts"] == whole["plugins"]["cl-hive"]["restarts"][10:]


@pytest.mark.parametrize("content", [None, b"", b"no database " * 400])
def test_no_samples_or_damaged_ones(node: dict[str, Any], tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "probe.sqlite3").write_bytes(content)
    found = hive_samples.work({"node": {**node, "state_dir": str(tmp_path)}, "since": 0.0}, False)
    assert (found["count"], found["first"], found["last"]) == (0, None, None)
    assert unpack(found["series"])["plugins"] == {}
