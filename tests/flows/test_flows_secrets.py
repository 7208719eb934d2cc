"""A secret option goes into one node and nowhere else: no output, report, journal, backup list, diff or leftover."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flows.flow_fleet import PLUGIN, Fleet, Shelf

SECRETS = ("Wenn-ist-das-Nunstueck-git", "Slotermeyer-Ja-Beiherhund")
# lightningd's own configuration has to hold it, and the node's vault from which the dead-man could bring it back.
ALLOWED = {"hive.conf", "secrets.json"}


@pytest.fixture(scope="module")
def node(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("secrets"), shelf)
    shelf.build(("with-token", "0.8.0"), ("with-token", "0.8.1"))
    fleet.up(1)
    yield fleet
    fleet.down()


def stack(version: str, secret: str) -> list[dict[str, object]]:
    return [{"name": PLUGIN, "version": version, "options": {f"{PLUGIN}-token": secret, f"{PLUGIN}-note": "seen"}}]


def holders(directory: Path, secret: str) -> set[str]:
    """The names of the files below a directory that hold the secret."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.name for path in files if secret.encode() in path.read_bytes()}


def test_a_whole_life_without_a_word_of_it(node: Fleet, tmp_path: Path) -> None:
    """As loud as Ansible can be, with its own output and with ours; also when a switch fails."""
    ours = {"ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log"), "ANSIBLE_LOCAL_TEMP": str(tmp_path)}
    loudest = {**ours, "ANSIBLE_STDOUT_CALLBACK": "default"}
    loud = ("-vvv", "--diff")
    first, second = SECRETS

    def runs(secret: str) -> bool:
        return bool(node.cli("alpha", f"{PLUGIN}-status")["options"][f"{PLUGIN}-token"] == secret)

    # In the inventory, where it belongs: what is typed behind -e is in the process list and in Ansible's own words.
    node.host("alpha", hive_stack=stack("0.8.0", first))
    node.more_environment = loudest
    texts = [node.good("rollout", "--check", *loud).text, node.good("rollout", *loud).text]
    assert runs(first)
    node.host("alpha", hive_stack=stack("0.8.1", second))
    texts.append(node.good("rollout", *loud).text)
    assert runs(second)
    node.more_environment = ours
    texts += [node.good("status", *loud).text, node.good("rollback", *loud).text]
    assert runs(first)
    node.more_environment = {**loudest, "HIVE_FAULTS": "1", "HIVE_FAILPOINT": "verify:error"}
    texts.append(node.bad("rollout", *loud).text)
    assert runs(first)
    node.more_environment = loudest
    texts.append(node.good("uninstall", *loud).text)
    (node.inventory / "host_vars/alpha.yml").unlink()
    for secret in SECRETS:
        for number, text in enumerate(texts):
            assert secret not in text, f"run {number}"
        assert holders(node.sandbox, secret) <= ALLOWED
        assert holders(node.reports, secret) == set()
        assert holders(tmp_path, secret) == set()
    assert f"{PLUGIN}-token" in "".join(texts), "the option is named, its value is not"
