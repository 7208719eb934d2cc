#!/usr/bin/env python3
"""A plugin for the kit's tests: starts, refuses, hangs and fails when told to."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from hive_kit.app import Application, Context, Hook, Method, PluginSpec, Subscription
from hive_kit.errors import LimitError, RefusedError
from hive_kit.migrations import Migration
from hive_kit.options import Option
from hive_kit.params import NoParams, text
from hive_kit.plugin import run


class Demo(Application):
    """Keeps what it hears."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.heard: list[dict[str, Any]] = []
        if context.options.text("demo-init") == "refuse":
            raise RefusedError("demo does not want to; set demo-init=run")
        if context.options.text("demo-init") == "crash":
            raise ZeroDivisionError("a defect")
        context.workers.every(3600, "first job", lambda: self.heard.append({"job": True}))


@dataclass(frozen=True, kw_only=True)
class PutParams:
    """demo-put."""

    key: str = text(aliases=["name"])
    request: str = text(default="")
    plugin: str = text(default="")


def put(app: Demo, params: PutParams) -> dict[str, Any]:
    """Write a row."""
    app.context.store.execute("INSERT INTO nostr_state VALUES (?, ?)", (params.key, params.request + params.plugin))
    return {"keys": [row["key"] for row in app.context.store.query("SELECT key FROM nostr_state ORDER BY key")]}


def fail(app: Demo, _: NoParams) -> dict[str, Any]:
    """A defect."""
    raise ZeroDivisionError("secret detail")


def limit(app: Demo, _: NoParams) -> dict[str, Any]:
    """A refusal with data."""
    raise LimitError("no more today", limit=5)


def hang(app: Demo, _: NoParams) -> dict[str, Any]:
    """Blocks a thread of the pool, deaf to everything."""
    threading.Event().wait(60)
    return {}


def shout(app: Demo, _: NoParams) -> dict[str, Any]:
    """Prints, as a library might: it must not reach the protocol."""
    print("hello, not JSON")  # noqa: T201 - the point of the test
    return {"heard": app.heard}


def hear(app: Demo, payload: dict[str, Any]) -> None:
    """Keep a notification; refuse a bad one."""
    app.heard.append({"peer": payload["peer_id"]})


def answer(app: Demo, payload: dict[str, Any]) -> dict[str, Any]:
    """Answer a hook."""
    return {"result": "reject" if payload["peer"]["id"] == "bad" else "continue"}


SPEC = PluginSpec[Demo](
    name="cl-hive-comms",
    start_order=1,
    application=Demo,
    options=(
        Option("demo-db-path", "demo.db", "Where the database is", kind="path"),
        Option("demo-init", "run", "How init ends", choices=("run", "refuse", "crash")),
        Option("demo-flag", True, "A flag", kind="bool", dynamic=True),
    ),
    methods=(
        Method("demo-put", put, PutParams, "Write a row"),
        Method("demo-fail", fail, NoParams, "Fail"),
        Method("demo-limit", limit, NoParams, "Refuse"),
        Method("demo-hang", hang, NoParams, "Hang"),
        Method("demo-shout", shout, NoParams, "Print"),
    ),
    migrations=(Migration(1, "state", ("CREATE TABLE nostr_state (key TEXT PRIMARY KEY, value TEXT)",), "0.1.0"),),
    database="demo.db",
    database_option="demo-db-path",
    health_rpc="demo-health",
    key_files=("demo.secrets",),
    subscriptions=(Subscription("custommsg", hear, lambda app, payload: payload.get("peer_id") != "flooder"),),
    hooks=(Hook("peer_connected", answer),),
)

if __name__ == "__main__":
    run(SPEC)
