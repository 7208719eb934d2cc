"""What restic says in each version, the addresses it may be given, and what it may forget."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _restic
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError

# As restic 0.14 of Debian 12 says it (exit 1 for nearly everything), and 0.18 of Debian 13 (codes of their own).
SAID = [
    (1, "Fatal: unable to open config file: stat /r/config: no such file or directory\nIs there a repository at the "
        "following location?\n/r", "restic-missing"),
    (10, "Fatal: repository does not exist: stat /r/config: no such file", "restic-missing"),
    (1, "Fatal: wrong password or no key found", "restic-password"),
    (12, "Fatal: wrong password or no key found", "restic-password"),
    (1, "unable to create lock in backend: repository is already locked exclusively by PID 7", "restic-locked"),
    (11, "Fatal: unable to create lock in backend: repository is already locked by PID 7", "restic-locked"),
    (3, "error: open /b/x: denied\nWarning: at least one source file could not be read", "restic-incomplete"),
    (130, "", "restic-stopped"),
    (1, "Fatal: unable to open config file: Head http://127.0.0.1:1/config: dial tcp 127.0.0.1:1: connect: "
        "connection refused\nIs there a repository at the following location?", "restic-unreachable"),
    (1, "Fatal: unable to open repository at s3:https://h/b: Access Denied.", "restic-unreachable"),
    (1, "Fatal: unable to save snapshot: write /r/data/x: no space left on device", "disk-full"),
    (1, 'Ignoring "abc": no matching ID found for prefix "abc"', "no-snapshot"),
    (1, "Fatal: something new", "restic-failed"),
    (2, "panic: runtime error", "restic-failed"),
    (None, "", "restic-timeout"),
]  # fmt: skip


@pytest.mark.parametrize(("rc", "text", "code"), SAID)
def test_each_end_of_restic_has_its_code_and_a_sentence(rc: int | None, text: str, code: str) -> None:
    found = _restic.trouble(rc, text)
    assert found is not None
    assert found.code == code
    assert found.data["restic_rc"] == rc
    assert len(found.message) > 10


def test_what_newer_ones_say_as_json_is_told_as_words() -> None:
    text = '{"message_type":"exit_error","code":11,"message":"Fatal: unable to create lock in backend: PID 7 has it"}'
    found = _restic.trouble(11, text)
    assert found is not None
    assert found.message.endswith("(Fatal: unable to create lock in backend: PID 7 has it)")


def test_a_good_end_is_none_and_a_bad_check_is_damage() -> None:
    assert _restic.trouble(0, "warning: whatever") is None
    found = _restic.trouble(1, "error: pack 12: hash does not match\nFatal: repository contains errors", check=True)
    assert found is not None
    assert (found.code, "repository contains errors" in found.message) == ("restic-damaged", True)
    # That the repository cannot be reached is no damage, even when check finds it out.
    assert (
        getattr(_restic.trouble(1, "Fatal: dial tcp: connection refused", check=True), "code", "")
        == "restic-unreachable"
    )


@pytest.mark.parametrize("password", ["geheim", "an@geheim", "geheim@geheim"])
def test_no_password_of_an_address_is_repeated(password: str) -> None:
    found = _restic.trouble(1, f"Fatal: unable to open rest:http://me:{password}@vault/x: 401 Unauthorized")
    assert found is not None
    assert "geheim" not in found.message
    assert "//***@vault" in found.message


@pytest.mark.parametrize(
    "url",
    [
        "/srv/restic",
        "sftp:backup@vault.example:/srv/restic",
        "sftp:vault:restic",
        "sftp://backup@vault.example:2222//srv/restic",
        "s3:https://s3.example.com/bucket/alpha",
        "s3:s3.amazonaws.com/bucket",
        "rest:https://vault.example:8000/alpha/",
    ],
)
def test_an_address_that_can_be_used(url: str) -> None:
    assert _restic.check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relative/path",
        "sftp:vault",
        "sftp:-oProxyCommand=x:/r",
        "sftp://-oProxyCommand=x/r",
        "s3:https://s3.example.com",
        "rest:ftp://vault/",
        "rclone:any:thing",
        "/srv/with blank",
        "b2:bucket:path",
    ],
)
def test_an_address_that_is_refused(url: str) -> None:
    with pytest.raises(HiveError) as caught:
        _restic.check_url(url)
    assert caught.value.code == "restic-url"


def test_a_password_belongs_into_the_file_and_is_taken_from_there() -> None:
    url = "rest:https://me:geheim@vault.example/"
    with pytest.raises(HiveError, match="environment_file") as caught:
        _restic.check_url(url)
    assert "geheim" not in caught.value.message
    text = f"# of the vault\nRESTIC_REPOSITORY='{url}'\n\nAWS_SECRET_ACCESS_KEY=a=b\nHTTPS_PROXY=http://p:1\n"
    found = _restic.parse_environment(text, "/etc/hive/env")
    assert found == {"RESTIC_REPOSITORY": url, "AWS_SECRET_ACCESS_KEY": "a=b", "HTTPS_PROXY": "http://p:1"}
    assert _restic.check_place(found["RESTIC_REPOSITORY"]) == url


@pytest.mark.parametrize(
    "line", ["geheim", "LD_PRELOAD=/x", "RESTIC_PASSWORD=geheim", "RESTIC_PASSWORD_COMMAND=x", " =geheim"]
)
def test_a_line_that_sets_something_else_is_refused_and_not_repeated(line: str) -> None:
    with pytest.raises(HiveError, match="line 2 of /e") as caught:
        _restic.parse_environment(f"AWS_REGION=x\n{line}\n", "/e")
    assert "geheim" not in caught.value.message


@pytest.mark.parametrize(("subset", "good"), [
    ("5%", True), ("100%", True), ("0.5%", True), ("1/10", True), ("500M", True),
    ("0%", False), ("101%", False), ("0/3", False), ("", False), ("all", False),
])  # fmt: skip
def test_how_much_is_read_back(subset: str, good: bool) -> None:
    if good:
        assert _restic.check_subset(subset) == subset
    else:
        with pytest.raises(HiveError):
            _restic.check_subset(subset)


def test_the_last_snapshot_is_kept_whatever_is_asked_for() -> None:
    assert _restic.Policy(0, 0, 0, 0).arguments() == ["--keep-last=1"]
    assert _restic.Policy(-3, 2, 0, 1).arguments() == ["--keep-last=1", "--keep-daily=2", "--keep-monthly=1"]


def snapshot(name: str, time: int) -> dict[str, Any]:
    return {"id": name, "time": f"2026-01-{time:02}T00:00:00Z"}


@pytest.mark.parametrize(("kept", "removed", "whole", "forgotten"), [
    ("c", "ab", "abc", "ab"),
    ("c", "ab", "ab", "a"),  # what is kept is not whole, so the newest that is stays
    ("c", "ab", "a", "b"),
    ("c", "ab", "", "ab"),
    ("bc", "a", "ab", "a"),
    ("", "ab", "ab", "a"),
    ("abc", "", "", ""),
])  # fmt: skip
def test_the_last_whole_snapshot_is_never_forgotten(kept: str, removed: str, whole: str, forgotten: str) -> None:
    place = {name: number for number, name in enumerate("abc", 1)}
    found = _restic.forgettable(
        [snapshot(name, place[name]) for name in kept],
        [snapshot(name, place[name]) for name in removed],
        lambda item: item["id"] in whole,
    )
    assert found == list(forgotten)


def test_a_snapshot_is_whole_when_all_that_its_tags_promise_is_listed() -> None:
    manifest = {"id": "S", "files": {"p/db": {"bytes": 5}, "hive.conf": {"bytes": 2}}}
    made = {"tags": _restic.tags_of("alpha", "02ab", manifest)}
    assert {"hive", "hive-set", "node=alpha", "node-id=02ab", "set=S", "files=2", "bytes=7"} == set(made["tags"])
    listed: list[dict[str, Any]] = [
        {"type": "dir", "path": "/S"},
        {"type": "file", "path": "/S/manifest.json", "size": 99},
        {"type": "file", "path": "/S/manifest.sig", "size": 9},
        {"type": "file", "path": "/S/p/db", "size": 5},
        {"type": "file", "path": "/S/hive.conf", "size": 2},
    ]
    assert _restic.is_whole(made, listed)
    assert not _restic.is_whole(made, listed[:-1])
    assert not _restic.is_whole(made, [*listed[:-1], {**listed[-1], "size": 1}])
    assert not _restic.is_whole(made, [listed[0], *listed[2:]]), "without its manifest it is nothing"
    assert not _restic.is_whole({"tags": None}, listed)
