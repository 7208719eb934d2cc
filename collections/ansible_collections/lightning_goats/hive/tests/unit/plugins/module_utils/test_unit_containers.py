"""What follows from an inspection: facts, names, mounts, settings of a successor, compose's override."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import compose, containers
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.container_settings import (
    differences,
    settings_of,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.docker_api import endpoint_of
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError

IDENTITY = "1f2e3d4c5b6a79880123456789abcdef0123456789abcdef0123456789abcdef"
SLOTS = ("/var/lib/hive/slots", "/opt/hive/slots")


def document(name: str = "node", running: bool = True, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """An inspection as docker 20.10 writes it, of a container of the field's layout."""
    return {
        "Id": IDENTITY,
        "Name": f"/{name}",
        "Created": "2026-11-22T10:00:00.123456789Z",
        "Image": "sha256:aaaa",
        "State": {"Running": running, "Pid": 4711, "StartedAt": "2026-11-22T10:00:01.500000000Z"},
        "Config": {
            "Hostname": IDENTITY[:12],
            "Image": "ghcr.io/lightning-goats/cl-hive-node:2.10.0",
            "Env": ["HIVE_COMMS_ENABLED=true", "HIVE_ARCHON_ENABLED=off", "BITCOIN_RPCPASSWORD=secret"],
            "Entrypoint": ["/usr/local/bin/entrypoint.sh"],
            "Cmd": None,
            "Labels": {f"com.docker.compose.{key}": value for key, value in (labels or {}).items()},
            "StopTimeout": 120,
        },
        "HostConfig": {
            "Binds": ["lightning-data:/data/lightning:rw", "/etc/wireguard:/etc/wireguard:ro"],
            "Mounts": None,
            "NetworkMode": "hive_default",
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "PortBindings": {"9736/tcp": [{"HostIp": "", "HostPort": "9736"}]},
            "Links": ["/db:/node/database"],
            "ContainerIDFile": "",
        },
        "Mounts": [
            {
                "Type": "volume",
                "Name": "lightning-data",
                "Source": "/var/lib/docker/volumes/lightning-data/_data",
                "Destination": "/data/lightning",
                "RW": True,
            },
            {"Type": "bind", "Source": "/etc/wireguard", "Destination": "/etc/wireguard", "RW": False},
            {"Type": "volume", "Name": "f00", "Source": "/v/f00/_data", "Destination": "/data/boltz", "RW": True},
        ],
        "NetworkSettings": {
            "Networks": {
                "backend": {"Aliases": [IDENTITY[:12]], "IPAMConfig": None},
                "hive_default": {
                    "Aliases": ["lightning", IDENTITY[:12]],
                    "IPAMConfig": {"IPv4Address": "172.20.0.9"},
                    "NetworkID": "n1",
                    "IPAddress": "172.20.0.9",
                },
            }
        },
    }


def test_facts_hold_the_two_switches_and_nothing_else_of_the_environment() -> None:
    image = {"RepoDigests": ["ghcr.io/lightning-goats/cl-hive-node@sha256:feed"]}
    facts = containers.facts_of(document(labels={"project": "hive", "service": "lightning"}), image, SLOTS)
    assert facts["env"] == {"HIVE_COMMS_ENABLED": True, "HIVE_ARCHON_ENABLED": False}
    assert "secret" not in str(facts)
    assert facts["image_digest"] == "sha256:feed"
    assert facts["slots_mounted"] is False
    assert facts["compose"]["service"] == "lightning"


def test_an_image_that_was_built_here_has_no_digest() -> None:
    facts = containers.facts_of(document(), {"RepoDigests": []}, SLOTS)
    assert facts["image_digest"] is None
    assert facts["compose"] is None


@pytest.mark.parametrize(
    ("mounts", "seen"),
    [
        ([("/var/lib/hive/slots", "/opt/hive/slots", False)], True),
        ([("/var/lib/hive", "/opt/hive", False)], True),
        ([("/var/lib/hive/slots", "/opt/hive/slots", True)], False),
        ([("/elsewhere", "/opt/hive/slots", False)], False),
        ([("/var/lib/hive", "/opt/hive", False), ("/x", "/opt/hive/slots", False)], False),
        ([], False),
    ],
)
def test_slots_are_seen_through_the_innermost_mount_and_read_only(
    mounts: list[tuple[str, str, bool]], seen: bool
) -> None:
    found = [{"source": source, "destination": target, "rw": rw} for source, target, rw in mounts]
    assert containers.sees(found, *SLOTS) is seen


@pytest.mark.parametrize("wanted", ["lightning", "hive-lightning-1", "hive_lightning_1"])
def test_a_name_of_either_compose_finds_its_container(wanted: str) -> None:
    labels = {"project": "hive", "service": "lightning", "container-number": "1"}
    found = containers.resolve("alpha", wanted, [document("a1b2_node", labels=labels), document("other")])
    assert found["Name"] == "/a1b2_node"


def test_of_two_candidates_the_running_one_counts_and_two_running_ones_are_refused() -> None:
    labels = {"project": "hive", "service": "lightning"}
    old, new = document("old", running=False, labels=labels), document("new", labels=labels)
    assert containers.resolve("alpha", "lightning", [old, new])["Name"] == "/new"
    with pytest.raises(HiveError, match="new, second") as refused:
        containers.resolve("alpha", "lightning", [new, document("second", labels=labels)])
    assert refused.value.code == "two-containers"
    with pytest.raises(HiveError, match="hive_container") as refused:
        containers.resolve("alpha", "nothing", [new])
    assert refused.value.code == "no-container"


def test_the_successor_is_the_same_with_one_mount_more() -> None:
    settings = settings_of(document(), "image", SLOTS, {"com.docker.compose.config-hash": "1"})
    body, host = settings.body, settings.body["HostConfig"]
    assert body["Env"] == document()["Config"]["Env"]
    assert "Hostname" not in body, "it was made from the old id"
    assert host["PortBindings"] == document()["HostConfig"]["PortBindings"]
    assert host["Links"] == ["db:database"]
    assert "f00:/data/boltz:rw" in host["Binds"], "an unnamed volume would be replaced by an empty one"
    assert host["Binds"][-1] == "/var/lib/hive/slots:/opt/hive/slots:ro"
    assert body["Labels"]["com.docker.compose.config-hash"] == "1"
    # Docker takes one network when it creates a container; the others follow before it starts.
    assert body["NetworkingConfig"]["EndpointsConfig"] == {
        "hive_default": {"Aliases": ["lightning"], "IPAMConfig": {"IPv4Address": "172.20.0.9"}}
    }
    assert settings.networks == {"backend": {}}


def test_a_wrong_mount_in_the_slots_place_is_replaced() -> None:
    found = document()
    found["HostConfig"]["Binds"].append("/old:/opt/hive/slots:rw")
    binds = settings_of(found, "image", SLOTS).body["HostConfig"]["Binds"]
    assert [bind for bind in binds if ":/opt/hive/slots" in bind] == ["/var/lib/hive/slots:/opt/hive/slots:ro"]


def test_a_network_shared_with_another_container_is_no_endpoint() -> None:
    found = document()
    found["HostConfig"]["NetworkMode"] = "container:abc"
    assert "NetworkingConfig" not in settings_of(found, "image", SLOTS).body


def test_differences_name_the_setting_and_never_its_value() -> None:
    after = document()
    after["Config"]["Env"] = ["BITCOIN_RPCPASSWORD=other"]
    after["Mounts"] = after["Mounts"][1:]
    assert differences(document(), document(), SLOTS[1]) == []
    assert differences(document(), after, SLOTS[1]) == ["Env", "Mounts"]


@pytest.mark.parametrize(
    ("written", "lightningd", "regenerated"),
    [(10.0, 20.0, True), (19.9, 20.0, True), (21.0, 20.0, False), (4.0, 20.0, False), (10.0, 0.0, True)],
)
def test_a_file_written_between_both_starts_is_written_by_the_entrypoint(
    written: float, lightningd: float, regenerated: bool
) -> None:
    assert containers.written_at_start(written, 5.0, lightningd) is regenerated


def test_a_start_is_read_to_the_microsecond() -> None:
    assert containers.started_at(document()) == pytest.approx(1795341601.5)
    assert containers.started_at({"State": {"StartedAt": "0001-01-01T00:00:00Z"}}) == 0.0


def test_lightningd_is_found_as_program_and_as_script() -> None:
    assert containers.lightningd_pid("PID ARGS\n7 /usr/bin/lightningd --network=regtest\n") == 7
    assert containers.lightningd_pid("PID ARGS\n8 /usr/bin/python3 /opt/cln/bin/lightningd x\n") == 8
    assert containers.lightningd_pid("PID ARGS\n8 /usr/bin/python3 -I /opt/cln/bin/lightningd x\n") == 8
    assert containers.lightningd_pid("PID ARGS\n8 vi lightningd\n") == 0
    assert containers.lightningd_pid("PID ARGS\n9 /bin/bash /usr/local/bin/lightningd-wrapper\n") == 0


def test_the_override_is_yaml_of_the_first_files_version() -> None:
    text = compose.override_text('version: "3.8"\nservices: {}\n', "lightning", *SLOTS)
    mount = {"type": "bind", "source": SLOTS[0], "target": SLOTS[1], "read_only": True}
    assert yaml.safe_load(text) == {"version": "3.8", "services": {"lightning": {"volumes": [mount]}}}
    assert "version" not in yaml.safe_load(compose.override_text("services: {}\n", "lightning", *SLOTS))


def test_the_override_takes_no_place_of_the_operators(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    assert compose.override_place(tmp_path, [file]) == (tmp_path / "compose.override.yaml", True)
    (tmp_path / "compose.override.yaml").write_text("services: {}\n")
    assert compose.override_place(tmp_path, [file]) == (tmp_path / "compose.hive.yml", False)
    (tmp_path / "compose.override.yaml").write_text(compose.HEADER)
    assert compose.override_place(tmp_path, [file]) == (tmp_path / "compose.override.yaml", True)
    assert compose.override_place(tmp_path, [file, tmp_path / "more.yml"])[1] is False
    assert compose.override_place(tmp_path, [tmp_path / "production.yml"])[1] is False


def test_the_engine_is_where_the_command_says() -> None:
    assert endpoint_of(["docker", "-H", "unix:///run/x.sock"], {}) == "unix:///run/x.sock"
    assert endpoint_of(["docker", "--host=ssh://h"], {"DOCKER_HOST": "unix:///y"}) == "ssh://h"
    assert endpoint_of(["docker"], {"DOCKER_HOST": "unix:///y"}) == "unix:///y"
    assert endpoint_of(["docker"], {}) == ""


def test_one_services_fingerprint_is_read_from_both_versions() -> None:
    assert compose.hash_in("lightning 3e1f\n", "lightning") == "3e1f"
    assert compose.hash_in("warning: something\nlightning 3e1f\n", "lightning") == "3e1f"
    assert compose.hash_in("other 3e1f\n", "lightning") == ""
