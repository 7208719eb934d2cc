"""lightningd's configuration: the include that is ours, lines of ours elsewhere, and a candidate to validate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._engine.errors import HiveError

INCLUDE_NAME = "hive.conf"
HEADER = (
    "# Managed by Lightning Hive Rollout: plugin lines and options of exactly the active plugins.\n"
    "# Change the stack in the inventory and run rollout.yml; edits made here are reported as drift and replaced.\n"
)
MAX_DEPTH = 16
DISABLE = "disable-plugin"
# Stands before the line that keeps a plugin of the operator's own configuration off, which stays as it is.
REPLACES = "# in place of this plugin of your own configuration"
# What loads plugins, and has no value of its own that could be without an owner.
LOADERS = ("plugin", "important-plugin", "plugin-dir", "clear-plugins", DISABLE)


@dataclass(frozen=True)
class Line:
    """One line of lightningd's configuration and where it stands."""

    text: str
    file: Path
    number: int

    @property
    def key(self) -> str:
        """Name of the option; empty for comments and blank lines."""
        return "" if self.text.startswith("#") else self.text.partition("=")[0]

    @property
    def value(self) -> str:
        return self.text.partition("=")[2]


def option_text(name: str, value: Any, kind: str) -> str:
    """Return the configuration line of one option; empty for a flag that is not set.

    Raises:
        HiveError: a value that lightningd's parser would misread.
    """
    if kind == "flag":
        return name if value is True else ""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    if text != text.strip() or any(ord(letter) < 32 for letter in text):
        raise HiveError(
            f"option {name} has blanks at an end or a control character in its value; remove them", "bad-option"
        )
    return f"{name}={text}"


def render(
    stack: list[dict[str, Any]],
    entries: dict[str, str],
    kinds: dict[str, dict[str, str]],
    disabled: Iterable[str] = (),
) -> str:
    """Return the managed include of a resolved stack.

    Args:
        stack: resolved stack in start order.
        entries: real path of each plugin's entry, as lightningd sees it.
        kinds: per plugin, option name to type.
        disabled: real paths that lightningd must not load, whatever else names them: what is quarantined.
    """
    lines: list[str] = []
    for item in stack:
        if not item["enabled"]:
            continue
        name = item["name"]
        lines.append(f"# {name} {item['version']}")
        lines.append(f"plugin={entries[name]}")
        lines += _kept_off(item.get("replaces", []))
        for option, value in sorted(item["options"].items()):
            values = value if isinstance(value, list) else [value]
            texts = [option_text(option, single, kinds.get(name, {}).get(option, "string")) for single in values]
            lines += [text for text in texts if text]
    for path in disabled:
        lines += ["# quarantined: lightningd died with it", f"{DISABLE}={path}"]
    return HEADER + "".join(f"{line}\n" for line in lines)


def bare(replaced: Iterable[str]) -> str:
    """Return a managed include without any plugin of ours, that still keeps off whose place they have taken."""
    return HEADER + "".join(f"{line}\n" for line in _kept_off(replaced))


def _kept_off(paths: Iterable[str]) -> list[str]:
    # lightningd follows links to it, and a mere file name would keep off plugins of other directories too.
    return [line for path in paths for line in (REPLACES, f"{DISABLE}={path}")]


def split(text: str) -> list[str]:
    """Return the lines as lightningd counts them."""
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    return [line[:-1] if line.endswith("\r") else line for line in lines]


def parse_include(text: str) -> tuple[list[str], dict[str, Any]]:
    """Return the plugin paths and the options of a managed include; a flag has the value True."""
    plugins: list[str] = []
    options: dict[str, Any] = {}
    for line in split(text):
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if key == DISABLE:
            continue
        if key == "plugin":
            plugins.append(value)
        elif key in options:
            first = options[key]
            options[key] = [*first, value] if isinstance(first, list) else [first, value]
        else:
            options[key] = value if equals else True
    return plugins, options


def parse_replaced(text: str) -> dict[str, list[str]]:
    """Return, by the path of a plugin of ours, the paths of the operator's own whose place it takes."""
    found: dict[str, list[str]] = {}
    entry = before = ""
    for line in split(text):
        key, _, value = line.partition("=")
        if key == "plugin":
            entry = value
        elif key == DISABLE and before == REPLACES:
            found.setdefault(entry, []).append(value)
        before = line
    return found


def has_include(text: str) -> bool:
    """Whether a configuration includes our file."""
    return any(line in (f"include {INCLUDE_NAME}", f"include={INCLUDE_NAME}") for line in split(text))


def add_include(text: str) -> str:
    """Return the configuration with our include as its last line."""
    if has_include(text):
        return text
    joint = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{joint}include {INCLUDE_NAME}\n"


def drop_include(text: str) -> str:
    """Return the configuration without our include; everything else stays byte for byte."""
    kept = [
        line
        for line in text.splitlines(keepends=True)
        if line.strip() not in (f"include {INCLUDE_NAME}", f"include={INCLUDE_NAME}")
    ]
    return "".join(kept)


def include_target(line: str) -> str:
    """Return the file name of an include line; empty for other lines."""
    for prefix in ("include ", "include="):
        if line.startswith(prefix):
            return line[len(prefix) :].strip()
    return ""


def flatten(file: Path, text: str, replaced: dict[Path, str], depth: int = 0) -> list[Line]:
    """Return a configuration with its includes written out in place.

    Args:
        file: where `text` stands; includes are relative to it.
        replaced: contents to take instead of what files hold now.
    """
    lines: list[Line] = []
    for number, line in enumerate(split(text), 1):
        target = include_target(line)
        path = file.parent / target if target else file
        content = None if not target or depth >= MAX_DEPTH else read_config(path, replaced)
        if content is None:
            lines.append(Line(line, file, number))
        else:
            lines += flatten(path, content, replaced, depth + 1)
    return lines


def read_config(path: Path, replaced: dict[Path, str]) -> str | None:
    """Return the text of a configuration file, or None when it does not exist."""
    if path in replaced:
        return replaced[path]
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except PermissionError:
        raise HiveError(f"{path} cannot be read; run as its owner or as root (ansible_become)", "not-allowed") from None


def explicit_conf(argv: Iterable[str]) -> str:
    """Return the file that lightningd was told to read with --conf; empty when it reads its default files."""
    words = list(argv)
    for index, word in enumerate(words):
        if word.startswith("--conf="):
            return word[len("--conf=") :]
        if word == "--conf" and index + 1 < len(words):
            return words[index + 1]
    return ""


def without_conf(argv: Iterable[str]) -> list[str]:
    """Return an argv for validation: without --conf, and without --daemon, which would fork first."""
    kept: list[str] = []
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word == "--conf":
            skip = True
        elif not word.startswith("--conf=") and word != "--daemon":
            kept.append(word)
    return kept


def all_lines(config_file: Path, network_dir: Path, explicit: bool, replaced: dict[Path, str]) -> list[Line]:
    """Return every line lightningd reads, in the order it reads them: the top file, then the network's (which wins).

    Args:
        explicit: whether lightningd was started with --conf, which replaces both default files.
    """
    network_file = network_dir / "config"
    # Where something writes the top file anew at every start, our include stands in the network's.
    top = network_dir.parent / "config" if config_file == network_file else config_file
    files = [config_file] if explicit else [top, network_file]
    return [line for file in files for line in flatten(file, read_config(file, replaced) or "", replaced)]


def setconfig_file(config_file: Path, network_dir: Path, explicit: bool) -> Path:
    """Return where `setconfig` persists values: beside the network's config, or beside the --conf file."""
    if explicit:
        return config_file.with_name(config_file.name + ".setconfig")
    return network_dir / "config.setconfig"


def clear_options(text: str, names: set[str]) -> tuple[str, dict[int, str]]:
    """Return a configuration with the lines of these options blanked out, and those lines by their number.

    A comment takes the place of each, because a running lightningd remembers by number which line it may rewrite.
    """
    lines = text.splitlines(keepends=True)
    gone: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        key = line.rstrip("\r\n").partition("=")[0]
        if key in names:
            gone[number] = line
            lines[number - 1] = f"# {key} was cleared by Lightning Hive Rollout\n"
    return "".join(lines), gone


def put_back(text: str, gone: dict[int, str]) -> str:
    """Return a configuration with cleared lines where they were, unless something else stands there now."""
    lines = text.splitlines(keepends=True)
    for number, line in gone.items():
        if number <= len(lines) and lines[number - 1].endswith("was cleared by Lightning Hive Rollout\n"):
            lines[number - 1] = line
    return "".join(lines)


def find_strays(lines: list[Line], names: set[str], include: Path, directories: tuple[str, ...]) -> list[Line]:
    """Return our options and plugin lines that stand outside the managed include.

    Args:
        names: option names of our plugins, active or not.
        include: the managed include.
        directories: where our slots lie; a plugin line into them elsewhere is a stray as well.
    """
    found = []
    for line in lines:
        if line.file == include:
            continue
        plugin = line.key in ("plugin", "important-plugin") and any(line.value.startswith(root) for root in directories)
        if plugin or line.key in names:
            found.append(line)
    return found


def explain(stderr: str, candidate: str, lines: list[Line]) -> str:
    """Return lightningd's complaint with the candidate's line number replaced by the real file and line."""
    message = ""
    for text in stderr.splitlines():
        if "lightningd: " in text or not message:
            message = text.strip()
    message = message.partition("lightningd: ")[2] or message
    marker = f"Config file {candidate} line "
    if marker in message:
        before, _, after = message.partition(marker)
        number, _, rest = after.partition(":")
        if number.isdigit() and 0 < int(number) <= len(lines):
            line = lines[int(number) - 1]
            shown = rest.partition("=")[0] if "=" in rest else rest
            return f"{before}{line.file} line {line.number}:{shown}{_reason(rest)}"
    return message


def _reason(rest: str) -> str:
    """Return lightningd's words about a line without the value, which may be a secret."""
    if "=" not in rest:
        return ""
    return ": " + rest.rpartition(": ")[2] if ": " in rest else ""
