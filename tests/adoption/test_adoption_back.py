"""The way back: what the plugin changed since adoption reaches the monolith; the rest is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from adoption.stage import ARCHON, COMMS, HIVE, Json, Stage, change, opened
from fixtures.monolith import SIGNATURE, seal
from hive_kit.adoption_back import Back
from hive_kit.testing import application

OFFERS = "liquidity_offers"
NEW_OFFER = (
    f"INSERT INTO {OFFERS} (offer_id, provider_id, service_type, capacity_sats, pricing_model, rate_json, created_at) "
    "VALUES ('ours', 'me', 1, 1, 'flat', '{}', 1)"
)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "node").mkdir()
    stage = Stage(tmp_path / "node").build()
    assert stage.adopt(final=True)["complete"]
    return stage


def done(answer: Json, table: str = OFFERS) -> tuple[int, int, int]:
    assert answer.get("complete"), answer
    found = answer["tables"][table]
    return found["inserted"], found["updated"], found["deleted"]


def left(answer: Json, table: str) -> dict[str, int]:
    return {entry["reason"]: entry["rows"] for entry in answer["left"] if entry["table"] == table}


def state(stage: Stage) -> dict[str, Any]:
    return dict(stage.rows(stage.monolith, "nostr_state"))


def test_nothing_changed_nothing_is_written(stage: Stage) -> None:
    with opened(stage.monolith) as connection:
        before = list(connection.iterdump())
    answer = stage.carry_back()
    assert {tuple(found.values()) for found in answer["tables"].values()} == {(0, 0, 0)}
    with opened(stage.monolith) as connection:
        assert list(connection.iterdump()) == before


def test_new_changed_and_deleted_rows_go_back_once(stage: Stage) -> None:
    change(
        stage.database(COMMS),
        NEW_OFFER,
        f"UPDATE {OFFERS} SET min_reputation = 77 WHERE rowid = 1",
        f"DELETE FROM {OFFERS} WHERE rowid = 2",
    )
    assert done(stage.carry_back()) == (1, 1, 1)
    assert stage.rows(stage.monolith, OFFERS) == stage.rows(stage.database(COMMS), OFFERS)
    assert done(stage.carry_back()) == (0, 0, 0), "again: it is there already"
    again = stage.adopt(final=True)
    assert [again["tables"][OFFERS][key] for key in ("inserted", "updated", "deleted", "quarantined")] == [0, 0, 0, 0]


def test_what_the_monolith_changed_too_stays_as_the_monolith_has_it(stage: Stage) -> None:
    change(stage.database(COMMS), f"UPDATE {OFFERS} SET min_reputation = 77", f"DELETE FROM {OFFERS} WHERE rowid = 2")
    change(stage.monolith, f"UPDATE {OFFERS} SET min_reputation = 55 WHERE rowid IN (1, 2)")
    before = stage.rows(stage.monolith, OFFERS)
    answer = stage.carry_back()
    assert done(answer) == (0, 4, 0)
    assert sum(left(answer, OFFERS).values()) == 2
    kept = [row for row in before if row[7] == 55]
    assert [row for row in stage.rows(stage.monolith, OFFERS) if row[7] == 55] == kept


def test_composite_keys_go_back_too(stage: Stage) -> None:
    stage.adopt(ARCHON, final=True)
    change(
        stage.database(ARCHON),
        "UPDATE did_reputation_cache SET score = 1 WHERE rowid = 1",
        "DELETE FROM did_reputation_cache WHERE rowid = 2",
        "INSERT INTO did_reputation_cache (subject_id, domain, computed_at) VALUES ('me', '_all', 5)",
    )
    assert done(stage.carry_back(ARCHON), "did_reputation_cache") == (1, 1, 1)
    theirs = stage.rows(stage.monolith, "did_reputation_cache")
    assert stage.rows(stage.database(ARCHON), "did_reputation_cache") == theirs


def test_a_rotated_identity_goes_back_sealed_as_the_monolith_does(stage: Stage) -> None:
    before = state(stage)
    with application(COMMS, stage.directory) as (app, call):
        call("hive-client-identity", "rotate")
        call("hive-client-identity", "set-relays", "", "wss://relay.nostr.band")
        secret, pubkey = app.identity.key.secret_hex, app.identity.pubkey
    assert stage.carry_back(signatures={})["error"]["code"] == "no-signature"
    assert state(stage) == before
    answer = stage.carry_back()
    assert done(answer, "nostr_state") == (0, 3, 0)
    now = state(stage)
    assert now["config:privkey"] == seal(secret, SIGNATURE)
    assert now["config:pubkey"] == pubkey
    assert now["config:relays"] == '["wss://relay.nostr.band"]'
    assert done(stage.carry_back(), "nostr_state") == (0, 0, 0)


def test_an_identity_that_was_never_the_monoliths_stays(tmp_path: Path) -> None:
    stage = Stage(tmp_path).build()
    with application(COMMS, stage.directory):
        pass
    stage.adopt(identity="present")
    before = state(stage)
    answer = stage.carry_back()
    assert state(stage) == before
    assert left(answer, "nostr_state")["the plugin keeps its own identity"] == 2


def test_what_has_no_place_in_the_monolith_is_named(stage: Stage) -> None:
    with application(COMMS, stage.directory) as (_, call):
        call("hive-client-authorize", "bob")
    answer = stage.carry_back()
    assert left(answer, "comms_advisors") == {"the monolith has no such table": 1}
    assert sum(left(answer, "management_receipts").values()) == 2, "of the adoption, and of the authorisation"
    assert done(answer, "management_receipts") == (0, 0, 0)


def test_an_older_monolith_without_the_tables_keeps_working(tmp_path: Path) -> None:
    stage = Stage(tmp_path).build("2.2.1")
    stage.adopt(final=True)
    change(stage.database(COMMS), NEW_OFFER)
    with opened(stage.monolith) as connection:
        before = list(connection.iterdump())
    assert left(stage.carry_back(), OFFERS) == {"the monolith has no such table": 1}
    with opened(stage.monolith) as connection:
        assert list(connection.iterdump()) == before


def test_rows_that_were_put_aside_do_not_bar_the_way_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path).build("2.10.0", "tiny", "invalid", "orphans", "words", "case")
    change(stage.monolith, "INSERT INTO nostr_state VALUES ('event:odd', CAST(x'ff' AS TEXT)), (x'00', 'blob')")
    stage.adopt(final=True)
    change(stage.database(COMMS), NEW_OFFER)
    with opened(stage.monolith) as connection:
        before = connection.execute("SELECT hex(key), hex(value) FROM nostr_state ORDER BY 1").fetchall()
    assert done(stage.carry_back()) == (1, 0, 0)
    with opened(stage.monolith) as connection:
        assert connection.execute("SELECT hex(key), hex(value) FROM nostr_state ORDER BY 1").fetchall() == before
    # Also where the monolith broke a row after it was taken.
    one = next(row[0] for row in stage.rows(stage.database(COMMS), OFFERS) if row[0] != "ours")
    change(stage.monolith, f"UPDATE {OFFERS} SET pricing_model = CAST(x'ff' AS TEXT) WHERE offer_id = '{one}'")
    change(stage.database(COMMS), f"UPDATE {OFFERS} SET min_reputation = 77 WHERE offer_id = '{one}'")
    answer = stage.carry_back()
    assert (done(answer), sum(left(answer, OFFERS).values())) == ((0, 0, 0), 1)


def test_without_an_adoption_nothing_is_forced_on_the_monolith(tmp_path: Path) -> None:
    stage = Stage(tmp_path).build()
    with application(COMMS, stage.directory) as (app, _):
        app.context.store.execute(NEW_OFFER)
    with opened(stage.monolith) as connection:
        before = list(connection.iterdump())
    assert left(stage.carry_back(), OFFERS) == {"was never adopted from the monolith": 1}
    with opened(stage.monolith) as connection:
        assert list(connection.iterdump()) == before


def test_a_running_monolith_is_not_disturbed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hive_kit.adoption_back._BUSY_SECONDS", 0.1)
    change(stage.database(COMMS), NEW_OFFER)
    with opened(stage.monolith) as monolith:
        monolith.execute("BEGIN IMMEDIATE")
        assert stage.carry_back()["error"]["code"] == "monolith-not-writable"
    assert done(stage.carry_back()) == (1, 0, 0)


def test_cl_hive_has_nothing_to_carry_back(stage: Stage) -> None:
    stage.adopt(HIVE)
    assert stage.carry_back(HIVE) == {"plugin": "cl-hive", "tables": {}, "left": [], "complete": True}


def test_there_and_back_and_there_again_loses_nothing(stage: Stage) -> None:
    change(stage.database(COMMS), NEW_OFFER, f"DELETE FROM {OFFERS} WHERE rowid = 2")
    with application(COMMS, stage.directory) as (_, call):
        rotated = call("hive-client-identity", "rotate")["pubkey"]
    stage.carry_back()
    change(stage.monolith, f"UPDATE {OFFERS} SET status = 'filled' WHERE offer_id = 'ours'")
    answer = stage.adopt(final=True)
    assert answer["quarantine"] == []
    assert [answer["tables"][OFFERS][key] for key in ("inserted", "updated", "deleted")] == [0, 1, 0]
    assert stage.rows(stage.database(COMMS), OFFERS) == stage.rows(stage.monolith, OFFERS)
    assert answer["identity"] == {"action": "carried", "pubkey": rotated}


def test_killed_between_the_two_files_the_next_run_ends_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    change(stage.database(COMMS), NEW_OFFER, f"DELETE FROM {OFFERS} WHERE rowid = 2")
    with application(COMMS, stage.directory) as (_, call):
        call("hive-client-identity", "rotate")
    with monkeypatch.context() as patch:
        patch.setattr(Back, "record", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage.carry_back()
    answer = stage.carry_back()
    assert done(answer) == (0, 0, 0)
    assert left(answer, OFFERS) == {}
    again = stage.adopt(final=True)
    assert again["quarantine"] == []
    assert stage.rows(stage.database(COMMS), OFFERS) == stage.rows(stage.monolith, OFFERS)
