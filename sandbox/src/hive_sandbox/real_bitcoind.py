"""One regtest bitcoind, shared by the nodes of a fleet. It listens on the loopback for RPC and for nobody else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

START_SECONDS = 60
STOP_SECONDS = 30
# Coins can be spent 100 blocks after they were mined.
MATURITY = 100


class BitcoindError(Exception):
    """bitcoind or bitcoin-cli failed; the message says what it said."""


def free_port() -> int:
    """A TCP port on the loopback that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Bitcoind:
    """bitcoind in `directory`, started when needed, found again by any later process."""

    def __init__(self, bitcoind: Path, bitcoin_cli: Path, directory: Path) -> None:
        self._bitcoind = bitcoind
        self._cli = bitcoin_cli
        self.directory = directory
        self._conf = directory / "bitcoin.conf"
        self._pid_file = directory / "bitcoind.pid"

    @property
    def cli_path(self) -> Path:
        return self._cli

    def options(self) -> dict[str, str]:
        """What lightningd must be told to reach it: {option: value}."""
        return {"bitcoin-cli": str(self._cli), "bitcoin-datadir": str(self.directory)}

    def configure(self) -> None:
        """Write its configuration, once: the port must stay what the nodes were told."""
        if self._conf.exists():
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = [
            "regtest=1",
            "server=1",
            "[regtest]",
            f"rpcport={free_port()}",
            "rpcbind=127.0.0.1",
            "rpcallowip=127.0.0.1",
            "listen=0",
            "dnsseed=0",
            "fixedseeds=0",
            "natpmp=0",
            "fallbackfee=0.00002",
            "dbcache=16",
        ]
        self._conf.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def running(self) -> bool:
        return self._ask("getblockchaininfo").returncode == 0

    def start(self) -> None:
        """Start it unless it runs, and wait until its RPC answers.

        Raises:
            BitcoindError: it did not come up.
        """
        if self.running():
            return
        self.configure()
        with (self.directory / "stderr").open("ab") as stderr:
            process = subprocess.Popen(
                [str(self._bitcoind), f"-datadir={self.directory}", f"-pid={self._pid_file}", "-printtoconsole=0"],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.running():
            if process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / "stderr").read_text(encoding="utf-8", errors="replace")[-500:]
                raise BitcoindError(f"bitcoind did not start; see {self.directory}/regtest/debug.log: {said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it, by RPC and if need be by signal, and wait until it is gone."""
        pid = self._pid()
        if self._ask("stop").returncode != 0 and pid is None:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while self.running() or (pid is not None and _runs(pid, self._bitcoind)):
            if time.monotonic() > deadline:
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.05)

    def _pid(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return pid if _runs(pid, self._bitcoind) else None

    def _ask(self, method: str, *params: str, wallet: str | None = None) -> subprocess.CompletedProcess[str]:
        which = [f"-rpcwallet={wallet}"] if wallet else []
        return subprocess.run(
            [str(self._cli), f"-datadir={self.directory}", *which, method, *params],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def call(self, method: str, *params: str, wallet: str | None = None) -> Any:
        """One RPC; params as bitcoin-cli takes them, the result decoded.

        Raises:
            BitcoindError: bitcoin-cli's exit code is not 0.
        """
        done = self._ask(method, *params, wallet=wallet)
        if done.returncode != 0:
            raise BitcoindError(f"bitcoin-cli {method} failed: {done.stderr.strip()}")
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError:
            return done.stdout.strip()

    def wallet(self) -> str:
        """The fleet's wallet, loaded, with coins that can be spent."""
        name = "fleet"
        if name not in self.call("listwallets"):
            known = [wallet["name"] for wallet in self.call("listwalletdir")["wallets"]]
            self.call("loadwallet" if name in known else "createwallet", name)
        if self.height() <= MATURITY:
            self._generate(name, MATURITY + 1)
        return name

    def mine(self, blocks: int) -> None:
        """Mine `blocks` blocks to the fleet's wallet."""
        self._generate(self.wallet(), blocks)

    def _generate(self, wallet: str, blocks: int) -> None:
        address = self.call("getnewaddress", wallet=wallet)
        self.call("generatetoaddress", str(blocks), address)

    def pay(self, outputs: dict[str, float]) -> str:
        """Send {address: BTC} and return the transaction's id; not mined yet."""
        txid: str = self.call("sendmany", "", json.dumps(outputs), wallet=self.wallet())
        return txid

    def height(self) -> int:
        height: int = self.call("getblockcount")
        return height


def _runs(pid: int, program: Path) -> bool:
    """Whether `pid` is still the program we started, and not somebody who got its number."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return program.name.encode() in command
