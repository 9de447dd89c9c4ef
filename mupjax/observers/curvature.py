r"""Observers of curvature: sharpness, the spectrum of the tangent kernel and its change.

The Hessian of the mse loss :math:`\tfrac{1}{2P} \sum_i \|f_i - y_i\|^2` is :math:`J^\top J / P` plus a part that
vanishes with the residuals. :math:`\Theta / P`, with the tangent kernel :math:`\Theta = J R J^\top`, has the same
non-zero eigenvalues as :math:`R^{1/2} J^\top J R^{1/2} / P`, where R holds the learning-rate multipliers of the
parameters. Both are therefore measured with R: gradient descent with base rate :math:`\eta` is at the edge of stability
if the largest eigenvalue is :math:`2 / \eta`. Lanczos computes the eigenvalues (`spectrum`), with residuals as error
estimates.

Pass observers to `observers=` of `dynamics.dense.train`. The functions that they call are pure: may be jitted, and
vmapped over runs. All use the full training set. A network is an MLP or a function of parameters and inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from mupjax.dynamics.observing import Batch, State
from mupjax.network import MLP, scaling_tree
from mupjax.observers.spectrum import Eigenvalues, Extremes, extremes
from mupjax.optim import SharpnessSgd
from mupjax.optim.sharpness import Loss, Measure
from mupjax.optim.transforms import by_path, is_normalized, is_switched, later_rates
from mupjax.task import Task, loss_per_sample

Network = MLP | Callable[[PyTree, jax.Array], jax.Array]


def hessian_eigenvalues(
    loss: Loss, params: PyTree, *, scaling: PyTree | None = None, num: int = 1, num_products: int = 24
) -> Eigenvalues:
    r"""Return the largest eigenvalues of :math:`R^{1/2} H R^{1/2}`, where H is the Hessian of a loss.

    The cost is `num_products` Hessian-vector products, about four gradients each, and as many copies of the parameters.

    Args:
      loss: a function of the parameters.
      params: the parameters at which the Hessian is taken.
      scaling: a scaling tree whose SGD multipliers are R; None means the identity.
      num: number of eigenvalues.
      num_products: as in `spectrum.extremes`.

    Returns:
      Eigenvalues [num], in units of the inverse base learning rate.

    Raises:
      ValueError: if the rates of `scaling` are not fixed (normalized updates, or a first step of its own).

    Example:
      >>> found = hessian_eigenvalues(lambda w: jnp.sum(jnp.array([2.0, 0.5]) * w**2), jnp.ones(2), num=2)
      >>> [round(float(value), 4) for value in found.values]
      [4.0, 1.0]
    """
    roots = rate_roots(params, scaling)

    def product(v: PyTree) -> PyTree:
        scaled = jax.tree.map(jnp.multiply, roots, v)
        curved = jax.jvp(jax.grad(loss), (params,), (scaled,))[1]
        return jax.tree.map(jnp.multiply, roots, curved)

    return extremes(product, params, num=num, num_products=num_products).largest


def ntk_eigenvalues(
    network: Network,
    params: PyTree,
    inputs: Float[ArrayLike, "P d"],
    *,
    scaling: PyTree | None = None,
    num: int = 1,
    num_products: int = 24,
) -> Extremes:
    r"""Return the extreme eigenvalues of :math:`\Theta / P`, :math:`\Theta = J R J^\top`, without forming the matrix.

    Args:
      network: an MLP or a function of parameters and inputs.
      params: the parameters at which the kernel is taken.
      inputs: [P, d].
      scaling: as in `hessian_eigenvalues`.
      num: number of eigenvalues at each end.
      num_products: as in `spectrum.extremes`. P C products give the smallest eigenvalue to rounding, fewer an upper
        bound.

    Raises:
      ValueError: as in `hessian_eigenvalues`.

    Example:
      >>> found = ntk_eigenvalues(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.diag(jnp.array([1.0, 2.0])))
      >>> round(float(found.largest.values[0]), 4), round(float(found.smallest.values[0]), 4)
      (2.0, 0.5)
    """
    product, like = _ntk_product(network, params, jnp.asarray(inputs), scaling)
    return extremes(lambda v: product(v) / len(v), like, num=num, num_products=num_products)


def empirical_ntk(
    network: Network, params: PyTree, inputs: Float[ArrayLike, "G d"], *, scaling: PyTree | None = None
) -> Float[Array, "GC GC"]:
    r"""Return :math:`\Theta = J R J^\top` of a few inputs, one column at a time, without storing the Jacobian.

    Args:
      network: an MLP or a function of parameters and inputs.
      params: the parameters at which the kernel is taken.
      inputs: [G, d].
      scaling: as in `hessian_eigenvalues`.

    Returns:
      [G C, G C], ordered by input, then output.

    Raises:
      ValueError: as in `hessian_eigenvalues`.

    Example:
      >>> empirical_ntk(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.diag(jnp.array([1.0, 2.0]))).tolist()
      [[1.0, 0.0], [0.0, 4.0]]
    """
    product, like = _ntk_product(network, params, jnp.asarray(inputs), scaling)
    columns = jnp.eye(like.size, dtype=like.dtype).reshape(-1, *like.shape)
    with jax.default_matmul_precision("highest"):
        return jax.lax.map(product, columns).reshape(like.size, like.size)


def sharpness(
    network: Network,
    task: Task,
    *,
    scaling: PyTree | None = None,
    centred: bool = False,
    num: int = 1,
    num_products: int = 24,
) -> Callable[[State, Batch], Eigenvalues]:
    """Return an observer of the largest Hessian eigenvalues of the training loss.

    Args:
      network: an MLP or a function of parameters and inputs.
      task: data and loss.
      scaling: a scaling tree whose SGD multipliers enter the Hessian. Defaults to an MLP's own (those of the later
        steps if the first differs, ones for normalized updates), and to the identity for a function.
      centred: whether f - f_0 is trained.
      num: number of eigenvalues.
      num_products: as in `spectrum.extremes`.

    Raises:
      ValueError: as in `hessian_eigenvalues`, when the observer is called.

    Example:
      >>> import numpy as np
      >>> from mupjax.dynamics import dense
      >>> from mupjax.parametrization import ntp
      >>> task, network = Task(np.eye(4), np.ones((4, 1))), {"width": 16, "depth": 2, "activation": "tanh"}
      >>> seen = {"sharpness": sharpness(MLP(out_dim=1, parametrization=ntp(), **network), task)}
      >>> settings = {"learning_rate": 0.1, "steps": 2, "key": jax.random.key(0)}
      >>> dense.train(task, ntp(), observers=seen, **network, **settings).observed["sharpness"].values.shape
      (3, 1)
    """
    scaling = _own_scaling(network, task) if scaling is None else scaling

    def observe(state: State, batch: Batch) -> Eigenvalues:
        loss = _training_loss(network, task, state.params_0 if centred else None)
        return hessian_eigenvalues(loss, state.params, scaling=scaling, num=num, num_products=num_products)

    return observe


@lru_cache(maxsize=64)
def sharpness_sgd(*, every: int = 10, decay: float = 0.0, num_products: int = 16) -> SharpnessSgd:
    r"""Return an optimizer whose rate is c divided by the measured sharpness; its `learning_rate` is c.

    The sharpness is that of the step's loss with the parametrization's rates in it, so that c = 2 is the edge of
    stability. It is a reconstruction of the geometry-aware schedule of Terjek 2025 (`optim.scale_by_sharpness`);
    compare it with constant rates.

    Args:
      every: steps between measurements.
      decay: decay of the average over measurements, in [0, 1).
      num_products: Hessian-vector products per measurement.

    Example:
      >>> import numpy as np
      >>> from mupjax.dynamics import dense
      >>> from mupjax.parametrization import ntp
      >>> task, settings = Task(np.eye(4), np.ones((4, 1))), {"steps": 3, "key": jax.random.key(0)}
      >>> run = dense.train(
      ...     task, ntp(), width=16, depth=2, learning_rate=1.0, optimizer=sharpness_sgd(every=1), **settings
      ... )
      >>> bool(run.train_loss[-1] < run.train_loss[0])
      True
    """
    return SharpnessSgd(_Measure(num_products), every, decay)


@dataclass(frozen=True)
class _Measure:
    num_products: int

    def __call__(self, scaling: PyTree) -> Measure:
        return partial(sharpness_of, scaling=scaling, num_products=self.num_products)


def sharpness_of(
    loss: Loss, params: PyTree, *, scaling: PyTree | None = None, num_products: int = 16
) -> Float[Array, ""]:
    """Return the largest eigenvalue of `hessian_eigenvalues`; arguments and errors as there.

    Example:
      >>> round(float(sharpness_of(lambda w: jnp.sum(jnp.array([2.0, 0.5]) * w**2), jnp.ones(2))), 4)
      4.0
    """
    return hessian_eigenvalues(loss, params, scaling=scaling, num_products=num_products).values[0]


def ntk_spectrum(
    network: Network, task: Task, *, scaling: PyTree | None = None, num: int = 1, num_products: int = 24
) -> Callable[[State, Batch], Extremes]:
    """Return an observer of the extreme eigenvalues of Theta/P, the tangent kernel of the P training inputs.

    Args:
      network, task, scaling: as in `sharpness`.
      num, num_products: as in `ntk_eigenvalues`.
    """
    scaling = _own_scaling(network, task) if scaling is None else scaling

    def observe(state: State, batch: Batch) -> Extremes:
        return ntk_eigenvalues(network, state.params, task.x_train, scaling=scaling, num=num, num_products=num_products)

    return observe


def ntk_change(
    network: Network, inputs: Float[ArrayLike, "G d"], *, scaling: PyTree | None = None
) -> Callable[[State, Batch], Float[Array, ""]]:
    r"""Return an observer of :math:`\|\Theta_t - \Theta_0\|_F / \|\Theta_0\|_F` on a few inputs.

    It is of order 1/n in width for NTP (Dyer & Gur-Ari 2020, arXiv:1909.11304) and of order one for muP.

    Args:
      network: an MLP or a function of parameters and inputs.
      inputs: [G, d].
      scaling: as in `sharpness`.
    """
    x = jnp.asarray(inputs)
    scaling = _scaling_for(network, x) if scaling is None else scaling

    def observe(state: State, batch: Batch) -> jax.Array:
        now, start = (empirical_ntk(network, p, x, scaling=scaling) for p in (state.params, state.params_0))
        return jnp.linalg.norm(now - start) / jnp.linalg.norm(start)

    return observe


def rate_roots(params: PyTree, scaling: PyTree | None) -> PyTree[Float[Array, ""]]:
    """Return the square root of every parameter's SGD multiplier, 1 without a scaling.

    Args:
      params: the parameters.
      scaling: a scaling tree, or None.

    Raises:
      ValueError: if the rates of `scaling` are not fixed.

    Example:
      >>> from mupjax.parametrization import mup
      >>> float(rate_roots({"w": jnp.ones((4, 1))}, {"w": mup().scales("output", 4, 1)})["w"])
      0.5
    """
    if scaling is None:
        return jax.tree.map(lambda p: jnp.ones((), p.dtype), params)
    if is_normalized(scaling) or is_switched(scaling):
        raise ValueError(
            "Expected rates that stay the same, got a scaling with normalized updates or a first step of its own, for "
            "which no edge of stability 2/eta is defined. Omit `scaling` for the eigenvalues of the Hessian itself."
        )
    rates = {name: leaf.sgd_lr_mult for name, leaf in by_path(scaling).items()}
    return jax.tree_util.tree_map_with_path(
        lambda path, p: jnp.sqrt(jnp.asarray(rates[jax.tree_util.keystr(path)], p.dtype)), params
    )


def _ntk_product(
    network: Network, params: PyTree, inputs: jax.Array, scaling: PyTree | None
) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """Return the product with J R J^T, and an array of the shape [P, C] that it acts on."""
    roots = rate_roots(params, scaling)
    outputs, pull = jax.vjp(partial(_outputs, network, x=inputs), params)

    def product(v: jax.Array) -> jax.Array:
        (gradient,) = pull(v)
        moved = jax.tree.map(lambda root, g: root**2 * g, roots, gradient)
        return jax.jvp(partial(_outputs, network, x=inputs), (params,), (moved,))[1]

    return product, outputs


def _training_loss(network: Network, task: Task, params_0: PyTree | None) -> Loss:
    f_0 = 0.0 if params_0 is None else _outputs(network, params_0, task.x_train)

    def loss(params: PyTree) -> Float[Array, ""]:
        f = _outputs(network, params, task.x_train) - f_0
        return jnp.mean(loss_per_sample(task.loss, f, task.y_train))

    return loss


def _outputs(network: Network, params: PyTree, x: jax.Array) -> jax.Array:
    with jax.default_matmul_precision("highest"):  # eigenvalues depend on it
        outputs: PyTree = network.apply({"params": params}, x) if isinstance(network, MLP) else network(params, x)
    return outputs


def _own_scaling(network: Network, task: Task) -> PyTree | None:
    return _scaling_for(network, task.x_train)


def _scaling_for(network: Network, inputs: jax.Array) -> PyTree | None:
    """Return `later_rates` of an MLP's own scaling, None for a function."""
    if not isinstance(network, MLP):
        return None
    return later_rates(scaling_tree(jax.eval_shape(network.init, jax.random.key(0), inputs[:1])))
