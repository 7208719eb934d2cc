"""From the command line to a running node, step by step in lightningd's order, and back to an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from .builtin import add_builtin_plugins
from .configfile import ConfigLine, from_arguments, read
from .database import FILE as DATABASE_FILE
from .database import Database
from .errors import StartError
from .keys import FILE as SECRET_FILE
from .keys import NodeKeys, default_alias
from .node import Node
from .options import Option, core_options
from .releases import DEFAULT, RELEASES, Release
from .usage import FEATURES, usage

NETWORKS = ("bitcoin", "testnet", "testnet4", "signet", "regtest")
_ALIASES = {
    "mainnet": "bitcoin",
    "testnet": "testnet",
    "testnet4": "testnet4",
    "signet": "signet",
    "regtest": "regtest",
}
_RUNNING_ALREADY = 11
_OTHER_WALLET = 30
# Which option the fake could only pretend to have.
_NOT_DONE = ("wallet", "recover", "proxy", "tor-service-password", "always-use-proxy", "subdaemon", "hsm-passphrase")


@dataclass(frozen=True)
class Plan:
    """What the command line and the config files say, before anything is done about it."""

    release: Release
    lightning_dir: Path
    network: str
    lines: list[ConfigLine]
    options: dict[str, Option]

    def flag(self, name: str) -> bool:
        """Whether a flag is set anywhere."""
        return any(line.name == name for line in self.lines)


def plan(arguments: list[str]) -> Plan:
    """Read the command line and the config files.

    Raises:
        StartError: they do not make sense.
    """
    release = DEFAULT
    if arguments and arguments[0].startswith("--sandbox-cln="):
        wanted = arguments[0].partition("=")[2]
        if wanted not in RELEASES:
            raise StartError(f"lightningd: the sandbox's fake plays {', '.join(RELEASES)}, not {wanted}")
        release, arguments = RELEASES[wanted], arguments[1:]
    options = {option.name: option for option in core_options(release.version)}
    given = from_arguments(arguments, frozenset(o.name for o in options.values() if o.takes_value))
    conf = next((line.value for line in reversed(given) if line.name == "conf"), None)
    if conf is not None:
        path = Path(conf).resolve()
        # Absolute from here on: lightningd leaves the directory in which it was started.
        given = [replace(line, value=str(path)) if line.name == "conf" else line for line in given]
        lines = read(path, must_exist=True)
        lightning_dir, network = _where(given, lines)
    else:
        lightning_dir, _ = _where(given, [])
        lines = read(lightning_dir / "config", must_exist=False)
        _, network = _where(given, lines)
        own = read(lightning_dir / network / "config", must_exist=False)
        for line in own:
            if line.name in ("network", "lightning-dir", "conf", *_ALIASES):
                raise line.error("not permitted in network-specific configuration files")
        lines += own
    return Plan(release, lightning_dir, network, lines + given, options)


def _where(given: list[ConfigLine], lines: list[ConfigLine]) -> tuple[Path, str]:
    """Return lightning-dir and network; the command line wins over the file."""
    lightning_dir, network = Path.home() / ".lightning", "bitcoin"
    for line in lines + given:
        if line.name == "lightning-dir" and line.value:
            lightning_dir = Path(line.value).expanduser().resolve()
        elif line.name == "network":
            if line.value not in NETWORKS:
                raise line.error(f"'{line.value}' is not a known network")
            network = line.value
        elif line.name in _ALIASES:
            network = _ALIASES[line.name]
    return lightning_dir, network


def check_core_lines(plan: Plan) -> None:
    """Refuse values that do not fit lightningd's own options. Unknown names wait for the plugins.

    Raises:
        StartError: naming the place.
    """
    developer = plan.flag("developer")
    for line in plan.lines:
        option = plan.options.get(line.name)
        if option is None:
            continue
        if line.name.startswith("dev-") and not developer:
            raise line.error("requires --developer")
        try:
            value = option.parse(line.value)
        except ValueError as error:
            raise line.error(str(error)) from None
        if line.name in _NOT_DONE and value:
            raise line.error("the sandbox's fake lightningd does not do this option: use a real one")
    if plan.network != "regtest":
        raise StartError(
            f"lightningd: the sandbox's fake plays regtest only, not {plan.network}: say --network=regtest"
        )


def prepare(node: Node, plan: Plan) -> None:
    """Make the directories, set log level, and register options and plugins.

    Raises:
        StartError: a plugin line names no plugin.
    """
    _make_directories(node)
    os.chdir(node.network_dir)
    node.options.register(plan.options.values())
    node.options.lines = plan.lines
    for line in plan.lines:
        if line.name == "log-level" and (wrong := node.log.set_level(line.value or "")):
            raise line.error(wrong)
        if line.name == "disable-plugin":
            node.plugins.disabled.add(line.value or "")
        if line.name == "clear-plugins":
            node.crash("opt_clear_plugins")
    node.faults.load(node.lightning_dir)
    add_builtin_plugins(node)
    _register_plugins(node, plan)


def _make_directories(node: Node) -> None:
    if not node.network_dir.is_dir():
        node.lightning_dir.mkdir(parents=True, exist_ok=True)
        node.network_dir.mkdir(mode=0o700, parents=True)
        node.log.info("lightningd", f"Creating configuration directory {node.network_dir}")


def _register_plugins(node: Node, plan: Plan) -> None:
    directories = [node.lightning_dir / "plugins"]
    for line in plan.lines:
        if line.name == "plugin-dir":
            directories.append(Path(line.value or ""))
        elif line.name in ("plugin", "important-plugin"):
            name = line.value or ""
            try:
                node.plugins.register(name, important=line.name == "important-plugin")
            except OSError as error:
                raise line.error(f"Failed to register {name}: {error.strerror}") from None
    for directory in directories:
        for path in executables(directory):
            with contextlib.suppress(FileExistsError):
                node.plugins.register(str(path))


def executables(directory: Path) -> list[Path]:
    """Return the files in a plugin directory that lightningd would start."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.is_file() and os.access(path, os.X_OK))


def check_all_lines(node: Node) -> None:
    """Refuse options that neither lightningd nor a plugin has, now that the plugins have said theirs.

    Raises:
        StartError: naming the place.
    """
    helped = False
    for line in node.options.lines:
        # --help ends the reading of the command line: what stands behind it is never looked at.
        helped = helped or (line.name == "help" and line.source == "cmdline")
        option = node.options.options.get(line.name)
        if option is None and helped:
            continue
        if option is None:
            raise line.error("unknown option")
        try:
            option.parse(line.value)
        except ValueError as error:
            raise line.error(str(error)) from None
    if node.options.value("daemon") and not node.options.value("log-file"):
        raise StartError("--daemon needs --log-file")


def lock_pid_file(node: Node) -> None:
    """Take the lock of the pid file and write the pid.

    Raises:
        StartError: another lightningd holds it.
    """
    path = Path(node.options.value("pid-file") or node.lightning_dir / f"lightningd-{node.network}.pid")
    node.pid_file = path
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        reason = f"lightningd: lightningd already running? Error locking PID file: {error.strerror}"
        raise StartError(reason, _RUNNING_ALREADY) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    node.pid_descriptor = descriptor


def open_wallet(node: Node) -> None:
    """Load or make the secret and the database.

    Raises:
        StartError: they do not fit together, or are of another version.
    """
    node.keys, new = NodeKeys.load(node.network_dir / SECRET_FILE)
    node.database, created = Database.open(
        node.network_dir / DATABASE_FILE,
        node.release.database_version,
        node.release.version,
        may_upgrade=node.options.value("database-upgrade") is not False,
    )
    if created:
        node.log.info("lightningd", "Creating database")
    if new:
        node.log.unusual("hsmd", "HSM: created new hsm_secret file")
        _write_beside(node)
    node_id = bytes.fromhex(node.keys.node_id)
    _, known = node.database.variable("node_id")
    if known is None:
        node.database.set_variable("node_id", blob=node_id)
    elif known != node_id:
        raise StartError("lightningd: Wallet sanity check failed.", _OTHER_WALLET)
    node.options.options["alias"].default = default_alias(node.keys.node_id)
    node.options.options["rgb"].default = node.keys.node_id[:6]
    node.options.options["pid-file"].default = str(node.pid_file)
    node.load_state()


def _write_beside(node: Node) -> None:
    """Make the other files that stand in a network directory."""
    for name, mode, content in (
        ("emergency.recover", 0o400, node.keys.make_secret(b"scb")),
        ("gossip_store", 0o600, b"\x10"),
    ):
        path = node.network_dir / name
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)


async def run(plan: Plan, started: int | None) -> int:
    """Start the node and run it to its end.

    Args:
        plan: from the command line.
        started: descriptor on which the waiting parent of --daemon hears that the start succeeded.

    Returns:
        the exit code.

    Raises:
        StartError: it does not start.
    """
    node = Node(plan.release, plan.lightning_dir, plan.network)
    try:
        prepare(node, plan)
        node.log.open([str(Path(path)) for path in node.options.value("log-file")])
        node.log.info("lightningd", node.release.version)
        node.log.on_warning = node.topics.warning
        await node.plugins.start_all()
        check_all_lines(node)
        if node.options.value("help"):
            print(usage(node.options), end="")  # noqa: T201
            return 0
        if node.options.value("offline"):
            node.log.info("lightningd", "Started in offline mode!")
        lock_pid_file(node)
        open_wallet(node)
        if not node.options.value("offline"):
            await node.peers.listen(node.options.value("addr") + node.options.value("bind-addr"))
        _handle_signals(node)
        await node.rpc.listen(node.options.value("rpc-file"), int(node.options.value("rpc-file-mode"), 8))
        await node.plugins.init_all()
        alias, color = node.options.value("alias"), node.options.value("rgb")
        node.log.info(
            "lightningd",
            f"Server started with public key {node.keys.node_id}, alias {alias} (color #{color}) "
            f"and lightningd {node.release.version}",
        )
        if started is not None:
            os.write(started, b"\0")
            _leave_terminal()
        node.begin()
        return await node.exit_code
    finally:
        for plugin in list(node.plugins.all):
            plugin.close_input()


def _handle_signals(node: Node) -> None:
    """SIGHUP reopens the log; SIGTERM and SIGINT kill, except that process 1 has to do it itself."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, node.log.reopen)
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _exit_as_init, number)


def _exit_as_init(number: signal.Signals) -> None:
    print(f"lightningd: {number.name} caught, exiting.", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(1)


def _leave_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def main(arguments: list[str]) -> int:
    """Run lightningd with this command line and return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        made = plan(arguments)
        if made.flag("version"):
            print(made.release.version)  # noqa: T201
            return 0
        check_core_lines(made)
        if made.flag("list-features-only"):
            print(FEATURES)  # noqa: T201
            return 0
        started = None
        if made.flag("daemon") and not made.flag("help"):
            started, code = _fork_daemon()
            if code is not None:
                return code
        # Not asyncio.run: it would cancel and await what is under way, and the process ends here anyway.
        return asyncio.new_event_loop().run_until_complete(run(made, started))
    except StartError as error:
        print(error.message, file=sys.stderr, flush=True)  # noqa: T201
        return error.code


def _fork_daemon() -> tuple[int, int | None]:
    """Fork; the parent gets its exit code once the child runs or has failed, the child None."""
    heard, says = os.pipe()
    child = os.fork()
    if child:
        os.close(says)
        if os.read(heard, 1):
            return says, 0
        _, status = os.waitpid(child, 0)
        return says, os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1
    os.close(heard)
    os.setsid()
    return says, None
