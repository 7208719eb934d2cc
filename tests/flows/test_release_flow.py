"""playbooks/release.yml as the operator runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import load_release

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = "tests/fixtures/plugins"


class Run:
    """One run of the playbook with its own releases and keys, and a shared cache."""

    def __init__(self, directory: Path, cache: Path) -> None:
        self.releases, self.keys = directory / "releases", directory / "keys"
        self._variables = {
            "hive_releases_dir": str(self.releases),
            "hive_release_keys_dir": str(self.keys),
            "hive_release_cache_dir": str(cache),
        }

    def __call__(self, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        program = Path(sys.prefix, "bin", "ansible-playbook")
        given = json.dumps({**self._variables, **variables})
        return subprocess.run(
            [program, "playbooks/release.yml", "-i", "localhost,", "-e", given, *arguments],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "default", "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def release(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path, tmp_path_factory.getbasetemp() / "release-flow-cache")


def changed(run: subprocess.CompletedProcess[str]) -> int:
    assert run.returncode == 0, run.stdout + run.stderr
    found = re.search(r"changed=(\d+)", run.stdout)
    assert found is not None, run.stdout
    return int(found.group(1))


def test_build_check_again_and_upgrade(release: Run) -> None:
    wanted = [{"source": f"{FIXTURES}/good"}, {"source": f"{FIXTURES}/good-second"}]
    tried = release("--check", "--diff", hive_release_plugins=wanted)
    assert changed(tried) == 1
    assert "would be built: not released yet" in tried.stdout
    assert not release.releases.exists()

    assert changed(release(hive_release_plugins=wanted)) == 1
    signers = release.keys / "allowed_signers"
    first = load_release(release.releases / "hive-fixture/0.1.0", signers, "hive-fixture", "0.1.0")
    assert first.manifest["rpc_methods"] == ["hive-fixture-health", "hive-fixture-status"]
    assert first.manifest["source"]["commit"], "built from this repository"
    assert load_release(release.releases / "hive-fixture-second/0.1.0", signers, "hive-fixture-second")

    again = release("--check", hive_release_plugins=wanted)
    assert changed(again) == 0
    assert "unchanged" in again.stdout
    assert changed(release(hive_release_plugins=wanted)) == 0

    bad = [{"source": f"{FIXTURES}/crash-at-init", "version": "0.2.0"}]
    assert changed(release(hive_release_plugins=[*wanted, *bad])) == 1
    assert load_release(release.releases / "hive-fixture/0.2.0", signers, "hive-fixture", "0.2.0")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"hive_release_plugins": [{"source": "nowhere"}]}, "give the directory of a plugin's source"),
        ({"hive_release_plugins": [{"source": f"{FIXTURES}/good", "name": "cl-hive"}]}, "not of cl-hive"),
        ({"hive_release_plugins": [{"path": f"{FIXTURES}/good"}]}, "source"),
        ({"hive_release_plugins": "cl-hive"}, "hive_release_plugins"),
        ({"hive_release_versions": {"cl-hiev": "0.2.0"}}, "cl-hiev, which is not to be released"),
        ({"hive_release_versions": {"hive-fixture": "newest"}}, "'newest' is not a plugin's name and version"),
        ({"hive_release_signing_key": "/nowhere/key"}, "correct hive_release_signing_key"),
        ({"hive_release_valid_days": -1}, "negative"),
        ({"hive_release_valid_days": "soon"}, "hive_release_valid_days"),
        ({"hive_release_architectures": ["m68k"]}, "m68k"),
        ({"hive_release_architectures": []}, "No architecture is given"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(release: Run, variables: dict[str, Any], sentence: str) -> None:
    run = release(**{"hive_release_plugins": [{"source": f"{FIXTURES}/good"}], **variables})
    assert run.returncode != 0
    assert sentence in re.sub(r"\s+", " ", run.stdout + run.stderr)
    assert "Traceback" not in run.stdout + run.stderr
    assert not release.releases.exists()
    assert not release.keys.exists()


@pytest.mark.slow
def test_the_three_plugins_are_reproducible_and_installable(tmp_path: Path) -> None:
    """Two builds with nothing in common but the sources and fetched wheels; a slot of each proves itself."""
    shared = ROOT / ".cache/release"
    first, second = Run(tmp_path / "1", shared), Run(tmp_path / "2", shared)
    assert changed(first()) == 1
    assert changed(second(hive_release_versions={"cl-hive": "0.9.9"})) == 1
    for name in ("cl-hive-comms", "cl-hive-archon"):
        one, two = (run.releases / name for run in (first, second))
        (version,) = (path.name for path in one.iterdir())
        files = [path / version / f"{name}-{version}.pex" for path in (one, two)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    for artifact in sorted(first.releases.glob("*/*/*.pex")):
        slot = tmp_path / "slots" / artifact.parts[-3]
        subprocess.run(
            [sys.executable, artifact, "venv", "--compile", slot],
            env={**os.environ, "PEX_TOOLS": "1", "PEX_ROOT": str(tmp_path / "scratch"), "PIP_NO_INDEX": "1"},
            check=True,
            capture_output=True,
        )
        check = subprocess.run([slot / "bin" / slot.name, "--hive-selfcheck"], capture_output=True, check=True)
        assert json.loads(check.stdout)["ok"] is True
