"""Packets that cl-hive-comms hands over: three shapes are in the field, all of them hold one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cl_hive.protocol import frames
from cl_hive.protocol.frames import Frame, FrameError
from cl_hive.protocol.registry import MessageTable

_MAX_NESTING: Final = 2


def parse(packet: object, table: MessageTable, nesting: int = 0) -> Frame:
    """The message in a packet.

    Args:
        packet: `{type, version, payload}` with the type as number or name, `{msg_type, msg_payload}`, or
            `{raw_plaintext}` with a frame in hex, `HIVE{…}`, or JSON text of one of these shapes.
        table: the types, for their names.

    Raises:
        FrameError: it is none of these.
    """
    if nesting > _MAX_NESTING:
        raise FrameError("shape", "the packet wraps packets in packets")
    if not isinstance(packet, Mapping):
        raise FrameError("shape", "payload must be an object")
    if "raw_plaintext" in packet:
        return _parse_text(packet["raw_plaintext"], table, nesting)
    number, payload = packet.get("type"), packet.get("payload")
    if "msg_type" in packet:
        number, payload = packet["msg_type"], packet.get("msg_payload")
    if isinstance(number, str):
        number = _number(number, table)
    return frames.from_object({"type": number, "version": packet.get("version", frames.VERSION), "payload": payload})


def _parse_text(text: Any, table: MessageTable, nesting: int) -> Frame:
    if not isinstance(text, str):
        raise FrameError("shape", "raw_plaintext must be text")
    if len(text) > 2 * frames.MAX_BYTES:
        raise FrameError("oversize", f"raw_plaintext is longer than a frame of {frames.MAX_BYTES} bytes")
    stripped = text.strip()
    if stripped.startswith("HIVE"):
        return frames.decode(stripped.encode("utf-8", "surrogatepass"))
    try:
        data = bytes.fromhex(stripped)
    except ValueError:
        return parse(frames.loads(stripped), table, nesting + 1)
    return frames.decode(data)


def _number(name: str, table: MessageTable) -> int:
    if name.isascii() and name.isdigit() and len(name) <= 9:
        return int(name)
    spec = table.named(name)
    if spec is None:
        raise FrameError("type", "the packet has a type that is not known here")
    return spec.number
