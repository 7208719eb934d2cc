"""lightning-cli for sandbox nodes: the options, output and exit codes of the real one. Standard library only.

It is started for every call, so it imports little: `json` to build and cut messages, `socket` to send them.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from typing import Any, NoReturn

VERSION = "v25.12.1"
_USAGE = """\
Usage: lightning-cli <command> [<params>...]
--conf=<file>             Specify configuration file
--lightning-dir=<dir>     Set base directory: network-specific subdirectory is
                          under here
--network <arg>           Select the network parameters (bitcoin, testnet,
                          signet, or regtest)
--testnet                 Alias for --network=testnet
--testnet4                Alias for --network=testnet4
--signet                  Alias for --network=signet
--mainnet                 Alias for --network=bitcoin
--regtest                 Alias for --network=regtest
--version|-V              Print version and exit
--rpc-file <arg>          Set JSON-RPC socket (default: "lightning-rpc")
--help|-h                 Show this message. Use the command help (without
                          hyphens -- "lightning-cli help") to get a list of all
                          RPC commands
-H|--human-readable       Human-readable output
-F|--flat                 Flatten output ('x.y.x=' format)
-J|--json                 JSON output (default unless 'help')
-R|--raw                  Raw, unformatted JSON output
-k|--keywords             Use format key=value for <params>
-o|--order                Use params in order for <params>
-N|--notifications <arg>  Set notification level, or none (default: info)
-l|--filter <arg>         Set JSON reply filter
"""
_SHORT = {
    "-h": "help", "-V": "version", "-H": "human-readable", "-F": "flat", "-J": "json", "-R": "raw", "-k": "keywords",
    "-o": "order", "-N": "notifications", "-l": "filter", "-c": "commando",
}  # fmt: skip
_WITH_VALUE = ("conf", "lightning-dir", "network", "rpc-file", "notifications", "filter", "commando")
_NETWORKS = {
    "mainnet": "bitcoin",
    "testnet": "testnet",
    "testnet4": "testnet4",
    "signet": "signet",
    "regtest": "regtest",
}
_LEVELS = ("io", "debug", "info", "unusual", "broken")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_decoder = json.JSONDecoder(strict=False)

EXIT_ERROR, EXIT_NO_CONNECTION, EXIT_USAGE = 1, 2, 3


def _fail(code: int, message: str) -> NoReturn:
    sys.stderr.write(f"lightning-cli: {message}\n")
    sys.stderr.flush()
    raise SystemExit(code)


def read_arguments(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options and what follows them: the command and its parameters."""
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and len(rest[0]) > 1:
        argument = rest.pop(0)
        name, _, value = (
            argument[2:].partition("=") if argument.startswith("--") else (_SHORT.get(argument, ""), "", "")
        )
        if name in _NETWORKS:
            name, value = "network", _NETWORKS[name]
        elif name in _WITH_VALUE and "=" not in argument:
            if not rest:
                _fail(EXIT_USAGE, f"{argument}: requires an argument")
            value = rest.pop(0)
        elif name not in (*_WITH_VALUE, *_SHORT.values()):
            _fail(EXIT_USAGE, f"{argument}: unrecognized option")
        options[name] = value
    return options, rest


def parameter(text: str) -> str:
    """Return an argument as JSON: numbers, literals, objects, arrays and quoted strings as they are, else a string."""
    if text in ("true", "false", "null") or _NUMBER.fullmatch(text):
        return text
    if text[:1] in ("{", "[", '"'):
        try:
            _, end = _decoder.raw_decode(text)
        except ValueError:
            end = -1
        if end == len(text) or text[:1] in ("{", "["):
            return text
    return json.dumps(text, ensure_ascii=False)


def request(method: str, arguments: list[str], options: dict[str, str]) -> str:
    """Return the request, blanks and all, as lightning-cli writes it."""
    keywords = "keywords" in options
    if "order" not in options and not keywords and arguments:
        keywords = bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*=.*", arguments[0], re.DOTALL))
    if keywords:
        members = []
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if not equals:
                _fail(EXIT_USAGE, f"Expected key=value in '{argument}'")
            members.append(f"{json.dumps(name)} : {parameter(value)}")
        params = "{" + ", ".join(members) + " }"
    else:
        params = "[" + ", ".join(parameter(argument) for argument in arguments) + " ]"
    wanted = f'"filter": {options["filter"]}, ' if "filter" in options else ""
    identifier = f"cli:{method}#{os.getpid()}"
    text = (
        f'{{ "jsonrpc" : "2.0", "method" : {json.dumps(method)}, "id" : {json.dumps(identifier)}, '
        f'{wanted}"params" :{params} }}'
    )
    try:
        json.loads(text, strict=False)
    except ValueError:
        _fail(EXIT_USAGE, f"Some parameters are malformed, cannot create a valid JSON-RPC request: {text}")
    return text


def connect(options: dict[str, str]) -> socket.socket:
    """Go to the network directory and connect to the socket there."""
    base = options.get("lightning-dir") or f"{os.environ.get('HOME', '')}/.lightning"
    directory = f"{base}/{options.get('network', 'bitcoin')}"
    rpc_file = options.get("rpc-file", "lightning-rpc")
    try:
        os.chdir(directory)
    except OSError as error:
        _fail(EXIT_NO_CONNECTION, f"Moving into '{directory}': {error.strerror}")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(rpc_file)
    except OSError as error:
        _fail(EXIT_NO_CONNECTION, f"Connecting to '{rpc_file}': {error.strerror}")
    return connection


def messages(connection: socket.socket) -> Any:
    """Give the text of one message after the other."""
    pending = ""
    undecoded = b""
    while True:
        try:
            data = connection.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            _fail(EXIT_NO_CONNECTION, "reading response: socket closed")
        undecoded += data
        try:
            pending, undecoded = pending + undecoded.decode(), b""
        except UnicodeDecodeError:
            continue
        while pending := pending.lstrip():
            try:
                _, end = _decoder.raw_decode(pending)
            except ValueError:
                break
            yield pending[:end]
            pending = pending[end:]


def member(text: str, name: str) -> str | None:
    """Return the text of a top-level member of the object `text`."""
    at = 1
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "}":
            return None
        key, at = _decoder.raw_decode(text, at)
        while text[at] in " \t\r\n:":
            at += 1
        _, end = _decoder.raw_decode(text, at)
        if key == name:
            return text[at:end]
        at = end


def pretty(text: str) -> str:
    """Return JSON with one member a line, three blanks a level, every token as it came."""
    out: list[str] = []
    depth = 0
    previous = ""
    for token in _TOKEN.findall(text):
        if token in "}]":
            depth -= 1
            out.append(token if previous in ("{", "[") else "\n" + "   " * depth + token)
        elif token == ",":
            out.append(",\n" + "   " * depth)
        elif token == ":":
            out.append(": ")
        else:
            if previous in ("{", "["):
                out.append("\n" + "   " * depth)
            out.append(token)
            depth += token in ("{", "[")
        previous = token
    return "".join(out)


def flat(value: Any, prefix: str) -> list[str]:
    """Return `a.b[0]=value` lines."""
    if isinstance(value, dict):
        return [line for name, entry in value.items() for line in flat(entry, f"{prefix}.{name}" if prefix else name)]
    if isinstance(value, list):
        return [line for at, entry in enumerate(value) for line in flat(entry, f"{prefix}[{at}]")]
    return [f"{prefix}={_plain(value)}"]


def human(value: Any) -> str:
    """Return `name=value` lines without structure."""
    if isinstance(value, dict):
        return "".join(f"{name}={human(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return "".join(human(entry) for entry in value)
    return f"{_plain(value)}\n"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def help_text(result: Any) -> str:
    """Return the answer to `help` as text: usage lines, or one usage."""
    rows = [str(row["command"]) for row in result["help"]]
    return "\n".join(f"{row}\n" for row in rows) if len(rows) > 1 else f"{rows[0]}\n"


def show(method: str, result: str, options: dict[str, str]) -> str:
    """Return what is printed for a result."""
    if "raw" in options:
        return result + "\n"
    value = json.loads(result, strict=False)
    if "flat" in options:
        return "".join(f"{line}\n" for line in flat(value, ""))
    simple = isinstance(value, dict) and value.get("format-hint") == "simple" and method == "help"
    if simple and "json" not in options:
        return help_text(value)
    if "human-readable" in options:
        return human(value)
    return pretty(result) + "\n"


def notify(value: dict[str, Any], level: str) -> None:
    """Print a `message` or `progress` notification, on stdout as the original does."""
    params = value.get("params", {})
    if value.get("method") == "message":
        if level in _LEVELS and _LEVELS.index(str(params.get("level", "info"))) >= _LEVELS.index(level):
            sys.stdout.write(f"# {params.get('message')}\n")
    elif value.get("method") == "progress":
        done, total = int(params.get("num", 0)) + 1, max(1, int(params.get("total", 1)))
        bar = "=" * (60 * done // total if done < total else 60)
        sys.stdout.write(f"\r# {done}/{total} |{bar:<60}|\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run lightning-cli with these arguments and return its exit code."""
    options, rest = read_arguments(arguments)
    if "version" in options:
        sys.stdout.write(VERSION + "\n")
        return 0
    if "help" in options:
        sys.stdout.write(_USAGE)
        return 0
    if "commando" in options:
        _fail(EXIT_USAGE, "the sandbox's lightning-cli does not do commando")
    if not rest:
        sys.stderr.write(_USAGE)
        return EXIT_USAGE
    method, level = rest[0], options.get("notifications", "info")
    text = request(method, rest[1:], options)
    connection = connect(options)
    if level != "none":
        enable = '{"jsonrpc":"2.0","method":"notifications","id":"cli:notifications","params":{"enable":true}}'
        connection.sendall(enable.encode())
    connection.sendall(text.encode())
    for reply in messages(connection):
        value = json.loads(reply, strict=False)
        if "id" not in value:
            notify(value, level)
            continue
        if value["id"] == "cli:notifications":
            continue
        error = member(reply, "error")
        if error is not None and error != "null":
            sys.stdout.write((error if "raw" in options else pretty(error)) + "\n")
            return EXIT_ERROR
        sys.stdout.write(show(method, member(reply, "result") or "null", options))
        return 0
    return EXIT_NO_CONNECTION
