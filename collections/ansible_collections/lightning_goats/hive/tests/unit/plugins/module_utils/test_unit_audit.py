"""Known vulnerabilities of what a release carries, its SBOM, and the statements about both."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _audit, _evidence, _sbom, _security
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release, ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._surface import Book, Check
from packaging.version import Version
from pip_audit._service import ServiceError, SkippedDependency, VulnerabilityService  # type: ignore[import-untyped]

Json = dict[str, Any]

ADVISORIES = Path(__file__).resolve().parents[8] / "tests/fixtures/security/advisories"
NEWEST = 1_795_305_600.0
NAME = "hive-fixture"


def wheel(name: str, version: str, *headers: str) -> tuple[str, bytes]:
    """A wheel with nothing in it but what it says of itself."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers, "", ""])
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA"), text)
    return f"{name}-{version}-py3-none-any.whl", content.getvalue()


def release(directory: Path, *others: tuple[str, bytes]) -> Release:
    """A release whose artifact carries itself, the kit, and these."""
    wheels = dict([wheel("hive_fixture", "0.1.0"), wheel("hive_kit", "0.1.0", "License: MIT"), *others])
    artifact = directory / f"{NAME}-0.1.0.pex"
    with zipfile.ZipFile(artifact, "w") as archive:
        for file, data in sorted(wheels.items()):
            archive.writestr(zipfile.ZipInfo(f".deps/{file}"), data)
    manifest = {
        "name": NAME,
        "version": "0.1.0",
        "released_at": 1_700_000_000,
        "source": {"commit": "c" * 40, "digest": "d" * 64},
        "artifact": {"file": artifact.name, "sha256": hashlib.sha256(artifact.read_bytes()).hexdigest()},
        "python": {"wheels": {"cp311-x86_64": sorted(wheels)}},
    }
    return Release(manifest, directory, "release@sandbox")


def database(*packages: str) -> _audit.Database:
    return _audit.load(ADVISORIES, packages)


def known(version: str) -> list[str]:
    found = _audit.audit({"leaky-parser": version}, _audit.service(database("leaky-parser")))
    return [one.name for one in found]


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("1.3.9", ["PYSEC-2026-1"]),
        ("1.4", ["CVE-2026-10002"]),
        ("1.5", ["CVE-2026-10002"]),
        ("1.6", []),
        ("2.0rc1", []),
    ],
)
def test_a_version_is_affected_by_range_or_by_name(version: str, names: list[str]) -> None:
    assert known(version) == names


def test_a_vulnerability_says_what_to_do() -> None:
    (one,) = _audit.audit({"leaky-parser": "1.0"}, _audit.service(database("leaky-parser")))
    assert one.sentence == "leaky-parser 1.0 has PYSEC-2026-1: fixed in 1.4"
    assert one.as_json()["aliases"] == ["CVE-2026-10001"]


@pytest.mark.parametrize(
    ("events", "version", "affected"),
    [
        ([{"introduced": "0"}], "1.0", True),
        ([{"introduced": "0"}, {"fixed": "1.0"}], "1.0", False),
        ([{"introduced": "0"}, {"last_affected": "1.0"}], "1.0", True),
        ([{"introduced": "0"}, {"last_affected": "1.0"}], "1.0.1", False),
        ([{"introduced": "1"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "4"}], "2.5", False),
        ([{"fixed": "4"}, {"introduced": "3"}, {"fixed": "2"}, {"introduced": "1"}], "3.5", True),
        ([{"introduced": "not a version"}, {"fixed": "2"}], "0.1", True),
    ],
)
def test_a_range_is_read_as_osv_means_it(events: list[Json], version: str, affected: bool) -> None:
    assert _audit.affects({"ranges": [{"type": "ECOSYSTEM", "events": events}]}, Version(version)) is affected


def test_a_zip_is_the_same_database_as_its_directory(tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "pypi"), "zip", ADVISORIES)
    one, other = database("leaky-parser"), _audit.load(Path(packed), ["leaky-parser"])
    assert (one.count, one.modified_at, one.digest) == (3, NEWEST, other.digest)
    assert len(other.advisories["leaky-parser"]) == 3


def test_the_age_of_a_database_is_that_of_its_newest_advisory() -> None:
    found = database()
    assert _audit.stale(found, 14, NEWEST + 13 * 86400) == ""
    assert "15 days old" in _audit.stale(found, 14, NEWEST + 15 * 86400)
    assert _audit.stale(found, 14, NEWEST - 3600) == ""
    assert "30 days from now: look at the clock" in _audit.stale(found, 14, NEWEST - 30 * 86400)
    with pytest.raises(ReleaseError, match="fetch the database again") as caught:
        _security.source_of(ADVISORIES, "advisories", found, 14, NEWEST + 15 * 86400)
    assert caught.value.code == "advisories"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("empty/readme.json", b"{}"),
        ("torn/one.json", b'{"id": "PYSEC-1", "modified": '),
        ("undated/one.json", b'{"id": "PYSEC-1", "modified": "long ago", "affected": []}'),
        ("zip.zip", b"PK but no more"),
    ],
)
def test_what_is_no_database_is_refused(tmp_path: Path, file: str, content: bytes) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(ReleaseError) as caught:
        _audit.load(path if path.suffix == ".zip" else path.parent, ["leaky-parser"])
    assert caught.value.code == "advisories"


def test_a_database_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="hive_advisories"):
        _audit.load(tmp_path / "nowhere.zip", [])


def test_a_source_that_does_not_answer_is_no_pass() -> None:
    class Silent(VulnerabilityService):  # type: ignore[misc]
        def query(self, spec: Any) -> Any:
            raise ServiceError("no route")

    class Ignorant(VulnerabilityService):  # type: ignore[misc]
        def query(self, spec: Any) -> Any:
            return SkippedDependency(name=spec.name, skip_reason="not on this index"), []

    class Unplugged(VulnerabilityService):  # type: ignore[misc]
        def query(self, spec: Any) -> Any:
            raise ConnectionResetError(104, "no network")

    for source, said in ((Silent(), "no route"), (Ignorant(), "not on this index"), (Unplugged(), "no network")):
        with pytest.raises(ReleaseError, match=said) as caught:
            _audit.audit({"leaky-parser": "1.0"}, source)
        assert caught.value.code == "advisories"


# -- SBOM ------------------------------------------------------------------------------------------------------------


def others() -> list[tuple[str, bytes]]:
    return [
        wheel("leaky_parser", "1.3", "Summary: Parses", "License-Expression: Apache-2.0 OR MIT"),
        wheel("old_style", "2.0", "License: BSD"),
        wheel("wordy", "3.0", f"License: {'all of it ' * 20}", "Classifier: License :: OSI Approved :: MIT License"),
        wheel("silent", "4.0", "License: UNKNOWN"),
    ]


def test_an_sbom_names_everything_the_artifact_carries(tmp_path: Path) -> None:
    made = release(tmp_path, *others())
    path, content, new = _sbom.write(made)
    assert (path.name, new, path.read_bytes()) == ("sbom.cdx.json", True, content)
    assert _sbom.problem(content) == "", "CycloneDX's own schema holds"
    document = json.loads(content)
    main = document["metadata"]["component"]
    assert (main["name"], main["version"], main["hashes"][0]["content"]) == (NAME, "0.1.0", made.digest)
    components = {item["name"]: item for item in document["components"]}
    assert set(components) == {"hive-kit", "leaky-parser", "old-style", "wordy", "silent"}
    assert components["leaky-parser"]["purl"] == "pkg:pypi/leaky-parser@1.3"
    assert components["hive-kit"]["purl"] == "pkg:generic/hive-kit@0.1.0", "one of that name on an index is not ours"
    assert components["leaky-parser"]["licenses"] == [{"expression": "Apache-2.0 OR MIT"}]
    assert components["wordy"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert "licenses" not in components["silent"]
    file, data = others()[0]
    assert components["leaky-parser"]["hashes"][0]["content"] == hashlib.sha256(data).hexdigest()
    assert components["leaky-parser"]["properties"][0]["name"] == f"hive:wheel:{file}"
    assert _sbom.licences(document) == {"Apache-2.0 OR MIT": 1, "BSD": 1, "MIT": 1, "MIT License": 1, "not given": 1}


def test_an_sbom_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    second.mkdir()
    assert _sbom.make(release(first, *others())) == _sbom.make(release(second, *reversed(others())))
    made = release(first, *others())
    _sbom.write(made)
    assert _sbom.write(made)[2] is False


def test_an_sbom_of_something_else_is_noticed(tmp_path: Path) -> None:
    made = release(tmp_path, *others())
    assert _security.sbom(made).changed
    assert _security.sbom(made).state == _evidence.PASSED
    path = tmp_path / _sbom.FILE
    path.write_bytes(path.read_bytes().replace(b'"1.3"', b'"1.4"'))
    found = _security.sbom(made)
    assert found.state == _evidence.FAILED
    assert "another one lies there" in found.reason


def test_a_wrong_sbom_does_not_follow_the_schema() -> None:
    assert "specVersion" in str(_sbom.problem(b'{"bomFormat": "CycloneDX", "version": 1}'))


def test_an_artifact_without_what_its_manifest_names_has_no_sbom(tmp_path: Path) -> None:
    made = release(tmp_path, *others())
    made.manifest["python"]["wheels"]["cp311-x86_64"].append("absent-1.0-py3-none-any.whl")
    with pytest.raises(ReleaseError, match=r"absent-1\.0"):
        _sbom.make(made)
    made.artifact.write_bytes(b"no zip")
    with pytest.raises(ReleaseError, match="not a PEX"):
        _sbom.make(made)


# -- statements ------------------------------------------------------------------------------------------------------


def test_evidence_of_an_audit_names_artifact_database_and_findings(tmp_path: Path) -> None:
    made = release(tmp_path, *others())
    there = {item.name: item.version for item in _sbom.distributions(made) if item.name not in (NAME, *_sbom.OWN)}
    found = database(*there)
    source = _security.source_of(ADVISORIES, "advisories", found, 14, NEWEST)
    finding = _security.audit(made, _audit.audit(there, _audit.service(found)), len(there), source)
    assert finding.state == _evidence.FAILED
    statement = _security.statement(finding, 1.0, 30, 2.0)
    assert statement["subject"] == [{"name": f"{NAME}-0.1.0.pex", "digest": {"sha256": made.digest}}]
    assert statement["predicate"]["configuration"][0]["digest"]["sha256"] == found.digest
    assert statement["predicate"]["failedTests"] == ["leaky-parser 1.3 is free of PYSEC-2026-1"]
    facts = statement["predicate"]["hive"]
    assert "fixed in 1.4" in facts["reason"]
    assert facts["expires_at"] == 2.0 + 30 * 86400
    assert _security.statement(finding, 1.0, 0, 2.0)["predicate"]["hive"]["expires_at"] is None


def test_only_three_differences_are_told_and_all_are_kept() -> None:
    checks = [Check(f"thing {number} was reviewed", False) for number in range(5)]
    finding = _security.Finding("surface", NAME, checks=checks)
    assert finding.reason.endswith("and 2 more")
    assert len(_security.statement(finding, 1.0, 0, 2.0)["predicate"]["failedTests"]) == 5


def test_what_could_not_be_looked_at_neither_holds_nor_fails() -> None:
    finding = _security.Finding("audit", NAME, missing=_security.NO_DATABASE)
    assert (finding.state, finding.row["ok"], finding.line) == ("none", False, _security.NO_DATABASE)
    assert _security.tools(None, Book({}, {}), []).state == "none"
    assert _security.table([finding.row])[0].startswith("audit-hive-fixture  none")
