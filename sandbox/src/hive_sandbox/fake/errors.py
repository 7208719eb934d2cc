"""The ways in which a lightningd says no."""

from __future__ import annotations

from typing import Any

# The codes of lightningd that this one uses, by their meaning.
INVALID_REQUEST = -32600
UNKNOWN_COMMAND = -32601
INVALID_PARAMS = -32602
LIGHTNINGD = -1
PLUGIN_ERROR = -3
INTERNAL_ERROR = -32603
PLUGIN_TERMINATED = -4
PAY_DESTINATION_PERM_FAIL = 203
PAY_ROUTE_NOT_FOUND = 205
PAY_INVOICE_EXPIRED = 207
PAY_UNSPECIFIED = 210
FUND_CANNOT_AFFORD = 301
CONNECT_NO_KNOWN_ADDRESS = 400
CONNECT_ALL_ADDRESSES_FAILED = 401
INVOICE_LABEL_EXISTS = 900
INVOICE_PREIMAGE_EXISTS = 901
INVOICE_EXPIRED_WAIT = 903
INVOICE_WAIT_TIMED_OUT = 904
INVOICE_NOT_FOUND = 905
INVOICE_STATUS_UNEXPECTED = 906
OFFER_ALREADY_EXISTS = 1000
OFFER_ROUTE_NOT_FOUND = 1003
OFFER_BAD_REPLY = 1004
OFFER_TIMEOUT = 1005
DATASTORE_NOTHING_TO_DELETE = 1200
DATASTORE_DELETE_GENERATION = 1201
DATASTORE_EXISTS = 1202
DATASTORE_MISSING = 1203
DATASTORE_GENERATION = 1204
DATASTORE_HAS_CHILDREN = 1205
DATASTORE_PARENT_EXISTS = 1206
SIGNMESSAGE_PUBKEY_NOT_FOUND = 1301
RUNE_NOT_AUTHORIZED = 1501
RUNE_NOT_PERMITTED = 1502
RUNE_BLACKLISTED = 1503


class RpcError(Exception):
    """An error object of JSON-RPC: a code, a sentence, and data for some codes."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def body(self) -> dict[str, Any]:
        """Return the error object as it goes over the socket."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


def refused(what: str) -> RpcError:
    """Return the error for what a real lightningd does and this one does not."""
    return RpcError(
        UNKNOWN_COMMAND, f"The sandbox's fake lightningd does not do {what}: use a real one (sandbox_lightningd=real)"
    )


class StartError(Exception):
    """lightningd does not start: what goes to stderr, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class PluginFailedError(Exception):
    """A plugin cannot be used: the reason, and the log level at which lightningd mentions it."""

    def __init__(self, reason: str, level: str = "unusual") -> None:
        super().__init__(reason)
        self.reason = reason
        self.level = level
