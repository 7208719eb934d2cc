# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""SSH signatures beyond one file: by which key, by whom, and many against one list. Controller only.

``_manifest.verify_signature`` answers for a release; here many statements are verified in a second, and somebody who
approves is told from somebody who signed evidence by the key itself, whatever name stands beside it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils import _plain_files
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAGIC = b"SSHSIG"
ED25519 = b"ssh-ed25519"
DIGESTS = frozenset((b"sha256", b"sha512"))
ARMOR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\s+(.+?)-----END SSH SIGNATURE-----", re.S)
KEY_TYPE = re.compile(r"^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+$")
# A signature is some hundred bytes; of a file that is larger than this nothing is read.
MAX_SIGNATURE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Key:
    """A public key: what kind of key, and ``SHA256:`` of it as ssh-keygen shows it."""

    kind: str
    fingerprint: str

    @property
    def certified(self) -> bool:
        """Whether this is a certificate: of the same key there may be any number."""
        return "-cert-" in self.kind


@dataclass(frozen=True)
class Signature:
    """What an SSH signature says of itself; proves nothing before it is verified."""

    key: Key
    public: bytes
    namespace: bytes
    digest: bytes
    made: bytes

    def fits(self, data: bytes, namespace: str) -> bool:
        """Whether this key signed ``data`` for ``namespace``; whose key it is, and until when, ssh-keygen knows.

        Only for keys of kind ``ssh-ed25519``.
        """
        kind, raw = _string(self.made, 0), _string(self.made, 4 + len(ED25519))
        if kind != ED25519 or self.namespace != namespace.encode() or self.digest not in DIGESTS:
            return False
        hashed = hashlib.new(self.digest.decode("ascii"), data).digest()
        fields = (self.namespace, b"", self.digest, hashed)
        message = MAGIC + b"".join(struct.pack(">I", len(one)) + one for one in fields)
        try:
            Ed25519PublicKey.from_public_bytes(_string(self.public, 4 + len(ED25519))).verify(raw, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def signing_key(signature: Path) -> Key:
    """The key that a signature says it was made with; proves nothing before the signature is verified.

    Raises ReleaseError ``unsigned`` or ``signature``.
    """
    return read_signature(signature).key


def read_signature(signature: Path) -> Signature:
    """What a signature says of itself. Raises ReleaseError ``unsigned`` or ``signature``."""
    try:
        text = _plain_files.read(signature, MAX_SIGNATURE_BYTES)
    except OSError as error:
        raise ReleaseError("unsigned", f"{signature} is missing: have the file signed.") from error
    try:
        return parse(text)
    except ValueError as error:
        raise ReleaseError("signature", f"{signature} is no SSH signature ({error}): have the file signed.") from error


def parse(armored: bytes) -> Signature:
    """An armored signature. Raises ValueError."""
    found = ARMOR.search(armored)
    if found is None:
        raise ValueError("no armor")
    try:
        blob = base64.b64decode(b"".join(found.group(1).split()), validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
    if not blob.startswith(MAGIC) or len(blob) < len(MAGIC) + 8:
        raise ValueError("no signature")
    parts, place = [], len(MAGIC) + 4
    # The key, what for, reserved, the hash, and the signature itself.
    for _ in range(5):
        parts.append(_string(blob, place))
        place += 4 + len(parts[-1])
    public, namespace, _, digest, made = parts
    return Signature(_key(public), public, namespace, digest, made)


def _string(blob: bytes, start: int) -> bytes:
    """A length and so many bytes, as SSH writes strings."""
    if len(blob) < start + 4:
        raise ValueError("cut off")
    (length,) = struct.unpack_from(">I", blob, start)
    found = blob[start + 4 : start + 4 + length]
    if len(found) != length:
        raise ValueError("cut off")
    return found


def _key(blob: bytes) -> Key:
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")
    return Key(_string(blob, 0).decode("ascii", "replace"), f"SHA256:{digest}")


def keys_of(allowed_signers: Path, principal: str) -> frozenset[str]:
    """The fingerprints of all keys that ``allowed_signers`` lists for ``principal``, by name or by pattern.

    Raises ReleaseError ``signers``.
    """
    try:
        lines = allowed_signers.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseError(
            "signers", f"{allowed_signers}, which lists who may sign, cannot be read: put the people's keys there."
        ) from error
    return frozenset(key for line in lines if (key := _listed_key(line, principal)))


def _listed_key(line: str, principal: str) -> str:
    """The fingerprint of the key that a line lists for ``principal``; "" for another's, and where there is none."""
    words = line.split()
    if not words or words[0].startswith("#"):
        return ""
    if not any(fnmatchcase(principal, pattern) for pattern in words[0].strip('"').split(",")):
        return ""
    place = next((number for number, word in enumerate(words) if KEY_TYPE.match(word)), len(words))
    try:
        return _key(base64.b64decode(words[place + 1], validate=True)).fingerprint if words[place + 1 :] else ""
    except (binascii.Error, ValueError):
        return ""


def verify_as(
    principal: str, data: bytes, signature: Path, allowed_signers: Path, namespace: str, seconds: float
) -> None:
    """Raise ReleaseError ``signature`` unless ``principal`` signed ``data`` for ``namespace``."""
    files = ["-s", str(signature), "-f", str(allowed_signers)]
    said = ssh_keygen(["-Y", "verify", "-n", namespace, "-I", principal, *files], data, seconds)
    if said.returncode != 0:
        raise ReleaseError(
            "signature",
            f"{signature} was not made by a key that {allowed_signers} lists for {principal} and '{namespace}'",
        )


class Verifier:
    """Verifies many signatures against one list; may be used by threads.

    ssh-keygen says whose a key is and whether it may sign for this now. It is asked once for each Ed25519 key: what is
    left to be proven of further signatures by the same key is one computation.

    Args:
        allowed_signers: the ssh-keygen file of who may sign what.
        namespace: what was signed for.
        deadline: when it has to be done, on the monotonic clock.
    """

    def __init__(self, allowed_signers: Path, namespace: str, deadline: float) -> None:
        if not allowed_signers.is_file():
            raise ReleaseError(
                "signers", f"{allowed_signers}, which lists who may sign, is missing: put the people's keys there."
            )
        self._allowed_signers = allowed_signers
        self._namespace = namespace
        self._deadline = deadline
        self._names: dict[str, Sequence[str]] = {}
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def verify(self, data: bytes, signature: Path) -> tuple[str, Key]:
        """Who signed ``data``, and with which key.

        Raises ReleaseError ``unsigned``, ``stranger``, ``signature`` or ``deadline``.
        """
        found = read_signature(signature)
        key = found.key
        if key.fingerprint in self._known and found.fits(data, self._namespace):
            return self._known[key.fingerprint], key
        names = self._names_of(key, signature)
        if not names:
            raise ReleaseError("stranger", f"{signature.name} was not made by a key of {self._allowed_signers}")
        # One key may stand there more than once, each time for something else.
        signer = next((name for name in names if self._signed(name, data, signature)), "")
        if not signer:
            raise ReleaseError(
                "signature", f"{signature.name} does not fit the file it signs, or not for '{self._namespace}'"
            )
        if key.kind.encode() == ED25519:
            self._known[key.fingerprint] = signer
        return signer, key

    def _signed(self, name: str, data: bytes, signature: Path) -> bool:
        try:
            verify_as(name, data, signature, self._allowed_signers, self._namespace, self._left())
        except ReleaseError as error:
            if error.code != "signature":
                raise
            return False
        return True

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ReleaseError("deadline", "its signature could not be verified in time")
        return left

    def _names_of(self, key: Key, signature: Path) -> Sequence[str]:
        with self._lock:
            if key.fingerprint not in self._names:
                files = ["-s", str(signature), "-f", str(self._allowed_signers)]
                said = ssh_keygen(["-Y", "find-principals", *files], b"", self._left())
                lines = said.stdout.decode(errors="replace").splitlines() if said.returncode == 0 else []
                self._names[key.fingerprint] = list(dict.fromkeys(line.split(",")[0] for line in lines if line))
            return self._names[key.fingerprint]


def ssh_keygen(arguments: Sequence[str], data: bytes, seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Run ssh-keygen for at most so many seconds. Raises ReleaseError ``ssh-keygen`` or ``deadline``."""
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=data, capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise ReleaseError("ssh-keygen", "ssh-keygen was not found: install openssh-client on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError("deadline", f"ssh-keygen did not answer within {seconds:.0f} s") from error
