"""Options: every type, every bad value by its sentence, changes while running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hive_kit.errors import OptionError
from hive_kit.options import Option, Options

DECLARED = (
    Option("x-text", "a", "text", choices=("a", "b")),
    Option("x-number", 5, "number", kind="int", dynamic=True, minimum=1, maximum=9),
    Option("x-flag", True, "flag", kind="bool", dynamic=True),
    Option("x-list", ("p", "q"), "list", kind="csv", minimum=1, maximum=3),
    Option("x-path", "file.db", "path", kind="path"),
)


def options(**raw: Any) -> Options:
    return Options(DECLARED, {f"x-{name}": value for name, value in raw.items()}, Path("/net"))


def test_defaults_and_types() -> None:
    given = options()
    assert given.text("x-text") == "a"
    assert given.number("x-number") == 5
    assert given.flag("x-flag") is True
    assert given.entries("x-list") == ("p", "q")
    assert given.path("x-path") == Path("/net/file.db")
    assert given.as_dict() == {"x-text": "a", "x-number": 5, "x-flag": True, "x-list": ["p", "q"], "x-path": "file.db"}
    assert [(option.wire_type, option.wire_default) for option in DECLARED] == [
        ("string", "a"),
        ("int", 5),
        ("bool", True),
        ("string", "p,q"),
        ("string", "file.db"),
    ]


@pytest.mark.parametrize(
    ("raw", "value"), [("false", False), ("FALSE", False), (False, False), ("0", False), ("on", True)]
)
def test_a_flag_may_come_as_text(raw: Any, value: bool) -> None:
    assert options(flag=raw).flag("x-flag") is value


def test_lists_and_paths() -> None:
    assert options(list=" a , b,,c ").entries("x-list") == ("a", "b", "c")
    assert options(path="/abs/x").path("x-path") == Path("/abs/x")
    assert options(path="~/x").path("x-path") == Path.home() / "x"
    assert options(number="7").number("x-number") == 7
    assert options(text=None).text("x-text") == "a"


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"text": "c"}, "x-text: 'c' is not one of a, b"),
        ({"text": 1}, "x-text: 1 is not text"),
        ({"number": "nine"}, "x-number: 'nine' is not a whole number"),
        ({"number": True}, "x-number: True is not a whole number"),
        ({"number": 0}, "x-number: 0 is less than the minimum 1"),
        ({"number": 10}, "x-number: 10 is more than the maximum 9"),
        ({"flag": "maybe"}, "x-flag: 'maybe' is not true or false"),
        ({"list": ""}, "x-list: 0 entries is less than the minimum 1"),
        ({"list": "a,b,c,d"}, "x-list: 4 entries is more than the maximum 3"),
        ({"list": 5}, "x-list: 5 is not a comma-separated list"),
        ({"other": 5}, "x-other: this plugin has no such option"),
    ],
)
def test_bad_values_are_named(raw: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError) as refused:
        options(**raw)
    assert refused.value.message == sentence
    assert refused.value.code == 6009


def test_a_dynamic_option_changes_and_tells() -> None:
    given = options()
    seen: list[Any] = []
    given.on_change("x-number", seen.append)
    given.set("x-number", "8")
    assert (given.number("x-number"), seen) == (8, [8])
    with pytest.raises(OptionError, match="x-number: 99 is more than"):
        given.set("x-number", 99)
    assert (given.number("x-number"), seen) == (8, [8])


def test_a_listener_can_stop_a_change() -> None:
    given = options()

    def refuse(_: Any) -> None:
        raise OptionError("not now")

    given.on_change("x-flag", refuse)
    with pytest.raises(OptionError, match="not now"):
        given.set("x-flag", False)
    assert given.flag("x-flag") is True


def test_what_is_not_dynamic_stays() -> None:
    given = options()
    with pytest.raises(OptionError, match="x-text: changes only when the plugin starts"):
        given.set("x-text", "b")
    with pytest.raises(OptionError, match="no such option"):
        given.set("x-none", "b")
    with pytest.raises(ValueError, match="x-text is not dynamic"):
        given.on_change("x-text", print)
    with pytest.raises(TypeError, match="x-text is str, not int"):
        given.number("x-text")
