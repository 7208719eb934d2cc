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
DEFAULT_SEQUENCE = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text(encoding="utf-8"))["scenario"][
    "test_sequence"
]

on_machines = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1800)]


def steps_of(scenario: str) -> list[str]:
    """The test sequence of a scenario, its own or the common one."""
    settings = yaml.safe_load((ROOT / "molecule" / scenario / "molecule.yml").read_text(encoding="utf-8")) or {}
    steps: list[str] = settings.get("scenario", {}).get("test_sequence", DEFAULT_SEQUENCE)
    return steps


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
@pytest.mark.parametrize("scenario", [pytest.param(name, marks=on_machines) for name in SCENARIOS])
def test_scenario(scenario: str) -> None:
    output = molecule("test", "--scenario-name", scenario, "--destroy=never", "--no-command-borders")
    # molecule goes on without a playbook that it does not find.
    assert "Executed: Missing" not in output, output
    # It takes a scenario without tests for a good one, so count: every verify step ran some, and all passed. That each
    # of them asserted something, molecule/conftest.py sees to.
    verified = re.findall(r"=+ (\d+) passed in ", output)
    assert len(verified) == sum(step.split()[0] == "verify" for step in steps_of(scenario)) > 0, output
    assert all(int(count) > 0 for count in verified), output


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_leaves_no_step_out(scenario: str) -> None:
    steps = [step.split()[0] for step in steps_of(scenario)]
    assert steps[0] == "cleanup"
    assert [step for step in steps if step in ("check", "converge", "idempotence")] == [
        "check",
        "converge",
        "idempotence",
    ]
    assert steps[-1] == "verify", "what the last step did is looked at"


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name.startswith("role_")])
def test_the_alternative_gives_every_variable_of_the_role(scenario: str) -> None:
    """Defaults and other values: each variable of the role is given somewhere in its scenario."""
    spec = yaml.safe_load((ROOT / f"roles/hive_{scenario[5:]}/meta/argument_specs.yml").read_text(encoding="utf-8"))
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "molecule" / scenario).rglob("*.yml"))]
    given = set(re.findall(r"^ *(hive_\w+):", "\n".join(texts), re.M))
    assert set(spec["argument_specs"]["main"]["options"]) - given == set()


def test_all_that_is_promised_is_there() -> None:
    """Every role that can stand alone, every flow, and every supported and refused stack."""
    alone = {"stage", "switch", "backup", "drill", "restore", "rollback", "probe", "preflight", "node", "offsite"}
    flows = {"install", "upgrade", "rollback", "uninstall", "faults"}
    stacks = {"comms", "comms_archon", "comms_hive", "full", "monolith"}
    promised = (
        {f"role_{name}" for name in alone} | {f"flow_{name}" for name in flows} | {f"matrix_{name}" for name in stacks}
    )
    assert promised | {"refuse_archon_alone"} <= set(SCENARIOS)
