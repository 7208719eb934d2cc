"""What a look makes of lightningd's answers; all pure. What it has to remember for the next look is `carried`."""

from __future__ import annotations

from collections import Counter
from typing import Any

LINES = 10
LINE_LETTERS = 200
LOST = 5
# Channels in these states move payments; one that leaves them for those below was closed by agreement.
LIVE_STATES = frozenset({"CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE"})
AGREED_STATES = frozenset({"CHANNELD_SHUTTING_DOWN", "CLOSINGD_SIGEXCHANGE", "CLOSINGD_COMPLETE"})

Json = dict[str, Any]


def of_channels(channels: list[Json]) -> Json:
    """Return channels by state, and the HTLCs in flight."""
    htlcs = [htlc for channel in channels for htlc in channel.get("htlcs") or []]
    expiries = [int(htlc["expiry"]) for htlc in htlcs if "expiry" in htlc]
    return {
        "channels": dict(sorted(Counter(str(channel.get("state", "")) for channel in channels).items())),
        "pending_htlcs": {"count": len(htlcs), "nearest_expiry": min(expiries) if expiries else None},
    }


def of_lost(channels: list[Json], live: list[str] | None) -> tuple[Json, list[str]]:
    """Return the channels that were live and are not any more without having been closed by agreement.

    Args:
        live: keys of the channels that were live before; None for the first look.

    Returns:
        count and the first few, and the keys of those that are live now.
    """
    # A splice gives a channel another short id; half of its own tells it from all others.
    states = {str(channel.get("channel_id", ""))[:16]: channel for channel in channels}
    lost = []
    for key in live or []:
        channel = states.get(key, {})
        if channel.get("state") not in LIVE_STATES | AGREED_STATES:
            lost.append(str(channel.get("short_channel_id") or key))
    now = sorted(key for key, channel in states.items() if key and channel.get("state") in LIVE_STATES)
    return {"count": len(lost), "channels": lost[:LOST]}, now


def of_log(marks: list[dict[str, str]], seen: str | None) -> tuple[Json, str]:
    """Return the lines at level BROKEN that are new, and the mark of the last.

    Args:
        marks: all that lightningd remembers, oldest first.
        seen: mark of the last line that was counted; None for the first look. Lines are known by their own time, so
            that a clock that was set changes nothing; after a restart of lightningd that line is not there any more.

    Returns:
        count, errors_count (those that plugins wrote) and the last few lines; and the mark for the next look.
    """
    last = marks[-1]["time"] if marks else (seen or "")
    if seen is None:
        new = []
    else:
        known = [number for number, mark in enumerate(marks) if mark["time"] == seen]
        new = marks[known[-1] + 1 :] if known else marks
    texts = [f"{mark['source']}: {mark['log']}"[:LINE_LETTERS] for mark in new]
    errors = sum(text.startswith("plugin-") for text in texts)
    return {"broken": texts[-LINES:], "count": len(texts), "errors_count": errors}, last


def of_restarts(plugins: list[Json], lightningd: list[Any], before: Json | None) -> tuple[int, Json]:
    """Set `restarts` of each plugin: another process at the path at which it was last seen, which is its release's own.

    Under another lightningd none of them counts: that restart is lightningd's.

    Args:
        lightningd: its pid and start.
        before: what the last look with a lightningd carried; None for the first.

    Returns:
        Whether lightningd is another, and what to carry.
    """
    same = not before or before["lightningd"] == lightningd
    # One that is gone is remembered until lightningd starts anew, and no longer.
    pids = dict(before["plugins"]) if before and same else {}
    for facts in plugins:
        pid, path = facts["pid"], facts["path"]
        facts["restarts"] = int(bool(pid) and pids.get(path, pid) != pid)
        if pid:
            pids[path] = pid
    return int(not same), {"lightningd": lightningd, "plugins": pids}
