"""The two lightningds the suite can look at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flavour:
    """How to run one kind of lightningd.

    Args:
        name: `fake` or `real`.
        lightningd: argv of the daemon, without any option.
        lightning_cli: argv of its client, without any option.
        chain: options that let the daemon reach its chain.
        hurry: file below the lightning-dir and its content that shorten the protocol's long time-outs; None where they
            cannot be shortened.
        timeout: seconds a plugin has for getmanifest and for init.
        shutdown_timeout: seconds a plugin has after `shutdown`.
    """

    name: str
    lightningd: tuple[str, ...]
    lightning_cli: tuple[str, ...]
    chain: tuple[str, ...] = ()
    hurry: tuple[str, str] | None = None
    timeout: float = 120.0
    shutdown_timeout: float = 30.0

    @property
    def real(self) -> bool:
        return self.name == "real"
