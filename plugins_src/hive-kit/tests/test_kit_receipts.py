"""The receipt chain: its formula, and everything that must break it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hive_kit.canonical import canonical_json
from hive_kit.receipts import Anchor, Receipt, receipt_hash, verify


def chain(length: int) -> list[Receipt]:
    receipts: list[Receipt] = []
    previous = ""
    for number in range(1, length + 1):
        params, result = {"n": number, "text": "ä"}, {"ok": True}
        digest = receipt_hash(1000 + number, "operator", "hive:policy/v1", "set", params, result, previous)
        receipts.append(
            Receipt(number, 1000 + number, "operator", "hive:policy/v1", "set", params, result, previous, digest)
        )
        previous = digest
    return receipts


def head(receipts: list[Receipt]) -> Anchor:
    return Anchor(receipts[-1].receipt_hash, len(receipts))


def test_the_formula_is_the_one_of_the_field() -> None:
    document = {
        "created_at": 1700000000,
        "actor": "a",
        "schema_id": "s",
        "action": "x",
        "params": {"b": 1, "a": "ä"},
        "result": {},
        "prev_hash": "",
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert receipt_hash(1700000000, "a", "s", "x", {"a": "ä", "b": 1}, {}, "") == expected


def test_an_untouched_chain_holds() -> None:
    receipts = chain(5)
    assert verify(receipts, Anchor(), head(receipts)).valid
    assert verify(receipts, Anchor(), head(receipts)).checked == 5
    assert verify([], Anchor(), Anchor()).valid
    assert verify(receipts, Anchor()).valid, "without a known head"


def test_a_pruned_chain_holds_from_its_anchor() -> None:
    receipts = chain(5)
    assert verify(receipts[2:], head(receipts[:2]), head(receipts)).valid
    assert verify([], head(receipts), head(receipts)).valid
    assert not verify(receipts[2:], Anchor(), head(receipts)).valid, "pruned without an anchor"


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": 1},
        {"actor": "other"},
        {"schema_id": "other"},
        {"action": "other"},
        {"params": {"n": 99}},
        {"result": {}},
        {"receipt_hash": "00" * 32},
    ],
)
def test_any_change_is_found(change: dict[str, object]) -> None:
    receipts = chain(4)
    receipts[1] = replace(receipts[1], **change)  # type: ignore[arg-type]
    verdict = verify(receipts, Anchor(), head(chain(4)))
    assert (verdict.valid, verdict.checked) == (False, 1)
    assert verdict.problem == "receipt 2 was changed after it was written"


def test_dropping_swapping_and_cutting_are_found() -> None:
    receipts = chain(4)
    whole = head(receipts)
    assert (
        verify([receipts[0], *receipts[2:]], Anchor(), whole).problem == "receipt 3 does not follow the one before it"
    )
    assert not verify([receipts[1], receipts[0], *receipts[2:]], Anchor(), whole).valid
    assert not verify(receipts[1:], Anchor(), whole).valid
    assert verify(receipts[:-1], Anchor(), whole).problem == "the newest of 4 receipts are missing"
    assert verify([], Anchor(), whole).problem == "the newest of 4 receipts are missing"
    renumbered = [receipts[0], replace(receipts[1], receipt_id=1)]
    assert verify(renumbered, Anchor()).problem == "receipt 1 is out of order"


def test_canonical_json_knows_no_nan() -> None:
    assert canonical_json({"b": 1, "a": ["ä"]}) == '{"a":["\\u00e4"],"b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
