"""What comms keeps: secrets sealed, receipts provable, settings whose source is known, across restarts and crashes."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cl_hive_comms.main import SPEC
from hive_kit.canonical import sha256_hex
from hive_kit.errors import HiveError, IntegrityError, OptionError, SecretError, UnavailableError
from hive_kit.keys import SchnorrKey, verify
from hive_kit.ownership import tables_of
from hive_kit.store import schema_tables
from hive_kit.testing import FakeNode, PluginProcess, application

DATABASE = "cl_hive_comms.db"
DAY = 86_400
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
COMMAND = [sys.executable, "-m", "cl_hive_comms.main"]


@contextmanager
def edited(directory: Path) -> Iterator[sqlite3.Connection]:
    """The database in the hands of somebody who is not the plugin."""
    connection = sqlite3.connect(directory / DATABASE)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def pubkey(directory: Path, options: dict[str, Any] | None = None) -> str:
    with application(SPEC, directory, options) as (app, _):
        return app.identity.pubkey


# -- identity and secrets ---------------------------------------------------------------------------------------------


def test_the_identity_survives_and_signs_for_real(tmp_path: Path) -> None:
    first = pubkey(tmp_path)
    with application(SPEC, tmp_path) as (app, _):
        assert app.identity.pubkey == first
        digest = bytes.fromhex(sha256_hex("message"))
        assert verify(first, digest, app.identity.key.sign(digest))


def test_modes_on_disk(tmp_path: Path) -> None:
    directory = tmp_path / "regtest"
    before = os.umask(0)
    try:
        pubkey(tmp_path, {"hive-comms-db-path": str(directory / DATABASE)})
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.iterdir()]}
    assert modes == {"regtest": 0o700, DATABASE: 0o600, "comms.secrets": 0o400}


def test_no_secret_is_stored_or_answered_in_clear(tmp_path: Path) -> None:
    key = SchnorrKey.generate()
    with application(SPEC, tmp_path) as (_, call):
        imported = call("hive-client-identity", action="import", nsec=key.nsec)
        token = call("hive-client-authorize", "bob")["auth_token"]
        receipts = call("hive-client-receipts")
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (key.secret_hex, key.nsec):
        assert secret not in str(imported)
        assert secret not in str(receipts)
        assert secret.encode() not in on_disk
        assert bytes.fromhex(key.secret_hex) not in on_disk
    assert token not in str(receipts)
    assert token.encode() not in on_disk


def test_an_odd_y_key_is_normalised_on_import(tmp_path: Path) -> None:
    key = SchnorrKey.generate()
    odd = f"{ORDER - int(key.secret_hex, 16):064x}"
    with application(SPEC, tmp_path) as (app, call):
        assert call("hive-client-identity", action="import", nsec=odd)["pubkey"] == key.public_hex
        assert verify(key.public_hex, bytes(32), app.identity.key.sign(bytes(32)))
    assert pubkey(tmp_path) == key.public_hex


def test_after_a_rotation_nothing_signs_with_the_old_key(tmp_path: Path) -> None:
    with application(SPEC, tmp_path) as (app, call):
        old = app.identity.pubkey
        new = call("hive-client-identity", "rotate")["pubkey"]
        assert new != old
        assert verify(new, bytes(32), app.identity.key.sign(bytes(32)))
        assert app.transports.transports()[0]["metadata"]["pubkey"] == new
    assert pubkey(tmp_path) == new


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("key file lost", "comms.secrets is missing; restore it from the newest backup set"),
        ("key file of another node", "does not open with"),
        ("key file readable", "has mode 0444, so others may have read it"),
        ("database lost", "exists but cl_hive_comms.db holds no identity; restore both from one backup set"),
        ("sealed key changed", "does not open with"),
        ("public key changed", "is not the key of the stored public key"),
    ],
)
def test_half_a_restore_never_makes_a_new_identity(tmp_path: Path, damage: str, sentence: str) -> None:
    secrets = tmp_path / "comms.secrets"
    before = pubkey(tmp_path)
    saved = tmp_path / "saved"
    shutil.copytree(tmp_path, saved)
    if damage == "key file lost":
        secrets.unlink()
    elif damage == "key file of another node":
        other = tmp_path / "other"
        other.mkdir()
        pubkey(other)
        secrets.unlink()
        shutil.copy2(other / "comms.secrets", secrets)
    elif damage == "key file readable":
        secrets.chmod(0o444)
    elif damage == "database lost":
        (tmp_path / DATABASE).unlink()
    else:
        name, value = ("config:privkey", "AAAA") if damage == "sealed key changed" else ("config:pubkey", "00" * 32)
        with edited(tmp_path) as database:
            database.execute("UPDATE nostr_state SET value = ? WHERE key = ?", (value, name))
    for _ in range(2):
        with pytest.raises(SecretError, match=sentence):
            pubkey(tmp_path)
    for name in (DATABASE, "comms.secrets"):
        (tmp_path / name).unlink(missing_ok=True)
        shutil.copy2(saved / name, tmp_path / name)
    assert pubkey(tmp_path) == before


def test_a_token_that_does_not_open_is_an_error(tmp_path: Path) -> None:
    with application(SPEC, tmp_path) as (_, call):
        call("hive-client-authorize", "bob")
    with edited(tmp_path) as database:
        database.execute("UPDATE comms_advisor_auth SET auth_token = 'ciphertext'")
    with application(SPEC, tmp_path) as (_, call):
        with pytest.raises(SecretError, match="does not open with"):
            call("hive-client-authorize", "bob", "admin")
        assert call("hive-client-receipts", "bob")["count"] == 1, "nothing was written"


_DIES_IN_THE_FIRST_START = """
import os, signal, sys
from pathlib import Path
from cl_hive_comms.main import SPEC
from cl_hive_comms.services import identity_service
from hive_kit.testing import application

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "after the key file":
    identity_service.IdentityService._replace = die
else:
    identity_service.ReceiptService.write = die
with application(SPEC, Path(sys.argv[1])):
    pass
"""


@pytest.mark.parametrize("moment", ["after the key file", "between key and receipt"])
def test_a_crash_in_the_very_first_start_is_no_obstacle(tmp_path: Path, moment: str) -> None:
    died = subprocess.run([sys.executable, "-c", _DIES_IN_THE_FIRST_START, str(tmp_path), moment], check=False)
    assert died.returncode == -signal.SIGKILL
    assert (tmp_path / "comms.secrets").exists()
    with application(SPEC, tmp_path) as (_, call):
        assert call("hive-client-receipts", verify=True)["verification"]["checked"] == 1


def test_the_key_file_that_vanishes_while_running_fails_health(tmp_path: Path) -> None:
    with application(SPEC, tmp_path) as (app, _):
        assert all(check.ok for check in app.checks())
        (tmp_path / "comms.secrets").unlink()
        assert [(check.name, check.critical) for check in app.checks() if not check.ok] == [("key file", True)]


# -- settings with two sources ----------------------------------------------------------------------------------------

RELAYS = "hive-comms-nostr-relays"
PRESET = "hive-comms-policy-preset"


def test_relays_of_an_rpc_stay_until_the_option_changes_and_the_change_leaves_a_receipt(tmp_path: Path) -> None:
    with application(SPEC, tmp_path, {RELAYS: "wss://a"}) as (_, call):
        assert call("hive-client-identity")["relays"] == ["wss://a"]
        call("hive-client-identity", "set-relays", "", "wss://b")
    with application(SPEC, tmp_path, {RELAYS: "wss://a"}) as (_, call):
        status = call("hive-client-status")["identity"]
        assert (status["relays"], status["relays_source"]) == (["wss://b"], "rpc")
    with application(SPEC, tmp_path, {RELAYS: "wss://c"}) as (_, call):
        status = call("hive-client-status")["identity"]
        assert (status["relays"], status["relays_source"]) == (["wss://c"], "option")
        newest = call("hive-client-receipts", limit=1)["receipts"][0]
        assert newest["params"] == {"relays": ["wss://c"], "source": "option"}


def test_a_preset_of_an_rpc_stays_until_the_option_changes(tmp_path: Path) -> None:
    with application(SPEC, tmp_path) as (_, call):
        call("hive-client-policy", "set-preset", "aggressive")
        call("hive-client-policy", "set", "", '{"max_danger": 4}')
    with application(SPEC, tmp_path) as (_, call):
        policy = call("hive-client-policy")["policy"]
        assert (policy["preset"], policy["overrides"]) == ("aggressive", {"max_danger": 4})
    with application(SPEC, tmp_path, {PRESET: "conservative"}) as (_, call):
        policy = call("hive-client-policy")["policy"]
        assert (policy["preset"], policy["overrides"]) == ("conservative", {})
        assert call("hive-client-receipts", limit=1)["receipts"][0]["params"]["source"] == "option"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({RELAYS: "http://x"}, "hive-comms-nostr-relays: 'http://x' is not a relay address; write it as wss://host"),
        ({RELAYS: ""}, "hive-comms-nostr-relays: 0 entries is less than the minimum 1"),
        ({RELAYS: ",".join(f"wss://{n}" for n in range(9))}, "hive-comms-nostr-relays: 9 entries is more than"),
        ({PRESET: "wild"}, "hive-comms-policy-preset: 'wild' is not one of conservative, moderate, aggressive"),
        ({"hive-comms-liquidity-enabled": "perhaps"}, "hive-comms-liquidity-enabled: 'perhaps' is not true or false"),
    ],
)
def test_bad_options_are_refused_by_name(tmp_path: Path, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(OptionError) as refused:
        pubkey(tmp_path, options)
    assert refused.value.message.startswith(sentence)


# -- receipts ---------------------------------------------------------------------------------------------------------


def prove(directory: Path) -> dict[str, Any]:
    with application(SPEC, directory) as (_, call):
        proof: dict[str, Any] = call("hive-client-receipts", verify=True)["verification"]
        return proof


@pytest.mark.parametrize(
    ("tampering", "sentence"),
    [
        ("UPDATE management_receipts SET actor = 'x' WHERE receipt_id = 2", "receipt 2 was changed"),
        ("UPDATE management_receipts SET result_json = '{}' WHERE receipt_id = 3", "receipt 3 was changed"),
        ("DELETE FROM management_receipts WHERE receipt_id = 2", "receipt 3 does not follow the one before it"),
        ("DELETE FROM management_receipts WHERE receipt_id = 1", "receipt 2 does not follow the one before it"),
        ("DELETE FROM management_receipts WHERE receipt_id = 4", "the newest of 4 receipts are missing"),
        ("DELETE FROM management_receipts", "the newest of 4 receipts are missing"),
    ],
)
def test_tampering_with_receipts_is_proved(tmp_path: Path, tampering: str, sentence: str) -> None:
    with application(SPEC, tmp_path) as (_, call):
        for name in ("a", "b", "c"):
            call("hive-client-authorize", name)
    assert prove(tmp_path)["checked"] == 4
    with edited(tmp_path) as database:
        database.execute(tampering)
    with pytest.raises(IntegrityError, match=sentence) as broken:
        prove(tmp_path)
    assert broken.value.code == 6013


def test_pruning_keeps_the_chain_provable_again_and_again(tmp_path: Path) -> None:
    with application(SPEC, tmp_path) as (app, call):
        start = app.context.now()
        passed = 0
        app.context.clock = lambda: start + passed * DAY
        for day in range(0, 100, 10):
            passed = day
            call("hive-client-authorize", f"advisor {day}")
        assert call("hive-client-receipts", verify=True)["verification"]["checked"] == 11
        others = {"held_actions": 0, "replay_nonces": 0}
        assert call("hive-client-prune") == {"ok": True, "days": 90, "pruned": {"receipts": 0, **others}}
        assert call("hive-client-prune", "45") == {"ok": True, "days": 45, "pruned": {"receipts": 6, **others}}
        proof = call("hive-client-receipts", verify=True)["verification"]
        assert (proof["checked"], proof["pruned"]) == (5, 6)
        assert call("hive-client-prune", days=25)["pruned"] == {"receipts": 2, **others}
        call("hive-client-authorize", "one more")
        passed = 300
        assert call("hive-client-prune", days=1)["pruned"] == {"receipts": 3, **others}, "the newest one stays"
        proof = call("hive-client-receipts", verify=True)["verification"]
        assert (proof["checked"], proof["pruned"]) == (1, 11)
    with edited(tmp_path) as database:
        database.execute("DELETE FROM nostr_state WHERE key = 'receipts:chain_anchor'")
    with pytest.raises(IntegrityError):
        prove(tmp_path)


def test_receipts_of_many_threads_make_one_chain(tmp_path: Path) -> None:
    with application(SPEC, tmp_path) as (_, call):

        def authorize(number: int) -> None:
            for turn in range(10):
                call("hive-client-authorize", f"advisor {number} {turn}")

        threads = [threading.Thread(target=authorize, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            call("hive-client-receipts", verify=True)  # a proof while others write does not fail
        for thread in threads:
            thread.join()
        assert call("hive-client-receipts", verify=True)["verification"]["checked"] == 41


def test_the_background_proof_fails_health_when_the_chain_breaks(tmp_path: Path) -> None:
    with application(SPEC, tmp_path) as (app, _):
        app._verify_receipts()
        app.context.store.execute("UPDATE management_receipts SET actor = 'x'")
        with pytest.raises(IntegrityError):
            app._verify_receipts()


_DIES_BETWEEN_ADVISOR_AND_RECEIPT = """
import os, signal, sys
from pathlib import Path
from cl_hive_comms.main import SPEC
from hive_kit.testing import application

with application(SPEC, Path(sys.argv[1])) as (app, call):
    call("hive-client-authorize", "kept")
    app.receipts.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    call("hive-client-authorize", "lost")
"""


def test_a_crash_leaves_no_change_without_its_receipt(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", _DIES_BETWEEN_ADVISOR_AND_RECEIPT, str(tmp_path)], check=False)
    assert died.returncode == -signal.SIGKILL
    with application(SPEC, tmp_path) as (_, call):
        assert call("hive-client-status")["active_advisors"] == 1
        with pytest.raises(HiveError, match="advisor not found: lost"):
            call("hive-client-revoke", "lost")
        assert call("hive-client-receipts", verify=True)["verification"]["checked"] == 2


# -- the plugin as a whole --------------------------------------------------------------------------------------------


def test_schema_is_owned_and_matches_the_manifest(tmp_path: Path) -> None:
    tables = schema_tables(SPEC.name, SPEC.migrations)
    assert set(tables) <= tables_of(SPEC.name)
    assert {"nostr_state", "management_receipts", "comms_advisors", "comms_aliases"} <= set(tables)
    pubkey(tmp_path)
    with edited(tmp_path) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        assert version == SPEC.migrations[-1].version


def test_mode_follows_the_siblings(tmp_path: Path) -> None:
    node = FakeNode()
    with application(SPEC, tmp_path, node=node) as (app, call):
        archon, hive = (app.context.siblings[name] for name in ("cl-hive-archon", "cl-hive"))
        seen = [app.mode]
        node.answers["hive-archon-status"] = {"ok": True}
        archon.look()
        seen.append(call("hive-client-status")["mode"])
        node.answers["hive-status"] = {"ok": True}
        hive.look()
        seen.append(app.mode)
        node.answers["hive-archon-status"] = UnavailableError("gone")
        archon.look()
        seen.append(app.mode)
    assert seen == ["standalone", "with-archon", "full", "with-hive"]


def test_on_real_pipes_start_stop_start_restart_kill(tmp_path: Path) -> None:
    pubkeys, advisors = set(), []
    for number, end in enumerate(["shutdown", "kill", "shutdown", "kill"]):
        plugin = PluginProcess(COMMAND, tmp_path)
        assert plugin.start()["result"] is None
        pubkeys.add(plugin.call("hive-client-identity")["pubkey"])
        advisors.append(f"advisor {number}")
        plugin.call("hive-client-authorize", advisors[-1], "monitor")
        assert plugin.call("hive-client-status")["active_advisors"] == len(advisors)
        assert plugin.call("hive-client-receipts", verify="true")["verification"]["checked"] == len(advisors) + 1
        assert plugin.call("hive-comms-health")["status"] == "ok"
        getattr(plugin, end)()
    assert len(pubkeys) == 1


def test_a_failing_init_disables_instead_of_staying_half_alive(tmp_path: Path) -> None:
    pubkey(tmp_path)
    (tmp_path / "comms.secrets").unlink()
    plugin = PluginProcess(COMMAND, tmp_path)
    reason = plugin.start()["result"]["disable"]
    assert reason == f"{tmp_path}/comms.secrets is missing; restore it from the newest backup set"
    assert plugin.request("hive-client-status", {})["error"]["code"] == 6008
    assert plugin.shutdown() == 0
