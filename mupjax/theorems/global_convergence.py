r"""Verdicts on Theorem 4.5 and Corollary 4.6 of Chen et al. 2025 (arXiv:2503.09565) for a run.

Theorem 4.5: under its assumptions (`Task.check_inputs`, `activations.check_good`) the features of different inputs in
an infinitely wide muP network are linearly independent, at every SGD step and in every layer. Corollary 4.6: if its
weights stop changing, every error signal :math:`\chi_i = \partial \mathrm{loss}_i / \partial f_i` is zero. Both concern
infinite width; for a finite network or another parametrization the verdicts report measurements.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from mupjax import metrics
from mupjax.dynamics.feature_limit import FeatureInfo
from mupjax.statistics.jackknife import jackknife
from mupjax.statistics.verdict import Verdict, decide, of_estimate
from mupjax.task import Task, loss_per_sample
from mupjax.trajectory import Trajectory

_ROUNDING = 16  # assumed relative error of a feature, in units of eps
THEOREM, COROLLARY = "Theorem 4.5", "Corollary 4.6"
STILL, ERROR = 1e-3, 0.05  # thresholds of `corollary_4_6`


def feature_floor(gram: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> metrics.Values:
    r"""Return the value below which a smallest eigenvalue cannot be distinguished from zero, given rounded features.

    A relative error r of every coordinate changes the features Z by E with :math:`\|E\|^2 \le r^2 \operatorname{tr} K`,
    and linearly dependent features then have :math:`\lambda_{\min} \le \|E\|^2`. Here r = 16 eps of the features'
    dtype. `metrics.Eigenvalue.resolution` covers the rounding of the contraction alone.

    Args:
      gram: [..., N, N].
      dtype: dtype of the features; defaults to the default float dtype of JAX.

    Returns:
      [...].

    Example:
      >>> bool(feature_floor(np.eye(4), np.float32) == 4 * (16 * np.finfo(np.float32).eps) ** 2)
      True
    """
    eps = _ROUNDING * float(np.finfo(jax.dtypes.canonicalize_dtype(float) if dtype is None else dtype).eps)
    return eps**2 * np.trace(np.asarray(gram, np.float64), axis1=-2, axis2=-1)


def theorem_4_5(run: Trajectory) -> list[Verdict]:
    """Return a verdict for every layer and Gram step on the linear independence of the inputs' features.

    The claim is that the smallest eigenvalue of the Gram matrix is positive. Its interval is Student's over runs,
    widened by `feature_floor`, below which rounding cannot tell an eigenvalue from zero: so it is never contradicted,
    since no number proves an eigenvalue to be zero. At step 0 the preactivations of layer 1 are linear in the inputs,
    and are independent only if the inputs are.

    Args:
      run: a Trajectory with Gram matrices. Seeds of a finite network (a runs axis) are evaluated one by one; runs of
        `dynamics.feature_limit.sample` are averaged first, with the jackknife's standard error and correction.

    Raises:
      ValueError: if `run` has no Gram matrices.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax import mup
      >>> from mupjax.dynamics import dense
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> run = dense.train(task, mup(), width=16, depth=2, learning_rate=0.5, steps=3, key=jax.random.key(0))
      >>> [v.verdict for v in theorem_4_5(run)] == ["reproduced"] * 8  # h and x, 2 layers, steps 0 and 3
      True
    """
    grams = {name: getattr(run, f"{name}_gram") for name in ("h", "x")}
    if all(gram is None for gram in grams.values()):
        raise ValueError("Expected `run` to have h_gram or x_gram, got neither.")
    found = []
    for name, gram in grams.items():
        if gram is None:
            continue
        value, stderr, floor, seeds = _smallest(run, name)
        for step, layer in np.ndindex(value.shape):
            of_inputs = ", as far as the inputs are" if name == "h" and layer == 0 else ""
            claim = f"{name} of layer {layer + 1}, Gram step {step}: inputs' features are linearly independent"
            claim += f"{of_inputs}: smallest eigenvalue"
            error = 0.0 if stderr is None else float(stderr[step, layer])
            found.append(positive(claim, float(value[step, layer]), error, seeds, float(floor[step, layer])))
    return found


def positive(claim: str, value: float, stderr: float, seeds: int, floor: float, group: str = THEOREM) -> Verdict:
    """Return the verdict that an eigenvalue is positive; its interval reaches `floor` beyond Student's.

    Args:
      claim: in words.
      value: the eigenvalue.
      stderr: its standard error over `seeds` runs; 0 if it is exact.
      seeds: number of runs.
      floor: see `feature_floor`.
      group: the theorem.

    Example:
      >>> positive("independent", 1e-3, 1e-4, 8, 1e-11).verdict, positive("of twins", 1e-13, 0.0, 1, 1e-11).verdict
      ('reproduced', 'undecided')
    """
    one = of_estimate(claim, value, stderr, (0.0, math.inf), seeds=seeds, group=group)
    needs = "features in float64: rounding alone may leave this eigenvalue" if abs(value) <= floor else ""
    interval = one.low - floor, one.high + floor
    return decide(claim, value, interval, one.bound, stderr=one.stderr, seeds=seeds, needs=needs, group=group)


def corollary_4_6(
    task: Task, run: Trajectory, *, learning_rate: float | None = None, change: float = STILL, error: float = ERROR
) -> list[Verdict]:
    r"""Return the verdict, one, on: where the weights have stopped changing, the error signals are zero.

    The weights count as stopped if the last recorded step changes the predictions of the training inputs by at most
    `change` times the largest change of a step, or if no step changes them. If they have not, the claim is undecided:
    the corollary promises neither that they stop nor how fast. If they have, it is reproduced if the root mean square
    of :math:`\chi`, over its initial value, is at most `error`. What is left may also lie in directions of small
    eigenvalues that still change: gradient descent at the readout alone, at the rate :math:`\eta`, changes f by at
    least :math:`\eta \lambda_{\min}(K) |\chi| / P`, with K the Gram matrix of the last layer's features, and what
    this inequality allows contradicts nothing. Where features cannot be told from dependent ones the corollary does
    not apply, and the claim is undecided.

    Args:
      task: the training task, trained by full-batch SGD without momentum.
      run: a Trajectory with x_gram of all training inputs at the last step, and predictions at the first two recorded
        steps and the last two. The worst run of a runs axis decides.
      learning_rate: :math:`\eta`, the readout's rate times the width (muP's base rate at base width 1); without it the
        inequality is not applied, and only weights that have stopped exactly can contradict the claim.
      change: threshold for the relative change of the predictions in a step.
      error: threshold for the relative size of the error signals.

    Raises:
      ValueError: if `run` lacks these Gram matrices or predictions.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax import mup
      >>> from mupjax.dynamics import dense
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> run = dense.train(task, mup(), width=64, depth=2, learning_rate=1.0, steps=50, key=jax.random.key(0))
      >>> [v.verdict for v in corollary_4_6(task, run)]
      ['reproduced']
    """
    rest = coming_to_rest(task, run)
    allowed = np.where(rest.step > 0, np.inf if learning_rate is None else 0.0, 0.0)
    if learning_rate is not None:
        slowest = learning_rate * np.maximum(rest.smallest, rest.floor) / task.num_train
        allowed = rest.step / (slowest * rest.start)
    allowed = np.maximum(allowed, error)
    worst = int(np.argmax(rest.left))
    left, needs = float(rest.left[worst]), ""
    if not (rest.moving <= change).all():
        needs = f"more steps: a step still changes outputs by {rest.moving.max():.2g} of the largest change"
    elif not (rest.smallest > rest.floor).all():
        needs = "other inputs: their features cannot be told from dependent ones, and the corollary does not apply"
    elif left > error and (rest.left <= allowed).all():
        needs = "more steps: what is left lies in directions of small eigenvalues, which still change"
    claim = "where weights stop changing, error signals vanish (Corollary 4.6; it promises neither that they stop nor"
    claim += " a rate): rms chi over its start"
    # Before they stop, or where theory allows what is left, all that is known of the end is that it may lie below.
    interval = 0.0 if needs else left, left
    return [decide(claim, left, interval, (0.0, error), needs=needs, seeds=len(rest.left), group=COROLLARY)]


class Rest(NamedTuple):
    """How far runs are from rest at their last step; arrays [runs].

    Attributes:
      step: rms change of the training inputs' predictions in the last recorded step.
      moving: the same, over the largest change of a step; 0 where no step changes them.
      start: rms of chi at the first step.
      left: rms of chi at the last step, over `start`.
      smallest: smallest eigenvalue of the last layer's Gram matrix of x at the last step.
      floor: see `feature_floor`.
    """

    step: np.ndarray
    moving: np.ndarray
    start: np.ndarray
    left: np.ndarray
    smallest: np.ndarray
    floor: np.ndarray


def coming_to_rest(task: Task, run: Trajectory) -> Rest:
    """Return what `corollary_4_6` rests on.

    Args:
      task, run: as there.

    Raises:
      ValueError: as there.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax import mup
      >>> from mupjax.dynamics import dense
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> run = dense.train(task, mup(), width=64, depth=2, learning_rate=1.0, steps=50, key=jax.random.key(0))
      >>> bool(coming_to_rest(task, run).moving[0] < STILL)
      True
    """
    count = task.num_train
    if run.x_gram is None or np.shape(run.x_gram)[-1] != count:
        have = "none" if run.x_gram is None else f"those of {np.shape(run.x_gram)[-1]}"
        raise ValueError(f"Expected `run` to have x_gram of all {count} training inputs, got {have}.")
    predictions = np.asarray(run.predictions, np.float64)
    if predictions.shape[-2] < count or predictions.shape[-3] < 2:
        raise ValueError(f"Expected `run` to have predictions of all {count} training inputs at two steps, got fewer.")
    f = predictions[..., :count, :].reshape(-1, predictions.shape[-3], count, predictions.shape[-1])  # [runs, R, N, C]
    gram = np.asarray(run.x_gram, np.float64)[..., -1, -1, :, :].reshape(-1, count, count)
    chi = np.stack([_error_signals(task, one[[0, -1]]) for one in f])  # [runs, 2, N, C]
    size = np.sqrt(np.mean(chi**2, axis=(-2, -1)))
    recorded = np.asarray(run.step)
    gaps = np.diff(recorded.reshape(-1, recorded.shape[-1])[0])  # the same of all runs
    steps = np.sqrt(np.mean(np.diff(f, axis=1) ** 2, axis=(-2, -1))) / gaps
    largest = steps.max(-1)
    moving = np.where(largest > 0, steps[:, -1] / np.where(largest > 0, largest, 1.0), 0.0)
    smallest = np.asarray(metrics.diversity(gram).value)
    return Rest(steps[:, -1], moving, size[:, 0], size[:, 1] / size[:, 0], smallest, np.asarray(feature_floor(gram)))


def _error_signals(task: Task, f: np.ndarray) -> np.ndarray:
    """Return dloss_i/df_i of predictions [2, N, C]."""
    gradient = jax.grad(lambda f: loss_per_sample(task.loss, f, task.y_train).sum())
    return np.asarray(jax.vmap(gradient)(jax.numpy.asarray(f, task.x_train.dtype)), np.float64)


def _smallest(run: Trajectory, name: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, int]:
    """Return the smallest eigenvalue, its standard error and its floor, [S, L] each, and the number of runs."""
    gram = np.asarray(getattr(run, f"{name}_gram"), np.float64)
    smallest = metrics.diversity(gram)
    floor = np.maximum(feature_floor(gram), smallest.resolution)
    if gram.ndim == 4:
        if run.stderr is None:
            return np.asarray(smallest.value), None, floor, 1
        # Gram matrices are means over runs: by Weyl's inequality eigenvalues move by at most the norm of the error.
        error = np.linalg.norm(np.asarray(getattr(run.stderr, f"{name}_gram")), axis=(-2, -1))
        return np.asarray(smallest.value), error, floor, getattr(run.info, "num_runs", 1)
    count, floor = len(gram), floor.max(0)
    if isinstance(run.info, FeatureInfo) and count > 1:
        _, value, error = jackknife(lambda kept: np.asarray(metrics.diversity(gram[kept].mean(0)).value), count)
        return value, error, floor, count
    values = np.asarray(smallest.value)
    return values.mean(0), values.std(0, ddof=1) / count**0.5 if count > 1 else None, floor, count
