"""What a probe saw, as columns: packed on the node, read by the judge and the report on the controller. All pure.

A sample is one look with all its words, a series the same numbers over time without them: a week of minutes fits into
some hundred kilobytes. Samples of any schema go in; what one did not know yet is 0, or null where a column may say so.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from ._engine.probe_facts import LIVE_STATES

Sample = dict[str, Any]
Series = dict[str, Any]

SCHEMA = 1
LINES = 20
MAX_BYTES = 64 << 20
MAX_PLUGINS = 200
# How several samples become one point: counters add up, of yes and no the worst is kept, of what fluctuates the middle,
# of all else the newest.
COUNTERS = (
    "restarts",
    "broken",
    "errors",
    "channels_lost",
    "forwards",
    "forwards_failed",
    "forwards_msat",
    "fees_msat",
)
WORST = ("up", "synced", "forwards_known")
MIDDLE = ("rpc_ms",)
NEWEST = ("time", "pid", "started_at", "height", "channels_live", "htlcs", "peers")
COLUMNS = (*COUNTERS, *WORST, *MIDDLE, *NEWEST)
PLUGIN_COUNTERS, PLUGIN_WORST, PLUGIN_MIDDLE = ("restarts",), ("active",), ("rss_bytes", "rpc_ms")
PLUGIN_NEWEST = ("digest", "health")
PLUGIN_COLUMNS = (*PLUGIN_COUNTERS, *PLUGIN_WORST, *PLUGIN_MIDDLE, *PLUGIN_NEWEST)
MAY_BE_NULL = ("rpc_ms", "peers")
NUMBERS = frozenset({int, float})


class SeriesError(ValueError):
    """What was given is no series; the message says why."""


def from_samples(samples: Iterable[Sample]) -> Series:
    """Return the columns of samples.

    Args:
        samples: in the order in which they were taken, which is not that of their times when a clock was set back.

    Returns:
        A series by rising time. `errors` are those of the `broken` lines that plugins wrote. `restarts` of a plugin are
        those under one and the same lightningd and of one and the same release: others have a reason of their own.
        Where `up` is 0, nothing but `time` means anything.
    """
    rows = _Rows()
    for sample in samples:
        rows.add(sample)
    times = rows.columns["time"]
    order = sorted(range(len(times)), key=lambda number: (times[number], number))
    last = rows.newest
    plugins = sorted(rows.plugins.items())[:MAX_PLUGINS]
    return _with_bounds(
        {
            "schema": SCHEMA,
            **{name: [column[number] for number in order] for name, column in rows.columns.items()},
            "channels_last": dict(last.get("channels") or {}),
            "brake": str(last.get("brake") or ""),
            "pause": str(last.get("pause") or ""),
            "lines": sorted(rows.lines, key=lambda line: float(line["time"])),
            "plugins": {name: plugin.columns(order) for name, plugin in plugins},
        }
    )


def pack(series: Series) -> str:
    """Return a series as one word; the same series is always the same word."""
    text = json.dumps(series, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode("ascii")


def unpack(packed: str, max_bytes: int = MAX_BYTES) -> Series:
    """Return the series that was packed into a word.

    Raises:
        SeriesError: it is no series, or a larger one than any probe keeps.
    """
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(base64.b64decode(packed, validate=True), max_bytes + 1)
        if len(text) > max_bytes:
            raise SeriesError(f"a series of more than {max_bytes} bytes is not read")
        if not inflater.eof:
            raise SeriesError("a packed series ends before its end")
        series = json.loads(text, parse_constant=_refuse)
    except (binascii.Error, zlib.error, UnicodeError, RecursionError) as error:
        raise SeriesError(f"this is no packed series: {error}") from error
    except json.JSONDecodeError as error:
        raise SeriesError(f"a packed series holds no JSON: {error}") from error
    _check(series)
    return dict(series)


def cut(series: Series, since: float, until: float) -> Series:
    """Return the part of a series with `since` <= time < `until`, so that two cuts at one moment share nothing.

    `channels_last`, `brake` and `pause` are of the newest sample only: a part that ends before it does not have them.
    """
    chosen = [number for number, when in enumerate(series["time"]) if since <= when < until]
    part = _choose(series, chosen)
    part["lines"] = [line for line in series["lines"] if since <= line["time"] < until]
    if not chosen or chosen[-1] != series["count"] - 1:
        part.update(channels_last={}, brake="", pause="")
    return part


def thin(series: Series, points: int) -> Series:
    """Return a series of at most so many points, each for samples that follow one another, for plots."""
    if points < 1:
        raise SeriesError(f"a series cannot have {points} points")
    count = series["count"]
    if count <= points:
        return series
    edges = [number * count // points for number in range(points + 1)]
    spans = [range(first, last) for first, last in zip(edges, edges[1:])]
    thinned = dict(series)
    thinned.update(_thin(series, spans, (COUNTERS, WORST, MIDDLE, NEWEST)))
    kinds = (PLUGIN_COUNTERS, PLUGIN_WORST, PLUGIN_MIDDLE, PLUGIN_NEWEST)
    thinned["plugins"] = {name: {**plugin, **_thin(plugin, spans, kinds)} for name, plugin in series["plugins"].items()}
    return _with_bounds(thinned)


class _Rows:
    """The columns as they grow, sample by sample, in the order in which samples were taken."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.plugins: dict[str, _PluginRows] = {}
        self.lines: deque[dict[str, Any]] = deque(maxlen=LINES)
        self.newest: Sample = {}
        self._lightningd: tuple[int, float] = (0, 0.0)
        self._live: int | None = None
        self._htlcs = 0

    def add(self, sample: Sample) -> None:
        """Add one sample."""
        number = len(self.columns["time"])
        when = round(float(sample["time"]), 1)
        if when >= round(float(self.newest.get("time", when)), 1):
            self.newest = sample
        lightningd = sample.get("lightningd") or {}
        # One that answers but does not list its plugins hangs, or is only coming up.
        up = bool(lightningd.get("running")) and "plugins" in sample
        log = sample.get("log") or {}
        seen = up and "channels" in sample
        live, lost = self._channels(sample, seen)
        forwards = sample.get("forwards") or {}
        known = up and "settled" in forwards
        row: dict[str, Any] = {
            "time": when,
            "up": int(up),
            "synced": int(up and bool(lightningd.get("synced"))),
            "pid": int(lightningd.get("pid") or 0),
            "started_at": round(float(lightningd.get("started_at") or 0.0), 1),
            "height": int(lightningd.get("height") or 0),
            "rpc_ms": _milliseconds(lightningd.get("rpc_ms")),
            "broken": int(log.get("count") or 0),
            "errors": int(log.get("errors_count") or 0),
            "channels_live": live,
            "channels_lost": lost,
            "htlcs": int((sample.get("pending_htlcs") or {}).get("count") or 0) if seen else self._htlcs,
            "forwards_known": int(known),
            "forwards": int(forwards["settled"]) if known else 0,
            "forwards_failed": int(forwards.get("failed") or 0) if known else 0,
            "forwards_msat": int(forwards.get("msat") or 0) if known else 0,
            "fees_msat": int(forwards.get("fee_msat") or 0) if known else 0,
            "peers": None if sample.get("hive_peers") is None else int(sample["hive_peers"]),
        }
        self._htlcs = row["htlcs"]
        same = self._same_lightningd(row)
        if up and "restarts" in lightningd:
            # The probe knows lives by the ticks of the kernel, which a clock that is set does not move.
            same = not lightningd["restarts"]
        row["restarts"] = int(not same)
        for name, value in row.items():
            self.columns[name].append(value)
        for name, facts in _by_name(sample.get("plugins") or []).items():
            self.plugins.setdefault(name, _PluginRows()).add(number, facts, same)
        self._keep_lines(when, log)

    def _same_lightningd(self, row: dict[str, Any]) -> bool:
        """Whether this is still the lightningd that was seen last; pids come back, so its birth counts as well."""
        if not row["up"] or not row["pid"]:
            return True
        before, self._lightningd = self._lightningd, (row["pid"], row["started_at"])
        pid, born = before
        return not pid or (pid == row["pid"] and (not born or abs(born - row["started_at"]) <= 1))

    def _channels(self, sample: Sample, seen: bool) -> tuple[int, int]:
        """Return how many channels are live and how many were lost; where nobody saw them they are as before."""
        before = self._live
        if not seen:
            return before or 0, 0
        self._live = sum(int(count) for state, count in sample["channels"].items() if state in LIVE_STATES)
        if "lost" in sample:
            return self._live, int(sample["lost"].get("count") or 0)
        # One of the first schema only knew how many there are.
        return self._live, max(0, before - self._live) if before is not None else 0

    def _keep_lines(self, when: float, log: dict[str, Any]) -> None:
        for text in [str(text) for text in log.get("broken") or []][-LINES:]:
            # What a plugin calls an error stands at level BROKEN in lightningd's log.
            level = "ERROR" if text.startswith("plugin-") else "BROKEN"
            self.lines.append({"time": when, "level": level, "text": text})


class _PluginRows:
    """What was seen of one plugin, by the number of the sample."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, Any]] = {}
        self._digests: list[str] = [""]
        self._healths: list[str] = [""]
        self._pid = 0
        self._digest = ""
        self._health = ""

    def add(self, number: int, facts: dict[str, Any], same_lightningd: bool) -> None:
        """Add what one sample says; the pid that was seen last counts also when it was gone in between."""
        pid, digest = int(facts.get("pid") or 0), str(facts.get("digest") or "")
        another = bool(pid and self._pid and pid != self._pid)
        # One of ours that was not asked, because others took all the time, is as it was.
        self._health = str(facts.get("health", self._health if digest else ""))
        self._rows[number] = {
            "active": int(bool(facts.get("active"))),
            "digest": _index(self._digests, digest),
            "health": _index(self._healths, self._health),
            "rss_bytes": int(facts.get("rss_bytes") or 0),
            "rpc_ms": _milliseconds(facts.get("rpc_ms")),
            "restarts": int(facts.get("restarts", another and same_lightningd and digest == self._digest)),
        }
        if pid:
            self._pid, self._digest = pid, digest

    def columns(self, order: Sequence[int]) -> dict[str, Any]:
        """Return the columns, by the order of the series; where the plugin was not seen it was not active."""
        empty = {"active": 0, "digest": 0, "health": 0, "rss_bytes": 0, "rpc_ms": None, "restarts": 0}
        rows = [self._rows.get(number, empty) for number in order]
        return {
            **{name: [row[name] for row in rows] for name in PLUGIN_COLUMNS},
            "digests": list(self._digests),
            "healths": list(self._healths),
        }


def _index(words: list[str], word: str) -> int:
    if word not in words:
        words.append(word)
    return words.index(word)


def _milliseconds(value: Any) -> float | None:
    return None if value is None else round(float(value), 2)


def _by_name(plugins: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return plugins by name; of two with one name the one that is active and of a release."""
    found: dict[str, dict[str, Any]] = {}
    for facts in plugins:
        name = str(facts.get("name") or "")
        if name not in found or _weight(facts) > _weight(found[name]):
            found[name] = facts
    found.pop("", None)
    return found


def _weight(facts: dict[str, Any]) -> tuple[bool, bool]:
    return bool(facts.get("active")), bool(facts.get("digest"))


def _with_bounds(series: Series) -> Series:
    times = series["time"]
    series.update(count=len(times), first=times[0] if times else None, last=times[-1] if times else None)
    return series


def _choose(series: Series, chosen: Sequence[int]) -> Series:
    part = {**series, **{name: [series[name][number] for number in chosen] for name in COLUMNS}}
    part["plugins"] = {
        name: {**plugin, **{column: [plugin[column][number] for number in chosen] for column in PLUGIN_COLUMNS}}
        for name, plugin in series["plugins"].items()
    }
    return _with_bounds(part)


def _thin(columns: dict[str, Any], spans: Sequence[range], kinds: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
    ways: tuple[Callable[[list[Any]], Any], ...] = (sum, min, _middle, lambda values: values[-1])
    return {
        name: [way([columns[name][number] for number in span]) for span in spans]
        for names, way in zip(kinds, ways)
        for name in names
    }


def _middle(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _refuse(constant: str) -> float:
    raise SeriesError(f"a series holds {constant}, which is no number")


def _check(series: Any) -> None:
    """Refuse what is no series of this schema, before anybody counts on its columns."""
    if not isinstance(series, dict) or series.get("schema") != SCHEMA:
        raise SeriesError(f"this is no series of schema {SCHEMA}; the node's engine is of another release")
    count, plugins = series.get("count"), series.get("plugins")
    if not isinstance(count, int) or not isinstance(plugins, dict) or not isinstance(series.get("lines"), list):
        raise SeriesError("a series lacks its count, its plugins or its lines")
    for name in COLUMNS:
        _check_column(name, series.get(name), name, count)
    for plugin, held in plugins.items():
        if not isinstance(held, dict):
            raise SeriesError(f"the series of {plugin} is none")
        for name in PLUGIN_COLUMNS:
            _check_column(f"{plugin}.{name}", held.get(name), name, count)
        for name, words in (("digest", held.get("digests")), ("health", held.get("healths"))):
            if not isinstance(words, list) or any(value not in range(len(words)) for value in held[name]):
                raise SeriesError(f"the column {plugin}.{name} of a series points at words that it does not have")


def _check_column(told: str, values: Any, name: str, count: int) -> None:
    if not isinstance(values, list) or len(values) != count:
        raise SeriesError(f"the column {told} of a series of {count} samples has another length")
    if set(map(type, values)) - NUMBERS - ({type(None)} if name in MAY_BE_NULL else set()):
        raise SeriesError(f"the column {told} of a series holds something else than numbers")
