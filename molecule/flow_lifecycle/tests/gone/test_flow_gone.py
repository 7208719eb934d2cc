"""After a restart without the plugins: no option of theirs keeps lightningd from starting."""

from __future__ import annotations

from typing import Any


def test_lightningd_started_again(node: Any) -> None:
    assert node.rpc("getinfo")["network"] == "regtest"
    assert node.lightningd() != node.remembered("lightningd")
    assert node.plugins() == {}
