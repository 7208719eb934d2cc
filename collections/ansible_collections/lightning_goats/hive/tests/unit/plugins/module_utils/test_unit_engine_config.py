"""lightningd's configuration as text: ours, the operator's, and what lightningd's own parser says."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _config
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError

STACK = [
    {
        "name": "p",
        "version": "1",
        "digest": "1" * 64,
        "enabled": True,
        "options": {"p-note": "a b", "p-on": False, "p-flag": True, "p-off": False},
    },
    {"name": "q", "version": "1", "digest": "2" * 64, "enabled": False, "options": {"q-x": 1}},
]
KINDS = {"p": {"p-note": "string", "p-on": "bool", "p-flag": "flag", "p-off": "flag"}}


def test_the_include_holds_plugins_and_options_of_exactly_the_active_ones() -> None:
    text = _config.render(STACK, {"p": "/slots/p"}, KINDS)
    plugins, options = _config.parse_include(text)
    assert plugins == ["/slots/p"]
    assert options == {"p-note": "a b", "p-on": "false", "p-flag": True}
    assert text.startswith("# Managed by")


@pytest.mark.parametrize("value", [" x", "x ", "a\nb", "a\tb"])
def test_values_that_the_parser_would_misread_are_refused(value: str) -> None:
    with pytest.raises(HiveError, match="blanks at an end or a control character"):
        _config.option_text("p-note", value, "string")


@pytest.mark.parametrize("text", ["", "alias=x\n", "alias=x", "a=1\r\nb=2\r\n"])
def test_our_line_comes_and_goes_and_the_rest_stays(text: str) -> None:
    added = _config.add_include(text)
    assert _config.has_include(added)
    assert _config.add_include(added) == added
    dropped = _config.drop_include(added)
    assert dropped in (text, f"{text}\n")
    assert not _config.has_include(dropped)


def test_includes_are_written_out_in_place_with_their_origin(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("b=2\n")
    lines = _config.flatten(tmp_path / "config", "a=1\ninclude more\nc=3\n", {})
    assert [(line.text, line.file.name, line.number) for line in lines] == [
        ("a=1", "config", 1),
        ("b=2", "more", 1),
        ("c=3", "config", 3),
    ]
    complaint = "lightningd: Config file /x/candidate line 2: b=2: unknown option\n"
    explained = _config.explain(complaint, "/x/candidate", lines)
    assert f"{tmp_path / 'more'} line 1" in explained
    assert "unknown option" in explained
    assert "=2" not in explained, "a value may be a secret"


def test_the_network_file_comes_last_unless_conf_was_given(tmp_path: Path) -> None:
    network = tmp_path / "regtest"
    network.mkdir()
    (tmp_path / "config").write_text("a=1\n")
    (network / "config").write_text("a=2\n")
    assert [line.text for line in _config.all_lines(tmp_path / "config", network, False, {})] == ["a=1", "a=2"]
    assert [line.text for line in _config.all_lines(tmp_path / "config", network, True, {})] == ["a=1"]


def test_conf_and_daemon_are_taken_out_for_validation() -> None:
    argv = ["lightningd", "--daemon", "--conf", "/a", "--conf=/b", "--network=regtest"]
    assert _config.explicit_conf(argv) == "/a"
    assert _config.without_conf(argv) == ["lightningd", "--network=regtest"]


def test_persisted_options_are_blanked_line_by_line_and_can_come_back() -> None:
    text = "# made by setconfig\np-note=x\nother=1\np-flag\n"
    cleared, gone = _config.clear_options(text, {"p-note", "p-flag"})
    assert cleared.count("\n") == text.count("\n"), "a running lightningd counts these lines"
    assert "p-note=" not in cleared
    assert "other=1" in cleared
    assert _config.put_back(cleared, gone) == text


def test_strays_are_our_options_and_plugins_outside_our_file() -> None:
    lines = _config.flatten(Path("/d/config"), "p-note=x\nplugin=/s/slots/p\nalias=y\n# p-note=z\n", {})
    found = _config.find_strays(lines, {"p-note"}, Path("/d/hive.conf"), ("/s/slots/",))
    assert [line.number for line in found] == [1, 2]
