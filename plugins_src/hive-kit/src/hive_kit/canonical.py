"""One way to turn JSON into bytes, for hashes and signatures."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no blanks and ASCII escapes: the form the field signs.

    Raises:
        ValueError: the value holds NaN or an infinity, which JSON does not know.
        TypeError: the value is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_hex(data: bytes | str) -> str:
    """SHA-256 of bytes, or of the UTF-8 of a text, as 64 lower-case hex digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
