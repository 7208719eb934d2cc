"""The two lightningds the suite can look at."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Flavour:
    """How to run one kind of lightningd.

    Args:
        name: `fake` or `real`.
        lightningd: argv of the daemon, without any option.
        lightning_cli: argv of its client, without any option.
        chain: options that let the daemon reach its chain.
        impatience: environment that shortens the protocol's long time-outs; empty where they cannot be shortened.
    """

    name: str
    lightningd: tuple[str, ...]
    lightning_cli: tuple[str, ...]
    chain: tuple[str, ...] = ()
    impatience: dict[str, str] = field(default_factory=dict)

    @property
    def real(self) -> bool:
        return self.name == "real"
