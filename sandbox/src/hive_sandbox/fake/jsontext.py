"""JSON as lightningd handles it: messages that follow each other on a stream, passed on byte for byte."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# A message that is still not complete at this size is not going to be one.
MAX_PENDING_CHARACTERS = 64 * 1024 * 1024

_decoder = json.JSONDecoder(strict=False)
_BLANKS = " \t\r\n"


def dumps(value: Any) -> str:
    """Return JSON as lightningd writes it: no blanks, no escapes that are not needed."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Message:
    """One JSON value as it came, and where the members of its top level are in the text."""

    text: str
    value: Any
    spans: dict[str, tuple[int, int]]

    def raw(self, member: str) -> str | None:
        """Return the text of one top-level member, None when it is missing."""
        span = self.spans.get(member)
        return None if span is None else self.text[span[0] : span[1]]

    def with_member(self, member: str, raw: str) -> str:
        """Return the text with the value of one existing member replaced by `raw`."""
        start, end = self.spans[member]
        return self.text[:start] + raw + self.text[end:]


def parse(text: str) -> Message:
    """Return the message in `text`, which must be exactly one JSON value.

    Raises:
        ValueError: `text` is not JSON.
    """
    value, end = _decoder.raw_decode(text)
    if end != len(text):
        raise ValueError("more than one JSON value")
    return Message(text, value, _member_spans(text) if isinstance(value, dict) else {})


def _member_spans(text: str) -> dict[str, tuple[int, int]]:
    """Return where the member values of the object `text` (known to be valid) begin and end."""
    spans: dict[str, tuple[int, int]] = {}
    at = _skip(text, 1, _BLANKS)
    while text[at] != "}":
        key, at = _decoder.raw_decode(text, at)
        start = _skip(text, at, _BLANKS + ":")
        _, at = _decoder.raw_decode(text, start)
        spans[key] = (start, at)
        at = _skip(text, at, _BLANKS + ",")
    return spans


def _skip(text: str, at: int, characters: str) -> int:
    while text[at] in characters:
        at += 1
    return at


class NotJsonError(Exception):
    """Words before JSON: the text that was to be a message."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Stream:
    """Cuts what arrives into messages.

    lightningd takes words that stand alone for the beginning of something and waits for the rest. Once JSON follows
    them it cannot be: with `strict` that is an error, without it nothing behind the words is ever seen.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes and give the messages that are complete now.

        Raises:
            NotJsonError: words and then JSON, on a strict stream.
            OverflowError: more than MAX_PENDING_CHARACTERS are waiting for the end of one message.
        """
        self._pending += self._utf8.decode(data)
        while True:
            self._pending = self._pending.lstrip(_BLANKS)
            if not self._pending:
                return
            try:
                value, end = _decoder.raw_decode(self._pending)
            except ValueError:
                if self._strict and self._pending[0] not in "{[" and "{" in self._pending:
                    raise NotJsonError(self._pending) from None
                if len(self._pending) > MAX_PENDING_CHARACTERS:
                    raise OverflowError("message too long") from None
                return
            text, self._pending = self._pending[:end], self._pending[end:]
            yield Message(text, value, _member_spans(text) if isinstance(value, dict) else {})
