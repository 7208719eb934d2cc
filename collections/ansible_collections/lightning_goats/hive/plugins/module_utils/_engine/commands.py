"""Commands that the engine runs: in a session of their own, with a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import HiveError

OUTPUT_BYTES = 1 << 20


@dataclass(frozen=True)
class Done:
    """A finished command: `rc` is None when it ran out of time and was killed."""

    rc: int | None
    out: str
    err: str
    seconds: float


def execute(
    argv: list[str],
    timeout: float,
    rights: dict[str, Any],
    env: dict[str, str],
    cwd: Path | None,
    leave: bool = False,
    stdin: bytes = b"",
) -> Done:
    """Run a command in a session of its own and wait for it, not for what it may leave running.

    Its output goes to files: through a pipe, a child that lives on would be waited for as well.

    Args:
        leave: let what it started live on; otherwise all of it is ended together with the command.
        stdin: what it is told; less than a pipe holds (64 KiB), so that nobody waits for it to be read.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _told(stdin) as told:
        try:
            process = subprocess.Popen(
                argv,
                stdin=told,
                stdout=out,
                stderr=err,
                env=env,
                cwd=cwd,
                start_new_session=True,
                **rights,
            )
        except OSError as error:
            raise HiveError(f"cannot run {argv[0]}: {error.strerror}; is it installed there?", "cannot-run") from error
        rc: int | None
        try:
            rc = process.wait(timeout)
        except subprocess.TimeoutExpired:
            rc = None
        if not leave or rc is None:
            end_group(process.pid)
            process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(OUTPUT_BYTES).decode("utf-8", "replace"))
    return Done(rc, texts[0], texts[1], time.monotonic() - started)


@contextmanager
def _told(content: bytes) -> Iterator[int]:
    """Give something to read, through a pipe: what is secret must be on no disk."""
    if not content:
        yield subprocess.DEVNULL
        return
    read, write = os.pipe()
    try:
        os.write(write, content)
        os.close(write)
        yield read
    finally:
        os.close(read)


def end_group(leader: int) -> None:
    """Kill what is left of a process group that we started."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
