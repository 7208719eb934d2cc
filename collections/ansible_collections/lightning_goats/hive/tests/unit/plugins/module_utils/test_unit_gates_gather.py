"""What checks look at comes in time or not at all; GitHub; waivers need an approver; the signed decision."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gates_world
import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _evidence,
    _evidence_all,
    _gates,
    _gates_checks,
    _gates_decision,
    _gates_gather,
    _gates_github,
    _signatures,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from gates_world import World

Json = dict[str, Any]

TOKEN = "ghp_a-token-that-nobody-may-see"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = World(tmp_path_factory.mktemp("people"))
    world.people()
    return world.root / "keys"


@pytest.fixture
def world(people: Path, tmp_path: Path) -> World:
    shutil.copytree(people, tmp_path / "keys")
    return World(tmp_path)


# In time


def test_what_fails_or_is_late_is_a_trouble_and_the_rest_is_there() -> None:
    never = threading.Event()

    def broken() -> int:
        raise ReleaseError("register", "it is broken")

    def gone() -> int:
        raise FileNotFoundError(2, "No such file", "/nowhere")

    calls = {"good": lambda: 7, "broken": broken, "gone": gone, "late": lambda: int(never.wait(60))}
    started = time.monotonic()
    found = _gates_gather.within(calls, 0.2)
    assert time.monotonic() - started < 30
    never.set()
    assert found["good"] == 7
    assert found["broken"] == _gates.Trouble("it is broken")
    assert found["gone"] == _gates.Trouble("/nowhere cannot be used (No such file)")
    assert found["late"] == _gates.Trouble(
        "it did not answer within 0.2 s: look at what it has to call, then run again"
    )


def test_evidence_that_cannot_be_verified_in_time_does_not_count(world: World) -> None:
    world.add("suite-cl-hive", gates_world.good()["suite-cl-hive"])
    found = _evidence_all.collect(world.evidence, world.places.evidence_signers, seconds=0)
    assert found.found == {}
    assert "could not be verified in time" in found.refused["suite-cl-hive"][0]


def test_all_evidence_at_once_the_newest_first(world: World) -> None:
    spec = gates_world.good()["suite-cl-hive"]
    for age in (5, 1, 3):
        world.add("suite-cl-hive", {**spec, "age_days": age})
    world.add("runes-a-b", {**spec, "signed": "stranger"})
    (world.evidence / "notes.txt").write_text("nothing")
    found = _evidence_all.collect(world.evidence, world.places.evidence_signers, 20)
    ages = [round((world.now - one.finished_at) / 86400) for one in found.found["suite-cl-hive"]]
    assert ages == [1, 3, 5]
    assert set(found.refused) == {"runes-a-b"}
    one = found.found["suite-cl-hive"][0]
    assert (one.name, one.signer, one.subjects) == ("suite-cl-hive", "evidence@test", spec["subjects"])
    digests = spec["subjects"].values()
    assert found.keys(digests) == {one.key}
    # Whoever claims to have signed is barred too, verified or not.
    assert len(_evidence_all.keys_that_signed(world.evidence, digests)) == 2
    assert _evidence_all.keys_that_signed(world.evidence, ["ab" * 32]) == frozenset()


def test_without_a_list_of_signers_no_evidence_counts(world: World) -> None:
    world.add("suite-cl-hive", gates_world.good()["suite-cl-hive"])
    world.places.evidence_signers.unlink()
    assert isinstance(world.context().evidence, _gates.Trouble)


@pytest.mark.parametrize(
    "blob", [b"", b"nothing", b"SSHSIG", b"SSHSIG\0\0\0\1\0\0\0\xff", b"SSHSIG\0\0\0\1\0\0\0\4abcd"]
)
def test_a_signature_that_is_none(blob: bytes) -> None:
    armored = b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(blob) + b"\n-----END SSH SIGNATURE-----\n"
    with pytest.raises(ValueError, match=r"armor|no signature|cut off"):
        _signatures.parse(armored)


@pytest.mark.parametrize("spoil", ["", "data", "signature", "namespace", "key", "hash"])
def test_after_ssh_keygen_knows_the_key_nothing_else_passes_either(world: World, spoil: str) -> None:
    """The short way gives the same answers as ssh-keygen."""
    spec = gates_world.good()["suite-cl-hive"]
    first = world.add("suite-cl-hive", spec)
    second = world.add("audit-cl-hive", {**spec, "signed": "approval" if spoil == "namespace" else "yes"})
    if spoil == "namespace":
        keys.sign(second, world.signer("evidence", "approval"))
    verifier = _signatures.Verifier(world.places.evidence_signers, "evidence", time.monotonic() + 60)
    verifier.verify(first.read_bytes(), _evidence.signature_of(first))
    data, beside = second.read_bytes(), _evidence.signature_of(second)
    if spoil == "data":
        data += b" "
    if spoil in ("signature", "hash", "key"):
        lines = beside.read_text().splitlines()
        blob = bytearray(base64.b64decode("".join(lines[1:-1])))
        place = {"signature": len(blob) - 1, "hash": blob.index(b"sha512"), "key": 30}[spoil]
        blob[place] ^= 1
        beside.write_text("\n".join([lines[0], base64.b64encode(blob).decode(), lines[-1]]) + "\n")
    if not spoil:
        assert verifier.verify(data, beside)[0] == "evidence@test"
        return
    with pytest.raises(ReleaseError) as error:
        verifier.verify(data, beside)
    assert error.value.code in ("signature", "stranger")


# Waivers


WAIVER = {
    "check": "A1",
    "subject": "fleet",
    "owner": "alice",
    "reason": "the runner is down",
    "control": "run by hand",
    "expires_at": "2027-02-01",
}


@pytest.mark.parametrize(
    ("by", "signed", "words"),
    [
        ("alice", True, ""),
        ("alice", False, "waivers.yml.sig is missing"),
        ("stranger", True, "was not made by a key of"),
        ("runner", True, "is signed by runner@test, who runs this rollout"),
    ],
)
def test_waivers_count_when_an_approver_signed_them(world: World, by: str, signed: bool, words: str) -> None:
    world.register()
    world.waive(WAIVER, by=by, signed=signed)
    found = world.context().waivers
    if words:
        assert isinstance(found, _gates.Trouble)
        assert words in found.reason
    else:
        assert not isinstance(found, _gates.Trouble)
        assert [one.check for one in found] == ["A1"]


def test_a_waiver_added_after_the_signature_counts_for_nothing(world: World) -> None:
    world.register()
    world.waive(WAIVER)
    path = world.registers / "waivers.yml"
    path.write_text(path.read_text().replace("A1", "C5"))
    found = world.context().waivers
    assert isinstance(found, _gates.Trouble)
    assert "does not fit the file it signs" in found.reason


# GitHub


class GitHub(BaseHTTPRequestHandler):
    """Answers as the API does; what it was asked stands on the server."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, dict(self.headers)))
        status, body = server.answers.pop(0)
        if status == "hang":
            server.release.wait(60)
            return
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def github() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), GitHub)
    server.daemon_threads = True
    server.asked, server.answers, server.release = [], [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def issues(server: Any, *, seconds: float = 20, repositories: tuple[str, ...] = ("o/r",)) -> dict[str, list[str]]:
    url = f"http://127.0.0.1:{server.server_port}"
    return _gates_github.open_issues(url, repositories, "prio: high", TOKEN, seconds)


def listed(*numbers: int, **more: Any) -> bytes:
    return json.dumps([{"number": number, "title": f"issue\n{number}", **more} for number in numbers]).encode()


def test_issues_are_asked_for_by_label_and_pull_requests_are_none(github: Any) -> None:
    github.answers += [(200, listed(7)), (200, listed(8, pull_request={}))]
    assert issues(github, repositories=("o/r", "o/s")) == {"o/r": ["o/r#7 is open: issue 7"], "o/s": []}
    path, headers = github.asked[0]
    assert path == "/repos/o/r/issues?state=open&labels=prio%3A+high&per_page=100&page=1"
    assert headers["Authorization"] == f"Bearer {TOKEN}"


def test_more_than_one_page(github: Any) -> None:
    github.answers += [(200, listed(*range(100))), (200, listed(100))]
    assert len(issues(github)["o/r"]) == 101
    assert github.asked[1][0].endswith("page=2")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, b'{"message": "Bad credentials"}'), "answers 401 for o/r"),
        ((403, b"{}"), "answers 403"),
        ((301, b""), "answers 301"),
        ((500, b""), "answers 500"),
        ((200, b"<html>"), "is no JSON"),
        ((200, b'{"message": "no list"}'), "is no list of issues"),
        ((200, b'["issue"]'), "is no list of issues"),
    ],
)
def test_an_answer_that_is_none_blocks_without_showing_the_token(github: Any, answer: Any, words: str) -> None:
    github.answers.append(answer)
    with pytest.raises(ReleaseError) as error:
        issues(github)
    assert words in str(error.value)
    assert TOKEN not in str(error.value)
    # A redirect is not followed: the token goes to nobody else.
    assert len(github.asked) == 1


def test_a_github_that_hangs_blocks_at_the_deadline(github: Any) -> None:
    github.answers.append(("hang", b""))
    with pytest.raises(ReleaseError) as error:
        issues(github, seconds=0.3)
    assert error.value.code == "github"


@pytest.mark.parametrize(
    ("url", "repositories", "words"),
    [
        ("http://api.github.com", ("o/r",), "does not begin with https://"),
        ("https://api.github.com", ("o/r/../x",), "is not owner/name"),
    ],
)
def test_a_place_where_no_token_is_sent(url: str, repositories: tuple[str, ...], words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        _gates_github.open_issues(url, repositories, "label", TOKEN, 1)


@pytest.mark.parametrize(
    ("given", "lacks"),
    [
        (_gates_gather.GitHub(token=TOKEN), "hive_github_repositories is empty"),
        (_gates_gather.GitHub(repositories=("o/r",)), "hive_github_token is empty"),
    ],
)
def test_half_of_what_github_needs_blocks(world: World, given: _gates_gather.GitHub, lacks: str) -> None:
    """Whoever names repositories means them to be looked at."""
    asked = _gates_gather.Asked("main", gates_world.PLAN, gates_world.RELEASES, ["alpha"], ["process"])
    found = _gates_gather.gather(world.places, asked, given, world.now).issues
    assert isinstance(found, _gates.Trouble)
    assert lacks in found.reason
    assert TOKEN not in found.reason


def test_settings_do_not_show_the_token() -> None:
    assert TOKEN not in repr(_gates_gather.GitHub(token=TOKEN))


# The decision


def test_the_decision_is_a_verification_summary_that_verifies(world: World) -> None:
    world.register()
    world.add_all(gates_world.good())
    world.approve("alice")
    context = world.context()
    decision = _gates.decide(_gates_checks.CHECKS, context)
    path = _gates_decision.write(decision, context, world.evidence, world.signer("evidence", "evidence"))
    assert path is not None
    found = _evidence.read(path, world.places.evidence_signers)
    assert found.name == "decision-main"
    assert (found.result, found.facts["decision"]) == ("FAILED", "denied")
    assert found.subjects["plan"] == gates_world.PLAN
    made = json.loads(path.read_bytes())
    assert made["predicateType"] == "https://slsa.dev/verification_summary/v1"
    inputs = {one["uri"]: one["digest"]["sha256"] for one in made["predicate"]["inputAttestations"]}
    suite = next(world.evidence.glob("suite-cl-hive-2*.json"))
    assert inputs[suite.name] == hashlib.sha256(suite.read_bytes()).hexdigest()
    assert any(name.endswith("alice@test.json") for name in inputs)
    blocked = [one for one in found.facts["findings"] if one["state"] == "block"]
    assert [one["check"] for one in blocked] == ["S2"]
    # A decision is no evidence of anything that a check asks for.
    assert _gates.decide(_gates_checks.CHECKS, world.context()).word == "denied"


def test_without_a_key_the_decision_is_not_written(world: World) -> None:
    context = world.context()
    decision = _gates.decide(_gates_checks.CHECKS, context)
    assert _gates_decision.write(decision, context, world.evidence, world.signer("nobody", "evidence")) is None


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b'{"subject": 5}', b"\xff", b""])
def test_a_file_of_anything_among_the_evidence_closes_no_other_check(world: World, content: bytes) -> None:
    world.register()
    world.add_all(gates_world.good())
    (world.evidence / "suite-cl-hive-20270114T100000000Z.json").write_bytes(content)
    context = world.context()
    assert {gates_world.finding(context, check).state for check in gates_world.KINDS} == {"pass"}


def test_a_throw_away_key_proves_nothing_where_plans_are_approved(world: World) -> None:
    world.register()
    world.add_all(gates_world.good())
    context = world.context()
    assert gates_world.finding(context, "A1").state == "pass"
    refused = world.context(throwaway=True)
    for check in gates_world.KINDS:
        assert gates_world.finding(refused, check).state == "block"
    assert "set hive_evidence_signing_key" in gates_world.finding(refused, "A1").detail


@pytest.mark.parametrize("place", ["evidence", "signature", "approval", "register", "waivers", "incident"])
def test_a_pipe_is_read_by_nobody(world: World, place: str) -> None:
    """Nobody ever writes into it: whoever opened it would wait for ever, whatever the deadline."""
    world.register()
    world.incident()
    world.add_all(gates_world.good())
    world.approve()
    name = "suite-cl-hive-20270114T080000000Z.json"
    path = {
        "evidence": world.evidence / name,
        "signature": world.evidence / f"{name}.sig",
        "approval": next((world.evidence / "approvals").glob("*.json")),
        "register": world.registers / "defects.yml",
        "waivers": world.registers / "waivers.yml",
        "incident": world.registers / "incidents/2026-07-15-canary.yml",
    }[place]
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    begun = time.monotonic()
    context = world.context()
    assert time.monotonic() - begun < 15
    check = {"evidence": "A1", "signature": "A1", "approval": "S1", "register": "A2", "incident": "A3"}.get(place)
    if check:
        assert gates_world.finding(context, check).state == "block"
    else:
        assert "no ordinary file" in getattr(context.waivers, "reason", "")
