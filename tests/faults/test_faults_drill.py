"""A drill of a good set is green and leaves nothing; a drill of a damaged one is red, whatever was done to it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _drill_checks
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill import Drill
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_scratch import MARK, home_of, marked
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_digest import table_facts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_list import MANIFEST, SIGNATURE
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import arguments
from cl_hive_archon.services import did
from faults.drill_rig import DrillRig
from waiting import wait_until

COMMS, ARCHON, HIVE = "cl-hive-comms", "cl-hive-archon", "cl-hive"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrillRig]:
    rig = DrillRig(tmp_path_factory.mktemp("drill"))
    try:
        rig.prepare()
        yield rig
    finally:
        rig.stop()


@pytest.fixture
def rig(node: DrillRig) -> DrillRig:
    node.heal_set()
    return node


def leftovers(rig: DrillRig) -> list[Path]:
    return list(home_of(rig.node).glob("run-*"))


def failed(outcome: Json) -> list[str]:
    drill = outcome["drill"]
    assert (drill["result"] == "FAILED") == bool(drill["reason"])
    return [f"{check['plugin']} {check['name']}".strip() for check in drill["checks"] if check["ok"] is False]


def database(rig: DrillRig, plugin: str) -> Path:
    return next((rig.set_path / plugin).glob("*.db"))


def test_a_good_set_is_green_and_the_node_is_as_it_was(rig: DrillRig) -> None:
    before = rig.fingerprint()
    outcome = rig.drill()
    assert failed(outcome) == []
    drill = outcome["drill"]
    assert drill["result"] == "PASSED"
    assert rig.fingerprint() == before
    assert leftovers(rig) == []
    good = {(check["plugin"], check["name"]) for check in drill["checks"] if check["ok"]}
    assert {("", "signature"), ("", "offline"), ("", "nothing left"), ("", "node untouched")} <= good
    for plugin in (COMMS, ARCHON, HIVE):
        names = {"integrity", "foreign keys", "rows", "schema", "starts", "healthy", "runs on schema"}
        assert {(plugin, name) for name in names} <= good
    assert {(COMMS, "receipts"), (COMMS, "identity of the running node"), (COMMS, "key file")} <= good
    assert {(ARCHON, "identity follows from the node"), (ARCHON, "identity of the running node")} <= good
    assert (HIVE, "members") in good
    assert [item["name"] for item in drill["releases"]] == [COMMS, ARCHON, HIVE]
    assert drill["rto_seconds"] == pytest.approx(drill["seconds"]["restore"] + drill["seconds"]["start"], abs=0.002)


def test_it_says_how_far_the_set_is_behind(rig: DrillRig) -> None:
    known = rig.call("hive-client-receipts")["count"]
    rig.call("hive-client-authorize", advisor="a-later-one")
    ahead = rig.drill()["drill"]["rpo"]
    assert ahead["age_seconds"] > 0
    assert ahead["rows_since"][COMMS]["comms_advisors"] == 1
    assert ahead["rows_since"][COMMS]["management_receipts"] == rig.call("hive-client-receipts")["count"] - known


def flip_a_byte(rig: DrillRig) -> None:
    path = database(rig, COMMS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_a_database_off(rig: DrillRig) -> None:
    path = database(rig, HIVE)
    os.truncate(path, path.stat().st_size // 2)


def lose_the_key_file(rig: DrillRig) -> None:
    (rig.set_path / COMMS / "comms.secrets").unlink()


def swap_two_databases(rig: DrillRig) -> None:
    one, other = database(rig, COMMS), database(rig, ARCHON)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def lose_the_manifest_s_sense(rig: DrillRig) -> None:
    (rig.set_path / MANIFEST).write_text('{"files": {}, "databases": {}}')


def lose_the_signature(rig: DrillRig) -> None:
    (rig.set_path / SIGNATURE).unlink()


def change_the_manifest(rig: DrillRig) -> None:
    path = rig.set_path / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"reason":"test"', b'"reason":"text"'))


def sign_it_by_another(rig: DrillRig) -> None:
    stranger = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    rig.forge(node_id=stranger)


def overwrite_pages(path: Path) -> None:
    """Overwrite the first page of a table and of each of its indexes."""
    with sqlite3.connect(path) as connection:
        pages = connection.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'comms_advisors'").fetchall()
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * size)
            file.write(b"\x00" * 64)


def spoil_a_page(rig: DrillRig) -> None:
    """Pages that read back as they were written, and were wrong then."""
    overwrite_pages(database(rig, COMMS))
    rig.forge()


def change_a_row(rig: DrillRig) -> None:
    with sqlite3.connect(database(rig, COMMS)) as connection:
        connection.execute("UPDATE comms_advisors SET note = 'changed' WHERE rowid = 1")
    rig.forge()


def leave_an_orphan(rig: DrillRig) -> None:
    with sqlite3.connect(database(rig, COMMS)) as connection:
        connection.execute("DELETE FROM comms_advisors")
    rig.forge()


def say_nonsense_of_the_stack(rig: DrillRig) -> None:
    """As somebody without the node's key would who wants the last good evidence to stay the newest."""
    (rig.set_path / "stack.json").write_text('["nothing of a stack"]')
    rig.forge()


def raise_the_schema(rig: DrillRig) -> None:
    with sqlite3.connect(database(rig, HIVE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    rig.forge()


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (flip_a_byte, "drill"),
        (cut_a_database_off, "drill"),
        (lose_the_key_file, "drill"),
        (swap_two_databases, "drill"),
        (lose_the_manifest_s_sense, "drill"),
        (lose_the_signature, "signature"),
        (change_the_manifest, "signature"),
        (sign_it_by_another, "of this node"),
        (spoil_a_page, f"{COMMS} integrity"),
        (change_a_row, f"{COMMS} rows"),
        (leave_an_orphan, f"{COMMS} foreign keys"),
        (say_nonsense_of_the_stack, "drill"),
        (raise_the_schema, f"{HIVE} schema"),
    ],
)
def test_a_damaged_set_is_red(rig: DrillRig, damage: Callable[[DrillRig], None], seen: str) -> None:
    damage(rig)
    outcome = rig.drill()
    assert seen in failed(outcome)
    assert outcome["drill"]["rto_seconds"] is None, "plugins were started on it"
    assert outcome["drill"]["reason"].count("\n") == 0
    assert leftovers(rig) == []


def give_another_key(rig: DrillRig) -> None:
    path = rig.set_path / COMMS / "comms.secrets"
    content = bytearray(path.read_bytes())
    content[0:32] = os.urandom(len(content[0:32]))
    path.chmod(0o600)
    path.write_bytes(content)
    rig.forge()


def break_the_chain_of_receipts(rig: DrillRig) -> None:
    """With the table's digest made to fit: only the chain itself can tell."""
    path = database(rig, COMMS)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE management_receipts SET action = 'nothing' WHERE receipt_id = 2")
    manifest = json.loads((rig.set_path / MANIFEST).read_bytes())
    manifest["databases"][COMMS]["tables"] = table_facts(path)
    rig.forge(databases=manifest["databases"])


def take_the_identity_of_another(rig: DrillRig) -> None:
    path = database(rig, ARCHON)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE archon_identity SET did = ?", (did.local_did("02" + "ab" * 32, "regtest"),))
    manifest = json.loads((rig.set_path / MANIFEST).read_bytes())
    manifest["databases"][ARCHON]["tables"] = table_facts(path)
    rig.forge(databases=manifest["databases"])


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (give_another_key, f"{COMMS} starts"),
        (break_the_chain_of_receipts, f"{COMMS} receipts"),
        (take_the_identity_of_another, f"{ARCHON} identity follows from the node"),
    ],
)
def test_what_only_the_plugins_can_tell_is_red_too(
    rig: DrillRig, damage: Callable[[DrillRig], None], seen: str
) -> None:
    damage(rig)
    outcome = rig.drill()
    assert failed(outcome)[0] == seen
    assert leftovers(rig) == []


def test_where_the_node_s_own_database_is_damaged_the_set_is_drilled_all_the_same(rig: DrillRig) -> None:
    manifest = json.loads((rig.set_path / MANIFEST).read_bytes())
    damaged = rig.root / "damaged.db"
    damaged.write_bytes(database(rig, COMMS).read_bytes())
    overwrite_pages(damaged)
    manifest["databases"][COMMS]["source"] = str(damaged)
    rig.forge(databases=manifest["databases"])
    drill = rig.drill()["drill"]
    assert (drill["result"], drill["rpo"]["rows_since"][COMMS]) == ("PASSED", None)


def test_of_a_node_that_is_down_nobody_says_that_it_was_left_alone(
    rig: DrillRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Drill, "_look_at_node", lambda drill: None)
    outcome = rig.drill()
    assert failed(outcome) == ["of this node"], "nor whose set it should be"
    assert [check["ok"] for check in outcome["drill"]["checks"] if check["name"] == "node untouched"] == [None]


def test_without_room_for_lightningd_beside_it_there_is_no_drill(rig: DrillRig) -> None:
    with pytest.raises(HiveError) as error:
        rig.drill(min_free_bytes=1 << 60)
    assert error.value.code == "disk-full"
    assert leftovers(rig) == []


def test_without_a_set_there_is_nothing_to_drill(rig: DrillRig) -> None:
    with pytest.raises(HiveError) as error:
        rig.drill(set_id="20200101T000000Z-none")
    assert error.value.code == "no-set"


def test_a_release_that_is_gone_is_stood_in_for_by_the_one_that_runs(rig: DrillRig) -> None:
    path = rig.set_path / "stack.json"
    stack = json.loads(path.read_bytes())
    stack[0]["digest"] = "ab" * 32
    path.write_text(json.dumps(stack))
    rig.forge()
    drill = rig.drill()["drill"]
    assert drill["result"] == "PASSED", drill["reason"]
    assert [item["same_as_in_set"] for item in drill["releases"]] == [False, True, True]


def begin(rig: DrillRig) -> subprocess.Popen[bytes]:
    """A drill in a process of its own, held by nobody."""
    brought = {
        "digest": rig.lightningd.digest,
        "wheels": rig.lightningd.wheels,
        "incoming": str(rig.lightningd.incoming),
    }
    tests = Path(__file__).resolve().parents[1]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "faults.drill_call",
            *(json.dumps(word) for word in (rig.node.as_params(), brought, rig.set_id)),
        ],
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent / 'collections'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def plugins_of_a_drill(rig: DrillRig) -> list[int]:
    """The plugins of the drill under way, once there is one."""
    names = [path.name for path in leftovers(rig)]
    found = [pid for name in names for pid in marked(name)]
    return [pid for pid in found if any(str(rig.node.slots_dir) in word for word in arguments(pid))]


def test_killed_in_the_middle_nothing_is_left_by_itself(rig: DrillRig) -> None:
    before = rig.fingerprint()
    process = begin(rig)
    wait_until(lambda: bool(plugins_of_a_drill(rig)), 60, "a plugin of the drill runs")
    name = leftovers(rig)[0].name
    process.kill()
    process.communicate()
    wait_until(lambda: marked(name) == [], 30, "its processes have ended")
    wait_until(lambda: leftovers(rig) == [] or not list(leftovers(rig)[0].iterdir()), 30, "its data is gone")
    assert rig.fingerprint() == before
    assert rig.drill()["drill"]["result"] == "PASSED"
    assert leftovers(rig) == []


def test_what_a_power_cut_would_leave_is_ended_by_the_next_drill(rig: DrillRig) -> None:
    """The warden is killed with the drill: nobody is there to clean up."""
    process = begin(rig)
    wait_until(lambda: bool(plugins_of_a_drill(rig)), 60, "a plugin of the drill runs")
    name = leftovers(rig)[0].name
    wardens = [pid for pid in marked(name) if "-IS" in arguments(pid)]
    os.kill(process.pid, signal.SIGSTOP)  # so that it does not clean up itself
    for pid in wardens:
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    assert leftovers(rig) != []
    outcome = rig.drill()
    assert outcome["swept"] == [name]
    assert outcome["drill"]["result"] == "PASSED"
    assert marked(name) == []
    assert leftovers(rig) == []


def test_a_second_drill_beside_a_first_is_refused(rig: DrillRig) -> None:
    process = begin(rig)
    wait_until(lambda: leftovers(rig) != [], 60, "the first drill is under way")
    with pytest.raises(HiveError) as error:
        rig.drill()
    assert error.value.code == "drill-busy"
    out, err = process.communicate(timeout=60)
    assert json.loads(out)["drill"]["result"] == "PASSED", err.decode()


def test_a_changed_scratch_lightningd_is_brought_again(rig: DrillRig) -> None:
    folder = home_of(rig.node) / "lightningd"
    target = next(path for path in folder.rglob("keys.py") if "hive_sandbox" in str(path))
    target.chmod(0o644)
    target.write_text("")
    assert rig.drill()["drill"]["result"] == "PASSED"
    assert target.read_text() != ""


def test_one_that_is_not_what_was_built_is_refused(rig: DrillRig, tmp_path: Path) -> None:
    other = tmp_path / "other.pex"
    other.write_bytes(b"not it")
    with pytest.raises(HiveError) as error:
        rig.drill(artifact=type(rig.lightningd)("ab" * 32, rig.lightningd.wheels, other))
    assert error.value.code == "drill-artifact"


def test_the_identity_that_follows_from_a_node_is_archon_s() -> None:
    node_id = "03" + "cd" * 32
    assert _drill_checks.local_did(node_id, "bitcoin") == did.local_did(node_id, "bitcoin")


def test_the_mark_tells_a_drill_by_its_environment_alone(rig: DrillRig) -> None:
    with subprocess.Popen(["sleep", "30"], env={MARK: "run-of-a-test"}) as process:
        assert marked("run-of-a-test") == [process.pid]
        process.kill()
