#!/usr/bin/env python3
"""A small plugin on pyln-client: options of every type, methods, hooks, subscriptions."""
# pyln-client has no types.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import time
from typing import Any

from pyln.client import Plugin, RpcException

Json = dict[str, Any]

plugin = Plugin()
plugin.add_option("echo-text", "hello", "a string")
plugin.add_option("echo-number", 7, "a number", opt_type="int")
plugin.add_option("echo-yes", False, "a boolean", opt_type="bool")
plugin.add_flag_option("echo-flag", "a flag")
plugin.add_option("echo-live", "d0", "a dynamic one", dynamic=True)
plugin.add_option("echo-many", None, "a list", multi=True)
heard: list[Json] = []
said: Json = {}


@plugin.init()
def init(options: Json, configuration: Json, **_: Any) -> None:
    """Remember what lightningd said."""
    said.update(options=dict(options), configuration=configuration)
    time.sleep(float(os.environ.get("ECHO_INIT_SECONDS", "0")))


@plugin.method("echo")
def echo(plugin: Plugin, a: Any = None, b: Any = None) -> Json:
    """Return the parameters."""
    return {"a": a, "b": b, "pid": os.getpid()}


@plugin.method("echo-init")
def echo_init(plugin: Plugin) -> Json:
    """Return what init was given."""
    return said


@plugin.method("echo-heard")
def echo_heard(plugin: Plugin) -> Json:
    """Return the notifications and hook calls so far."""
    return {"heard": heard}


@plugin.method("echo-fail")
def echo_fail(plugin: Plugin) -> Json:
    """Fail with an error of one's own."""
    raise RpcException("my error", -5)


@plugin.method("echo-die")
def echo_die(plugin: Plugin) -> Json:
    """Die in the middle of a call."""
    os._exit(3)


@plugin.method("echo-getinfo")
def echo_getinfo(plugin: Plugin) -> Json:
    """Call lightningd back."""
    answer: Json = plugin.rpc.getinfo()
    return answer


@plugin.method("echo-slow")
def echo_slow(plugin: Plugin, request: Any, seconds: float = 1) -> Json:
    """Take a while."""
    request.notify("half way")
    time.sleep(float(seconds))
    return {"slept": seconds}


@plugin.hook("custommsg")
def on_custommsg(peer_id: str, payload: str, plugin: Plugin, **_: Any) -> Json:
    """Remember a message."""
    heard.append({"hook": "custommsg", "peer_id": peer_id, "payload": payload})
    return {"result": "continue"}


@plugin.hook("peer_connected")
def on_peer_connected(peer: Json, plugin: Plugin, **_: Any) -> Json:
    """Remember a peer."""
    heard.append({"hook": "peer_connected", "peer": peer})
    return {"result": "continue"}


@plugin.hook("invoice_payment")
def on_invoice_payment(payment: Json, plugin: Plugin, **_: Any) -> Json:
    """Refuse to be paid for what is called unwanted."""
    return {"result": "reject" if payment["label"] == "unwanted" else "continue"}


@plugin.subscribe("connect")
def on_connect(plugin: Plugin, connect: Json | None = None, **_: Any) -> None:
    """Remember a connection."""
    heard.append({"topic": "connect", "payload": connect})


@plugin.subscribe("disconnect")
def on_disconnect(plugin: Plugin, disconnect: Json | None = None, **_: Any) -> None:
    """Remember a lost connection."""
    heard.append({"topic": "disconnect", "payload": disconnect})


@plugin.subscribe("block_added")
def on_block(plugin: Plugin, block_added: Json | None = None, **_: Any) -> None:
    """Remember a block."""
    heard.append({"topic": "block_added", "payload": block_added})


@plugin.subscribe("forward_event")
def on_forward(plugin: Plugin, forward_event: Json | None = None, **_: Any) -> None:
    """Remember a forward."""
    heard.append({"topic": "forward_event", "payload": forward_event})


@plugin.subscribe("plugin_started")
def on_started(plugin: Plugin, plugin_started: Json | None = None, **_: Any) -> None:
    """Remember a neighbour."""
    heard.append({"topic": "plugin", "payload": ["started", (plugin_started or {}).get("plugin_name")]})


@plugin.subscribe("plugin_stopped")
def on_stopped(plugin: Plugin, plugin_stopped: Json | None = None, **_: Any) -> None:
    """Remember a neighbour that is gone."""
    heard.append({"topic": "plugin", "payload": ["stopped", (plugin_stopped or {}).get("plugin_name")]})


@plugin.subscribe("shutdown")
def on_shutdown(plugin: Plugin, **_: Any) -> None:
    """Leave a trace and go."""
    plugin.log("echo says goodbye")
    os._exit(0)


plugin.run()
