"""What a ticket can require of the joiner's node: bits of the ticket against the feature bits of BOLT 9."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Requirement:
    """One requirement: its bit in the ticket, its name, and the even BOLT 9 bits of which one must be offered."""

    bit: int
    name: str
    feature_bits: tuple[int, ...]


REQUIREMENTS: Final = (
    Requirement(1, "splice", (62, 162)),
    Requirement(2, "dual-fund", (28,)),
    Requirement(4, "anchor", (20, 22)),
    Requirement(8, "onion-messages", (38,)),
)
ALL_BITS: Final = sum(requirement.bit for requirement in REQUIREMENTS)


def has_feature(features: int, even_bit: int) -> bool:
    """Whether a feature vector offers (odd bit) or demands (even bit) a feature."""
    return bool(features >> even_bit & 1 or features >> (even_bit + 1) & 1)


def parse_features(text: str) -> int:
    """The feature vector lightningd reports in hex; 0 when it reports none."""
    try:
        return int(text, 16) if text else 0
    except ValueError:
        return 0


def missing(requirements: int, features: int) -> list[str]:
    """Names of the required features that the vector does not have; bits nobody knows are missing too."""
    names = [
        requirement.name
        for requirement in REQUIREMENTS
        if requirements & requirement.bit and not any(has_feature(features, bit) for bit in requirement.feature_bits)
    ]
    if unknown := requirements & ~ALL_BITS:
        names.append(f"requirement bits {unknown}")
    return names


def names(features: int) -> list[str]:
    """Names of the requirements a vector fulfils."""
    return [
        requirement.name
        for requirement in REQUIREMENTS
        if any(has_feature(features, bit) for bit in requirement.feature_bits)
    ]
