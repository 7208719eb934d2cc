"""Framing of hive messages: `HIVE` followed by compact JSON, inside one BOLT 8 custom message of type 18505."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final, NoReturn

MAGIC: Final = b"HIVE"
# The first two bytes of the magic are what lightningd takes for the message type.
WIRE_TYPE: Final = int.from_bytes(MAGIC[:2], "big")
# One byte more crashes lightningd 26.06 (and the field's nodes drop it), so this is checked before sending.
MAX_BYTES: Final = 65535
VERSION: Final = 1
SUPPORTED_VERSIONS: Final = (1, 2)
MAX_DEPTH: Final = 12


class FrameError(ValueError):
    """The bytes are not a frame we read; `reason` is a word for the counters."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the counter's word beside the sentence."""
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Frame:
    """One decoded message: its number, protocol version and payload."""

    type: int
    version: int
    payload: dict[str, Any]


def encode(type_number: int, payload: dict[str, Any], version: int = VERSION) -> bytes:
    """Bytes of a frame.

    Raises:
        FrameError: `oversize` when it does not fit into one custom message, `unencodable` when it is not plain JSON.
    """
    try:
        body = json.dumps(
            {"type": type_number, "version": version, "payload": payload}, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError("unencodable", f"the payload is not plain JSON: {error}") from error
    data = MAGIC + body.encode("ascii")
    if len(data) > MAX_BYTES:
        raise FrameError("oversize", f"the message has {len(data)} bytes, a custom message carries {MAX_BYTES}")
    return data


def is_frame(data: bytes) -> bool:
    """Whether these are bytes of ours at all; other plugins have their own custom messages."""
    return data[:4] == MAGIC


def decode(data: bytes) -> Frame:
    """The frame in `data`.

    Raises:
        FrameError: `foreign`, `oversize`, `json`, `shape` or `version`.
    """
    if not is_frame(data):
        raise FrameError("foreign", "the message does not begin with HIVE")
    if len(data) > MAX_BYTES:
        raise FrameError("oversize", f"the message has {len(data)} bytes, at most {MAX_BYTES} are read")
    return from_object(_load(data[4:]))


def from_object(document: object) -> Frame:
    """The frame described by an already decoded JSON document.

    Raises:
        FrameError: `shape` or `version`.
    """
    if not isinstance(document, dict):
        raise FrameError("shape", "the message is not a JSON object")
    number, version, payload = document.get("type"), document.get("version"), document.get("payload")
    if isinstance(number, bool) or not isinstance(number, int):
        raise FrameError("shape", "the message has no numeric type")
    if isinstance(version, bool) or version not in SUPPORTED_VERSIONS:
        raise FrameError("version", "the message has a protocol version that is not spoken here")
    if not isinstance(payload, dict):
        raise FrameError("shape", "the payload is not a JSON object")
    check_plain(payload)
    return Frame(number, int(version), payload)


def loads(text: str) -> object:
    """Strict JSON: no NaN, no infinities, no lone surrogates, bounded depth.

    Raises:
        FrameError: `json` or `shape`.
    """
    return _load(text.encode("utf-8", "surrogatepass"))


def check_plain(value: object, depth: int = 0) -> None:
    """Refuse what the database or the canonical form cannot hold.

    Raises:
        FrameError: `shape`.
    """
    if depth > MAX_DEPTH:
        raise FrameError("shape", f"the message is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            check_plain(key, depth + 1)
            check_plain(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_plain(item, depth + 1)
    elif isinstance(value, str):
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise FrameError("shape", "the message holds text that is not Unicode")
    elif isinstance(value, float) and not math.isfinite(value):
        raise FrameError("shape", "the message holds a number that is not finite")


def _load(data: bytes) -> object:
    try:
        document: object = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise FrameError("json", f"the message is not JSON: {error}") from error
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
