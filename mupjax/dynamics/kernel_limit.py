r"""Training at infinite width in the kernel regime: the tangent kernel stays what it is at initialisation.

A step of SGD on a batch b of B training inputs moves the outputs at all P inputs by

.. math:: f_{t+1} = f_t - \frac{\eta_t}{B} \, \Theta_{\cdot, b} \, \chi_{t, b}, \qquad
          \chi = \partial \mathrm{loss} / \partial f

with the kernel :math:`\Theta` of `kernels`, the same for each of the C outputs. It is exact for the infinite network,
any loss and any step size (Lee et al. 2019, arXiv:1902.06720; Yang 2020, arXiv:2006.14548). The outputs at
initialisation are a Gaussian process, f_0 ~ N(0, nngp), independent over outputs; features do not move, so their Grams
are constant. Everything here is NumPy in float64; the kernels are computed in float64 too, on JAX's device, or on the
CPU where that has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mupjax import _checks, devices, optim
from mupjax._checks import Key, check_counts
from mupjax.activations import QUADRATURE_DEGREE, Activation
from mupjax.dynamics._arguments import Batches
from mupjax.dynamics._kernels import Kernels as Kernels
from mupjax.dynamics._kernels import kernels as kernels
from mupjax.dynamics._kernels import layer_weights as layer_weights
from mupjax.dynamics._neural_tangents import load
from mupjax.optim import LearningRate, Optimizer, SgdSettings
from mupjax.parametrization import Parametrization
from mupjax.task import Task, check_batches
from mupjax.trajectory import Trajectory, TrajectorySpec

Index = np.ndarray | slice  # of inputs
Chi = Callable[[np.ndarray, Index], np.ndarray]  # outputs [B, ...] at the training inputs of an index to dLoss/df


class KernelInfo(NamedTuple):
    """Results of the kernel limit beyond losses, predictions and Grams.

    Attributes:
      covariance: [R, P, P] covariance over initialisations of one output's predictions (at `spec.eval_inputs`), or None
        for a centred run. For mse it is exact and the same for every output, and outputs are independent; for
        cross_entropy it is the sample covariance over the draws, averaged over the outputs.
      weights: [L+1] weight of each layer's share in the tangent kernel.
      quadrature_error: see Kernels.
    """

    covariance: np.ndarray | None
    weights: np.ndarray
    quadrature_error: float | None


def train(
    task: Task,
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh",
    learning_rate: LearningRate,
    steps: int,
    centred: bool = False,
    key: Key | None = None,
    num_draws: int = 256,
    batches: Batches = None,
    optimizer: Optimizer = optim.sgd,
    spec: TrajectorySpec | None = None,
) -> Trajectory:
    r"""Train the infinitely wide network of a parametrization with a kernel limit, and return its trajectory.

    For mse the result is exact: predictions are the mean over initialisations (`info.covariance` has the covariance),
    losses are the expected ones, :math:`\tfrac{1}{2N} \sum_i (\|E f_i - y_i\|^2 + C \, \mathrm{Var} f_i)`. For
    cross_entropy, `num_draws` draws of f_0 are trained side by side and averaged. A centred run starts at f_0 = 0 and
    is deterministic.

    Args:
      task: data and loss.
      parametrization: one with a kernel limit, such as `sp()` or `ntp()`.
      depth: number of hidden layers L.
      activation: a name, an Activation or an elementwise function.
      learning_rate: the base rate eta: a number or an Optax schedule.
      steps: number of updates T.
      centred: train and report f - f_0.
      key: random key of the draws of f_0, an int or a JAX key; needed for cross_entropy that is not centred.
      num_draws: how many draws, at least 2.
      batches: [T, B] indices into the training set (`batch_order`), or None for the full batch.
      optimizer: `mupjax.sgd`, or a partial of it with `momentum`, `nesterov`.
      spec: what to record; by default losses and predictions at every step, Grams at the first and last.

    Returns:
      A Trajectory of NumPy float64 arrays; `stderr` where draws were averaged, `info` a KernelInfo. Memory is that of
      [R, P, P] covariances: record few steps where P is large. A rate above the edge of stability gives inf and NaN.

    Raises:
      ValueError: for a parametrization without a kernel limit, sizes or rates out of range, batches of a wrong shape,
        another optimizer than SGD, weight decay, a missing key.
      ImportError: where neural-tangents cannot be loaded.

    Example:
      >>> import numpy as np
      >>> from mupjax.parametrization import ntp
      >>> task = Task(np.eye(2), np.ones((2, 1)))
      >>> run = train(task, ntp(), depth=1, activation="linear", learning_rate=1.0, steps=2, centred=True)
      >>> run.train_loss
      array([0.5    , 0.125  , 0.03125])
    """
    spec = TrajectorySpec() if spec is None else spec
    sgd = check_optimizer(optimizer)
    rates, batches = _check(task, learning_rate, steps, batches)
    if spec.space_time:
        raise ValueError("Expected `space_time` to be empty: dynamics.matrix_free and feature_limit record it.")
    draws = task.loss == "cross_entropy" and not centred
    if draws and key is None:
        raise ValueError("Expected `key` for draws of f_0, got key=None. Or train with centred=True.")
    random_key = None if key is None else _checks.key(key)
    if draws and num_draws < 2:
        raise ValueError(f"Expected `num_draws` to be at least 2, got num_draws={num_draws!r}.")
    recorded, gram_steps = set(spec.resolve_steps(steps)), spec.resolve_gram_steps(steps)
    eval_inputs = spec.resolve_eval_inputs(task)
    gram_inputs = np.array(spec.resolve_gram_inputs(task))

    limit = kernels(np.asarray(task.inputs), parametrization, depth=depth, activation=activation)
    spread = np.zeros((task.num_inputs, 0)) if centred else _square_root(limit.nngp)
    if task.loss == "mse":
        f_0, chi, record = _mse(task, spread)
    else:
        drawn = _draw(random_key, num_draws, task.out_dim, spread) if draws and random_key is not None else None
        f_0, chi, record = _cross_entropy(task, drawn)
    onto_train = limit.ntk[:, : task.num_train]
    chosen = slice(None) if eval_inputs is None else np.array(eval_inputs, int)
    with np.errstate(all="ignore"):  # a rate above the edge of stability overflows
        rows = [
            record(np.int32(step), f_0 - _apply(onto_train, alpha), chosen)
            for step, alpha in _dual_sgd(onto_train, f_0, chi, rates, batches, sgd)
            if step in recorded
        ]
    run = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    grams = {name: getattr(limit, name)[:, gram_inputs[:, None], gram_inputs] for name in spec.grams}
    constant = {name: np.repeat(gram[None], len(gram_steps), axis=0) for name, gram in grams.items()}
    return run._replace(
        info=KernelInfo(run.info, limit.weights, limit.quadrature_error),
        **{f"{name}_gram": gram for name, gram in constant.items()},
        **{f"{name}_cross_gram": gram.copy() for name, gram in constant.items()},
    )


def estimate_bytes(
    task: Task,
    *,
    depth: int,
    steps: int,
    centred: bool = False,
    num_draws: int = 256,
    spec: TrajectorySpec | None = None,
) -> int:
    """Estimate the memory of `train` before it starts: kernels, quadrature, covariances or draws, the Trajectory."""
    spec = TrajectorySpec() if spec is None else spec
    inputs, records = task.num_inputs, len(spec.resolve_steps(steps))
    with devices.with_float64():
        at_once = devices.traits().quadrature
    held = (4 * depth + 6) * inputs**2 + 4 * min(at_once, (inputs * QUADRATURE_DEGREE) ** 2)
    if not centred:
        held += (records + 4) * inputs**2
    if not centred and task.loss == "cross_entropy":
        held += 6 * num_draws * inputs * task.out_dim
    grams = 4 * len(spec.resolve_gram_steps(steps)) * depth * len(spec.resolve_gram_inputs(task)) ** 2
    return 8 * (held + grams + records * inputs * task.out_dim)


def _apply(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.tensordot(matrix, columns, axes=1)


def _dual_sgd(
    onto_train: np.ndarray,
    f_0: np.ndarray,
    chi: Chi,
    rates: np.ndarray,
    batches: np.ndarray | None,
    sgd: SgdSettings,
) -> Iterator[tuple[int, np.ndarray]]:
    r"""Yield (t, alpha_t) for t = 0..T, where :math:`f_t = f_0 - \Theta_{\cdot, train} \alpha_t`.

    The weights move within the span of the training inputs' gradients, so that an optimizer which is linear in the
    gradients acts on the N coefficients as it acts on the weights. Columns of f_0 train side by side.

    Args:
      onto_train: [P, N] tangent kernel.
      f_0: [P, ...] initial outputs.
      chi: from outputs [B, ...] at the training inputs of an index to dLoss/df of each sample, same shape.
      rates: [T] learning rates.
      batches: [T, B] or None.
      sgd: momentum in [0, 1), and whether it is Nesterov's.
    """
    num = onto_train.shape[1]
    alpha, positions = np.zeros((num, *f_0.shape[1:])), np.arange(num)
    trace = np.zeros_like(alpha)
    for step, rate in enumerate(rates):
        yield step, alpha
        index: Index = slice(num) if batches is None else batches[step]
        chi_t = chi(f_0[index] - _apply(onto_train[index], alpha), index)
        gradient = np.zeros_like(alpha)
        np.add.at(gradient, positions[index], chi_t / len(chi_t))
        trace = gradient + sgd.momentum * trace
        alpha = alpha + rate * (gradient + sgd.momentum * trace if sgd.nesterov else trace)
    yield len(rates), alpha


def _mse(task: Task, spread: np.ndarray) -> tuple[np.ndarray, Chi, Callable[..., Trajectory]]:
    """The mean of f and, as further columns S with covariance S S^T, its spread: linear maps move both alike."""
    num, outputs = task.num_train, task.out_dim
    targets = [np.asarray(y, np.float64) for y in (task.y_train, task.y_test) if y is not None]
    y = np.zeros((task.num_inputs, outputs + spread.shape[1]))
    y[:, :outputs] = np.concatenate(targets)
    f_0 = np.concatenate([np.zeros((task.num_inputs, outputs)), spread], axis=1)

    def record(step: np.int32, f: np.ndarray, chosen: Index) -> Trajectory:
        squares = (f - y) ** 2
        losses = 0.5 * np.sum(squares[:, :outputs], axis=1) + 0.5 * outputs * np.sum(squares[:, outputs:], axis=1)
        spread_t = f[chosen, outputs:]
        return Trajectory(
            np.asarray(step),
            np.asarray(np.mean(losses[:num])),
            np.asarray(np.mean(losses[num:])) if task.num_test else None,
            f[chosen, :outputs],
            info=spread_t @ spread_t.T if spread.shape[1] else None,
        )

    return f_0, lambda f, index: f - y[index], record


def _cross_entropy(task: Task, draws: np.ndarray | None) -> tuple[np.ndarray, Chi, Callable[..., Trajectory]]:
    """Draws of f_0, [P, C, draws], trained side by side; None is the single start at zero."""
    num = task.num_train
    labels = np.concatenate([np.asarray(y) for y in (task.y_train, task.y_test) if y is not None])
    onehot = np.eye(task.out_dim)[labels][:, :, None]
    f_0 = np.zeros((task.num_inputs, task.out_dim, 1)) if draws is None else draws

    def softmax(f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shifted = f - np.max(f, axis=1, keepdims=True)
        total = np.sum(np.exp(shifted), axis=1, keepdims=True)
        return np.exp(shifted) / total, shifted - np.log(total)

    def record(step: np.int32, f: np.ndarray, chosen: Index) -> Trajectory:
        losses = -np.sum(onehot * softmax(f)[1], axis=1)
        every = (np.mean(losses[:num], 0), np.mean(losses[num:], 0) if task.num_test else None, f[chosen])
        average = (None if values is None else np.mean(values, axis=-1) for values in every)
        mean = Trajectory(step, *average)  # pyright: ignore[reportArgumentType]
        if draws is None:
            return mean
        count = f.shape[-1]
        errors = (None if values is None else np.std(values, axis=-1, ddof=1) / count**0.5 for values in every)
        away = f[chosen] - mean.predictions[:, :, None]
        covariance = np.einsum("pcs,qcs->pq", away, away, optimize=True) / (task.out_dim * (count - 1))
        stderr = Trajectory(step, *errors)  # pyright: ignore[reportArgumentType]
        return mean._replace(stderr=stderr, info=covariance)

    return f_0, lambda f, index: softmax(f)[0] - onehot[index], record


def _square_root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root, a continuous function of the covariance; rounding below zero is cut off."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _draw(key: jax.Array, num_draws: int, outputs: int, spread: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        gaussians = np.asarray(jax.random.normal(key, (num_draws, outputs, len(spread)), jnp.float64))
    return np.einsum("pq,scq->pcs", spread, gaussians, optimize=True)


def _check(
    task: Task, learning_rate: LearningRate, steps: int, batches: Batches
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return learning rates [T] and batches [T, B]. ValueError for a number of steps, rates or batches out of range."""
    check_counts(steps=steps)
    with jax.enable_x64(True):
        each = jnp.arange(steps, dtype=jnp.int32)
        rates = np.asarray(jax.vmap(learning_rate)(each) if callable(learning_rate) else learning_rate, np.float64)
    if (
        rates.shape != ((steps,) if callable(learning_rate) else ())
        or not np.all(np.isfinite(rates))
        or np.any(rates < 0)
    ):
        raise ValueError(f"Expected `learning_rate` to be finite and >= 0, got learning_rate={learning_rate!r}.")
    rates = np.broadcast_to(rates, steps)
    if batches is None:
        return rates, None
    check_batches(batches, steps, task.num_train)
    return rates, np.asarray(batches)


def missing() -> str | None:
    """Say why the kernel limit cannot be computed here, None where it can."""
    try:
        load()
    except ImportError as why:
        return str(why)
    return None


def check_optimizer(optimizer: Optimizer) -> SgdSettings:
    """Return the settings of an optimizer that the kernel limit knows. ValueError for others, and for weight decay."""
    sgd = optim.sgd_settings(optimizer)
    if sgd.weight_decay:
        raise ValueError(
            f"Expected `optimizer` without weight_decay in the kernel limit, got weight_decay={sgd.weight_decay!r}: it "
            "shrinks the initial weights, and the tangent kernel with them."
        )
    return sgd
