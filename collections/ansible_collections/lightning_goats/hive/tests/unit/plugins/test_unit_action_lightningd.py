"""Where the controller takes an archive from: a path, or a URL that is fetched once."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.lightning_goats.hive.plugins.action.hive_lightningd import ActionModule, foreseen
from signed_archives import Published, maintainers, publish, release_members

VERSION = "v25.12.1"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files and counts who asked for what."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with maintainers() as people:
        yield publish(tmp_path_factory.mktemp("release"), VERSION, people.get("alice"), release_members(VERSION))


@pytest.fixture
def site(release: Published) -> Iterator[tuple[str, list[str]]]:
    """A server on loopback with the release, and what it was asked for."""
    asked: list[str] = []
    handler = functools.partial(type("Counting", (Handler,), {"asked": asked}), directory=str(release.archive.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture
def action() -> ActionModule:
    return ActionModule.__new__(ActionModule)


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return {"playbook_dir": str(tmp_path / "playbooks")}


def arguments(release: Published, archive: str, **changes: str) -> dict[str, str]:
    wanted = {
        "sha256": release.sha256,
        "key": str(release.key),
        "signer": release.signer,
        "cache_dir": "var/lightningd",
    }
    return {"archive": archive, **wanted, **changes}


def test_a_path(release: Published, action: ActionModule, variables: dict[str, str]) -> None:
    archive, proven = action._verified(arguments(release, str(release.archive)), variables)
    assert (archive, proven.sha256) == (release.archive, release.sha256)


def test_a_url_is_fetched_once(
    release: Published, action: ActionModule, variables: dict[str, str], site: tuple[str, list[str]]
) -> None:
    url, asked = site
    wanted = arguments(release, f"{url}/{release.archive.name}")
    first, proven = action._verified(wanted, variables)
    again, _ = action._verified(wanted, variables)
    assert first == again
    assert first.read_bytes() == release.archive.read_bytes()
    assert proven.signer == release.signer
    assert asked.count(f"/{release.archive.name}") == 1
    assert f"/SHA256SUMS-{VERSION}.asc" in asked
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_damaged_copy_is_fetched_again(
    release: Published, action: ActionModule, variables: dict[str, str], site: tuple[str, list[str]]
) -> None:
    url, asked = site
    wanted = arguments(release, f"{url}/{release.archive.name}")
    first, _ = action._verified(wanted, variables)
    first.write_bytes(b"torn")
    again, _ = action._verified(wanted, variables)
    assert again.read_bytes() == release.archive.read_bytes()
    assert asked.count(f"/{release.archive.name}") == 2


def test_what_is_not_there_is_said(
    release: Published, action: ActionModule, variables: dict[str, str], site: tuple[str, list[str]]
) -> None:
    url, _ = site
    with pytest.raises(AnsibleActionFail, match=r"cannot be fetched .*404"):
        action._verified(arguments(release, f"{url}/{release.archive.name}", sums=f"{url}/nowhere"), variables)
    with pytest.raises(AnsibleActionFail, match="cannot be read"):
        action._verified(arguments(release, str(release.archive), key="/nonexistent/key"), variables)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"archive": ""}, "Name a release archive"),
        ({"sha256": ""}, "hive_node_archive_sha256 is empty"),
        ({"key": ""}, "hive_node_signer_key is empty"),
        ({"signer": ""}, "hive_node_signer is empty"),
    ],
)
def test_nothing_is_installed_unverified(release: Published, missing: dict[str, str], words: str) -> None:
    with pytest.raises(AnsibleActionFail, match=words):
        ActionModule._check({**arguments(release, str(release.archive)), **missing})


def test_check_mode_foresees_where_it_will_lie(release: Published, action: ActionModule, variables: Any) -> None:
    archive, proven = action._verified(arguments(release, str(release.archive)), variables)
    facts = foreseen(archive, proven, "/opt/x")
    assert facts["program"] == f"/opt/x/{release.sha256[:12]}/root/usr/bin/lightningd"
    assert facts["version"] == VERSION
