"""The brake and the pause: two files in the state directory that anybody on the node can make, also with `touch`.

While `brake` is there no switch begins on the node, and one that is open and unconfirmed is undone at once. While
`pause` is there what is under way is finished, and no further stage starts. Neither ever stops a way back.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import HiveError
from .files import sync_dir, write_atomic
from .node import Node

BRAKE, PAUSE = "brake", "pause"
KINDS = (BRAKE, PAUSE)
REASON_LETTERS = 300
READ_BYTES = 4096


def mark_file(node: Node, kind: str) -> Path:
    """Return where a brake or a pause of a node lies."""
    return node.state_dir / kind


def read_mark(node: Node, kind: str) -> str:
    """Return why a brake or a pause is set, "" when it is not.

    Whatever has the name counts, readable or not: whoever pulls a brake in a hurry is not asked for the right mode.
    """
    path = mark_file(node, kind)
    try:
        facts = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"{path} cannot be looked for ({error.strerror})"
    if not stat.S_ISREG(facts.st_mode):
        return f"{path} is there, and is no plain file"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} is there, and cannot be read ({error.strerror})"
    try:
        text = plain(os.read(handle, READ_BYTES).decode("utf-8", "replace"))
    except OSError as error:
        return f"{path} is there, and cannot be read ({error.strerror})"
    finally:
        os.close(handle)
    return text or f"somebody made {path}, without a word why"


def read_brake(node: Node) -> str:
    """Return why the brake of a node is set, "" when it is not."""
    return read_mark(node, BRAKE)


def read_pause(node: Node) -> str:
    """Return why a node is paused, "" when it is not."""
    return read_mark(node, PAUSE)


def plain(text: str) -> str:
    """Return a text as one short line without control characters, as it may be shown anywhere."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:REASON_LETTERS]


def set_mark(node: Node, kind: str, reason: str) -> bool:
    """Set a brake or a pause; whether it was not set before. Why the first was set stays: it is the one that counts.

    Raises:
        HiveError: it cannot be written.
    """
    if read_mark(node, kind):
        return False
    node.prepare()
    write_atomic(mark_file(node, kind), f"{plain(reason)}\n".encode(), node.keeper, 0o644)
    return True


def clear_mark(node: Node, kind: str) -> bool:
    """Release a brake or a pause; whether it was set.

    Raises:
        HiveError: it cannot be removed.
    """
    path = mark_file(node, kind)
    if not read_mark(node, kind):
        return False
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise HiveError(
            f"{path} cannot be removed ({error.strerror}); remove it by hand, as its owner or as root", "brake-stays"
        ) from error
    sync_dir(path.parent)
    return True


def refuse(node: Node) -> None:
    """Refuse to go forward while the brake is set.

    Raises:
        HiveError: it is; with the reason that stands in it.
    """
    reason = read_brake(node)
    if reason:
        raise HiveError(
            f"the brake of {node.name} is set ({reason}); release it with brake.yml -e hive_brake_state=absent when it "
            "is safe to go on",
            "brake",
            brake=reason,
        )
