"""What a module asks of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .stacks import Stack

STATES = ("switched", "confirmed", "reverted", "rolled_back", "soaked", "abandoned")


@dataclass(frozen=True)
class Timeouts:
    """Seconds that each part of a switch may take.

    Attributes:
        stop: longer than the 30 s that lightningd itself gives a plugin that wants to be told of its shutdown, so that
            nobody is ended in the middle of its last writes unless the operator says so.
    """

    getmanifest: float = 10.0
    init: float = 30.0
    stop: float = 35.0
    rpc: float = 15.0
    healthy: float = 5.0
    ready: float = 60.0
    validate: float = 30.0
    engine: float = 120.0

    @classmethod
    def from_params(cls, params: dict[str, Any] | None) -> Timeouts:
        """Take what is given, keep the defaults of the rest."""
        return cls(**{key: float(value) for key, value in (params or {}).items() if value is not None})

    @property
    def worst(self) -> float:
        """Seconds one plugin can be away if everything takes as long as it may."""
        return self.stop + self.getmanifest + self.init + self.healthy


@dataclass(frozen=True)
class Request:
    """One call of hive_switch.

    Attributes:
        manifests: by artifact digest; the slots on the node have their own, signed ones, which win.
        deadman_seconds: 0 confirms at once, when everything is verified.
        lift_quarantine: whether a release with which lightningd died may be tried again.
        slots_keep: slots of each plugin to keep beside those that are needed.
        aside_keep: sets of replaced files to keep.
        htlc_margin_blocks: what must be left before a payment in flight expires, after the longest a switch may take.
        htlc_wait_seconds: how long to wait for such payments before refusing.
        adopt: "auto" takes the monolith's rows over when a stack takes its place, "no" leaves them where they are.
        adopt_identity: which Nostr identity stays when the monolith and comms have different ones: "refuse",
            "monolith" or "present".
        stage: which stage of which plan this is, and how long it is to soak; see `soak.stage_of`. None for a switch
            that does not soak.
        verdict: why a soak ends: "healthy" or "accepted" (by a human).
        summary: one line about it, for the journal.
        give_up: whether the plan of the stage is dead as soon as the node is back.
    """

    state: str
    rollout: str
    owner: str = ""
    stack: Stack = field(default_factory=list)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    deadman_seconds: float = 300.0
    lock_ttl_seconds: float = 3600.0
    break_lock: bool = False
    backup_max_age_seconds: float = 3600.0
    backup_keep: int = 10
    timeouts: Timeouts = field(default_factory=Timeouts)
    allow_lightningd_restart: bool = False
    lift_quarantine: bool = False
    slots_keep: int = 2
    aside_keep: int = 3
    min_free_bytes: int = 256 * 1024 * 1024
    htlc_margin_blocks: int = 18
    htlc_wait_seconds: float = 600.0
    adopt: str = "auto"
    adopt_identity: str = "refuse"
    stage: dict[str, Any] | None = None
    verdict: str = "healthy"
    summary: str = ""
    give_up: bool = False
    check_mode: bool = False
