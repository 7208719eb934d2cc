"""Tickets and records: what can be read, and what they prove."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cl_hive.protocol import records
from cl_hive.protocol import ticket as tickets
from cl_hive.protocol.canonical import canonical_json, sha256_hex
from cl_hive.protocol.records import MembershipRecord, RecordError
from cl_hive.protocol.ticket import Ticket, TicketError
from cl_hive.testing import Network, admission, node_id, signature
from hypothesis import given
from hypothesis import strategies as st

ALPHA, BRAVO = node_id("alpha"), node_id("bravo")
NOW = 1_800_000_000


def check(text: str, given_signature: str, signer: str) -> bool:
    return signature(signer, text) == given_signature


def make(**changes: Any) -> Ticket:
    secret = "5e" * 16
    ticket = Ticket(ALPHA, "h", 0, NOW, NOW + 3600, serial=sha256_hex(secret), secret=secret, addresses=("1.2.3.4:5",))
    ticket = replace(ticket, **changes)
    return replace(ticket, signature=signature(ALPHA, ticket.signed_text()))


def encode(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_a_ticket_survives_the_trip() -> None:
    ticket = make(peer_id=BRAVO, max_uses=3)
    again = tickets.decode("  " + ticket.encode() + "\n")
    assert again == ticket
    assert (again.signature, again.secret, again.digest()) == (ticket.signature, ticket.secret, ticket.digest())
    assert again.redeemable()


def test_a_ticket_of_the_field_is_read_with_the_text_it_was_signed_over() -> None:
    document = {
        "admin_pubkey": ALPHA,
        "hive_id": "h",
        "requirements": 0,
        "issued_at": NOW,
        "expires_at": NOW + 3600,
        "initial_tier": "neophyte",
    }
    ticket = tickets.decode(encode({**document, "signature": "d" * 104}))
    assert ticket.signed_text() == canonical_json(document)
    assert not ticket.redeemable()


def test_fields_of_newer_releases_stay_signed() -> None:
    ticket = make(extra={"color": "blue"})
    again = tickets.decode(ticket.encode())
    assert again.extra == {"color": "blue"}
    assert again.signed_text() == ticket.signed_text()


def test_the_secret_is_shown_nowhere_but_in_the_ticket() -> None:
    ticket = make()
    assert ticket.secret not in repr(ticket)
    assert ticket.secret not in ticket.signed_text()
    assert "secret" not in ticket.to_record()


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "%%%",
        "x" * 20_000,
        base64.b64encode(b"\xff\xfe").decode(),
        encode([]),
        encode({}),
        encode({**make().to_record(), "hive_id": ""}),
        encode({**make().to_record(), "hive_id": 5}),
        encode({**make().to_record(), "requirements": -1}),
        encode({**make().to_record(), "expires_at": NOW}),
        encode({**make().to_record(), "initial_tier": "admin"}),
        encode({**make().to_record(), "signature": ""}),
        encode({**make().to_record(), "max_uses": 0}),
        encode({**make().to_record(), "max_uses": None}),
        encode({**make().to_record(), "serial": "00"}),
        encode({**make().to_record(), "secret": "00" * 16}),
        encode({**make().to_record(), "more": ["x" * 200] * 100}),
    ],
)
def test_what_is_no_ticket_is_refused_with_a_sentence(encoded: str) -> None:
    with pytest.raises(TicketError, match="ticket"):
        tickets.decode(encoded)


@given(st.text(max_size=200))
def test_any_text_is_a_ticket_or_none(text: str) -> None:
    for candidate in (text, base64.b64encode(text.encode("utf-8", "replace")).decode()):
        with pytest.raises(TicketError):
            tickets.decode(candidate)


@given(st.dictionaries(st.sampled_from([*make().to_record(), "secret", "x"]), st.none() | st.integers() | st.text()))
def test_any_change_of_a_ticket_is_a_ticket_or_none(changes: dict[str, Any]) -> None:
    document = {**make().to_record(), **changes}
    try:
        ticket = tickets.decode(encode(document))
    except TicketError:
        return
    assert json.loads(base64.b64decode(ticket.encode())) == document


# -- records ---


@pytest.fixture
def record(tmp_path: Path) -> MembershipRecord:
    return admission(Network(tmp_path), "alpha", "bravo")


def test_a_good_record_verifies_also_after_the_trip(record: MembershipRecord) -> None:
    again = records.parse(json.loads(canonical_json(record.document())))
    again.verify(check)
    assert again.document() == record.document()


OTHER = signature(node_id("mallory"), "x")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hive_id": "other"}, "another hive"),
        ({"admitted_by": BRAVO}, "another member"),
        ({"peer_id": ALPHA}, "nobody admits itself"),
        ({"joined_at": NOW + 4000}, "outside the ticket's time"),
        ({"joined_at": NOW - 400}, "outside the ticket's time"),
        ({"joined_at": NOW + 700}, "another time"),
        ({"joined_at": NOW + 1}, "admission's signature"),
        ({"signature": OTHER}, "admission's signature"),
        ({"consent_signature": OTHER}, "consent"),
        ({"consent_at": NOW + 1}, "consent"),
    ],
)
def test_a_record_with_one_change_proves_nothing(record: MembershipRecord, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecordError, match=said):
        replace(record, **changes).verify(check)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"signature": OTHER}, "issuer"), ({"peer_id": node_id("eve")}, "made out"), ({"max_uses": 2}, "issuer")],
)
def test_a_record_with_a_changed_ticket_proves_nothing(
    record: MembershipRecord, changes: dict[str, Any], said: str
) -> None:
    assert record.ticket is not None
    with pytest.raises(RecordError, match=said):
        replace(record, ticket=replace(record.ticket, **changes)).verify(check)


def test_a_genesis_is_signed_by_its_founder() -> None:
    good = MembershipRecord(
        "genesis", "h", ALPHA, "member", NOW, ALPHA, signature(ALPHA, records.genesis_text("h", ALPHA, NOW))
    )
    good.verify(check)
    assert records.parse(good.document()) == good
    with pytest.raises(RecordError, match="founder"):
        replace(good, joined_at=NOW + 1).verify(check)


@pytest.mark.parametrize("document", [None, [], {}, {"kind": "x"}, {"kind": "genesis"}, {"kind": "admission"}])
def test_what_is_no_record_is_refused(document: Any) -> None:
    with pytest.raises(RecordError):
        records.parse(document)


def test_a_record_with_a_member_tier_is_refused(record: MembershipRecord) -> None:
    """Nobody joins as a full member; that takes a promotion."""
    changes: list[dict[str, Any]] = [{"tier": "member"}, {"ticket": {}}, {"consent": {}}, {"signature": ""}]
    for change in changes:
        with pytest.raises(RecordError):
            records.parse({**record.document(), **change})


def test_a_secret_in_a_record_is_dropped(record: MembershipRecord) -> None:
    document = record.document()
    document["ticket"]["secret"] = "00" * 16
    again = records.parse(document)
    assert again.ticket is not None
    assert again.ticket.secret == ""
