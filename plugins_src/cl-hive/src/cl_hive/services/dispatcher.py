"""Incoming messages: every check that does not depend on what the message is about, cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hive_kit.errors import UnavailableError

from cl_hive.options import Settings
from cl_hive.protocol import frames, messages
from cl_hive.protocol.frames import Frame, FrameError
from cl_hive.protocol.registry import Audience, MessageSpec
from cl_hive.services import vpn
from cl_hive.services.limits import Counters, RateLimiter
from cl_hive.services.membership import Membership
from cl_hive.services.signing import Signer

Handler = Callable[[str, dict[str, Any]], None]
# Asked before the signature is checked: False for what would change nothing.
Worthwhile = Callable[[dict[str, Any]], bool]
_SEEN_SECONDS: Final = 60


class Dispatcher:
    """Gives messages that pass to the handler of their type, and counts the others."""

    def __init__(
        self,
        membership: Membership,
        signer: Signer,
        settings: Settings,
        counters: Counters,
        limiter: RateLimiter,
        now: Callable[[], int],
        address_of: Callable[[str], str],
        handlers: Mapping[str, Handler],
        worthwhile: Mapping[str, Worthwhile],
    ) -> None:
        """Args: address_of: where a peer is connected from, "" when unknown. handlers, worthwhile: by message name."""
        self._membership = membership
        self._signer = signer
        self._settings = settings
        self._counters = counters
        self._limiter = limiter
        self._now = now
        self._address_of = address_of
        self._handlers = dict(handlers)
        self._worthwhile = dict(worthwhile)

    def receive(self, peer_id: str, data: bytes) -> None:
        """Handle the bytes of a custom message. Never raises for anything a peer can send."""
        if not frames.is_frame(data):
            return  # another plugin's
        try:
            frame = frames.decode(data)
        except FrameError as error:
            self._counters.add(f"dropped_{error.reason}")
            return
        self.handle(peer_id, frame)

    def handle(self, peer_id: str, frame: Frame) -> None:
        """Handle a decoded message of an authenticated peer."""
        spec = messages.TABLE.number(frame.type)
        if spec is None or spec.name not in self._handlers:
            self._counters.add("dropped_type")
            return
        payload = frame.payload
        try:
            reason = self._refusal(peer_id, spec, payload)
            if reason:
                self._counters.add(f"dropped_{reason}")
                return
            self._counters.add(f"received_{spec.name}")
            self._seen(peer_id)
            self._handlers[spec.name](peer_id, payload)
        except UnavailableError:
            # lightningd did not answer a question the message raised. What is lost now, anti-entropy brings again.
            self._counters.add("dropped_unavailable")

    def _refusal(self, peer_id: str, spec: MessageSpec, payload: dict[str, Any]) -> str:
        gate = vpn.verdict(
            self._settings.transport_mode,
            self._settings.vpn_required,
            self._settings.vpn_subnets,
            self._address_of(peer_id),
            spec,
        )
        if gate == "refuse":
            return "outside_vpn"
        if gate == "accept-outside":
            self._counters.add("accepted_outside_vpn")
        if spec.rate is not None and not self._limiter.allow((spec.number, peer_id), spec.rate):
            return "rate"
        if spec.audience is Audience.MEMBERS and not self._membership.is_member(peer_id):
            return "stranger"
        if spec.problem(payload):
            return "malformed"
        if spec.stale(payload, self._now()):
            return "stale"
        return self._signature_refusal(peer_id, spec, payload)

    def _signature_refusal(self, peer_id: str, spec: MessageSpec, payload: dict[str, Any]) -> str:
        if spec.signed is None:
            return ""
        actor = str(payload[spec.signed.actor])
        if actor != peer_id and not spec.relayed:
            return "speaks_for_another"
        worthwhile = self._worthwhile.get(spec.name)
        if worthwhile is not None and not worthwhile(payload):
            return "known"
        if not self._signer.check(spec.signed.text(payload), str(payload[spec.signed.field]), actor):
            return "signature"
        return ""

    def _seen(self, peer_id: str) -> None:
        member = self._membership.members.get(peer_id)
        if member is not None and abs(self._now() - (member.last_seen or 0)) >= _SEEN_SECONDS:
            self._membership.members.seen(peer_id, self._now())
