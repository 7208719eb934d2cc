"""Configuration files, plugins at start-up, and the ways lightningd refuses to start."""

from __future__ import annotations

import pytest

from conformance.lab.cases import Case, compare_outcome, load, play, prepare
from conformance.lab.daemon import Daemon


def _start_or_be_refused(case: Case, daemon: Daemon) -> None:
    options = prepare(case, daemon)
    if "refused" in case:
        compare_outcome(case["refused"], daemon.run(*options), daemon, "lightningd")
        return
    daemon.start(*options)
    play(case, daemon, since=0)


@pytest.mark.parametrize("case", load("config"))
def test_a_configuration_is_read_as_recorded(case: Case, fresh: Daemon) -> None:
    _start_or_be_refused(case, fresh)


@pytest.mark.parametrize("case", [c for c in load("config") if "refused" in c.values[0]])
def test_help_finds_every_configuration_that_would_not_start(case: Case, fresh: Daemon) -> None:
    """`lightningd <same arguments> --help` is how a configuration is validated before it is used."""
    options = prepare(case, fresh)
    compare_outcome(case["refused"], fresh.run(*options, "--help"), fresh, "lightningd --help")


@pytest.mark.parametrize("case", load("startup"))
def test_a_plugin_at_start_up_behaves_as_recorded(case: Case, fresh: Daemon) -> None:
    _start_or_be_refused(case, fresh)


def test_help_of_a_good_configuration(fresh: Daemon) -> None:
    plugin = fresh.plugin(
        "opt1.py", {"manifest": {"options": [{"name": "my-opt", "type": "string", "description": "o"}]}}
    )
    fresh.write("config", f"plugin={plugin.path}\nmy-opt=1\n")
    outcome = fresh.run("--help")
    assert outcome.rc == 0
    assert "--my-opt <arg>" in outcome.stdout
    methods = [message["method"] for message in plugin.received()]
    assert methods == ["getmanifest"], "validating runs a plugin up to its manifest and no further"


def test_help_while_the_node_runs_disturbs_nobody(fresh: Daemon) -> None:
    fresh.start()
    assert fresh.run("--help").rc == 0
    assert fresh.run("--no-such-option=1", "--help").rc == 1
    assert fresh.ok("getinfo")["network"] == "regtest"
    assert fresh.alive()


def test_options_behind_help_are_not_looked_at(fresh: Daemon) -> None:
    """So whoever validates with `--help` puts it last."""
    assert fresh.run("--help", "--no-such-option=1").rc == 0


def test_help_in_a_new_directory_makes_only_the_network_directory(fresh: Daemon) -> None:
    assert fresh.run("--help").rc == 0
    assert [path.relative_to(fresh.dir).as_posix() for path in fresh.dir.rglob("*")] == ["regtest"]


def test_version_ignores_a_bad_configuration(fresh: Daemon) -> None:
    fresh.write("config", "no-such-option=1\n")
    outcome = fresh.run("--version")
    assert (outcome.rc, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("v2")


@pytest.mark.parametrize("option", ["--test", "--test-config"])
def test_there_is_no_other_validation(option: str, fresh: Daemon) -> None:
    outcome = fresh.run(option)
    assert outcome.rc == 1
    assert outcome.stderr == f"lightningd: {option}: unknown option\n"


def test_a_second_lightningd_in_the_same_directory_is_refused(fresh: Daemon) -> None:
    fresh.start()
    outcome = fresh.run()
    assert outcome.rc == 11
    assert "lightningd already running? Error locking PID file: Resource temporarily unavailable" in outcome.stderr
    assert fresh.alive()


def test_daemon_wants_a_log_file(fresh: Daemon) -> None:
    outcome = fresh.run("--daemon")
    assert outcome.rc == 1
    assert outcome.stderr.endswith("--daemon needs --log-file\n")


def test_clear_plugins_kills_lightningd(fresh: Daemon) -> None:
    assert fresh.run("--clear-plugins").rc == -11
