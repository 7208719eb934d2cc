"""A container made anew with one mount more: everything else stays, and the old one is kept until that is confirmed.

The journal says how far it is; what docker shows says the rest. So whoever comes next, after a kill at any point, can
go on or go back: the next call, or the watcher that is started before lightningd is stopped.
"""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._waiting import wait_for
from . import channels as ch
from . import compose as compose_
from . import containers
from .container_settings import settings_of
from .database_places import links as links_of
from .docker_api import DockerApi, api_of
from .drain import STOP_SECONDS, drain, restart_seconds
from .errors import HiveError, NodeDownError, RpcRefusedError, RpcTimeoutError
from .files import canonical, make_dir, read_json, write_atomic
from .journal import Journal
from .machine import Machine
from .node import Node
from .processes import Identity, arguments, parent
from .request import Timeouts
from .runtimes_docker import DockerRuntime
from .steps import failpoint

EVENT = "container"
# Of what the journal says about a re-creation, that with which it is not open any more.
ENDS = ("done", "undone", "confirmed")
# What an image gives lightningd to stop when it says nothing itself; the field's waits for payments in flight.
STOP_TIMEOUT = 120
EXIT_SECONDS = 20.0
ANSWER_SECONDS = 300.0


class Step(str, enum.Enum):
    """The steps of a re-creation, in order; each is journaled when it is done."""

    BEGIN = "container-begin"
    STOP = "container-stop"
    RENAME = "container-rename"
    CREATE = "container-create"
    START = "container-start"
    VERIFY = "container-verify"
    DONE = "container-done"
    UNDO = "container-undo"


@dataclass
class Work:
    """One re-creation, as journal and record tell it.

    Attributes:
        old: id of the container that is replaced.
        name: the container's name, before and after.
        aside: the name under which the old one is kept.
        phase: `open`, `done`, `undone` or `confirmed`.
        facts: what was true before: node_id, channels, override, labels.
        document: the old container as inspected; holds secrets, so it is in no journal.
    """

    id: str
    rollout: str
    old: str
    name: str
    aside: str
    phase: str
    facts: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)


def latest(node: Node, journal: Journal) -> Work | None:
    """Return the newest re-creation that is open or waits for its confirmation; None when there is none."""
    found: Work | None = None
    for entry in journal.entries:
        if entry["event"] != EVENT:
            continue
        data = entry["data"]
        if data["phase"] == "open":
            found = Work(
                entry["txn"], entry["rollout"], data["old"], data["name"], data["aside"], "open", dict(data["facts"])
            )
        elif found is not None and found.id == entry["txn"] and data["phase"] in ENDS:
            found.phase = data["phase"]
    if found is None or found.phase not in ("open", "done"):
        return None
    document = read_json(record_file(node, found.id))
    found.document = document if isinstance(document, dict) else {}
    return found


def record_file(node: Node, work: str) -> Path:
    """Return where the old container's settings are kept; only root reads it, for the environment may hold secrets."""
    return node.state_dir / "container" / f"{work}.json"


class Recreation:
    """Makes one container anew, or takes that back.

    Args:
        wait_seconds: how long to wait for payments in flight before it starts.
        margin: blocks that must be left to them.
    """

    def __init__(self, node: Node, timeouts: Timeouts, wait_seconds: float = 600.0, margin: int = 18) -> None:
        self.node = node
        self.timeouts = timeouts
        self.wait_seconds = wait_seconds
        self.margin = margin
        self.machine = Machine(node, timeouts.rpc)
        runtime = self.machine.runtime
        if not isinstance(runtime, DockerRuntime):
            raise HiveError(f"{node.name} runs in no container; set hive_runtime to docker if it does", "no-container")
        self.runtime = runtime
        self.api: DockerApi = api_of(runtime)
        self.journal = Journal(node.journal_file, node.keeper)
        self.notes: list[str] = []

    # Looking

    def look(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the container's document and its facts."""
        document = self.runtime.inspect()
        image = self.runtime.image(str(document.get("Image", "")))
        slots = (str(self.node.slots_dir), self.node.to_inside(self.node.slots_dir))
        return document, containers.facts_of(document, image, slots)

    def begin(self, document: dict[str, Any], facts: dict[str, Any], rollout: str) -> Work:
        """Write down what is about to happen; nothing of the container has changed yet."""
        info = self.machine.rpc.call("getinfo")
        listed = ch.channel_facts(self.machine.rpc.call("listpeerchannels")["channels"])
        identifier = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"
        labels: dict[str, str] = {}
        written = False
        project = compose_.project_of(facts, self.node)
        if project is not None:
            written = compose_.write_override(project, self.node)
            try:
                labels = compose_.labels_for(project, self.runtime)
            except HiveError:
                if written:
                    project.override.unlink()
                raise
            hint = compose_.command_hint(project)
            self.notes += [hint] if hint else []
        name = facts["name"]
        override = str(project.override) if project is not None and written else ""
        work = Work(
            identifier,
            rollout,
            str(document["Id"]),
            name,
            f"{name}-before-{identifier[-6:]}",
            "open",
            {
                "node_id": info["id"],
                "channels": {ch.key_of(item): item["state"] for item in listed},
                "labels": labels,
                "override": override,
                "image": self._image_reference(document),
                "policy": (document.get("HostConfig") or {}).get("RestartPolicy") or {"Name": "no"},
            },
            document,
        )
        path = record_file(self.node, identifier)
        make_dir(path.parent, self.node.keeper)
        write_atomic(path, canonical(document), self.node.keeper)
        self._note(work, "open", old=work.old, name=work.name, aside=work.aside, facts=work.facts, pid=os.getpid())
        failpoint(Step.BEGIN, after=True)
        return work

    def _image_reference(self, document: dict[str, Any]) -> str:
        """Return the image's name while it still means the image that runs, else the image's id."""
        reference, running = str((document.get("Config") or {}).get("Image", "")), str(document.get("Image", ""))
        image = self.runtime.image(reference) if reference else None
        if image is not None and str(image.get("Id", "")) == running:
            return reference
        if self.runtime.image(running) is None:
            raise HiveError(
                f"the image that container {str(document['Name']).lstrip('/')} was made from is gone from its host, so "
                "it cannot be made anew; pull or load that image, then run again",
                "image-gone",
            )
        self.notes.append(f"{reference} means another image by now; the container keeps the one it ran, by its id")
        return running

    # Forward

    def forward(self, work: Work) -> None:
        """Do what is left to do, up to the proof.

        Raises:
            HiveError: something did not work; the caller takes it back.
        """
        old = self.api.inspect(work.old)
        if old is None:
            raise HiveError(f"the old container {work.aside} of {self.node.name} is gone", "no-container")
        if str(old["Name"]).lstrip("/") == work.name:
            with self._step(work, Step.STOP):
                self._stop(work, old)
            with self._step(work, Step.RENAME):
                self.api.rename(work.old, work.aside)
        fresh = self._fresh(work)
        if fresh is None:
            with self._step(work, Step.CREATE):
                self._create(work)
            fresh = self._fresh(work)
        assert fresh is not None, "it was just created"
        with self._step(work, Step.START):
            self._connect(work, fresh)
            self.api.start(str(fresh["Id"]))
        with self._step(work, Step.VERIFY):
            self._verify(work)
        failpoint(Step.DONE)
        self._note(work, "done")
        work.phase = "done"

    def _step(self, work: Work, step: Step) -> _Journaled:
        return _Journaled(self, work, step)

    def _note(self, work: Work, phase: str, **data: Any) -> None:
        self.journal.append(EVENT, {"phase": phase, **data}, work.id, work.rollout)

    def _fresh(self, work: Work) -> dict[str, Any] | None:
        """Return the new container; None when there is none yet."""
        found = self.api.inspect(work.name)
        return found if found is not None and found["Id"] != work.old else None

    def _stop(self, work: Work, old: dict[str, Any]) -> None:
        """Drain, then stop lightningd in the way its container stands, and the container with it."""
        who = self.machine.identity()
        if who is not None and self.machine.answers(self.timeouts.rpc):
            drained = drain(self.machine, restart_seconds(self.timeouts), self.wait_seconds, True, self.margin)
            self._note(work, "drained", graceful=drained["graceful"], waited_seconds=drained["waited_seconds"])
        # Docker must not start it again by itself, neither now nor while it is kept.
        self.api.restart_policy(work.old, {"Name": "no"})
        stop_container(self.machine, self.api, old, who)

    def _create(self, work: Work) -> None:
        slots = (str(self.node.slots_dir), self.node.to_inside(self.node.slots_dir))
        settings = settings_of(work.document, work.facts["image"], slots, work.facts["labels"])
        self.api.create(work.name, settings.body)

    def _connect(self, work: Work, fresh: dict[str, Any]) -> None:
        slots = (str(self.node.slots_dir), self.node.to_inside(self.node.slots_dir))
        there = ((fresh.get("NetworkSettings") or {}).get("Networks")) or {}
        for name, endpoint in settings_of(work.document, work.facts["image"], slots).networks.items():
            if name not in there:
                self.api.connect(name, str(fresh["Id"]), endpoint)
        links = links_in_layer(work.document, links_of(self.node, self.journal.entries))
        if links and not (fresh.get("State") or {}).get("Running"):
            self.api.put_links(str(fresh["Id"]), links, self.node.owner)

    def _verify(self, work: Work) -> None:
        """Prove that lightningd is the same node, with all its channels, and that it sees the slots."""
        self.runtime.forget()
        self.machine.rpc.close()
        seconds = max(self.timeouts.ready, ANSWER_SECONDS)
        if not self._answers_while_running(work, seconds):
            raise HiveError(
                f"lightningd of {self.node.name} does not answer in its new container; `docker logs {work.name}` may "
                "say why",
                "lightningd-down",
            )
        self.machine.wait_ready(self.timeouts.ready)
        info = self.machine.rpc.call("getinfo")
        if info["id"] != work.facts["node_id"]:
            raise HiveError(
                f"the new container of {self.node.name} runs node {info['id']}, not {work.facts['node_id']}",
                "other-node",
            )
        listed = ch.channel_facts(self.machine.rpc.call("listpeerchannels")["channels"])
        lost = ch.lost(work.facts["channels"], listed)
        if lost:
            raise HiveError(f"channels of {self.node.name} are missing after the restart: {lost[0]}", "channel-lost")
        if not self.look()[1]["slots_mounted"]:
            raise HiveError(f"the new container of {self.node.name} does not see the slots either", "no-mount")

    def _answers_while_running(self, work: Work, seconds: float) -> bool:
        """Wait for lightningd's answer, and no longer than its container runs."""

        def answered() -> bool | None:
            if self.machine.answers(2.0):
                return True
            state = (self.api.inspect(work.name) or {}).get("State") or {}
            return None if state.get("Running") and not state.get("Restarting") else False

        return wait_for(answered, seconds, 0.2) is True

    # Back

    def undo(self, work: Work, reason: str) -> None:
        """Bring the old container back, from wherever it was left, and wait until its lightningd answers."""
        failpoint(Step.UNDO)
        self._note(work, "undoing", reason=reason)
        fresh = self._fresh(work)
        if fresh is not None:
            who = self.machine.identity() if (fresh.get("State") or {}).get("Running") else None
            self.api.restart_policy(str(fresh["Id"]), {"Name": "no"})
            stop_container(self.machine, self.api, fresh, who)
            self.api.remove(str(fresh["Id"]))
        old = self.api.inspect(work.old)
        if old is None:
            raise HiveError(
                f"neither the old nor the new container of {self.node.name} is there; its settings are in "
                f"{record_file(self.node, work.id)}: make it anew from them, lightningd's data is where it was",
                "no-container",
            )
        if str(old["Name"]).lstrip("/") != work.name:
            self.api.rename(work.old, work.name)
        self.api.restart_policy(work.old, work.facts["policy"])
        self.api.start(work.old)
        self.runtime.forget()
        self.machine.rpc.close()
        if not self.machine.wait_answer(max(self.timeouts.ready, ANSWER_SECONDS)):
            raise HiveError(
                f"the old container {work.name} of {self.node.name} was started again and its lightningd does not "
                "answer; look at its log",
                "lightningd-down",
            )
        if work.facts["override"]:
            # With it, compose would make a container that nobody asked for any more.
            Path(work.facts["override"]).unlink(missing_ok=True)
        self._note(work, "undone", reason=reason)
        work.phase = "undone"
        self.tidy(work)

    def confirm(self, work: Work) -> None:
        """Remove the old container; its volumes stay, for the new one has them."""
        old = self.api.inspect(work.old)
        if old is not None:
            self.api.remove(work.old)
        self._note(work, "confirmed")
        work.phase = "confirmed"
        self.tidy(work)

    def tidy(self, work: Work) -> None:
        """Forget the settings that were kept."""
        path = record_file(self.node, work.id)
        if path.exists():
            path.unlink()


class _Journaled:
    """A step that is written down when it is done."""

    def __init__(self, owner: Recreation, work: Work, step: Step) -> None:
        self.owner, self.work, self.step = owner, work, step

    def __enter__(self) -> None:
        failpoint(self.step)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            failpoint(self.step, after=True)
            self.owner._note(self.work, "step", step=self.step.value)


def links_in_layer(document: dict[str, Any], links: dict[str, str]) -> dict[str, str]:
    """Return those links that lie on no mount, so that they go with the container."""
    mounts = [
        {"source": "", "destination": str(mount.get("Destination", "")), "rw": True}
        for mount in document.get("Mounts") or []
    ]
    return {path: goal for path, goal in links.items() if containers.covering(mounts, path) is None}


def stop_container(machine: Machine, api: DockerApi, document: dict[str, Any], who: Identity | None) -> None:
    """Stop a container in the way that lets lightningd end by its own `stop`.

    Where nothing but lightningd's own end can end the container, it is told by RPC. Where a supervisor would start it
    again, the container is stopped, which the image turns into `stop`; only where the supervisor has no script between
    itself and lightningd, lightningd is told first.
    """
    name = str(document["Id"])
    if not ((api.inspect(name) or {}).get("State") or {}).get("Running"):
        return
    supervised = is_supervised(document, who)
    if who is not None and supervised != "by a script":
        try:
            machine.rpc.call("stop", timeout=STOP_SECONDS)
        except (NodeDownError, RpcTimeoutError, RpcRefusedError):
            machine.rpc.close()
        machine.rpc.close()
        if machine.wait_gone(who, STOP_SECONDS) and not supervised and _ends(api, name, EXIT_SECONDS):
            return
    seconds = int((document.get("Config") or {}).get("StopTimeout") or STOP_TIMEOUT)
    api.stop(name, seconds)
    if not machine.wait_gone(who, 5.0):
        raise HiveError(
            f"lightningd of {machine.node.name} outlived its container; look at its processes before anything else",
            "lightningd-stays",
        )


def is_supervised(document: dict[str, Any], who: Identity | None) -> str:
    """Return whether a supervisor runs lightningd: "" for no, "directly", or "by a script" of the image."""
    first = int((document.get("State") or {}).get("Pid") or 0)
    if not any("supervisord" in word for word in arguments(first)[:4]):
        return ""
    above = parent(who.pid) if who is not None else 0
    return "directly" if above in (0, first) else "by a script"


def _ends(api: DockerApi, name: str, seconds: float) -> bool:
    def ended() -> bool | None:
        return None if ((api.inspect(name) or {}).get("State") or {}).get("Running") else True

    return wait_for(ended, seconds, 0.1) is not None
