"""The documentation speaks of what there is: playbooks, variables, codes, files, and says all of it."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from ansible.cli.playbook import PlaybookCLI
from contract.error_codes import codes
from contract.repository import COLLECTION, ROOT, load, playbooks, roles, tracked
from markdown_it import MarkdownIt

DOCS = [path for path in tracked(".md") if path.is_relative_to(ROOT / "docs") or path.parent == ROOT]
TROUBLES = ROOT / "docs/runbooks/troubleshooting.md"
# Of inventories and of Ansible; what begins so is a variable of ours.
VARIABLE = re.compile(r"\b(hive|sandbox)_[a-z]+(_[a-z]+)*\b(?!-)")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _fences(path: Path) -> list[str]:
    """The fenced blocks of a document, a command that goes on over lines joined into one."""
    tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
    return [token.content for token in tokens if token.type == "fence"]


@cache
def _slugs(path: Path) -> frozenset[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
    titles = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


def _links(path: Path) -> list[str]:
    """Where the document links to in this repository."""
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    links = [
        str(child.attrGet("href"))
        for token in tokens
        for child in token.children or []
        if child.type == "link_open" and child.attrGet("href")
    ]
    return [unquote(link) for link in links if not re.match(r"[a-z]+:", link)]


def test_every_link_leads_somewhere() -> None:
    dead = []
    for path in DOCS:
        for link in _links(path):
            place, _, anchor = link.partition("#")
            target = (path.parent / place).resolve() if place else path
            if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _slugs(target)):
                dead.append(f"{_name(path)}: {link}")
    assert dead == []


def test_every_page_can_be_found_from_the_index() -> None:
    seen, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        queue += [(page.parent / link.partition("#")[0]).resolve() for link in _links(page) if not link.startswith("#")]
    lost = [_name(path) for path in tracked(".md") if path.is_relative_to(ROOT / "docs") and path not in seen]
    assert lost == []


# Commands


def _commands() -> list[tuple[str, list[str]]]:
    """Every `ansible-playbook` line that a document shows: where, and its words."""
    found = []
    for path in DOCS:
        for fence in _fences(path):
            text = re.sub(r"\\\n\s*", " ", fence)
            # A quoted argument may go on over lines.
            for match in re.finditer(r"^(?:\$ )?(?:\S*/)?ansible-playbook (?:[^'\n]|'[^']*')*", text, re.M):
                line = match.group().removeprefix("$ ")
                found.append((_name(path), shlex.split(line.replace("<", "").replace(">", ""), comments=True)))
    return found


def _specs(playbook: Path) -> set[str]:
    meta = load(playbook.with_suffix(".meta.yml"))["argument_specs"]
    return {name for spec in meta.values() for name in spec.get("options") or {}}


def _of_roles() -> set[str]:
    return {
        name
        for role in roles()
        if (role / "meta/argument_specs.yml").is_file()
        for spec in load(role / "meta/argument_specs.yml")["argument_specs"].values()
        for name in spec.get("options") or {}
    }


def _faults(words: list[str]) -> list[str]:
    """What keeps a command from being typed as it is shown."""
    cli = PlaybookCLI(words)
    cli.init_parser()
    try:
        arguments = cli.parser.parse_args(words[1:])
    except SystemExit:
        return ["ansible-playbook does not take these arguments"]
    there = [ROOT / name for name in arguments.args if ROOT / name in playbooks()]
    faults = [f"{name} is not there" for name in arguments.args if ROOT / name not in there]
    known = {"hive_stack", *_of_roles(), *(name for playbook in there for name in _specs(playbook))}
    for extra in arguments.extra_vars or []:
        given = set(json.loads(extra)) if extra.startswith("{") else {extra.partition("=")[0]}
        faults += [f"nothing reads {name}" for name in sorted(given - known)]
    return faults


def test_every_command_shown_can_be_typed() -> None:
    assert [f"{place}: {fault}" for place, words in _commands() for fault in _faults(words)] == []


def test_a_command_that_cannot_be_typed_is_noticed() -> None:
    line = "ansible-playbook --limt x playbooks/rollout.yml"
    assert _faults(line.split())
    assert _faults(["ansible-playbook", "playbooks/roll-out.yml"]) == ["playbooks/roll-out.yml is not there"]
    assert _faults(["ansible-playbook", "playbooks/rollout.yml", "-e", "hive_nope=1"]) == ["nothing reads hive_nope"]


def test_the_commands_were_found() -> None:
    """The test above is not green because it sees nothing."""
    places = {place for place, _ in _commands()}
    assert {f"docs/runbooks/{path.stem}.md" for path in playbooks()} | {"README.md"} <= places


def test_every_playbook_shown_parses() -> None:
    shown = sorted({word for _, words in _commands() for word in words if word.startswith("playbooks/")})
    done = subprocess.run(
        ["ansible-playbook", "--syntax-check", "-i", "inventories/example-production", *shown],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    shown = {
        (_name(path), target)
        for path in DOCS
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.M)
    }
    assert not {item for item in shown if item[1] not in targets}


# Variables and codes


def _variables() -> set[str]:
    """Every variable that an operator can set, and every module and fixed name that looks like one."""
    modules = {path.stem for path in (COLLECTION / "plugins/modules").glob("*.py")}
    rooms = {path.name for path in roles()} | {path.stem for path in (COLLECTION / "plugins/action").glob("*.py")}
    packages = {"hive_kit", "hive_sandbox"}
    groups = {"hive_nodes", "hive_stack", "hive_id"}  # the last is what a plugin answers
    return _of_roles() | {name for path in playbooks() for name in _specs(path)} | modules | rooms | packages | groups


def test_every_variable_a_page_names_exists() -> None:
    known = _variables()
    unknown = {
        (_name(path), match.group())
        for path in DOCS
        # Tables of the plugins and what they answer; and names of metrics, which have a test of their own.
        if not re.search(r"reference/(cl-|hive-kit|metrics)", _name(path))
        for match in VARIABLE.finditer(path.read_text(encoding="utf-8"))
        if match.group() not in known
    }
    assert sorted(unknown) == []


def test_every_metric_is_documented_and_no_other() -> None:
    code = (COLLECTION / "plugins/module_utils/_metrics.py").read_text(encoding="utf-8")
    made = set(re.findall(r'"(hive_(?:rollout|gates?|fleet|node)_[a-z_]+)"', code)) | {
        "hive_node_brake",
        "hive_node_pause",
    }
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(hive_(?:rollout|gates?|fleet|node)_[a-z_]+)`", page))
    assert len(made) > 20
    assert made == told


def test_every_variable_that_a_message_names_exists() -> None:
    """A refusal says what to do; it must not send the operator after a variable that nothing reads."""
    known = _variables()
    lies = {
        (path.name, match.group())
        for path in tracked(".py")
        if path.is_relative_to(COLLECTION / "plugins")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
        for match in VARIABLE.finditer(node.value)
        if match.group() not in known
    }
    assert sorted(lies) == []


def _explained() -> set[str]:
    rows = re.findall(r"^\| (`[^|]*`) \|", TROUBLES.read_text(encoding="utf-8"), re.M)
    return {code for row in rows for code in re.findall(r"`([a-z0-9-]+)`", row)}


def test_every_code_is_explained() -> None:
    assert sorted(set(codes()) - _explained()) == [], "docs/runbooks/troubleshooting.md says nothing of these codes"


def test_no_code_is_explained_that_nothing_raises() -> None:
    # Two are put together of two words, one has its sentence from elsewhere, one is an option's name.
    unseen = {"option-collision", "rpc-collision", "reports-dir", "important-plugin"}
    assert sorted(_explained() - set(codes()) - unseen) == []


def test_the_codes_were_found() -> None:
    found = codes()
    assert len(found) > 100
    assert {"lightningd-down", "signature", "not-synced", "bad-waves", "not-approved"} <= set(found)
