"""Every molecule scenario, on machines that one `create` makes for all of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(p.parent.name for p in (ROOT / "molecule").glob("*/molecule.yml") if p.parent.name != "default")

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("machines")]


def molecule(*arguments: str) -> str:
    """Run molecule and return what it printed; a failure shows all of it."""
    tools = Path(sys.executable).parent
    # The verifier is a pytest of its own, which must not take itself for this one.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [str(tools / "molecule"), *arguments],
        cwd=ROOT,
        env={**inherited, "PATH": f"{tools}:{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"molecule {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="module")
def machines() -> Iterator[None]:
    molecule("destroy", "--scenario-name", "default")
    molecule("create", "--scenario-name", "default")
    yield
    molecule("destroy", "--scenario-name", "default")


@pytest.mark.usefixtures("machines")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str) -> None:
    output = molecule("test", "--scenario-name", scenario, "--destroy=never", "--no-command-borders")
    # molecule goes on without a playbook that it does not find.
    assert "Executed: Missing" not in output, output
    # It takes a scenario without tests for a good one, so count: every verify step ran some, and all passed.
    sequence = yaml.safe_load((ROOT / "molecule" / scenario / "molecule.yml").read_text(encoding="utf-8"))
    steps = sequence["scenario"]["test_sequence"]
    verified = re.findall(r"=+ (\d+) passed in ", output)
    assert len(verified) == sum(step.split()[0] == "verify" for step in steps) > 0, output
    assert all(int(count) > 0 for count in verified), output


def test_there_is_a_flow_for_both_runtimes() -> None:
    assert "flow_lifecycle" in SCENARIOS
