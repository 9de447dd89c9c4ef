"""Result kinds: `attrs["kind"]` names the record that draws and summarises a Dataset.

A study's Kind is defined in the study's own folder. It is imported by its name in KINDS when a Dataset of that kind is
drawn, reported or summarised, so that `plots` and `report` know no study. Nothing is guessed from variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from mupjax.results.variables import Variable

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

# Where each kind's record KIND is.
KINDS: dict[str, str] = {
    "comparison": "mupjax.studies.comparison.kind",
    "limit": "mupjax.studies.limit.kind",
    "sweep": "mupjax.sweeps.kind",
    "transfer": "mupjax.studies.transfer.kind",
    "coordinate check": "mupjax.studies.coordinates.kind",
    "covariance": "mupjax.studies.covariance.kind",
    "training": "mupjax.studies.training.kind",
    "catapults": "mupjax.studies.catapults.kind",
}


class Caption(NamedTuple):
    """Title and caption of a figure.

    Attributes:
      title: plain text.
      html: the caption, HTML.
    """

    title: str
    html: str


class Table(NamedTuple):
    """A table of plain text, for the terminal and the report.

    Attributes:
      title: of the report's section.
      columns: their titles.
      rows: cells, one a column.
      caption: how to read it.
      leading: how many of the first columns name a group of rows.
      marked: indices of the rows that stand out.
      words: titles of the columns that hold words, which wrap, and no numbers.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str
    leading: int = 1
    marked: Sequence[int] = ()
    words: tuple[str, ...] = ()


def as_given(dataset: xr.Dataset, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call as they are."""
    return arguments


class Kind(NamedTuple):
    """How results of one kind are shown.

    Attributes:
      name: the value of `attrs["kind"]`.
      heading: of the report.
      variables: variables and coordinates by name, with all their dims.
      needs: the names among them without which nothing can be shown.
      subject: what was run, in a few words.
      figures: {file name: Figure}.
      captions: by the figures' file names.
      tables: the most important one first.
      reading: an HTML list of how to read the numbers.
      conclusion: one plain sentence of what was found, computed from the numbers.
      settings: the arguments of the call as the report shows them, such as learning rates by what they belong to.
    """

    name: str
    heading: str
    variables: Mapping[str, Variable]
    needs: tuple[str, ...]
    subject: Callable[[xr.Dataset], str]
    figures: Callable[[xr.Dataset], dict[str, Figure]]
    captions: Mapping[str, Caption]
    tables: Callable[[xr.Dataset], list[Table]]
    reading: Callable[[xr.Dataset], str]
    conclusion: Callable[[xr.Dataset], str]
    settings: Callable[[xr.Dataset, dict[str, Any]], dict[str, Any]] = as_given


def kind_of(dataset: xr.Dataset) -> Kind:
    """Return the Kind that `attrs["kind"]` names.

    Raises:
      ValueError: where it is missing or unknown.

    Example:
      >>> import xarray as xr
      >>> kind_of(xr.Dataset(attrs={"kind": "sweep"})).name
      'sweep'
    """
    name = dataset.attrs.get("kind")
    if name not in KINDS:
        raise ValueError(
            f"Expected a Dataset with attrs['kind'] one of {', '.join(KINDS)}, got {type(dataset).__name__} with "
            f"kind={name!r}."
        )
    return import_module(KINDS[name]).KIND


def complete(dataset: xr.Dataset) -> xr.Dataset:
    """Return the Dataset with every dim of its kind: those that a selection has dropped come back with length one.

    So that results of `.isel(width=0)` or `.sel(parametrization="mup")` are drawn like those of a study of one width
    or one parametrization.

    Raises:
      ValueError: where the kind is unknown, or a variable that it needs is missing, empty, or has other dims.

    Example:
      >>> import mupjax, numpy as np
      >>> task = mupjax.Task(np.eye(4), np.ones((4, 1)))
      >>> data = mupjax.sweep(task, widths=(8,), depths=(2,), learning_rates=(0.1, 0.2), seeds=2, steps=3)
      >>> complete(data.sel(learning_rate=0.1)).sizes["learning_rate"]
      1
    """
    kind = kind_of(dataset)
    if missing := [name for name in kind.needs if name not in dataset.variables]:
        raise ValueError(f"Expected a {kind.name} with {', '.join(kind.needs)}, got none of {', '.join(missing)}.")
    changed = {}
    for name, variable in kind.variables.items():
        if name not in dataset.variables:
            continue
        found = dataset.variables[name]
        if other := [str(dim) for dim in found.dims if dim not in variable.dims]:
            raise ValueError(
                f"Expected `{name}` of a {kind.name} along {', '.join(variable.dims)}, got also {', '.join(other)}."
            )
        if name in kind.needs and 0 in found.shape:
            raise ValueError(f"Expected `{name}` of a {kind.name} to hold numbers, got the shape {found.shape}.")
        if len(found.dims) < len(variable.dims):
            order = [dim for dim in variable.dims if dim not in found.dims]
            changed[name] = found.set_dims([*order, *found.dims]).transpose(*variable.dims)
    if not changed:
        return dataset
    coords = {name: value for name, value in changed.items() if name in dataset.coords}
    arrays = {name: value for name, value in changed.items() if name not in dataset.coords}
    return dataset.drop_vars(changed).assign_coords(coords).assign(arrays)
