"""Runes on a node where something went wrong: none is left that counts and that nobody knows, none can do too much."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _runes_node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError, NodeDownError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._rpc import Rpc
from ansible_collections.lightning_goats.hive.plugins.module_utils._runes import Role, label_of
from hive_sandbox.testing import FakeNode

Json = dict[str, Any]

WATCHER = Role("watcher", ("getinfo", "listpeers"), {"hive-thing": {"action": ("list",)}})
REFUSED = ("pay", "plugin", "stop", "getinfo")


@pytest.fixture(scope="module")
def lightningd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNode]:
    """One lightningd for all of them: what a test leaves is for the next one to put right."""
    fake = FakeNode(tmp_path_factory.mktemp("runes") / "lightning").start()
    yield fake
    fake.stop()


@pytest.fixture
def node(lightningd: FakeNode, tmp_path: Path) -> Node:
    """The node of it, with a state directory of its own."""
    params = {"name": "alpha", "runtime": "process", "network": "regtest", "lightning_dir": str(lightningd.dir)}
    return Node.from_params({**params, "state_dir": str(tmp_path / "hive")})


def keep(node: Node, *roles: Role, **more: Any) -> Json:
    return _runes_node.keep(node, _runes_node.Wanted(roles=roles, refused=REFUSED, **more))


def rune_of(node: Node, label: str = "watcher") -> str:
    return (node.state_dir / "runes" / f"{label}.rune").read_text(encoding="ascii").strip()


def counting(node: Node) -> set[str]:
    """The numbers of all runes of ours that still count."""
    shown = Rpc(node.socket).call("showrunes")["runes"]
    counts = [entry for entry in shown if not entry.get("blacklisted")]
    return {entry["unique_id"] for entry in counts if label_of(entry["restrictions"])}


def test_a_run_that_died_leaves_no_rune_that_counts(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_runes_node, "write_atomic", dies)
        with pytest.raises(KeyboardInterrupt):
            keep(node, WATCHER)
    assert len(counting(node)) >= 1, "made, and nobody knows it"
    told = keep(node, WATCHER)
    assert counting(node) == {told["runes"][0]["id"]}
    assert "there is a newer one" in {entry["why"] for entry in told["revoked"]}
    again = keep(node, WATCHER)
    assert (again["changed"], again["runes"][0]["id"]) == (False, told["runes"][0]["id"])


def test_a_rune_that_can_do_too_much_is_revoked_and_given_to_nobody(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = ["hiverole#watcher"]
    for wrong in ([["method^get", "method^list", "method=hive-thing"], tag], [["method=getinfo"], tag], [tag]):
        monkeypatch.setattr(_runes_node, "restrictions", lambda _role, wrong=wrong: wrong)
        (rune,) = keep(node, WATCHER)["runes"]
        assert rune["failed"] != []
        assert not (node.state_dir / "runes/watcher.rune").exists()
        assert rune["id"] not in counting(node)
    assert "watcher: plugin is refused" in rune["failed"]


@pytest.mark.parametrize("harm", ["revoked", "readable", "gone", "foreign", "torn note"])
def test_a_rune_that_is_not_what_it_was_is_made_anew(node: Node, harm: str) -> None:
    (before,) = keep(node, WATCHER)["runes"]
    path = node.state_dir / "runes/watcher.rune"
    if harm == "revoked":
        Rpc(node.socket).call("blacklistrune", {"start": int(before["id"])})
    elif harm == "readable":
        path.chmod(0o644)
    elif harm == "gone":
        path.unlink()
    elif harm == "foreign":
        other = Rpc(node.socket).call("createrune", {"restrictions": [["method=stop"]]})
        path.write_text(f"{other['rune']}\n", encoding="ascii")
    else:
        path.with_suffix(".json").write_bytes(b'{"id": ')
    told = keep(node, WATCHER)
    (after,) = told["runes"]
    assert after["changed"]
    assert after["id"] != before["id"]
    assert counting(node) == {after["id"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Rpc(node.socket).call("checkrune", {"rune": rune_of(node), "method": "getinfo"})["valid"] is True


def test_a_changed_role_or_an_old_rune_gets_a_new_one(node: Node) -> None:
    (before,) = keep(node, WATCHER)["runes"]
    more = Role("watcher", ("getinfo",))
    (changed,) = keep(node, more)["runes"]
    assert changed["reason"] == "its role was changed"
    assert keep(node, more, max_age_days=1)["changed"] is False
    note = node.state_dir / "runes/watcher.json"
    note.write_text(json.dumps({**json.loads(note.read_bytes()), "made_at": 1_000_000_000}), encoding="ascii")
    told = keep(node, more, max_age_days=1, check_mode=True)
    assert "days old" in told["runes"][0]["reason"]
    assert counting(node) == {changed["id"]}, "a dry run makes none and revokes none"
    assert before["id"] not in counting(node)


def test_what_is_not_asked_for_any_more_is_revoked_and_removed(node: Node) -> None:
    keep(node, WATCHER, Role("watcher", ("getinfo",), subject="bob"))
    assert len(counting(node)) == 2
    told = keep(node)
    assert counting(node) == set()
    assert sorted(entry["label"] for entry in told["revoked"]) == ["watcher", "watcher-bob"]
    assert list((node.state_dir / "runes").iterdir()) == []


def test_no_rune_stands_on_a_command_line(node: Node, tmp_path: Path) -> None:
    away = {**node.as_params(), "lightning_dir": str(tmp_path), "lightning_cli": ["/bin/false"]}
    with pytest.raises(HiveError) as caught:
        keep(Node.from_params(away), WATCHER)
    assert caught.value.code == "runes-socket"
    with pytest.raises(NodeDownError):
        keep(Node.from_params({**away, "lightning_cli": []}), WATCHER)


def test_a_copy_for_the_controller_is_its_owner_s_alone_and_overwrites_nothing(node: Node, tmp_path: Path) -> None:
    keep(node, WATCHER)
    into = tmp_path / "into"
    into.mkdir()
    (path,) = map(Path, _runes_node.hand_out(node, ["watcher", "nobody"], into))
    assert path.read_text(encoding="ascii").strip() == rune_of(node)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(HiveError):
        _runes_node.hand_out(node, ["watcher"], into)
