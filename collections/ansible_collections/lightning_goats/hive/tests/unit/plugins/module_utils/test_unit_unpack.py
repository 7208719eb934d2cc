"""Slots are written and compiled side by side, whichever of the two is faster."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _unpack


class EagerCompiler(_unpack.Compiler):
    """Has compiled everything before anything else is written, as on a machine where the writer has to wait."""

    def __init__(self, files: list[_unpack.File]) -> None:
        self._run(files)

    def wait(self) -> dict[str, str]:
        return {}


def builder(directory: Path, *names: str) -> _unpack.Builder:
    """A builder with one slot for each name, each with a module of its own."""
    made = _unpack.Builder()
    for name in names:
        target = directory / name
        content = f"NAME = {name!r}\n".encode()
        file = _unpack.File(f"{made.library}/{name}.py", hashlib.sha256(content).digest(), content, False)
        file.origin = target / file.place
        made.slots.append(_unpack.Slot(target, name, f"{name}:main", {file.place: file}))
        made.fresh.append(file)
    return made


@pytest.mark.parametrize("compiler", [_unpack.Compiler, EagerCompiler])
def test_a_compiler_that_is_ahead_of_the_writer_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: type[_unpack.Compiler]
) -> None:
    monkeypatch.setattr(_unpack, "Compiler", compiler)
    made = builder(tmp_path, "one", "two", "three")
    assert made.make() == {}
    for name in ("one", "two", "three"):
        assert (tmp_path / name / f"{made.library}/{name}.py").read_text() == f"NAME = {name!r}\n"
        assert len(list((tmp_path / name).rglob("*.pyc"))) == 1


def test_a_slot_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    failed = builder(tmp_path, "one", "two").make()
    assert (failed["slot"], failed["code"]) == (str(tmp_path / "two"), "io-error")
    assert list((tmp_path / "two").iterdir()) == []
