r"""Base rates of the first step that make its updates of order one (Hajjar, Chizat & Giraud 2021, arXiv:2110.15596).

How large the first update of an integrable parametrization is depends on constants that no exponent knows, and multiply
over the layers. So they are measured: one step with base rate 1, on a copy, then what the updates alone do to another
batch. The recipe is the one of the authors' published code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from mupjax import _checks, activations, devices, optim
from mupjax._checks import Key
from mupjax.activations import Activation
from mupjax.network import MLP, hidden_widths, scaling_tree
from mupjax.optim import LearningRate
from mupjax.parametrization import Parametrization
from mupjax.task import Task, check_batches, loss_per_sample

CAP = 500.0  # of any calibrated rate
OUTPUT_CHANGE = 0.1  # mean |change of an output| that the readout's rate aims at; hidden preactivations: 1


class InitialRates(NamedTuple):
    """Base rates of the kernels in the first step, layers 1..L and the readout.

    Attributes:
      rates: [L + 1], what `initial_rates=` of the dynamics takes; the first is the learning rate, not calibrated.
      unclipped: [L + 1], before the cap of 500.
      clipped: [L + 1], whether the cap was reached.
      mean_update: [L + 1], mean |DeltaW x| over units and inputs with base rate 1, what the rates are the inverse of.
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
    batches: Any = None,
) -> InitialRates:
    r"""Measure which base rates of the first step move hidden preactivations by 1 and outputs by 0.1 on average.

    A step with base rate 1 on batch 0 gives updates :math:`\Delta W^l`. On batch 1, layer after layer,
    :math:`\eta_l = \min(1 / \overline{|\Delta W^l x^{l-1}|}, 500)`, 0.1 in place of 1 for the readout, where
    :math:`x^l = \phi(W_0^l x^{l-1} + \eta_l \Delta W^l x^{l-1})` with the rate before its cap, and what is kept of W_0.
    The first layer and biases keep the learning rate. Pure: it may be jitted, and mapped over `key`, `learning_rate`
    and the task's arrays.

    Args:
      task, parametrization, width, depth, activation, learning_rate, key: as in `dynamics.dense.train`; the same key
        gives the network that is trained afterwards.
      batches: [T, B] with at least two batches (`batch_order`), or None for the full batch.

    Returns:
      An InitialRates. A layer that does not move gives the cap.

    Raises:
      ValueError: for sizes out of range, fewer than two batches, a parametrization made for another depth.

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
        check_batches(batches, len(batches), task.num_train)
        if len(batches) < 2:
            raise ValueError(f"Expected `batches` to hold at least two, got {len(batches)}.")
        batches = jnp.asarray(batches)[:2]
    model = MLP(widths, depth, task.out_dim, parametrization, activations.get(activation))
    rate = learning_rate(0) if callable(learning_rate) else learning_rate
    return _calibrate(task, _checks.key(key), jnp.asarray(rate, task.x_train.dtype), batches, model)


@partial(jax.jit, static_argnames="model")
def _calibrate(task: Task, key: jax.Array, learning_rate: jax.Array, batches: Any, model: MLP) -> InitialRates:
    boxed = model.init(key, task.x_train[:1])
    start = nn.meta.unbox(boxed)["params"]
    index = [slice(None)] * 2 if batches is None else list(batches)

    def loss(params: Any) -> jax.Array:
        f: Any = model.apply({"params": params}, task.x_train[index[0]])
        return jnp.mean(loss_per_sample(task.loss, f, task.y_train[index[0]]))

    scaling = scaling_tree(boxed)
    step = optax.chain(optim.scale_by_parametrization(scaling), optax.scale_by_learning_rate(1.0))
    updates: Any = step.update(jax.grad(loss)(start), step.init(start))[0]
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
