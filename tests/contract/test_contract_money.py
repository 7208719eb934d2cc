"""The money rules: nothing here writes, moves or restores what holds the operator's funds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from contract.repository import ROOT, tracked

# lightningd's wallet, the seed, and the newest channel backup.
SACRED = re.compile(r"lightningd\.sqlite3|hsm_secret|emergency\.recover")
# The fake *is* a lightningd: it keeps its own wallet, as the real one does.
OF_LIGHTNINGD_ITSELF = ("sandbox/",)
TESTS = ("/tests/", "tests/", "molecule/")
WRITING = re.compile(
    r"\b(unlink|rename|replace|write_text|write_bytes|copy2?|copyfile|move|rmtree|remove|truncate|chmod|symlink|link|"
    r"backup|executescript)\b|mode\s*=\s*[\"'](rw|rwc)|open\([^)]*[\"'][wax+]"
)
IN_YAML = re.compile(r"^\s*(src|dest|path|argv|cmd|creates)\s*:", re.I)


def _code() -> list[Path]:
    return [
        p
        for p in tracked(".py", ".yml", ".sh", ".j2", "")
        if not str(p.relative_to(ROOT)).startswith((*OF_LIGHTNINGD_ITSELF, *TESTS))
        and "/tests/" not in str(p.relative_to(ROOT))
        and p.suffix != ".md"
    ]


def _mentions() -> list[tuple[Path, int, str]]:
    return [
        (path, number, line)
        for path in _code()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if SACRED.search(line)
    ]


def test_no_line_writes_what_holds_funds() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, number, line in _mentions()
        if not line.lstrip().startswith("#")
        and (WRITING.search(line) or (path.suffix == ".yml" and IN_YAML.match(line)))
    ]
    assert not found


def test_the_wallet_is_only_ever_opened_read_only() -> None:
    """Whoever names lightningd's database in code opens it through the one read-only door."""
    openers = {path for path, _, line in _mentions() if "lightningd.sqlite3" in line and path.suffix == ".py"}
    for path in openers:
        text = path.read_text(encoding="utf-8")
        if "sqlite3.connect" in text:
            assert "mode=ro" in text, f"{path.relative_to(ROOT)} opens a database and names the wallet without mode=ro"


@pytest.mark.parametrize("name", ["lightningd.sqlite3", "hsm_secret", "emergency.recover"])
def test_the_rule_would_notice(name: str) -> None:
    """The check above is not blind: lines that break the rule match it."""
    for line in (
        f'shutil.copy2(src, "{name}")',
        f'os.replace(tmp, net / "{name}")',
        f'(net / "{name}").unlink()',
        f'open(net + "/{name}", "wb")',
    ):
        assert SACRED.search(line), line
        assert WRITING.search(line), line


def test_a_rescue_fails_again() -> None:
    """A rescued failure counts as success for Ansible: a canary that was undone would let the fleet go on."""
    import yaml

    found = []

    def walk(node: object, path: Path) -> None:
        if isinstance(node, list):
            for child in node:
                walk(child, path)
        elif isinstance(node, dict):
            if "rescue" in node:
                text = yaml.safe_dump(node["rescue"][-1])
                if "fail" not in text:
                    found.append(f"{path.relative_to(ROOT)}: the last task of a rescue does not fail")
            for child in node.values():
                walk(child, path)

    for path in tracked(".yml"):
        if str(path.relative_to(ROOT)).startswith(("playbooks/", "roles/")):
            walk(yaml.safe_load(path.read_text(encoding="utf-8")), path)
    assert not found


# Who may name these files at all: one reads the seed and the channel backup (below), some read the counter of
# lightningd's commits, the others refuse them.
READER = "_engine/backup_lightningd.py"
NAMERS = {
    READER,
    "_engine/backups.py",
    "_engine/restore_plan.py",
    "_engine/restore.py",
    "_engine/aside.py",
    "_manifest.py",
    "hive_restore.py",
}


def test_only_these_rooms_know_the_names() -> None:
    """A new room that names what holds funds is looked at before it is let in here."""
    strangers = {
        str(path.relative_to(ROOT))
        for path, _, line in _mentions()
        if not line.lstrip().startswith("#") and not any(str(path).endswith(f"/{known}") for known in NAMERS)
    }
    assert strangers == set()


def _reader() -> ast.Module:
    path = next(path for path in tracked(".py") if str(path).endswith(f"/{READER}"))
    return ast.parse(path.read_text(encoding="utf-8"))


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_the_one_reader_opens_what_holds_funds_for_reading_only() -> None:
    """It opens in one place, without any flag that writes; everything else it calls takes content, not such a file."""
    opened = [call for call in _calls(_reader()) if ast.unparse(call.func) in ("os.open", "open", "io.open")]
    assert [ast.unparse(call.func) for call in opened] == ["os.open"]
    flags = set(re.findall(r"O_[A-Z]+", ast.unparse(opened[0].args[1])))
    assert flags == {"O_RDONLY", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"}
    assert [ast.unparse(call) for call in _calls(_reader()) if ast.unparse(call.func) == "os.fdopen"] == [
        "os.fdopen(handle, 'rb')"
    ]


def test_the_one_reader_writes_nothing_but_its_own_copy_beside_the_sets() -> None:
    """Whatever it calls that could change a file is `write_atomic`, and only to our directory of backups."""
    tree = _reader()
    called = {ast.unparse(call.func).rpartition(".")[2] for call in _calls(tree)}
    assert not called & {
        *("unlink", "rename", "replace", "write_text", "write_bytes", "rmtree", "remove", "truncate", "chmod", "utime"),
        *("copy", "copy2", "copyfile", "move", "symlink_to", "link_to", "hardlink_to", "remove_tree", "ftruncate"),
        *("write", "pwrite", "sendfile", "run", "Popen", "connect", "touch", "mkdir"),
    }
    targets = [ast.unparse(call.args[0]) for call in _calls(tree) if ast.unparse(call.func) == "write_atomic"]
    assert targets == ["node.backups_dir / NEWEST"]


def test_the_seed_leaves_its_reader_only_as_a_fingerprint() -> None:
    """Of the seed's content nothing is returned but what a keyed hash makes of it."""
    tree = _reader()
    users = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(isinstance(n, ast.Name) and n.id == "SEED" for n in ast.walk(node))
    ]
    assert users == ["seed_fingerprint"]
    function = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == users[0])
    returned = [ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Return)]
    assert returned == ["return None if found is None else hmac.new(LABEL, found[0], hashlib.sha256).hexdigest()"]


def test_what_restores_does_not_know_the_kept_channel_backup() -> None:
    """It is kept to be carried off the node, and never put back by us: nothing of the engine asks for it by name."""
    askers = {
        path.name
        for path in tracked(".py")
        if "/_engine/" in str(path) and re.search(r"\bNEWEST\b", path.read_text(encoding="utf-8"))
    }
    assert askers == {Path(READER).name}


def test_no_guide_touches_what_holds_funds() -> None:
    """What an operator is told to type neither copies nor opens it."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in tracked(".md")
        for block in re.findall(r"^```(?:sh|console|bash)?\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
        for line in block.splitlines()
        if SACRED.search(line) and not line.lstrip().startswith("#")
    ]
    assert found == []


# Signals

# Each sends SIGKILL to what it knows to be its own: a plugin that hangs and is a child of this lightningd, a process or
# a group that it has started itself, itself.
SENDERS = {
    "_engine/processes.py",
    "_engine/commands.py",
    "_engine/steps.py",
    "_engine/runtimes_docker.py",
    "_drill_warden.py",
    "_getmanifest.py",
    "_probe_setup.py",
    "_suites_run.py",
}
SENDING = {"kill", "killpg", "pidfd_send_signal", "send_signal", "terminate"}


def _signals() -> list[tuple[str, int, str]]:
    """Every call in the collection that sends a signal: file, line, text."""
    found = []
    for path in tracked(".py"):
        name = str(path.relative_to(ROOT))
        if not name.startswith("collections/") or "/tests/" in name:
            continue
        found += [
            (name, node.lineno, ast.unparse(node))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDING
        ]
    return found


def test_lightningd_is_never_ended_by_a_signal() -> None:
    """A signal tells plugins nothing, and leaves the node as a power cut would: lightningd is stopped by RPC."""
    strangers = [
        f"{name}:{line}: {text}"
        for name, line, text in _signals()
        if not any(name.endswith(f"/{known}") for known in SENDERS)
    ]
    assert strangers == []
    # Signal 0 only asks whether a process is there.
    soft = [
        f"{name}:{line}: {text}"
        for name, line, text in _signals()
        if not text.startswith("self.") and "SIGKILL" not in text and not text.endswith(", 0)")
    ]
    assert soft == [], "what is ours and has to end is killed; what is lightningd's is asked by RPC"


def test_the_signals_were_found() -> None:
    assert len(_signals()) >= 4


def test_no_playbook_stops_or_restarts_a_service() -> None:
    """Planned restarts go through the engine, which stops lightningd by RPC after it has looked at the payments."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked(".yml")
        if re.match(r"playbooks/|roles/\w+/(tasks|handlers)/", str(path.relative_to(ROOT)))
        if not path.name.endswith(".meta.yml")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.match(r"\s*state:\s*(stopped|restarted)\b", line)
        or re.search(r"\b(systemctl|docker)\s+(stop|kill)", line)
    ]
    assert found == []


def test_our_units_stop_lightningd_by_rpc() -> None:
    for path in tracked(".j2", ".service"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^ExecStart=.*lightningd", text, re.M):
            stop = re.search(r"^ExecStop=.*", text, re.M)
            assert stop is not None, f"{path.relative_to(ROOT)} lets systemd end lightningd by a signal"
            assert "stop" in stop.group(), f"{path.relative_to(ROOT)}: {stop.group()}"
