"""The management plane: what an advisor sends, checked in a fixed order, carried out once, and receipted.

The first check that fails wins: sender, rate, form and size, rune, restore, skew, advisor, signature, permission,
replay, rate of dangerous ones, policy, confirmation. Then the nonce is used up in the transaction that carries the
action out and writes the receipt: a refusal before that costs the advisor nothing, a crash leaves all of it or none.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from hive_kit.canonical import canonical_json, sha256_hex
from hive_kit.errors import (
    BusyError,
    ConflictError,
    HiveError,
    InvalidParamsError,
    LimitError,
    NotFoundError,
    NotReadyError,
    RefusedError,
    RestoredError,
    StorageError,
    UnavailableError,
)
from hive_kit.keys import public_from_text
from hive_kit.options import Options
from hive_kit.store import Store

from cl_hive_comms import options as names
from cl_hive_comms.services.advisor_service import ACTIVE, AdvisorService
from cl_hive_comms.services.danger import may, name_of
from cl_hive_comms.services.envelope import SKEW_SECONDS, Envelope, parse
from cl_hive_comms.services.identity_service import IdentityService
from cl_hive_comms.services.policy_service import PolicyService
from cl_hive_comms.services.rate import Rate
from cl_hive_comms.services.receipt_service import OPERATOR, PLUGIN, ReceiptService
from cl_hive_comms.services.restore_service import RestoreService
from cl_hive_comms.storage.advisor_store import Advisor
from cl_hive_comms.storage.management_store import (
    APPROVED,
    EXPIRED,
    HELD,
    REJECTED,
    HeldAction,
    HeldStore,
    ReplayStore,
)

DANGEROUS = 5
HELD_PER_ADVISOR = 20
_DAY = 86_400
_HOLD_SECONDS = 24 * 3_600
_HOLD_SECONDS_DANGEROUS = 4 * 3_600  # from danger 7
# Nothing was decided about the action itself, so the advisor may send the very same envelope again.
_TEMPORARY = (BusyError, NotReadyError, RestoredError, StorageError, UnavailableError)


class Command(Protocol):
    """One action of one schema, bound to its parameters."""

    schema: str
    action: str

    def prepare(self) -> None:
        """Ask lightningd what must be known first. Outside of any transaction; may refuse."""

    def danger(self) -> int:
        """1 to 10."""

    def run(self, advisor: Advisor, nonce: int) -> dict[str, Any]:
        """Carry it out, inside the transaction."""

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """What must happen after the commit; gives the result."""


Interpreter = Callable[[str, Mapping[str, Any]], Command]


@dataclass(frozen=True)
class _Authenticated:
    advisor: Advisor
    auth_key: str


class ManagementService:
    """Takes envelopes, and the operator's word on those that wait for it."""

    def __init__(
        self,
        store: Store,
        replay: ReplayStore,
        held: HeldStore,
        advisors: AdvisorService,
        identity: IdentityService,
        policy: PolicyService,
        receipts: ReceiptService,
        restore: RestoreService,
        options: Options,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._replay = replay
        self._held = held
        self._advisors = advisors
        self._identity = identity
        self._policy = policy
        self._receipts = receipts
        self._restore = restore
        self._options = options
        self._now = now
        self._rate = Rate(60, 60.0)
        self._dangerous_rate = Rate(5, 60.0)

    def receive(
        self,
        raw: Mapping[str, Any],
        sender: str,
        transport: str,
        interpret: Interpreter,
        admit: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Check an envelope and carry it out, or hold it for the operator.

        Args:
            raw: the envelope.
            sender: who claims to have sent it: id, reference or alias of an advisor.
            transport: what it came over, for the reply.
            interpret: makes a command of schema name and payload.
            admit: what the transport itself asks for (a rune); raises.

        Raises:
            HiveError: the first check that failed, or why the action failed.
        """
        if not sender:
            raise InvalidParamsError("missing sender: id, reference or alias of an advisor")
        self._rate.take(sender)
        envelope = parse(raw)
        admit()
        self._restore.check_window()
        self._check_time(envelope)
        who = self._authenticate(envelope, sender)
        schema = name_of(envelope.schema_type)
        if not may(who.advisor.permissions, schema):
            raise RefusedError(f"permission denied for {envelope.schema_type}; the operator grants it with access=")
        command = interpret(schema, envelope.payload)
        last = self._replay.last_nonce(who.auth_key)
        if last is not None and envelope.nonce <= last:
            raise _replayed(last)
        command.prepare()
        danger = command.danger()
        if danger >= DANGEROUS:
            self._dangerous_rate.take(who.auth_key)
        self._check_policy(envelope.schema_type, command, danger)
        reply = {
            "ok": True,
            "transport": transport,
            "schema_type": envelope.schema_type,
            "nonce": envelope.nonce,
            "sender": sender,
        }
        with self._receipts.acting(who.advisor.advisor_id):
            if danger >= self._policy.get()["rules"]["confirm_from_danger"]:
                return {**reply, **self._hold(envelope, who, command, danger)}
            return {**reply, **self._carry_out(envelope, who, command, danger)}

    # -- the checks ---------------------------------------------------------------------------------------------------

    def _check_time(self, envelope: Envelope) -> None:
        skew = envelope.timestamp - self._now()
        if abs(skew) > SKEW_SECONDS:
            raise RefusedError(
                f"the timestamp is {abs(skew)} s {'ahead' if skew > 0 else 'old'}, and {SKEW_SECONDS} are allowed; "
                "set the clocks, and sign it anew",
                skew_seconds=skew,
            )
        self._restore.check_timestamp(envelope.timestamp)

    def _authenticate(self, envelope: Envelope, sender: str) -> _Authenticated:
        try:
            advisor = self._advisors.find(sender)
        except NotFoundError:
            raise RefusedError("unauthorized sender") from None
        if advisor.status != ACTIVE:
            raise RefusedError("unauthorized sender")
        public = _public_key(advisor)
        if envelope.kind == "bip340":
            if public is not None and envelope.signed_with_key(public, self._identity.pubkey):
                return _Authenticated(advisor, f"bip340:{public}")
        elif public is None or self._options.flag(names.ALLOW_TOKEN_FOR_KEYS):
            token = self._advisors.token(advisor)
            if token is not None and envelope.signed_with_token(token):
                # By the token, not by the name: a new token after a revocation begins anew, another spelling does not.
                return _Authenticated(advisor, f"hmac:{sha256_hex('hive-replay|' + token)[:32]}")
        else:
            raise RefusedError(
                "invalid sender signature: an advisor whose reference is a key signs with it (BIP-340); "
                f"{names.ALLOW_TOKEN_FOR_KEYS}=true accepts the token too"
            )
        raise RefusedError("invalid sender signature")

    def _check_policy(self, schema_type: str, command: Command, danger: int) -> None:
        rules = self._policy.get()["rules"]
        if not {schema_type, command.schema}.isdisjoint(rules["blocked_schemas"]):
            raise RefusedError("schema blocked by local policy; see hive-client-policy")
        if f"{command.schema}/{command.action}" in rules["forbidden_actions"]:
            raise RefusedError("action forbidden by local policy; see hive-client-policy")
        if danger > rules["max_danger"]:
            raise RefusedError(f"danger_score {danger} exceeds max_danger ({rules['max_danger']})", danger=danger)

    # -- what follows -------------------------------------------------------------------------------------------------

    def _carry_out(self, envelope: Envelope, who: _Authenticated, command: Command, danger: int) -> dict[str, Any]:
        failure: HiveError | None = None
        result: dict[str, Any] = {}
        with self._store.atomic():
            self._consume(envelope, who)
            try:
                with self._store.atomic():
                    result = command.run(who.advisor, envelope.nonce)
            except _TEMPORARY:
                raise
            except HiveError as error:
                failure = error  # the action is decided: the nonce is gone, and the receipt says why
            receipt = self._write_receipt(
                envelope, who, command, danger, {"ok": True} if failure is None else {"ok": False, "code": failure.code}
            )
        if failure is not None:
            raise failure
        return {"result": command.finish(result), "receipt_id": receipt}

    def _hold(self, envelope: Envelope, who: _Authenticated, command: Command, danger: int) -> dict[str, Any]:
        now = self._now()
        seconds = _HOLD_SECONDS_DANGEROUS if danger >= 7 else _HOLD_SECONDS
        held = HeldAction(
            secrets.token_hex(8),
            who.advisor.advisor_id,
            envelope.schema_type,
            command.action,
            envelope.payload,
            envelope.nonce,
            danger,
            HELD,
            now,
            now + seconds,
            0,
            "",
        )
        with self._store.atomic():
            self._expire()
            if self._held.count(who.advisor.advisor_id) >= HELD_PER_ADVISOR:
                raise LimitError(
                    f"{HELD_PER_ADVISOR} actions of this advisor wait for the operator; wait until it decides"
                )
            self._consume(envelope, who)
            self._held.add(held)
            receipt = self._write_receipt(envelope, who, command, danger, {"ok": True, "held": held.action_id})
        return {
            "held": True,
            "requires_confirmation": True,
            "action_id": held.action_id,
            "expires_at": held.expires_at,
            "receipt_id": receipt,
        }

    def _consume(self, envelope: Envelope, who: _Authenticated) -> None:
        used = self._replay.consume(
            who.auth_key, who.advisor.advisor_id, envelope.nonce, envelope.timestamp, self._now()
        )
        if not used:  # two at once: the transaction decides
            raise _replayed(self._replay.last_nonce(who.auth_key))

    def _write_receipt(
        self, envelope: Envelope, who: _Authenticated, command: Command, danger: int, result: dict[str, Any]
    ) -> int:
        return self._receipts.write(
            envelope.schema_type,
            command.action,
            {
                "advisor_id": who.advisor.advisor_id,
                "authenticated_by": who.auth_key.partition(":")[0],
                "nonce": envelope.nonce,
                "timestamp": envelope.timestamp,
                "danger": danger,
                "payload_sha256": sha256_hex(canonical_json(envelope.payload)),
            },
            result,
        )

    # -- the operator's word ------------------------------------------------------------------------------------------

    def waiting(self, limit: int) -> list[dict[str, Any]]:
        """What waits for the operator, the oldest first."""
        self.expire()
        return [asdict(held) for held in self._held.waiting(limit)]

    def waiting_count(self) -> int:
        """How many wait."""
        self.expire()
        return self._held.count()

    def approve(self, action_id: str, reason: str, interpret: Interpreter) -> dict[str, Any]:
        """Carry a held action out, if it still may be. One that fails goes on waiting until it expires.

        Raises:
            NotFoundError: there is no such action.
            ConflictError: it is decided, or has expired.
            RefusedError: the advisor or the policy no longer allow it.
        """
        held = self._open(action_id)
        advisor = self._advisors.find(held.advisor_id)
        schema = name_of(held.schema_type)
        if advisor.status != ACTIVE or not may(advisor.permissions, schema):
            raise RefusedError(
                "the advisor may not do that any more; reject the action, or authorize the advisor again"
            )
        command = interpret(schema, held.payload)
        command.prepare()
        self._check_policy(held.schema_type, command, command.danger())
        with self._store.atomic():
            self._decide(held, APPROVED, reason, OPERATOR)
            with self._receipts.acting(held.advisor_id):
                result = command.run(advisor, held.nonce)
        with self._receipts.acting(held.advisor_id):
            return command.finish(result)

    def reject(self, action_id: str, reason: str) -> None:
        """Refuse a held action.

        Raises:
            NotFoundError, ConflictError: see `approve`.
        """
        held = self._open(action_id)
        with self._store.atomic():
            self._decide(held, REJECTED, reason, OPERATOR)

    def expire(self) -> None:
        """End the wait of what has waited too long."""
        if self._held.due(self._now()):
            with self._store.atomic():
                self._expire()

    def prune(self, days: int) -> dict[str, int]:
        """Forget decided actions and the replay state of keys that rest since `days`; gives how many of each.

        A key that rests longer than the skew needs no replay state: its old envelopes are too old by themselves.
        """
        before = self._now() - days * _DAY
        with self._store.atomic():
            return {"held_actions": self._held.prune(before), "replay_nonces": self._replay.prune(before)}

    def _open(self, action_id: str) -> HeldAction:
        self.expire()
        held = self._held.by_id(action_id)
        if held is None:
            raise NotFoundError(f"there is no action {action_id}; hive-client-approve lists what waits")
        if held.status != HELD:
            raise ConflictError(f"action {action_id} is {held.status} already; the advisor must ask again")
        return held

    def _decide(self, held: HeldAction, status: str, reason: str, actor: str) -> None:
        if not self._held.decide(held.action_id, status, self._now(), reason):
            raise ConflictError(f"action {held.action_id} was decided just now; hive-client-approve lists what waits")
        self._receipts.write(
            held.schema_type,
            {APPROVED: "approve", REJECTED: "reject", EXPIRED: "expire"}[status],
            {"advisor_id": held.advisor_id, "action_id": held.action_id, "action": held.action, "reason": reason},
            {"status": status},
            actor,
        )

    def _expire(self) -> None:
        for held in self._held.due(self._now()):
            self._decide(held, EXPIRED, "nobody decided in time", PLUGIN)


def _replayed(last: int | None) -> ConflictError:
    return ConflictError(
        f"replay rejected: nonce not monotonic; the last one was {last}, so sign with a greater one", last_nonce=last
    )


def _public_key(advisor: Advisor) -> str | None:
    """The key that the advisor's reference is, if it is one."""
    try:
        return public_from_text(advisor.advisor_ref)
    except InvalidParamsError:
        return None
