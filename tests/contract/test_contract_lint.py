"""`make lint` is green: the one test that runs the linters."""

from __future__ import annotations

import subprocess

import pytest
from contract.repository import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lint_is_clean() -> None:
    done = subprocess.run(
        [ROOT / "scripts/lint"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
