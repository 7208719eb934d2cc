"""hive-status, hive-phase6-plugins."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Final

from hive_kit.app import Method
from hive_kit.errors import UnavailableError
from hive_kit.node import RpcError
from hive_kit.params import NoParams
from hive_kit.siblings import Sibling

from cl_hive.app import HiveApplication
from cl_hive.options import DECLARED_ONLY
from cl_hive.services.membership import MEMBER
from cl_hive.services.siblings import ARCHON, COMMS

_JSON = dict[str, Any]
_ABSENT: Final[_JSON] = {"installed": False, "active": False, "name": ""}


def status(app: HiveApplication, _: NoParams) -> _JSON:
    """Where this node stands in the hive, and how it runs."""
    hive = app.hive
    rows = hive.membership.members.all()
    own = next((row for row in rows if row.peer_id == hive.membership.me), None)
    tiers = [row.tier for row in rows]
    request = hive.join_request()
    fleet_hash, membership_hash = hive.sync.hashes()
    return {
        "status": "active" if own else "no_members",
        "version": app.context.version(),
        "mode": app.mode,
        "governance_mode": app.settings.governance_mode,
        "hive_id": hive.membership.hive_id(),
        "membership": {
            "pubkey": hive.membership.me,
            "tier": own.tier if own else None,
            "joined_at": own.joined_at if own else None,
            "uptime_pct": round(own.uptime_pct * 100, 2) if own else 0.0,
            "contribution_ratio": own.contribution_ratio if own else 0.0,
        },
        "members": {
            "total": len(rows),
            "member": tiers.count(MEMBER),
            "neophyte": len(rows) - tiers.count(MEMBER),
        },
        "limits": {"max_members": app.settings.max_members, "market_share_cap": app.settings.market_share_cap},
        "join": request.shown() if request else None,
        "signer": {"backend": hive.signer.backend, **vars(hive.signer.counts)},
        "siblings": app.context.siblings.as_dict(),
        "sync": {
            "fleet_hash": fleet_hash,
            "membership_hash": membership_hash,
            "gossip_version": hive.states.version(hive.membership.me),
            "connected_members": hive.sync.view(),
        },
        "settlement": hive.settlement.summary(),
        "outbox": hive.outbox.counts(),
        "counters": {**hive.counters.as_dict(), "dropped_flood": app.waiting.refused},
        "options_without_effect": list(DECLARED_ONLY),
    }


def phase6_plugins(app: HiveApplication, _: NoParams) -> _JSON:
    """Which sibling plugins lightningd runs, and what is odd about that."""
    try:
        listed = app.context.node.call("plugin", {"subcommand": "list"}, 10.0).get("plugins", [])
    except RpcError as error:
        raise UnavailableError(f"lightningd does not list its plugins: {error.message}") from error
    siblings: dict[str, Sibling | None] = {COMMS: app.siblings.comms, ARCHON: app.siblings.archon}
    found = {name: _find(name, listed) for name in siblings}
    warnings: list[str] = []
    for name, entry in found.items():
        sibling = siblings[name]
        if entry["active"] and sibling is not None and not sibling.present and not sibling.look():
            warnings.append(f"{name} is active but does not answer; look at lightningd's log")
    if found[ARCHON]["active"] and not found[COMMS]["active"]:
        warnings.append(f"{ARCHON} runs without {COMMS}, which is not supported; start {COMMS}")
    return {
        "cl_hive_comms": found[COMMS],
        "cl_hive_archon": found[ARCHON],
        "mode": app.mode,
        "warnings": warnings,
    }


def _find(name: str, plugins: list[_JSON]) -> _JSON:
    for plugin in plugins:
        base = PurePath(str(plugin.get("name", ""))).name
        if name in base.replace("_", "-"):
            return {"installed": True, "active": bool(plugin.get("active")), "name": base}
    return dict(_ABSENT)


METHODS = (
    Method("hive-status", status, NoParams, "Show where this node stands in the hive and how it runs"),
    Method("hive-phase6-plugins", phase6_plugins, NoParams, "Show which sibling plugins are on this node"),
)
