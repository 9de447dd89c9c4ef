"""Layout of a Dataset before it is filled: variables, dims, coordinates, and the positions of each cell's arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mupjax.results.variables import Variable

if TYPE_CHECKING:
    import xarray as xr

Where = Mapping[str, Sequence[int]]


class Filled(NamedTuple):
    """A variable that cells fill.

    Attributes:
      dims: those along which cells differ first.
      dtype: NumPy's name of it.
      attrs: its units and its name in words.
    """

    dims: tuple[str, ...]
    dtype: str
    attrs: dict[str, str]


class Layout(NamedTuple):
    """A Dataset's variables, sizes and coordinates before any cell is computed.

    Attributes:
      coords: a Dataset of coordinates, attributes and variables whose values are known.
      variables: those that cells fill, by name.
      sizes: of every dim.
      cell_dims: the dims along which cells differ.
    """

    coords: xr.Dataset
    variables: dict[str, Filled]
    sizes: dict[str, int]
    cell_dims: tuple[str, ...]


def filled(variables: Mapping[str, Variable], dtypes: Mapping[str, str]) -> dict[str, Filled]:
    """Return those of `variables` that `dtypes` names."""
    return {name: Filled(variables[name].dims, dtype, variables[name].attrs) for name, dtype in dtypes.items()}


def empty(layout: Layout) -> xr.Dataset:
    """Return the Dataset with NaN everywhere; zero or false where a variable is no float."""
    return layout.coords.assign(
        {
            name: (dims, blank([layout.sizes[dim] for dim in dims], dtype), attrs)
            for name, (dims, dtype, attrs) in layout.variables.items()
        }
    )


def blank(shape: Sequence[int], dtype: str) -> np.ndarray:
    """Return the fill array of an uncomputed variable."""
    return np.full(shape, np.nan if np.issubdtype(dtype, np.inexact) else 0, dtype)


def places(dims: Sequence[object], where: Where) -> Iterator[tuple[int, ...]]:
    """Return the positions that a cell fills in a variable of these dims: along those of `where`, which come first."""
    return product(*(where[str(dim)] for dim in dims if dim in where))


def put(dataset: xr.Dataset, where: Where, found: Mapping[str, np.ndarray]) -> None:
    """Write a cell's arrays, one axis for its places and then the variable's other dims, into the Dataset in place."""
    for name, array in found.items():
        for place, value in zip(places(dataset[name].dims, where), array, strict=True):
            dataset[name].values[place] = value
