r"""Observers of curvature: sharpness, the spectrum of the tangent kernel and its movement.

For mse, :math:`\tfrac{1}{2P} \sum_i \|f_i - y_i\|^2`, the Hessian is :math:`J^\top J / P` and a part that vanishes with
the residuals; the tangent kernel :math:`\Theta = J R J^\top` over P has the same non-zero eigenvalues as
:math:`R^{1/2} J^\top J R^{1/2} / P`, where R holds the learning-rate multipliers of the parameters. So both are
measured with the rates in them: gradient descent with the base rate :math:`\eta` is at the edge of stability where the
largest eigenvalue is :math:`2 / \eta`. Eigenvalues come from Lanczos (`spectrum`), with residuals as error estimates.

Observers are for `observers=` of `dynamics.dense.train`; the functions that they call are pure, to be jitted and
vmapped over runs. Full training set; a network is a function of parameters and inputs, or an MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from mupjax.dynamics.dense import Batch, State
from mupjax.network import MLP, scaling_tree
from mupjax.observers.spectrum import Eigenvalues, Extremes, extremes
from mupjax.optim import SharpnessSgd, cosines
from mupjax.optim.transforms import by_path, is_normalized, is_switched, later_rates
from mupjax.task import Task, loss_per_sample

Network = MLP | Callable[[Any, Any], Any]


def hessian_eigenvalues(
    loss: Callable[[Any], Any], params: Any, *, scaling: Any = None, num: int = 1, num_products: int = 24
) -> Eigenvalues:
    r"""Return the largest eigenvalues of :math:`R^{1/2} H R^{1/2}`, H the Hessian of a loss of the parameters.

    Costs `num_products` Hessian-vector products, about four gradients each, and holds as many copies of the parameters.

    Args:
      loss: a function of the parameters.
      params: where.
      scaling: a scaling tree whose SGD multipliers are R; None is the identity.
      num, num_products: as in `spectrum.extremes`.

    Returns:
      Eigenvalues [num], in the loss's unit over the base learning rate's.

    Raises:
      ValueError: for a scaling whose rates are not fixed: normalized updates, a first step of its own.

    Example:
      >>> found = hessian_eigenvalues(lambda w: jnp.sum(jnp.array([2.0, 0.5]) * w**2), jnp.ones(2), num=2)
      >>> [round(float(value), 4) for value in found.values]
      [4.0, 1.0]
    """
    roots = rate_roots(params, scaling)

    def product(v: Any) -> Any:
        whole = jax.tree.map(jnp.multiply, roots, v)
        moved = jax.jvp(jax.grad(loss), (params,), (whole,))[1]
        return jax.tree.map(jnp.multiply, roots, moved)

    return extremes(product, params, num=num, num_products=num_products).largest


def ntk_eigenvalues(
    network: Network,
    params: Any,
    inputs: Float[ArrayLike, "P d"],
    *,
    scaling: Any = None,
    num: int = 1,
    num_products: int = 24,
) -> Extremes:
    r"""Return the extreme eigenvalues of :math:`\Theta / P`, :math:`\Theta = J R J^\top`, without forming it.

    Args:
      network: an MLP or a function of parameters and inputs.
      params: where.
      inputs: [P, d].
      scaling: as in `hessian_eigenvalues`.
      num, num_products: as in `spectrum.extremes`; the operator has dimension P C, and with that many products the
        smallest eigenvalue is found to rounding, with fewer from above.

    Example:
      >>> found = ntk_eigenvalues(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.diag(jnp.array([1.0, 2.0])))
      >>> round(float(found.largest.values[0]), 4), round(float(found.smallest.values[0]), 4)
      (2.0, 0.5)
    """
    product, like = _ntk_product(network, params, jnp.asarray(inputs), scaling)
    return extremes(lambda v: product(v) / len(v), like, num=num, num_products=num_products)


def empirical_ntk(
    network: Network, params: Any, inputs: Float[ArrayLike, "G d"], *, scaling: Any = None
) -> Float[Array, "GC GC"]:
    r"""Return :math:`\Theta = J R J^\top` of a few inputs, a column at a time: the Jacobian is never held."""
    product, like = _ntk_product(network, params, jnp.asarray(inputs), scaling)
    columns = jnp.eye(like.size, dtype=like.dtype).reshape(-1, *like.shape)
    with jax.default_matmul_precision("highest"):
        return jax.lax.map(product, columns).reshape(like.size, like.size)


def sharpness(
    network: Network, task: Task, *, scaling: Any = None, centred: bool = False, num: int = 1, num_products: int = 24
) -> Callable[[State, Batch], Eigenvalues]:
    """Return an observer of the largest Hessian eigenvalues of the training loss.

    Args:
      network: an MLP, whose scaling gives the rates, or a function of parameters and inputs.
      task: data and loss.
      scaling: of the rates; by default an MLP's own, those of later steps where the first has its own, and none where
        updates are normalized or for a function.
      centred: whether f - f_0 is trained.
      num, num_products: as in `spectrum.extremes`.

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
    r"""Return the optimizer whose rate is c over the measured sharpness; `learning_rate` is c.

    The sharpness is that of the step's loss with the parametrization's rates in it, so c = 2 is the edge of stability.
    A reconstruction of the geometry-aware schedule of Terjek 2025 (`optim.scale_by_sharpness`); constant rates are the
    control beside it.

    Args:
      every, decay: as in `optim.scale_by_sharpness`.
      num_products: Hessian-vector products of a measurement.

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

    def __call__(self, scaling: Any) -> Callable[[Callable[[Any], Any], Any], jax.Array]:
        return partial(sharpness_of, scaling=scaling, num_products=self.num_products)


def sharpness_of(
    loss: Callable[[Any], Any], params: Any, *, scaling: Any = None, num_products: int = 16
) -> Float[Array, ""]:
    """Return the largest eigenvalue of the Hessian of a loss, with the rates in it where a scaling is given."""
    return hessian_eigenvalues(loss, params, scaling=scaling, num_products=num_products).values[0]


def ntk_spectrum(
    network: Network, task: Task, *, scaling: Any = None, num: int = 1, num_products: int = 24
) -> Callable[[State, Batch], Extremes]:
    """Return an observer of the extreme eigenvalues of the tangent kernel of the training inputs over P."""
    scaling = _own_scaling(network, task) if scaling is None else scaling

    def observe(state: State, batch: Batch) -> Extremes:
        options: dict[str, Any] = {"scaling": scaling, "num": num, "num_products": num_products}
        return ntk_eigenvalues(network, state.params, task.x_train, **options)

    return observe


def ntk_change(
    network: Network, inputs: Float[ArrayLike, "G d"], *, scaling: Any = None
) -> Callable[[State, Batch], Float[Array, ""]]:
    r"""Return an observer of :math:`\|\Theta_t - \Theta_0\|_F / \|\Theta_0\|_F` on a few inputs.

    Order 1/n in width for NTP (Dyer & Gur-Ari 2020, arXiv:1909.11304; n^-1/2 is a bound), order one for muP.
    """
    x = jnp.asarray(inputs)
    scaling = _scaling_for(network, x) if scaling is None else scaling

    def observe(state: State, batch: Batch) -> jax.Array:
        now, start = (empirical_ntk(network, p, x, scaling=scaling) for p in (state.params, state.params_0))
        return jnp.linalg.norm(now - start) / jnp.linalg.norm(start)

    return observe


class LayerCosines(NamedTuple):
    """network: over all kernels and biases. layers: [L + 1], of the kernels 1..L and the readout. 0 up to step 1."""

    network: Float[Array, ""]
    layers: Float[Array, " layers"]


def update_cosines() -> Callable[[State, Batch], LayerCosines]:
    r"""Return an observer of the cosine of the last update with all earlier ones together (`optim.cosines`).

    It needs no copy of its own: dense training has the initial parameters. `optim.track_cosines` is for other loops.
    """

    def observe(state: State, batch: Batch) -> LayerCosines:
        before = jax.tree.map(lambda w, u, w_0: w - u - w_0, state.params, state.last_update, state.params_0)
        found = cosines(state.last_update, before)
        earlier = state.step > 1  # before the second step w - u - w_0 is rounding
        layers = jnp.where(earlier, jnp.stack(_kernels(found.layers)), 0)
        return LayerCosines(jnp.where(earlier, found.network, 0), layers)

    return observe


class LayerSizes(NamedTuple):
    """Of the layers 1..L and the readout: [L + 1]. update: ||dW||_F of the last update. weight: ||W||_F before it."""

    update: Float[Array, " layers"]
    weight: Float[Array, " layers"]


def update_sizes() -> Callable[[State, Batch], LayerSizes]:
    """Return an observer of the sizes of the last update and of what it moved, by kernel; before the first step 0."""

    def observe(state: State, batch: Batch) -> LayerSizes:
        rows = zip(*(_kernels(tree) for tree in (state.last_update, state.params)), strict=True)
        pairs = [(jnp.linalg.norm(update), jnp.linalg.norm(w - update)) for update, w in rows]
        return LayerSizes(*map(jnp.stack, zip(*pairs, strict=True)))

    return observe


def preactivation_changes(
    features: MLP | Callable[[Any, Any], Any], inputs: Float[ArrayLike, "G d"]
) -> Callable[[State, Batch], Float[Array, " L"]]:
    r"""Return an observer of :math:`\|h^k_t - h^k_{t-1}\| / \|h^k_{t-1}\|` over the inputs; 0 at the start.

    Args:
      features: an MLP, or a function of parameters and inputs that returns Features.
      inputs: [G, d].
    """
    x = jnp.asarray(inputs)

    def observe(state: State, batch: Batch) -> jax.Array:
        before = jax.tree.map(jnp.subtract, state.params, state.last_update)
        new, old = (_features(features, params, x) for params in (state.params, before))
        return jnp.stack([jnp.linalg.norm(a - b) / jnp.linalg.norm(b) for a, b in zip(new.h, old.h, strict=True)])

    return observe


def rate_roots(params: Any, scaling: Any) -> Any:
    """Return the square roots of the SGD multipliers, a scalar for each parameter; ones without a scaling.

    Raises:
      ValueError: for a scaling whose rates are not fixed.
    """
    if scaling is None:
        return jax.tree.map(lambda p: jnp.ones((), p.dtype), params)
    if is_normalized(scaling) or is_switched(scaling):
        raise ValueError(
            "Expected rates that stay the same, got a scaling with normalized updates or a first step of its own: no "
            "line 2/eta belongs to them. Leave `scaling` out for the eigenvalues of the Hessian itself."
        )
    rates = {name: leaf.sgd_lr_mult for name, leaf in by_path(scaling).items()}
    return jax.tree_util.tree_map_with_path(
        lambda path, p: jnp.sqrt(jnp.asarray(rates[jax.tree_util.keystr(path)], p.dtype)), params
    )


def _ntk_product(network: Network, params: Any, inputs: jax.Array, scaling: Any) -> tuple[Callable[[Any], Any], Any]:
    """The product with J R J^T, and the outputs [P, C] that it acts on."""
    roots = rate_roots(params, scaling)
    outputs, pull = jax.vjp(partial(_outputs, network, x=inputs), params)

    def product(v: jax.Array) -> jax.Array:
        (gradient,) = pull(v)
        moved = jax.tree.map(lambda root, g: root**2 * g, roots, gradient)
        return jax.jvp(partial(_outputs, network, x=inputs), (params,), (moved,))[1]

    return product, outputs


def _training_loss(network: Network, task: Task, params_0: Any) -> Callable[[Any], jax.Array]:
    f_0 = 0.0 if params_0 is None else _outputs(network, params_0, task.x_train)

    def loss(params: Any) -> jax.Array:
        f = _outputs(network, params, task.x_train) - f_0
        return jnp.mean(loss_per_sample(task.loss, f, task.y_train))

    return loss


def _outputs(network: Network, params: Any, x: Any) -> jax.Array:
    with jax.default_matmul_precision("highest"):  # eigenvalues depend on it
        found: Any = network.apply({"params": params}, x) if isinstance(network, MLP) else network(params, x)
    return found


def _features(of: MLP | Callable[[Any, Any], Any], params: Any, x: Any) -> Any:
    return of.apply({"params": params}, x, method="features") if isinstance(of, MLP) else of(params, x)


def _kernels(params: Any) -> list[jax.Array]:
    return [params[name]["kernel"] for name in (*(f"layer_{k}" for k in range(1, len(params))), "readout")]


def _own_scaling(network: Network, task: Task) -> Any:
    return _scaling_for(network, task.x_train)


def _scaling_for(network: Network, inputs: Any) -> Any:
    """An MLP's own scaling as `later_rates` has it; None for a function."""
    if not isinstance(network, MLP):
        return None
    return later_rates(scaling_tree(jax.eval_shape(network.init, jax.random.key(0), inputs[:1])))
