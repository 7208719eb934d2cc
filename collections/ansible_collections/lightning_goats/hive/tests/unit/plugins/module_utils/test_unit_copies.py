"""Encrypted copies on the controller: there and back, what is refused, what is kept, and what a kill leaves."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _copies, _copies_tar
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner

NAME = "20261122T143138Z-4f53cda1-19e0"
OWNER = Owner(os.geteuid(), os.getegid())
FILES = {"cl-hive/cl_hive.db": b"SQLite format 3\0" + bytes(range(256)) * 9000, "hive.conf": b"", "stack.json": b"[]"}


def make_set(parent: Path, name: str = NAME, files: dict[str, bytes] = FILES, signed: bool = True) -> Path:
    directory = parent / name
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    facts = {path: {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)} for path, text in files.items()}
    manifest = {"id": name, "files": facts, "created_at": 1.0, "stack_digest": "", "verified": True, "bytes": 1}
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    if signed:
        (directory / "manifest.sig").write_text("d7abc", encoding="utf-8")
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def archive(directory: Path) -> bytes:
    return b"".join(_copies_tar.tar_of(directory))


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(HiveError) as caught:
        act()
    return caught.value.code


# The archive


@pytest.mark.parametrize("signed", [True, False])
def test_an_archive_is_the_set_and_nothing_else(tmp_path: Path, signed: bool) -> None:
    directory = make_set(tmp_path / "node", signed=signed)
    text = archive(directory)
    assert text == archive(directory)
    with tarfile.open(fileobj=io.BytesIO(text)) as tar:
        assert tar.getnames()[0] == "manifest.json"
        assert {(member.uid, member.mtime, member.mode) for member in tar} == {(0, 0, 0o600)}
    back = _copies_tar.unpack(io.BytesIO(text), tmp_path / "back", OWNER)
    assert back == tmp_path / "back" / NAME
    assert contents(back) == contents(directory)
    assert {path.stat().st_mode & 0o077 for path in back.rglob("*")} == {0}


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3", FILES["cl-hive/cl_hive.db"][:-1] + b"x", None])
def test_a_set_that_is_damaged_does_not_leave_the_node(tmp_path: Path, damage: bytes | None) -> None:
    directory = make_set(tmp_path)
    file = directory / "cl-hive/cl_hive.db"
    file.unlink() if damage is None else file.write_bytes(damage)
    assert code_of(lambda: archive(directory)) == "set-damaged"


def packed(members: list[tuple[str, bytes, bytes]]) -> bytes:
    """An archive of (name, type, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def manifest(**files: bytes) -> bytes:
    facts = {path: {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)} for path, text in files.items()}
    return json.dumps({"id": NAME, "files": facts}).encode()


REG, SYM = tarfile.REGTYPE, tarfile.SYMTYPE
HEAD = ("manifest.json", REG, manifest(a=b"1"))
EVIL = json.dumps({"id": NAME, "files": {"../a": {"sha256": hashlib.sha256(b"1").hexdigest(), "bytes": 1}}}).encode()


@pytest.mark.parametrize(
    "members",
    [
        [],
        [("a", REG, b"1")],
        [("manifest.json", REG, b"no json"), ("a", REG, b"1")],
        [("manifest.json", REG, b'{"id": "../up", "files": {}}')],
        [("manifest.json", REG, b'{"id": ".hidden", "files": {}}')],
        [("manifest.json", REG, EVIL), ("../a", REG, b"1")],
        [HEAD],
        [HEAD, ("a", REG, b"2")],
        [HEAD, ("a", REG, b"12")],
        [HEAD, ("a", SYM, b"")],
        [HEAD, ("a", REG, b"1"), ("a", REG, b"1")],
        [HEAD, ("a", REG, b"1"), ("b", REG, b"1")],
        [HEAD, ("a", REG, b"1"), ("../b", REG, b"1")],
        [HEAD, ("/a", REG, b"1")],
    ],
)
def test_what_no_set_has_is_refused(tmp_path: Path, members: list[tuple[str, bytes, bytes]]) -> None:
    text = packed(members)
    assert code_of(lambda: _copies_tar.unpack(io.BytesIO(text), tmp_path / "in", OWNER)) == "set-damaged"
    assert {path.name for path in tmp_path.iterdir()} <= {"in"}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    text = archive(make_set(tmp_path / "node"))
    cut = text[: int(len(text) * share)] if share < 0.9 else text[: -len(FILES["stack.json"]) - 2000]
    assert code_of(lambda: _copies_tar.unpack(io.BytesIO(cut), tmp_path / "in", OWNER)) == "set-damaged"


# The copy


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "keys/age.txt"
    return path, _copies.make_identity(path)


@pytest.fixture
def folder(tmp_path: Path) -> _copies.Folder:
    return _copies.Folder(tmp_path / "copies", "alpha")


def make(
    folder: _copies.Folder, directory: Path, recipient: str, created: float = 1.0, promised: str = ""
) -> _copies.Copy:
    with folder.locked(), folder.workroom() as room:
        facts = {"id": directory.name, "created_at": created}
        return folder.make(room, facts, _copies_tar.tar_of(directory), promised, [recipient])


def names(folder: _copies.Folder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir() if path.name != ".lock")


def test_there_and_back(tmp_path: Path, folder: _copies.Folder, key: tuple[Path, str]) -> None:
    directory = make_set(tmp_path / "node")
    text = archive(directory)
    copy = make(folder, directory, key[1], promised=hashlib.sha256(text).hexdigest())
    assert names(folder) == [f"{NAME}.json", f"{NAME}.tar.age"]
    assert {(folder.path / name).stat().st_mode & 0o777 for name in names(folder)} == {0o600}
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert b"SQLite" not in copy.path.read_bytes()
    assert copy.sound()
    assert _copies.note_beside(copy.path)["recipients"] == [key[1]]
    clear = tmp_path / "clear"
    _copies.open_copy(copy.path, key[0], clear)
    assert clear.read_bytes() == text
    assert clear.stat().st_mode & 0o777 == 0o600


def test_the_tool_and_the_key_file_are_those_of_age(tmp_path: Path, key: tuple[Path, str]) -> None:
    """Whatever speaks age opens a copy, and its key file is the one that age-keygen writes."""
    identity = key[0].read_text(encoding="utf-8").splitlines()[-1]
    assert str(pyrage.x25519.Identity.from_str(identity).to_public()) == key[1]
    assert key[0].stat().st_mode & 0o777 == 0o600
    assert _copies.make_identity(key[0]) == key[1], "made once"


def test_a_wrong_identity_opens_nothing(tmp_path: Path, folder: _copies.Folder, key: tuple[Path, str]) -> None:
    copy = make(folder, make_set(tmp_path / "node"), key[1])
    other = tmp_path / "other.txt"
    _copies.make_identity(other)
    clear = tmp_path / "clear"
    assert code_of(lambda: _copies.open_copy(copy.path, other, clear)) == "age-identity"
    assert clear.stat().st_size == 0


@pytest.mark.parametrize("damage", ["cut", "one bit", "empty", "other"])
def test_a_damaged_copy_is_noticed(tmp_path: Path, folder: _copies.Folder, key: tuple[Path, str], damage: str) -> None:
    copy = make(folder, make_set(tmp_path / "node"), key[1])
    text = bytearray(copy.path.read_bytes())
    text[len(text) // 2] ^= 1
    changed = {"cut": bytes(text[: len(text) // 2]), "one bit": bytes(text), "empty": b"", "other": b"hello" * 9}
    copy.path.write_bytes(changed[damage])
    assert not copy.sound()
    assert code_of(lambda: _copies.open_copy(copy.path, key[0], tmp_path / "clear")) == "copy-damaged"


@pytest.mark.parametrize(("text", "mode"), [
    (None, 0o600), ("", 0o600), ("# only words\n", 0o600), ("AGE-SECRET-KEY-1GEHEIM\n", 0o600), ("right", 0o640),
])  # fmt: skip
def test_an_identity_that_is_missing_or_open_is_refused(
    tmp_path: Path, key: tuple[Path, str], text: str | None, mode: int
) -> None:
    path = tmp_path / "identity"
    if text is not None:
        path.write_text(key[0].read_text(encoding="utf-8") if text == "right" else text, encoding="utf-8")
        path.chmod(mode)
    with pytest.raises(HiveError) as caught:
        _copies.identities_of(path)
    assert caught.value.code == "offsite-secret"
    assert "GEHEIM" not in caught.value.message
    assert "AGE-SECRET-KEY-1" not in caught.value.message.replace("AGE-SECRET-KEY-1...", "")


def test_a_recipient_that_is_none_is_refused() -> None:
    assert code_of(lambda: _copies.recipients_of(["age1nope"])) == "age-recipient"


def test_what_was_damaged_on_its_way_does_not_become_a_copy(
    tmp_path: Path, folder: _copies.Folder, key: tuple[Path, str]
) -> None:
    directory = make_set(tmp_path / "node")
    assert code_of(lambda: make(folder, directory, key[1], promised="0" * 64)) == "set-damaged"
    (directory / "stack.json").write_bytes(b"()")
    assert code_of(lambda: make(folder, directory, key[1])) == "set-damaged"
    assert names(folder) == []


def in_child(act: Callable[[int], None]) -> tuple[int, int]:
    """Run `act` in a process of its own, and return its pid and the end of a pipe whose other end it is given."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 1
        try:
            act(writer)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    return pid, reader


def test_killed_in_the_middle_it_leaves_no_half_copy(
    tmp_path: Path, folder: _copies.Folder, key: tuple[Path, str]
) -> None:
    first = make(folder, make_set(tmp_path / "node", "first"), key[1])
    second = make_set(tmp_path / "node", "second")

    def hold(writer: int) -> None:
        def source() -> Iterator[bytes]:
            chunks = _copies_tar.tar_of(second)
            yield next(chunks)
            yield next(chunks)
            os.write(writer, b"x")
            signal.pause()

        with folder.locked(), folder.workroom() as room:
            (room / "clear").write_bytes(b"what was fetched")
            folder.make(room, {"id": "second", "created_at": 2.0}, source(), "", [key[1]])

    pid, reader = in_child(hold)
    assert os.read(reader, 1) == b"x"
    with pytest.raises(HiveError) as busy, folder.locked():
        pass
    assert busy.value.code == "copies-busy"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert [copy.name for copy in folder.copies()] == ["first"]
    assert first.sound()
    assert len(names(folder)) == 3, "what it left is under no name of a copy"
    make(folder, second, key[1], 2.0)
    assert names(folder) == ["first.json", "first.tar.age", "second.json", "second.tar.age"]


def test_a_full_disk_is_said_and_leaves_the_earlier_copies(
    tmp_path: Path, folder: _copies.Folder, key: tuple[Path, str]
) -> None:
    first = make(folder, make_set(tmp_path / "node", "first"), key[1])
    second = make_set(tmp_path / "node", "second")

    def fill(writer: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            make(folder, second, key[1])
        except HiveError as error:
            os.write(writer, error.code.encode())

    pid, reader = in_child(fill)
    assert os.read(reader, 99) == b"disk-full"
    os.waitpid(pid, 0)
    assert names(folder) == ["first.json", "first.tar.age"]
    assert first.sound()


# What is kept


def fake(name: str, created: float) -> _copies.Copy:
    return _copies.Copy(Path(f"/nowhere/{name}"), {"set": name, "created_at": created})


@pytest.mark.parametrize(("keep", "sound", "gone"), [
    (2, "abcd", "ab"),
    (2, "abd", "ab"),
    (2, "ab", "a"),  # none that stays is sound, so the newest that is stays too
    (2, "a", "b"),
    (2, "", "ab"),
    (0, "abcd", "abc"),
    (9, "abcd", ""),
])  # fmt: skip
def test_the_last_sound_copy_stays(keep: int, sound: str, gone: str) -> None:
    copies = [fake(name, number) for number, name in enumerate("abcd")]
    assert [copy.name for copy in _copies.removable(copies, keep, lambda copy: copy.name in sound)] == list(gone)


def test_only_as_many_are_read_as_it_takes() -> None:
    asked: list[str] = []

    def sound(copy: _copies.Copy) -> bool:
        asked.append(copy.name)
        return True

    _copies.removable([fake(name, 0) for name in "abcd"], 2, sound)
    assert asked == ["d"]
    _copies.removable([fake(name, 0) for name in "abcd"], 4, sound)
    assert asked == ["d"]


def test_the_oldest_go_with_their_notes(tmp_path: Path, folder: _copies.Folder, key: tuple[Path, str]) -> None:
    for number, name in enumerate(("z-oldest", "m", "a-newest")):
        make(folder, make_set(tmp_path / "node", name), key[1], float(number))
    (folder.path / "a-newest.tar.age").write_bytes(b"damaged")
    with folder.locked():
        assert folder.thin_out(1) == ["z-oldest"]
    assert names(folder) == ["a-newest.json", "a-newest.tar.age", "m.json", "m.tar.age"]


def test_a_copy_without_its_note_does_not_count(tmp_path: Path, folder: _copies.Folder, key: tuple[Path, str]) -> None:
    copy = make(folder, make_set(tmp_path / "node"), key[1])
    note = folder.path / f"{NAME}.json"
    kept: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    note.write_text("{", encoding="utf-8")
    assert folder.copies() == []
    assert folder.find(NAME) is None
    note.write_text(json.dumps(kept), encoding="utf-8")
    assert folder.find(NAME) == copy
