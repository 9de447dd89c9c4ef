r"""Observers of ranks of features and weight updates, and of the contributions of weights and updates to h.

Under `ip_llr` the first update of a hidden kernel has a rank of at most the batch size, and the initial part vanishes
with the width, so that features span few dimensions (Hajjar et al. 2021, arXiv:2110.15596). Pass these observers to
`observers=` of `dynamics.dense.train`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from mupjax.dynamics.gram import gram, in_float64, up
from mupjax.dynamics.observing import Batch, State
from mupjax.network import MLP, scaling_tree
from mupjax.parametrization import ParamScaling


class Ranks(NamedTuple):
    """Three ranks of a matrix. All are 0 for a zero matrix; a matrix that is not finite gives -1 or NaN.

    Attributes:
      numerical: number of singular values above s_max * max(shape) * float32's epsilon, the default of `matrix_rank` in
        NumPy and PyTorch.
      frobenius: (||A||_F / ||A||_2)^2, the stable rank.
      squared_trace: tr(A A^T)^2 / tr((A A^T)^2).
    """

    numerical: Int[Array, "*runs"]
    frobenius: Float[Array, "*runs"]
    squared_trace: Float[Array, "*runs"]


def ranks(matrix: Float[Array, "rows columns"]) -> Ranks:
    r"""Return the ranks of a matrix from the float64 Gram matrix of its shorter side.

    Eigenvalues of the Gram matrix are squared singular values. float64 resolves singular values down to about
    1e-8 s_max, well below the threshold max(shape) * 1.2e-7 s_max.

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
    """Ranks of the matrices of features over the inputs.

    Attributes:
      h: [L], of the preactivations.
      x: [L], of the activations.
    """

    h: Ranks
    x: Ranks


def feature_ranks(model: MLP, inputs: Float[ArrayLike, "G d"]) -> Callable[[State, Batch], FeatureRanks]:
    """Return an observer of the ranks of the feature matrices [G, n_l] of the layers.

    Args:
      model: the trained MLP.
      inputs: [G, d].

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
        found: PyTree = model.apply({"params": state.params}, x, method="features")
        return FeatureRanks(*(_stacked([ranks(z) for z in layers]) for layers in (found.h, found.x)))

    return observe


class UpdateRanks(NamedTuple):
    """Ranks of the updates of the kernels of layers 1..L and the readout.

    The part of the initial weights that the first step drops (`hp`, `hpz`) does not count as an update.

    Attributes:
      first: [L + 1], of the first update.
      last: [L + 1], of the last update.
      total: [L + 1], of the change since initialisation.
    """

    first: Ranks
    last: Ranks
    total: Ranks


def update_ranks(model: MLP) -> Callable[[State, Batch], UpdateRanks]:
    """Return an observer of the ranks of weight updates, 0 before the first step.

    Args:
      model: the trained MLP.

    Raises:
      ValueError: if the model has residual branches, when the observer is called.
    """

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
    """Mean absolute values, over inputs and units, of the parts of h^l_t (layers 1..L) and of f_t.

    All parts act on the features of step t.

    Attributes:
      initial: [L + 1], of the part of W_0 that the first step keeps, with the initial bias.
      first: [L + 1], of the first update.
      later: [L + 1], of the sum of all later updates.
      total: [L + 1], of h (f) itself, the sum of the three.
    """

    initial: Float[Array, "*runs layers"]
    first: Float[Array, "*runs layers"]
    later: Float[Array, "*runs layers"]
    total: Float[Array, "*runs layers"]


def contributions(model: MLP, inputs: Float[ArrayLike, "G d"]) -> Callable[[State, Batch], Contributions]:
    """Return an observer of the contributions of initial weights, first update and later updates to preactivations.

    Args:
      model: the trained MLP.
      inputs: [G, d].

    Raises:
      ValueError: if the model has residual branches, when the observer is called.
    """
    xi = jnp.asarray(inputs)

    def observe(state: State, batch: Batch) -> Contributions:
        found: PyTree = model.apply({"params": state.params}, xi, method="features")
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
    """Return (name, scalings of kernel and bias) of every layer."""
    if model.parametrization.residual_factors(model.depth) is not None:
        raise ValueError(f"Expected layers without residual branches, got {model.parametrization.name}.")
    boxed = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 1)))
    tree = scaling_tree(boxed)
    return [(name, tree[name]) for name in (*(f"layer_{k + 1}" for k in range(model.depth)), "readout")]


def _kept(scaling: ParamScaling, step: jax.Array) -> ArrayLike:
    """Return the factor of the initial kernel in the parameters of a step."""
    return 1.0 if scaling.init_kept is None else jnp.where(step > 0, scaling.init_kept, 1.0)


def _linear(params: PyTree, x: jax.Array, scaling: dict[str, ParamScaling]) -> jax.Array:
    y = scaling["kernel"].multiplier * jnp.matmul(x, params["kernel"], precision="highest")
    return y + scaling["bias"].multiplier * params["bias"][None, :] if "bias" in params else y


def _stacked(found: list[Ranks]) -> Ranks:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
