"""The scratch node of a drill: a directory of its own, a lightningd of its own, and its end, whatever happens.

Nothing of it lies in or touches the node's own lightning directory. The lightningd is the sandbox's verified fake,
brought as an artifact with its digest and unpacked once. Everything that belongs to one drill carries that drill's mark
in its environment, so that a later run knows it again, whatever process number it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import selectors
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import _drill_warden, _unpack
from ._engine.bundle import source_of
from ._engine.commands import end_group, execute
from ._engine.errors import HiveError
from ._engine.files import canonical, disk_error, make_dir, read_json, remove_tree, write_atomic
from ._engine.machine import Machine
from ._engine.node import Node
from ._engine.processes import PROC
from ._engine.runtimes import DockerRuntime, Runtime
from ._engine.runtimes_docker import end_marked
from ._slots import BUILD_SECONDS, SHORT, stat_digest, tree_digest
from ._waiting import wait_for

# The one network that the fake plays; what the plugins keep does not depend on it.
NETWORK = "regtest"
MARK = "HIVE_DRILL_RUN"
RUN = "run-"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
DOCKER_SECONDS = 60.0


@dataclass(frozen=True)
class Artifact:
    """The scratch lightningd as it was built on the controller.

    Attributes:
        wheels: by interpreter and machine, those it needs.
        incoming: where the file lies on this machine, if it was brought.
    """

    digest: str
    wheels: dict[str, list[str]]
    incoming: Path | None = None


def home_of(node: Node) -> Path:
    """Return the directory of all drills of a node."""
    return node.state_dir / "drill"


@contextmanager
def alone(node: Node) -> Iterator[None]:
    """Let one drill work at a time; the kernel frees it when the process ends, however it ends.

    Not the engine's lock: a dead-man must not have to wait for a drill.

    Raises:
        HiveError: another drill is under way.
    """
    node.prepare()
    home = home_of(node)
    # Only where lightningd's user is another one must it be let through.
    make_dir(home, node.keeper, 0o711 if node.owner.foreign else 0o700)
    path = home / "lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise disk_error(error, path) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HiveError(f"another drill is under way on {node.name}; wait until it has ended", "drill-busy") from None
    finally:
        os.close(handle)


def sweep(node: Node, runtime: Runtime) -> list[str]:
    """End and remove what killed drills have left; return their names. Only while nobody else drills."""
    left = sorted(path.name for path in home_of(node).glob(f"{RUN}*"))
    for name in left:
        _remove_container(runtime, name)
        if not _end_marked(name):
            raise HiveError(
                f"processes {marked(name)} of the killed drill {name} do not end on {node.name}; end them, then drill "
                "again",
                "drill-left",
            )
        remove_tree(home_of(node) / name)
    return left


def marked(name: str) -> list[int]:
    """Return the processes of this machine that carry the mark of one drill."""
    wanted = f"{MARK}={name}".encode()
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The client of a container names the mark in its arguments; it is none of the node's processes.
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if wanted in (entry / "environ").read_bytes().split(b"\0") and wanted not in words:
                    found.append(int(entry.name))
    return found


def _end_marked(name: str) -> bool:
    """Kill every process of one drill; whether all of them have ended."""
    end_marked(f"{MARK}={name}")
    return wait_for(lambda: None if marked(name) else True, STOP_SECONDS) is not None


# lightningd


def program(node: Node, runtime: Runtime, artifact: Artifact) -> Path | None:
    """Return the directory of the unpacked scratch lightningd, verified; None when its file has to be brought first.

    Raises:
        HiveError: what was brought is not what the controller built, or it does not fit this node.
    """
    folder = home_of(node) / "lightningd"
    target, marker = folder / artifact.digest[:SHORT], home_of(node) / "lightningd.json"
    facts = read_json(marker)
    known = isinstance(facts, dict) and facts.get("digest") == artifact.digest and target.is_dir()
    if known and (stat_digest(target) == facts["stat_digest"] or tree_digest(target) == facts["tree_digest"]):
        return target
    if artifact.incoming is None:
        return None
    remove_tree(folder)
    make_dir(folder, node.owner, 0o755)
    copy = folder / "lightningd.pex"
    try:
        _bring(artifact, copy, node)
        _unpack_at(node, runtime, artifact, copy, target)
        copy.unlink()
        content = {"digest": artifact.digest, "stat_digest": stat_digest(target), "tree_digest": tree_digest(target)}
        write_atomic(marker, canonical(content), node.keeper)
    except OSError as error:
        remove_tree(folder)
        raise disk_error(error, copy) from error
    except HiveError:
        remove_tree(folder)
        raise
    return target


def _bring(artifact: Artifact, copy: Path, node: Node) -> None:
    """Copy the artifact beside its place, and refuse it unless the copy is the one that was built."""
    assert artifact.incoming is not None
    digest = hashlib.sha256()
    with artifact.incoming.open("rb") as source, copy.open("xb") as target:
        for chunk in iter(lambda: source.read(1 << 20), b""):
            digest.update(chunk)
            target.write(chunk)
    copy.chmod(0o644)
    if digest.hexdigest() != artifact.digest:
        raise HiveError(
            f"the scratch lightningd that arrived on {node.name} is not the one that was built; run again",
            "drill-artifact",
        )


def _unpack_at(node: Node, runtime: Runtime, artifact: Artifact, copy: Path, target: Path) -> None:
    slot = {
        "artifact": node.to_inside(copy),
        "target": node.to_inside(target),
        "script": "hive-sandbox",
        "wheels": artifact.wheels,
    }
    argv = [node.python, "-IS", "-c", source_of(_unpack.__name__.rpartition(".")[2]), json.dumps({"slots": [slot]})]
    name = f"{RUN}unpack"
    done = execute(
        _command(node, runtime, name, argv, {}), BUILD_SECONDS, _rights(node, runtime), dict(os.environ), None
    )
    _remove_container(runtime, name)
    try:
        result = json.loads(done.out) if done.rc == 0 else None
    except ValueError:
        result = None
    if not isinstance(result, dict) or "code" in result:
        said = result["message"] if isinstance(result, dict) else (done.err.strip() or f"exit status {done.rc}")
        raise HiveError(
            f"the scratch lightningd cannot be unpacked on {node.name}: {said.splitlines()[-1][:300]}; set hive_python "
            "to a Python 3.11 to 3.13 there, and see that its disk has room",
            "drill-artifact",
        )


def _command(node: Node, runtime: Runtime, name: str, argv: list[str], env: dict[str, str]) -> list[str]:
    """Return what runs `argv` where the plugins run: beside a container's lightningd in a container of its own.

    That one is of the same image, sees the slots read-only and the drills' directory, and has no network.
    """
    if not isinstance(runtime, DockerRuntime):
        return argv
    owner = node.owner
    options = ["--rm", "--interactive", "--name", _container(node, name), "--network", "none", "--cap-drop", "ALL"]
    options += ["--security-opt", "no-new-privileges", "--read-only", "--tmpfs", "/tmp"]
    options += ["--user", f"{owner.uid}:{owner.gid}", "--entrypoint", argv[0]]
    for path, mode in ((node.slots_dir, "ro"), (home_of(node), "rw")):
        options += ["--volume", f"{path}:{node.to_inside(path)}:{mode}"]
    options += [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
    return [*node.docker_cli, "run", *options, str(runtime.inspect()["Image"]), *argv[1:]]


def _container(node: Node, name: str) -> str:
    """Name the container of one drill; two nodes of a host may drill at once."""
    return f"hive-drill-{hashlib.sha256(str(node.state_dir).encode()).hexdigest()[:8]}-{name}"


def _remove_container(runtime: Runtime, name: str) -> None:
    if isinstance(runtime, DockerRuntime):
        runtime.docker(["rm", "--force", _container(runtime.node, name)], DOCKER_SECONDS)


def _rights(node: Node, runtime: Runtime) -> dict[str, Any]:
    """Return what makes a command run as lightningd's user; the docker client runs as whoever we are."""
    owner = node.owner
    if isinstance(runtime, DockerRuntime) or not owner.foreign:
        return {}
    return {"user": owner.uid, "group": owner.gid, "extra_groups": []}


# One scratch node


@dataclass
class Scratch:
    """One scratch node, from its directory to its end.

    Attributes:
        name: of this drill, and its mark.
        network: how it was kept off the network: container, namespace, or by options only.
    """

    node: Node
    runtime: Runtime
    name: str = field(default_factory=lambda: RUN + os.urandom(4).hex())
    network: str = ""
    _warden: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        return home_of(self.node) / self.name

    @property
    def scratch_node(self) -> Node:
        """The scratch node as the engine sees it: an ordinary process, whose slots are the node's own."""
        return replace(
            self.node,
            name=f"the scratch node of {self.node.name}",
            runtime="process",
            lightning_dir=self.directory / "lightning",
            network=NETWORK,
            config_file=self.directory / "lightning/config",
            lightningd=(),
            lightning_cli=(),
            container="",
            inside={key: path for key, path in self.node.inside.items() if key == "state_dir"},
            node_id="",
        )

    @property
    def network_dir(self) -> Path:
        return self.scratch_node.network_dir

    def make(self) -> None:
        """Make the directories, for the keeper alone until `give` hands them over."""
        self.directory.mkdir(mode=0o700)
        (self.directory / "lightning").mkdir(mode=0o700)
        self.network_dir.mkdir(mode=0o700)

    def put(self, source: Path, name: str, mode: int) -> str:
        """Copy one file of a set into the network directory; return the sha256 of what was copied."""
        target = self.network_dir / name
        digest = hashlib.sha256()
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            with source.open("rb") as reader, os.fdopen(handle, "wb") as writer:
                for chunk in iter(lambda: reader.read(1 << 20), b""):
                    digest.update(chunk)
                    writer.write(chunk)
                writer.flush()
                os.fsync(writer.fileno())
        except OSError as error:
            raise disk_error(error, target) from error
        return digest.hexdigest()

    def give(self) -> None:
        """Hand everything to lightningd's user."""
        owner = self.node.owner
        if owner.foreign:
            for folder, _, names in os.walk(self.directory):
                for path in (Path(folder), *(Path(folder, name) for name in names)):
                    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)

    def start(self, program_dir: Path) -> None:
        """Start lightningd and its warden; whether it answers is asked by `machine`.

        Raises:
            HiveError: not even the warden starts.
        """
        node, inside = self.node, self.node.to_inside
        argv = [inside(program_dir / "bin/python3"), "-I", "-m", "hive_sandbox.fake", f"--network={NETWORK}"]
        argv += [f"--lightning-dir={inside(self.directory / 'lightning')}", "--offline", "--alias=drill"]
        argv += [f"--log-file={inside(self.directory / 'log')}"]
        request = {
            "argv": argv,
            "directory": inside(self.directory),
            "output": inside(self.directory / "output"),
            "network": "container" if isinstance(self.runtime, DockerRuntime) else "",
        }
        source = source_of(_drill_warden.__name__.rpartition(".")[2])
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": inside(self.directory), MARK: self.name}
        command = [node.python, "-IS", "-c", source, json.dumps(request)]
        full = _command(node, self.runtime, self.name, command, {key: env[key] for key in ("HOME", MARK)})
        try:
            self._warden = subprocess.Popen(
                full,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **env} if isinstance(self.runtime, DockerRuntime) else env,
                cwd="/",
                start_new_session=True,
                **_rights(node, self.runtime),
            )
        except OSError as error:
            raise HiveError(f"cannot run {full[0]}: {error.strerror}; is it installed there?", "cannot-run") from error
        line = _first_line(self._warden, START_SECONDS)
        try:
            self.network = str(json.loads(line)["network"])
        except (ValueError, KeyError, TypeError):
            raise HiveError(
                f"the scratch lightningd of {node.name} does not start ({self._last_words() or 'it said nothing'}); "
                "see that hive_python is a Python 3.11 to 3.13 there",
                "drill-start",
            ) from None

    def _last_words(self) -> str:
        warden = self._warden
        if warden is None:
            return ""
        end_group(warden.pid)
        said = warden.communicate(timeout=STOP_SECONDS)[1].decode("utf-8", "replace").strip().splitlines()
        return said[-1][:300] if said else ""

    def machine(self, seconds: float) -> Machine:
        """Return the scratch lightningd once it answers.

        Raises:
            HiveError: it does not answer in time.
        """
        machine = Machine(self.scratch_node)
        if not machine.wait_answer(seconds):
            output = self.directory / "output"
            lines = output.read_text(errors="replace").strip().splitlines() if output.is_file() else []
            said = lines[-1][:300] if lines else "it said nothing"
            raise HiveError(
                f"the scratch lightningd of {self.node.name} does not answer ({said}); look at that machine's load, "
                "then drill again",
                "drill-start",
            )
        return machine

    def end(self) -> list[int]:
        """End everything of this drill and remove its directory; return the processes that would not end."""
        warden = self._warden
        if warden is not None:
            # Closing its stdin tells it; communicate also reads what it still says, so that it cannot hang on that.
            with contextlib.suppress(subprocess.TimeoutExpired):
                warden.communicate(timeout=STOP_SECONDS)
            if warden.poll() is None:
                end_group(warden.pid)
                warden.communicate()
        _remove_container(self.runtime, self.name)
        if marked(self.name):
            _end_marked(self.name)
        remove_tree(self.directory)
        return marked(self.name)

    def internet_sockets(self) -> list[str]:
        """Return the sockets of this drill that others could reach, or that reach others, as the kernel shows them."""
        found = set()
        for pid in marked(self.name):
            inodes = set()
            with contextlib.suppress(OSError):
                for link in (PROC / str(pid) / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        inodes.add(str(link.readlink()).partition("socket:[")[2].rstrip("]"))
            for table in ("tcp", "tcp6", "udp", "udp6"):
                with contextlib.suppress(OSError):
                    for line in (PROC / str(pid) / "net" / table).read_text().splitlines()[1:]:
                        words = line.split()
                        if words[9] in inodes and not _at_home(words[1], words[2]):
                            found.add(f"{table} {words[1]} {words[2]}")
        return sorted(found)


def _at_home(local: str, remote: str) -> bool:
    """Whether a socket is between two ends on this machine; one without other end goes by its own."""
    address = (remote if remote.strip("0:") else local).partition(":")[0]
    return address.endswith("7F") if len(address) == 8 else address == "0" * 24 + "01000000"


def _first_line(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Return the first line of a process, or what came of it in time."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline().decode("utf-8", "replace") if selector.select(seconds) else ""
