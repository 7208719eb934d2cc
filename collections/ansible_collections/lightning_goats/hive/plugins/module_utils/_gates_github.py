# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Open issues of high priority, asked of GitHub. Controller only.

The token goes into one header of a request to the host that was named, and nowhere else: no redirect is followed, no
message repeats what a server has said.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any

from ansible.module_utils.urls import open_url
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
PAGE = 100
# A repository with more open issues of high priority than this has said enough.
PAGES = 5
MAX_BYTES = 8 * 1024 * 1024


def open_issues(url: str, repositories: Sequence[str], label: str, token: str, seconds: float) -> dict[str, list[str]]:
    """The open issues with ``label``, by repository, as words.

    Raises ReleaseError ``github`` when one of the repositories cannot be asked within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise _wrong("hive_github_url does not begin with https://, so the token would travel in the open")
    if not token or not repositories:
        lacks = "hive_github_repositories" if token else "hive_github_token"
        raise _wrong(f"{lacks} is empty: set the token and the repositories, or neither to ask only the register")
    strange = [name for name in repositories if not REPOSITORY.fullmatch(name)]
    if strange:
        raise _wrong(f"hive_github_repositories has {strange[0]!r}, which is not owner/name")
    return {name: _of(url.rstrip("/"), name, label, token, deadline) for name in repositories}


def _of(url: str, repository: str, label: str, token: str, deadline: float) -> list[str]:
    found: list[str] = []
    for page in range(1, PAGES + 1):
        query = urllib.parse.urlencode({"state": "open", "labels": label, "per_page": PAGE, "page": page})
        entries = _get(f"{url}/repos/{repository}/issues?{query}", repository, token, deadline)
        # GitHub lists pull requests among the issues; they are no defects.
        found += [_words(repository, entry) for entry in entries if "pull_request" not in entry]
        if len(entries) < PAGE:
            break
    return found


def _words(repository: str, issue: dict[str, Any]) -> str:
    title = " ".join(str(issue.get("title") or "").split())[:100]
    return f"{repository}#{issue.get('number')} is open: {title}"


def _get(url: str, repository: str, token: str, deadline: float) -> list[dict[str, Any]]:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ReleaseError("deadline", f"GitHub did not answer for {repository} in time")
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    try:
        with open_url(
            url, headers=headers, timeout=left, follow_redirects="none", http_agent="hive-gates", use_netrc=False
        ) as reply:
            answer = json.loads(reply.read(MAX_BYTES))
    except urllib.error.HTTPError as error:
        raise _wrong(f"GitHub answers {error.code} for {repository}: look at the token and at the name") from None
    except (OSError, HTTPException) as error:
        raise _wrong(f"GitHub cannot be asked for {repository} ({type(error).__name__})") from None
    except ValueError:
        raise _wrong(f"GitHub's answer for {repository} is no JSON") from None
    if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
        raise _wrong(f"GitHub's answer for {repository} is no list of issues")
    return answer


def _wrong(what: str) -> ReleaseError:
    return ReleaseError("github", what)
