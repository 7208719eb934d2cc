"""Only inner modules changed: lightningd looks at the entry file alone, so two releases may look the same to it."""

from __future__ import annotations

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _slots
from faults.rig import NAME, Rig

LIBRARY = "os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'lib')"


def same_entry(rig: Rig, version: str, answer: str) -> tuple[dict[str, Any], bytes]:
    """A release whose entry file says nothing of itself; what it answers is decided in its library."""
    item = rig.item(version)
    slot = _slots.slot_path(rig.node, NAME, item["digest"])
    entry = slot / "bin" / NAME
    inner = slot / "lib/hive_fixture/__init__.py"
    entry.write_text(
        entry.read_text().replace(repr(str(slot / "lib")), LIBRARY).replace("import sys\n", "import os, sys\n")
    )
    inner.write_text(inner.read_text().replace('"starts": self.starts', f'"starts": self.starts, "inner": "{answer}"'))
    rig.remark(item)
    return item, entry.read_bytes()


def test_a_release_that_differs_only_inside_is_really_started(shared_rig: Rig) -> None:
    rig = shared_rig
    old, old_entry = same_entry(rig, "0.1.7", "before")
    new, new_entry = same_entry(rig, "0.1.8", "after")
    assert old_entry == new_entry
    rig.settle([old])
    assert rig.call(f"{NAME}-status")["inner"] == "before"
    assert rig.run("switched", [new])["phase"] == "switched"
    assert rig.call(f"{NAME}-status")["inner"] == "after"
    assert rig.run("reverted")["phase"] == "reverted"
    assert rig.call(f"{NAME}-status")["inner"] == "before"
    rig.assert_runs([old])
