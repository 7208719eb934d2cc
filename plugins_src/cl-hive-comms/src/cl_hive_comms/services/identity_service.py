"""The node's Nostr identity: one BIP-340 key, sealed at rest, and the relays it uses."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path

from hive_kit.errors import InvalidParamsError, OptionError, SecretError
from hive_kit.keys import SchnorrKey
from hive_kit.sealed import Seal
from hive_kit.store import Store

from cl_hive_comms.options import MAX_RELAYS, RELAYS
from cl_hive_comms.services.receipt_service import ReceiptService
from cl_hive_comms.services.setting import Setting
from cl_hive_comms.storage.state_store import StateStore

SCHEMA = "hive:identity/v1"
KEY_FILE = "comms.secrets"
_PRIVKEY = "config:privkey"
_PUBKEY = "config:pubkey"
_RELAYS = "config:relays"
_FIRST_START = "config:first_start"
_RELAY = re.compile(r"wss?://[A-Za-z0-9.\-_\[\]:]+(/\S*)?")


def check_relays(relays: Sequence[str]) -> list[str]:
    """Relays without repetition, in order.

    Raises:
        InvalidParamsError: none, more than eight, or one that is no websocket address.
    """
    unique = list(dict.fromkeys(relays))
    if not unique:
        raise InvalidParamsError("relays cannot be empty; give 1 to 8 addresses such as wss://nos.lol")
    if len(unique) > MAX_RELAYS:
        raise InvalidParamsError(f"{len(unique)} relays are too many; give at most {MAX_RELAYS}")
    for relay in unique:
        if not _RELAY.fullmatch(relay):
            raise InvalidParamsError(f"{relay!r} is not a relay address; write it as wss://host")
    return unique


def open_seal(database: Path, state: StateStore, holds_secrets: bool) -> Seal:
    """The key file beside the database; made on the very first start, and only then.

    A missing file next to sealed values, or a file next to a database without identity, means that a backup was
    restored in part. Going on would give the node another identity without anybody asking for it.

    Raises:
        SecretError: as above, or the file is damaged or readable by others.
    """
    path = database.with_name(KEY_FILE)
    if holds_secrets:
        return Seal.open(path)
    if not path.exists():
        state.set(_FIRST_START, "1")  # committed first: tells a crash in the next lines from a lost database
        return Seal.create(path)
    if state.get(_FIRST_START) is None:
        raise SecretError(
            f"{path} exists but {database.name} holds no identity; restore both from one backup set, "
            "or move the file away to begin with a new identity"
        )
    return Seal.open(path)


class StoredIdentity:
    """What `nostr_state` says of the identity, for whoever reads or writes it without a running plugin."""

    def __init__(self, state: StateStore, receipts: ReceiptService) -> None:
        self._state = state
        self._receipts = receipts

    @property
    def pubkey(self) -> str:
        """The stored public key; empty when there is no key."""
        return (self._state.get(_PUBKEY) or "") if IdentityService.stored(self._state) else ""

    @property
    def relays(self) -> str | None:
        """The stored relays as JSON, None when the option rules."""
        return self._state.get(_RELAYS)

    def key(self, seal: Seal) -> SchnorrKey:
        """The stored key.

        Raises:
            SecretError: there is none, or it does not open.
        """
        sealed = self._state.get(_PRIVKEY)
        if sealed is None:
            raise SecretError("no key is stored")
        return SchnorrKey.from_text(seal.unseal(sealed))

    def replace(self, key: SchnorrKey, seal: Seal, action: str, previous: str) -> None:
        """Seal and store a key, and write the receipt; inside the open transaction.

        Args:
            action: create, rotate, import or adopt.
            previous: the public key before, or "".
        """
        self._state.set(_PRIVKEY, seal.seal(key.secret_hex))
        self._state.set(_PUBKEY, key.public_hex)
        self._state.delete(_FIRST_START)
        before = {"previous_pubkey": previous} if previous else {}
        self._receipts.write(SCHEMA, action, before, {"pubkey": key.public_hex})

    def set_relays(self, relays: Sequence[str], option: Sequence[str]) -> None:
        """Store relays that rule until the option is another than `option`.

        Raises:
            InvalidParamsError: see `check_relays`.
        """
        Setting(self._state, _RELAYS, list(option)).write(check_relays(relays))


class IdentityService:
    """Holds the key; everything that signs asks for it anew, so that a rotation is seen at once."""

    def __init__(
        self, store: Store, state: StateStore, receipts: ReceiptService, seal: Seal, relays: Sequence[str]
    ) -> None:
        """Args: relays: value of the option.

        Raises:
            OptionError: the option holds something that is no relay.
            SecretError: the stored key does not open, or is not the key of the stored public key.
        """
        self._store = store
        self._state = state
        self._receipts = receipts
        self._seal = seal
        try:
            self._option_relays = check_relays(relays)
        except InvalidParamsError as error:
            raise OptionError(f"{RELAYS}: {error.message}") from error
        self._relays = Setting(state, _RELAYS, self._option_relays)
        self._lock = threading.Lock()
        if self._relays.option_changed():
            with store.atomic():
                self._relays.clear()
                receipts.write(SCHEMA, "set-relays", {"relays": self._option_relays, "source": "option"}, {"ok": True})
        sealed = state.get(_PRIVKEY)
        self._sealed_key = sealed
        self._key: SchnorrKey | None = None
        if sealed is None:
            self._replace(SchnorrKey.generate(), "create")
        else:
            self._secret_opens(sealed)

    @staticmethod
    def stored(state: StateStore) -> bool:
        """Whether the database holds a sealed key."""
        return state.get(_PRIVKEY) is not None

    @property
    def key(self) -> SchnorrKey:
        """The key that signs now."""
        with self._lock:
            if self._key is None:
                raise SecretError("the identity is not loaded")
            return self._key

    @property
    def pubkey(self) -> str:
        """The x-only public key, 64 hex digits."""
        return self.key.public_hex

    def relays(self) -> tuple[list[str], str]:
        """The relays in use and where they come from: "option" or "rpc"."""
        stored = self._relays.read()
        return (self._option_relays, "option") if stored is None else ([str(relay) for relay in stored], "rpc")

    def rotate(self) -> None:
        """Replace the key by a new one."""
        self._replace(SchnorrKey.generate(), "rotate")

    def import_key(self, text: str) -> None:
        """Replace the key by an nsec or 64 hex digits.

        Raises:
            InvalidParamsError: it is neither.
        """
        self._replace(SchnorrKey.from_text(text), "import")

    def set_relays(self, relays: Sequence[str]) -> None:
        """Use other relays than the option says, until the option changes.

        Raises:
            InvalidParamsError: see `check_relays`.
        """
        checked = check_relays(relays)
        with self._store.atomic():
            self._relays.write(checked)
            self._receipts.write(SCHEMA, "set-relays", {"relays": checked, "source": "rpc"}, {"ok": True})

    def _secret_opens(self, sealed: str) -> None:
        key = SchnorrKey.from_text(self._seal.unseal(sealed))
        if key.public_hex != self._state.get(_PUBKEY):
            raise SecretError("the stored key is not the key of the stored public key; restore the newest backup set")
        self._key = key

    def _replace(self, key: SchnorrKey, action: str) -> None:
        with self._lock:
            previous = "" if self._key is None else self._key.public_hex
            with self._store.atomic():
                StoredIdentity(self._state, self._receipts).replace(key, self._seal, action, previous)
            self._key = key
