"""Plugins on a running node: start, stop, refusals, options, methods."""

from __future__ import annotations

import pytest

from conformance.lab.cases import Case, load, play, prepare
from conformance.lab.daemon import Daemon

METHOD = [{"name": "d-x", "usage": "", "description": "x"}]


@pytest.mark.parametrize("case", load("plugin_start"))
def test_a_plugin_starts_or_is_refused_as_recorded(case: Case, node: Daemon) -> None:
    prepare(case, node)
    play(case, node)


@pytest.mark.parametrize("case", load("plugin_options"))
def test_options_behave_as_recorded(case: Case, node: Daemon) -> None:
    prepare(case, node)
    play(case, node)


@pytest.mark.parametrize("case", load("plugin_setconfig"))
def test_what_is_set_stays_or_kills_as_recorded(case: Case, fresh: Daemon) -> None:
    fresh.start(*prepare(case, fresh))
    play(case, fresh)


@pytest.mark.parametrize("case", load("plugin_methods"))
def test_calls_pass_through_as_recorded(case: Case, node: Daemon) -> None:
    prepare(case, node)
    play(case, node)
