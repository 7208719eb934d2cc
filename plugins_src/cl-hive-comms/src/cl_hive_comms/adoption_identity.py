"""The monolith's `nostr_state`: its Nostr key, sealed again with our key file, its relays, and what it published.

The field seals the key by XOR with the SHA-256 of the node's signature of a fixed text, so opening it needs the node.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hive_kit.adoption import Column, identifier, text
from hive_kit.adoption_back import BOTH_CHANGED as BACK_CHANGED
from hive_kit.adoption_back import NO_TABLE, NOT_ADOPTED, Back, BackTally
from hive_kit.adoption_pass import BOTH_CHANGED, OWN_ROW, Found, Pass, Request, Tally
from hive_kit.adoption_source import BASIS_BYTES, Source, row_digest
from hive_kit.errors import AdoptionError, InvalidParamsError
from hive_kit.keys import SchnorrKey
from hive_kit.sealed import Seal
from hive_kit.store import Store
from hive_kit.values import split_csv

from cl_hive_comms.options import MAX_RELAYS, OPTIONS, RELAYS
from cl_hive_comms.services.identity_service import KEY_FILE, IdentityService, StoredIdentity, open_seal
from cl_hive_comms.services.receipt_service import ReceiptService
from cl_hive_comms.storage.advisor_store import AdvisorStore
from cl_hive_comms.storage.receipt_store import ReceiptStore
from cl_hive_comms.storage.state_store import StateStore

DERIVATION: Final = "nostr_key_derivation"
PRIVKEY: Final = "config:privkey"
PUBKEY: Final = "config:pubkey"
STORED_RELAYS: Final = "config:relays"
EVENT: Final = "event:"
KEPT: Final = "the plugin keeps its own identity"
PLACEHOLDER: Final = "is no Nostr key: the monolith ran without coincurve and used a hash; the key itself was carried"
_HEX64: Final = re.compile(r"[0-9a-f]{64}")
_OPTION: Final = next(list(split_csv(option.default)) for option in OPTIONS if option.name == RELAYS)


def field_seal(secret_hex: str, signature: str) -> str:
    """Seal a key as the monolith does."""
    return base64.b64encode(_xor(secret_hex.encode(), signature)).decode("ascii")


def field_unseal(value: str, signature: str) -> str:
    """Open what the monolith sealed; nonsense when another node's signature sealed it, "" when it is no base64."""
    try:
        return _xor(base64.b64decode(value, validate=True), signature).decode("ascii")
    except (binascii.Error, ValueError):
        return ""


def _xor(data: bytes, signature: str) -> bytes:
    key = hashlib.sha256(signature.encode()).digest()
    return bytes(byte ^ key[place % len(key)] for place, byte in enumerate(data))


@dataclass(frozen=True)
class Note:
    """What an adoption remembers of the identity; in the kit's record, without any secret.

    Args:
        seen: digest of the monolith's sealed key, hex.
        pubkey: of the monolith then.
        action: carried or kept.
        relays: as they were stored here, JSON; "" for none.
    """

    seen: str = ""
    pubkey: str = ""
    action: str = ""
    relays: str = ""

    @classmethod
    def read(cls, stored: str) -> Note:
        """What was written before; empty at the first pass."""
        return cls(**json.loads(stored)) if stored else cls()

    def text(self) -> str:
        """For the record."""
        return json.dumps(vars(self), sort_keys=True)


def prepare(store: Store, source: Source, _: Request) -> None:
    """Make or open the key file, as the plugin itself does at its first start, before the transaction begins."""
    if "nostr_state" in source.tables and source.by_key("nostr_state", ("key",), (), [(PRIVKEY,)]):
        _seal(store, StateStore(store, lambda: 0))


class NostrState:
    """`Mover` of `nostr_state`, which both have, but ours with a time and another seal."""

    table = "nostr_state"
    key = ("key",)
    columns: tuple[Column, ...] = (identifier("key"), text("value"))
    secret_keys = frozenset({PRIVKEY})

    def adopt(self, work: Pass) -> Tally:
        """See `Mover.adopt`."""
        tally = Tally()
        batches = work.found(tally, unchanged=True)
        rows = {found.text: found for batch, _ in batches for found in batch if not found.problem}
        state = StateStore(work.store, work.now)
        stored = _stored(work.store, state)
        note = _identity(work, tally, state, stored, rows)
        note = _relays(work, tally, stored, rows, note)
        _events(work, tally, state, rows)
        known = {PRIVKEY, PUBKEY, STORED_RELAYS}
        strange = [found for key, found in rows.items() if key not in known and not key.startswith(EVENT)]
        work.quarantine(tally, [(f.text, "is no setting that the plugin knows", f.row) for f in strange])
        work.set_detail(note.text())
        return tally

    def carry_back(self, back: Back) -> BackTally:
        """See `Mover.carry_back`."""
        tally = BackTally()
        ours = {str(row[0]): str(row[1]) for row in back.store.query("SELECT key, value FROM nostr_state")}
        if not back.adopted or self.table not in back.monolith.tables:
            tally.leave(NO_TABLE if back.adopted else NOT_ADOPTED, len(ours))
            return tally
        theirs: dict[str, str] = dict(back.monolith.query("SELECT key, value FROM nostr_state"))
        note = Note.read(back.detail)
        write: dict[str, str] = {}
        note = self._identity_back(back, tally, note, ours, theirs, write)
        basis = {key: digest for page in back.basis_pages() for key, digest in page.items()}
        wanted = {key: value for key, value in ours.items() if key.startswith(EVENT)}
        if STORED_RELAYS in ours and ours[STORED_RELAYS] != note.relays:
            wanted[STORED_RELAYS] = json.dumps(json.loads(ours[STORED_RELAYS]), separators=(",", ":"))
        for key, value in wanted.items():
            before, their = basis.get(key), theirs.get(key)
            if before is not None and _digest(key, value) == before:
                continue
            if their == value:
                back.agree(key, _digest(key, value))
            elif (before is None and their is None) or (their is not None and _digest(key, their) == before):
                write[key] = value
            else:
                tally.leave(BACK_CHANGED)
        back.monolith.write(
            "INSERT INTO nostr_state (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            list(write.items()),
        )
        tally.updated = sum(key in theirs for key in write)
        tally.inserted = len(write) - tally.updated
        tally.leave("the monolith has no such setting", sum(_is_ours_alone(key) for key in ours))
        for key, value in write.items():
            back.agree(key, _digest(key, value))
        if STORED_RELAYS in write or (STORED_RELAYS in wanted and theirs.get(STORED_RELAYS) == wanted[STORED_RELAYS]):
            note = replace(note, relays=ours[STORED_RELAYS])
        back.detail = note.text()
        return tally

    @staticmethod
    def _identity_back(
        back: Back,
        tally: BackTally,
        note: Note,
        ours: Mapping[str, str],
        theirs: Mapping[str, str],
        write: dict[str, str],
    ) -> Note:
        """What to write of the identity; gives what the record says of it then."""
        pubkey = ours.get(PUBKEY, "")
        if PRIVKEY not in ours or pubkey == note.pubkey:
            return note
        if note.action == "kept":
            tally.leave(KEPT, 2)
            return note
        signature = _signature(back.request)
        stored = _stored(back.store, StateStore(back.store, lambda: back.now))
        secret = stored.key(Seal.open(back.store.path.with_name(KEY_FILE))).secret_hex
        sealed, their = field_seal(secret, signature), theirs.get(PRIVKEY)
        if their != sealed and (_digest(PRIVKEY, their).hex() if their is not None else "") != note.seen:
            tally.leave(BACK_CHANGED, 2)
            return note
        if their != sealed or theirs.get(PUBKEY) != pubkey:
            write.update({PRIVKEY: sealed, PUBKEY: pubkey})
        return replace(note, seen=_digest(PRIVKEY, sealed).hex(), pubkey=pubkey, action="carried")


def _identity(work: Pass, tally: Tally, state: StateStore, stored: StoredIdentity, rows: Mapping[str, Found]) -> Note:
    """Carry the key over, or keep ours; says which."""
    note, found, own = Note.read(work.detail), rows.get(PRIVKEY), stored.pubkey
    if found is None:
        if PUBKEY in rows:
            work.quarantine(tally, [(PUBKEY, "has no key beside it", rows[PUBKEY].row)])
        work.identity = {"action": "kept" if own else "none", "pubkey": own}
        return note
    seen = found.digest[:BASIS_BYTES].hex()
    if own and seen == note.seen and own != note.pubkey:
        _keep(work, tally, rows, own, note.action)
        return note
    key, placeholder = _open(work.request, found, rows.get(PUBKEY))
    if placeholder:
        work.quarantine(tally, [(PUBKEY, PLACEHOLDER, rows[PUBKEY].row)])
    if own and own not in (key.public_hex, note.pubkey):
        if work.request.identity == "refuse":
            raise AdoptionError(
                "identity-conflict",
                f"the monolith is {key.public_hex} on Nostr and the plugin is {own}; say whose identity stays: "
                "monolith or present",
            )
        if work.request.identity == "present":
            _keep(work, tally, rows, own, "kept")
            return replace(note, seen=seen, pubkey=key.public_hex, action="kept")
    if own != key.public_hex:
        stored.replace(key, _seal(work.store, state), "adopt", own)
    carried = [found, *([rows[PUBKEY]] if PUBKEY in rows and not placeholder else [])]
    _count(work, tally, carried)
    work.identity = {"action": "carried", "pubkey": key.public_hex}
    return replace(note, seen=seen, pubkey=key.public_hex, action="carried")


def _keep(work: Pass, tally: Tally, rows: Mapping[str, Found], own: str, action: str) -> None:
    work.identity = {"action": "kept", "pubkey": own}
    if action == "kept":
        work.quarantine(tally, [(key, KEPT, rows[key].row) for key in (PRIVKEY, PUBKEY) if key in rows])


def _open(request: Request, sealed: Found, public: Found | None) -> tuple[SchnorrKey, bool]:
    """The monolith's key, proven by its public key; whether that is the hash of releases without coincurve."""
    value, expected = str(sealed.row[1]), "" if public is None else str(public.row[1]).lower()
    signature = request.signatures.get(DERIVATION, "")
    # A monolith that could not ask the node stored the key as it is.
    for secret in (field_unseal(value, signature).lower() if signature else "", value.lower()):
        if not _HEX64.fullmatch(secret):
            continue
        key = _key(secret)
        if key is None:
            continue
        if expected in ("", key.public_hex):
            return key, False
        if expected == hashlib.sha256(bytes.fromhex(secret)).hexdigest():
            return key, True
    if not signature:
        _signature(request)
    raise AdoptionError(
        "identity-unreadable",
        "the monolith's Nostr key does not open with this node's signature, or is not the key of its public key; "
        "adopt on the node that made it, or restore cl_hive.db",
    )


def _key(secret: str) -> SchnorrKey | None:
    try:
        return SchnorrKey.from_text(secret)
    except InvalidParamsError:
        return None


def _signature(request: Request) -> str:
    signature = request.signatures.get(DERIVATION, "")
    if not signature:
        raise AdoptionError("no-signature", f"the Nostr key needs the node's signature of {DERIVATION}; give it")
    return signature


def _relays(work: Pass, tally: Tally, stored: StoredIdentity, rows: Mapping[str, Found], note: Note) -> Note:
    found = rows.get(STORED_RELAYS)
    if found is None or work.basis([STORED_RELAYS]).get(STORED_RELAYS) == found.digest[:BASIS_BYTES]:
        return note
    own = stored.relays
    if own is not None and own != note.relays:
        work.quarantine(tally, [(STORED_RELAYS, BOTH_CHANGED if note.relays else OWN_ROW, found.row)])
        return note
    try:
        relays = json.loads(found.row[1])
        if not isinstance(relays, list):
            raise InvalidParamsError("is no list of relays")
        stored.set_relays([str(relay) for relay in relays][:MAX_RELAYS], _OPTION)
    except ValueError:
        work.quarantine(tally, [(STORED_RELAYS, "value is not valid JSON", found.row)])
        return note
    except InvalidParamsError as error:
        work.quarantine(tally, [(STORED_RELAYS, error.message, found.row)])
        return note
    _count(work, tally, [found])
    return replace(note, relays=stored.relays or "")


def _events(work: Pass, tally: Tally, state: StateStore, rows: Mapping[str, Found]) -> None:
    """`event:*` as they are: what was published last."""
    events = {key: found for key, found in rows.items() if key.startswith(EVENT)}
    basis = {key: digest for page in work.basis_pages() for key, digest in page.items() if key.startswith(EVENT)}
    for key, found in events.items():
        before, own = basis.get(key), state.get(key)
        if before == found.digest[:BASIS_BYTES]:
            continue
        if own != found.row[1] and own is not None and (before is None or _digest(key, own) != before):
            work.quarantine(tally, [(key, OWN_ROW if before is None else BOTH_CHANGED, found.row)])
            continue
        state.set(key, str(found.row[1]))
        _count(work, tally, [found])
    if work.table not in work.source.tables:
        return  # it was handed over, which deletes nothing
    for key in basis.keys() - events.keys():
        own = state.get(key)
        if own is not None and _digest(key, own) == basis[key]:
            state.delete(key)
            tally.deleted += 1
        work.forget([key])


def _count(work: Pass, tally: Tally, rows: list[Found]) -> None:
    basis = work.basis([found.text for found in rows])
    for found in rows:
        tally.inserted += found.text not in basis
        tally.updated += found.text in basis and basis[found.text] != found.digest[:BASIS_BYTES]
    work.remember([(found.text, found.digest) for found in rows])


def _digest(key: str, value: Any) -> bytes:
    return row_digest((key, value))[:BASIS_BYTES]


def _is_ours_alone(key: str) -> bool:
    return key not in (PRIVKEY, PUBKEY, STORED_RELAYS) and not key.startswith(EVENT)


def _stored(store: Store, state: StateStore) -> StoredIdentity:
    return StoredIdentity(state, ReceiptService(ReceiptStore(store, state), state.now))


def _seal(store: Store, state: StateStore) -> Seal:
    holds_secrets = IdentityService.stored(state) or AdvisorStore(store).sealed_tokens() > 0
    return open_seal(store.path, state, holds_secrets)
