"""The runner of the guides notices what it has to notice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from docs.transcript import GuideError, run, steps, variables

HEAD = "# A guide\n\n## Your node\n\n```sh\nPLACE=/nowhere\n```\n\n## Work\n\n"


def guide(directory: Path, text: str) -> Path:
    path = directory / "guide.md"
    path.write_text(HEAD + text, encoding="utf-8")
    return path


def go(directory: Path, text: str) -> int:
    return run(guide(directory, text), {"PLACE": "a b"}, directory, os.environ)


def test_a_guide_runs_in_one_shell_with_the_values_of_the_test(tmp_path: Path) -> None:
    text = """```sh
greet() {
  echo "hello $1"
}
cd /
```

```console
$ greet "$PLACE"
hello a b
$ pwd
/
$ printf '%s\\n' one 2 three |
> sort
2
...
three
```

```text
$ this is shown and not run
```
"""
    assert variables(guide(tmp_path, text)) == {"PLACE": "/nowhere"}
    assert go(tmp_path, text) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```console\n$ echo one\ntwo\n```\n", "should print:\ntwo"),
        ("```console\n$ echo one\n```\n", "and printed:\none"),
        ("```console\n$ false\n```\n", "guide.md:12: false\nended with status 1"),
        ("```sh\nls /no/such/place\n```\n", "ended with status 2"),
        ("```console\n$ exit 0\n```\n", "ended the shell"),
        ("```console\nno command\n```\n", "begins with a command"),
    ],
)
def test_a_guide_that_does_not_do_what_it_says_is_red(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(GuideError) as caught:
        go(tmp_path, text)
    assert words in str(caught.value)


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    from docs.transcript import Shell

    with Shell(tmp_path, os.environ) as shell, pytest.raises(GuideError, match=r"within 0\.3 s"):
        shell.run("sleep 60", 0.3)


def test_a_variable_that_the_test_does_not_know_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(GuideError, match="asks for"):
        steps(guide(tmp_path, ""), {"OTHER": "1"})
