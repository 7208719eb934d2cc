"""Parameters: positional, named, all strings, both spellings, every bad value by its sentence."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pytest
from hive_kit.errors import InvalidParamsError
from hive_kit.params import NoParams, bind, boolean, csv, integer, json_object, text, usage
from hypothesis import given
from hypothesis import strategies as st


@dataclass(frozen=True, kw_only=True)
class Send:
    recipient: str = text(max_length=8, aliases=["recipient_pubkey"])
    amount: int = integer(minimum=1, maximum=10)
    kind: str = text(default="a", choices=("a", "b"))
    urgent: bool = boolean(default=False)
    tags: tuple[str, ...] = csv(default=(), choices=("x", "y"))
    extra: dict[str, Any] | None = json_object(default=None)
    code: str = text(default="", pattern="[0-9]+", shape="digits")


FULL = Send(recipient="bob", amount=3, kind="b", urgent=True, tags=("x", "y"), extra={"n": 1}, code="12")


def test_positional_and_named_give_the_same() -> None:
    assert bind(Send, ["bob", "3", "b", "true", "x,y", '{"n": 1}', "12"]) == FULL
    assert bind(Send, ["bob", 3, "b", True, ["x", "y"], {"n": 1}, 12]) == FULL
    named = {
        "recipient": "bob",
        "amount": "3",
        "kind": "b",
        "urgent": "1",
        "tags": "x, y",
        "extra": '{"n":1}',
        "code": 12,
    }
    assert bind(Send, named) == FULL


def test_null_and_absence_mean_the_default() -> None:
    assert bind(Send, ["bob", 1]) == bind(Send, ["bob", 1, None, None, None]) == Send(recipient="bob", amount=1)


def test_another_spelling() -> None:
    assert bind(Send, {"recipient_pubkey": "bob", "amount": 1}) == Send(recipient="bob", amount=1)
    with pytest.raises(InvalidParamsError, match="recipient is given twice, under two spellings"):
        bind(Send, {"recipient_pubkey": "bob", "recipient": "bob", "amount": 1})


@pytest.mark.parametrize(
    ("given_params", "sentence"),
    [
        ([], "missing required parameter: recipient"),
        (["bob"], "missing required parameter: amount"),
        (["bob", None], "missing required parameter: amount"),
        ({"amount": 1}, "missing required parameter: recipient"),
        (["", 1], "recipient: must not be empty"),
        (["123456789", 1], "recipient: is too long (9 characters, at most 8)"),
        ([True, 1], "recipient: must be text"),
        ([["bob"], 1], "recipient: must be text"),
        (["bob", "x"], "amount: 'x' is not a whole number"),
        (["bob", 1.5], "amount: 1.5 is not a whole number"),
        (["bob", True], "amount: True is not a whole number"),
        (["bob", 0], "amount: 0 is less than the minimum 1"),
        (["bob", 11], "amount: 11 is more than the maximum 10"),
        (["bob", 1, "c"], "kind: 'c' is not one of a, b"),
        (["bob", 1, "a", "perhaps"], "urgent: 'perhaps' is not true or false"),
        (["bob", 1, "a", "no", "x,z"], "tags: 'z' is not one of x, y"),
        (["bob", 1, "a", "no", 5], "tags: 5 is not a comma-separated list"),
        (["bob", 1, "a", "no", [5]], "tags: [5] is not a list of texts"),
        (["bob", 1, "a", "no", "", "[1]"], "extra: must decode to an object"),
        (["bob", 1, "a", "no", "", "{", "1"], "extra: is not valid JSON"),
        ({"recipient": "bob", "amount": 1, "code": "1a"}, "code: '1a' is not digits"),
        (["b", 1, "a", "no", "", "{}", "1", "9"], "too many parameters: got 8, expected at most 7"),
        ({"zz": 1}, "unknown parameter: zz (parameters: recipient, amount, kind, urgent, tags, extra, code)"),
    ],
)
def test_bad_values_are_named(given_params: Any, sentence: str) -> None:
    with pytest.raises(InvalidParamsError) as refused:
        bind(Send, given_params)
    assert refused.value.message.startswith(sentence)
    assert refused.value.code == -32602


def test_a_method_without_parameters() -> None:
    assert bind(NoParams, []) == bind(NoParams, {}) == NoParams()
    with pytest.raises(InvalidParamsError, match="got 1, expected at most 0"):
        bind(NoParams, [1])
    with pytest.raises(InvalidParamsError, match=r"unknown parameter: a \(parameters: none\)"):
        bind(NoParams, {"a": 1})


def test_usage_line() -> None:
    assert usage(Send) == "recipient amount [kind] [urgent] [tags] [extra] [code]"
    assert usage(NoParams) == ""


def test_a_plain_field_is_a_mistake_of_ours() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Plain:
        name: str

    with pytest.raises(TypeError, match="declare name with text"):
        bind(Plain, ["x"])


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(_json, max_size=8) | st.dictionaries(st.sampled_from(["recipient", "amount", "tags", "zz"]), _json))
def test_whatever_comes_in_is_bound_or_refused(anything: Any) -> None:
    with contextlib.suppress(InvalidParamsError):
        bound = bind(Send, anything)
        assert 1 <= bound.amount <= 10
        assert 1 <= len(bound.recipient) <= 8
