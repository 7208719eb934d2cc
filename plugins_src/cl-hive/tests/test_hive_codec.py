"""Frames, fields, the message table and the hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cl_hive.protocol import fields, frames, messages, packets
from cl_hive.protocol.canonical import batch_hash, canonical_json, data_hash, fleet_hash, members_hash
from cl_hive.protocol.events import event_id
from cl_hive.protocol.frames import FrameError
from cl_hive.protocol.registry import MessageSpec, MessageTable
from cl_hive.testing import node_id
from hypothesis import given
from hypothesis import strategies as st

ID = node_id("alpha")
numbers = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
payloads = st.dictionaries(texts, plain, max_size=5)


# -- frames ---


def reason_of(data: bytes) -> str:
    """Why bytes are no frame, or ""."""
    try:
        frames.decode(data)
    except FrameError as error:
        return error.reason
    return ""


@given(st.integers(0, 2**31), payloads, st.sampled_from([1, 2]))
def test_what_is_encoded_is_decoded(number: int, payload: dict[str, Any], version: int) -> None:
    data = frames.encode(number, payload, version)
    assert data.startswith(b"HIVE{")
    if reason_of(data) != "shape":  # nested too deep
        frame = frames.decode(data)
        assert (frame.type, frame.version, frame.payload) == (number, version, payload)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_frame_or_a_frame_error(data: bytes) -> None:
    for candidate in (data, b"HIVE" + data, b'HIVE{"type":1,"version":1,"payload":' + data + b"}"):
        assert reason_of(candidate) in {"", "foreign", "oversize", "json", "shape", "version"}


@given(plain)
def test_any_json_gives_a_frame_or_a_frame_error(document: Any) -> None:
    try:
        frame = frames.decode(b"HIVE" + json.dumps(document).encode())
    except FrameError:
        return
    assert isinstance(frame.payload, dict)


@given(st.sampled_from(list(messages.TABLE)), payloads)
def test_no_payload_breaks_a_validator(spec: MessageSpec, payload: dict[str, Any]) -> None:
    assert isinstance(spec.problem(payload), str)


@given(st.sampled_from(list(messages.TABLE)), st.data())
def test_no_payload_with_the_right_names_breaks_a_validator(spec: MessageSpec, data: st.DataObject) -> None:
    payload = {name: data.draw(plain) for name in (*spec.required, *spec.optional)}
    assert isinstance(spec.problem(payload), str)


@given(plain)
def test_any_packet_gives_a_frame_or_a_frame_error(packet: Any) -> None:
    for candidate in (packet, {"raw_plaintext": packet}, {"type": packet, "payload": packet}, {"msg_type": packet}):
        try:
            packets.parse(candidate, messages.TABLE)
        except FrameError:
            continue


def test_the_wire_type_is_what_the_magic_says() -> None:
    assert frames.WIRE_TYPE == 18505
    assert frames.encode(32769, {"pubkey": "x"}) == b'HIVE{"type":32769,"version":1,"payload":{"pubkey":"x"}}'


def test_the_size_limit_is_exact() -> None:
    room = frames.MAX_BYTES - len(frames.encode(1, {"a": ""}))
    assert len(frames.encode(1, {"a": "x" * room})) == 65535
    with pytest.raises(FrameError, match="65536 bytes") as caught:
        frames.encode(1, {"a": "x" * (room + 1)})
    assert caught.value.reason == "oversize"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"type":1,"version":1,"payload":{"a":NaN}}', "json"),
        (b'{"type":1,"version":1,"payload":{"a":1e999}}', "shape"),
        (b'{"type":1,"version":1,"payload":{"a":"\\ud800"}}', "shape"),
        (b'{"type":1,"version":1,"payload":{"\\udfff":1}}', "shape"),
        (b'{"type":true,"version":1,"payload":{}}', "shape"),
        (b'{"type":1.0,"version":1,"payload":{}}', "shape"),
        (b'{"type":1,"version":true,"payload":{}}', "version"),
        (b'{"type":1,"version":3,"payload":{}}', "version"),
        (b'{"type":1,"version":1,"payload":[]}', "shape"),
        (b'{"type":1,"version":1}', "shape"),
        (b"[" * 60_000, "json"),
        (b'{"type":1,"version":1,"payload":{"a":' + b"[" * 50 + b"]" * 50 + b"}}", "shape"),
        (b'{"type":1,"version":1,"payload":{"a":' + b"9" * 5000 + b"}}", "json"),
        (b"\xff\xfe", "json"),
    ],
)
def test_what_is_not_plain_json_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(FrameError) as caught:
        frames.decode(b"HIVE" + body)
    assert caught.value.reason == reason


def test_what_is_not_json_is_not_sent() -> None:
    for value in (float("nan"), object(), b"bytes"):
        with pytest.raises(FrameError, match="not plain JSON"):
            frames.encode(1, {"a": value})


# -- packets ---


HELLO = {"pubkey": ID}


@pytest.mark.parametrize(
    "packet",
    [
        {"type": 32769, "version": 1, "payload": HELLO, "sender": "ignored"},
        {"type": "hello", "payload": HELLO},
        {"type": "32769", "payload": HELLO},
        {"msg_type": 32769, "msg_payload": HELLO},
        {"msg_type": "HELLO", "msg_payload": HELLO},
        {"raw_plaintext": frames.encode(32769, HELLO).hex()},
        {"raw_plaintext": frames.encode(32769, HELLO).decode()},
        {"raw_plaintext": json.dumps({"type": "HELLO", "payload": HELLO})},
        {"raw_plaintext": json.dumps({"raw_plaintext": json.dumps({"msg_type": 32769, "msg_payload": HELLO})})},
    ],
)
def test_the_three_shapes_of_the_field_are_read(packet: dict[str, Any]) -> None:
    frame = packets.parse(packet, messages.TABLE)
    assert (frame.type, frame.payload) == (32769, HELLO)


@pytest.mark.parametrize(
    "packet",
    [
        "text",
        [],
        {},
        {"type": "NOBODY", "payload": {}},
        {"type": 32769, "payload": "x"},
        {"raw_plaintext": 5},
        {"raw_plaintext": "48495645"},
        {"raw_plaintext": "zz"},
        {"raw_plaintext": "x" * 200_000},
    ],
)
def test_other_packets_are_refused(packet: Any) -> None:
    with pytest.raises(FrameError):
        packets.parse(packet, messages.TABLE)


# -- fields ---


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (fields.pubkey, [ID, "03" + "0" * 64], [ID.upper(), ID[:-1], "04" + "0" * 64, 5, None, ID + "\n"]),
        (fields.integer(1, 5), [1, 5], [0, 6, "1", True, 1.0, None]),
        (fields.boolean, [True, False], [0, 1, "true", None]),
        (fields.text(3), ["a", "abc"], ["", "abcd", 5, None]),
        (fields.text(3, empty=True), ["", "a"], ["abcd"]),
        (fields.hex_text(4), ["00ff"], ["00f", "00FF", "00fg", 5]),
        (fields.hex_text(1, 64), ["a", "a" * 64], ["", "a" * 65]),
        (fields.hash_or_empty, ["", "a" * 64], ["a", None]),
        (fields.signature, ["d" * 104], ["", "d" * 10, "l" * 104, "d" * 300, None]),
        (fields.choice(("a", "b")), ["a"], ["c", 5, None]),
        (fields.list_of(fields.integer(), 2), [[], [1, 2]], [[1, 2, 3], ["a"], "ab", {}]),
        (fields.table(1), [{}, {"a": 1}], [{"a": 1, "b": 2}, [], "a"]),
        (fields.record({"a": fields.boolean}, {"b": fields.boolean}), [{"a": True}, {"a": True, "b": None}], [{}, []]),
        (fields.record({"a": fields.boolean}, {"b": fields.boolean}), [{"a": True, "z": 1}], [{"a": True, "b": 1}]),
    ],
)
def test_validators(check: fields.Validator, good: list[Any], bad: list[Any]) -> None:
    assert [check(value) for value in good] == [""] * len(good)
    assert all(check(value) for value in bad)


def test_a_choice_takes_anything_hashable_or_not() -> None:
    assert fields.choice(("a",))([]) != ""


# -- table ---


def test_the_table_is_what_the_field_speaks() -> None:
    assert {spec.name: spec.number for spec in messages.TABLE} == {
        "HELLO": 32769,
        "CHALLENGE": 32771,
        "ATTEST": 32773,
        "WELCOME": 32775,
        "GOSSIP": 32777,
        "STATE_HASH": 32779,
        "FULL_SYNC": 32781,
        "MEMBER_LEFT": 32797,
        "SETTLEMENT_OFFER": 32821,
        "FEE_REPORT": 32823,
        "SETTLEMENT_PROPOSE": 32847,
        "SETTLEMENT_READY": 32849,
        "SETTLEMENT_EXECUTED": 32851,
        "MSG_ACK": 32881,
    }
    reliable = {"MEMBER_LEFT", "SETTLEMENT_PROPOSE", "SETTLEMENT_READY", "SETTLEMENT_EXECUTED"}
    assert {spec.name for spec in messages.TABLE if spec.reliable} == reliable
    assert all(spec.rate is not None for spec in messages.TABLE)


def test_a_table_has_each_type_once_and_odd_numbers() -> None:
    with pytest.raises(ValueError, match="twice"):
        MessageTable([messages.HELLO, messages.HELLO])
    with pytest.raises(ValueError, match="even"):
        MessageTable([MessageSpec(2, "X", {})])


def test_freshness_is_inclusive() -> None:
    now = 1_800_000_000
    fresh = [now - 3600, now, now + 300]
    stale = [now - 3601, now + 301]
    assert [messages.GOSSIP.stale({"timestamp": t}, now) for t in fresh] == [False] * 3
    assert [messages.GOSSIP.stale({"timestamp": t}, now) for t in stale] == [True] * 2
    assert not messages.HELLO.stale({}, now)


def test_signed_texts_are_the_field_s() -> None:
    gossip = {
        "sender_id": ID,
        "timestamp": 5,
        "version": 2,
        "capacity_sats": 10,
        "available_sats": 4,
        "fee_policy": {"fee_ppm": 1},
        "topology": ["b", "a"],
    }
    inner = '{"available_sats":4,"capacity_sats":10,"fee_policy":{"fee_ppm":1},"topology":["a","b"]}'
    assert canonical_json(json.loads(inner)) == inner
    assert data_hash(gossip) == hashlib.sha256(inner.encode()).hexdigest()
    assert messages.gossip_text(gossip) == (
        f'{{"data_hash":"{data_hash(gossip)}","fleet_hash":"","sender_id":"{ID}","timestamp":5,"version":2}}'
    )
    assert messages.state_hash_text({"sender_id": "a", "fleet_hash": "h", "timestamp": 1, "peer_count": 2}) == (
        '{"fleet_hash":"h","peer_count":2,"sender_id":"a","timestamp":1}'
    )
    assert messages.full_sync_text({"sender_id": "a", "fleet_hash": "", "timestamp": 1}) == (
        '{"fleet_hash":"","members_hash":"","sender_id":"a","timestamp":1}'
    )
    ack = {"sender_id": "a", "ack_msg_id": "m", "status": "ok", "timestamp": 7}
    assert messages.msg_ack_text(ack) == "MSG_ACK:a:m:ok:7"
    assert messages.MEMBER_LEFT.signed is not None
    left = {"peer_id": "a", "timestamp": 7, "reason": "moving"}
    assert messages.MEMBER_LEFT.signed.text(left) == "hive:leave:a:7:moving"


# -- hashes ---

rows = st.lists(
    st.fixed_dictionaries(
        {"peer_id": st.sampled_from([node_id(str(i)) for i in range(6)]), "version": st.integers(0, 9)}
    ),
    unique_by=lambda row: str(row["peer_id"]),
)


@given(rows, st.randoms())
def test_hashes_do_not_depend_on_order(items: list[dict[str, Any]], chance: Any) -> None:
    states = [{**item, "timestamp": 5, "more": 1} for item in items]
    members = [{"peer_id": item["peer_id"], "tier": "member", "joined_at": item["version"]} for item in items]
    shuffled = list(range(len(items)))
    chance.shuffle(shuffled)
    assert fleet_hash(states) == fleet_hash([states[i] for i in shuffled])
    assert members_hash(members) == members_hash([members[i] for i in shuffled])
    assert (fleet_hash(states) == "") == (not items)


def test_known_hashes() -> None:
    """Worked out by hand from the field's description, so that a change of form is noticed."""
    text = '[{"joined_at":3,"peer_id":"a","tier":"member"},{"joined_at":1,"peer_id":"b","tier":"neophyte"}]'
    members = [
        {"peer_id": "b", "tier": "neophyte", "joined_at": 1},
        {"peer_id": "a", "tier": "member", "joined_at": 3},
    ]
    assert members_hash(members) == hashlib.sha256(text.encode()).hexdigest()
    text = '[{"peer_id":"a","timestamp":9,"version":2}]'
    assert fleet_hash([{"peer_id": "a", "version": 2, "timestamp": 9}]) == hashlib.sha256(text.encode()).hexdigest()
    assert batch_hash(["b", "a"]) == hashlib.sha256(b'["a","b"]').hexdigest()[:16]
    text = '{"_type":"MEMBER_LEFT","peer_id":"a","timestamp":5}'
    assert (
        event_id("MEMBER_LEFT", {"peer_id": "a", "timestamp": 5, "reason": "x"}, ("peer_id", "timestamp"))
        == (hashlib.sha256(text.encode()).hexdigest()[:32])
    )


def test_an_event_without_identity_is_all_it_says() -> None:
    one = event_id("HELLO", {"pubkey": "a", "_relay": 1, "_envelope_version": 2}, ())
    assert one == event_id("HELLO", {"pubkey": "a"}, ())
    assert one != event_id("HELLO", {"pubkey": "b"}, ())
