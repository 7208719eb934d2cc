"""What `docker inspect` says about lightningd's container, and what follows from it; pure."""

from __future__ import annotations

import datetime
from pathlib import PurePosixPath
from typing import Any

from .errors import HiveError

Document = dict[str, Any]

# The image's own switches for two of the three plugins.
FLAGS = {"cl-hive-comms": "HIVE_COMMS_ENABLED", "cl-hive-archon": "HIVE_ARCHON_ENABLED"}
TRUE, FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off", ""})
LABEL = "com.docker.compose."
# An entrypoint that writes lightningd's configuration does so within this time of the container's start.
ENTRYPOINT_SECONDS = 120.0


def missing(node: str, container: str) -> HiveError:
    """Return the refusal to work on a container that is not there."""
    return HiveError(
        f"there is no container {container} on the host of {node}; start it, or set hive_container to the name that "
        "`docker ps --all` shows",
        "no-container",
    )


def resolve(node: str, wanted: str, documents: list[Document]) -> Document:
    """Return the container that compose means by a name: its service, or its name with the other separator.

    Args:
        wanted: hive_container, under which there is no container.
        documents: every container of the host, as inspected.

    Raises:
        HiveError: there is none, or more than one; the names are given.
    """
    found = []
    for document in documents:
        labels = _labels(document)
        project, service = labels.get(LABEL + "project", ""), labels.get(LABEL + "service", "")
        number = labels.get(LABEL + "container-number", "1")
        if not service or labels.get(LABEL + "oneoff", "").lower() == "true":
            continue
        names = {service, f"{project}-{service}-{number}", f"{project}_{service}_{number}"}
        if wanted in names:
            found.append(document)
    running = [document for document in found if (document.get("State") or {}).get("Running")]
    if len(found) == 1:
        return found[0]
    if len(running) == 1:
        return running[0]
    if found:
        names = {str(document["Name"]).lstrip("/") for document in found}
        raise HiveError(
            f"hive_container {wanted} of {node} means {len(found)} containers ({', '.join(sorted(names))}); set it to "
            "one of these names",
            "two-containers",
        )
    raise missing(node, wanted)


def lightningd_pid(top: str) -> int:
    """Return lightningd's pid out of `docker top -eo pid,args`; 0 when it does not run."""
    for line in top.splitlines()[1:]:
        pid, *words = line.split()
        # A script runs as its interpreter, with options, and the script as the first other argument.
        script = next((word for word in words[1:] if not word.startswith("-")), "")
        interpreted = bool(words) and PurePosixPath(words[0]).name.startswith(("python", "bash", "sh", "dash"))
        program = script if interpreted else words[0] if words else ""
        if PurePosixPath(program).name == "lightningd":
            return int(pid)
    return 0


def facts_of(document: Document, image: Document | None, slots: tuple[str, str]) -> Document:
    """Return the facts of a container; no value of its environment but the two flags, which are no secrets.

    Args:
        image: the image's own document, None when it is gone.
        slots: the slots' directory on the host, and as the container should see it.
    """
    config = document.get("Config") or {}
    reference = str(config.get("Image", ""))
    digests = (image or {}).get("RepoDigests") or []
    digest = reference.partition("@")[2] or (str(digests[0]).partition("@")[2] if digests else "")
    mounts = [
        {
            "source": str(mount.get("Source", "")),
            "destination": str(mount.get("Destination", "")),
            "rw": bool(mount.get("RW")),
        }
        for mount in document.get("Mounts") or []
    ]
    labels = _labels(document)
    compose = None
    if labels.get(LABEL + "service"):
        compose = {
            "project": labels.get(LABEL + "project", ""),
            "service": labels[LABEL + "service"],
            "files": [name for name in labels.get(LABEL + "project.config_files", "").split(",") if name],
            "working_dir": labels.get(LABEL + "project.working_dir", ""),
            "version": labels.get(LABEL + "version", ""),
        }
    return {
        "id": str(document.get("Id", "")),
        "name": str(document.get("Name", "")).lstrip("/"),
        "image": reference,
        "image_id": str(document.get("Image", "")),
        "image_digest": digest or None,
        "created": str(document.get("Created", "")),
        "mounts": sorted(mounts, key=lambda mount: str(mount["destination"])),
        "compose": compose,
        "slots_mounted": sees(mounts, *slots),
        "env": {flag: flag_value(environment(document).get(flag)) for flag in FLAGS.values()},
        "databases_in_layer": [],
    }


def environment(document: Document) -> dict[str, str]:
    """Return the environment of a container; it may hold secrets and never leaves the engine."""
    pairs = ((document.get("Config") or {}).get("Env")) or []
    return {key: value for key, _, value in (str(pair).partition("=") for pair in pairs)}


def flag_value(text: str | None) -> bool | None:
    """Return a switch of the image: None when it is not set, or set to something that is neither."""
    word = (text or "").strip().lower()
    if text is None or word not in TRUE | FALSE:
        return None
    return word in TRUE


def sees(mounts: list[Document], outside: str, inside: str) -> bool:
    """Whether a container sees a directory of the host, read-only, at a path of its own."""
    mount = covering(mounts, inside)
    return mount is not None and not mount["rw"] and place_outside(mount, inside) == outside


def covering(mounts: list[Document], inside: str) -> Document | None:
    """Return the mount that a path of the container lies in; None when it lies in the container's own layer."""
    best: Document | None = None
    for mount in mounts:
        root = str(mount["destination"]).rstrip("/")
        inner = not root or inside == root or inside.startswith(root + "/")
        if inner and (best is None or len(root) > len(str(best["destination"]).rstrip("/"))):
            best = mount
    return best


def place_outside(mount: Document, inside: str) -> str:
    """Return where a path inside a mount lies on the host."""
    return str(mount["source"]).rstrip("/") + inside[len(str(mount["destination"]).rstrip("/")) :]


def started_at(document: Document) -> float:
    """Return the unix time a container was started; 0.0 when it never was."""
    text = str((document.get("State") or {}).get("StartedAt", ""))
    # Docker gives nanoseconds, Python reads microseconds.
    head, _, rest = text.rstrip("Z").partition(".")
    try:
        moment = datetime.datetime.strptime(head[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return 0.0
    digits = rest[:6]
    fraction = float(f"0.{digits}") if digits.isdigit() else 0.0
    stamp = moment.replace(tzinfo=datetime.timezone.utc).timestamp() + fraction
    return stamp if stamp > 0 else 0.0


def written_at_start(written: float, container: float, lightningd: float) -> bool:
    """Whether a file was written by what the container runs before lightningd: it is written anew at every start.

    Args:
        written: unix time of its last change.
        container: unix time of the container's start.
        lightningd: unix time of lightningd's start, 0.0 when it does not run.
    """
    if not container or written < container or written > container + ENTRYPOINT_SECONDS:
        return False
    # Process times are known to a hundredth of a second.
    return not lightningd or written <= lightningd + 0.02


def first_process(document: Document) -> str:
    """Return the name of the container's first program."""
    config = document.get("Config") or {}
    words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    return PurePosixPath(str(words[0])).name if words else ""


def _labels(document: Document) -> dict[str, str]:
    labels = (document.get("Config") or {}).get("Labels") or {}
    return {str(key): str(value) for key, value in labels.items()}
