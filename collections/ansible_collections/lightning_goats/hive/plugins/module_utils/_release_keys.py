# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Signing releases and evidence with ssh-keygen, and the throw-away keys that the sandbox signs with.

Runs on the controller only.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    NAMESPACE,
    ReleaseError,
)


@dataclass(frozen=True)
class Signer:
    """Who signs: a private key (or the public one of a key in ssh-agent) and the list of whom to trust.

    ``namespace`` is what the key may sign: a signature for one purpose is none for another.
    """

    key: Path
    allowed_signers: Path
    throwaway: bool
    namespace: str = NAMESPACE


def find_signer(key: str, allowed_signers: str, keys_directory: Path, namespace: str = NAMESPACE) -> Signer:
    """The configured signer, else the sandbox's own in ``keys_directory`` (which may not exist yet).

    Each namespace has a throw-away key of its own, and a list of its own.

    Raises ReleaseError ``key`` when something configured is not there: a key that was asked for is never replaced.
    """
    if not key:
        if allowed_signers:
            raise ReleaseError(
                "key",
                "A list of allowed signers is given but no signing key: give both, or neither for the sandbox's key.",
            )
        listed = "allowed_signers" if namespace == NAMESPACE else f"{namespace}_signers"
        return Signer(keys_directory / namespace, keys_directory / listed, throwaway=True, namespace=namespace)
    listed_in = Path(allowed_signers) if allowed_signers else Path(key).parent / "allowed_signers"
    signer = Signer(Path(key), listed_in, throwaway=False, namespace=namespace)
    if not signer.key.is_file():
        raise ReleaseError("key", f"The signing key {signer.key} is not there: correct hive_{namespace}_signing_key.")
    if not signer.allowed_signers.is_file():
        raise ReleaseError(
            "key",
            f"{signer.allowed_signers} is not there: write who may sign into it, one line "
            f"'<identity> namespaces=\"{namespace}\" <public key>'.",
        )
    return signer


def create_throwaway(signer: Signer, identity: str) -> bool:
    """Make the sandbox's key and its list of allowed signers unless both are there; return whether anything was made.

    The directory is 0700, the files 0600. Raises ReleaseError ``key``.
    """
    if signer.key.is_file() and signer.allowed_signers.is_file():
        return False
    signer.key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(signer.key.parent / f".{signer.namespace}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Two runs that begin at once must not each make half of a pair.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _make(signer, identity)
    finally:
        os.close(lock)


def _make(signer: Signer, identity: str) -> bool:
    if signer.key.is_file() and signer.allowed_signers.is_file():
        return False
    if not signer.key.is_file():
        result = _ssh_keygen(["-q", "-t", "ed25519", "-N", "", "-C", identity, "-f", str(signer.key)])
        if result.returncode != 0:
            raise ReleaseError(
                "key", f"ssh-keygen could not make {signer.key} ({_said(result)}): look at the directory."
            )
    public = _ssh_keygen(["-y", "-f", str(signer.key)])
    if public.returncode != 0:
        raise ReleaseError(
            "key", f"{signer.key} is not a usable key ({_said(public)}): remove it to have a new one made."
        )
    kind, blob = public.stdout.split()[:2]
    descriptor = os.open(signer.allowed_signers, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f'{identity} namespaces="{signer.namespace}" {kind} {blob}\n')
    return True


def sign(manifest: Path, signer: Signer) -> None:
    """Write the signature of ``manifest`` beside it, never asking for a passphrase. Raises ReleaseError ``key``."""
    result = _ssh_keygen(["-q", "-Y", "sign", "-n", signer.namespace, "-f", str(signer.key), str(manifest)])
    if result.returncode != 0 or not manifest.with_name(f"{manifest.name}.sig").is_file():
        raise ReleaseError(
            "key",
            f"{signer.key} did not sign ({_said(result)}): use a key without passphrase, or load it into ssh-agent and "
            "give its public key.",
        )


def _said(result: subprocess.CompletedProcess[str]) -> str:
    return (result.stderr.strip() or f"rc {result.returncode}").splitlines()[-1]


def _ssh_keygen(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # no terminal, so no prompt
            env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
            timeout=60,
            check=False,
        )
    except FileNotFoundError as error:
        raise ReleaseError("ssh-keygen", "ssh-keygen was not found: install openssh-client on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(
            "ssh-keygen", "ssh-keygen did not answer within 60 s: look at this machine's load."
        ) from error
