"""What the controller itself remembers and reads: its note of a run under way, and the releases on its disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import signed_releases
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_hosts, _plan_marker, _plan_shelf
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Shelf

NOW = 1_800_000_000.0


class TestMarker:
    def test_a_note_is_read_back_and_removed(self, tmp_path: Path) -> None:
        path = _plan_marker.path_for(tmp_path / "reports", "my fleet/../x")
        assert path.parent == tmp_path / "reports"
        assert _plan_marker.read(path) is None
        _plan_marker.write(path, "r1", os.getpid())
        note = _plan_marker.read(path)
        assert note is not None
        assert note["rollout"] == "r1"
        _plan_marker.remove(path)
        _plan_marker.remove(path)
        assert _plan_marker.read(path) is None

    def test_a_torn_note_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "note.json").write_text('{"rollout": "r')
        assert _plan_marker.read(tmp_path / "note.json") is None

    def test_a_living_process_counts_and_a_dead_one_does_not(self, tmp_path: Path) -> None:
        path = tmp_path / "note.json"
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
            _plan_marker.write(path, "r1", other.pid)
            note = _plan_marker.read(path)
            assert note is not None
            assert _plan_marker.alive(note, os.getpid())
            assert not _plan_marker.alive(note, other.pid), "one's own note"
            assert not _plan_marker.alive({**note, "born": "1"}, os.getpid()), "another process with the same number"
            assert not _plan_marker.alive({**note, "host": "elsewhere"}, os.getpid())
            other.communicate(b"\n")
        assert not _plan_marker.alive(note, os.getpid())


class TestShelf:
    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        signer = signed_releases.signer(tmp_path / "keys")
        signed_releases.write(tmp_path / "releases", signer)
        signed_releases.write(tmp_path / "releases", signer, signed_releases.manifest(version="0.10.0"))
        return tmp_path / "releases"

    def read(self, place: Path, *wanted: tuple[str, str]) -> Shelf:
        return _plan_shelf.read_shelf(place, "var/releases", wanted, place.parent / "keys/allowed_signers", NOW)

    def test_versions_are_listed_oldest_first(self, place: Path) -> None:
        assert self.read(place).versions == {"hive-fixture": ["0.1.0", "0.10.0"]}
        assert self.read(place / "nowhere").versions == {}

    def test_a_wanted_release_is_verified(self, place: Path) -> None:
        shelf = self.read(place, ("hive-fixture", "0.1.0"), ("hive-fixture", "9.9"), ("other", "1"))
        assert list(shelf.entries) == [("hive-fixture", "0.1.0")]
        entry = shelf.entries["hive-fixture", "0.1.0"]
        assert (entry["manifest"]["version"], entry["path"]) == ("0.1.0", str(place / "hive-fixture/0.1.0"))
        digest = entry["manifest"]["artifact"]["sha256"]
        assert _plan_shelf.check_artifacts(shelf, [digest]) == []

    def test_a_changed_artifact_is_found_only_where_it_is_needed(self, place: Path) -> None:
        artifact = place / "hive-fixture/0.1.0/hive-fixture-0.1.0.pex"
        artifact.write_bytes(b"x" * artifact.stat().st_size)
        shelf = self.read(place, ("hive-fixture", "0.1.0"))
        digest = shelf.entries["hive-fixture", "0.1.0"]["manifest"]["artifact"]["sha256"]
        assert _plan_shelf.check_artifacts(shelf, []) == []
        assert [code for code, _ in _plan_shelf.check_artifacts(shelf, [digest])] == ["artifact"]

    @pytest.mark.parametrize("damage", ["unsigned", "renamed", "expired"])
    def test_a_release_that_must_not_be_used_is_a_problem(self, place: Path, damage: str) -> None:
        directory = place / "hive-fixture/0.1.0"
        if damage == "unsigned":
            (directory / "manifest.json.sig").unlink()
        elif damage == "renamed":
            directory.rename(place / "hive-fixture/0.2.0")
        else:
            signer = signed_releases.signer(place.parent / "keys")
            signed_releases.write(place.parent / "more", signer, signed_releases.manifest(expires_at=1_700_000_001))
            place = place.parent / "more"
        version = "0.2.0" if damage == "renamed" else "0.1.0"
        entry = self.read(place, ("hive-fixture", version)).entries["hive-fixture", version]
        assert entry["problem"]["code"] == {"renamed": "other"}.get(damage, damage)
        assert entry["problem"]["message"].startswith(f"hive-fixture {version}: ")


class TestHosts:
    def hosts(self) -> _plan_hosts.Hosts:
        variables = {
            "alpha": {"__hive_gate_result": {"plan": 1}, "tuple": (1, {"a": {2}}), "skipped": {"skipped": True}},
            "bravo": {},
        }
        return _plan_hosts.Hosts({"hostvars": variables, "ansible_play_hosts_all": ["bravo", "alpha"]})

    def test_values_come_out_plain(self) -> None:
        assert json.dumps(self.hosts().get("alpha", "tuple")) == '[1, {"a": [2]}]'
        assert self.hosts().get("bravo", "tuple", "none") == "none"

    def test_results(self) -> None:
        assert self.hosts().first("__hive_gate_result") == {"plan": 1}
        assert self.hosts().result("alpha", "skipped") is None
        assert self.hosts().first("nothing") is None

    @pytest.mark.parametrize(
        ("result", "text"),
        [
            (None, ""),
            ({"changed": True}, ""),
            ({"failed": True, "msg": " no "}, "no"),
            ({"failed": True}, "it failed and gave no reason"),
            (
                {"unreachable": True, "msg": "timed out.\nmore"},
                "n cannot be reached (timed out): look at its connection",
            ),
        ],
    )
    def test_trouble(self, result: dict[str, object] | None, text: str) -> None:
        assert _plan_hosts.trouble("n", result).startswith(text)
        assert bool(_plan_hosts.trouble("n", result)) == bool(text)

    def test_relative_paths_start_above_the_playbooks(self, tmp_path: Path) -> None:
        variables = {"playbook_dir": str(tmp_path / "playbooks")}
        assert _plan_hosts.project_path(variables, "var/x") == tmp_path / "var/x"
        assert _plan_hosts.project_path(variables, "/abs") == Path("/abs")
