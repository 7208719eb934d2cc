"""A management plane under test: the plugin in-process, a clock to turn, a ledger instead of lightningd."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cl_hive_comms.app import Comms
from cl_hive_comms.main import SPEC
from cl_hive_comms.testing import Ledger, envelope
from hive_kit.keys import SchnorrKey
from hive_kit.testing import application

START = 1_700_000_000


class Desk:
    """One running comms, and everybody who talks to it."""

    def __init__(self, app: Comms, call: Callable[..., dict[str, Any]], node: Ledger) -> None:
        self.app, self.call, self.node = app, call, node
        self.tokens: dict[str, str] = {}
        self.time = START
        self._nonces = itertools.count(1)
        app.context.clock = lambda: float(self.time)

    def advisor(self, name: str, access: str = "admin", **more: Any) -> str:
        """Let somebody in; gives the id."""
        answer = self.call("hive-client-authorize", advisor=name, access=access, **more)
        self.tokens[name] = answer["auth_token"]
        return str(answer["advisor_id"])

    def made(
        self, signer: str | SchnorrKey, schema: str, payload: Mapping[str, Any] | None = None, **given: Any
    ) -> dict[str, Any]:
        """An envelope of an advisor (by name: with its token), fresh unless told otherwise."""
        key = self.tokens[signer] if isinstance(signer, str) else signer
        fresh = {"nonce": next(self._nonces), "timestamp": self.time, "recipient": self.app.identity.pubkey}
        return envelope(key, schema, payload, **{**fresh, **given})

    def send(self, sender: str, request: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Hand an envelope in."""
        return self.call("hive-comms-rpc", request=dict(request), sender=sender, **more)

    def ask(self, sender: str, schema: str, payload: Mapping[str, Any] | None = None, **given: Any) -> dict[str, Any]:
        """Make one and hand it in."""
        return self.send(sender, self.made(sender, schema, payload, **given))


Open = Callable[..., AbstractContextManager[Desk]]


@contextmanager
def opened(directory: Path, options: Mapping[str, Any] | None = None, node: Ledger | None = None) -> Iterator[Desk]:
    """Start comms in a directory."""
    ledger = node or Ledger()
    with application(SPEC, directory, options, ledger) as (app, call):
        yield Desk(app, call, ledger)


@pytest.fixture
def open_desk() -> Open:
    """`open_desk(directory, options, node)`: for tests that start more than once."""
    return opened


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk with the advisor bob, who may do everything."""
    with opened(tmp_path) as made:
        made.advisor("bob")
        yield made
