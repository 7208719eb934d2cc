"""A lightningd of prepared answers on which comms runs, and the plugin on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cl_hive_archon.app import Archon
from cl_hive_archon.main import SPEC
from hive_kit.testing import FakeNode, application

NOSTR_KEY = "c0" * 32
Call = Callable[..., dict[str, Any]]


def sign(params: dict[str, Any]) -> dict[str, Any]:
    """As lightningd answers; the signature shows what was signed."""
    return {"signature": "00", "recid": "01", "zbase": f"signed:{params['message']}"}


@pytest.fixture
def node() -> FakeNode:
    return FakeNode(
        {
            "help": {"help": [{"command": "hive-client-identity [action] [nsec] [relays]"}]},
            "hive-client-identity": {"ok": True, "pubkey": NOSTR_KEY, "relays": []},
            "signmessage": sign,
        }
    )


@pytest.fixture
def running(tmp_path: Path, node: FakeNode) -> Iterator[tuple[Archon, Call]]:
    with application(SPEC, tmp_path, {}, node) as (app, call):
        yield app, call


@pytest.fixture
def call(running: tuple[Archon, Call]) -> Call:
    return running[1]
