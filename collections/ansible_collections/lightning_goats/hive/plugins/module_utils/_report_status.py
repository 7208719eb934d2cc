# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The fleet at a glance: what every node runs and what somebody should look at. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._report import Json, stack_words

# As late as the probe may be before it is worth a note: two looks missed, on a busy machine.
PROBE_LOOKS, PROBE_GRACE_SECONDS = 3, 60
# A set is late once half the time to the next has passed as well.
BACKUPS_LATE = 1.5
# A payment that expires sooner is worth a note: lightningd itself begins to think of the chain then.
FEW_BLOCKS = 18


def status(observed: Mapping[str, Json | None], troubles: Mapping[str, str], now: float) -> Json:
    """The state of each node as data: ``{node: {state, notes, ...}}``.

    ``state`` is ok, attention (it runs, but read the notes), down or unreachable.

    Args:
        observed: observation per node, None for none.
        troubles: why a node could not be observed.
        now: unix seconds.
    """
    return {node: node_status(observed[node], troubles.get(node, ""), now) for node in sorted(observed)}


def node_status(seen: Json | None, trouble: str, now: float) -> Json:
    """The state of one node."""
    if seen is None:
        return {"state": "unreachable", "notes": [trouble or "it was not observed"], "stack": [], "lightningd": {}}
    lightningd = seen["lightningd"]
    stack = [
        {key: item.get(key) for key in ("name", "version", "digest")} | {"enabled": item.get("enabled", True)}
        for item in seen.get("stack") or []
    ]
    notes = list(_notes(seen, now))
    state = "down" if not lightningd["running"] else "attention" if notes else "ok"
    return {
        "state": state,
        "notes": notes,
        "stack": stack,
        "lightningd": {key: lightningd.get(key) for key in ("version", "node_id", "blockheight", "synced", "pid")},
        "plugins": {p["name"]: health_of(p) for p in seen.get("plugins", []) if p.get("ours")},
        "backup_age_seconds": backup_age(seen, now),
        "emergency_recover": (seen.get("backup") or {}).get("emergency_recover"),
        "probe_age_seconds": probe_age(seen, now),
        "quarantine": seen.get("quarantine") or [],
        "lock": seen.get("lock"),
        "brake": seen.get("brake") or "",
        "pause": seen.get("pause") or "",
        "soak": _soak(seen),
        "container": _container(seen),
        "pending_htlcs": seen.get("pending_htlcs"),
        "value_at_risk_msat": seen.get("value_at_risk_msat"),
        "channels": len(seen.get("channels") or []),
        "journal_head": (seen.get("journal") or {}).get("head", ""),
    }


def health_of(plugin: Json) -> str:
    """The status word of a plugin's health RPC, "" when it did not answer."""
    return str((plugin.get("health") or {}).get("status", ""))


def _notes(seen: Json, now: float) -> list[str]:
    lightningd, notes = seen["lightningd"], []
    if lightningd["running"] and not lightningd.get("synced"):
        notes.append(f"still syncing at height {lightningd.get('blockheight')}")
    transaction = seen.get("transaction")
    if transaction:
        left = int((transaction.get("deadline") or 0) - now)
        watched = (seen.get("deadman") or {}).get("alive", left > 0)
        when = f"undoes itself in {max(left, 0)} s" if watched else "has no dead-man running"
        notes.append(
            f"switch of rollout {transaction.get('rollout')} is {transaction.get('phase')} and {when}: "
            "playbooks/confirm.yml keeps it, playbooks/rollout.yml goes on"
        )
    for kind, release in (
        ("brake", "playbooks/brake.yml -e hive_brake_state=absent"),
        ("pause", "playbooks/resume.yml"),
    ):
        if seen.get(kind):
            notes.append(f"a {kind} is set ({seen[kind]}): {release} releases it")
    soak = seen.get("soak")
    if soak and soak["state"] == "self-reverted":
        notes.append(
            f"went back by itself while stage {soak['stage']} soaked ({soak.get('reason') or 'its plugins failed'}): "
            "playbooks/rollout.yml takes note of it"
        )
    lock = seen.get("lock")
    if lock and not transaction:
        notes.append(f"{'stale ' if lock.get('stale') else ''}lock of rollout {lock.get('rollout')}")
    notes += [
        f"{plugin['name']} is {'not active' if not plugin.get('active') else health_of(plugin) or 'silent'}"
        for plugin in seen.get("plugins", [])
        if plugin.get("ours") and (not plugin.get("active") or health_of(plugin) != "ok")
    ]
    notes += [
        f"{item['plugin']} {item['version']} is quarantined for {age_words(now - float(item['since']))} "
        f"({item['reason']}): choose another release, or try it again with -e hive_lift_quarantine=true"
        for item in seen.get("quarantine") or []
    ]
    container = seen.get("container")
    if container and not container["slots_mounted"]:
        notes.append(
            f"container {container['name']} does not see the slots: the next rollout makes it anew, which restarts "
            "lightningd once"
        )
    flying = seen.get("pending_htlcs") or {}
    if flying.get("nearest_expiry") and lightningd["running"]:
        left = int(flying["nearest_expiry"]) - int(lightningd.get("blockheight") or 0)
        if left < FEW_BLOCKS:
            notes.append(f"a payment in flight expires in {left} blocks: a switch would wait for it")
    managed = seen.get("managed_config") or {}
    if managed.get("drift"):
        notes.append("hive.conf names other plugins than those that run")
    if managed.get("strays"):
        notes.append("options of our plugins stand outside hive.conf")
    if seen.get("stack") and not seen.get("backups"):
        notes.append("no backup set yet")
    notes += backup_notes(seen, now)
    probe, age = seen.get("probe"), probe_age(seen, now)
    if probe and (age is None or age > PROBE_LOOKS * float(probe["every"]) + PROBE_GRACE_SECONDS):
        notes.append(
            f"the probe has taken no sample {'yet' if age is None else 'for ' + age_words(age)}: "
            "playbooks/rollout.yml installs it again"
        )
    told = " ".join(notes)
    notes += [problem["message"] for problem in seen.get("problems", []) if problem["message"] not in told]
    return notes


def backup_notes(seen: Json, now: float) -> list[str]:
    """What somebody should do about backups: the last one failed, the timer is late, lightningd's own is stale."""
    backup, notes = seen.get("backup") or {}, []
    failure, every, age = backup.get("failure"), float(backup.get("every") or 0), backup_age(seen, now)
    if failure:
        when = age_words(now - float(failure["at"]))
        notes.append(f"the last backup failed {when} ago: {failure['message']}")
    elif every and seen.get("stack") and age is not None and age > BACKUPS_LATE * every:
        notes.append(
            f"the newest backup set is {age_words(age)} old, and the timer should take one every {age_words(every)}: "
            "take one with playbooks/backup.yml and see what it says"
        )
    own = backup.get("emergency_recover")
    if own and own["stale"]:
        notes.append(
            f"lightningd's own channel backup is {age_words(own['age_seconds'])} old, older than the newest change of "
            "a channel: see that its chanbackup plugin runs and that its disk is writable"
        )
    return notes


def _soak(seen: Json) -> Json | None:
    """The soak of the node in short; None where nothing soaks any more."""
    found = seen.get("soak")
    if not found or found["state"] == "soaked":
        return None
    return {key: found.get(key) for key in ("rollout", "stage", "state", "since")}


def _container(seen: Json) -> Json | None:
    """The container without its environment's and mounts' details; None where there is none."""
    found = seen.get("container")
    return {key: found.get(key) for key in ("name", "image", "image_digest", "slots_mounted")} if found else None


def backup_age(seen: Json, now: float) -> float | None:
    """Seconds since the newest backup set that was sound when it was made, None when there is none."""
    sound = [backup for backup in seen.get("backups") or [] if backup.get("verified", True)]
    times = [float(backup["created_at"]) for backup in sound if backup.get("created_at")]
    return round(now - max(times), 1) if times else None


def probe_age(seen: Json, now: float) -> float | None:
    """Seconds since the probe's newest sample, None when there is none."""
    last = (seen.get("probe") or {}).get("last_at")
    return round(now - float(last), 1) if last else None


def age_words(seconds: float | None) -> str:
    """An age for people."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def table(nodes: Mapping[str, Json]) -> list[str]:
    """The state of the fleet as lines: a row per node, then the notes."""
    # Whoever did not look for evidence cannot tell of drills.
    drills = any("drill" in entry for entry in nodes.values())
    head = ("NODE", "STATE", "LIGHTNINGD", "HEIGHT", "STACK", "BACKUP", "PROBE")
    rows: list[tuple[str, ...]] = [(*head, "DRILL") if drills else head]
    for node, entry in nodes.items():
        lightningd: Mapping[str, Any] = entry["lightningd"]
        rows.append(
            (
                node,
                entry["state"],
                str(lightningd.get("version") or "-"),
                str(lightningd.get("blockheight") or "-"),
                stack_words(entry["stack"]),
                age_words(entry.get("backup_age_seconds")),
                age_words(entry.get("probe_age_seconds")),
                *([(entry.get("drill") or {}).get("words", "-")] if drills else []),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"{node}: {note}" for node, entry in nodes.items() for note in entry["notes"]]
    return [*lines, "", *notes] if notes else lines
