"""Refusals of this plugin beyond the kit's, each with a code that never changes its meaning."""

from __future__ import annotations

from typing import ClassVar

from hive_kit.errors import ConflictError, RefusedError


class AlreadyInHiveError(ConflictError):
    """This node belongs to a hive already; `data.hive_id` names it."""

    code: ClassVar[int] = 6101


class NotInHiveError(RefusedError):
    """This node belongs to no hive yet."""

    code: ClassVar[int] = 6102


class TicketRefusedError(RefusedError):
    """The ticket cannot be used; `data.reason` is a word."""

    code: ClassVar[int] = 6103


class CannotLeaveError(RefusedError):
    """Without this node the hive would have nobody who admits."""

    code: ClassVar[int] = 6104


class NotMemberTierError(RefusedError):
    """The call needs tier `member`."""

    code: ClassVar[int] = 6105


class UnmappedSenderError(RefusedError):
    """The packet's Nostr key is bound to no member."""

    code: ClassVar[int] = 6106


class NotCoordinatedError(RefusedError):
    """The call needs cl-hive-comms on this node."""

    code: ClassVar[int] = 6107


class PacketError(RefusedError):
    """The packet is none of ours; `data.reason` is a word."""

    code: ClassVar[int] = 6108


class SettlementHeldError(RefusedError):
    """The database was restored, and nobody has compared it with what lightningd paid; `data.restore` says which."""

    code: ClassVar[int] = 6109


class SettlementNotReadyError(RefusedError):
    """There is no settlement that a quorum agreed on; `data.reason` is a word."""

    code: ClassVar[int] = 6110


class ActionClosedError(ConflictError):
    """The action was answered already, or its time is over; `data.status` says which."""

    code: ClassVar[int] = 6111


class UndecidedError(ConflictError):
    """The comparison with lightningd does not allow what was asked; `data.undecided` lists why."""

    code: ClassVar[int] = 6112
