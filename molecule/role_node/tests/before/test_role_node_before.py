"""A look is only a look: check mode has changed nothing, and what runs is written down."""

from __future__ import annotations

from typing import Any


def state_of(metal: Any) -> dict[str, Any]:
    """Everything of an adopted node that has to stay as it is."""
    files = f"/etc/systemd/system/{metal.service}.service {metal.config_file}"
    return {
        "files": metal.outside.check_output(f"sha256sum {files}; stat -c '%n %a %U %G %Y' {files}"),
        "names": metal.outside.check_output(f"ls -A {metal.lightning_dir} {metal.config_file.rpartition('/')[0]}"),
        "process": metal.lightningd(),
    }


def test_nothing_was_made_yet(metal: Any) -> None:
    made = [path for path in ("/opt/lightningd", "/var/lib/second", "/srv/second") if metal.outside.file(path).exists]
    assert made == []
    assert not metal.outside.user("second").exists


def test_what_runs_is_written_down(metal: Any) -> None:
    assert metal.remember("adopted", state_of(metal))["process"]["pid"] > 1
