"""Bech32 and bech32m: words of five bits, their checksum, and segwit addresses."""

from __future__ import annotations

from collections.abc import Iterable

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3


def encode(prefix: str, words: list[int], constant: int = 1) -> str:
    """Return prefix and words as text with a checksum."""
    residue = _polymod(_expanded(prefix) + words + [0] * 6) ^ constant
    checksum = [residue >> 5 * (5 - place) & 31 for place in range(6)]
    return prefix + "1" + "".join(ALPHABET[word] for word in words + checksum)


def decode(text: str) -> tuple[str, list[int]]:
    """Return prefix and words of a bech32 text.

    Raises:
        ValueError: it is none.
    """
    prefix, separator, rest = text.rpartition("1")
    if not separator or any(letter not in ALPHABET for letter in rest):
        raise ValueError("Bad bech32 string")
    words = [ALPHABET.index(letter) for letter in rest]
    if _polymod(_expanded(prefix) + words) != 1:
        raise ValueError("Bad bech32 string")
    return prefix, words[:-6]


def taproot_address(script: str) -> str:
    """Return the regtest address of a script `5120…` in hex."""
    return encode("bcrt", [1, *to_words(bytes.fromhex(script)[2:])], _BECH32M)


def number_words(number: int, length: int = 0) -> list[int]:
    """Return a number as words, most significant first, at least `length` of them."""
    words: list[int] = []
    while number or len(words) < length:
        words.insert(0, number & 31)
        number >>= 5
    return words


def number(words: list[int]) -> int:
    """Return the number that words stand for."""
    result = 0
    for word in words:
        result = result << 5 | word
    return result


def to_words(data: bytes, *, left: bool = False) -> list[int]:
    """Return bytes as words; the missing bits are added on the right, or on the left for a number."""
    bits = len(data) * 8
    missing = -bits % 5
    return number_words(int.from_bytes(data, "big") << (0 if left else missing), (bits + missing) // 5)


def to_bytes(words: list[int], *, padded: bool = False) -> bytes:
    """Return words as bytes; bits that fill no byte are dropped, or padded with zeroes."""
    bits = len(words) * 5
    if padded:
        missing = -bits % 8
        return (number(words) << missing).to_bytes((bits + missing) // 8, "big")
    return (number(words) >> bits % 8).to_bytes(bits // 8, "big")


def _expanded(prefix: str) -> list[int]:
    return [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]


def _polymod(words: Iterable[int]) -> int:
    check = 1
    for word in words:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ word
        for bit, value in enumerate(_GENERATOR):
            check ^= value if top >> bit & 1 else 0
    return check
