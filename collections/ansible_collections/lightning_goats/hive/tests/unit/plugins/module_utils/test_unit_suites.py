"""A suite is green only by what was counted, and only of the very sources of its release."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _suites,
    _suites_run,
    _suites_sources,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import PROC
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release, ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._release import PYTHONS
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import read_sources

MACHINES = ("x86_64", "aarch64")
PROJECT = """[project]
name = "hive-toy"
version = "0.1.0"
requires-python = ">=3.11"
[project.scripts]
hive-toy = "hive_toy:main"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
GOOD = "from hive_toy import two\n\n\ndef test_two():\n    assert two() == 2\n"
Json = dict[str, Any]


class Toy:
    """A workspace with one plugin, and the release that was made of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plugin = root / "plugins_src/hive-toy"
        self.write("plugins_src/hive-toy/pyproject.toml", PROJECT)
        self.write(
            "plugins_src/hive-toy/src/hive_toy/__init__.py", "def main():\n    pass\n\n\ndef two():\n    return 2\n"
        )
        self.write("plugins_src/hive-toy/tests/test_toy.py", GOOD)
        self.write("uv.lock", "")
        self.git("init", "--quiet")
        self.commit()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", *who, *words], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", "x")

    def release(self, **source: Any) -> Release:
        """What release.yml would have made of the work tree."""
        targets = [f"cp{python.replace('.', '')}-{machine}" for python in PYTHONS for machine in MACHINES]
        found = read_sources(self.plugin, "hive-toy", "0.1.0", {}, self.root, targets)
        manifest: Json = {
            "name": "hive-toy",
            "version": "0.1.0",
            "artifact": {"sha256": "ab" * 32},
            "source": {"commit": found.commit, "dirty": found.dirty, "digest": found.digest, **source},
            "python": {"wheels": {target: [] for target in targets}},
        }
        return Release(manifest, self.root / "releases", "t")

    def test(self, release: Release, seconds: float = 120.0) -> _suites.Outcome:
        settings = _suites_run.Settings(self.root, self.root / "cache", self.root / "locks", seconds)
        return _suites_run.test(release, self.plugin, settings)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path / "work")


def test_the_work_tree_is_tested_while_it_is_what_was_released(toy: Toy) -> None:
    outcome = toy.test(toy.release())
    assert (outcome.passed, outcome.source["from"]) == (True, "work tree")
    assert outcome.figures == {**outcome.figures, "tests": 1, "passed": 1, "failed": 0, "skipped": 0}
    assert outcome.line.startswith("hive-toy 0.1.0  abababababab  green: 1 tests")
    made = _suites.statement(outcome, 30)
    assert made["subject"] == [{"name": "hive-toy-0.1.0.pex", "digest": {"sha256": "ab" * 32}}]
    assert made["predicate"]["result"] == "PASSED"
    assert {one["name"] for one in made["predicate"]["configuration"]} == {"tests of hive-toy", "uv.lock"}


def test_a_changed_work_tree_is_left_for_the_commit(toy: Toy) -> None:
    release = toy.release()
    toy.write("plugins_src/hive-toy/src/hive_toy/__init__.py", "def two():\n    return 3\n")
    outcome = toy.test(release)
    assert (outcome.passed, outcome.source["from"]) == (True, "commit")
    assert list((toy.root / "cache").iterdir()) == []


def test_sources_that_nobody_can_show_are_not_tested(toy: Toy) -> None:
    for release, words in (
        (toy.release(digest="cd" * 32), "has not the sources"),
        (toy.release(digest="cd" * 32, dirty=True), "in no commit"),
        (toy.release(digest="cd" * 32, commit=""), "in no commit"),
    ):
        with pytest.raises(ReleaseError, match=words) as error:
            toy.test(release)
        assert error.value.code == "suite-sources"
    release = toy.release()
    toy.plugin.rename(toy.root / "elsewhere")
    with pytest.raises(ReleaseError, match="hive_suites_sources"):
        toy.test(release)


def test_a_red_suite_names_what_failed(toy: Toy) -> None:
    toy.write("plugins_src/hive-toy/tests/test_bad.py", "def test_bad():\n    assert 1 == 2, 'one is not two'\n")
    outcome = toy.test(toy.release())
    assert outcome.troubles == ["hive-toy: 1 of 2 tests failed"]
    ((name, why),) = outcome.suites[0].counts.bad if outcome.suites[0].counts else ()
    assert name.endswith("test_bad")
    assert "one is not two" in why
    made = _suites.statement(outcome, 0)["predicate"]
    assert (made["result"], made["failedTests"], made["passedTests"]) == ("FAILED", ["tests of hive-toy"], [])
    assert made["hive"]["failures"][0]["test"] == name
    assert "RED" in outcome.line


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("", "no tests ran"),
        ("import pytest\npytestmark = pytest.mark.skip\n\n\ndef test_one():\n    pass\n", "all 1 tests were skipped"),
        ("import nothing_of_that_name\n", "1 of 1 tests failed"),
        ("import os\n\n\ndef test_one():\n    os._exit(0)\n", "it left no report (exit status 0)"),
        (None, "no tests ran"),
    ],
)
def test_nothing_that_ran_nothing_is_green(toy: Toy, text: str | None, trouble: str) -> None:
    (toy.plugin / "tests/test_toy.py").unlink()
    if text is None:
        (toy.plugin / "tests").rmdir()
    else:
        toy.write("plugins_src/hive-toy/tests/test_toy.py", text)
    outcome = toy.test(toy.release())
    assert not outcome.passed
    assert outcome.troubles[0].startswith(f"hive-toy: {trouble}")
    assert _suites.statement(outcome, 30)["predicate"]["result"] == "FAILED"


def marked() -> list[str]:
    """Processes that a suite has left running."""
    mark = f"{_suites_run.MARK}=".encode()
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark + b"hive-toy" in (entry / "environ").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue
    return found


def test_at_its_deadline_it_is_ended_with_all_that_it_started(toy: Toy) -> None:
    sleeper = "import subprocess, sys, time\n\n\ndef test_long():\n"
    sleeper += "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    sleeper += "    time.sleep(600)\n"
    toy.write("plugins_src/hive-toy/tests/test_toy.py", sleeper)
    outcome = toy.test(toy.release(), 4.0)
    assert outcome.suites[0].rc is None
    assert outcome.troubles[0].startswith("hive-toy: its time was over after ")
    assert marked() == []


def test_sources_or_tests_that_change_meanwhile_prove_nothing(toy: Toy) -> None:
    source = "from pathlib import Path\nimport hive_toy\n\n\ndef test_one():\n"
    toy.write(
        "plugins_src/hive-toy/tests/test_toy.py",
        source + "    Path(hive_toy.__file__).with_name('new.py').write_text('')\n",
    )
    with pytest.raises(ReleaseError, match="were changed while their tests ran"):
        toy.test(toy.release())
    toy.write(
        "plugins_src/hive-toy/tests/test_toy.py",
        source + "    Path(__file__).with_name('test_new.py').write_text('')\n",
    )
    with pytest.raises(ReleaseError, match="changed while they ran"):
        toy.test(toy.release())


def test_the_plugins_of_others_are_tested_at_their_commit(toy: Toy, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "tests").mkdir(parents=True)
    (theirs / "toy.py").write_text("def two():\n    return 2\n")
    (theirs / "tests/test_theirs.py").write_text("import toy\n\n\ndef test_two():\n    assert toy.two() == 2\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "--quiet"], ["add", "-A"], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *words], cwd=theirs, check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], cwd=theirs, check=True, capture_output=True, text=True).stdout
    own = toy.release()
    origin = {"repository": str(theirs), "ref": "v1"}
    manifest = {
        **own.manifest,
        "foreign": origin,
        "source": {"commit": commit.strip(), "dirty": False, "digest": "ef" * 32},
    }
    outcome = toy.test(Release(manifest, own.directory, "t"))
    assert (outcome.passed, outcome.source["commit"]) == (True, commit.strip())
    built = {**manifest, "foreign": {"repository": "", "ref": ""}}
    with pytest.raises(ReleaseError, match="finished artifact") as error:
        toy.test(Release(built, own.directory, "t"))
    assert error.value.code == "suite-sources"


def test_other_versions_than_the_locked_ones_are_no_environment() -> None:
    from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import Locked

    assert "packaging" in _suites_sources._installed((Locked("packaging", _suites_sources.need("packaging"), "", ()),))
    assert "absent" not in _suites_sources._installed((Locked("absent", "1", "python_version < '3'", ()),))
    for name in ("packaging", "no-such-distribution"):
        with pytest.raises(ReleaseError, match="is locked, but") as error:
            _suites_sources._installed((Locked(name, "0.0.1", "", ()),))
        assert error.value.code == "suite-environment"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<testsuites>",
        "<testsuites/>",
        '<testsuites><testsuite tests="x"/></testsuites>',
        '<testsuites><testsuite tests="1" failures="1"/></testsuites>',
        '<testsuites><testsuite tests="-1"/></testsuites>',
        '<testsuite tests="1"><testcase name="a"><failure message="m"/></testcase></testsuite>',
    ],
)
def test_a_report_that_is_cut_off_or_contradicts_itself_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(text)
    assert _suites.read_report(path) is None
    assert _suites.read_report(tmp_path / "absent.xml") is None


def test_an_exit_status_that_contradicts_its_report_is_not_green() -> None:
    suite = _suites.Suite("p", "ab" * 32, 0, 1.0, _suites.Counts(tests=2), "2 passed in 1.00s")
    assert suite.trouble == ""
    assert replace(suite, rc=3).trouble == "pytest itself failed"
    assert replace(suite, rc=-9).trouble == "exit status -9"
    assert replace(suite, counts=None).trouble.startswith("it left no report")
    nothing = _suites.Outcome("p", "1", "ab" * 32, {}, {}, [], 1.0, 2.0)
    assert (nothing.passed, nothing.troubles) == (False, ["no tests ran"])


def test_a_commit_cannot_write_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="would lie elsewhere"):
        _suites_sources.unpack({"../out.py": (b"", False)}, tmp_path / "in")
    assert not (tmp_path / "out.py").exists()
