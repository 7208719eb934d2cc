"""The commands of the RPC socket, by subject."""

from . import control, peers, plugins, sandbox
from .registry import CommandTable

__all__ = ["CommandTable", "control", "peers", "plugins", "sandbox"]
