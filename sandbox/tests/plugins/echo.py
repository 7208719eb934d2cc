#!/usr/bin/env python3
"""A small plugin on pyln-client: options of every type, methods, a hook, subscriptions."""

import os
import sys
import time

from pyln.client import Plugin, RpcException

plugin = Plugin()
plugin.add_option("echo-text", "hello", "a string")
plugin.add_option("echo-number", 7, "a number", opt_type="int")
plugin.add_option("echo-yes", False, "a boolean", opt_type="bool")
plugin.add_flag_option("echo-flag", "a flag")
plugin.add_option("echo-live", "d0", "a dynamic one", dynamic=True)
plugin.add_option("echo-many", None, "a list", multi=True)
heard: list[dict] = []


@plugin.init()
def init(options, configuration, **_):
    """Remember what lightningd said."""
    plugin.said = {"options": dict(options), "configuration": configuration}
    if os.environ.get("ECHO_INIT_SECONDS"):
        time.sleep(float(os.environ["ECHO_INIT_SECONDS"]))


@plugin.method("echo")
def echo(plugin, a=None, b=None):
    """Return the parameters."""
    return {"a": a, "b": b, "pid": os.getpid()}


@plugin.method("echo-init")
def echo_init(plugin):
    """Return what init was given."""
    return plugin.said


@plugin.method("echo-heard")
def echo_heard(plugin):
    """Return the notifications and hook calls so far."""
    return {"heard": heard}


@plugin.method("echo-fail")
def echo_fail(plugin):
    """Fail with an error of one's own."""
    raise RpcException("my error", -5, {"x": 1})


@plugin.method("echo-die")
def echo_die(plugin):
    """Die in the middle of a call."""
    os._exit(3)


@plugin.method("echo-getinfo")
def echo_getinfo(plugin):
    """Call lightningd back."""
    return plugin.rpc.getinfo()


@plugin.method("echo-slow")
def echo_slow(plugin, seconds=1):
    """Take a while."""
    plugin.notify_message("half way")
    time.sleep(float(seconds))
    return {"slept": seconds}


@plugin.hook("custommsg")
def on_custommsg(peer_id, payload, plugin, **_):
    """Remember a message."""
    heard.append({"hook": "custommsg", "peer_id": peer_id, "payload": payload})
    return {"result": "continue"}


@plugin.hook("peer_connected")
def on_peer_connected(peer, plugin, **_):
    """Remember a peer."""
    heard.append({"hook": "peer_connected", "peer": peer})
    return {"result": "continue"}


@plugin.subscribe("connect")
def on_connect(plugin, connect=None, **_):
    """Remember a connection."""
    heard.append({"topic": "connect", "payload": connect})


@plugin.subscribe("disconnect")
def on_disconnect(plugin, disconnect=None, **_):
    """Remember a lost connection."""
    heard.append({"topic": "disconnect", "payload": disconnect})


@plugin.subscribe("shutdown")
def on_shutdown(plugin, **_):
    """Leave a trace and go."""
    plugin.log("echo says goodbye")
    sys.stdout.flush()
    os._exit(0)


plugin.run()
