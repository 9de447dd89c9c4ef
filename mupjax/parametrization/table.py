"""A parametrization as text: one row per role, one column per field that differs from its default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(heading: str, columns: Mapping[str, Any]) -> str:
    """Return a heading over a table with a row for each role.

    Args:
      heading: the first line.
      columns: {name: a PerRole}, at least one. Numbers are printed exactly, so that two tables agree only where all
        numbers do.

    Example:
      >>> from mupjax.parametrization.roles import ONE, ZERO
      >>> print(table("sizes", {"a": ZERO, "b": ONE._replace(hidden=0.5)}))
      sizes
                   a    b
      input        0    1
      hidden       0  0.5
      output       0    1
      bias         0    1
      output_bias  0    1
    """
    roles = next(iter(columns.values()))._fields
    names = ["", *roles]
    lines = [name.ljust(max(map(len, names))) for name in names]
    for name, numbers in columns.items():
        cells = [name, *map(_number, numbers)]
        lines = [f"{line}  {cell.rjust(max(map(len, cells)))}" for line, cell in zip(lines, cells, strict=True)]
    return "\n".join([heading, *lines])


def _number(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_number, value))})"
    return repr(value).removesuffix(".0")
