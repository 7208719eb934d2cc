"""Chromium without a window, spoken to over a pipe: no driver, no port, no script in the page."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_SECONDS = 120
# Chromium reads commands from the first and writes answers to the second.
COMMANDS_FD, ANSWERS_FD = 3, 4
SWITCHES = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    # Whatever a page asks for by name, nobody knows it.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def program() -> str:
    """The path of a Chromium, "" where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), "")


class Browser:
    """One Chromium with one page.

    Attributes:
        events: what it told by itself since they were cleared, for example requests and console messages.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number = 0
        self._buffer = b""
        self._session = ""
        self.events: list[Json] = []

    def attach(self) -> None:
        """Open the page that everything below works on."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Json:
        """Give a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                found: Json = answer["result"]
                return found

    def _next(self) -> Json:
        """The next message; those without an id are kept as events."""
        until = time.monotonic() + PATIENCE_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\0" not in self._buffer:
                assert selector.select(until - time.monotonic()), "Chromium does not answer"
                part = os.read(self._answers, 1 << 20)
                assert part, "Chromium ended"
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: Json = json.loads(line)
        if "id" not in message:
            self.events.append(message)
        return message

    def show(self, page: Path, width: int, scheme: str, media: str = "screen") -> None:
        """Load a page as a screen of this width in this colour scheme shows it."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as a picture, as far down as it goes."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, optimizeForSpeed=True)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A running Chromium with an empty profile; it ends with the block."""
    theirs, commands = os.pipe()
    answers, also_theirs = os.pipe()
    # So high that moving them to 3 and 4 in the child overwrites neither.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 64) for end in (theirs, also_theirs)]
    for end in (theirs, also_theirs):
        os.close(end)

    def place() -> None:
        os.dup2(ends[0], COMMANDS_FD)
        os.dup2(ends[1], ANSWERS_FD)

    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [program(), *SWITCHES, *sandbox, f"--user-data-dir={profile}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=place,  # it only moves two files
        pass_fds=(COMMANDS_FD, ANSWERS_FD),
        start_new_session=True,
    )
    for end in ends:
        os.close(end)
    made = Browser(commands, answers)
    try:
        made.attach()
        yield made
    finally:
        with suppress(OSError):
            os.close(commands)
        process.terminate()
        process.wait(timeout=30)
        os.close(answers)
