"""The health answer: outcomes, not the mere presence of a process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hive_kit.errors import StorageError
from hive_kit.params import NoParams

if TYPE_CHECKING:
    from hive_kit.app import Application


@dataclass(frozen=True)
class Check:
    """One testable statement. A failed critical one makes the plugin failed, another one degraded."""

    name: str
    ok: bool
    detail: str = ""
    critical: bool = False


def status_of(checks: Sequence[Check]) -> str:
    """ok, degraded or failed."""
    if any(check.critical and not check.ok for check in checks):
        return "failed"
    return "ok" if all(check.ok for check in checks) else "degraded"


class Health:
    """Answers the health RPC of one running plugin."""

    def __init__(self, started: float) -> None:
        """Args: started: time.monotonic() of the plugin's start."""
        self._started = started

    def answer(self, app: Application, _: NoParams) -> dict[str, Any]:
        """{status, plugin, version, schema_version, mode, uptime_seconds, threads_alive, database, checks, ...}."""
        context = app.context
        jobs = context.workers.jobs()
        failing = [job["name"] for job in jobs if job["last_error"]]
        database, schema = self._database(app)
        checks = [
            database,
            Check(
                "threads", context.workers.alive, "" if context.workers.alive else "the scheduler ended", critical=True
            ),
            Check("jobs", not failing, f"last run failed: {', '.join(failing)}" if failing else ""),
            *app.checks(),
        ]
        return {
            "status": status_of(checks),
            "plugin": context.name,
            "version": context.version(),
            "schema_version": schema,
            "mode": app.mode,
            "uptime_seconds": int(time.monotonic() - self._started),
            "threads_alive": context.workers.alive,
            "database": str(context.store.path),
            "siblings": context.siblings.as_dict(),
            "jobs": jobs,
            "calls_refused": context.workers.calls.refused,
            "events_dropped": context.workers.events.refused,
            "checks": [asdict(check) for check in checks],
        }

    def _database(self, app: Application) -> tuple[Check, int]:
        store = app.context.store
        try:
            schema = store.schema_version
            store.prove_writable()
        except StorageError as error:
            return Check("database", False, error.message, critical=True), 0
        return Check("database", True, f"schema {schema}", critical=True), schema
