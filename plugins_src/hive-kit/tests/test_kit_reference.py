"""docs/reference/hive-kit.md is true: its examples run, its tables are complete."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

from hive_kit import errors
from hive_kit.errors import HiveError

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "hive-kit.md").read_text("utf-8")


def test_the_examples_run(tmp_path: Path) -> None:
    plugin, test = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    module = ModuleType("kit_reference_example")
    module.__dict__["directory"] = tmp_path
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        for example in (plugin, test):
            exec(compile(example, "hive-kit.md", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]


def test_every_error_is_listed_with_its_code() -> None:
    listed = dict(re.findall(r"^\| (-?\d+) \| `(\w+)`", PAGE, re.MULTILINE))
    known = {
        str(kind.code): name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, HiveError) and kind is not HiveError
    }
    assert listed == known
