"""A frozen record with some fields changed: `dataclasses.replace` without its loop over the fields, for what runs every tick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")


@cache
def _parts(kind: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Names of a dataclass's fields, and what reads them all at once."""
    known = fields(kind)
    if len(known) < 2 or not all(field.init for field in known):
        raise TypeError(f"replace: {kind.__name__} needs two fields at least, all of them given to its constructor")
    names = tuple(field.name for field in known)
    return names, attrgetter(*names)


def replace(record: T, **changes: Any) -> T:
    """The same record with these fields changed, made by its own constructor (so it is checked as any new one is).

    Raises
    ------
    TypeError
        For a field that it does not have, or a record with fields that are not given to its constructor.
    """
    kind: Any = type(record)
    names, values = _parts(kind)
    changed: T = kind(**{**dict(zip(names, values(record), strict=True)), **changes})
    return changed
