"""The note of a restore: read when it is there, never overlooked when it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hive_kit.errors import StorageError
from hive_kit.restored import Restored, read_note


def test_there_is_none(tmp_path: Path) -> None:
    assert read_note(tmp_path / "plugin.db") is None


def test_the_note_of_a_restore(tmp_path: Path) -> None:
    note = {"set": "20261128T120000Z-abc", "created_at": 100.5, "restored_at": 200.25}
    (tmp_path / "plugin.db.restored").write_text(json.dumps(note))
    found = read_note(tmp_path / "plugin.db")
    assert found == Restored("20261128T120000Z-abc", 100.5, 200.25)
    assert found.key == "20261128T120000Z-abc@200.250"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"set": "x", "created_at": "soon", "restored_at": 1}'])
def test_a_damaged_note_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "plugin.db.restored").write_text(content)
    with pytest.raises(StorageError, match=r"restore again, or remove it"):
        read_note(tmp_path / "plugin.db")
