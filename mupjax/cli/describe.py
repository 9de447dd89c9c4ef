"""`mupjax describe`: the scaling of every parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from mupjax.activations import ACTIVATIONS
from mupjax.cli import options, parsing, running
from mupjax.cli.command import Command
from mupjax.parametrization import PRESETS

Row = Mapping[str, Any]  # a parameter's, as `network.describe` returns it


class Describe(NamedTuple):
    """The options of `mupjax describe`."""

    parametrization: Annotated[str, typer.Option(help=f"{options.one_of(PRESETS)}.")] = "mup"
    width: Annotated[str, typer.Option(help="Units of the hidden layers; 64x128x64 gives each its own.")] = "256"
    depth: Annotated[int, typer.Option(help="Hidden layers.")] = 3
    input_dim: Annotated[int, typer.Option(help="Input dimension d.")] = 64
    out_dim: Annotated[int, typer.Option(help="Outputs C.")] = 1
    base_width: Annotated[
        str, typer.Option(help="Width at which the network is the standard one; 64x32x64 gives each layer its own.")
    ] = "1"
    activation: Annotated[
        str, typer.Option(help=f"{options.one_of(ACTIVATIONS)}; enters the classification by phi(0) and homogeneity.")
    ] = "tanh"
    learning_rate: Annotated[float, typer.Option(help="Base rate that the multipliers apply to.")] = 1.0
    biases: Annotated[bool, typer.Option("--biases", help="Give every layer a bias; else those that have one.")] = False


def describe(given: Describe) -> None:
    """Print the scaling of every parameter, and the regime.

    The scaling is the initial standard deviation, the multiplier and the learning rates.
    """
    import jax
    import jax.numpy as jnp

    from mupjax import network
    from mupjax import parametrization as presets
    from mupjax.parametrization import classification

    base_width = parsing.base_width(given.base_width)
    preset = presets.get(given.parametrization, base_width=base_width, depth=given.depth)
    kind = classification.classify(preset, given.depth, given.activation)
    widths = parsing.widths(given.width, "width")
    if len(widths) != 1:
        raise ValueError(f"Expected `width` to be one width, got width={given.width}.")
    if given.input_dim < 1 or given.out_dim < 1:
        raise ValueError(
            f"Expected `input_dim` and `out_dim` to be positive, got {given.input_dim} and {given.out_dim}."
        )
    model = network.MLP(widths[0], given.depth, given.out_dim, preset, given.activation, use_bias=given.biases or None)
    boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.ones((1, given.input_dim))))
    described = network.describe(network.scaling_tree(boxed))
    running.print_table(*_table(described, given.learning_rate))
    if preset.traits.normalized:
        print("Updates are divided by their Frobenius norms.")
        print(f"{preset.name} is a reconstruction of the paper's parametrization.")
    tp4 = "not defined for this initialisation" if kind.r is None else f"{kind.r:g}"
    where = f"Infinite width, SGD, {given.activation}, {given.depth} hidden layers"
    print(f"{where}: {kind.kind} (Tensor Programs IV's r: {tp4}).")
    print("Weight decay is decoupled: its product with the base rate applies to every parameter, at every width.")


def _table(described: Sequence[Row], learning_rate: float) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows: one row a parameter, and columns of a first step and of means where any has these."""
    first = any(row["sgd_lr_mult_first"] is not None or row["init_kept"] is not None for row in described)
    means = any(row["init_mean"] for row in described)
    normalized = any(row["normalized"] for row in described)
    rate = "norm of a step" if normalized else "SGD rate"
    columns = ["parameter", "role", "fan_in", "fan_out", "multiplier", "init std", rate, "Adam rate", "Adam eps x"]
    columns += ["first SGD rate", "kept of init"] * first + ["init mean"] * means
    rows = [
        [
            row["parameter"],
            row["role"],
            str(row["fan_in"]),
            str(row["fan_out"]),
            *(f"{row[field]:.4g}" for field in ("multiplier", "init_std")),
            f"{learning_rate * row['sgd_lr_mult']:.4g}",
            *["-" if first or normalized else f"{number:.4g}" for number in _adam(row, learning_rate)],
            *_first_step(row, learning_rate) * first,
            *[f"{row['init_mean']:.4g}"] * means,
        ]
        for row in described
    ]
    return columns, rows


def _adam(row: Row, learning_rate: float) -> tuple[float, float]:
    return learning_rate * row["adam_lr_mult"], row["adam_epsilon_mult"]


def _first_step(row: Row, learning_rate: float) -> list[str]:
    mult = row["sgd_lr_mult"] if row["sgd_lr_mult_first"] is None else row["sgd_lr_mult_first"]
    return [f"{learning_rate * mult:.4g}", f"{1 if row['init_kept'] is None else row['init_kept']:.4g}"]


COMMAND = Command(describe, Describe(), example="mupjax describe --parametrization mup --width 1024 --base-width 64")
