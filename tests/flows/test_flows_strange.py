"""Strange places, names and environments: a rollout goes through, or one sentence says why not and nothing changes."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.mounts import own_mounts, room, small_disk
from flows.flow_fleet import PLUGIN, ROOT, Fleet, Outcome, Shelf

NAME = "knötchen-ß.example"
NEW = {"hive_stack": [{"name": PLUGIN, "version": "0.1.1"}]}
OLD_PYTHON = """#!/bin/sh
case "$*" in *version_info*) echo cp38 ;; *) exec {python} "$@" ;; esac
"""


def rename(fleet: Fleet, **names: str) -> None:
    """Give nodes of the inventory other names, or a second one."""
    path = fleet.inventory / "hosts.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    hosts = content["hive_nodes"]["hosts"]
    content["hive_nodes"]["hosts"] = {new: hosts[old] for new, old in names.items()}
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


@pytest.fixture(scope="module")
def odd(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A node with a strange name, in a place with blanks, quotes and umlauts, too deep for a socket; it runs 0.1.0."""
    root = tmp_path_factory.mktemp("odd") / "Plätze mit 'Lücken' und \"mehr\"" / ("tief" * 30)
    root.mkdir(parents=True)
    fleet = Fleet(root, shelf)
    try:
        fleet.up(1)
        rename(fleet, **{NAME: "alpha"})
        fleet.good("rollout")
        yield fleet
    finally:
        fleet.down()


def bare(fleet: Fleet, umask: str, playbook: str, **variables: Any) -> Outcome:
    """Run a playbook without home and locale, as a service would."""
    gone = [word for name in ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "USER", "LOGNAME") for word in ("-u", name)]
    command = ["env", *gone, "sh", "-c", f'umask {umask}; exec "$@"', "sh", *fleet.command(playbook, variables)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=fleet.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=240,
    )
    return Outcome(done.returncode, done.stdout)


def loose(fleet: Fleet) -> list[str]:
    """What of the node others could read or write though it is not for them."""
    node = fleet.sandbox / "alpha"
    private = [node / "hive/journal.jsonl", node / "hive/backups", node / "lightning/hive.conf"]
    private += (node / "hive/backups").rglob("*")
    wrong = [str(path) for path in private if stat.S_IMODE(path.stat().st_mode) & 0o077]
    paths = (path for path in (node / "hive").rglob("*") if not path.is_symlink())
    return wrong + [str(path) for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o022]


@pytest.mark.parametrize(("umask", "version"), [("077", "0.1.1"), ("000", "0.1.0")])
def test_no_home_no_locale_and_any_umask(odd: Fleet, umask: str, version: str) -> None:
    pid = odd.pid("alpha")
    outcome = bare(odd, umask, "rollout", hive_stack=[{"name": PLUGIN, "version": version}])
    assert outcome.rc == 0, outcome.text
    assert odd.version("alpha") == version
    assert odd.pid("alpha") == pid
    assert odd.report["nodes"][NAME]["result"] == "confirmed"
    assert NAME in (odd.reports / "latest.html").read_text(encoding="utf-8")
    assert loose(odd) == []


def stands(fleet: Fleet, outcome: Outcome, *words: str) -> None:
    """It was refused with one sentence, and nothing has changed."""
    assert outcome.rc != 0, outcome.text
    sentence = outcome.sentence(words[0])
    assert all(word in sentence for word in words), sentence
    assert "Traceback" not in outcome.text
    assert fleet.version("alpha") == "0.1.0"
    assert fleet.journal("alpha")[-1]["event"] != "switched"
    assert not (fleet.sandbox / "alpha/hive/lock.json").exists()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ansible_python_interpreter": "/nonexistent/python"}, ["/nonexistent/python", "was not found"]),
        ({"hive_network": "signet"}, ["runs on regtest", "correct hive_network"]),
        ({"hive_node_id": "02" + "ab" * 32}, ["answers as node", "correct hive_node_id"]),
        ({"hive_lightning_dir": "/nonexistent/lightning"}, ["/nonexistent/lightning does not exist"]),
        ({"hive_lightning_dir": "not/absolute"}, ["give an absolute path"]),
    ],
    ids=["no python", "wrong network", "wrong node id", "no lightning directory", "relative directory"],
)
def test_an_inventory_that_describes_another_node(odd: Fleet, variables: dict[str, Any], words: list[str]) -> None:
    path = odd.host(NAME, **variables)
    try:
        stands(odd, odd.run("rollout", **NEW), *words)
    finally:
        path.unlink()


def test_a_python_too_old_for_the_release(odd: Fleet, tmp_path: Path, own_shelf: Shelf) -> None:
    python = tmp_path / "python3.8"
    python.write_text(OLD_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    own_shelf.build(("good", "0.1.2"))
    path = odd.host(NAME, hive_python=str(python), hive_releases_dir=str(own_shelf.releases))
    try:
        outcome = odd.run("rollout", hive_stack=[{"name": PLUGIN, "version": "0.1.2"}])
        stands(odd, outcome, "cp38", "set hive_python")
    finally:
        path.unlink()


def test_one_node_under_two_names(odd: Fleet) -> None:
    """A rollback of both would go back and forth again."""
    rename(odd, **{NAME: NAME, "zulu": NAME})
    try:
        for playbook in ("rollout", "rollback"):
            stands(odd, odd.run(playbook, **NEW), f"{NAME} and zulu are the same node", "take one of the names out")
    finally:
        rename(odd, **{NAME: NAME})


def test_reports_that_cannot_be_written(odd: Fleet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    outcome = odd.run("rollout", **NEW, hive_reports_dir=str(tmp_path / "file/reports"))
    stands(odd, outcome, "Reports cannot be written to", "Not a directory", "set hive_reports_dir")


def test_no_room_for_reports(odd: Fleet, tmp_path: Path) -> None:
    with own_mounts():
        small_disk(tmp_path / "reports", 1024)
        with room(tmp_path / "reports", 2):
            outcome = odd.run("rollout", **NEW, hive_reports_dir=str(tmp_path / "reports"))
            assert not list((tmp_path / "reports").glob(".running*"))
        stands(odd, outcome, "Reports cannot be written to", "No space left on device", "make room")
