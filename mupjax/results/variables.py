"""The variables of a Dataset: dims, names in words and units, written once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Variable(NamedTuple):
    """A variable or coordinate of a Dataset.

    Attributes:
      dims: in order.
      long_name: in words; empty for coordinates whose name says it.
      units: '1' for pure numbers; empty for words and indices.
    """

    dims: tuple[str, ...]
    long_name: str = ""
    units: str = "1"

    @property
    def attrs(self) -> dict[str, str]:
        """The attributes that the Dataset keeps beside the values."""
        return {name: text for name, text in (("units", self.units), ("long_name", self.long_name)) if text}


def along(dims: tuple[str, ...], variables: Mapping[str, Variable]) -> dict[str, Variable]:
    """Return variables with more dims in front of their own.

    Example:
      >>> along(("width", "seed"), {"train_loss": TRAJECTORY["train_loss"]})["train_loss"].dims
      ('width', 'seed', 'step')
    """
    return {name: variable._replace(dims=(*dims, *variable.dims)) for name, variable in variables.items()}


def index(dim: str, long_name: str = "", units: str = "") -> dict[str, Variable]:
    """Return the coordinate of a dim by its name."""
    return {dim: Variable((dim,), long_name, units)}


_FEATURES = {"h": "preactivations h", "x": "activations x"}
_GRAM, _AT = ("gram_step", "layer", "gram_input", "gram_input_2"), ("gram_step", "layer")


def _of_features(name: str, words: str) -> dict[str, Variable]:
    """Metrics of h or x, and the resolution of the eigenvalues among them."""
    of = f" of the {words}"
    eigenvalues = {
        f"diversity_{name}": f"smallest eigenvalue of the Gram matrix{of}",
        f"space_time_lambda_min_{name}": f"smallest eigenvalue of the joint Gram matrix{of}",
    }
    return {
        f"{name}_gram": Variable(_GRAM, f"Gram matrix of {name}, <{name}, {name}>/n"),
        f"feature_change_{name}": Variable(_AT, f"relative feature change{of}"),
        **{key: Variable(_AT, text) for key, text in eigenvalues.items()},
        **{f"{key}_resolution": Variable(_AT, f"{text}: resolution of rounding") for key, text in eigenvalues.items()},
    }


# What is measured of one run's Trajectory. Comparisons and sweeps put the dims of their runs in front.
TRAJECTORY: dict[str, Variable] = {
    "train_loss": Variable(("step",), "training loss"),
    "test_loss": Variable(("step",), "test loss"),
    "predictions": Variable(("step", "input", "output"), "network output"),
    **_of_features("h", _FEATURES["h"]),
    **_of_features("x", _FEATURES["x"]),
}
WIDTH: dict[str, Variable] = {
    **index("width", "width", "hidden units"),
    "width_label": Variable(("width",), units=""),
}
