"""A node in a container that is laid out as the field's: its image, its volumes, and how to ask it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.machine import Machine
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.observe import Observer
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.recreate import ContainerRequest, container
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts
from waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
FIELD = Path(__file__).parent / "field"
LABEL = "hive-docker"
INSIDE_STATE = "/opt/hive"
START_SECONDS = 60.0
TIMEOUTS = Timeouts(rpc=10.0, ready=30.0, engine=30.0)


def docker(*words: str, check: bool = True) -> str:
    """Run the docker client and return what it prints."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"docker {' '.join(words[:2])}: {done.stderr}"
    return done.stdout.strip()


@cache
def base_image() -> str:
    """Return the image of Debian's packages that the molecule machines use."""
    machines = REPOSITORY / "molecule/machines"
    argv = [str(machines / "image"), "trixie"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@cache
def software() -> str:
    """Return the directory with the verified fake, for that image."""
    machines = REPOSITORY / "molecule/machines"
    argv = [str(machines / "software"), "trixie", base_image()]
    environment = {key: value for key, value in os.environ.items() if key not in ("CLN_PREFIX", "BITCOIN_PREFIX")}
    environment["PATH"] = f"{REPOSITORY}/.venv/bin:{environment['PATH']}"
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=environment).stdout.strip()


@cache
def field_image() -> str:
    """Build the field's image, once for each state of its files."""
    parts = b"".join(path.read_bytes() for path in sorted(FIELD.iterdir())) + base_image().encode()
    tag = f"hive-docker-field:{hashlib.sha256(parts).hexdigest()[:12]}"
    # Two workers may ask at once on a new machine; built twice, the tag would move away from under a running container.
    with (REPOSITORY / ".cache/images/field.flock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False).returncode != 0:
            build(FIELD, tag, f"BASE={base_image()}")
    return tag


def build(directory: Path, tag: str, *arguments: str) -> None:
    """Build an image with the builder that is in every engine; its commands use this machine's network."""
    options = [word for argument in arguments for word in ("--build-arg", argument)]
    done = subprocess.run(
        ["docker", "build", "--quiet", "--network", "host", *options, "--tag", tag, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    assert done.returncode == 0, done.stderr


@dataclass
class FieldNode:
    """One container with its volumes.

    Attributes:
        nested: whether lightningd's directory is /data/lightning/<network>, with its own network directory in that;
            else it is /data/lightning, and its network directory /data/lightning/<network>.
        see_slots: whether the container mounts the slots from the start.
        monolith: whether the image's configuration loads the stand-in for the field's cl-hive.
    """

    root: Path
    nested: bool = True
    see_slots: bool = False
    monolith: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = f"hive-docker-{uuid.uuid4().hex[:8]}"
        self.volume = f"{self.name}-data"
        docker("volume", "create", "--label", LABEL, self.volume)
        mountpoint = Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", self.volume))
        self.inside = "/data/lightning/regtest" if self.nested else "/data/lightning"
        lightning_dir = mountpoint / "regtest" if self.nested else mountpoint
        lightning_dir.mkdir(exist_ok=True)
        self.state_dir = self.root / "hive"
        (self.state_dir / "slots").mkdir(parents=True)
        self.node = Node.from_params(
            {
                "name": "field",
                "runtime": "docker",
                "lightning_dir": str(lightning_dir),
                "network": "regtest",
                "state_dir": str(self.state_dir),
                "container": self.name,
                "config_file": str(lightning_dir / "regtest" / "config"),
                "inside": {"lightning_dir": self.inside, "state_dir": INSIDE_STATE},
                "user": "root",
            }
        )

    def settings(self) -> dict[str, str]:
        """Return the environment that the container gets."""
        return {
            "NETWORK": "regtest",
            "LIGHTNING_DIR": self.inside,
            "BITCOIN_RPCPASSWORD": "a-secret-of-the-operator",
            "HIVE_MONOLITH": str(self.monolith).lower(),
            **self.environment,
        }

    def volumes(self) -> list[str]:
        """Return the mounts of the container, as `docker run --volume` takes them."""
        mounts = [f"{self.volume}:/data/lightning", f"{software()}:/opt/cln:ro"]
        mounts += [f"{REPOSITORY}/tests/fixtures/plugins/src:/opt/cl-hive/src:ro"] if self.monolith else []
        return [*mounts, f"{self.node.slots_dir}:{INSIDE_STATE}/slots:ro"] if self.see_slots else mounts

    def run(self) -> None:
        """Start the container and wait until its lightningd is ready."""
        options = [word for key, value in self.settings().items() for word in ("--env", f"{key}={value}")]
        options += [word for mount in self.volumes() for word in ("--volume", mount)]
        options += [word for key, value in self.labels.items() for word in ("--label", f"{key}={value}")]
        docker(
            *("run", "--detach", "--name", self.name, "--label", LABEL, "--network", "none", "--restart"),
            *("unless-stopped", "--stop-timeout", "8", "--cap-add", "NET_ADMIN", *options, field_image()),
        )
        self.wait()

    def wait(self) -> None:
        """Wait until lightningd answers and all its plugins are active."""
        machine = self.machine()
        try:
            wait_until(lambda: machine.answers(2.0), START_SECONDS, f"lightningd of {self.name} answers")
            machine.wait_ready(START_SECONDS)
        finally:
            machine.rpc.close()

    def machine(self) -> Machine:
        """Return the engine's view of the node, with connections of its own."""
        return Machine(self.node, 10.0)

    def call(self, method: str, **params: Any) -> Any:
        """Call lightningd."""
        machine = self.machine()
        try:
            return machine.rpc.call(method, params)
        finally:
            machine.rpc.close()

    def open_channel(self) -> None:
        """Give the node a channel, with a peer in the same container, which has a loopback of its own."""
        peer = ["--lightning-dir=/tmp/peer", "--network=regtest"]
        daemon = ["--addr=127.0.0.1:9999", "--log-file=/tmp/peer.log", "--daemon"]
        docker("exec", self.name, "sh", "-c", 'mkdir -p /tmp/peer && exec lightningd "$@"', "sh", *peer, *daemon)
        info = json.loads(docker("exec", self.name, "lightning-cli", *peer, "-N", "none", "getinfo"))
        self.call("connect", id=info["id"], host="127.0.0.1", port=9999)
        self.call("sandbox-fund", amount=1_010_000)
        self.call("fundchannel", id=info["id"], amount=1_000_000)
        self.call("sandbox-mine")

        def usable() -> bool:
            channels = self.call("listpeerchannels")["channels"]
            return any(channel["state"] == "CHANNELD_NORMAL" for channel in channels)

        wait_until(usable, START_SECONDS, "the channel can be used")

    def observed(self) -> dict[str, Any]:
        """Return what hive_observe would."""
        return Observer(self.node).everything()

    def problems(self) -> dict[str, str]:
        """Return the problems that hive_observe would report, by code."""
        return {item["code"]: item["message"] for item in self.observed()["problems"]}

    def document(self, name: str = "") -> dict[str, Any]:
        """Return what docker says about the container."""
        found: dict[str, Any] = json.loads(docker("container", "inspect", name or self.name))[0]
        return found

    def request(self, state: str = "mounted", **more: Any) -> dict[str, Any]:
        """Call the engine as hive_container does."""
        wanted = {"allow_restart": True, "wait_seconds": 1.0, "timeouts": TIMEOUTS, **more}
        return container(self.node, ContainerRequest(state=state, rollout="test", **wanted))

    def leftovers(self) -> list[str]:
        """Return the names of the node's containers, kept ones too."""
        names = docker("ps", "--all", "--format", "{{.Names}}").split()
        return sorted(name for name in names if name.startswith(self.name))

    def remove(self) -> None:
        """Remove every container and volume of the node."""
        for name in self.leftovers():
            docker("rm", "--force", "--volumes", name, check=False)
        docker("volume", "rm", "--force", self.volume, check=False)


Maker = Callable[..., FieldNode]
