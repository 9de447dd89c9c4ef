"""`mupjax describe`: the scaling of every parameter."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mupjax.cli import parsing, running


def describe(
    parametrization: Annotated[
        str, typer.Option(help="sp, ntp, mup, ip, ip_llr, ip_bias, ip_non_centered, hp, hpz or nup.")
    ] = "mup",
    width: Annotated[str, typer.Option(help="Units of the hidden layers; 64x128x64 gives each its own.")] = "256",
    depth: Annotated[int, typer.Option(help="Hidden layers.")] = 3,
    input_dim: Annotated[int, typer.Option(help="Input dimension d.")] = 64,
    out_dim: Annotated[int, typer.Option(help="Outputs C.")] = 1,
    base_width: Annotated[int, typer.Option(help="Width at which the network is the standard one.")] = 1,
    activation: Annotated[str, typer.Option(help="Enters the classification by phi(0) and homogeneity.")] = "tanh",
    learning_rate: Annotated[float, typer.Option(help="Base rate that the multipliers apply to.")] = 1.0,
    biases: Annotated[
        bool, typer.Option("--biases", help="Give every layer a bias; else those that have one.")
    ] = False,
) -> None:
    """Print the initial standard deviation, multiplier and learning rates of every parameter, and the regime."""
    import jax
    import jax.numpy as jnp

    from mupjax import network
    from mupjax import parametrization as presets
    from mupjax.parametrization import classification

    chosen = presets.get(parametrization, base_width=base_width, depth=depth)
    kind = classification.classify(chosen, depth, activation)
    (one_width,) = parsing.widths(width, "width")
    if input_dim < 1 or out_dim < 1:
        raise ValueError(f"Expected `input_dim` and `out_dim` to be positive, got {input_dim} and {out_dim}.")
    model = network.MLP(one_width, depth, out_dim, chosen, activation, use_bias=biases or None)
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
    described = network.describe(network.scaling_tree(boxed))
    first = any(row["sgd_lr_mult_first"] is not None or row["init_kept"] is not None for row in described)
    means = any(row["init_mean"] for row in described)
    normalized = any(row["normalized"] for row in described)
    if normalized:
        columns[columns.index("SGD rate")] = "norm of a step"
    columns += ["first SGD rate", "kept of init"] * first + ["init mean"] * means
    rows = [
        [
            row["parameter"],
            row["role"],
            str(row["fan_in"]),
            str(row["fan_out"]),
            *(f"{row[field]:.4g}" for field in ("multiplier", "init_std")),
            f"{learning_rate * row['sgd_lr_mult']:.4g}",
            *["-" if first or normalized else f"{rate:.4g}" for rate in _adam(row, learning_rate)],
            *_first_step(row, learning_rate) * first,
            *[f"{row['init_mean']:.4g}"] * means,
        ]
        for row in described
    ]
    running.print_table(columns, rows)
    if normalized:
        print("Updates are divided by their Frobenius norms; nup is a reconstruction of the paper's.")
    tp4 = "not defined for this initialisation" if kind.r is None else f"{kind.r:g}"
    print(f"Infinite width, SGD, {activation}, {depth} hidden layers: {kind.kind} (Tensor Programs IV's r: {tp4}).")
    print("Weight decay is decoupled: its product with the base rate applies to every parameter, at every width.")


def _adam(row: dict[str, Any], learning_rate: float) -> tuple[float, float]:
    return learning_rate * row["adam_lr_mult"], row["adam_epsilon_mult"]


def _first_step(row: dict[str, Any], learning_rate: float) -> list[str]:
    mult = row["sgd_lr_mult"] if row["sgd_lr_mult_first"] is None else row["sgd_lr_mult_first"]
    return [f"{learning_rate * mult:.4g}", f"{1 if row['init_kept'] is None else row['init_kept']:.4g}"]
