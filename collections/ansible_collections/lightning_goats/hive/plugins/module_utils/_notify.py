# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Webhooks: tell others how a run ended. A receiver that does not answer costs a line of output, never the run.

Controller only. The body is JSON; with a secret its HMAC-SHA256 stands in a header, so that the receiver knows
who spoke.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

SCHEMA = 1
SIGNATURE, DELIVERY = "X-Hive-Signature", "X-Hive-Delivery"
# What a report can end with; "unchanged" and "refused" are told only to those who ask for them.
RESULTS = ("success", "unchanged", "soaking", "paused", "braked", "refused", "reverted", "failed")
TOLD = ("success", "soaking", "paused", "braked", "reverted", "failed")
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 10.0
TRIES = 4
# 0.5, 1 and 2 s before the second, third and fourth try, or what Retry-After says, up to a limit.
BACKOFF_FACTOR, RETRY_AFTER_SECONDS = 0.5, 10
AGAIN = (408, 425, 429, 500, 502, 503, 504)
MAX_REASONS = 3
LOGGERS = ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry", "requests.sessions")


@dataclass(frozen=True)
class Hook:
    """One receiver. Its address may hold a token, so it is as secret as the secret and shown nowhere."""

    name: str
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    results: tuple[str, ...] = TOLD


def hooks(given: Sequence[Any]) -> list[Hook]:
    """``hive_webhooks`` as receivers. Raises ReleaseError ``webhook``, which never shows an address."""
    found = [_hook(number, entry) for number, entry in enumerate(given, 1)]
    names = [hook.name for hook in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ReleaseError("webhook", f"hive_webhooks has {twice[0]} twice: give each receiver a name of its own.")
    return found


def _hook(number: int, entry: Any) -> Hook:
    wrong = f"hive_webhooks, entry {number}"
    if not isinstance(entry, Mapping) or set(entry) - {"name", "url", "secret", "results"}:
        raise ReleaseError("webhook", f"{wrong}: write name and url, and if you like secret and results.")
    name, url, secret = (str(entry.get(key) or "") for key in ("name", "url", "secret"))
    if not name:
        raise ReleaseError("webhook", f"{wrong} has no name: it is what the output calls the receiver.")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ReleaseError("webhook", f"{wrong} ({name}) has no url that begins with https:// or http://.")
    results = entry.get("results") or list(TOLD)
    unknown = [str(word) for word in results if word not in RESULTS] if isinstance(results, list) else [str(results)]
    if unknown:
        raise ReleaseError("webhook", f"{wrong} ({name}): {unknown[0]} is no result; those are {', '.join(RESULTS)}.")
    return Hook(name, url, secret, tuple(str(word) for word in results))


def message(report: Mapping[str, Any], sentence: str, path: str) -> Json:
    """What a receiver is told: names, results and reasons; ``text`` alone is enough for a chat.

    Args:
        report: the report of the run, schema 2.
        sentence: the run in one sentence.
        path: the report's page on the controller.
    """
    soaks = [
        {key: soak.get(key) for key in ("stage", "nodes", "state", "verdict", "remaining_seconds", "come_back_at")}
        for soak in report.get("soaks") or []
    ]
    reasons = list(report.get("reasons") or [])[:MAX_REASONS]
    gates = report.get("gates")
    return {
        "schema": SCHEMA,
        "event": f"rollout.{report['result']}",
        "fleet": report["fleet"],
        "rollout": report["rollout"],
        "goal": report["goal"],
        "result": report["result"],
        "text": " ".join([f"[{report['fleet']}] {sentence}", *reasons]),
        "reasons": reasons,
        "nodes": {name: node["result"] for name, node in report["nodes"].items()},
        "soaks": soaks,
        "gates": None if gates is None else gates["decision"],
        "started_at": report["started_at"],
        "finished_at": report["finished_at"],
        "report": path,
    }


def send(receivers: Sequence[Hook], told: Json, backoff_factor: float = BACKOFF_FACTOR) -> list[str]:
    """Tell every receiver that wants to know, all at the same time, each with a few tries.

    Returns:
        One line for each that could not be told. It names the receiver and never its address.
    """
    wanted = [hook for hook in receivers if told["result"] in hook.results]
    if not wanted:
        return []
    body = json.dumps(told, sort_keys=True).encode()
    with _quiet(), ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        troubles = list(pool.map(lambda hook: _post(hook, body, delivery(told), backoff_factor), wanted))
    return [f"webhook {hook.name} was not told: {why}" for hook, why in zip(wanted, troubles, strict=True) if why]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the network library from warning of each try: its words have the address, and Ansible may keep a log."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(nothing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(nothing)


def delivery(told: Json) -> str:
    """The same for every try of one message, so that a receiver can pass over a repetition."""
    return hashlib.sha256(f"{told['rollout']} {told['result']} {told['finished_at']}".encode()).hexdigest()[:32]


def signature(secret: str, body: bytes) -> str:
    """What stands in the header for a receiver with this secret."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _post(hook: Hook, body: bytes, identity: str, backoff_factor: float) -> str:
    """Why the receiver could not be told, "" when it was."""
    # Imported here: most runs tell nobody, and it takes longer to load than the rest of the report.
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    headers = {"Content-Type": "application/json", "User-Agent": "lightning-hive-rollout", DELIVERY: identity}
    if hook.secret:
        headers[SIGNATURE] = signature(hook.secret, body)
    retries = Retry(
        total=TRIES - 1,
        backoff_factor=backoff_factor,
        status_forcelist=AGAIN,
        allowed_methods=None,
        raise_on_status=False,
        redirect=0,
        retry_after_max=RETRY_AFTER_SECONDS,
    )
    try:
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retries))
            answer = session.post(
                hook.url,
                data=body,
                headers=headers,
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                # A signed message goes to the address that was configured, nowhere else.
                allow_redirects=False,
            )
    except requests.Timeout:
        return f"no answer in {TRIES} tries"
    except requests.RequestException as error:
        # The text of these has the address in it.
        return f"{type(error).__name__} in {TRIES} tries"
    if answer.status_code in AGAIN:
        return f"HTTP {answer.status_code} in {TRIES} tries"
    return "" if answer.ok and answer.status_code < 300 else f"HTTP {answer.status_code}"
