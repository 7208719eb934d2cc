"""The callback on a real terminal: one line that counts and is replaced, and nothing of it left behind."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_live import CLEAR

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120
HERE = f"ansible_python_interpreter={sys.executable}"
NAME = "Wait for somebody " + "who takes his time " * 10
PLAYBOOK = """
- name: Try it
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: {name}
      ansible.builtin.wait_for:
        path: {go}
      changed_when: true
    - name: Say what a node may say
      ansible.builtin.debug:
        msg: "bad \\e[31m\\r words"
"""


class Terminal:
    """The far end of a terminal of some columns.

    Attributes:
        text: all that was written to it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.text = ""

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read(self) -> bool:
        """Take what there is; False once nobody writes any more."""
        ready, _, _ = select.select([self.descriptor], [], [], 0.2)
        try:
            part = os.read(self.descriptor, 65536) if ready else b""
        except OSError:
            return False
        self.text += part.decode()
        return not ready or bool(part)

    def until(self, pattern: str, since: int = 0) -> None:
        """Read until what was written after the first `since` letters has the pattern."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not re.search(pattern, self.text[since:]):
            assert time.monotonic() < end, self.text
            assert self.read(), self.text

    def live(self, since: int = 0) -> list[str]:
        """The lines that were drawn to be replaced."""
        return [part for part in self.text[since:].split(CLEAR)[1:] if part and "\n" not in part]

    def screen(self) -> list[str]:
        """What is left to read in the end."""
        lines = [""]
        for part in re.split(f"({re.escape(CLEAR)}|\r?\n)", self.text):
            if part == CLEAR:
                lines[-1] = ""
            elif part.endswith("\n"):
                lines.append("")
            else:
                lines[-1] += part
        return lines


@contextmanager
def played(directory: Path, terminal_of: int) -> Iterator[Terminal]:
    playbook = directory / "try.yml"
    playbook.write_text(PLAYBOOK.format(name=NAME, go=directory / "go"), encoding="utf-8")
    ours, theirs = pty.openpty()
    terminal = Terminal(ours)
    terminal.resize(terminal_of)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_") and key != "COLUMNS"}
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-e", HERE, playbook],
        cwd=ROOT,
        env={**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield terminal
        while terminal.read():
            pass
        assert process.wait(timeout=PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Terminal, int]:
    """A run on a terminal that is made narrower, and how much of its text was written before."""
    directory = tmp_path_factory.mktemp("terminal")
    with played(directory, 60) as terminal:
        # The clock stays where the words give way.
        terminal.until(r"\.\.\.  0:0[3-9]")
        terminal.resize(40)
        before = len(terminal.text)
        terminal.until(re.escape(CLEAR) + r"[^\x1b]{39}\r", before)
        (directory / "go").touch()
    return terminal, before


def test_the_line_fits_a_terminal_of_any_width(seen: tuple[Terminal, int]) -> None:
    terminal, before = seen
    assert max(map(len, terminal.live())) == 59
    assert max(map(len, terminal.live(before)[1:])) == 39
    assert all(line.startswith("  ... Wait for somebody") for line in terminal.live() if "Wait" in line)


def test_nothing_of_it_is_left(seen: tuple[Terminal, int]) -> None:
    left = [line for line in seen[0].screen() if line]
    assert left[0] == "Try it"
    assert left[1].startswith(f"  localhost  {NAME.strip()}: changed")
    assert not [line for line in left if line.startswith("  ...")]
    assert left[-1].startswith("1 of 1 hosts changed")


def test_what_a_node_says_moves_no_cursor(seen: tuple[Terminal, int]) -> None:
    assert "  bad ?[31m? words" in seen[0].screen()
