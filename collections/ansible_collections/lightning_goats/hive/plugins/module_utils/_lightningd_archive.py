# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Is this the release that its maintainer signed? Runs on the controller, before anything reaches a node.

A release of Core Lightning is archives, a file SHA256SUMS-<version> that lists them, and SHA256SUMS-<version>.asc, the
detached signatures of one or more maintainers over that list. One of them is accepted here: the operator names whom.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ._engine.errors import HiveError

GPG_SECONDS = 60.0
FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S+)")
ARCHIVE = re.compile(r"clightning-(v[0-9][0-9A-Za-z.]*)-.+\.tar\.(xz|gz)")
# MD5, SHA-1 and RIPEMD-160, as OpenPGP numbers them: signatures over these can be forged.
WEAK_HASHES = ("1", "2", "3")
# What GnuPG says of a signature that was right once and is not to be trusted now.
EXPIRED = {"EXPSIG": "has expired", "EXPKEYSIG": "is by a key that has expired", "REVKEYSIG": "is by a revoked key"}


@dataclass(frozen=True)
class Release:
    """An archive that was proven.

    Attributes:
        sha256: of the archive.
        signer: fingerprint of the key that signed the list it stands in.
    """

    name: str
    sha256: str
    signer: str


def release_version(name: str) -> str:
    """Return the version in the name of an official archive.

    Raises:
        HiveError: the name is not one of a release's.
    """
    found = ARCHIVE.fullmatch(name)
    if found is None:
        raise HiveError(
            f"{name} is not named like an archive of a Core Lightning release "
            "(clightning-<version>-<system>.tar.xz); give the file as it was published",
            "archive-name",
        )
    return found.group(1)


def fingerprint(text: str) -> str:
    """Return a fingerprint without blanks, in capitals.

    Raises:
        HiveError: it is no full fingerprint; short key ids can be forged.
    """
    found = text.replace(" ", "").replace(":", "").upper().removeprefix("0X")
    if FINGERPRINT.fullmatch(found) is None:
        raise HiveError(
            f"{text!r} is not a key's full fingerprint; give all 40 hexadecimal digits (gpg --show-keys <file>)",
            "signer",
        )
    return found


def prove(archive: Path, name: str, sha256: str, sums: bytes, signature: bytes, key: bytes, signer: str) -> Release:
    """Prove that an archive is what one particular maintainer released.

    Args:
        name: the archive's name, as it stands in the list.
        sha256: what the operator expects; the list must say the same.
        sums: the list of checksums.
        signature: detached signatures over it.
        key: that maintainer's public key, and no other.
        signer: its fingerprint.

    Raises:
        HiveError: one of these is not so; with what to do.
    """
    wanted = fingerprint(signer)
    check_signature(sums, signature, key, wanted)
    listed = listed_sum(sums, name)
    if sha256.lower() != listed:
        raise HiveError(
            f"the signed list says {listed} of {name}, and you expect {sha256}; find out which of the two is right "
            "before you go on",
            "checksum-expected",
        )
    found = file_sum(archive)
    if found != listed:
        raise HiveError(
            f"{archive} has the checksum {found} and should have {listed}: it is damaged or another file; "
            "fetch it again",
            "checksum",
        )
    return Release(name, listed, wanted)


def file_sum(path: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        HiveError: it cannot be read.
    """
    summary = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                summary.update(block)
    except OSError as error:
        raise HiveError(f"{path} cannot be read ({error.strerror}); is the path right?", "no-file") from error
    return summary.hexdigest()


def listed_sum(sums: bytes, name: str) -> str:
    """Return what a list of checksums says of one file.

    Raises:
        HiveError: nothing, or two things.
    """
    lines = sums.decode("utf-8", "replace").splitlines()
    found = [match.group(1) for line in lines if (match := SUM_LINE.fullmatch(line.strip())) and match.group(2) == name]
    if len(found) != 1:
        raise HiveError(
            f"the list of checksums names {name} {'twice' if found else 'not at all'}; "
            "use the SHA256SUMS of the same release",
            "sums",
        )
    return found[0]


def check_signature(sums: bytes, signature: bytes, key: bytes, signer: str) -> None:
    """Prove that the list of checksums was signed by exactly this key; signatures of others count for nothing.

    Raises:
        HiveError: the key is another or not the only one, or its signature is missing, bad, expired or weak.
    """
    with tempfile.TemporaryDirectory(prefix="hive-gpg-") as home:
        files = {name: Path(home) / name for name in ("key", "sums", "sums.asc")}
        for name, content in zip(files, (key, sums, signature), strict=True):
            files[name].write_bytes(content)
        _check_key(home, files["key"], signer)
        rc, _, err = _gpg(home, "--import", str(files["key"]))
        if rc != 0:
            raise HiveError(f"gpg cannot take in the key of {signer}: {_reason(err)}", "signer-key")
        _, out, err = _gpg(home, "--status-fd", "1", "--verify", str(files["sums.asc"]), str(files["sums"]))
        _check_status(out, err, signer)


def _check_key(home: str, key: Path, signer: str) -> None:
    rc, out, err = _gpg(home, "--with-colons", "--show-keys", str(key))
    records = [line.split(":") for line in out.splitlines()]
    keys = [
        (record[1], following[9])
        for record, following in zip(records, records[1:], strict=False)
        if record[0] in ("pub", "sec") and following[0] == "fpr"
    ]
    if rc != 0 or not keys:
        raise HiveError(f"that file holds no public key ({_reason(err)}); export it with gpg --export", "signer-key")
    if any(record[0] == "sec" for record in records):
        raise HiveError("that file holds a secret key; keep it to yourself and give the public one", "signer-key")
    if len(keys) != 1:
        raise HiveError(
            f"that file holds {len(keys)} keys and may hold one only; export that of {signer} alone", "signer-keys"
        )
    validity, found = keys[0]
    if found != signer:
        raise HiveError(
            f"that file holds the key {found}, and {signer} is to be trusted; which one is the maintainer's?",
            "signer-key",
        )
    if validity in ("e", "r"):
        raise HiveError(
            f"the key {signer} {'has expired' if validity == 'e' else 'was revoked'}; fetch it anew from its owner",
            "signer-expired",
        )


def _check_status(out: str, err: str, signer: str) -> None:
    """Read what gpg says of each signature, in its words for machines."""
    words = [line.split()[1:] for line in out.splitlines() if line.startswith("[GNUPG:] ")]
    for word in words:
        if word[0] == "BADSIG":
            raise HiveError("the list of checksums was changed after it was signed; fetch both files again", "bad-sig")
        if word[0] in EXPIRED:
            raise HiveError(
                f"the signature of the list of checksums {EXPIRED[word[0]]}; use a newer release or key",
                "signer-expired",
            )
    # VALIDSIG's fields: fingerprint, date, time, expiry, version, reserved, public key, hash, class, primary key.
    valid = [word for word in words if word[0] == "VALIDSIG" and word[-1] == signer]
    if not valid:
        others = sorted({word[1] for word in words if word[0] in ("ERRSIG", "NO_PUBKEY")})
        said = f"it is signed by {', '.join(others)}" if others else _reason(err)
        raise HiveError(f"the list of checksums is not signed by {signer} ({said}); do not use it", "not-signed")
    if any(word[8] in WEAK_HASHES for word in valid):
        raise HiveError("the signature rests on a hash that can be forged; ask for a newer one", "weak-signature")


def _gpg(home: str, *words: str) -> tuple[int, str, str]:
    """Run gpg with nothing of the user's own: no options, no keys, no agent, no network."""
    argv = ["gpg", "--batch", "--no-options", "--no-autostart", "--no-auto-key-retrieve", "--homedir", home, *words]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=GPG_SECONDS, check=False)
    except FileNotFoundError:
        raise HiveError(
            "gpg is not installed on the controller; install the package gnupg, with which releases are verified",
            "no-gpg",
        ) from None
    except subprocess.TimeoutExpired as error:
        raise HiveError(f"gpg does not end within {GPG_SECONDS:g} s; try `gpg --version` by hand", "no-gpg") from error
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def _reason(text: str) -> str:
    lines = [line.removeprefix("gpg: ") for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "gpg gives no reason")[:200]
