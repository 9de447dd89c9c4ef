r"""Calibrate the base rates of the first step (Hajjar, Chizat & Giraud 2021, arXiv:2110.15596).

The size of the first update of an integrable parametrization depends on constants that exponents do not determine and
that multiply over the layers. The calibration measures them: it takes one step with base rate 1 on a copy of the
weights and applies the updates to another batch, as the authors' published code does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from mupjax import _checks, activations, devices, optim
from mupjax._checks import Key
from mupjax.activations import Activation
from mupjax.network import MLP, hidden_widths, scaling_tree
from mupjax.optim import LearningRate
from mupjax.parametrization import Parametrization
from mupjax.task import Task, check_batches, loss_per_sample

CAP = 500.0  # of any calibrated rate
OUTPUT_CHANGE = 0.1  # target of the mean absolute change of an output; for hidden preactivations it is 1


class InitialRates(NamedTuple):
    """Base rates of the kernels in the first step, for layers 1..L and the readout.

    Attributes:
      rates: [L + 1], the value for `initial_rates=` of the dynamics; rates[0] is the learning rate, not calibrated.
      unclipped: [L + 1], the rates before the cap of 500.
      clipped: [L + 1], whether the cap applied.
      mean_update: [L + 1], mean |DeltaW x| over units and inputs at base rate 1; its inverse gives the rates.
    """

    rates: Float[Array, " layers"]
    unclipped: Float[Array, " layers"]
    clipped: Bool[Array, " layers"]
    mean_update: Float[Array, " layers"]


def calibrate_initial_rates(
    task: Task,
    parametrization: Parametrization,
    *,
    width: int | tuple[int, ...],
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "relu",
    learning_rate: LearningRate,
    key: Key,
    batches: npt.ArrayLike | None = None,
) -> InitialRates:
    r"""Return the base rates of the first step that move hidden preactivations by 1 and outputs by 0.1 on average.

    A step with base rate 1 on batch 0 gives updates :math:`\Delta W^l`. On batch 1, layer by layer,
    :math:`\eta_l = \min(1 / \overline{|\Delta W^l x^{l-1}|}, 500)`, with 0.1 in place of 1 for the readout, where
    :math:`x^l = \phi(W_0^l x^{l-1} + \eta_l \Delta W^l x^{l-1})` uses the rate before its cap and the part of W_0 that
    the first step keeps. Layer 1 and the biases keep the learning rate. Pure: may be jitted, and mapped over `key`,
    `learning_rate` and the task's arrays.

    Args:
      task, parametrization, width, depth, activation, learning_rate, key: as in `dynamics.dense.train`; the calibrated
        network is the trained one if the key is the same.
      batches: [T, B] with at least two batches (`batch_order`), or None for the full batch.

    Returns:
      An InitialRates; a layer whose update is zero gets the cap.

    Raises:
      ValueError: if a size is out of range, there are fewer than two batches, or the parametrization was made for
        another depth.

    Example:
      >>> import numpy as np
      >>> from mupjax.dynamics import dense
      >>> from mupjax.parametrization import ip_llr
      >>> task, key = Task(np.eye(4), np.ones((4, 1))), jax.random.key(0)
      >>> network = {"width": 64, "depth": 3, "activation": "relu", "learning_rate": 0.1, "key": key}
      >>> found = calibrate_initial_rates(task, ip_llr(3), **network)
      >>> run = dense.train(task, ip_llr(3), steps=5, initial_rates=found.rates, **network)
      >>> found.rates.shape, run.train_loss.shape
      ((4,), (6,))
    """
    widths = hidden_widths(width, depth, parametrization)
    if batches is not None:
        (count, *_) = np.shape(batches)
        check_batches(batches, count, task.num_train)
        if count < 2:
            raise ValueError(f"Expected `batches` to hold at least two, got {count}.")
    first_two = None if batches is None else jnp.asarray(batches)[:2]
    model = MLP(widths, depth, task.out_dim, parametrization, activations.get(activation))
    rate = learning_rate(0) if callable(learning_rate) else learning_rate
    return _calibrate(task, _checks.key(key), jnp.asarray(rate, task.x_train.dtype), first_two, model)


@partial(jax.jit, static_argnames="model")
def _calibrate(
    task: Task, key: jax.Array, learning_rate: jax.Array, batches: Int[Array, "2 B"] | None, model: MLP
) -> InitialRates:
    boxed = model.init(key, task.x_train[:1])
    start = nn.meta.unbox(boxed)["params"]
    index = [slice(None)] * 2 if batches is None else list(batches)

    def loss(params: PyTree) -> Float[Array, ""]:
        f: PyTree = model.apply({"params": params}, task.x_train[index[0]])
        return jnp.mean(loss_per_sample(task.loss, f, task.y_train[index[0]]))

    scaling = scaling_tree(boxed)
    step = optax.chain(optim.scale_by_parametrization(scaling), optax.scale_by_learning_rate(1.0))
    updates: PyTree = step.update(jax.grad(loss)(start), step.init(start))[0]
    phi, depth = activations.get(model.activation).phi, model.depth
    x = task.x_train[index[1]] / task.input_dim**0.5
    unclipped, sizes = [], []
    for layer in range(1, depth + 2):
        name = "readout" if layer > depth else f"layer_{layer}"
        kept = 1.0 if scaling[name]["kernel"].init_kept is None else scaling[name]["kernel"].init_kept
        kernel, precision = scaling[name]["kernel"], model.precision or devices.matmul_precision()
        initial, moved = (
            kernel.multiplier * jnp.matmul(x, part[name]["kernel"], precision=precision) for part in (start, updates)
        )
        h = kept * initial
        if "bias" in start[name]:  # biases are not calibrated
            bias = start[name]["bias"] + learning_rate * updates[name]["bias"]
            h = h + (scaling[name]["bias"].multiplier * bias)[None, :]
        sizes.append(jnp.mean(jnp.abs(moved)))
        target = OUTPUT_CHANGE if layer > depth else 1.0
        calibrated = jnp.where(sizes[-1] > 0, target / sizes[-1], jnp.inf)
        unclipped.append(learning_rate if layer == 1 else calibrated)
        x = phi(h + jnp.where(sizes[-1] > 0, unclipped[-1], 0) * moved)
    rates, cap = jnp.stack(unclipped), jnp.array([jnp.inf] + [CAP] * depth, x.dtype)
    return InitialRates(jnp.minimum(rates, cap), rates, rates > cap, jnp.stack(sizes))
