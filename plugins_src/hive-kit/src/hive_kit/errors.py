"""What the plugins answer when they cannot do what was asked: JSON-RPC errors with stable codes.

A code never changes its meaning. Codes below -32000 are JSON-RPC's own; 6000 and up are ours
(Core Lightning uses none there).
"""

from __future__ import annotations

from typing import Any, ClassVar


class HiveError(Exception):
    """A refusal with a stable code and one sentence that says what to do.

    Args:
        message: the sentence the operator reads.
        **data: JSON values that a program may want (limits, expected values). Never a secret.
    """

    code: ClassVar[int] = 6000

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class InvalidParamsError(HiveError):
    """The call does not fit the method: fix the parameters."""

    code = -32602


class InternalError(HiveError):
    """A defect of the plugin; the log has the traceback."""

    code = -32603


class NotFoundError(HiveError):
    """What the call names does not exist."""

    code = 6001


class ConflictError(HiveError):
    """What exists already stands against the call."""

    code = 6002


class RefusedError(HiveError):
    """Policy, permission or a missing proof stands against the call."""

    code = 6003


class UnavailableError(HiveError):
    """Somebody else (lightningd, a sibling, a gateway) does not answer; trying again may help."""

    code = 6004


class BusyError(HiveError):
    """The plugin's queue is full; trying again helps."""

    code = 6005


class DisabledError(HiveError):
    """An option switches this off; the sentence names it."""

    code = 6006


class LimitError(HiveError):
    """A limit (spending, capacity, rate) is used up."""

    code = 6007


class NotReadyError(HiveError):
    """The plugin starts or stops; trying again helps."""

    code = 6008


class OptionError(HiveError):
    """An option has a value that it cannot have."""

    code = 6009


class StorageError(HiveError):
    """The database cannot be used as it is."""

    code = 6010


class OwnershipError(StorageError):
    """A statement wanted to write a table of another plugin, or to change the schema outside a migration."""

    code = 6011


class SecretError(HiveError):
    """A key file is missing, readable by others, or does not open what was sealed with it."""

    code = 6012


class IntegrityError(HiveError):
    """Stored history does not prove itself: something changed it."""

    code = 6013


class RestoredError(HiveError):
    """The data was restored and is older than the world: the sentence says until when, or until what, it holds back."""

    code = 6014


class AdoptionError(HiveError):
    """The monolith's rows cannot be taken over, or given back, as they are.

    Args:
        word: stable code for the programs that adopt, for example "identity-conflict".
        message: the sentence the operator reads. Never a secret.
    """

    code = 6015

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word
