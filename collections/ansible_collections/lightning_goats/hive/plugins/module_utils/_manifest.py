# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Release manifests: their form, their signature, and the artifact they speak for.

A release is a directory ``<releases>/<name>/<version>/`` with ``manifest.json``, ``manifest.json.sig`` and the
artifact; its SBOM, which follows from the artifact, lies beside them and counts for nothing here. The signature covers
the bytes of ``manifest.json`` (``ssh-keygen -Y``, namespace ``release``), the manifest names the artifact's sha256 and
size: one signature and one hash cover everything. The same code runs on the controller, before anything is sent, and
on the node, before anything is unpacked. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1
NAMESPACE = "release"
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.json.sig"
# A manifest is a few kilobytes; a file that claims to be one and is larger than this is not read.
MAX_MANIFEST_BYTES = 1024 * 1024

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc|\.post|\.dev)[0-9]+)*(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?")
CLN_VERSION = re.compile(r"v[0-9]+(?:\.[0-9]+)*")
SHA256 = re.compile(r"[0-9a-f]{64}")
RPC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
TOPIC = re.compile(r"\*|[A-Za-z][A-Za-z0-9_-]*")
TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What lightningd keeps beside the plugins' files. No plugin may claim these: what it claims is backed up and restored.
LIGHTNINGD_FILES = ("lightningd", "lightning-rpc", "hsm_secret", "emergency.recover", "gossip_store", "config")
WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl")
TARGET = re.compile(r"cp3[0-9]{1,2}-[a-z0-9_]+")
OPTION_TYPES = ("string", "int", "bool", "flag")

# What the artifact says about itself when it is run with --hive-manifest.
PLUGIN_KEYS = frozenset(
    (
        *("name", "version", "readable_by", "schema_version", "start_order", "requires", "conflicts", "health_rpc"),
        *("rpc_methods", "options", "hooks", "subscriptions", "tables", "database", "database_option"),
        "key_files",
    )
)
# What a plugin takes over from the monolith's database; absent for one that takes nothing.
ADOPTS_KEY = "adopts"
MESSAGE = re.compile(r"[a-z][a-z0-9_]*")
# What the builder adds.
RELEASE_KEYS = frozenset(("schema", "source", "released_at", "expires_at", "artifact", "build", "python", "entry"))
# Only in manifests of plugins that are not ours: they know no --hive-manifest, and their health RPC is any method that
# answers. Says where the code came from; both values are empty when it came as an artifact.
FOREIGN_KEY = "foreign"


class ReleaseError(Exception):
    """A release that must not be used. ``code`` is stable, the message is one sentence that says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Release:
    """A release whose manifest, signature and artifact were verified."""

    manifest: dict[str, Any]
    directory: Path
    signer: str

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        return str(self.manifest["version"])

    @property
    def digest(self) -> str:
        """The sha256 of the artifact, by which a release is named everywhere."""
        return str(self.manifest["artifact"]["sha256"])

    @property
    def artifact(self) -> Path:
        return self.directory / str(self.manifest["artifact"]["file"])


def canonical(value: Any) -> bytes:
    """The one byte form of ``value``: sorted keys, no spaces, ASCII only, one newline at the end."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode("ascii")


def parse_manifest(data: bytes) -> dict[str, Any]:
    """The manifest in ``data``. Raises ReleaseError ``schema`` unless it is canonical JSON of the known schema."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise _schema(f"it is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise _schema(f"it is not JSON ({error})") from error
    validate(manifest)
    if canonical(manifest) != data:
        raise _schema("it is not in canonical form")
    return dict(manifest)


def validate(manifest: Any) -> None:
    """Raise ReleaseError ``schema`` unless ``manifest`` has exactly the keys and types of schema 1."""
    _need(isinstance(manifest, dict), "it is not an object")
    found = manifest.get("schema")
    _need(found == SCHEMA and _is_count(found), f"its schema is {found!r}, this collection reads {SCHEMA}")
    _exact_keys(
        {key: manifest[key] for key in manifest if key not in (FOREIGN_KEY, ADOPTS_KEY)},
        RELEASE_KEYS | PLUGIN_KEYS,
        "the manifest",
    )
    if FOREIGN_KEY in manifest:
        _exact_keys(manifest[FOREIGN_KEY], {"repository", "ref"}, FOREIGN_KEY)
        _need(all(isinstance(value, str) for value in manifest[FOREIGN_KEY].values()), f"{FOREIGN_KEY} names no source")
    validate_plugin(plugin_part(manifest))
    name, version = manifest["name"], manifest["version"]
    source, artifact = manifest["source"], manifest["artifact"]
    _exact_keys(source, {"commit", "dirty", "digest"}, "source")
    _need(isinstance(source["commit"], str), "source.commit is not text")
    _need(isinstance(source["dirty"], bool), "source.dirty is neither true nor false")
    _need(_matches(SHA256, source["digest"]), "source.digest is not a sha256")
    _need(_is_count(manifest["released_at"]), "released_at is not a unix time")
    expires_at = manifest["expires_at"]
    _need(expires_at is None or _is_count(expires_at), "expires_at is neither null nor a unix time")
    # The artifact lies beside its manifest under the one name that follows from it: nothing to traverse with.
    _exact_keys(artifact, {"file", "sha256", "size"}, "artifact")
    _need(artifact["file"] == f"{name}-{version}.pex", f"artifact.file is not {name}-{version}.pex")
    _need(_matches(SHA256, artifact["sha256"]), "artifact.sha256 is not a sha256")
    _need(_is_count(artifact["size"]) and artifact["size"] > 0, "artifact.size is not a number of bytes")
    _need(manifest["entry"] == f"bin/{name}", f"entry is not bin/{name}")
    _exact_keys(manifest["build"], {"python", "pex"}, "build")
    _need(all(isinstance(value, str) for value in manifest["build"].values()), "build does not name versions")
    _exact_keys(manifest["python"], {"requires", "tags", "wheels"}, "python")
    _need(isinstance(manifest["python"]["requires"], str), "python.requires is not a version range")
    tags, wheels = manifest["python"]["tags"], manifest["python"]["wheels"]
    _need(_names(tags, re.compile(r"cp3[0-9]{1,2}")) and tags != [], "python.tags names no CPython")
    _need(isinstance(wheels, dict) and all(_matches(TARGET, key) for key in wheels), "python.wheels names no machines")
    _need(sorted({key.partition("-")[0] for key in wheels}) == tags, "python.wheels is for others than python.tags")
    _need(all(_names(names, WHEEL) and names != [] for names in wheels.values()), "python.wheels names no wheels")


def plugin_part(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the plugin itself says in ``manifest``."""
    return {key: manifest[key] for key in sorted(PLUGIN_KEYS | ({ADOPTS_KEY} & set(manifest)))}


def validate_plugin(part: Any) -> None:
    """Raise ReleaseError ``schema`` unless ``part`` is what a plugin answers to --hive-manifest."""
    _need(isinstance(part, dict), "the plugin's part is not an object")
    _exact_keys({key: part[key] for key in part if key != ADOPTS_KEY}, PLUGIN_KEYS, "the plugin's part")
    if ADOPTS_KEY in part:
        _validate_adopts(part[ADOPTS_KEY])
    _need(_matches(NAME, part["name"]), f"name {part['name']!r} is not lower-case words joined by hyphens")
    _need(_matches(VERSION, part["version"]), f"version {part['version']!r} is not a version number")
    _need(_matches(VERSION, part["readable_by"]), f"readable_by {part['readable_by']!r} is not a version number")
    _need(_is_count(part["start_order"]), "start_order is not a number")
    _need(_is_count(part["schema_version"]), "schema_version is not a number")
    for key, pattern in (
        ("rpc_methods", RPC_NAME),
        ("hooks", RPC_NAME),
        ("subscriptions", TOPIC),
        ("tables", TABLE_NAME),
        ("key_files", FILE_NAME),
        ("conflicts", NAME),
    ):
        _need(_names(part[key], pattern), f"{key} is not a sorted list of names")
    _need(part["database"] == "" or _matches(FILE_NAME, part["database"]), "database is not a bare file name")
    for file in (part["database"], *part["key_files"]):
        _need(not file.startswith(LIGHTNINGD_FILES), f"{file} belongs to lightningd, not to a plugin")
    _need(part["database_option"] in ("", *_option_names(part["options"])), "database_option is not among options")
    _need(part["health_rpc"] in part["rpc_methods"], "health_rpc is not among rpc_methods")
    requires = part["requires"]
    _exact_keys(requires, {"plugins", "cln"}, "requires")
    _need(_names(requires["plugins"], NAME), "requires.plugins is not a sorted list of names")
    _need(_matches(CLN_VERSION, requires["cln"]), "requires.cln is not a version like v25.02")
    _need(isinstance(part["options"], list), "options is not a list")
    for option in part["options"]:
        _exact_keys(option, {"name", "type", "default", "dynamic", "description"}, "an option")
        name, default = option["name"], option["default"]
        _need(_matches(NAME, name), f"option name {name!r} is not lower-case words joined by hyphens")
        _need(option["type"] in OPTION_TYPES, f"option {name} has the unknown type {option['type']!r}")
        _need(default is None or isinstance(default, (str, int, bool)), f"option {name} has no plain default")
        _need(isinstance(option["dynamic"], bool), f"option {name} does not say whether it is dynamic")
        _need(isinstance(option["description"], str), f"option {name} has no description")


def _validate_adopts(adopts: Any) -> None:
    _exact_keys(adopts, {"tables", "signatures", "in_place"}, ADOPTS_KEY)
    _need(_names(adopts["tables"], TABLE_NAME), "adopts.tables is not a sorted list of names")
    _need(_names(adopts["signatures"], MESSAGE), "adopts.signatures is not a sorted list of messages")
    _need(isinstance(adopts["in_place"], bool), "adopts.in_place is neither true nor false")


def verify_signature(data: bytes, signature: Path, allowed_signers: Path, namespace: str = NAMESPACE) -> str:
    """Return the identity that signed ``data``.

    ``signature`` is the file beside the signed one, ``allowed_signers`` the ssh-keygen file of who may sign what.
    Raises ReleaseError ``unsigned``, ``signers``, ``stranger``, ``signature`` or ``ssh-keygen``.
    """
    if not signature.is_file():
        raise ReleaseError("unsigned", f"{signature} is missing: take the release again from where it was signed.")
    if not allowed_signers.is_file():
        raise ReleaseError(
            "signers",
            f"{allowed_signers}, which lists who may sign, is missing: put the maintainers' keys there.",
        )
    files = ["-s", str(signature), "-f", str(allowed_signers)]
    found = _ssh_keygen(["-Y", "find-principals", *files], b"")
    identities = found.stdout.decode(errors="replace").splitlines()
    if found.returncode != 0 or not identities:
        raise ReleaseError(
            "stranger",
            f"{signature} was not made by a key of {allowed_signers}: refuse it, or add the key if you trust it.",
        )
    checked = _ssh_keygen(["-Y", "verify", "-n", namespace, "-I", identities[0], *files], data)
    if checked.returncode != 0:
        said = (checked.stderr + checked.stdout).decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise ReleaseError(
            "signature",
            f"{signature} does not fit the file it signs for '{namespace}' ({said[-1]}): the file was changed after it "
            "was signed, take the release again.",
        )
    return identities[0]


def verify_artifact(path: Path, manifest: dict[str, Any]) -> None:
    """Raise ReleaseError ``artifact`` unless the file at ``path`` has the size and sha256 of ``manifest``."""
    expected = manifest["artifact"]
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ReleaseError("artifact", f"{path} cannot be read ({error.strerror}): take the release again.") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size != expected["size"]:
            raise ReleaseError(
                "artifact", f"{path} is not a file of {expected['size']} bytes as signed: take the release again."
            )
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != expected["sha256"]:
        raise ReleaseError(
            "artifact",
            f"{path} has sha256 {digest.hexdigest()[:12]}, {expected['sha256'][:12]} was signed: it was damaged or "
            "changed, take the release again.",
        )


def check_expiry(manifest: dict[str, Any], now: float) -> None:
    """Raise ReleaseError ``expired`` when ``manifest`` was valid only until a time before ``now`` (unix seconds)."""
    expires_at = manifest["expires_at"]
    if expires_at is not None and now >= expires_at:
        raise ReleaseError(
            "expired",
            f"{manifest['name']} {manifest['version']} was valid until {expires_at} (unix time), now is {int(now)}: "
            "have it signed again, or take a newer release.",
        )


def check_watermark(manifest: dict[str, Any], newest: int | None) -> None:
    """Raise ReleaseError ``older`` when a release of this plugin made after ``manifest`` was accepted before.

    ``newest`` is the largest ``released_at`` that the node has accepted for the plugin, None for none. Callers leave
    this out for releases of the stack that the node already ran: going back there is always allowed.
    """
    if newest is not None and manifest["released_at"] < newest:
        raise ReleaseError(
            "older",
            f"{manifest['name']} {manifest['version']} was released at {manifest['released_at']}, but this node has "
            f"accepted a release of {newest} before: take the newest release.",
        )


def read_manifest(directory: Path, allowed_signers: Path, now: float | None = None) -> tuple[dict[str, Any], str]:
    """The verified manifest in ``directory`` and its signer; looks neither at the artifact nor at the path's names.

    The signature is checked before the content is parsed. ``now`` (unix seconds) also checks the expiry.
    """
    path = directory / MANIFEST_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ReleaseError(
            "missing", f"{path} cannot be read ({error.strerror}): build the release with playbooks/release.yml."
        ) from error
    signer = verify_signature(data, directory / SIGNATURE_FILE, allowed_signers)
    manifest = parse_manifest(data)
    if now is not None:
        check_expiry(manifest, now)
    return manifest, signer


def load_release(
    directory: Path, allowed_signers: Path, name: str, version: str = "", digest: str = "", now: float | None = None
) -> Release:
    """The release in ``directory``, verified whole: signature, form, expiry (with ``now``), artifact.

    It must also be the one meant: of plugin ``name``, and of ``version`` and ``digest`` where these are not empty.
    """
    manifest, signer = read_manifest(directory, allowed_signers, now)
    for word, wanted, found in (
        ("plugin", name, manifest["name"]),
        ("version", version, manifest["version"]),
        ("digest", digest, manifest["artifact"]["sha256"]),
    ):
        if wanted and wanted != found:
            raise ReleaseError("other", f"{directory} holds {word} {found}, not {wanted}: put the right release there.")
    release = Release(manifest, directory, signer)
    verify_artifact(release.artifact, manifest)
    return release


def release_directory(releases: Path, name: str, version: str) -> Path:
    """``<releases>/<name>/<version>``. Raises ReleaseError ``name`` for anything that could leave ``releases``."""
    if not _matches(NAME, name) or not _matches(VERSION, version):
        raise ReleaseError("name", f"{name!r} {version!r} is not a plugin's name and version: correct the stack.")
    return releases / name / version


def _ssh_keygen(arguments: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=data, capture_output=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise ReleaseError("ssh-keygen", "ssh-keygen was not found: install openssh-client on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(
            "ssh-keygen", "ssh-keygen did not answer within 30 s: look at this machine's load."
        ) from error


def _schema(what: str) -> ReleaseError:
    return ReleaseError("schema", f"This is not a usable release manifest: {what}. Build the release again.")


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise _schema(what)


def _exact_keys(value: Any, keys: set[str] | frozenset[str], what: str) -> None:
    _need(isinstance(value, dict), f"{what} is not an object")
    missing, unknown = sorted(set(keys) - set(value)), sorted(set(value) - set(keys))
    _need(not missing, f"{what} lacks {', '.join(missing)}")
    _need(not unknown, f"{what} has unknown {', '.join(unknown)}")


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 128 and pattern.fullmatch(value) is not None


def _names(value: Any, pattern: re.Pattern[str]) -> bool:
    """A list of distinct matching names in order, so that equal sets have equal bytes."""
    return isinstance(value, list) and all(_matches(pattern, item) for item in value) and value == sorted(set(value))


def _option_names(options: Any) -> list[Any]:
    return [option.get("name") for option in options if isinstance(option, dict)] if isinstance(options, list) else []


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
