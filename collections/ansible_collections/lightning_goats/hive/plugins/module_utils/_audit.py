# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Whether anything that a release carries has a known vulnerability: pip-audit over a database on this machine.

The database is what OSV or PyPA publish: a directory or a zip of advisories in OSV's form, as JSON or YAML. How old it
is says the newest advisory in it, not the file's time, which a copy changes. Controller only.
"""

from __future__ import annotations

import contextlib
import json
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from pip_audit._service import VulnerabilityService  # type: ignore[import-untyped]

Json = dict[str, Any]

DAY = 86400
MAX_ADVISORY_BYTES = 8 << 20
SUFFIXES = (".json", ".yaml", ".yml")
ECOSYSTEM = "PyPI"
ONLINE_SECONDS = 30


@dataclass(frozen=True)
class Found:
    """A known vulnerability of something that a release carries."""

    package: str
    version: str
    name: str
    aliases: tuple[str, ...]
    fixed_in: tuple[str, ...]
    summary: str

    def as_json(self) -> Json:
        """For evidence."""
        return {
            "package": self.package,
            "version": self.version,
            "id": self.name,
            "aliases": list(self.aliases),
            "fixed_in": list(self.fixed_in),
            "summary": self.summary,
        }

    @property
    def sentence(self) -> str:
        """For people."""
        remedy = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fixed version is known"
        return f"{self.package} {self.version} has {self.name}: {remedy}"


@dataclass
class Database:
    """The advisories that can matter, by canonical package name.

    Attributes:
        modified_at: unix time of the newest advisory of the whole database.
        digest: sha256 over all of it, by the digests of its advisories.
    """

    advisories: dict[str, list[Json]] = field(default_factory=dict)
    count: int = 0
    modified_at: float = 0.0
    digest: str = ""


def need_pip_audit() -> None:
    """Raise ReleaseError ``tools`` unless pip-audit is there."""
    if find_spec("pip_audit") is None:
        raise ReleaseError(
            "tools", "pip-audit is not installed beside Ansible: run 'make venv' and use .venv/bin/ansible-playbook."
        )


def load(path: Path, packages: Iterable[str]) -> Database:
    """Read a database, keeping what is about ``packages``.

    Raises:
        ReleaseError: ``advisories``, it is not there, cannot be read, or holds no advisory.
    """
    wanted = {canonicalize_name(name) for name in packages}
    database = Database()
    seen: list[str] = []
    try:
        for name, data in _files(path):
            said = _advisory(name, data)
            if said is None:
                continue
            database.count += 1
            database.modified_at = max(database.modified_at, _unix(str(said["modified"])))
            seen.append(sha256(data).hexdigest())
            about = {canonicalize_name(str(package)) for package in _packages(said)}
            for package in about & wanted:
                database.advisories.setdefault(package, []).append(said)
    except (OSError, zipfile.BadZipFile) as error:
        raise ReleaseError(
            "advisories",
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): correct hive_advisories.",
        ) from error
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ReleaseError(
            "advisories", f"{path} holds an advisory that cannot be read ({error}): fetch the database again."
        ) from error
    if not database.count:
        raise ReleaseError("advisories", f"{path} holds no advisory: fetch the database of OSV or PyPA there.")
    database.digest = sha256("".join(sorted(seen)).encode()).hexdigest()
    return database


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every advisory file of a directory or a zip, smallest effort first: only names that can be one."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix in SUFFIXES and not any(part.startswith(".") for part in file.relative_to(path).parts):
                yield str(file), file.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if Path(info.filename).suffix in SUFFIXES:
                if info.file_size > MAX_ADVISORY_BYTES:
                    raise ValueError(f"{info.filename} is larger than {MAX_ADVISORY_BYTES >> 20} MiB")
                yield info.filename, archive.read(info)


def _advisory(name: str, data: bytes) -> Json | None:
    """One advisory; None for another file of the same kind, such as a repository's own settings."""
    if name.endswith(".json"):
        said = json.loads(data)
    else:
        # The fast one where libyaml is there; both make nothing but plain data.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        said = yaml.load(data, Loader=loader)
    return said if isinstance(said, dict) and {"id", "modified", "affected"} <= set(said) else None


def _packages(said: Mapping[str, Any]) -> Iterator[str]:
    for affected in said["affected"]:
        package = affected.get("package") or {}
        if package.get("ecosystem") == ECOSYSTEM:
            yield package["name"]


def _unix(stamp: str) -> float:
    """Unix time of an advisory's RFC 3339 time; YAML readers make a datetime of it."""
    when = datetime.fromisoformat(stamp.strip().replace("Z", "+00:00").replace(" ", "T", 1))
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()


def affects(affected: Mapping[str, Any], version: Version) -> bool:
    """Whether one entry of ``affected`` is about this version, by OSV's rules: named, or within a range."""
    for text in affected.get("versions") or ():
        with contextlib.suppress(InvalidVersion):
            if Version(str(text)) == version:
                return True
    return any(
        _within(range_["events"], version)
        for range_ in affected.get("ranges") or ()
        if range_.get("type") == "ECOSYSTEM"
    )


def _within(events: Iterable[Mapping[str, Any]], version: Version) -> bool:
    inside = False
    for when, word in sorted(_points(events)):
        if word == "introduced" and version >= when:
            inside = True
        elif (word == "fixed" and version >= when) or (word == "last_affected" and version > when):
            inside = False
    return inside


def _points(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Version, str]]:
    for event in events:
        for word in ("introduced", "fixed", "last_affected"):
            if word in event:
                # A version nobody can compare counts as the very first: rather one vulnerability too many.
                try:
                    yield Version(str(event[word])), word
                except InvalidVersion:
                    if word == "introduced":
                        yield Version("0"), word


def service(database: Database) -> VulnerabilityService:
    """The database as a source of pip-audit's."""
    from pip_audit._service import Dependency, ResolvedDependency, VulnerabilityResult, VulnerabilityService

    class Local(VulnerabilityService):  # type: ignore[misc]
        """Answers from memory."""

        def query(self, spec: Dependency) -> tuple[Dependency, list[VulnerabilityResult]]:
            assert isinstance(spec, ResolvedDependency), "everything in a release has a version"
            found = []
            for said in database.advisories.get(spec.canonical_name, ()):
                about = [
                    affected
                    for affected in said["affected"]
                    if canonicalize_name(str((affected.get("package") or {}).get("name", ""))) == spec.canonical_name
                ]
                if said.get("withdrawn") or not any(affects(affected, spec.version) for affected in about):
                    continue
                found.append(
                    VulnerabilityResult.create(
                        [said["id"], *(said.get("aliases") or ())],
                        " ".join(str(said.get("summary") or said.get("details") or "").split())[:300],
                        sorted(set(_fixes(about))),
                        None,
                    )
                )
            return spec, found

    return Local()


def _fixes(about: Iterable[Mapping[str, Any]]) -> Iterator[Version]:
    for affected in about:
        for range_ in affected.get("ranges") or ():
            if range_.get("type") == "ECOSYSTEM":
                yield from (when for when, word in _points(range_["events"]) if word == "fixed")


def online() -> VulnerabilityService:
    """pip-audit's own source on the network."""
    from pip_audit._service import PyPIService

    return PyPIService(timeout=ONLINE_SECONDS)


def audit(distributions: Mapping[str, str], source: VulnerabilityService) -> list[Found]:
    """What is known against the distributions, given as name to version, in their order.

    Raises:
        ReleaseError: ``advisories``, the source did not answer.
    """
    from pip_audit._audit import Auditor  # type: ignore[import-untyped]
    from pip_audit._dependency_source import DependencySource  # type: ignore[import-untyped]
    from pip_audit._service import Dependency, ResolvedDependency, ServiceError

    class Carried(DependencySource):  # type: ignore[misc]
        """What a release carries."""

        def collect(self) -> Iterator[Dependency]:
            yield from (ResolvedDependency(name, Version(version)) for name, version in sorted(distributions.items()))

        def fix(self, fix_version: Any) -> None:
            raise AssertionError("a release is never changed")

    found = []
    try:
        for dependency, results in Auditor(source).audit(Carried()):
            if not isinstance(dependency, ResolvedDependency):
                # Not asked is not harmless.
                reason = getattr(dependency, "skip_reason", "it was passed over")
                raise ReleaseError(
                    "advisories", f"nothing is known of {dependency.name} ({reason}): use hive_advisories."
                )
            found += [
                Found(
                    dependency.name,
                    str(dependency.version),
                    str(result.id),
                    tuple(sorted(map(str, result.aliases))),
                    tuple(str(version) for version in result.fix_versions),
                    result.description,
                )
                for result in results
            ]
    except (ServiceError, OSError) as error:
        # What the network library raises is an OSError, too.
        raise ReleaseError(
            "advisories", f"the advisories could not be asked on the network ({error}): use hive_advisories instead."
        ) from error
    return found


def stale(database: Database, max_age_days: float, now: float | None = None) -> str:
    """Why a database does not count; empty when it does."""
    age = ((time.time() if now is None else now) - database.modified_at) / DAY
    if age < -1:
        # It would stay young for ever.
        return f"its newest advisory is {-age:.0f} days from now: look at the clock, and fetch the database again"
    if age > max_age_days:
        return f"its newest advisory is {age:.0f} days old, more than {max_age_days:g}: fetch the database again"
    return ""
