"""Words that several kinds of result share: lists, and the HTML files that lie beside a kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources


def joined(values: Iterable[object]) -> str:
    """Return values as words with commas between.

    Example:
      >>> joined((64, 256))
      '64, 256'
    """
    return ", ".join(map(str, values))


def of_each(values: Mapping[str, str]) -> str:
    """Return what was found of each name.

    Example:
      >>> of_each({"sp": "-0.500", "mup": "0.000"})
      '-0.500 (sp), 0.000 (mup)'
    """
    return joined(f"{value} ({name})" for name, value in values.items())


def read_html(package: str) -> str:
    """Return reading.html of a package: how to read the numbers of its kind."""
    return resources.files(package).joinpath("reading.html").read_text(encoding="utf-8")
