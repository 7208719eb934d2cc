"""A container's settings, taken from its inspection and given to its successor; pure."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]
# Networks that take no settings of a single container.
PLAIN_NETWORKS = ("", "default", "bridge", "host", "none")


@dataclass(frozen=True)
class Settings:
    """What a container is created with.

    Attributes:
        body: for the API's `containers/create`; holds the environment, so it never leaves the engine.
        networks: further networks, which it is connected to before it starts: name to endpoint.
    """

    body: Document
    networks: dict[str, Document] = field(default_factory=dict)


def settings_of(
    document: Document, image: str, slots: tuple[str, str] | None, labels: dict[str, str] | None = None
) -> Settings:
    """Return the settings of a container with one mount more; everything else as it is.

    Args:
        document: the container as inspected.
        image: the reference to create it from, which must mean the very image it runs.
        slots: the slots' directory on the host and in the container, mounted read-only; None to add nothing.
        labels: labels that change, for compose.
    """
    short = str(document["Id"])[:12]
    config: Document = copy.deepcopy(document.get("Config") or {})
    host: Document = copy.deepcopy(document.get("HostConfig") or {})
    config["Image"] = image
    # Docker names a container after its id unless told otherwise, and a new one has a new id.
    if config.get("Hostname") == short:
        del config["Hostname"]
    config["Labels"] = {**(config.get("Labels") or {}), **(labels or {})}
    host.pop("ContainerIDFile", None)
    host["Links"] = [_link(str(link)) for link in host.get("Links") or []]
    binds = [str(bind) for bind in host.get("Binds") or []]
    binds += _unnamed_volumes(document, host, binds)
    if slots is not None:
        outside, inside = slots
        binds = [bind for bind in binds if _target(bind) != inside] + [f"{outside}:{inside}:ro"]
        host["Mounts"] = [mount for mount in host.get("Mounts") or [] if mount.get("Target") != inside]
    host["Binds"] = binds
    networks = _endpoints(document, short)
    first = dict(list(networks.items())[:1])
    body = {**config, "HostConfig": host}
    if first:
        body["NetworkingConfig"] = {"EndpointsConfig": first}
    return Settings(body, dict(list(networks.items())[1:]))


def _unnamed_volumes(document: Document, host: Document, binds: list[str]) -> list[str]:
    """Return binds for volumes that the image asked for: a new container would get new, empty ones."""
    named = {_target(bind) for bind in binds} | {mount.get("Target") for mount in host.get("Mounts") or []}
    return [
        f"{mount['Name']}:{mount['Destination']}:{'rw' if mount.get('RW') else 'ro'}"
        for mount in document.get("Mounts") or []
        if mount.get("Type") == "volume" and mount.get("Name") and mount.get("Destination") not in named
    ]


def _target(bind: str) -> str:
    return bind.split(":")[1] if ":" in bind else bind


def _link(link: str) -> str:
    """Return a link as create takes it, out of the form that inspect shows (/other:/this/alias)."""
    other, _, alias = link.partition(":")
    return f"{other.lstrip('/')}:{alias.rpartition('/')[2]}"


def _endpoints(document: Document, short: str) -> dict[str, Document]:
    mode = str((document.get("HostConfig") or {}).get("NetworkMode", ""))
    if mode.startswith("container:"):
        return {}
    found: dict[str, Document] = {}
    for name, endpoint in ((document.get("NetworkSettings") or {}).get("Networks") or {}).items():
        if name in PLAIN_NETWORKS:
            continue
        kept = {key: endpoint[key] for key in ("IPAMConfig", "Links", "DriverOpts") if endpoint.get(key)}
        aliases = [alias for alias in endpoint.get("Aliases") or [] if alias != short]
        if aliases:
            kept["Aliases"] = aliases
        found[name] = kept
    # The network that it was created with comes first: docker takes only that one at creation.
    return dict(sorted(found.items(), key=lambda pair: pair[0] != mode))


def differences(before: Document, after: Document, inside: str) -> list[str]:
    """Return what of a container's settings is not as it was; the slots' mount and the id do not count.

    Only names of settings are returned, never values.
    """
    found = []
    for part, keys in (
        ("Config", ("Env", "User", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts", "StopSignal", "StopTimeout")),
        ("HostConfig", ("PortBindings", "CapAdd", "CapDrop", "SecurityOpt", "NetworkMode", "Memory", "NanoCpus")),
    ):
        old, new = before.get(part) or {}, after.get(part) or {}
        found += [key for key in keys if (old.get(key) or None) != (new.get(key) or None)]
    if before.get("Image") != after.get("Image"):
        found.append("Image")
    old_networks = set(((before.get("NetworkSettings") or {}).get("Networks")) or {})
    new_networks = set(((after.get("NetworkSettings") or {}).get("Networks")) or {})
    if old_networks != new_networks:
        found.append("Networks")
    kept = {_mount(mount) for mount in before.get("Mounts") or [] if mount.get("Destination") != inside}
    now = {_mount(mount) for mount in after.get("Mounts") or [] if mount.get("Destination") != inside}
    if kept != now:
        found.append("Mounts")
    return sorted(found)


def _mount(mount: Document) -> tuple[str, str, bool]:
    return str(mount.get("Destination")), str(mount.get("Name") or mount.get("Source")), bool(mount.get("RW"))
