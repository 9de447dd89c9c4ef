"""`mupjax describe`: the scaling of every parameter."""

from __future__ import annotations

from typing import Annotated

import typer

from mupjax.cli import parsing, running


def describe(
    parametrization: Annotated[str, typer.Option(help="sp, ntp, mup or ip.")] = "mup",
    width: Annotated[str, typer.Option(help="Units of the hidden layers; 64x128x64 gives each its own.")] = "256",
    depth: Annotated[int, typer.Option(help="Hidden layers.")] = 3,
    input_dim: Annotated[int, typer.Option(help="Input dimension d.")] = 64,
    out_dim: Annotated[int, typer.Option(help="Outputs C.")] = 1,
    base_width: Annotated[int, typer.Option(help="Width at which the network is the standard one.")] = 1,
    activation: Annotated[str, typer.Option(help="Enters the classification by phi(0) and homogeneity.")] = "tanh",
    learning_rate: Annotated[float, typer.Option(help="Base rate that the multipliers apply to.")] = 1.0,
    biases: Annotated[bool, typer.Option("--biases", help="Give every layer a bias.")] = False,
) -> None:
    """Print the initial standard deviation, multiplier and learning rates of every parameter, and the regime."""
    import jax
    import jax.numpy as jnp

    from mupjax import classification, network
    from mupjax import parametrization as presets

    chosen = presets.get(parametrization, base_width=base_width)
    kind = classification.classify(chosen, depth, activation)
    (one_width,) = parsing.widths(width, "width")
    if input_dim < 1 or out_dim < 1:
        raise ValueError(f"Expected `input_dim` and `out_dim` to be positive, got {input_dim} and {out_dim}.")
    model = network.MLP(one_width, depth, out_dim, chosen, activation, use_bias=biases)
    boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.ones((1, input_dim))))
    columns = [
        "parameter",
        "role",
        "fan_in",
        "fan_out",
        "multiplier",
        "init std",
        "SGD rate",
        "Adam rate",
        "Adam eps x",
    ]
    rows = [
        [
            row["parameter"],
            row["role"],
            str(row["fan_in"]),
            str(row["fan_out"]),
            *(f"{row[field]:.4g}" for field in ("multiplier", "init_std")),
            *(f"{learning_rate * row[field]:.4g}" for field in ("sgd_lr_mult", "adam_lr_mult")),
            f"{row['adam_epsilon_mult']:.4g}",
        ]
        for row in network.describe(network.scaling_tree(boxed))
    ]
    running.print_table(columns, rows)
    tp4 = "not defined for this initialisation" if kind.r is None else f"{kind.r:g}"
    print(f"Infinite width, SGD, {activation}, {depth} hidden layers: {kind.kind} (Tensor Programs IV's r: {tp4}).")
    print("Weight decay is decoupled: its product with the base rate applies to every parameter, at every width.")
