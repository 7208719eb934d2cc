"""Watches over a node that soaks while no controller does: the probe calls it at each look, and nobody waits for it.

What no soak survives (a plugin of the stage is down or unwell, channels are lost, lightningd dies of a plugin) is
counted over looks that follow one another. When it lasts, a process of its own takes the node back: `soak_undo`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from .clock import boot
from .errors import HiveError
from .files import canonical, read_json, write_atomic
from .lock import read_lock
from .node import Node
from .soak import SELF_REVERT, SELF_REVERTED, SOAKING

Json = dict[str, Any]

SCHEMA = 1
ROW = 3
GOOD = ("ok", "degraded")
LIVE_STATES = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")
UNIT = "hive-self-undo"
NOTHING: Json = {"rows": {}, "breach": "", "undo": ""}
CRASHES_KNOWN = 20
CRASH_BYTES = 256 * 1024


def soak_file(node: Node) -> Path:
    """Return where is kept what the journal says of a soak: made from it, and made anew whenever it has grown."""
    return node.state_dir / "soak.json"


def watched(node: Node) -> Json | None:
    """Return what there is to watch, None when nothing soaks.

    Returns:
        soak (as `soak.confirmed` makes it) and undoing (the reason of a way back that was begun and is not finished).
    """
    try:
        facts = node.journal_file.stat()
    except OSError:
        return None
    mark = [facts.st_ino, facts.st_size]
    kept = read_json(soak_file(node))
    if not isinstance(kept, dict) or kept.get("schema") != SCHEMA or kept.get("journal") != mark:
        kept = _read_journal(node, mark)
    return kept if kept.get("soak") else None


def _read_journal(node: Node, mark: list[int]) -> Json:
    from .journal import Journal

    state = Journal(node.journal_file, node.keeper).state()
    txn, soak = state.transaction, state.soak
    undoing = ""
    if txn is not None and txn.data.get("kind") == SELF_REVERT and txn.phase != "revert-failed":
        undoing = str(txn.data["reason"])
    if soak is not None and (soak["state"] not in (SOAKING, SELF_REVERTED) or soak["told"]):
        soak = None
    kept = {"schema": SCHEMA, "journal": mark, "soak": soak, "undoing": undoing}
    write_atomic(soak_file(node), canonical(kept), node.keeper)
    return kept


def look(node: Node, settings: Json, sample: Json, before: Json | None) -> Json | None:
    """Watch over a soak for the length of one sample; start the way back when it is time.

    Args:
        settings: of the probe.
        sample: what it has just seen.
        before: what this returned at the look before; None for the first.

    Returns:
        plan, stage, state, rows (looks in a row, by breach), breach (a sentence, "" for none), undo ("started", or
        the code of why the way back could not be), and what the next look has to know; None when nothing soaks.
    """
    try:
        facts = watched(node)
    except HiveError as error:
        # A journal that was changed is said by everything else that reads it.
        return {"plan": "", "stage": "", "state": "", "transaction": "", **NOTHING, "undo": error.code}
    if facts is None:
        return None
    soak = facts["soak"]
    told: Json = {**{key: soak[key] for key in ("plan", "stage", "state", "transaction")}, **NOTHING}
    if facts["undoing"] or soak["state"] == SELF_REVERTED:
        # Begun and killed, or done and not yet written down.
        return {**told, "undo": _start(node, settings, {"reason": facts["undoing"], "samples": []}, soak)}
    if not soak["soak"].get("self_revert", True) or soak["self_revert_failed"] or over(soak, float(sample["time"])):
        return told
    mine = before is not None and before.get("transaction") == soak["transaction"]
    told.update(_carry(node, soak, sample, before if mine and before is not None else {}))
    if told["rows"]:
        key, length = max(told["rows"].items(), key=lambda item: int(item[1]))
        found = breaches(soak, ours(node, sample), sample.get("channels"), told)
        told["breach"] = f"{found[key]}, in {length} looks in a row"
        # Who could not be started, or found the node busy, is started again after as many looks.
        if length % ROW == 0:
            samples = {"looks": length, "times": told["times"][key]}
            told["undo"] = _start(node, settings, {"reason": told["breach"], "samples": samples}, soak)
    return told


def over(soak: Json, now: float) -> bool:
    """Return whether a soak has had all the time that it may take, and is people's business from then on.

    A plan that nobody goes on with leaves its soak behind: months later its node must not go back on its own.
    """
    windows = soak["soak"]
    return now > float(soak["since"]) + 60 * (float(windows["minutes"]) + float(windows["extend_minutes"]))


def _carry(node: Node, soak: Json, sample: Json, before: Json) -> Json:
    """Return what one look hands on to the next: rows and their times, whose life it was, what was lost and why."""
    lightningd = sample.get("lightningd") or {}
    # What lay there when the soak began has nothing to do with it.
    known = [str(name) for name in before.get("crashes", _crashes(node))]
    facts: Json = {
        "life": before.get("life"),
        "lost": int(before.get("lost", 0)),
        "deaths": list(before.get("deaths", [])),
        "crashes": known,
        "rows": {},
        "times": {},
    }
    if not lightningd.get("running") or "plugins" not in sample:
        # Whoever looks after lightningd does that; of its plugins nothing can be told.
        return facts
    life = [boot(), int(lightningd.get("pid") or 0)]
    # The probe tells a restart by the kernel's ticks; a start in wall time moves when the clock is set.
    fresh = facts["life"] is not None and bool(lightningd.get("restarts", facts["life"] != life))
    if fresh and facts["life"][0] == life[0]:
        new = [name for name in _crashes(node) if name not in known]
        facts["deaths"] += [blamed for blamed in (_blamed(node, name, soak) for name in new) if blamed]
        facts["crashes"] = [*known, *new][-CRASHES_KNOWN:]
    facts["life"] = life
    facts["lost"] += int((sample.get("lost") or {}).get("count") or 0)
    if held(node, soak):
        # A run is at work: it judges by itself, and stops plugins on purpose.
        return facts
    rows, times = ({}, {}) if fresh else (before.get("rows") or {}, before.get("times") or {})
    for key in breaches(soak, ours(node, sample), sample.get("channels"), facts):
        facts["rows"][key] = int(rows.get(key, 0)) + 1
        facts["times"][key] = [*times.get(key, []), sample["time"]][-ROW:]
    if fresh and "lightningd" in facts["rows"]:
        # One that dies again and again has no three looks.
        facts["rows"]["lightningd"] = ROW
    return facts


def rollout_of(soak: Json) -> str:
    """Return the name under which a node goes back by itself."""
    return f"{SELF_REVERT}-{soak['transaction']}"


def held(node: Node, soak: Json) -> bool:
    """Whether a switch is open or somebody else's rollout holds the node."""
    lock = read_lock(node.state_dir / "lock.json")
    mine = lock is not None and lock["rollout"] == rollout_of(soak)
    return (node.state_dir / "deadman.json").exists() or (lock is not None and not lock["stale"] and not mine)


def ours(node: Node, sample: Json) -> dict[str, Json]:
    """Return what a sample says of the plugins from our slots, by the name of the plugin."""
    root = node.to_inside(node.slots_dir) + "/"
    listed = [plugin for plugin in sample["plugins"] if str(plugin.get("path", "")).startswith(root)]
    return {str(plugin["path"])[len(root) :].partition("/")[0]: plugin for plugin in listed}


def breaches(soak: Json, running: dict[str, Json], channels: dict[str, int] | None, carried: Json) -> dict[str, str]:
    """Return what one look finds that no soak survives: by key, a sentence. What was so before the switch is none.

    Args:
        soak: as `soak.confirmed` makes it.
        running: our plugins, as `ours` returns them.
        channels: how many there are in each state; None when that could not be told.
        carried: lost and deaths, since the soak began.
    """
    found: dict[str, str] = {}
    before = {str(item["name"]) for item in soak["previous"] if item["enabled"]}
    for item in soak["target"]:
        name = str(item["name"])
        if not item["enabled"] or name in soak["unhealthy"] or (name in before and name not in soak["found"]):
            continue
        plugin = running.get(name)
        if plugin is None or not plugin.get("active"):
            found[f"plugin:{name}"] = f"{name} {item['version']} does not run"
        elif plugin.get("digest") == item["digest"] and plugin.get("health", "ok") not in GOOD:
            found[f"health:{name}"] = f"{name} {item['version']} says {plugin['health'] or 'nothing'} of its health"
    had = live_of(soak["channels"])
    if channels is not None and carried["lost"] and live_of(channels) < had:
        count = carried["lost"]
        found["channels"] = f"{count} channels were lost: {live_of(channels)} are live, {had} were before the switch"
    deaths = carried["deaths"]
    if len(deaths) > int(soak["soak"].get("restarts_allowed", 0)):
        found["lightningd"] = f"lightningd died {len(deaths)} times of {deaths[-1]}"
    return found


def live_of(channels: dict[str, int]) -> int:
    """Return how many channels move payments."""
    return sum(int(channels.get(state, 0)) for state in LIVE_STATES)


def shown(facts: Json | None) -> Json | None:
    """Return what a sample keeps of a look; the rest is only for the next look."""
    keys = ("plan", "stage", "state", "rows", "breach", "undo")
    return None if facts is None else {key: facts[key] for key in keys}


def _crashes(node: Node) -> list[str]:
    """Return the names of the traces that a crashing lightningd left, oldest first."""
    try:
        return sorted(path.name for path in node.network_dir.glob("crash.log.*"))[-CRASHES_KNOWN:]
    except OSError:
        return []


def _blamed(node: Node, crash: str, soak: Json) -> str:
    """Return the plugin of a stage that a trace names in a line of grave words; "" when it names none."""
    try:
        with (node.network_dir / crash).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - CRASH_BYTES))
            text = file.read(CRASH_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    grave = [line for line in text.splitlines() if re.search(r"BROKEN|FATAL|[Pp]lugin.*(invalid|non-result)", line)]
    for item in soak["target"]:
        word = re.compile(rf"(?<![\w-]){re.escape(str(item['name']))}(?![\w-])")
        if (
            item["enabled"]
            and item not in soak["previous"]
            and any(word.search(line.replace("plugin-", "")) for line in grave)
        ):
            return str(item["name"])
    return ""


def _start(node: Node, settings: Json, breach: Json, soak: Json) -> str:
    """Start the process that takes the node back; "started", or the code of what is in the way."""
    kept = read_json(soak_file(node)) or {}
    kept["breach"] = {**breach, "transaction": soak["transaction"]}
    try:
        write_atomic(soak_file(node), canonical(kept), node.keeper)
        launch(node, settings)
    except HiveError as error:
        return error.code
    return "started"


def launch(node: Node, settings: Json) -> None:
    """Start `soak_undo` where it outlives the probe: as a transient service where the probe is a timer.

    Raises:
        HiveError: it cannot be started.
    """
    from .deadman import detach, serve
    from .probe import settings_file
    from .runtimes import runtime_of

    engine = node.state_dir / "engine" / str(settings["engine"]) / "hive-engine.pyz"
    argv = [sys.executable, "-S", str(engine), "self-undo", "--node", str(settings_file(node))]
    scheduler = runtime_of(node).deadman_scheduler() if settings.get("kind") == "timer" else []
    if not scheduler:
        detach(argv, node.keeper)
        return
    unit = f"{UNIT}-{re.sub(r'[^A-Za-z0-9_.-]', '-', node.name)}-{os.urandom(4).hex()}.service"
    serve(scheduler, unit, "Takes a node back whose plugins fail in their soak", [argv[0], "-I", *argv[1:]])
