"""The node keeps its Nostr identity: its key is opened, proven and sealed again; receipts become links of the chain."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from adoption.stage import COMMS, Stage, change, counts, opened
from cl_hive_comms.adoption_identity import field_seal, field_unseal
from fixtures.monolith import SIGNATURE, seal, secret_of
from hive_kit.keys import SchnorrKey
from hive_kit.testing import application

SECRET = secret_of(1)
PUBKEY = SchnorrKey.from_text(SECRET).public_hex
OTHER_SIGNATURE = "y" * 104


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "node").mkdir()
    return Stage(tmp_path / "node").build()


def identity(stage: Stage) -> tuple[str, list[str]]:
    """What comms itself says after a start: public key and relays."""
    with application(COMMS, stage.directory) as (app, call):
        assert app.identity.key.public_hex == app.identity.pubkey
        assert call("hive-client-receipts", verify=True)["verification"]["valid"]
        return app.identity.pubkey, app.identity.relays()[0]


def own_identity(stage: Stage) -> str:
    """Comms was there before and has made a key of its own."""
    return identity(stage)[0]


def test_our_seal_of_the_field_is_the_fields() -> None:
    assert field_seal(SECRET, SIGNATURE) == seal(SECRET, SIGNATURE)
    assert field_unseal(seal(SECRET, SIGNATURE), SIGNATURE) == SECRET
    assert field_unseal(seal(SECRET, SIGNATURE), OTHER_SIGNATURE) != SECRET
    assert field_unseal("no base64!", SIGNATURE) == ""


def test_the_key_relays_and_events_arrive(stage: Stage) -> None:
    answer = stage.adopt()
    assert answer["identity"] == {"action": "carried", "pubkey": PUBKEY}
    assert counts(answer, "nostr_state") == (5, 5, 0, 0, 0)
    assert identity(stage) == (PUBKEY, ["wss://nos.lol", "wss://relay.snort.social"])
    state = dict(row[:2] for row in stage.rows(stage.database(COMMS), "nostr_state"))
    theirs = dict(stage.rows(stage.monolith, "nostr_state"))
    assert {k: v for k, v in state.items() if k.startswith("event:")} == {
        k: v for k, v in theirs.items() if k.startswith("event:")
    }


def test_the_secret_is_in_no_file_no_answer_and_no_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [stage.adopt(), stage.adopt(final=True), stage.carry_back(), stage.adopt(identity="present")]
    assert SECRET not in json.dumps(answers) + caplog.text
    assert SIGNATURE not in json.dumps(answers) + caplog.text
    for path in stage.directory.iterdir():
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert bytes.fromhex(SECRET) not in content, path
        assert SIGNATURE.encode() not in content, path
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in stage.directory.iterdir()}
    assert (modes["comms.secrets"], modes["cl_hive_comms.db"]) == (0o400, 0o600)


def test_a_key_in_clear_and_a_made_up_public_key_are_understood(tmp_path: Path) -> None:
    for hazard in ("plain-key", "placeholder"):
        (tmp_path / hazard).mkdir()
        stage = Stage(tmp_path / hazard).build("2.10.0", "tiny", hazard)
        answer = stage.adopt()
        assert answer["identity"] == {"action": "carried", "pubkey": PUBKEY}
        assert identity(stage)[0] == PUBKEY
        reasons = [entry["key"] for entry in answer["quarantine"]]
        assert reasons == (["config:pubkey"] if hazard == "placeholder" else [])


@pytest.mark.parametrize(
    ("signatures", "code"),
    [({}, "no-signature"), ({"nostr_key_derivation": OTHER_SIGNATURE}, "identity-unreadable")],
)
def test_without_the_nodes_signature_nothing_is_adopted(stage: Stage, signatures: dict[str, str], code: str) -> None:
    assert stage.adopt(signatures=signatures)["error"]["code"] == code
    assert stage.rows(stage.database(COMMS), "liquidity_offers") == []
    assert stage.adopt()["identity"]["action"] == "carried", "and later it works"
    assert identity(stage)[0] == PUBKEY


def test_a_key_that_is_not_of_its_public_key_is_refused(stage: Stage) -> None:
    other = SchnorrKey.generate().public_hex
    change(stage.monolith, f"UPDATE nostr_state SET value = '{other}' WHERE key = 'config:pubkey'")
    assert stage.adopt()["error"]["code"] == "identity-unreadable"


def test_two_identities_are_the_operators_choice(stage: Stage) -> None:
    own = own_identity(stage)
    error = stage.adopt()["error"]
    assert error["code"] == "identity-conflict"
    assert own in error["message"]
    assert PUBKEY in error["message"]
    assert own_identity(stage) == own
    kept = stage.copy("kept")
    answer = kept.adopt(identity="present")
    assert answer["identity"] == {"action": "kept", "pubkey": own}
    assert {entry["key"] for entry in answer["quarantine"]} == {"config:privkey", "config:pubkey"}
    with opened(kept.database(COMMS)) as connection:
        rows = dict(connection.execute("SELECT row_key, row_json FROM kit_quarantine"))
    assert rows["config:privkey"] == "null", "the sealed key is not copied into quarantine"
    assert kept.adopt(final=True)["identity"]["action"] == "kept", "the answer is remembered"
    assert own_identity(kept) == own
    answer = stage.adopt(identity="monolith")
    assert answer["identity"] == {"action": "carried", "pubkey": PUBKEY}
    assert identity(stage)[0] == PUBKEY


def test_a_rotation_by_the_plugin_outlives_the_second_pass(stage: Stage) -> None:
    stage.adopt()
    with application(COMMS, stage.directory) as (_, call):
        rotated = call("hive-client-identity", "rotate")["pubkey"]
    assert stage.adopt(final=True, identity="monolith")["identity"] == {"action": "kept", "pubkey": rotated}
    assert identity(stage)[0] == rotated


def test_a_new_key_of_the_monolith_is_followed(stage: Stage) -> None:
    stage.adopt()
    secret = secret_of(2)
    pubkey = SchnorrKey.from_text(secret).public_hex
    change(
        stage.monolith,
        f"UPDATE nostr_state SET value = '{seal(secret, SIGNATURE)}' WHERE key = 'config:privkey'",
        f"UPDATE nostr_state SET value = '{pubkey}' WHERE key = 'config:pubkey'",
        "DELETE FROM nostr_state WHERE key = 'event:last_published_at'",
    )
    answer = stage.adopt(final=True)
    assert answer["identity"] == {"action": "carried", "pubkey": pubkey}
    assert counts(answer, "nostr_state") == (4, 0, 2, 1, 0)
    assert identity(stage)[0] == pubkey


# -- receipts ---------------------------------------------------------------------------------------------------------


def wrapped(stage: Stage) -> list[dict[str, Any]]:
    with opened(stage.database(COMMS)) as connection:
        rows = connection.execute(
            "SELECT created_at, actor, schema_id, action, params_json, result_json FROM management_receipts "
            "WHERE json_extract(params_json, '$.adopted') IS NOT NULL ORDER BY receipt_id"
        ).fetchall()
    return [{**json.loads(row[4])["adopted"], "result_json": json.loads(row[5])["adopted"], "row": row} for row in rows]


def test_receipts_are_wrapped_whole_in_order_behind_an_existing_chain(stage: Stage) -> None:
    own_identity(stage)
    with opened(stage.database(COMMS)) as connection:
        chain = connection.execute("SELECT * FROM management_receipts ORDER BY receipt_id").fetchall()
    assert chain
    stage.adopt(identity="monolith")
    with opened(stage.database(COMMS)) as connection:
        now = connection.execute("SELECT * FROM management_receipts ORDER BY receipt_id").fetchall()
    assert now[: len(chain)] == chain, "what was chained is not hashed again"
    names = [column.name for column in next(m for m in _movers() if m.table == "management_receipts").columns]
    receipts = wrapped(stage)
    originals = stage.rows(stage.monolith, "management_receipts")
    assert sorted((tuple(receipt[name] for name in names) for receipt in receipts), key=repr) == originals
    times = [receipt["executed_at"] for receipt in receipts]
    assert times == sorted(times)
    agents = {row[0]: row[2] for row in stage.rows(stage.monolith, "management_credentials")}
    for receipt in receipts:
        assert receipt["row"][:2] == (receipt["executed_at"], agents[receipt["credential_id"]])
    identity(stage)  # proves the chain


def test_each_receipt_is_wrapped_once_and_new_ones_follow(stage: Stage) -> None:
    stage.adopt()
    before = wrapped(stage)
    change(
        stage.monolith,
        "INSERT INTO management_receipts SELECT 'late', credential_id, schema_id, action, params_json, danger_score, "
        "result_json, state_hash_before, state_hash_after, 5, executor_signature FROM management_receipts LIMIT 1",
        "DELETE FROM management_receipts WHERE rowid = 2",
    )
    answer = stage.adopt(final=True)
    assert counts(answer, "management_receipts")[1:] == (1, 0, 0, 0), "what the monolith pruned stays in the chain"
    after = wrapped(stage)
    assert after[: len(before)] == before
    assert [receipt["receipt_id"] for receipt in after[len(before) :]] == ["late"]
    identity(stage)


def _movers() -> Any:
    assert COMMS.adopts is not None
    return COMMS.adopts.movers
