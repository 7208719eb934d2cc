"""What restic says and wants, without running it: exit codes, repository URLs, secrets, what may be forgotten. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable
from urllib.parse import urlsplit

from ._engine.errors import HiveError

Json = dict[str, Any]

TAG = "hive"
# Of a set, and of the newest channel backup.
SET_TAG, CHANNELS_TAG = "hive-set", "hive-channels"
# What may stand in an environment file: restic's own and those of the places that it can write to.
ENVIRONMENT = re.compile(r"(AWS|RESTIC)_[A-Z0-9_]+|(HTTPS?|NO)_PROXY")
SUBSET = re.compile(r"[1-9]\d*/[1-9]\d*|(100|\d{1,2})(\.\d+)?%|[1-9]\d*[KMGT]?")
# Up to the last @: passwords have some, too.
CREDENTIALS = re.compile(r"//[^/\s]*@")

# From 0.17 on each has an exit code of its own; before, everything but 3 is a 1, and only the words tell.
CODES = {
    3: "restic-incomplete",
    10: "restic-missing",
    11: "restic-locked",
    12: "restic-password",
    130: "restic-stopped",
}
WORDS = (
    ("restic-locked", r"already locked|unable to create lock"),
    ("restic-password", r"wrong password or no key found|an empty password is not a password"),
    ("disk-full", r"no space left on device|disk quota exceeded"),
    (
        "restic-unreachable",
        r"connection refused|no such host|dial tcp|i/o timeout|network is unreachable|no route to host|"
        r"Connection closed|Could not resolve|Permission denied \(|Access ?Denied|InvalidAccessKeyId|"
        r"SignatureDoesNotMatch|unexpected HTTP response \(5|401 Unauthorized|403 Forbidden|x509:|"
        r"unable to start the sftp session",
    ),
    ("restic-missing", r"Is there a repository at the following location|repository does not exist"),
    ("no-snapshot", r"no matching ID found|no snapshot found|not a valid snapshot|invalid id"),
)
# What each code means, and what to do.
MEANINGS = (
    (
        "restic-incomplete",
        "restic could not read every file of the backup set, so the copy does not count; run again",
    ),
    (
        "restic-missing",
        "there is no restic repository there: is the URL right? To make one, run once with -e hive_offsite_init=true",
    ),
    ("restic-locked", "the restic repository is locked by another run; wait until it has finished, then run again"),
    (
        "restic-password",
        "the password does not open the restic repository; put the right one into the password file",
    ),
    ("restic-stopped", "restic was stopped before it had finished; run again"),
    ("restic-unreachable", "the restic repository cannot be reached; look at network, server and credentials"),
    (
        "restic-damaged",
        "restic check found damage in the repository: nothing was forgotten; look at it with "
        "restic check, and copy to a new repository",
    ),
    (
        "restic-timeout",
        "restic did not finish in time; give it more with hive_offsite_timeout_seconds, or look at the network",
    ),
    (
        "no-snapshot",
        "there is no such snapshot of this node in the restic repository; list them with restic snapshots "
        "--tag hive-set",
    ),
    ("disk-full", "a disk is full, here or where the restic repository lies; free some space and run again"),
    ("restic-failed", "restic failed"),
)
SENTENCES = dict(MEANINGS)


@dataclass(frozen=True)
class Policy:
    """How many snapshots of one node are kept."""

    last: int = 7
    daily: int = 14
    weekly: int = 8
    monthly: int = 12

    def arguments(self) -> list[str]:
        """For restic forget; at least the last one is kept whatever was asked for."""
        wanted = {"last": max(1, self.last), "daily": self.daily, "weekly": self.weekly, "monthly": self.monthly}
        return [f"--keep-{name}={number}" for name, number in wanted.items() if number > 0]


def check_url(url: str) -> str:
    """Return a repository URL in one of the forms that we know.

    Raises:
        HiveError: it is another one, or has a password in it.
    """
    if CREDENTIALS.search(url) and ":" in CREDENTIALS.findall(url)[0][2:]:
        raise HiveError(
            "hive_offsite_repository has a password in it; put RESTIC_REPOSITORY into hive_offsite_environment_file on "
            "the node and leave hive_offsite_repository empty",
            "restic-url",
        )
    return check_place(url)


def check_place(url: str) -> str:
    """As `check_url`, for a URL from a file that only its owner reads, which may hold a password."""
    kind, _, rest = url.partition(":")
    good = (
        url.startswith("/")
        or (kind == "sftp" and _sftp(rest))
        or (kind == "s3" and _server(rest if "//" in rest else f"https://{rest}", path=True))
        or (kind == "rest" and rest.startswith(("http://", "https://")) and _server(rest, path=False))
    )
    if not good or re.search(r"\s", url):
        raise HiveError(
            f"{scrubbed(url)!r} is no restic repository that can be used; give /a/path, sftp:user@host:/path, "
            "s3:https://host/bucket or rest:https://host/",
            "restic-url",
        )
    return url


def _sftp(rest: str) -> bool:
    if rest.startswith("//"):
        return _server(f"sftp:{rest}", path=True)
    host, colon, path = rest.partition(":")
    return bool(host and not host.startswith("-") and colon and path)


def _server(url: str, path: bool) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return bool(host and not host.startswith("-") and (not path or parts.path.strip("/")))


def check_subset(subset: str) -> str:
    """Return how much of the data is read back: a percentage, a part n/m, or a size.

    Raises:
        HiveError: it is none of these.
    """
    if SUBSET.fullmatch(subset) is None or subset in ("0%", "00%"):
        raise HiveError(
            f"hive_offsite_check_subset is {subset!r}; give a percentage (5%), a part (1/10) or a size (500M)",
            "restic-url",
        )
    return subset


def parse_environment(text: str, name: str) -> dict[str, str]:
    """Read KEY=VALUE lines as systemd does; other keys than restic's and its places' are refused.

    Raises:
        HiveError: a line is none, or sets something else.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.strip().partition("=")
        # The line itself is a secret.
        if not equals or ENVIRONMENT.fullmatch(key) is None or key.startswith("RESTIC_PASSWORD"):
            raise HiveError(
                f"line {number} of {name} is not KEY=VALUE with a key AWS_..., RESTIC_... (no password) or ..._PROXY; "
                "correct it",
                "offsite-secret",
            )
        found[key] = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
    return found


def scrubbed(text: str) -> str:
    """Text without the user and password of a URL."""
    return CREDENTIALS.sub("//***@", text)


def trouble(rc: int | None, text: str, check: bool = False) -> HiveError | None:
    """The refusal for how restic ended; None when it ended well.

    Args:
        rc: its exit code; None when it was ended because its time was over.
        text: what it wrote to stderr.
        check: it was `restic check`, which says that the repository is damaged by a 1.
    """
    if rc == 0:
        return None
    if rc is None:
        code = "restic-timeout"
    else:
        told = next((name for name, words in WORDS if re.search(words, text, re.I)), None)
        # A code of its own says more than words, but not which of two things a 1 means.
        code = CODES.get(rc) or told or ("restic-damaged" if check and rc == 1 else "restic-failed")
    said = [_words(line.strip()) for line in scrubbed(text).splitlines() if line.strip()]
    fatal = next((line for line in reversed(said) if re.match(r"(Fatal|error)", line, re.I)), said[-1] if said else "")
    return refusal(code, "" if code in ("restic-password", "restic-timeout") else fatal[:300], rc)


def _words(line: str) -> str:
    """A line of stderr as words; from 0.17 on some are JSON."""
    try:
        found = json.loads(line)
    except ValueError:
        return line
    return str(found.get("message") or line) if isinstance(found, dict) else line


def refusal(code: str, words: str = "", rc: int | None = 0) -> HiveError:
    """The refusal with one of our codes, and what restic said itself."""
    return HiveError(f"{SENTENCES[code]}{f' ({words})' if words else ''}", code, restic_rc=rc)


def tags_of(node: str, node_id: str, manifest: Mapping[str, Any]) -> list[str]:
    """What a snapshot of a set is found by, and what it has to hold to count as whole."""
    files = manifest["files"]
    return [
        TAG,
        SET_TAG,
        f"node={node}",
        *([f"node-id={node_id}"] if node_id else []),
        f"set={manifest['id']}",
        f"bytes={sum(int(facts['bytes']) for facts in files.values())}",
        f"files={len(files)}",
    ]


def tag(snapshot: Mapping[str, Any], key: str) -> str:
    """The value of one of our tags, "" when the snapshot has none."""
    found = (item[len(key) + 1 :] for item in snapshot.get("tags") or [] if item.startswith(f"{key}="))
    return next(found, "")


def is_whole(snapshot: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]) -> bool:
    """Whether what `restic ls` lists of a snapshot is all that its tags promise; they do not count the manifest."""
    own = (f"/{tag(snapshot, 'set')}/manifest.json", f"/{tag(snapshot, 'set')}/manifest.sig")
    files = [item for item in listed if item.get("type") == "file"]
    data = [int(item.get("size") or 0) for item in files if item.get("path") not in own]
    return (
        any(item.get("path") == own[0] for item in files)
        and str(len(data)) == tag(snapshot, "files")
        and str(sum(data)) == tag(snapshot, "bytes")
    )


def forgettable(
    keep: Sequence[Mapping[str, Any]], remove: Sequence[Mapping[str, Any]], whole: Callable[[Mapping[str, Any]], bool]
) -> list[str]:
    """Ids of the snapshots to forget: what the policy removes, but never the last one that is whole.

    Args:
        keep: the snapshots that the policy keeps.
        remove: those that it does not.
        whole: looks into a snapshot; asked only until one says yes.
    """
    doomed = sorted(remove, key=lambda item: str(item["time"]))
    spared = None
    if doomed and not any(whole(item) for item in sorted(keep, key=lambda item: str(item["time"]), reverse=True)):
        spared = next((item for item in reversed(doomed) if whole(item)), None)
    return [str(item["id"]) for item in doomed if item is not spared]
