"""What the unit tests of releases share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def plugins() -> Path:
    """The sources of the fixture plugins."""
    return Path(__file__).resolve().parents[8] / "tests/fixtures/plugins"


@pytest.fixture(scope="session")
def builder_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for builders, filled by the first test that needs it."""
    return tmp_path_factory.mktemp("release-cache")
