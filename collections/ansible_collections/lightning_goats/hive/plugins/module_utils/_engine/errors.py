"""The one error of everything that runs on a node."""

from __future__ import annotations

from typing import Any


class HiveError(Exception):
    """A refusal or a failure, said in one sentence that tells the operator what to do.

    Attributes:
        message: the sentence.
        code: stable short name for programs, for example "slot-missing".
        data: further facts; never a secret.
    """

    def __init__(self, message: str, code: str = "failed", **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.data = data


class NodeDownError(HiveError):
    """lightningd does not answer because it is not there."""

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message, "lightningd-down", **data)


class RpcTimeoutError(HiveError):
    """lightningd is there but did not answer in time."""

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message, "rpc-timeout", **data)


class RpcRefusedError(HiveError):
    """lightningd answered with a JSON-RPC error.

    Attributes:
        rpc_code: the number of the JSON-RPC error.
        method: the method that was called.
    """

    def __init__(self, method: str, rpc_code: int, message: str) -> None:
        super().__init__(f"lightningd refused {method}: {message}", "rpc-refused", rpc_code=rpc_code, method=method)
        self.method = method
        self.rpc_code = rpc_code
        self.reason = message
