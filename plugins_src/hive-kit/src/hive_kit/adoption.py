"""Taking over rows of the monolith's `cl_hive.db`: what a plugin declares, and what a valid row is.

Declarations only, so that a plugin's manifest stays quick; `adoption_run` does the work.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from hive_kit.adoption_back import Back, BackTally
    from hive_kit.adoption_pass import Pass, Request, Tally
    from hive_kit.adoption_source import Source
    from hive_kit.store import Store

Row = tuple[Any, ...]
Check = Callable[[Any], str]
TEXT: Final = "text"
INTEGER: Final = "integer"
_TYPES: Final[dict[str, type]] = {TEXT: str, INTEGER: int}


@dataclass(frozen=True)
class Column:
    """One column of a moved table.

    Args:
        name: as in both databases.
        kind: `TEXT` or `INTEGER`.
        required: whether NULL is invalid.
        check: gives what is wrong with a value that is not NULL, or "".
    """

    name: str
    kind: str
    required: bool
    check: Check | None = None

    @cached_property
    def python(self) -> type:
        """The type of its values."""
        return _TYPES[self.kind]

    def problem(self, value: Any) -> str:
        """What is wrong with a value, as part of a sentence; "" when it is valid."""
        if value is None:
            return f"{self.name} is NULL" if self.required else ""
        if not isinstance(value, self.python):
            return f"{self.name} is {type(value).__name__} instead of {self.kind}"
        wrong = self.check(value) if self.check is not None else ""
        return f"{self.name} {wrong}" if wrong else ""


class Mover(Protocol):
    """Takes one table of the monolith over, and gives it back."""

    @property
    def table(self) -> str:
        """Its name in cl_hive.db."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the monolith's table has; a table with others is refused."""

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row."""

    @property
    def secret_keys(self) -> frozenset[str]:
        """Rows whose content never leaves the two databases, quarantine included."""

    def adopt(self, work: Pass) -> Tally:
        """Bring the plugin's tables up to what the snapshot says. Runs inside one transaction."""

    def carry_back(self, back: Back) -> BackTally:
        """Write into the monolith what changed here since adoption. Runs inside one transaction of the monolith."""


@dataclass(frozen=True)
class MovedTable:
    """A table that is copied as it is: the plugin has one of the same name and columns.

    Args:
        table: its name.
        key: the columns of its primary key.
        columns: all of them.
        secret_keys: see `Mover`.
    """

    table: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    secret_keys: frozenset[str] = frozenset()

    def adopt(self, work: Pass) -> Tally:
        """See `Mover.adopt`."""
        from hive_kit.adoption_pass import copy_table

        return copy_table(self, work)

    def carry_back(self, back: Back) -> BackTally:
        """See `Mover.carry_back`."""
        from hive_kit.adoption_back import give_back_table

        return give_back_table(self, back)


@dataclass(frozen=True)
class Adopts:
    """What a plugin takes over from the monolith.

    Args:
        movers: one per table, in the order in which they are taken.
        signatures: messages whose `signmessage` by the node opens what the monolith sealed.
        in_place: the plugin goes on with the monolith's own file.
        preparations: what must be done before the transaction of an adoption begins, such as making a key file.
    """

    movers: tuple[Mover, ...] = ()
    signatures: tuple[str, ...] = ()
    in_place: bool = False
    preparations: tuple[Callable[[Store, Source, Request], None], ...] = ()

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """The tables that move, sorted."""
        return tuple(sorted(mover.table for mover in self.movers))

    def describe(self) -> dict[str, Any]:
        """Its part of the release manifest."""
        return {"tables": list(self.tables), "signatures": sorted(self.signatures), "in_place": self.in_place}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse).decode


def text(name: str, *, optional: bool = False, check: Check | None = None) -> Column:
    """A column of text."""
    return Column(name, TEXT, not optional, check)


def number(name: str, *, optional: bool = False, low: int | None = 0, high: int | None = None) -> Column:
    """A column of whole numbers in an inclusive range; amounts, times and counts are never negative."""

    def check(value: int) -> str:
        if low is not None and value < low:
            return f"is {value}, below {low}"
        return f"is {value}, above {high}" if high is not None and value > high else ""

    return Column(name, INTEGER, not optional, check)


def identifier(name: str, *, optional: bool = False) -> Column:
    """A column of text that names something, so it is not empty."""
    return Column(name, TEXT, not optional, lambda value: "" if value.strip() else "is empty")


def word(name: str, *words: str, optional: bool = False) -> Column:
    """A column with a vocabulary."""
    known = frozenset(words)
    return Column(
        name,
        TEXT,
        not optional,
        lambda value: "" if value in known else f"is {value[:40]!r}, not one of {', '.join(words)}",
    )


def json_text(name: str, *, optional: bool = False) -> Column:
    """A column of JSON."""

    def check(value: str) -> str:
        try:
            _decode(value)
        except (ValueError, RecursionError):
            return "is not valid JSON"
        return ""

    return Column(name, TEXT, not optional, check)
