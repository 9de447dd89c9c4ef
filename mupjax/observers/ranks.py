r"""Ranks of features and of weight updates, and what the initial weights and the updates contribute to preactivations.

The first step of `ip_llr` gives hidden weights whose updates have a rank of at most the batch size, and whose initial
part vanishes with the width: features live in few dimensions (Hajjar et al. 2021, arXiv:2110.15596). The observers here
are for `observers=` of `dynamics.dense.train`; they take real weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from mupjax.dynamics.dense import Batch, State
from mupjax.dynamics.gram import gram, in_float64, up
from mupjax.network import MLP, scaling_tree
from mupjax.parametrization import ParamScaling


class Ranks(NamedTuple):
    """Measures of how many directions a matrix has; all 0 for a matrix of zeros, -1 or NaN where it is not finite.

    numerical: singular values above s_max * max(shape) * float32's epsilon, the default of NumPy's and PyTorch's
    `matrix_rank`. frobenius: (||A||_F / ||A||_2)^2, the stable rank. squared_trace: tr(A A^T)^2 / tr((A A^T)^2).
    """

    numerical: Int[Array, "*runs"]
    frobenius: Float[Array, "*runs"]
    squared_trace: Float[Array, "*runs"]


def ranks(matrix: Float[Array, "rows columns"]) -> Ranks:
    r"""Return the ranks of a matrix, from the Gram matrix of its shorter side in float64.

    A Gram's eigenvalues are squares of singular values: float64 resolves those down to about 1e-8 s_max, and the
    threshold, max(shape) * 1.2e-7 s_max, is well clear of that.

    Example:
      >>> import jax.numpy as jnp
      >>> int(ranks(jnp.outer(jnp.arange(3.0), jnp.ones(4))).numerical)
      1
    """
    shorter = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    scale = jnp.max(jnp.abs(matrix))
    unit = shorter / jnp.where(scale > 0, scale, 1)
    return Ranks(*_of_gram(gram(unit, unit, 1), jnp.int32(max(matrix.shape))))


@in_float64
def _of_gram(gram: jax.Array, longer: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    squares = jnp.maximum(jnp.linalg.eigvalsh(gram, symmetrize_input=False), 0)
    largest, total = squares[-1], jnp.sum(squares)
    threshold = (up(longer) * float(np.finfo(np.float32).eps)) ** 2 * largest
    there = jnp.where(largest > 0, largest, 1)
    return (
        jnp.where(jnp.isfinite(total), jnp.sum(squares > threshold), -1).astype(jnp.int32),
        (total / there).astype(jnp.float32),
        (total**2 / jnp.where(largest > 0, jnp.sum(squares**2), 1)).astype(jnp.float32),
    )


class FeatureRanks(NamedTuple):
    """Ranks of preactivations and of activations over the inputs, by layer: [L]."""

    h: Ranks
    x: Ranks


def feature_ranks(model: MLP, inputs: Float[ArrayLike, "G d"]) -> Callable[[State, Batch], FeatureRanks]:
    """Return an observer of the ranks of the matrices [G, n_l] of features of these inputs.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax.dynamics import dense
      >>> from mupjax.parametrization import mup
      >>> from mupjax.task import Task
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> network = {"width": 16, "depth": 2, "activation": "tanh"}
      >>> seen = {"ranks": feature_ranks(MLP(out_dim=1, parametrization=mup(), **network), task.x_train)}
      >>> settings = {"learning_rate": 0.1, "steps": 2, "key": jax.random.key(0)}
      >>> run = dense.train(task, mup(), observers=seen, **network, **settings)
      >>> run.observed["ranks"].h.numerical.shape
      (3, 2)
    """
    x = jnp.asarray(inputs)

    def observe(state: State, batch: Batch) -> FeatureRanks:
        found: Any = model.apply({"params": state.params}, x, method="features")
        return FeatureRanks(*(_stacked([ranks(z) for z in layers]) for layers in (found.h, found.x)))

    return observe


class UpdateRanks(NamedTuple):
    """Ranks of the updates of every kernel, layers 1..L and the readout: [L + 1].

    first: of the first update. last: of the last one. total: of the change since initialisation. Of all three the part
    of the initial weights that the first step drops (`hp`, `hpz`) is left out.
    """

    first: Ranks
    last: Ranks
    total: Ranks


def update_ranks(model: MLP) -> Callable[[State, Batch], UpdateRanks]:
    """Return an observer of the ranks of weight updates; before the first step they are 0."""

    def observe(state: State, batch: Batch) -> UpdateRanks:
        first, last, total = [], [], []
        for name, layer in _layers(model):
            scaling = layer["kernel"]
            w_0, w_1, w = (params[name]["kernel"] for params in (state.params_0, state.params_1, state.params))
            kept = _kept(scaling, state.step)
            first.append(ranks(w_1 - kept * w_0))
            total.append(ranks(w - kept * w_0))
            update = state.last_update[name]["kernel"]
            lost = jnp.where(state.step == 1, kept - 1, 0) if scaling.init_kept is not None else 0
            last.append(ranks(update - lost * w_0))
        return UpdateRanks(*map(_stacked, (first, last, total)))

    return observe


class Contributions(NamedTuple):
    """Mean absolute values over inputs and units of the parts of h^l_t, layers 1..L, and of f_t last: [L + 1].

    initial: of what is kept of W_0, with the initial bias. first: of the first update. later: of all later ones. total:
    of their sum, h itself. All act on the features of step t.
    """

    initial: Float[Array, "*runs layers"]
    first: Float[Array, "*runs layers"]
    later: Float[Array, "*runs layers"]
    total: Float[Array, "*runs layers"]


def contributions(model: MLP, inputs: Float[ArrayLike, "G d"]) -> Callable[[State, Batch], Contributions]:
    """Return an observer of what initial weights, the first update and later ones give the preactivations."""
    xi = jnp.asarray(inputs)

    def observe(state: State, batch: Batch) -> Contributions:
        found: Any = model.apply({"params": state.params}, xi, method="features")
        rows = []
        for (name, scaling), x in zip(_layers(model), (xi / xi.shape[-1] ** 0.5, *found.x), strict=True):
            layer_0, layer_1, layer = (params[name] for params in (state.params_0, state.params_1, state.params))
            kept = _kept(scaling["kernel"], state.step)
            start = {"kernel": kept * layer_0["kernel"]} | {k: v for k, v in layer_0.items() if k != "kernel"}
            parts = (start, jax.tree.map(jnp.subtract, layer_1, start), jax.tree.map(jnp.subtract, layer, layer_1))
            values = [_linear(part, x, scaling) for part in (*parts, layer)]
            rows.append(jnp.stack([jnp.mean(jnp.abs(value)) for value in values]))
        return Contributions(*jnp.stack(rows, axis=1))

    return observe


def _layers(model: MLP) -> list[tuple[str, dict[str, ParamScaling]]]:
    """Layers with the scalings of their kernels and biases."""
    if model.parametrization.residual_factors(model.depth) is not None:
        raise ValueError(f"Expected layers without residual branches, got {model.parametrization.name}.")
    boxed = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 1)))
    tree = scaling_tree(boxed)
    return [(name, tree[name]) for name in (*(f"layer_{k + 1}" for k in range(model.depth)), "readout")]


def _kept(scaling: ParamScaling, step: Any) -> Any:
    """What the initial kernel is multiplied by in the parameters of a step."""
    return 1.0 if scaling.init_kept is None else jnp.where(step > 0, scaling.init_kept, 1.0)


def _linear(params: Any, x: jax.Array, scaling: Any) -> jax.Array:
    y = scaling["kernel"].multiplier * jnp.matmul(x, params["kernel"], precision="highest")
    return y + scaling["bias"].multiplier * params["bias"][None, :] if "bias" in params else y


def _stacked(found: list[Ranks]) -> Ranks:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
