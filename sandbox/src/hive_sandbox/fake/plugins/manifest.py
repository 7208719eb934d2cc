"""What a plugin says of itself in its answer to getmanifest, checked as lightningd checks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import PluginFailedError
from ..options import Option

_OPTION_KINDS = ("string", "int", "bool", "flag")

# Every hook that lightningd knows. Those not in _DONE would have to hold up work that the fake does not do.
HOOKS = frozenset(
    {
        "peer_connected",
        "recover",
        "db_write",
        "invoice_payment",
        "openchannel",
        "openchannel2",
        "openchannel2_changed",
        "openchannel2_sign",
        "rbf_channel",
        "htlc_accepted",
        "rpc_command",
        "custommsg",
        "onion_message_recv",
        "onion_message_recv_secret",
        "commitment_revocation",
    }
)
_DONE = frozenset({"peer_connected", "custommsg", "rpc_command", "htlc_accepted", "invoice_payment"})

TOPICS = frozenset(
    {
        "*",
        "balance_snapshot",
        "block_added",
        "channel_open_failed",
        "channel_opened",
        "channel_state_changed",
        "coin_movement",
        "connect",
        "custommsg",
        "deprecated_oneshot",
        "disconnect",
        "forward_event",
        "invoice_creation",
        "invoice_payment",
        "log",
        "onionmessage_forward_fail",
        "openchannel_peer_sigs",
        "plugin_started",
        "plugin_stopped",
        "sendpay_failure",
        "sendpay_success",
        "shutdown",
        "warning",
    }
)


@dataclass(frozen=True)
class Method:
    """An RPC method of a plugin."""

    name: str
    usage: str
    description: str


@dataclass(frozen=True)
class Hook:
    """A hook a plugin wants, with its wishes about its place in the chain and the commands it wants to see."""

    name: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The parts of a manifest that lightningd acts on."""

    options: tuple[Option, ...]
    methods: tuple[Method, ...]
    subscriptions: tuple[str, ...]
    hooks: tuple[Hook, ...]
    dynamic: bool
    notifications: tuple[str, ...]
    # Even types of peer messages that the plugin understands.
    custom_messages: tuple[int, ...] = ()


def read_manifest(result: Any, plugin: str) -> Manifest:
    """Return the manifest in `result`, the answer of the plugin at path `plugin`.

    Raises:
        PluginFailedError: the manifest is unusable, or the plugin disabled itself in it.
    """
    if not isinstance(result, dict):
        raise PluginFailedError(f"Invalid/missing result tok in '{result}'")
    if "disable" in result:
        raise PluginFailedError(f"disabled itself: {result['disable']}", "info")
    return Manifest(
        options=tuple(_option(entry, plugin) for entry in _entries(result, "options")),
        methods=tuple(_method(entry) for entry in _entries(result, "rpcmethods")),
        subscriptions=tuple(str(topic) for topic in _entries(result, "subscriptions")),
        hooks=tuple(_hook(entry) for entry in _entries(result, "hooks")),
        dynamic=result.get("dynamic") is True,
        notifications=tuple(str(entry["method"]) for entry in _entries(result, "notifications") if "method" in entry),
        custom_messages=tuple(int(kind) for kind in _entries(result, "custommessages")),
    )


def _entries(result: dict[str, Any], member: str) -> list[Any]:
    value = result.get(member, [])
    if not isinstance(value, list):
        raise PluginFailedError(f'"result.{member}" is not an array')
    return value


def _option(entry: dict[str, Any], plugin: str) -> Option:
    name, kind = entry.get("name"), entry.get("type", "string")
    if not isinstance(name, str):
        raise PluginFailedError('An option is missing either "name", "description" or "type"')
    if "description" not in entry:
        raise PluginFailedError('An option is missing either "name", "description" or "type"')
    if kind not in _OPTION_KINDS:
        raise PluginFailedError(f'Only "string", "int", "bool", and "flag" options are supported, not {kind}')
    multi, default = entry.get("multi") is True, entry.get("default")
    known = {"string": "str"}.get(kind, kind)
    if multi:
        known = f"multi-{known}"
        default = None if default is None else [default]
    if kind == "flag":
        default = None
    return Option(
        name,
        known,
        _converted(default, kind),
        plugin,
        entry.get("dynamic") is True,
        str(entry["description"]),
        entry.get("deprecated") is True,
    )


def _converted(default: Any, kind: str) -> Any:
    """Return a default in the type of its option: plugins also write numbers and booleans as strings."""
    if isinstance(default, str) and kind == "int":
        return int(default)
    if isinstance(default, str) and kind == "bool":
        return default.lower() == "true"
    return default


def _method(entry: dict[str, Any]) -> Method:
    name = entry.get("name")
    if not isinstance(name, str):
        raise PluginFailedError('rpcmethod does not have a string "name"')
    if "usage" not in entry:
        raise PluginFailedError('"usage" not provided by plugin')
    return Method(name, str(entry["usage"]), str(entry.get("description", "")))


def _hook(entry: Any) -> Hook:
    if isinstance(entry, str):
        entry = {"name": entry}
    name = entry.get("name")
    if name not in HOOKS:
        raise PluginFailedError(f"Unknown hook name {name}")
    if name not in _DONE:
        raise PluginFailedError(f"The sandbox's fake lightningd does not do the hook {name}: use a real one")
    return Hook(name, tuple(entry.get("before", ())), tuple(entry.get("after", ())), tuple(entry.get("filters", ())))
