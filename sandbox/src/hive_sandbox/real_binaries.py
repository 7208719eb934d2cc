"""Finds a real lightningd and bitcoind on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

LIGHTNING = ("lightningd", "lightning-cli")
BITCOIN = ("bitcoind", "bitcoin-cli")


class RealLightningMissingError(Exception):
    """No real lightningd can be run here; the sentence says what to do about it."""


@dataclass(frozen=True)
class Binaries:
    """Absolute paths of the four programs."""

    lightningd: Path
    lightning_cli: Path
    bitcoind: Path
    bitcoin_cli: Path

    def save(self, path: Path) -> None:
        """Remember them in a JSON file."""
        path.write_text(
            json.dumps({name: str(program) for name, program in asdict(self).items()}) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, path: Path) -> Binaries | None:
        """What `save` wrote, or None when there is no such file or a program has gone."""
        try:
            programs = {name: Path(program) for name, program in json.loads(path.read_text(encoding="utf-8")).items()}
        except FileNotFoundError:
            return None
        return cls(**programs) if all(program.exists() for program in programs.values()) else None


def _search_path(environment: Mapping[str, str], *variables: str) -> str:
    prefixes = [Path(environment[name]) for name in variables if environment.get(name)]
    folders = [str(prefix / sub) for prefix in prefixes for sub in ("bin", "usr/bin", "usr/local/bin")]
    return os.pathsep.join([*folders, environment.get("PATH", os.defpath)])


def find(environment: Mapping[str, str] = os.environ) -> Binaries:
    """The programs below `CLN_PREFIX` (and `BITCOIN_PREFIX`), else those on `PATH`.

    Raises:
        RealLightningMissingError: one of the four is not there.
    """
    found: dict[str, Path] = {}
    for names, variables in ((LIGHTNING, ("CLN_PREFIX",)), (BITCOIN, ("BITCOIN_PREFIX", "CLN_PREFIX"))):
        for name in names:
            program = shutil.which(name, path=_search_path(environment, *variables))
            if program is None:
                raise RealLightningMissingError(
                    f"no {name}: set {variables[0]} to the prefix of an installation that has bin/{name}, "
                    f"put {name} on PATH, or use the fake (sandbox_lightningd=fake)"
                )
            found[name] = Path(program).absolute()
    return Binaries(found["lightningd"], found["lightning-cli"], found["bitcoind"], found["bitcoin-cli"])
