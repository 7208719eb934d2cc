"""RPC surfaces, MCP tools and roles, held against reviewed lists: what is more, less or otherwise is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _mcp, _runes, _surface
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

RPC = """
schema = 1
[[plugin]]
name = "thing"
versions = "{versions}"
hooks = ["htlc_accepted"]
subscriptions = ["shutdown"]
options = ["thing-path"]
dynamic_options = ["thing-limit"]
[plugin.methods]
thing-look = {{ class = "read-only", danger = 1 }}
thing-do = {{ class = "mutating", danger = 5, gate = ["operator"], bare = true, reads = {{ action = ["get"] }} }}
thing-pay = {{ class = "spending", danger = 8, gate = ["limits"] }}
"""


def option(name: str, dynamic: bool) -> Json:
    return {"name": name, "type": "string", "default": "", "dynamic": dynamic, "description": ""}


def manifest(**changes: Any) -> Json:
    return {
        "name": "thing",
        "version": "1.0.0",
        "rpc_methods": ["thing-do", "thing-look", "thing-pay"],
        "hooks": ["htlc_accepted"],
        "subscriptions": ["shutdown"],
        "options": [option("thing-limit", True), option("thing-path", False)],
        **changes,
    }


def own(directory: Path, name: str = "rpc.toml", text: str = RPC.format(versions="<2")) -> Path:
    (directory / name).write_text(text, encoding="utf-8")
    return directory


def failed(book: _surface.Book, said: Json) -> list[str]:
    entry = _surface.entry_of(book, said["name"], said["version"])
    return [check.name for check in _surface.compare(entry, said) if not check.ok]


def code_of(text: str, directory: Path, name: str = "rpc.toml") -> str:
    """The sentence with which a list is refused."""
    with pytest.raises(ReleaseError) as caught:
        _surface.classes(_surface.read(name, own(directory, name, text)))
    assert caught.value.code == "reviewed"
    return str(caught.value)


def test_what_is_as_reviewed_holds(tmp_path: Path) -> None:
    book = _surface.read("rpc.toml", own(tmp_path))
    assert failed(book, manifest()) == []
    assert set(book.digests) == {"rpc.toml", "own/rpc.toml"}
    assert _surface.entry_of(book, "cl-hive", "0.1.0") is not None, "the shipped list is still there"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rpc_methods": ["thing-do", "thing-look"]}, ["RPC method thing-pay is there"]),
        (
            {"rpc_methods": ["thing-do", "thing-look", "thing-new", "thing-pay"]},
            ["RPC method thing-new was reviewed"],
        ),
        ({"hooks": []}, ["hook htlc_accepted is there"]),
        ({"hooks": ["htlc_accepted", "rpc_command"]}, ["hook rpc_command was reviewed"]),
        ({"subscriptions": ["custommsg", "shutdown"]}, ["subscription custommsg was reviewed"]),
        (
            # An option that can be set while it runs is another one than it was.
            {"options": [option("thing-limit", True), option("thing-path", True)]},
            ["option thing-path is there", "dynamic option thing-path was reviewed"],
        ),
        ({"version": "2.0.0"}, ["thing 2.0.0 was reviewed"]),
        ({"name": "other"}, ["other 1.0.0 was reviewed"]),
    ],
)
def test_a_difference_is_named(tmp_path: Path, changes: Json, named: list[str]) -> None:
    assert failed(_surface.read("rpc.toml", own(tmp_path)), manifest(**changes)) == named


def test_what_runs_is_held_against_the_list_too(tmp_path: Path) -> None:
    book = _surface.read("rpc.toml", own(tmp_path))
    entry = _surface.entry_of(book, "thing", "1.0.0")
    assert entry is not None

    def names(commands: list[str]) -> list[str]:
        return [check.name for check in _surface.compare_live([entry], "thing", commands, "alpha") if not check.ok]

    assert names(["getinfo", "thing-do", "thing-look", "thing-pay"]) == []
    assert names(["thing-do", "thing-look", "thing-more", "thing-pay"]) == [
        "RPC method thing-more on alpha was reviewed"
    ]
    assert names(["thing-do", "thing-pay"]) == ["RPC method thing-look answers on alpha"]


@pytest.mark.parametrize(
    "line",
    [
        'thing-do = { class = "mutating", danger = 5 }',
        'thing-do = { class = "mutating", danger = 5, gate = ["hope"] }',
        'thing-do = { class = "harmless", danger = 5, gate = ["operator"] }',
        'thing-do = { class = "mutating", gate = ["operator"] }',
        'thing-do = { class = "mutating", danger = 11, gate = ["operator"] }',
    ],
)
def test_a_method_that_nobody_classified_was_not_reviewed(tmp_path: Path, line: str) -> None:
    text = f'schema = 1\n[[plugin]]\nname = "thing"\n[plugin.methods]\n{line}\n'
    assert "thing-do" in code_of(text, tmp_path)


def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "not TOML" in code_of("schema = ", tmp_path)
    assert "schema = 1" in code_of("schema = 2", tmp_path)
    with pytest.raises(ReleaseError, match="hive_reviewed_dir"):
        _surface.read("rpc.toml", tmp_path / "nowhere")
    bad = _surface.read("rpc.toml", own(tmp_path, text=RPC.format(versions="about 2")))
    with pytest.raises(ReleaseError, match="about 2"):
        _surface.entry_of(bad, "thing", "1.0.0")


# -- roles -----------------------------------------------------------------------------------------------------------

ROLES = """
schema = 1
never = ["thing-evil"]
[roles.watcher]
ceiling = "read-only"
methods = ["getinfo", "thing-look"]
[roles.watcher.only]
thing-do = { action = ["get"] }
[roles.one]
ceiling = "spending"
methods = ["thing-pay"]
fixed = { whom = "{subject}" }
"""


def roles(directory: Path, *wanted: str, text: str = ROLES) -> list[_runes.Role]:
    own(directory)
    own(directory, "runes.toml", text)
    methods = _surface.classes(_surface.read("rpc.toml", directory))
    return _surface.roles(_surface.read("runes.toml", directory), methods, wanted)


def test_a_role_becomes_restrictions_and_calls(tmp_path: Path) -> None:
    watcher, one = roles(tmp_path, "watcher", "one/bob")
    assert _runes.restrictions(watcher) == [
        ["method=getinfo", "method=thing-do", "method=thing-look"],
        ["method/thing-do", "pnum<2"],
        ["method/thing-do", "pnum=0", "pnameaction=get"],
        ["hiverole#watcher"],
    ]
    assert _runes.restrictions(one) == [["method=thing-pay"], ["pnamewhom=bob"], ["hiverole#one-bob"]]
    titles = {call.title for call in _runes.calls(watcher, ["pay", "thing-look", "thing-pay"])}
    assert {"getinfo is permitted", "pay is refused", "thing-pay is refused"} <= titles
    assert 'thing-do {"action": "something-else"} is refused' in titles
    assert "thing-look is refused" not in titles
    assert 'thing-pay {"whom": "something-else"} is refused' in {call.title for call in _runes.calls(one, [])}
    assert _runes.Role.from_json(json.loads(json.dumps(one.as_json()))) == one
    assert _runes.digest(one) != _runes.digest(roles(tmp_path, "one/eve")[0])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"thing-look"', '"thing-evil"', "which no role may"),
        ('"thing-look"', '"thing-unknown"', "which nobody reviewed"),
        ('"thing-look"', '"thing-pay"', "which is spending"),
        ('["get"]', '["get", "set"]', "which is mutating"),
        ('"thing-look"', '"thing-do"', "which is mutating"),
        ('ceiling = "read-only"', 'ceiling = "some"', "no ceiling"),
    ],
)
def test_a_role_that_may_too_much_is_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    with pytest.raises(ReleaseError, match=said) as caught:
        roles(tmp_path, "watcher", text=ROLES.replace(before, after, 1))
    assert caught.value.code == "rune-role"


@pytest.mark.parametrize("wanted", [["nobody"], ["one"], ["watcher/bob"], ["one/a&b"], ["watcher", "watcher"]])
def test_a_role_has_to_be_asked_for_as_it_is(tmp_path: Path, wanted: list[str]) -> None:
    with pytest.raises(ReleaseError, match="hive_runes") as caught:
        roles(tmp_path, *wanted)
    assert caught.value.code == "rune-role"


def test_what_no_role_may_cannot_be_taken_off_the_list(tmp_path: Path) -> None:
    own(tmp_path, "runes.toml", "schema = 1\nnever = []\ntakes_over = []\n")
    content = _surface.read("runes.toml", tmp_path).content
    assert {"plugin", "stop", "pay"} <= set(content["never"])
    assert "plugin" in content["takes_over"]


# -- runes of others -------------------------------------------------------------------------------------------------


def described(*restrictions: list[str]) -> list[Json]:
    """Restrictions as showrunes has them."""

    def one(text: str) -> Json:
        field = "method" if text.startswith("method") else "pnum"
        return {"fieldname": field, "condition": text[len(field)], "value": text[len(field) + 1 :]}

    return [{"alternatives": [one(text) for text in alternatives]} for alternatives in restrictions]


@pytest.mark.parametrize(
    ("restrictions", "could"),
    [
        ([], True),
        ([["method=plugin"]], True),
        ([["method=getinfo"]], False),
        ([["method^list", "method^pl"]], True),
        ([["method^list"], ["method/plugin"]], False),
        ([["method/stop"]], True),
        ([["method$gin"]], True),
        ([["method~lug"]], True),
        ([["method{a"]], False),
        ([["pnum=0"]], True),
        ([["method=getinfo", "pnum=1"]], True),
        ([["method^list"], ["pnum=1"]], False),
    ],
)
def test_a_rune_of_others_is_judged_by_what_it_could_ever_do(restrictions: list[list[str]], could: bool) -> None:
    assert _runes.could_call(described(*restrictions), "plugin") is could


def test_only_runes_of_others_that_still_count_are_findings() -> None:
    ours = [{"alternatives": [{"fieldname": "hiverole", "condition": "#", "value": "monitor"}]}]
    shown: list[Json] = [
        {"unique_id": "0", "restrictions": []},
        {"unique_id": "1", "restrictions": [], "blacklisted": True},
        {"unique_id": "2", "restrictions": ours},
        {"unique_id": "3", "restrictions": described(["method=getinfo"])},
        {"unique_id": "4", "restrictions": described(["method^pl"])},
    ]
    assert _runes.foreign(shown, ["plugin", "createrune"]) == [
        {"id": "0", "unrestricted": True, "could_call": ["createrune", "plugin"]},
        {"id": "3", "unrestricted": False, "could_call": []},
        {"id": "4", "unrestricted": False, "could_call": ["plugin"]},
    ]


# -- MCP -------------------------------------------------------------------------------------------------------------

REVIEWED = {
    "look": {"class": "read-only", "plugins": ["thing"], "methods": ["thing-look"]},
    "note": {"class": "local-only", "plugins": ["mcp-server"]},
    "pay": {"class": "spending", "plugins": ["thing"], "methods": ["thing-pay"]},
}
SOURCE = '''
"""A server, written as those of the field are."""
from mcp import types

async def list_tools():
    return [
        Tool(name="look", description="looks", inputSchema={}, annotations=ToolAnnotations(readOnlyHint=True)),
        types.Tool(name="note", description="notes", inputSchema={}, annotations={"readOnlyHint": False}),
        Tool("pay", "pays", {}, annotations=None),
    ]
'''


def server(directory: Path, content: str | list[Json] | Json) -> _mcp.Server:
    if isinstance(content, str):
        path = directory / "server.py"
        path.write_text(content, encoding="utf-8")
    else:
        path = directory / "tools.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return _mcp.read(path)


def unlike(found: _mcp.Server) -> list[str]:
    return [check.name for check in _mcp.compare(REVIEWED, found) if not check.ok]


def test_a_server_is_read_from_its_source(tmp_path: Path) -> None:
    found = server(tmp_path, SOURCE)
    assert found.tools == (_mcp.Tool("look", True), _mcp.Tool("note", False), _mcp.Tool("pay"))
    assert unlike(found) == []
    figures = _mcp.figures(REVIEWED, found, {"thing-look"})
    assert figures["by_class"] == {"read-only": 1, "local-only": 1, "mutating": 0, "spending": 1}
    assert (figures["answered"], figures["annotated"], figures["by_plugin"]["thing"]) == (2, 2, 2)


@pytest.mark.parametrize("form", ["reply", "result", "list"])
def test_a_server_is_read_from_its_answer(tmp_path: Path, form: str) -> None:
    listed = [{"name": name, "annotations": {"readOnlyHint": name == "look"}} for name in REVIEWED]
    forms: dict[str, Any] = {"reply": {"jsonrpc": "2.0", "result": {"tools": listed}}, "result": {"tools": listed}}
    found = server(tmp_path, forms.get(form, listed))
    assert unlike(found) == []
    assert found.tools[0].read_only is True


def test_a_tool_more_or_less_or_lying_is_named(tmp_path: Path) -> None:
    assert unlike(server(tmp_path, [{"name": "look"}, {"name": "pay"}])) == ["MCP tool note is there"]
    more = [{"name": name} for name in (*REVIEWED, "evil")]
    assert unlike(server(tmp_path, more)) == ["MCP tool evil was reviewed"]
    twice = [{"name": name} for name in (*REVIEWED, "pay")]
    assert unlike(server(tmp_path, twice)) == ["MCP tool pay is offered once"]
    lying = SOURCE.replace("annotations=None", "annotations=ToolAnnotations(readOnlyHint=True)")
    assert unlike(server(tmp_path, lying)) == ["MCP tool pay is not called read-only"]
    harmless = SOURCE.replace('{"readOnlyHint": False}', '{"readOnlyHint": True}')
    assert unlike(server(tmp_path, harmless)) == [], "writing only its own notes is no harm to a node"


@pytest.mark.parametrize(
    "content",
    [
        SOURCE.replace('"pay"', "PAY"),
        SOURCE.replace('name="look"', 'name=f"look{1}"'),
        SOURCE.replace("readOnlyHint=True", "readOnlyHint=LOOKS"),
        "def list_tools(:",
        "nothing = 1",
        {"tools": [{"name": "look"}], "nextCursor": "2"},
        {"tools": [{"title": "look"}]},
        [{"name": "look", "annotations": {"readOnlyHint": "yes"}}],
        {"error": {"code": -32601}},
    ],
)
def test_a_server_that_does_not_say_what_it_offers_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ReleaseError, match=r"hive_mcp_server|tools/list") as caught:
        server(tmp_path, content)
    assert caught.value.code == "mcp"


def test_the_source_of_a_server_is_read_and_never_run(tmp_path: Path) -> None:
    server(tmp_path, SOURCE + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    assert not (tmp_path / "ran").exists()
