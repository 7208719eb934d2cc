"""Guides that are run as they are written.

The convention of an executed guide, and all of it:

* ```` ```sh ```` holds lines to paste as a whole (functions, assignments). They print nothing and end with status 0.
* ```` ```console ```` holds a session: `$ ` begins a command, `> ` goes on with it, and what follows is what it prints,
  on stdout and stderr. `...` stands for anything. Every command ends with status 0; one that does not shows its
  status itself (`; echo "exit status $?"`).
* Any other block is shown and not run.
* The `sh` block under the heading "Your node" holds the operator's variables, one `NAME=value` a line. Whoever runs
  the guide puts their own values there and changes nothing else.

All blocks of a guide run in one bash, from the top to the bottom.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt

VARIABLES = "Your node"
SECONDS = 120.0
_END = "end-of-command-7f3b"
_OPTIONS = doctest.ELLIPSIS | doctest.REPORT_NDIFF


@dataclass(frozen=True)
class Step:
    """One thing to type and what it should print.

    Attributes:
        line: where it stands in the guide, counted from 1.
        headings: what it stands under, from the title down.
    """

    line: int
    command: str
    expected: str
    headings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its first line of text, and the headings it stands under."""

    language: str
    text: str
    line: int
    headings: tuple[str, ...]


class GuideError(AssertionError):
    """The guide does not do what it says."""


def blocks(markdown: str) -> list[Block]:
    """Every fenced block of a document."""
    headings: list[str] = []
    found = []
    tokens = MarkdownIt("commonmark").parse(markdown)
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and following is not None:
            level = int(token.tag[1:])
            headings = [*headings[: level - 1], following.content]
        elif token.type == "fence" and token.map is not None:
            found.append(Block(token.info.strip(), token.content, token.map[0] + 2, tuple(headings)))
    return found


def variables(guide: Path) -> dict[str, str]:
    """The operator's variables as the guide has them."""
    block = _variables_block(guide)
    return {name: value for name, _, value in (line.partition("=") for line in block.text.splitlines())}


def _variables_block(guide: Path) -> Block:
    found = [
        block
        for block in blocks(guide.read_text(encoding="utf-8"))
        if block.language == "sh" and block.headings[-1:] == (VARIABLES,)
    ]
    if len(found) != 1:
        raise GuideError(f"{guide.name} needs exactly one sh block under the heading {VARIABLES!r}, not {len(found)}")
    strange = [line for line in found[0].text.splitlines() if not re.fullmatch(r"[A-Z_]+=.*", line)]
    if strange:
        raise GuideError(f"{guide.name}: under {VARIABLES!r} every line is NAME=value, not {strange[0]!r}")
    return found[0]


def steps(guide: Path, values: Mapping[str, str]) -> list[Step]:
    """What the guide has one type, with the operator's `values` in place of its own.

    Raises:
        GuideError: a variable is missing in `values`, or a block breaks the convention.
    """
    own = _variables_block(guide)
    found = []
    for block in blocks(guide.read_text(encoding="utf-8")):
        if block == own:
            names = list(variables(guide))
            if set(names) != set(values):
                raise GuideError(f"{guide.name} asks for {sorted(names)}, the test gives {sorted(values)}")
            assignments = "\n".join(f"{name}={shlex.quote(values[name])}" for name in names)
            found.append(Step(block.line, assignments, "", block.headings))
        elif block.language == "sh":
            found.append(Step(block.line, block.text, "", block.headings))
        elif block.language == "console":
            found += _session(block, guide)
    return found


def _session(block: Block, guide: Path) -> list[Step]:
    found: list[Step] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            found.append(Step(number, line[2:], "", block.headings))
        elif not found:
            raise GuideError(f"{guide.name}:{number}: a console block begins with a command")
        elif line.startswith("> ") and not found[-1].expected:
            found[-1] = replace(found[-1], command=f"{found[-1].command}\n{line[2:]}")
        else:
            found[-1] = replace(found[-1], expected=f"{found[-1].expected}{line}\n")
    return found


class Shell:
    """One bash that stays, so that variables, functions and the directory do too."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="guide-")
        self._file = Path(self._scratch.name) / "command"
        self._output = Path(self._scratch.name) / "output"
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(10)
        self._scratch.cleanup()

    def run(self, command: str, seconds: float = SECONDS) -> tuple[int, str]:
        """Run one command; gives its status and what it printed.

        Output goes through a file: a daemon that keeps it open must not keep us waiting.

        Raises:
            GuideError: it does not end in time, or it ends the shell.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        self._file.write_text(command + "\n", encoding="utf-8")
        stdin.write(f'. {self._file} </dev/null >{self._output} 2>&1; echo "{_END} $?"\n')
        stdin.flush()
        timer = _Alarm(self._process.pid, seconds)
        try:
            line = stdout.readline()
        finally:
            timer.cancel()
        printed = self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""
        if not line.startswith(_END):
            why = f"did not end within {seconds:g} s" if timer.rang else "ended the shell"
            raise GuideError(f"{command}\n{why}, after it had printed:\n{printed}")
        return int(line.split()[1]), printed


class _Alarm:
    """Kills a process group when its time is up."""

    def __init__(self, group: int, seconds: float) -> None:
        import threading

        self.rang = False
        self._group = group
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        self.rang = True
        os.killpg(self._group, signal.SIGKILL)

    def cancel(self) -> None:
        self._timer.cancel()


def check(step: Step, status: int, printed: str, name: str) -> None:
    """Compare what a step did with what the guide says.

    Raises:
        GuideError: with the place in the guide, the command, and both outputs.
    """
    got = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    want = "".join(f"{line.rstrip()}\n" for line in step.expected.splitlines())
    place = f"{name}:{step.line}: {step.command}"
    if status != 0:
        raise GuideError(f"{place}\nended with status {status} and printed:\n{got}")
    if not doctest.OutputChecker().check_output(want, got, _OPTIONS):
        raise GuideError(f"{place}\nshould print:\n{want}\nand printed:\n{got}")


def run(guide: Path, values: Mapping[str, str], directory: Path, environment: Mapping[str, str]) -> int:
    """Run a guide from the top to the bottom; gives the number of steps.

    Raises:
        GuideError: at the first step that does not do what the guide says.
    """
    todo = steps(guide, values)
    with Shell(directory, environment) as shell:
        for step in todo:
            check(step, *shell.run(step.command), guide.name)
    return len(todo)
