"""The commands of the RPC socket, by subject."""

from . import channels, control, datastore, forwards, graceful, offers, payments, peers, plugins, sandbox, secrets
from .registry import CommandTable

__all__ = [
    "CommandTable",
    "channels",
    "control",
    "datastore",
    "forwards",
    "graceful",
    "offers",
    "payments",
    "peers",
    "plugins",
    "sandbox",
    "secrets",
]
